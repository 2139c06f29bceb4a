//! What is recorded: processes on one database, alone or together, and what fails under them.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use crate::AnyError;
use crate::power::record::{DATABASE, Record, STORY};
use crate::power::story::Story;
use crate::power::strace;

/// Pages of the log from which it is copied: so few that it begins anew several times in a record.
const LOG_PAGES: u32 = 40;

/// How often a record is made until what is to fail has failed.
const TRIES: u64 = 20;

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// A process that ends in good order, and another that does not.
    Alone,
    /// Two processes at the same time.
    Two,
    /// One of the syncs fails by which a new file is made; the process goes on, another follows.
    FailedOpen,
    /// A sync of the database file fails while the log is copied; the process goes on, another follows.
    FailedCopy,
    /// A sync of the log fails, and its process dies of it; another follows.
    FailedLog,
    /// A sync of the log fails, and its process repeats the call; another follows.
    RepeatedLog,
    /// From some sync on all fail, until the process gives up; another follows.
    DeadDisk,
}

/// All of them.
pub(crate) const ALL: [Scenario; 7] = [
    Scenario::Alone,
    Scenario::Two,
    Scenario::FailedOpen,
    Scenario::FailedCopy,
    Scenario::FailedLog,
    Scenario::RepeatedLog,
    Scenario::DeadDisk,
];

/// Processes that run at the same time, and what fails under each of their threads.
struct Act {
    processes: Vec<&'static [&'static str]>,
    failing: Vec<String>,
}

impl Act {
    fn of(words: &'static [&'static str]) -> Act {
        Act { processes: vec![words], failing: Vec::new() }
    }

    fn failing(mut self, calls: &[&str], when: String) -> Act {
        // `strace` counts each call of each thread for itself.
        self.failing =
            calls.iter().map(|call| format!("inject={call}:error=EIO:when={when}")).collect();
        self
    }
}

impl Scenario {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Alone => "alone",
            Scenario::Two => "two",
            Scenario::FailedOpen => "failed-open",
            Scenario::FailedCopy => "failed-copy",
            Scenario::FailedLog => "failed-log",
            Scenario::RepeatedLog => "repeated-log",
            Scenario::DeadDisk => "dead-disk",
        }
    }

    fn acts(self, number: u64) -> Vec<Act> {
        let last = Act::of(&[]);
        match self {
            Scenario::Alone => vec![Act::of(&["--closes"]), last],
            Scenario::Two => vec![Act { processes: vec![&["--closes"], &[]], ..last }],
            Scenario::FailedOpen => {
                // The third and the fourth are those of the switch to the log.
                let when = (1 + (number + 1) % 8).to_string();
                vec![Act::of(&[]).failing(&["fsync", "fdatasync"], when), last]
            }
            Scenario::FailedCopy => {
                let when = (3 + number * 5 % 32).to_string();
                vec![Act::of(&[]).failing(&["fsync"], when), last]
            }
            Scenario::FailedLog => {
                // The others fail as well, so that nobody mends the first before the process dies.
                let when = format!("{}+", 3 + number * 7 % 40);
                vec![Act::of(&["--dies"]).failing(&["fdatasync"], when), last]
            }
            Scenario::RepeatedLog => {
                let when = (3 + number * 7 % 40).to_string();
                vec![Act::of(&[]).failing(&["fdatasync"], when), last]
            }
            Scenario::DeadDisk => {
                let when = format!("{}+", 3 + number * 7 % 40);
                vec![Act::of(&[]).failing(&["fsync", "fdatasync"], when), last]
            }
        }
    }

    /// What must be in a record, so that it shows what the scenario is about. Without `all` less is enough: where each
    /// pass is synced there is none that was not.
    fn lacks(self, record: &Record, all: bool) -> Option<&'static str> {
        if record.unclear {
            return Some("no record without a process that died in a write");
        }
        match self {
            Scenario::Alone => (record.log_restarts() == 0).then_some("the log never began anew"),
            Scenario::Two => None,
            Scenario::FailedOpen => (record.failed_syncs("") == 0).then_some("no sync failed"),
            Scenario::FailedCopy => {
                (!record.has_failed_copy(all)).then_some("no sync of a copy of the log failed")
            }
            Scenario::FailedLog | Scenario::RepeatedLog | Scenario::DeadDisk => {
                (record.failed_syncs("-wal") == 0).then_some("no sync of the log failed")
            }
        }
    }

    /// Records it in a directory of its own, again and again until it shows what it is to show, of which after
    /// `patience` tries less is enough. Answers the record and its number, from which the next may go on.
    pub(crate) fn record(
        self,
        directory: &Path,
        jobs: u64,
        first: u64,
        patience: u64,
    ) -> Result<(Record, u64), AnyError> {
        let mut lacking = "no record";
        for number in first..first + TRIES {
            let place = directory.join(format!("{}-{number}", self.name()));
            std::fs::create_dir_all(&place)?;
            let record = self.record_once(&place, jobs, number)?;
            match self.lacks(&record, number - first < patience) {
                None => return Ok((record, number)),
                Some(lacks) => lacking = lacks,
            }
            std::fs::remove_dir_all(&place)?;
        }
        Err(format!("{}: {lacking} in {TRIES} records", self.name()).into())
    }

    fn record_once(self, place: &Path, jobs: u64, number: u64) -> Result<Record, AnyError> {
        // `strace` tells paths without links.
        let place = place.canonicalize()?;
        let mut runs = Vec::new();
        let mut from = 0;
        for (index, act) in self.acts(number).into_iter().enumerate() {
            let log = place.join(format!("calls-{index}"));
            // A shell, so that all processes of an act are in one log.
            let mut script = String::new();
            for (process, words) in act.processes.iter().enumerate() {
                let name = format!("act-{index}-{process}");
                let words = words.join(" ");
                script.push_str(&format!(
                    "\"$0\" power-actor --database \"$1/{DATABASE}\" --story \"$1/{STORY}\" --name {name} \
                     --log-pages {LOG_PAGES} --from {from} --to {} {words} 2>\"$1/{name}.log\" &\n",
                    from + jobs
                ));
                from += jobs;
            }
            script.push_str("wait\n");
            let status = strace::command("sh".as_ref(), &log, &act.failing)
                .args(["-c", &script])
                .arg(std::env::current_exe()?)
                .arg(&place)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(place.join(format!("strace-{index}.log")))?)
                .status()?;
            if !status.success() {
                let log = std::fs::read_to_string(place.join(format!("strace-{index}.log")))?;
                return Err(format!("`strace` ended with {status}: {}", log.trim()).into());
            }
            runs.push(strace::read(&std::fs::read_to_string(&log)?)?);
        }
        let record = Record::of(&place, &runs)?;
        if record.unclear {
            return Ok(record);
        }
        record.compare(&place)?;
        Ok(record)
    }

    /// What is wrong with how far the processes came: without a failing disk, and where one sync fails alone, all their
    /// calls are answered at last. `jobs` is how many each process stores and ends.
    pub(crate) fn stopped(self, story: &Story, jobs: u64) -> Option<String> {
        let processes = match self {
            // The same sync fails at each open, because each is served by a new thread.
            Scenario::FailedOpen | Scenario::FailedLog | Scenario::DeadDisk => 1,
            _ => 2,
        };
        let (told, wanted) = (story.acknowledged, 2 * jobs * processes);
        let text = format!("{told} of {wanted} calls were acknowledged, {} refused", story.refused);
        (told < wanted).then_some(text)
    }
}
