//! `portfire cron`: occurrences, words, and what is said of a bad text.

use clap::Parser;
use portfire_cli::command::Cli;
use portfire_cli::failure::Failure;
use serde_json::{Value, json};

use crate::program::portfire;

/// The facts of Cronos that `portfire-cron` is tested by, here through the command line.
const VECTORS: &str = include_str!("../../../portfire-cron/tests/data/cron-vectors.jsonl");

/// Runs a command line within this process: its output, and how it ended.
fn run(words: &[&str]) -> (String, Result<(), Failure>) {
    let cli = Cli::try_parse_from([&["portfire"], words].concat()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let ended = runtime.block_on(portfire_cli::run(cli, &mut out, &mut notes));
    assert!(notes.is_empty());
    (String::from_utf8(out).unwrap(), ended)
}

fn answer(words: &[&str]) -> Value {
    let (out, ended) = run(words);
    ended.unwrap();
    assert_eq!(out.matches('\n').count(), 1, "one line: {out}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn every_vector_is_answered_on_the_command_line() {
    let (mut asked, mut refused) = (0, 0);
    for line in VECTORS.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let mut words = vec!["cron", "next", row["expr"].as_str().unwrap(), "--json"];
        if row["seconds"] == true {
            words.push("--seconds");
        }
        if row["kind"] == "bad" {
            refused += 1;
            let (out, ended) = run(&words);
            let failure = ended.unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{row}");
            let answer: Value = serde_json::from_str(&out).unwrap();
            assert_eq!(answer["error"]["message"], failure.to_string(), "{row}");
            let field = answer["error"]["field"].as_str();
            let is_macro = row["expr"].as_str().unwrap().contains('@');
            assert_eq!(field.is_none(), is_macro, "{row}: {out}");
            assert!(failure.to_string().starts_with(field.unwrap_or("`@")), "{row}: {failure}");
            continue;
        }
        asked += 1;
        let (zone, from) = (row["zone"].as_str().unwrap(), row["from"].as_str().unwrap());
        words.extend(["--tz", zone, "--from", from, "-n", "1"]);
        if row["inclusive"] == true {
            words.push("--inclusive");
        }
        let expected = match row["expect"].as_str() {
            Some(at) => vec![at],
            None => vec![],
        };
        let answer = answer(&words);
        let found: Vec<&str> = answer["occurrences"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["at"].as_str().unwrap())
            .collect();
        assert_eq!(found, expected, "{row}");
        assert_eq!(
            (answer["zone"].as_str(), &answer["inclusive"]),
            (Some(zone), &row["inclusive"])
        );
    }
    assert_eq!((asked, refused), (285, 79));
}

#[test]
fn occurrences_are_listed_in_the_zone_and_in_utc() {
    let words = ["cron", "next", "0 8 * * mon-fri", "--tz", "europe/amsterdam"];
    let asked = [&words[..], &["--from", "2026-11-20T12:00:00Z", "-n", "2"]].concat();
    assert_eq!(
        portfire(&asked).ok(),
        "2026-11-23T08:00:00+01:00  2026-11-23T07:00:00Z\n\
         2026-11-24T08:00:00+01:00  2026-11-24T07:00:00Z\n"
    );
    let json = portfire(&[&asked[..], &["--json"]].concat()).json();
    assert_eq!(
        json,
        json!({
            "expression": "0 8 * * MON-FRI",
            "description": "every weekday at 08:00",
            "zone": "Europe/Amsterdam",
            "from": "2026-11-20T13:00:00+01:00",
            "inclusive": false,
            "occurrences": [
                { "at": "2026-11-23T08:00:00+01:00", "utc": "2026-11-23T07:00:00Z" },
                { "at": "2026-11-24T08:00:00+01:00", "utc": "2026-11-24T07:00:00Z" },
            ],
        })
    );
    // A start without an offset is a local time of the zone; five are listed when nothing is said.
    let local =
        answer(&[&words[..], &["--from", "2026-11-23T08:00", "--inclusive", "--json"]].concat());
    assert_eq!(local["occurrences"].as_array().unwrap().len(), 5);
    assert_eq!(local["occurrences"][0]["utc"], "2026-11-23T07:00:00Z");
    let now = answer(&["cron", "next", "@every_second", "--json"]);
    assert_eq!(now["occurrences"].as_array().unwrap().len(), 5);
    let never = ["cron", "next", "0 0 31 2 *"];
    assert_eq!(portfire(&never).ok(), "never\n");
    assert_eq!(answer(&[&never[..], &["--json"]].concat())["occurrences"], json!([]));
}

#[test]
fn a_start_is_any_instant_of_the_calendar() {
    let next = |from: &str, more: &[&str]| {
        let words = ["cron", "next", "* * * * * *", "-n", "1", "--json", "--from", from];
        answer(&[&words[..], more].concat())["occurrences"][0]["utc"].clone()
    };
    for (from, expected) in [
        ("0001-01-01T00:00:00Z", json!("0001-01-01T00:00:01Z")),
        ("1883-11-18T12:00:00-05:00", json!("1883-11-18T17:00:01Z")),
        ("2026-11-21t08:00:00.25z", json!("2026-11-21T08:00:01Z")),
        ("2026-11-21 08:00:00-00:00", json!("2026-11-21T08:00:01Z")),
        ("2026-11-21T08:00:00+05:45", json!("2026-11-21T02:15:01Z")),
        ("2026-11-21", json!("2026-11-21T00:00:01Z")),
        ("9999-12-31T23:59:58.9999999Z", json!("9999-12-31T23:59:59Z")),
        ("9999-12-31T23:59:58", json!("9999-12-31T23:59:59Z")),
        ("9999-12-31T23:59:59Z", Value::Null),
    ] {
        assert_eq!(next(from, &[]), expected, "{from}");
    }
    assert_eq!(next("0001-01-01T00:00:00Z", &["--inclusive"]), "0001-01-01T00:00:00Z");
    // A local time that the clock leaves out, and one that it shows twice.
    let amsterdam = ["--tz", "Europe/Amsterdam"];
    assert_eq!(next("2026-03-29T02:30", &amsterdam), "2026-03-29T01:30:01Z");
    assert_eq!(next("2026-10-25T02:30", &amsterdam), "2026-10-25T00:30:01Z");
    for from in ["", "08:00", "1700000000", "2026-02-30T00:00:00Z", "2026-11-21T08:00[Asia/Tokyo]"]
    {
        let complaint = portfire(&["cron", "next", "* * * * *", "--from", from]).failed(2);
        assert!(complaint.contains(&format!("`{from}` is not an instant")), "{complaint}");
    }
}

#[test]
fn a_text_is_explained() {
    let words = ["cron", "explain", "*/15 8-17 * * 1-5", "--from", "2026-11-20T16:50:00Z"];
    assert_eq!(
        portfire(&words).ok(),
        "*/15 8-17 * * 1-5\n\
         every 15 minutes from 08:00 to 17:45 on weekdays\n\
         \n\
         second        0\n\
         minute        0, 15, 30 and 45\n\
         hour          8 to 17\n\
         day of month  every day\n\
         month         every month\n\
         day of week   Monday to Friday\n\
         \n\
         In an hour that the clock repeats it runs in both passes: it names an interval.\n\
         \n\
         Next in UTC:\n  2026-11-20T17:00:00Z\n  2026-11-20T17:15:00Z\n  2026-11-20T17:30:00Z\n  \
         2026-11-20T17:45:00Z\n  2026-11-23T08:00:00Z\n"
    );
    let json = answer(&["cron", "explain", "H H 29 2 *", "--seed", "daily-report", "--json"]);
    assert_eq!(json["description"], "at 18:15 on the 29th of February");
    assert_eq!(json["fields"][1], json!({ "field": "minute", "description": "15" }));
    assert_eq!((&json["interval"], &json["reachable"]), (&json!(false), &json!(true)));
    assert_eq!(json["occurrences"].as_array().unwrap().len(), 5);
}

#[test]
fn a_bad_text_is_shown_with_a_caret() {
    assert_eq!(
        portfire(&["cron", "next", "0 24 * * *"]).failed(2),
        "portfire: hour: `24` is out of range; expected a number between 0 and 23\n  0 24 * * *\n    ^^\n"
    );
    let json = portfire(&["cron", "explain", "0 24 * * *", "--json"]);
    let answer: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        answer,
        json!({ "error": {
            "kind": "out_of_range",
            "field": "hour",
            "message": "hour: `24` is out of range; expected a number between 0 and 23",
            "problem": "`24` is out of range",
            "allowed": "expected a number between 0 and 23",
            "text": "0 24 * * *",
            "start": 2,
            "end": 4,
        } })
    );
    assert!(json.failed(2).contains("    ^^\n"));
    for (words, said) in [
        (&["cron", "next", "-1 * * * *"][..], "minute: a value is missing before `-`"),
        (&["cron", "next", ""], "the text is empty"),
        (&["cron", "next", "* * * * *", "--seconds"], "the text has 5 fields"),
        (&["cron", "next", "* * * * *", "--tz", "Amsterdam"], "did you mean `Europe/Amsterdam`?"),
        (&["cron", "next", "* * * * *", "--from", "yesterday"], "`yesterday` is not an instant"),
        (&["cron", "next", "* * * * *", "-n", "0"], "1..=100000"),
        (&["cron", "next", "H * * * *"], "give one, such as the name of the job"),
        (&["cron", "next"], "<EXPRESSION>"),
        // Windows puts `.exe` behind the name of the program.
        (&["cron"], " cron [OPTIONS] <COMMAND>"),
    ] {
        let complaint = portfire(words).failed(2);
        assert!(complaint.contains(said), "{words:?} said {complaint:?}");
    }
    // Whatever is in the text, the terminal obeys none of it.
    let hostile = portfire(&["cron", "next", "\u{1b}[31m \u{202e} * * *"]).failed(2);
    assert!(!hostile.contains(['\u{1b}', '\u{202e}']), "{hostile:?}");
    let long = portfire(&["cron", "next", &"*".repeat(10_000)]).failed(2);
    assert!(long.contains("at most 1024 are allowed") && long.len() < 400, "{long:?}");
}
