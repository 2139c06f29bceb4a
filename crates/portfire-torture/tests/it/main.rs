//! The torture in small: the program itself, with few jobs.

use std::process::{Command, Output};

fn torture(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portfire-torture")).args(words).output().expect("it starts")
}

#[test]
fn several_processes_share_a_file() {
    let output = torture(&["processes", "--jobs", "2000", "--limit", "120"]);
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("2000 jobs, 4 clients, 2 servers, 0 kills, 2000 effects"), "{said}");
}

#[test]
fn a_killed_server_loses_no_job() {
    let output = torture(&["processes", "--jobs", "5000", "--kills", "2", "--limit", "120"]);
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("2 servers, 2 kills"), "{said}");
}

#[test]
fn each_occurrence_is_fired_once_while_servers_are_killed() {
    let words = ["recurring", "--seconds", "6", "--servers", "3", "--recurring", "5"];
    let output = torture(&words);
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("30 occurrences of 5 recurring jobs, 3 servers, "), "{said}");
}

#[test]
fn rules_hold_while_servers_are_killed() {
    let output = torture(&["rules", "--seconds", "3", "--servers", "3"]);
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains(" 7 keys, 5 limits, 3 servers, "), "{said}");
}

#[test]
fn a_directory_that_is_in_use_is_refused() {
    let output = torture(&["processes", "--jobs", "1", "--dir", env!("CARGO_MANIFEST_DIR")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not empty"));
}

#[test]
fn without_strace_the_torture_of_power_says_what_to_install() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portfire-torture"));
    let output = command.args(["power", "--small"]).env("PATH", "").output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let complained = String::from_utf8_lossy(&output.stderr);
    let wanted =
        if cfg!(target_os = "linux") { "apt-get install strace" } else { "runs on Linux only" };
    assert!(complained.contains(wanted), "{complained}");
}
