//! What a drain ran, and how it went: [`Drained`].

use portfire_core::{ClaimedJob, JobFn, JobId, Json, KindName, Outcome};
use serde::de::DeserializeOwned;

/// The runs of one drain, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drained {
    runs: Vec<Run>,
}

/// One run of a job.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// The job.
    pub id: JobId,
    /// Its kind.
    pub kind: KindName,
    /// Its arguments.
    pub args: Json,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether that is stored; not when the job was taken away meanwhile, for instance deleted.
    pub recorded: bool,
}

impl Run {
    pub(super) fn new(job: ClaimedJob, outcome: Outcome, recorded: bool) -> Run {
        let attempt = job.claim.attempt;
        Run { id: job.claim.job, kind: job.kind, args: job.args, attempt, outcome, recorded }
    }

    /// Whether the handler returned a success.
    pub fn succeeded(&self) -> bool {
        matches!(self.outcome, Outcome::Succeeded { .. })
    }

    /// One line for people.
    fn describe(&self) -> String {
        let end = match &self.outcome {
            Outcome::Succeeded { .. } => "succeeded".to_owned(),
            Outcome::Retry { delay, error } => {
                format!("failed, to be retried in {delay:?}: {error}")
            }
            Outcome::Failed { error } => format!("failed for good: {error}"),
            Outcome::Snoozed { delay } => format!("snoozed for {delay:?}"),
            Outcome::Parked { .. } => {
                "has no handler here: is its crate linked, or `register` too short?".to_owned()
            }
            Outcome::Released => "was given back".to_owned(),
            Outcome::Discarded { reason, error: Some(error) } => {
                format!("was discarded: {reason}: {error}")
            }
            Outcome::Discarded { reason, error: None } => format!("was discarded: {reason}"),
            other => format!("ended: {other:?}"),
        };
        format!("{} {} (attempt {}) {end}", self.kind, self.args.as_str(), self.attempt)
    }
}

impl Drained {
    /// The runs, in their order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// How many runs there were. A job that was retried counts each time.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether nothing ran.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The runs of one job.
    pub fn of<J: JobFn>(&self) -> Vec<&Run> {
        self.runs.iter().filter(|run| run.kind.as_str() == J::KIND).collect()
    }

    /// Fails the test unless every run succeeded, and at least one there was.
    ///
    /// # Panics
    /// When nothing ran, or a run did not succeed. The message shows how each ended.
    #[track_caller]
    pub fn assert_all_succeeded(&self) -> &Drained {
        assert!(!self.is_empty(), "nothing ran: no job is enqueued or due");
        let wrong: Vec<_> = self.runs.iter().filter(|run| !run.succeeded()).collect();
        let list: String = wrong.iter().map(|run| format!("\n  {}", run.describe())).collect();
        assert!(wrong.is_empty(), "{} of {} runs did not succeed:{list}", wrong.len(), self.len());
        self
    }

    /// Fails the test unless this job ran so many times.
    ///
    /// # Panics
    /// When it did not. The message shows what ran.
    #[track_caller]
    pub fn assert_ran<J: JobFn>(&self, times: usize) -> &Drained {
        let ran = self.of::<J>().len();
        let list: String = self.runs.iter().map(|run| format!("\n  {}", run.describe())).collect();
        let list = if list.is_empty() { "\n  nothing" } else { &list };
        let kind = J::KIND;
        assert!(ran == times, "`{kind}` ran {ran} times and not {times}; there ran:{list}");
        self
    }

    /// What the last run of this job returned.
    ///
    /// # Panics
    /// When it did not run, did not succeed, or returned something that cannot be read back.
    #[track_caller]
    pub fn output<J: JobFn>(&self) -> J::Output
    where
        J::Output: DeserializeOwned,
    {
        let kind = J::KIND;
        let runs = self.of::<J>();
        let Some(run) = runs.last() else { panic!("`{kind}` did not run") };
        let Outcome::Succeeded { result } = &run.outcome else {
            panic!("no output: {}", run.describe());
        };
        let text = result.as_ref().map_or("null", Json::as_str);
        match serde_json::from_str(text) {
            Ok(output) => output,
            Err(error) => panic!("the output {text} of `{kind}` cannot be read back: {error}"),
        }
    }

    pub(super) fn push(&mut self, run: Run) {
        self.runs.push(run);
    }

    pub(super) fn extend(&mut self, later: Drained) {
        self.runs.extend(later.runs);
    }
}
