//! What waits to run, looked at by a test: [`Enqueued`].

use std::marker::PhantomData;
use std::time::Duration;

use portfire_core::{Antecedent, BatchId, Call, JobFn, JobRecord, JobState, Timestamp};
use serde_json::Value;

/// The waiting calls of a job that have passed every condition so far, at least one. Made by
/// [`TestPortfire::assert_enqueued`](super::TestPortfire::assert_enqueued).
#[derive(Clone, Debug)]
pub struct Enqueued<J> {
    matching: Vec<JobRecord>,
    /// All that waits, for the message.
    waiting: Vec<JobRecord>,
    now: Timestamp,
    /// The conditions so far, in words.
    conditions: String,
    job: PhantomData<fn() -> J>,
}

impl<J: JobFn> Enqueued<J> {
    #[track_caller]
    pub(super) fn all(waiting: Vec<JobRecord>, now: Timestamp) -> Enqueued<J> {
        let (matching, conditions) = (waiting.clone(), String::new());
        let all = Enqueued { matching, waiting, now, conditions, job: PhantomData };
        all.narrow("", |job| job.kind.as_str() == J::KIND)
    }

    /// With the arguments of this call. Its options do not matter.
    ///
    /// # Panics
    /// When no call is left.
    #[track_caller]
    pub fn with_args(self, call: Call<J>) -> Enqueued<J> {
        let args = match call.args() {
            Ok(args) => args.clone(),
            Err(mistake) => panic!("the call to compare with is wrong itself: {mistake}"),
        };
        let expected: Option<Value> = args.decode().ok();
        let condition = format!(" with {}", args.as_str());
        self.narrow(&condition, |job| job.args.decode().ok() == expected)
    }

    /// With arguments, a JSON object by parameter name, that this function accepts.
    ///
    /// # Panics
    /// When no call is left.
    #[track_caller]
    pub fn matching(self, accepts: impl Fn(&Value) -> bool) -> Enqueued<J> {
        self.narrow(" with the wanted arguments", |job| {
            job.args.decode().is_ok_and(|args| accepts(&args))
        })
    }

    /// In this queue.
    ///
    /// # Panics
    /// When no call is left.
    #[track_caller]
    pub fn in_queue(self, queue: &str) -> Enqueued<J> {
        self.narrow(&format!(" in queue `{queue}`"), |job| job.queue.as_str() == queue)
    }

    /// With this priority.
    ///
    /// # Panics
    /// When no call is left.
    #[track_caller]
    pub fn with_priority(self, priority: i16) -> Enqueued<J> {
        self.narrow(&format!(" with priority {priority}"), |job| job.priority == priority)
    }

    /// With this tag.
    ///
    /// # Panics
    /// When no call is left.
    #[track_caller]
    pub fn tagged(self, tag: &str) -> Enqueued<J> {
        let tagged = |job: &JobRecord| job.options.tags.iter().any(|found| found == tag);
        self.narrow(&format!(" tagged `{tag}`"), tagged)
    }

    /// To run exactly so long after it was stored.
    ///
    /// # Panics
    /// When no call is left.
    #[track_caller]
    pub fn delayed_by(self, delay: Duration) -> Enqueued<J> {
        self.narrow(&format!(" delayed by {}", duration(delay)), |job| {
            run_at(job).is_some_and(|at| at == job.created_at.saturating_add(delay))
        })
    }

    /// To run at once.
    ///
    /// # Panics
    /// When no call is left.
    #[track_caller]
    pub fn at_once(self) -> Enqueued<J> {
        self.narrow(" to run at once", |job| matches!(job.state, JobState::Enqueued { .. }))
    }

    /// To run after this job or batch, whichever of its ends is waited for.
    ///
    /// # Panics
    /// When no call is left.
    #[track_caller]
    pub fn after(self, antecedent: impl Into<Antecedent>) -> Enqueued<J> {
        let on = antecedent.into();
        self.narrow(&format!(" after {on}"), |job| {
            job.ties.after.iter().any(|dependency| dependency.on == on)
        })
    }

    /// As a member of this batch.
    ///
    /// # Panics
    /// When no call is left.
    #[track_caller]
    pub fn in_batch(self, batch: BatchId) -> Enqueued<J> {
        self.narrow(&format!(" in batch {batch}"), |job| job.ties.batch == Some(batch))
    }

    /// Fired by this recurring job.
    ///
    /// # Panics
    /// When no call is left.
    #[track_caller]
    pub fn fired_by(self, recurring: &str) -> Enqueued<J> {
        self.narrow(&format!(" fired by `{recurring}`"), |job| {
            job.ties.occurrence.as_ref().is_some_and(|run| run.recurring.as_str() == recurring)
        })
    }

    /// Holding a unique key, whichever.
    ///
    /// # Panics
    /// When no call is left.
    #[track_caller]
    pub fn unique(self) -> Enqueued<J> {
        self.narrow(" holding a unique key", |job| job.ties.unique.is_some())
    }

    /// Under this limit: a name, and after a colon the partition, as `tenant:acme`.
    ///
    /// # Panics
    /// When no call is left.
    #[track_caller]
    pub fn under_limit(self, key: &str) -> Enqueued<J> {
        self.narrow(&format!(" under the limit `{key}`"), |job| {
            job.ties.limits.iter().any(|limit| limit.key() == key)
        })
    }

    /// Exactly one.
    ///
    /// # Panics
    /// When there are more.
    #[track_caller]
    pub fn once(self) -> JobRecord {
        let mut one = self.times(1);
        one.remove(0)
    }

    /// Exactly so many. For none there is
    /// [`refute_enqueued`](super::TestPortfire::refute_enqueued).
    ///
    /// # Panics
    /// When there are fewer or more.
    #[track_caller]
    pub fn times(self, times: usize) -> Vec<JobRecord> {
        let found = self.matching.len();
        let (kind, conditions) = (J::KIND, &self.conditions);
        assert!(
            found == times,
            "{} of `{kind}`{conditions} enqueued and not {times}; {}",
            if found == 1 { "1 call".to_owned() } else { format!("{found} calls") },
            list(&self.waiting, self.now)
        );
        self.matching
    }

    /// The calls, in the order in which they would run.
    pub fn jobs(&self) -> &[JobRecord] {
        &self.matching
    }

    #[track_caller]
    fn narrow(mut self, condition: &str, keep: impl Fn(&JobRecord) -> bool) -> Enqueued<J> {
        self.conditions.push_str(condition);
        self.matching.retain(keep);
        let (kind, conditions) = (J::KIND, &self.conditions);
        assert!(
            !self.matching.is_empty(),
            "no call of `{kind}`{conditions} is enqueued; {}",
            list(&self.waiting, self.now)
        );
        self
    }
}

#[track_caller]
pub(super) fn refute<J: JobFn>(waiting: &[JobRecord], now: Timestamp) {
    let of_kind = waiting.iter().filter(|job| job.kind.as_str() == J::KIND);
    let found: Vec<JobRecord> = of_kind.cloned().collect();
    assert!(found.is_empty(), "`{}` is enqueued after all; {}", J::KIND, list(&found, now));
}

#[track_caller]
pub(super) fn refute_all(waiting: &[JobRecord], now: Timestamp) {
    assert!(waiting.is_empty(), "something is enqueued; {}", list(waiting, now));
}

fn run_at(job: &JobRecord) -> Option<Timestamp> {
    match &job.state {
        JobState::Scheduled { run_at, .. } => Some(*run_at),
        _ => None,
    }
}

/// Most jobs in a message.
const LISTED_MAX: usize = 20;

fn list(waiting: &[JobRecord], now: Timestamp) -> String {
    if waiting.is_empty() {
        return "nothing is enqueued".to_owned();
    }
    let mut text = "enqueued are:".to_owned();
    for job in waiting.iter().take(LISTED_MAX) {
        text.push_str("\n  ");
        text.push_str(&describe(job, now));
    }
    if waiting.len() > LISTED_MAX {
        text.push_str(&format!("\n  and {} more", waiting.len() - LISTED_MAX));
    }
    text
}

fn describe(job: &JobRecord, now: Timestamp) -> String {
    let mut text = format!("{} {} in queue `{}`", job.kind, job.args.as_str(), job.queue);
    match &job.state {
        JobState::Scheduled { run_at, cause } if *run_at > now => {
            let wait = duration(run_at.since(now));
            text.push_str(&format!(", in {wait} ({cause})"));
        }
        JobState::Scheduled { .. } => text.push_str(", due"),
        JobState::Awaiting { pending } => {
            let ends = if *pending == 1 { "end" } else { "ends" };
            text.push_str(&format!(", after {pending} more {ends}"));
        }
        _ => text.push_str(", at once"),
    }
    if !job.options.tags.is_empty() {
        text.push_str(&format!(", tagged {}", job.options.tags.join(", ")));
    }
    text
}

/// A duration in the units of the attributes: `1d 2h`.
fn duration(time: Duration) -> String {
    let mut rest = time.as_secs();
    let mut parts = Vec::new();
    for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if rest >= seconds {
            parts.push(format!("{}{unit}", rest / seconds));
            rest %= seconds;
        }
    }
    if time.subsec_millis() > 0 {
        parts.push(format!("{}ms", time.subsec_millis()));
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}
