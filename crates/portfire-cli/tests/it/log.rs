//! `portfire jobs log`, and what a job has said about itself in `jobs show`.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::{
    Annotation, Claim, ClaimRequest, Client, CycleRequest, Finish, Json, KindName, Level, LogLine,
    NewJob, NewServer, Notes, Outcome, Progress, QueueName, ServerId, Storage,
};

use crate::program::Database;

/// A job that is held by a server of this test.
struct Running {
    storage: Arc<dyn Storage>,
    server: ServerId,
    claim: Claim,
    cycles: u64,
}

impl Running {
    async fn start(database: &Database) -> Running {
        let storage = database.open().await;
        let client = Client::new(Arc::clone(&storage));
        let kind = KindName::new("talk").unwrap();
        client.create(vec![NewJob::new(client.next_id(), kind, Json::empty())]).await.unwrap();
        let server = ServerId::new("test:1");
        let new = NewServer {
            id: server.clone(),
            name: "test".to_owned(),
            queues: vec![QueueName::DEFAULT],
            workers: 1,
            lease: Duration::from_secs(3_600),
            kinds: Vec::new(),
        };
        storage.announce(new).await.unwrap();
        let queues = vec![QueueName::DEFAULT];
        let claim = Some(ClaimRequest { queues, max: 1, aging: None });
        let request = CycleRequest { claim, ..CycleRequest::new(server.clone(), 1) };
        let claimed = storage.cycle(request).await.unwrap().claimed;
        Running { storage, server, claim: claimed[0].claim, cycles: 1 }
    }

    fn request(&mut self) -> CycleRequest {
        self.cycles += 1;
        CycleRequest::new(self.server.clone(), self.cycles)
    }

    async fn say(&mut self, piece: u32, texts: &[&str]) {
        let at = self.storage.now().await.unwrap();
        let line = |text: &&str| LogLine {
            attempt: self.claim.attempt,
            at,
            level: Level::Warn,
            text: (*text).to_owned(),
        };
        let progress = vec![Progress { bar: "rows".to_owned(), done: 1, total: 3 }];
        let notes = Notes {
            piece,
            lines: texts.iter().map(line).collect(),
            progress,
            metadata: [("file".to_owned(), Json::encode("a.csv").unwrap())].into(),
            tags: vec!["eu".to_owned()],
        };
        let mut request = self.request();
        request.notes = vec![Annotation::new(self.claim, notes)];
        self.storage.cycle(request).await.unwrap();
    }

    async fn succeed(&mut self) {
        let outcome = Outcome::Succeeded { result: None };
        let mut request = self.request();
        request.finished = vec![Finish { claim: self.claim, outcome, duration: Duration::ZERO }];
        self.storage.cycle(request).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_job_says_is_shown_and_harmless() {
    let database = Database::absent();
    let mut job = Running::start(&database).await;
    let id = job.claim.job.to_string();
    assert_eq!(database.run(&["jobs", "log", &id]).ok(), "");
    let many: Vec<String> = (1..=12).map(|number| format!("line {number}")).collect();
    let mut texts: Vec<&str> = many.iter().map(String::as_str).collect();
    texts.push("\u{1b}[2Jfine\nFORGED");
    job.say(0, &texts).await;

    let log = database.run(&["jobs", "log", &id]).ok();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 13, "{log}");
    assert!(lines[0].ends_with(" 1 warn  line 1"), "{log}");
    assert!(lines[12].ends_with("\\u{1b}[2Jfine\\nFORGED"), "{log}");
    let json = database.run(&["jobs", "log", &id, "--json"]).ok();
    assert_eq!(json.lines().count(), 13);
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(last["text"], texts[12]);

    let shown = database.run(&["jobs", "show", &id]).ok();
    for line in ["progress  rows 1 of 3 (33 %)", "noted     file=\"a.csv\"", "tagged    eu"] {
        assert!(shown.lines().any(|found| found == line), "{line:?} is missing in\n{shown}");
    }
    let (_, tail) = shown.split_once("last lines of its log:\n").unwrap();
    assert_eq!(tail.lines().count(), 10);
    assert!(tail.starts_with(&lines[3][..20]) && tail.contains(" line 12\n"), "{shown}");
    let shown = database.run(&["jobs", "show", &id, "--json"]).json();
    assert_eq!(shown["notes"]["progress"][0]["bar"], "rows");
    assert_eq!(shown["log"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn a_log_is_followed_until_the_job_has_ended() {
    let database = Database::absent();
    let mut job = Running::start(&database).await;
    job.say(0, &["first"]).await;
    let id = job.claim.job.to_string();
    let mut child = database
        .command(&["jobs", "log", &id, "--follow-until-end"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.ends_with("first\n"), "{line}");
    job.say(1, &["second"]).await;
    job.succeed().await;
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("second\n") && rest.lines().count() == 1, "{rest}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn continuations_are_shown_with_the_job_they_follow() {
    let database = Database::absent();
    database.run(&["bench", "continuations", "--jobs", "10", "--json"]).ok();
    let parents = database.ids().into_iter().map(|id| database.run(&["jobs", "show", &id]).ok());
    let shown = parents.into_iter().find(|shown| shown.contains("CONTINUATION")).unwrap();
    let line = shown.lines().find(|line| line.ends_with(" success  succeeded")).unwrap();
    assert_eq!(line.split_whitespace().count(), 3, "{shown}");
}
