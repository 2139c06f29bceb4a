//! Rules about source files: header, length, stubs, and calls that only a few places may make.

use std::io;
use std::path::Path;

use super::Finding;

/// Most lines of a file. One that needs more is two nouns.
const LINES_MAX: usize = 900;

/// Directories with sources.
const ROOTS: [&str; 3] = ["crates", "examples", "xtask"];

/// A source file.
pub(super) struct Source {
    /// From the root of the workspace, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

/// A call that decides over time or chance behind the reader's back.
struct Banned {
    call: &'static str,
    instead: &'static str,
    /// Whether tests may make it: to bound how long they wait for a condition.
    in_tests: bool,
}

const BANNED: &[Banned] = &[
    Banned { call: "SystemTime::now", instead: "ask the Clock", in_tests: false },
    Banned { call: "Instant::now", instead: "ask the Runtime", in_tests: true },
    Banned {
        call: "time::sleep",
        instead: "wait on the Runtime, or move a clock",
        in_tests: false,
    },
    Banned {
        call: "thread::sleep",
        instead: "wait for a condition, or move a clock",
        in_tests: false,
    },
    Banned { call: "thread_rng", instead: "ask the Runtime for randomness", in_tests: false },
];

/// A place that may make banned calls, and why.
struct Exception {
    /// A file, or a directory with `/` at its end.
    path: &'static str,
    calls: &'static [&'static str],
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        path: "crates/portfire-core/src/clock.rs",
        calls: &["SystemTime::now", "Instant::now"],
        reason: "the clock of the host, and how much time passes by it",
    },
    Exception {
        path: "crates/portfire-core/src/client/blocking.rs",
        calls: &["Instant::now", "thread::sleep"],
        reason: "waits for a lock without a runtime, with the bound of the lock",
    },
    Exception {
        path: "crates/portfire/src/acquire.rs",
        calls: &["Instant::now", "time::sleep"],
        reason: "waits for a lock on the user's runtime, with the bound of the lock",
    },
    Exception {
        path: "crates/portfire-server/src/runtime.rs",
        calls: &["Instant::now", "time::sleep"],
        reason: "the real runtime",
    },
    Exception {
        path: "crates/portfire-sqlite/src/connect.rs",
        calls: &["Instant::now", "thread::sleep"],
        reason: "waits for the lock of another process, which sends no notice, with a bound",
    },
    Exception {
        path: "crates/portfire-sqlite/src/wakeup.rs",
        calls: &["Instant::now"],
        reason: "looks more often for a while after others have committed; stores nothing of it",
    },
    Exception {
        path: "crates/portfire-cli/src/bench/",
        calls: &["Instant::now", "SystemTime::now", "time::sleep"],
        reason: "measures, looks at an idle server, and shares a clock with another process",
    },
    Exception {
        path: "crates/portfire-torture/src/",
        calls: &["Instant::now", "SystemTime::now", "thread::sleep", "time::sleep"],
        reason: "waits for other processes, which send no notice, with a bound, shares a clock with them, \
                 and has jobs that take their time",
    },
    Exception {
        path: "crates/portfire-sim/src/main.rs",
        calls: &["Instant::now"],
        reason: "says how long the seeds took",
    },
    Exception {
        path: "xtask/src/process.rs",
        calls: &["Instant::now", "thread::sleep"],
        reason: "waits for another process, which sends no notice, with a bound",
    },
];

/// All source files, in the order of their paths.
pub(super) fn read(root: &Path) -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for directory in ROOTS {
        read_directory(root, &root.join(directory), &mut sources)?;
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn read_directory(root: &Path, directory: &Path, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                read_directory(root, &path, sources)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
            let text = std::fs::read_to_string(&path)?;
            sources.push(Source { path: relative.replace('\\', "/"), text });
        }
    }
    Ok(())
}

/// Checks one file.
pub(super) fn check(source: &Source, findings: &mut Vec<Finding>) {
    // The inputs of UI tests are wrong on purpose, and their line numbers are pinned.
    if source.path.contains("/tests/ui/") {
        return;
    }
    header(source, findings);
    length(source, findings);
    let tests_begin = tests_begin(source);
    for (index, line) in source.text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        let place = format!("{}:{}", source.path, index + 1);
        stubs(line, &place, findings);
        banned(source, line, index >= tests_begin, &place, findings);
    }
}

/// A file is a role that can be said in one noun, and says it.
fn header(source: &Source, findings: &mut Vec<Finding>) {
    if !source.text.starts_with("//!") {
        let message = "the file does not open with `//!` and what it is for";
        findings.push(Finding::new(source.path.clone(), message));
    }
}

fn length(source: &Source, findings: &mut Vec<Finding>) {
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        let message =
            format!("{lines} lines, and {LINES_MAX} are the most: which two nouns is it?");
        findings.push(Finding::new(source.path.clone(), message));
    }
}

/// Nothing unfinished, and no test that does not run.
fn stubs(line: &str, place: &str, findings: &mut Vec<Finding>) {
    // Put together here, so that this file is not found.
    for stub in [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[", "ignore")] {
        if line.contains(stub) {
            findings.push(Finding::new(place, format!("`{stub}…` must not be committed")));
        }
    }
}

fn banned(source: &Source, line: &str, in_tests: bool, place: &str, findings: &mut Vec<Finding>) {
    // This file lists the calls; examples are programs of users, and live in real time.
    let example = source.path.starts_with("examples/") || source.path.contains("/examples/");
    if source.path == "xtask/src/tidy/sources.rs" || (example && !in_tests) {
        return;
    }
    for banned in BANNED.iter().filter(|banned| line.contains(banned.call)) {
        let excepted = EXCEPTIONS.iter().any(|exception| exception.covers(source, banned.call));
        let allowed = excepted || (in_tests && banned.in_tests);
        if !allowed {
            let Banned { call, instead, .. } = banned;
            findings.push(Finding::new(place, format!("`{call}`: {instead}")));
        }
    }
}

impl Exception {
    fn covers(&self, source: &Source, call: &str) -> bool {
        let here = match self.path.strip_suffix('/') {
            Some(_) => source.path.starts_with(self.path),
            None => source.path == self.path,
        };
        here && self.calls.contains(&call)
    }
}

/// The line from which on a file is a test: all of it in `tests`, else from its test module.
fn tests_begin(source: &Source) -> usize {
    if source.path.contains("/tests/") || source.path.ends_with("/tests.rs") {
        return 0;
    }
    let module = |(_, line): &(usize, &str)| line.trim_end() == "#[cfg(test)]";
    source.text.lines().enumerate().find(module).map_or(usize::MAX, |(index, _)| index)
}

/// An exception that nobody needs is taken back.
pub(super) fn unused_exceptions(sources: &[Source], findings: &mut Vec<Finding>) {
    for exception in EXCEPTIONS {
        let Exception { path, calls, reason } = exception;
        for call in *calls {
            let used =
                |source: &Source| exception.covers(source, call) && source.text.contains(call);
            if !sources.iter().any(used) {
                let message = format!("nobody needs the exception for `{call}` here ({reason})");
                findings.push(Finding::new(*path, message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&Source { path: path.to_owned(), text: text.to_owned() }, &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(found("crates/a/src/a.rs", "fn a() {}\n").len(), 1);
        assert_eq!(found("crates/a/src/a.rs", "//! A.\n").len(), 0);
        assert_eq!(found("crates/a/tests/ui/a.rs", "fn a() {}\n").len(), 0);
    }

    #[test]
    fn a_file_that_is_too_long_is_found() {
        let text = format!("//! A.\n{}", "\n".repeat(LINES_MAX));
        let lines = found("crates/a/src/a.rs", &text);
        assert!(lines[0].contains("901 lines"), "{lines:?}");
    }

    #[test]
    fn stubs_and_ignored_tests_are_found_with_their_line() {
        let text = concat!("//! A.\nfn a() { todo", "!() }\n#[", "ignore]\n// todo", "!()\n");
        let lines = found("crates/a/src/a.rs", text);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("crates/a/src/a.rs:2:"), "{lines:?}");
    }

    #[test]
    fn a_banned_call_is_found_outside_of_its_place() {
        let text = "//! A.\nlet now = SystemTime::now();\n";
        assert_eq!(found("crates/portfire-core/src/clock.rs", text).len(), 0);
        assert_eq!(found("crates/portfire-core/src/job.rs", text).len(), 1);
    }

    #[test]
    fn an_example_lives_in_real_time_and_its_tests_do_not() {
        let text = "//! A.\nthread::sleep(t);\n";
        assert_eq!(found("examples/shop/src/a.rs", text).len(), 0);
        assert_eq!(found("crates/portfire/examples/a.rs", text).len(), 0);
        assert_eq!(found("examples/shop/tests/it/a.rs", text).len(), 1);
    }

    #[test]
    fn a_test_may_bound_its_waiting_and_may_not_sleep() {
        let text = "//! A.\n#[cfg(test)]\nmod tests {\n    Instant::now(); thread::sleep(t);\n}\n";
        let lines = found("crates/a/src/a.rs", text);
        assert_eq!(
            lines,
            ["crates/a/src/a.rs:4: `thread::sleep`: wait for a condition, or move a clock"]
        );
        assert_eq!(found("crates/a/tests/it/a.rs", "//! A.\nInstant::now();\n").len(), 0);
    }

    #[test]
    fn an_exception_that_is_not_needed_is_found() {
        let mut findings = Vec::new();
        unused_exceptions(&[], &mut findings);
        let calls: usize = EXCEPTIONS.iter().map(|exception| exception.calls.len()).sum();
        assert_eq!(findings.len(), calls);
    }
}
