//! `cargo xtask test`: every test of the workspace, then its examples.

use std::time::Duration;

use serde_json::Value;

use crate::process::{self, Failure};

/// An example that is run has ended by then; it takes seconds.
const EXAMPLE_BOUND: Duration = Duration::from_secs(120);

/// An example whose header has one of these is built and not run: it does not end by itself, or it
/// measures, which says nothing without optimisation.
const NOT_RUN: [&str; 2] = ["Runs until", "cargo run --release"];

/// Features that no crate of the workspace switches on by itself, and that have tests.
pub(crate) const OPTIONAL: &str = "portfire-server/capture";

/// Runs everything, also after a failure, and sums up at the end.
pub(crate) fn run() -> Result<(), Failure> {
    let mut sum = Sum::default();
    let mut failures = Vec::new();
    // Without a list of targets cargo runs unit tests, integration tests and doctests, and builds the
    // examples; UI tests are integration tests.
    let words = ["test", "--workspace", "--features", OPTIONAL, "--no-fail-fast"];
    failures.extend(process::cargo_watched(&words, |line| sum.read(line)).err());

    let examples = examples()?;
    for example in &examples {
        if example.only_built {
            println!("\nexample {}: built, not run: it measures, or does not end", example.name);
            continue;
        }
        let words = ["run", "--quiet", "--package", &example.package, "--example", &example.name];
        failures.extend(process::cargo_bounded(&words, EXAMPLE_BOUND).err());
    }

    let run = examples.iter().filter(|example| !example.only_built).count();
    println!("\nxtask test: {sum}; {run} of {} examples run", examples.len());
    if sum.passed == 0 {
        failures.push(Failure::new("no test was run"));
    }
    if sum.ignored > 0 {
        failures.push(Failure::new(format!("{} tests were ignored", sum.ignored)));
    }
    if failures.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = failures.iter().map(|failure| format!("- {failure}")).collect();
    Err(Failure::new(format!("FAILED\n{}", lines.join("\n"))))
}

/// What the closing lines of all test programs add up to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    programs: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Sum {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; …`.
    fn read(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        self.programs += 1;
        let words: Vec<&str> = counts.split_whitespace().collect();
        for pair in words.windows(2) {
            let Ok(count) = pair[0].parse::<u64>() else { continue };
            match pair[1] {
                "passed;" => self.passed += count,
                "failed;" => self.failed += count,
                "ignored;" => self.ignored += count,
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sum { programs, passed, failed, ignored } = self;
        write!(f, "{passed} passed; {failed} failed; {ignored} ignored; {programs} test programs")
    }
}

struct Example {
    package: String,
    name: String,
    only_built: bool,
}

fn examples() -> Result<Vec<Example>, Failure> {
    let metadata = crate::tidy::metadata()?;
    let mut examples = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for target in package["targets"].as_array().into_iter().flatten() {
            if target["kind"].as_array().is_some_and(|kinds| kinds.contains(&"example".into())) {
                let source = std::fs::read_to_string(text(&target["src_path"])).unwrap_or_default();
                let mut header = source.lines().take_while(|line| line.starts_with("//!"));
                examples.push(Example {
                    package: text(&package["name"]),
                    name: text(&target["name"]),
                    only_built: header.any(|line| NOT_RUN.iter().any(|words| line.contains(words))),
                });
            }
        }
    }
    Ok(examples)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut sum = Sum::default();
        sum.read("running 3 tests");
        sum.read(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        sum.read(
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        assert_eq!(sum, Sum { programs: 2, passed: 7, failed: 2, ignored: 1 });
    }
}
