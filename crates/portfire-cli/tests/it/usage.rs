//! Mistakes on the command line, and what is said about them.

use std::process::Stdio;

use crate::program::{Database, command, ended, portfire, unknown_id};

#[test]
fn a_mistake_ends_with_2_and_says_what_to_write() {
    for (words, said) in [
        (&["status"][..], "which storage? Say `--storage sqlite://FILE`, or set PORTFIRE_STORAGE"),
        (&["status", "--storage", "app.db"], "for an SQLite file write `sqlite://app.db`"),
        (&["status", "--storage", "sqlite:"], "`sqlite:` names no file"),
        (&["migrate", "--storage", "sqlite://a.db?key=hush"], "write `sqlite://a.db`"),
        (&["status", "--storage", "mysql://h"], "no storage for `mysql:`"),
        (&["jobs", "--storage", "memory:", "--state", "done"], "`done` is not a state"),
        (&["jobs", "--storage", "memory:", "--queue", "A B"], "`A B` is not a queue name"),
        (&["jobs", "--storage", "memory:", "--limit", "0"], "1..=500"),
        (&["jobs", "--storage", "memory:", "--limit", "-1"], "-1 is not in 1..=500"),
        (
            &["limits", "--storage", "memory:", "set", "smtp", "--concurrency", "-3"],
            "invalid value '-3'",
        ),
        (
            &["jobs", "--storage", "memory:", "--state", "failed", "show", "0123456"],
            "go with `jobs list`",
        ),
        (&["jobs", "--storage", "memory:", "show", "abc"], "at least 6 of its first characters"),
        (&["bench", "fly", "--storage", "memory:"], "enqueue-serial"),
        (&["bench", "latency-processes", "--storage", "memory:"], "two cannot share it"),
        (
            &["recurring", "--storage", "memory:", "--app", "a", "show", "b"],
            "go with `recurring list`",
        ),
        (
            &[
                "recurring",
                "--storage",
                "memory:",
                "pause",
                "a",
                "--for",
                "1h",
                "--until",
                "2099-01-01T00:00:00Z",
            ],
            "cannot be used with",
        ),
        (
            &["recurring", "--storage", "memory:", "pause", "a", "--for", "soon"],
            "is not a duration",
        ),
        (
            &["recurring", "--storage", "memory:", "pause", "a", "--until", "8am"],
            "is not an instant",
        ),
        (
            &["batches", "--storage", "memory:", "--state", "done"],
            "expected open, awaiting, started",
        ),
        (&["batches", "--storage", "memory:", "show", "abc"], "`abc`"),
        (&["limits", "--storage", "memory:", "set", "smtp"], "--concurrency"),
        (&["limits", "--storage", "memory:", "set", "smtp", "--concurrency", "0"], "1 to 100,000"),
        (&["limits", "--storage", "memory:", "set", "smtp", "--rate", "10"], "such as `100/1m`"),
        (&["limits", "--storage", "memory:", "set", "smtp", "--rate", "0/1m"], "1 to 1,000,000"),
        (
            &[
                "limits",
                "--storage",
                "memory:",
                "set",
                "smtp",
                "--concurrency",
                "1",
                "--window",
                "fixed",
            ],
            "--rate",
        ),
        (&["limits", "--storage", "memory:", "set", "job:1", "--concurrency", "1"], "is no limit"),
        (&["queues", "--storage", "memory:", "pause", "A B"], "`A B` is not a queue name"),
        (&["nonsense"], "unrecognized subcommand"),
    ] {
        let complaint = portfire(words).failed(2);
        assert!(complaint.contains(said), "{words:?} said {complaint:?}");
    }
}

#[test]
fn for_programs_a_failure_is_an_answer_too() {
    let missing = unknown_id();
    for (words, code, kind, said) in [
        (&["status"][..], 2, "usage", "which storage?"),
        (&["status", "--storage", "app.db"], 2, "usage", "`sqlite://app.db`"),
        (&["jobs", "--storage", "memory:", "--state", "done"], 2, "usage", "`done`"),
        (&["jobs", "--storage", "memory:", "show", &missing], 1, "failed", "there is no job"),
        (&["recurring", "--storage", "memory:", "trigger", "x"], 1, "failed", "`x`"),
        (&["cron", "next", "* * * * *", "--tz", "Europe/Amsterdm"], 2, "usage", "Amsterdm"),
    ] {
        let ended = portfire(&[words, &["--json"]].concat());
        assert_eq!(ended.out.matches('\n').count(), 1, "one line: {ended:?}");
        let answer: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(answer["error"]["kind"], kind, "{words:?} said {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(said), "{words:?} said {answer}");
        assert!(ended.failed(code).contains(said), "people are told as well");
    }
}

#[test]
fn what_an_answer_says_already_is_not_told_twice() {
    let id = unknown_id();
    let ended = portfire(&["jobs", "--storage", "memory:", "requeue", &id, "--json"]);
    assert_eq!(ended.out, format!("{{\"id\":\"{id}\",\"outcome\":\"missing\"}}\n"));
    assert!(ended.failed(1).contains("1 of 1 jobs were not changed"));
    let ended = portfire(&["cron", "next", "* * * *", "--json"]);
    assert_eq!(ended.out.matches('\n').count(), 1, "{ended:?}");
}

#[test]
fn nothing_to_list_is_said() {
    assert_eq!(portfire(&["jobs", "--storage", "memory:"]).ok(), "No jobs.\n");
}

#[test]
fn the_log_of_a_program_has_colours_on_a_terminal_only() {
    let mut command = command(&["bench", "drain", "--jobs", "1", "--storage", "memory:"]);
    let ended = ended(command.env("PORTFIRE_LOG", "info").output().unwrap());
    assert!(ended.notes.contains("server started"), "{ended:?}");
    assert!(!ended.notes.contains('\u{1b}'), "{ended:?}");
}

#[test]
fn a_password_is_never_shown() {
    let url = "postgres://me:hunter2@host/db?sslpassword=hunter2";
    for words in [
        &["status"][..],
        &["jobs"],
        &["migrate"],
        &["bench", "drain"],
        &["--help"],
        &["status", "--help"],
    ] {
        let ended = ended(command(words).env("PORTFIRE_STORAGE", url).output().unwrap());
        assert!(!format!("{ended:?}").contains("hunter2"), "{words:?} wrote {ended:?}");
    }
}

#[test]
fn the_storage_may_come_from_the_environment() {
    let database = Database::with_jobs(1);
    let mut command = command(&["status", "--json"]);
    let status = ended(command.env("PORTFIRE_STORAGE", database.url()).output().unwrap()).json();
    assert_eq!(status["counts"]["created_total"], 1);
}

#[test]
fn help_is_an_answer() {
    let help = portfire(&["--help"]).ok();
    for command in [
        "status",
        "jobs",
        "explain",
        "problems",
        "recurring",
        "batches",
        "queues",
        "limits",
        "migrate",
        "bench",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    assert!(portfire(&["--version"]).ok().starts_with("portfire 0."));
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let database = Database::with_jobs(200);
    let mut child = database
        .command(&["jobs", "list", "--limit", "200"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = ended(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.notes.contains("pipe")), (Some(0), false), "{ended:?}");
}
