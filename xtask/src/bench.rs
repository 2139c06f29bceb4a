//! `cargo xtask bench`: every scenario of `portfire bench`, as a table of medians.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process::{self, Failure};

/// A line of the table: a scenario, and how much of it.
struct Scenario {
    label: &'static str,
    name: &'static str,
    words: &'static [&'static str],
}

const SCENARIOS: &[Scenario] = &[
    Scenario { label: "enqueue-serial", name: "enqueue-serial", words: &["--jobs", "10000"] },
    Scenario {
        label: "enqueue-concurrent",
        name: "enqueue-concurrent",
        words: &["--jobs", "200000"],
    },
    Scenario { label: "enqueue-many", name: "enqueue-many", words: &["--jobs", "500000"] },
    Scenario { label: "drain", name: "drain", words: &["--jobs", "100000"] },
    Scenario { label: "backlog", name: "backlog", words: &["--jobs", "100000"] },
    Scenario {
        label: "drain-after-1m",
        name: "drain",
        words: &["--jobs", "100000", "--history", "1000000"],
    },
    Scenario { label: "drain-of-1m", name: "drain", words: &["--jobs", "1000000"] },
    Scenario { label: "latency", name: "latency", words: &["--jobs", "500"] },
    Scenario { label: "latency-processes", name: "latency-processes", words: &["--jobs", "500"] },
    Scenario { label: "continuations", name: "continuations", words: &["--jobs", "100000"] },
    Scenario { label: "batch", name: "batch", words: &["--jobs", "100000"] },
    Scenario { label: "unique", name: "unique", words: &["--jobs", "100000"] },
    Scenario { label: "limits", name: "limits", words: &["--jobs", "100000"] },
    Scenario { label: "limit-waiters", name: "limit-waiters", words: &["--jobs", "1000"] },
    Scenario { label: "recurring", name: "recurring", words: &["--jobs", "10000"] },
    Scenario { label: "logs", name: "logs", words: &["--jobs", "100000"] },
    Scenario { label: "idle", name: "idle", words: &["--seconds", "30"] },
];

struct Options {
    storage: String,
    runs: usize,
    scenario: Option<String>,
}

/// Builds the `portfire` command optimised, runs it, and prints the table.
pub(crate) fn run(words: &[String]) -> Result<(), Failure> {
    let options = read(words)?;
    let chosen: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| options.scenario.as_deref().is_none_or(|name| name == scenario.label))
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.label).collect();
        return Err(Failure::usage(format!("the scenarios are {}", names.join(", "))));
    }
    let program = build()?;
    let mut rows = Vec::new();
    for scenario in chosen {
        let mut answers = Vec::new();
        for run in 1..=options.runs {
            let answer = measure(&program, scenario, &options.storage)?;
            println!("{} {run}/{}: {answer}", scenario.label, options.runs);
            answers.push(answer);
        }
        rows.push(row(scenario.label, &answers));
    }
    println!("\nMedians of {} runs, storage {}:\n", options.runs, options.storage);
    println!(
        "| scenario | jobs/s | p50 ms | p95 ms | p99 ms | RSS MB | bytes written/job | other |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}

fn read(words: &[String]) -> Result<Options, Failure> {
    let mut options = Options { storage: "sqlite:".to_owned(), runs: 5, scenario: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            words.next().ok_or_else(|| Failure::usage(format!("`{word}` needs a value"))).cloned()
        };
        match word.as_str() {
            "--storage" => options.storage = value()?,
            "--scenario" => options.scenario = Some(value()?),
            "--runs" => {
                let text = value()?;
                let runs = text.parse().ok().filter(|runs| (1..=100).contains(runs));
                let refuse = || Failure::usage(format!("--runs is 1 to 100, not `{text}`"));
                options.runs = runs.ok_or_else(refuse)?;
            }
            other => return Err(Failure::usage(format!("`{other}` is not understood here"))),
        }
    }
    Ok(options)
}

/// Builds the program once, so that all runs are of the same one, and tells where it is.
fn build() -> Result<PathBuf, Failure> {
    let words = [
        "build",
        "--release",
        "--package",
        "portfire-cli",
        "--message-format",
        "json-render-diagnostics",
    ];
    let messages = process::cargo_output(&words)?;
    executable(&messages).ok_or_else(|| Failure::new("cargo does not say where `portfire` is"))
}

/// The program that cargo's messages speak of, one JSON object a line.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let built = |message: Value| {
        let path = message["executable"].as_str().map(PathBuf::from);
        path.filter(|_| message["target"]["name"] == "portfire")
    };
    messages.filter_map(built).next()
}

fn measure(program: &Path, scenario: &Scenario, storage: &str) -> Result<Value, Failure> {
    let fail = |what: String| Failure::new(format!("{}: {what}", scenario.label));
    let output = Command::new(program)
        .args(["bench", scenario.name, "--storage", storage, "--json"])
        .args(scenario.words)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| fail(format!("`{}` does not start: {error}", program.display())))?;
    if !output.status.success() {
        return Err(fail(format!("ended with {}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| fail(format!("wrote no JSON: {error}")))
}

fn row(name: &str, answers: &[Value]) -> String {
    let per_job = |answer: &Value| {
        let bytes = answer["bytes_written"].as_f64()?;
        Some(bytes / answer["jobs"].as_f64().filter(|jobs| *jobs > 0.0)?)
    };
    let field = |key: &'static str| move |answer: &Value| answer[key].as_f64();
    let cells = [
        cell(answers, field("jobs_per_second"), 0),
        cell(answers, field("p50_ms"), 3),
        cell(answers, field("p95_ms"), 3),
        cell(answers, field("p99_ms"), 3),
        cell(answers, field("rss_mb"), 1),
        cell(answers, per_job, 0),
    ];
    let mut other = Vec::new();
    for (key, decimals) in [
        ("raw_commits_per_second", 0),
        ("plain_jobs_per_second", 0),
        ("ratio", 3),
        ("ratio_enqueue", 3),
        ("ratio_drain", 3),
        ("ratio_cpu", 3),
        ("done_seconds", 2),
        ("cpu_percent", 2),
        ("commits", 0),
        ("log_mb", 1),
    ] {
        let median = cell(answers, field(key), decimals);
        if !median.is_empty() {
            other.push(format!("{key} {median}"));
        }
    }
    format!("| {name} | {} | {} |", cells.join(" | "), other.join(", "))
}

/// The median of a figure, or nothing when a run does not have it.
fn cell(answers: &[Value], figure: impl Fn(&Value) -> Option<f64>, decimals: usize) -> String {
    let figures: Option<Vec<f64>> = answers.iter().map(figure).collect();
    match figures.as_deref().and_then(median) {
        Some(median) => format!("{median:.decimals$}"),
        None => String::new(),
    }
}

fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted[sorted.len() / 2 - 1] + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_row_has_medians_and_leaves_out_what_was_not_measured() {
        let answer = |rate: f64| json!({ "jobs": 10, "jobs_per_second": rate, "p50_ms": null, "bytes_written": 5000 });
        let row = row("drain", &[answer(1.0), answer(9.0), answer(5.0)]);
        assert_eq!(row, "| drain | 5 |  |  |  |  | 500 |  |");
    }

    #[test]
    fn the_program_is_where_cargo_says() {
        let messages = "{\"target\":{\"name\":\"other\"},\"executable\":\"/o\"}\nnoise\n\
                        {\"target\":{\"name\":\"portfire\"},\"executable\":\"/p\"}\n\
                        {\"target\":{\"name\":\"portfire\"},\"executable\":null}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/p")));
    }

    #[test]
    fn the_number_of_runs_is_bounded() {
        let words = |runs: &str| vec!["--runs".to_owned(), runs.to_owned()];
        assert_eq!(read(&words("3")).ok().map(|options| options.runs), Some(3));
        assert!(read(&words("0")).is_err() && read(&words("x")).is_err());
        assert!(read(&["--runs".to_owned()]).is_err());
    }
}
