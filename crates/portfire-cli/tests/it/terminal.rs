//! Stored text never reaches a terminal as something that it obeys.

use portfire_core::{Action, Client, JobId, Json, KindName, NewJob, Timestamp};

use crate::program::Database;

/// Texts that a terminal would obey, or that forge a line.
const HOSTILE: [&str; 6] = [
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "fine\r\nFAILED forged",
    "over\rwritten\u{8}",
    "\u{9b}31m",
    "user\u{202e}gpj.exe",
    "null\u{0}byte",
];

/// A job for each text, with the text in its arguments and in the reason of its deletion.
async fn hostile_jobs(database: &Database) -> Vec<JobId> {
    let client = Client::new(database.open().await);
    let mut ids = Vec::new();
    for (index, text) in HOSTILE.iter().enumerate() {
        let id = JobId::from_parts(Timestamp::from_micros(1_000_000), index as u128 + 1);
        // Raw line ends and tabs between the tokens are legal JSON, too.
        let args = format!("{{\r\n\t\"text\": {}\r\n}}", serde_json::to_string(text).unwrap());
        let kind = KindName::new("hostile").unwrap();
        let job = NewJob::new(id, kind, Json::from_bytes(args.into_bytes()).unwrap());
        client.create(vec![job]).await.unwrap();
        let change = client.change_if(
            id,
            Action::Delete { reason: (*text).to_owned() },
            portfire_core::StateName::ALL,
        );
        assert!(change.await.unwrap().is_done());
        ids.push(id);
    }
    ids
}

#[track_caller]
fn assert_harmless(output: &str, words: &[&str]) {
    let obeyed = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}');
    assert!(!output.chars().any(obeyed), "{words:?} wrote {output:?}");
    assert!(!output.lines().any(|line| line.starts_with("FAILED")), "{words:?} wrote {output:?}");
}

#[tokio::test]
async fn nothing_stored_steers_the_terminal() {
    let database = Database::absent();
    let ids = hostile_jobs(&database).await;
    let mut lines: Vec<Vec<String>> = Vec::new();
    for words in [&["jobs"][..], &["jobs", "list", "--state", "deleted"], &["status"]] {
        lines.push(words.iter().map(|&word| word.to_owned()).collect());
    }
    lines.extend(ids.iter().map(|id| vec!["jobs".to_owned(), "show".to_owned(), id.to_string()]));
    for line in &lines {
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        assert_harmless(&database.run(&words).ok(), &words);
        let with_json = [&words[..], &["--json"]].concat();
        let json = database.run(&with_json).ok();
        assert_harmless(&json, &with_json);
        assert_eq!(json.matches('\n').count(), 1, "{json:?}");
    }
}

#[tokio::test]
async fn json_brings_the_text_back_whole() {
    let database = Database::absent();
    let ids = hostile_jobs(&database).await;
    for (id, text) in ids.iter().zip(HOSTILE) {
        let shown = database.run(&["jobs", "show", &id.to_string(), "--json"]).json();
        assert_eq!(shown["job"]["args"]["text"], text);
    }
}

#[test]
fn what_was_typed_is_not_echoed_as_it_is() {
    let database = Database::with_jobs(1);
    for text in HOSTILE.iter().filter(|text| !text.contains('\0')) {
        let ended = database.run(&["jobs", "show", text]);
        assert_harmless(&ended.failed(2), &["jobs", "show"]);
    }
}
