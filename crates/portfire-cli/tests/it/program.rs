//! Runs the program, and prepares what it looks at.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use portfire_core::{JobId, Storage, Timestamp};
use tempfile::TempDir;

/// What a run of the program ended with.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) notes: String,
}

impl Ended {
    /// The answer of a run that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// The one line of JSON of a run that must have succeeded.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        let out = self.ok();
        assert_eq!(out.matches('\n').count(), 1, "one line: {out:?}");
        serde_json::from_str(&out).expect("the answer is JSON")
    }

    /// What a run complained of that must have failed with this code.
    #[track_caller]
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.notes
    }
}

/// Runs the program with these words.
pub(crate) fn portfire(words: &[&str]) -> Ended {
    ended(command(words).output().expect("it starts"))
}

pub(crate) fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portfire"));
    command.args(words).env_remove("PORTFIRE_STORAGE").env_remove("PORTFIRE_LOG");
    command.stdin(Stdio::null());
    command
}

pub(crate) fn ended(output: Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), out: text(output.stdout), notes: text(output.stderr) }
}

/// A directory with a database file, removed at the end.
pub(crate) struct Database {
    directory: TempDir,
}

impl Database {
    /// The path of a database that does not exist yet.
    pub(crate) fn absent() -> Database {
        Database { directory: tempfile::tempdir().expect("a directory") }
    }

    /// A database with jobs of the bench's kind: so many enqueued.
    pub(crate) fn with_jobs(jobs: u32) -> Database {
        let database = Database::absent();
        let jobs = jobs.to_string();
        database.run(&["bench", "enqueue-many", "--jobs", &jobs, "--json"]).ok();
        database
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("jobs.db")
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    /// Runs the program on it.
    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        ended(self.command(words).output().expect("it starts"))
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = command(words);
        command.args(["--storage", &self.url()]);
        command
    }

    /// Opens it in this process, to prepare what the program cannot.
    pub(crate) async fn open(&self) -> Arc<dyn Storage> {
        portfire::open(&self.url()).await.expect("it opens")
    }

    /// The ids of its jobs, as the program lists them.
    pub(crate) fn ids(&self) -> Vec<String> {
        let page = self.run(&["jobs", "list", "--json"]).json();
        let jobs = page["jobs"].as_array().expect("a list");
        jobs.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
    }
}

/// The id of a job that nobody enqueued.
pub(crate) fn unknown_id() -> String {
    JobId::from_parts(Timestamp::from_micros(1_000_000), 7).to_string()
}
