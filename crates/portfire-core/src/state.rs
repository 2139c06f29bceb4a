//! The seven states with the data that each carries, the history of a job, and [`JobRecord`],
//! everything a storage knows about one job. Which state may follow which is in `transition.rs`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::job::{JobId, JobOptions, Json, KindName, QueueName, excerpt};
use crate::ties::Ties;

/// Largest error message that is kept, in bytes; the rest is cut off.
pub const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The name of a state; Hangfire's seven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// Waits for an instant: a delay, a retry, a snooze.
    Scheduled,
    /// Waits for another job.
    Awaiting,
    /// Waits in its queue for a worker.
    Enqueued,
    /// Held by a server, which runs it or is about to.
    Processing,
    /// Ran to its end. Final.
    Succeeded,
    /// Given up after its retries. Final, and kept until someone acts.
    Failed,
    /// Taken out by someone or by a rule. Final.
    Deleted,
}

impl StateName {
    /// All seven, in the order of a job's life.
    pub const ALL: [StateName; 7] = [
        StateName::Scheduled,
        StateName::Awaiting,
        StateName::Enqueued,
        StateName::Processing,
        StateName::Succeeded,
        StateName::Failed,
        StateName::Deleted,
    ];

    /// Whether only an explicit act leaves this state.
    pub const fn is_final(self) -> bool {
        matches!(self, StateName::Succeeded | StateName::Failed | StateName::Deleted)
    }

    /// The name in lower case, as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            StateName::Scheduled => "scheduled",
            StateName::Awaiting => "awaiting",
            StateName::Enqueued => "enqueued",
            StateName::Processing => "processing",
            StateName::Succeeded => "succeeded",
            StateName::Failed => "failed",
            StateName::Deleted => "deleted",
        }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a state: expected scheduled, awaiting, enqueued, processing, succeeded, failed or deleted"
)]
pub struct UnknownState {
    text: String,
}

/// A text that names no cause of a transition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a cause: expected created, promoted, claimed, succeeded, retried, snoozed, parked, released, \
     rescued, poisoned, failed, discarded, requeued, deleted, rescheduled or continued"
)]
pub struct UnknownCause {
    text: String,
}

impl FromStr for StateName {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<StateName, UnknownState> {
        StateName::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| UnknownState { text: excerpt(text) })
    }
}

/// What moved a job into a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// The client stored it.
    Created,
    /// Its instant came.
    Promoted,
    /// A server took it.
    Claimed,
    /// The handler returned.
    Succeeded,
    /// The handler failed and is tried again.
    Retried,
    /// The handler asked to run later, at no cost.
    Snoozed,
    /// The server that took it has no handler of this kind, and had not said so; it waits for one that has.
    Parked,
    /// The server gave it back, at its shutdown.
    Released,
    /// Its server died; it runs again.
    Rescued,
    /// Its server died once too often; it is given up.
    Poisoned,
    /// The handler failed for the last time; or no server has had one for too long, which its error says.
    Failed,
    /// The handler, a filter or its retry policy took it out.
    Discarded,
    /// Someone asked for another run.
    Requeued,
    /// Someone took it out.
    Deleted,
    /// Someone moved its instant.
    Rescheduled,
    /// All that it waited for has ended as it was to.
    Continued,
}

impl Cause {
    /// All causes, in the order of their codes.
    pub const ALL: [Cause; 16] = [
        Cause::Created,
        Cause::Promoted,
        Cause::Claimed,
        Cause::Succeeded,
        Cause::Retried,
        Cause::Snoozed,
        Cause::Parked,
        Cause::Released,
        Cause::Rescued,
        Cause::Poisoned,
        Cause::Failed,
        Cause::Discarded,
        Cause::Requeued,
        Cause::Deleted,
        Cause::Rescheduled,
        Cause::Continued,
    ];

    /// The name in lower case, as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Created => "created",
            Cause::Promoted => "promoted",
            Cause::Claimed => "claimed",
            Cause::Succeeded => "succeeded",
            Cause::Retried => "retried",
            Cause::Snoozed => "snoozed",
            Cause::Parked => "parked",
            Cause::Released => "released",
            Cause::Rescued => "rescued",
            Cause::Poisoned => "poisoned",
            Cause::Failed => "failed",
            Cause::Discarded => "discarded",
            Cause::Requeued => "requeued",
            Cause::Deleted => "deleted",
            Cause::Rescheduled => "rescheduled",
            Cause::Continued => "continued",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Cause {
    type Err = UnknownCause;

    fn from_str(text: &str) -> Result<Cause, UnknownCause> {
        let found = Cause::ALL.into_iter().find(|cause| cause.as_str() == text);
        found.ok_or_else(|| UnknownCause { text: excerpt(text) })
    }
}

/// The name of one start of one server process, such as `web-1:4711:9f3c2a11`.
///
/// Never used twice: a restarted process announces itself under a new one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(Box<str>);

impl ServerId {
    /// The id with this text.
    pub fn new(text: impl Into<Box<str>>) -> ServerId {
        ServerId(text.into())
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What went wrong in an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// What sort: the type of the error, or `panic`, `timeout`, `poison`, `undecodable_args`, `unknown_kind`.
    pub class: String,
    /// What the error said, with its sources; at most [`ERROR_BYTES_MAX`] bytes.
    pub message: String,
}

impl ErrorRecord {
    /// An error of this class; an overlong message is cut at a character border.
    pub fn new(class: impl Into<String>, message: impl Into<String>) -> ErrorRecord {
        ErrorRecord { class: class.into(), message: shortened(message.into()) }
    }

    /// The error of a job that is given up because its servers crashed under it once too often;
    /// `recoveries` is how many such crashes it had survived before the last one.
    pub fn poison(server: &ServerId, recoveries: u32) -> ErrorRecord {
        let message = format!(
            "its server {server} crashed while it held this job and no other; it had survived {recoveries} such crashes before"
        );
        ErrorRecord::new("poison", message)
    }

    /// The error of a job that is given up because no server has had a handler of its kind for so long.
    pub fn unknown_kind(kind: &KindName, grace: Duration) -> ErrorRecord {
        let message = format!(
            "no server has had a handler of kind `{kind}` for {grace:?}: deploy one that has, or add `{kind}` as an alias of its successor, and requeue the job"
        );
        ErrorRecord::new("unknown_kind", message)
    }
}

/// A text of at most [`ERROR_BYTES_MAX`] bytes, cut at a character border.
pub(crate) fn shortened(mut text: String) -> String {
    if text.len() > ERROR_BYTES_MAX {
        let most = ERROR_BYTES_MAX - '…'.len_utf8();
        let end = (0..=most).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

impl fmt::Display for ErrorRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

/// The state a job is in, with its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobState {
    /// Waits for an instant.
    Scheduled {
        /// When it may run.
        run_at: Timestamp,
        /// What it waits for: `created` or `continued` (a delay), `retried`, `snoozed`, `parked`,
        /// `rescheduled`.
        cause: Cause,
    },
    /// Waits for other jobs or batches.
    Awaiting {
        /// How many it waits for still; one of them is the start of its batch, if that has not started.
        pending: u32,
    },
    /// Waits in its queue.
    Enqueued {
        /// Since when.
        enqueued_at: Timestamp,
    },
    /// Held by a server.
    Processing {
        /// By which.
        server: ServerId,
        /// Since when.
        claimed_at: Timestamp,
    },
    /// Ran to its end.
    Succeeded {
        /// When it ended.
        succeeded_at: Timestamp,
        /// What the handler returned, when that was anything.
        result: Option<Json>,
        /// How long the handler ran.
        duration: Duration,
        /// When it may be cleaned; never when `None`.
        expires_at: Option<Timestamp>,
    },
    /// Given up.
    Failed {
        /// When.
        failed_at: Timestamp,
        /// Why.
        error: ErrorRecord,
        /// When it may be cleaned; never when `None`.
        expires_at: Option<Timestamp>,
    },
    /// Taken out.
    Deleted {
        /// When.
        deleted_at: Timestamp,
        /// What for, in words.
        reason: String,
        /// The error that led to it, if one did.
        error: Option<ErrorRecord>,
        /// When it may be cleaned; never when `None`.
        expires_at: Option<Timestamp>,
    },
}

impl JobState {
    /// The name of the state.
    pub fn name(&self) -> StateName {
        match self {
            JobState::Scheduled { .. } => StateName::Scheduled,
            JobState::Awaiting { .. } => StateName::Awaiting,
            JobState::Enqueued { .. } => StateName::Enqueued,
            JobState::Processing { .. } => StateName::Processing,
            JobState::Succeeded { .. } => StateName::Succeeded,
            JobState::Failed { .. } => StateName::Failed,
            JobState::Deleted { .. } => StateName::Deleted,
        }
    }
}

/// Entries of a history that said the same one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// How many they are, the last included; at least 2.
    pub count: u32,
    /// When the first of them was made.
    pub since: Timestamp,
}

/// One line of a job's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Its place: 1 for the creation, then rising by one; by more only where entries were folded. The entry stands
    /// then for all revisions since the one before it.
    pub revision: u32,
    /// The state that was entered.
    pub state: StateName,
    /// When; never before the entry above. Of a folded entry, when the last was made.
    pub at: Timestamp,
    /// What moved the job.
    pub cause: Cause,
    /// The server that took or held the job, for `claimed`, `rescued`, `poisoned`, and for folded `snoozed` and `parked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// The number of the attempt, for `claimed` and what ends it by the attempt's own finish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The instant it was to wait for, for entries into `scheduled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// The error, for `retried`, `failed`, `poisoned`, `discarded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorRecord>,
    /// The reason in words, for `deleted`, `discarded`; how the server was lost, for `rescued`, `poisoned`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Set when it stands for several that said the same: moves of the instant with nothing between them; snoozes, or
    /// parks, with nothing but a promotion and a claim between them, for which it stands as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folded: Option<Folded>,
}

impl HistoryEntry {
    /// How many entries it stands for, apart from what lay between them.
    pub fn count(&self) -> u32 {
        self.folded.map_or(1, |folded| folded.count)
    }

    /// When the first was made of those that it stands for.
    pub fn since(&self) -> Timestamp {
        self.folded.map_or(self.at, |folded| folded.since)
    }
}

/// Everything a storage knows about a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobRecord {
    /// Its name.
    pub id: JobId,
    /// Which handler runs it.
    pub kind: KindName,
    /// The handler's arguments.
    pub args: Json,
    /// The queue it belongs to.
    pub queue: QueueName,
    /// Rank within its queue.
    pub priority: i16,
    /// What its call said.
    pub options: JobOptions,
    /// What it waits for, belongs to, and is limited by.
    #[serde(skip_serializing_if = "Ties::is_empty")]
    pub ties: Ties,
    /// When it was stored.
    pub created_at: Timestamp,
    /// How many transitions it has made, its creation included.
    pub revision: u32,
    /// How often it was claimed; the fencing token of its present holder.
    pub attempt: u32,
    /// Failures since its run began; a requeue begins a new run.
    pub failures: u32,
    /// Crashes since its run began that it alone can have caused, and survived.
    pub recoveries: u32,
    /// Crashes of servers that held it, since an attempt of it last came to an end by itself. From the second on
    /// it runs apart from others: see [`suspects`](crate::suspects).
    pub crashes: u32,
    /// Where it stands.
    pub state: JobState,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for state in StateName::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        for cause in Cause::ALL {
            assert_eq!(cause.as_str().parse(), Ok(cause));
        }
    }

    #[test]
    fn an_unknown_state_is_refused_with_the_legal_ones() {
        let refusal = "Enqueued".parse::<StateName>().unwrap_err().to_string();
        assert!(refusal.contains("`Enqueued`") && refusal.contains("awaiting"), "{refusal}");
    }

    #[test]
    fn an_overlong_error_is_cut_at_a_character() {
        let error = ErrorRecord::new("E", "é".repeat(ERROR_BYTES_MAX));
        assert!(error.message.len() <= ERROR_BYTES_MAX);
        assert!(error.message.ends_with('…'));
    }
}
