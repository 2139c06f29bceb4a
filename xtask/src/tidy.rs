//! `cargo xtask tidy`: the rules of the source tree that no compiler checks.
//!
//! Rules about source files are in `sources.rs`, those about manifests and layers in `manifests.rs`,
//! those about the texts beside the code in `texts.rs`. Each is a function from what it looks at to
//! its findings, and has a test that plants a violation. All of them run as a test, too.

mod manifests;
mod sources;
mod texts;

use std::fmt;
use std::path::Path;

use serde_json::Value;

pub(crate) use manifests::LAYERS;

use crate::process::{self, Failure};

/// Checks the tree, and prints what is wrong.
pub(crate) fn run() -> Result<(), Failure> {
    let findings = findings()?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("\nxtask tidy: nothing found");
            Ok(())
        }
        count => Err(Failure::new(format!("{count} findings, listed above"))),
    }
}

/// What cargo knows about the workspace.
pub(crate) fn metadata() -> Result<Value, Failure> {
    let words = ["metadata", "--no-deps", "--format-version", "1"];
    serde_json::from_str(&process::cargo_output(&words)?)
        .map_err(|error| Failure::new(format!("`cargo metadata` wrote no JSON: {error}")))
}

/// A rule that is broken, and where.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    place: String,
    message: String,
}

impl Finding {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding { place: place.into(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

fn findings() -> Result<Vec<Finding>, Failure> {
    let root = process::root();
    let sources = sources::read(&root)
        .map_err(|error| Failure::new(format!("the sources could not be read: {error}")))?;
    let metadata = metadata()?;
    let manifest = read(&root, "Cargo.toml")?;

    let mut findings = Vec::new();
    sources.iter().for_each(|source| sources::check(source, &mut findings));
    sources::unused_exceptions(&sources, &mut findings);
    manifests::layers(&metadata, &mut findings);
    manifests::packages(&metadata, &mut findings);
    manifests::reasons(&manifest, &mut findings);
    for member in manifests::members(&metadata) {
        let text = std::fs::read_to_string(&member.path)
            .map_err(|error| Failure::new(format!("{}: {error}", member.path)))?;
        manifests::inherits(&member, &text, &mut findings);
    }
    texts::check(&root, &mut findings);
    findings.sort_by(|a, b| a.place.cmp(&b.place));
    Ok(findings)
}

fn read(root: &Path, path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(root.join(path))
        .map_err(|error| Failure::new(format!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let findings = super::findings().expect("the tree can be read");
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }
}
