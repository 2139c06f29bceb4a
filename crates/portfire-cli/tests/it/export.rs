//! `portfire jobs export`, in the program itself and in one with jobs of its own.

use clap::Parser;
use portfire::prelude::*;
use portfire_cli::command::Cli;

use crate::program::portfire;

/// A job that is linked into this test.
#[job(name = "send_invoice")]
async fn send_invoice(order: u64, copy_to: Option<String>) {
    let _ = (order, copy_to);
}

#[tokio::test]
async fn a_program_exports_the_jobs_that_are_linked_into_it() {
    let cli = Cli::parse_from(["portfire", "jobs", "export"]);
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    portfire_cli::run(cli, &mut out, &mut notes).await.unwrap();
    let lock: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(lock["kinds"]["send_invoice"]["params"]["order"]["type"], "u64");
    // What is exported is what a test of the program compares with.
    portfire::lock::check(&String::from_utf8(out).unwrap()).unwrap();
}

#[test]
fn the_program_without_jobs_says_where_they_are() {
    let complaint = portfire(&["jobs", "export"]).failed(1);
    assert!(complaint.contains("call `portfire_cli::main()` there"), "{complaint}");
}
