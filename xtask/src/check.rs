//! `cargo xtask check`: everything that must hold before a change is taken.

use crate::process::{self, Failure};
use crate::{test, tidy};

/// Runs every step, also after a failed one, and names the failed ones at the end.
pub(crate) fn run() -> Result<(), Failure> {
    let steps: [(&str, fn() -> Result<(), Failure>); 7] = [
        ("fmt", || process::cargo(&["fmt", "--all", "--check"])),
        ("tidy", tidy::run),
        ("clippy", clippy),
        ("doc", doc),
        ("alone", alone),
        ("deny", deny),
        ("test", test::run),
    ];
    let mut failed = Vec::new();
    for (name, step) in steps {
        if let Err(failure) = step() {
            eprintln!("\n{name}: {failure}");
            failed.push(format!("- {name}: {failure}"));
        }
    }
    if failed.is_empty() {
        println!("\nxtask check: everything passed");
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} of {} steps FAILED\n{}",
        failed.len(),
        steps.len(),
        failed.join("\n")
    )))
}

fn clippy() -> Result<(), Failure> {
    let words = ["clippy", "--workspace", "--all-targets", "--features", test::OPTIONAL];
    process::cargo(&[&words[..], &["--", "-D", "warnings"]].concat())
}

fn doc() -> Result<(), Failure> {
    let words = ["doc", "--workspace", "--no-deps"];
    process::cargo_with(&words, &[("RUSTDOCFLAGS", "-D warnings")])
}

/// Builds what a user gets: each library by itself, so that none leans on a feature that another
/// crate of the workspace happens to switch on, and those with features without them.
fn alone() -> Result<(), Failure> {
    for layer in tidy::LAYERS.iter().filter(|layer| layer.shipped) {
        process::cargo(&["check", "--quiet", "--package", layer.name])?;
    }
    for name in ["portfire", "portfire-cli"] {
        process::cargo(&["check", "--quiet", "--package", name, "--no-default-features"])?;
    }
    Ok(())
}

fn deny() -> Result<(), Failure> {
    if process::has_subcommand("deny") {
        return process::cargo(&["deny", "check"]);
    }
    println!(
        "\nNOT CHECKED: licences, advisories and sources of the dependencies, because cargo-deny is \
         not installed (`cargo install cargo-deny --locked`)"
    );
    Ok(())
}
