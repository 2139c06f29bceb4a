//! Pins the wording of compile errors: they are interface.
//!
//! Write the files anew with `TRYBUILD=overwrite cargo test -p portfire --test ui`, and read the
//! difference before it is committed.

#![allow(clippy::print_stderr)] // A test that is skipped says so.

use std::process::Command;

/// The compiler whose wording is pinned. Every release words its own part of the messages a little
/// differently; the checks themselves are the same on all.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn mistakes_are_explained_where_they_stand() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("a compiler to ask");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let tests = trybuild::TestCases::new();
    if version.starts_with(COMPILER) {
        tests.compile_fail("tests/ui/*.rs");
    } else {
        eprintln!("SKIPPED: the wording is pinned for {COMPILER}x, and this is {version}");
    }
}
