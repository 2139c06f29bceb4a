//! The commands of the workspace, one word each: `cargo xtask test`, `check`, `sim`, and so on.
//!
//! Needs Rust alone. Each command runs cargo or a program of the workspace, says what it runs, and
//! ends with exit code 0 only when everything it ran did.

// What a command line program is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod check;
mod process;
mod test;
mod tidy;

use std::process::ExitCode;

use process::Failure;

const HELP: &str = "\
The commands of the workspace: cargo xtask <command>

  test                 all tests: unit, integration, UI, doctests, and the examples built and run
  check                fmt, tidy, clippy, docs, each crate alone, cargo-deny when present, then test
  tidy                 the rules of the source tree alone: layers, banned calls, headers, licences
  sim [ARGS]           the deterministic simulation; ARGS go to it: --seeds N (default 5000),
                       --seed N, --torn (the engine over rows that are loaded in pieces)
  torture-processes [ARGS]
                       4 processes enqueue and 2 others work on one SQLite file; ARGS go to it
  torture-recurring [ARGS]
                       8 servers fire 20 recurring jobs every second for 5 minutes, 2 of them are killed
                       all the time; ARGS go to it: --seconds N, --servers N, --recurring N
  torture-rules [ARGS]
                       chains, diamonds, batches, unique keys and limits while servers are killed;
                       ARGS go to it: --seconds N, --servers N
  torture-poison [ARGS]
                       a job that kills its process among 10,000 others: it alone is failed; ARGS go to
                       it: --jobs N, --killers N, --servers N, --workers N, --millis N, --storm SECONDS
  torture-power [ARGS] the power fails at every point of what processes write to an SQLite file; on Linux,
                       with strace; ARGS go to it: --small, --scenario NAME, --records N, --points N
  torture-shop [ARGS]  the sample application while its workers are killed; ARGS go to it
  bench [--storage URL] [--runs N] [--scenario NAME]
                       every scenario of `portfire bench`, medians of 5 runs, as a Markdown table

Exit codes: 0 everything passed, 1 something failed, 2 the command was not understood.
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = words.split_first() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let outcome = match command.as_str() {
        "test" => no_words(rest).and_then(|()| test::run()),
        "check" => no_words(rest).and_then(|()| check::run()),
        "tidy" => no_words(rest).and_then(|()| tidy::run()),
        "sim" => sim(rest),
        "torture-processes" => program("portfire-torture", &["processes"], rest),
        "torture-recurring" => program("portfire-torture", &["recurring"], rest),
        "torture-rules" => program("portfire-torture", &["rules"], rest),
        "torture-poison" => program("portfire-torture", &["poison"], rest),
        "torture-power" => program("portfire-torture", &["power"], rest),
        "torture-shop" => program("shop", &["torture"], rest),
        "bench" => bench::run(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        unknown => Err(Failure::usage(format!("there is no command `{unknown}`"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nxtask {command}: {failure}");
            if failure.is_usage() {
                eprint!("\n{HELP}");
                return ExitCode::from(2);
            }
            ExitCode::FAILURE
        }
    }
}

fn sim(rest: &[String]) -> Result<(), Failure> {
    let named = rest.iter().any(|word| word.starts_with("--seed"));
    program("portfire-sim", if named { &[] } else { &["--seeds", "5000"] }, rest)
}

/// Runs a program of the workspace, optimised.
fn program(package: &str, first: &[&str], rest: &[String]) -> Result<(), Failure> {
    let mut words = vec!["run", "--release", "--quiet", "--package", package, "--"];
    words.extend(first);
    words.extend(rest.iter().map(String::as_str));
    process::cargo(&words)
}

fn no_words(rest: &[String]) -> Result<(), Failure> {
    match rest.first() {
        None => Ok(()),
        Some(word) => Err(Failure::usage(format!("`{word}` is not understood here"))),
    }
}
