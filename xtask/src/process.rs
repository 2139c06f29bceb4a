//! The programs that the commands run, and how they fail.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Why a command of the workspace did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    usage: bool,
}

impl Failure {
    /// Something that was run did not pass.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), usage: false }
    }

    /// The command line was not understood.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), usage: true }
    }

    pub(crate) fn is_usage(&self) -> bool {
        self.usage
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The directory of the workspace.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// Runs cargo in the workspace, with its output where ours goes.
pub(crate) fn cargo(words: &[&str]) -> Result<(), Failure> {
    cargo_with(words, &[])
}

/// Runs cargo in the workspace with some environment variables set.
pub(crate) fn cargo_with(words: &[&str], variables: &[(&str, &str)]) -> Result<(), Failure> {
    announce(words);
    let mut command = cargo_command(words);
    command.envs(variables.iter().copied());
    let status = command.status().map_err(|error| not_started(words, &error))?;
    if status.success() { Ok(()) } else { Err(ended(words, &status)) }
}

/// Runs cargo and takes what it writes to its standard output.
pub(crate) fn cargo_output(words: &[&str]) -> Result<String, Failure> {
    let output = cargo_command(words)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| not_started(words, &error))?;
    if !output.status.success() {
        return Err(ended(words, &output.status));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failure::new(format!("`cargo {}` wrote no UTF-8", words.join(" "))))
}

/// Runs cargo, passes its standard output on line by line, and shows each line to `seen` as well.
pub(crate) fn cargo_watched(words: &[&str], mut seen: impl FnMut(&str)) -> Result<(), Failure> {
    announce(words);
    let mut child = cargo_command(words)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(words, &error))?;
    if let Some(output) = child.stdout.take() {
        let mut ours = std::io::stdout().lock();
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let _ = writeln!(ours, "{line}");
            seen(&line);
        }
    }
    let status = child.wait().map_err(|error| not_started(words, &error))?;
    if status.success() { Ok(()) } else { Err(ended(words, &status)) }
}

/// Runs cargo, and ends it when it takes longer than `bound`.
pub(crate) fn cargo_bounded(words: &[&str], bound: Duration) -> Result<(), Failure> {
    announce(words);
    let mut child = cargo_command(words)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| not_started(words, &error))?;
    let started = Instant::now();
    loop {
        match child.try_wait().map_err(|error| not_started(words, &error))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(ended(words, &status)),
            None if started.elapsed() > bound => {
                let _ = child.kill();
                let _ = child.wait();
                let line = words.join(" ");
                return Err(Failure::new(format!("`cargo {line}` did not end within {bound:?}")));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Whether a cargo subcommand such as `deny` is installed.
pub(crate) fn has_subcommand(name: &str) -> bool {
    cargo_command(&[name, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn cargo_command(words: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(words).current_dir(root());
    command
}

fn announce(words: &[&str]) {
    println!("\n$ cargo {}", words.join(" "));
}

fn not_started(words: &[&str], error: &std::io::Error) -> Failure {
    Failure::new(format!("`cargo {}` could not be run: {error}", words.join(" ")))
}

fn ended(words: &[&str], status: &std::process::ExitStatus) -> Failure {
    Failure::new(format!("`cargo {}` ended with {status}", words.join(" ")))
}
