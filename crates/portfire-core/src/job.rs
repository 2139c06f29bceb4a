//! The nouns of a job: its id, kind, queue, arguments and options, and [`NewJob`], the input of
//! [`create`](crate::Storage::create). What becomes of a job afterwards is in `state.rs`.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::batch::BatchId;
use crate::clock::Timestamp;
use crate::continuation::Antecedent;
use crate::recurring::RecurringId;
use crate::retry::RetryPolicy;
use crate::ties::Ties;
use crate::transition::Retention;

/// Most tags of a job, those that it adds while it runs with them.
pub const TAGS_MAX: usize = 16;
/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 64;
/// Most metadata keys of a call.
pub const METADATA_KEYS_MAX: usize = 64;
/// Longest key of metadata, in bytes.
pub const METADATA_KEY_BYTES_MAX: usize = 128;
/// Longest value of metadata of a call, in bytes.
pub const METADATA_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Longest trace context, in bytes.
pub const TRACEPARENT_BYTES_MAX: usize = 128;

/// The name of a job: a UUIDv7 that the client makes before the job is stored.
///
/// Because the client knows it first, a create whose outcome is unknown is simply repeated: the
/// second one finds the job and changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// Makes an id from an instant (the leading 48 bits, in milliseconds) and 80 random bits.
    pub fn from_parts(at: Timestamp, random: u128) -> JobId {
        let millis = u64::try_from(at.as_micros() / 1000).unwrap_or(0);
        let bytes: [u8; 16] = random.to_be_bytes();
        let tail = std::array::from_fn(|i| bytes[6 + i]);
        JobId(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }

    /// The id that belongs to a name: the same for the same name, on every machine (UUIDv5).
    ///
    /// For enqueues that may be repeated, such as one job for each row of a file: the second enqueue of a
    /// name finds the job of the first. Give names a prefix of your own, as `invoice:2026-17`.
    ///
    /// ```
    /// use portfire_core::JobId;
    /// assert_eq!(JobId::from_name("invoice:17"), JobId::from_name("invoice:17"));
    /// assert_ne!(JobId::from_name("invoice:17"), JobId::from_name("invoice:18"));
    /// ```
    pub fn from_name(name: &str) -> JobId {
        JobId(Uuid::new_v5(&NAMES, name.as_bytes()))
    }

    /// The id of the run of a recurring job at its planned instant.
    pub fn of_occurrence(recurring: &RecurringId, planned_at: Timestamp) -> JobId {
        let named = JobId::from_name(&format!("{}@{}", recurring.as_str(), planned_at.as_micros()));
        JobId::from_parts(planned_at, u128::from_be_bytes(*named.as_bytes()))
    }

    /// The id with these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> JobId {
        JobId(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the id, most significant first; their order is the order of creation.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for JobId {
    type Err = InvalidJob;

    fn from_str(text: &str) -> Result<JobId, InvalidJob> {
        Uuid::parse_str(text).map(JobId).map_err(|_| InvalidJob::Id { text: excerpt(text) })
    }
}

/// The namespace of ids from names, a random UUID.
const NAMES: Uuid = Uuid::from_u128(0x6f0b_56e1_2f0c_4c0e_9d6a_3f1d_8a57_c2b4);

/// The stable name of a handler, such as `send_welcome` or `EmailService.send`.
///
/// 1 to 128 characters; letters, digits and `_ . - :`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct KindName(Cow<'static, str>);

impl KindName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidJob::Kind`] when it is empty, too long or has other characters.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Result<KindName, InvalidJob> {
        let name = name.into();
        let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | ':');
        if name.is_empty() || name.chars().count() > 128 || !name.chars().all(legal) {
            return Err(InvalidJob::Kind { name: excerpt(&name) });
        }
        Ok(KindName(name))
    }

    /// Takes a name that was checked when it was stored.
    pub fn stored(name: impl Into<Cow<'static, str>>) -> KindName {
        KindName(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a queue: 1 to 64 of `a-z 0-9 _ -`, the first a letter or a digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct QueueName(Cow<'static, str>);

impl QueueName {
    /// The queue of jobs that name none: `default`.
    pub const DEFAULT: QueueName = QueueName(Cow::Borrowed("default"));

    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidJob::Queue`] when it is empty, over 64 characters, or has other characters.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Result<QueueName, InvalidJob> {
        let name = name.into();
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = name.as_bytes();
        let fits = (1..=64).contains(&bytes.len()) && first(bytes[0]);
        if !fits || !bytes.iter().copied().all(legal) {
            return Err(InvalidJob::Queue { name: excerpt(&name) });
        }
        Ok(QueueName(name))
    }

    /// Takes a name that was checked when it was stored.
    pub fn stored(name: impl Into<Cow<'static, str>>) -> QueueName {
        QueueName(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for QueueName {
    fn default() -> QueueName {
        QueueName::DEFAULT
    }
}

macro_rules! name_traits {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl FromStr for $name {
            type Err = InvalidJob;
            fn from_str(text: &str) -> Result<$name, InvalidJob> {
                $name::new(text.to_owned())
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<&str> for $name {
            type Error = InvalidJob;
            fn try_from(text: &str) -> Result<$name, InvalidJob> {
                text.parse()
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = String::deserialize(deserializer)?;
                $name::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}
name_traits!(KindName);
name_traits!(QueueName);

/// A piece of JSON text: the arguments of a job (an object by parameter name) or its result.
///
/// Always valid UTF-8 and valid JSON, so a raw NUL byte cannot occur; the bytes that were put in
/// are the bytes that come out. Cheap to clone, however long it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

impl Json {
    /// Serialises a value.
    ///
    /// # Errors
    /// [`InvalidJob::Encode`] when the value refuses, for instance a map with keys that are no text.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Json, InvalidJob> {
        let text = serde_json::to_string(value)
            .map_err(|error| InvalidJob::Encode { reason: error.to_string() })?;
        Ok(Json(text.into()))
    }

    /// Takes bytes from outside: they must be UTF-8 and one JSON value.
    ///
    /// # Errors
    /// [`InvalidJob::NotJson`] that says what is wrong and at which byte, line or column.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Json, InvalidJob> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            InvalidJob::NotJson { reason: format!("not UTF-8 at byte {at}") }
        })?;
        serde_json::from_str::<&serde_json::value::RawValue>(&text)
            .map_err(|error| InvalidJob::NotJson { reason: error.to_string() })?;
        Ok(Json(text.into()))
    }

    /// Takes a text that was checked when it was stored.
    pub fn stored(text: impl Into<Arc<str>>) -> Json {
        Json(text.into())
    }

    /// The empty object, the arguments of a job without parameters.
    pub fn empty() -> Json {
        Json("{}".into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Decodes the text into a value.
    ///
    /// # Errors
    /// What serde says: the place and what was expected.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &serde_json::value::RawValue =
            serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        let raw = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        Ok(Json(raw.get().into()))
    }
}

/// Where a new job starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum When {
    /// At once: the job is created enqueued.
    #[default]
    Now,
    /// So long after the storage's present. Zero is [`When::Now`].
    In(Duration),
    /// At this instant. An instant that is past is [`When::Now`].
    At(Timestamp),
}

impl When {
    /// The instant to wait for, or `None` when the job may run at once.
    ///
    /// # Errors
    /// [`InvalidJob::Delay`] when the instant lies beyond the year 9999.
    pub fn resolve(self, now: Timestamp) -> Result<Option<Timestamp>, InvalidJob> {
        let at = match self {
            When::Now => return Ok(None),
            When::In(delay) => now.checked_add(delay).ok_or(InvalidJob::Delay { delay })?,
            When::At(at) => at,
        };
        Ok((at > now).then_some(at))
    }
}

impl From<Duration> for When {
    fn from(delay: Duration) -> When {
        When::In(delay)
    }
}

impl From<Timestamp> for When {
    fn from(at: Timestamp) -> When {
        When::At(at)
    }
}

impl From<std::time::SystemTime> for When {
    fn from(at: std::time::SystemTime) -> When {
        When::At(at.into())
    }
}

/// What one call may say about its job, beyond kind, args, queue and priority.
///
/// Only what was said is stored; what was not said is decided by the handler's attribute, then by
/// the server, when the job runs. An option that a newer version stored is passed over by an older
/// one, so that both can run side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct JobOptions {
    /// How failures are retried. Default: the handler's policy, else the server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// Longest run of one attempt; afterwards it fails with class `timeout`. Default: none.
    ///
    /// An async handler is dropped then. The thread of a blocking one cannot be ended: when it ignores its token it
    /// runs on. A plain job is failed or retried meanwhile. One that [bars others](crate::Ties::bar_others) stays
    /// `processing` until the thread returns or its process is dead, so that a retry waits for that, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long the job is kept once it is final. Default: the storage's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Words to find the job by: at most [`TAGS_MAX`] of 1 to [`TAG_BYTES_MAX`] bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Free text by key: at most [`METADATA_KEYS_MAX`] keys of 1 to [`METADATA_KEY_BYTES_MAX`] bytes, values of at
    /// most [`METADATA_VALUE_BYTES_MAX`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Longest wait in the queue: a job that is claimed later is deleted instead of run (Hangfire's
    /// latency timeout). Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_deadline: Option<Duration>,
    /// The instant after which no attempt starts: the job is deleted instead. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The W3C trace context of who enqueued it, a `traceparent` of at most
    /// [`TRACEPARENT_BYTES_MAX`]. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl JobOptions {
    /// Whether nothing was said, so that nothing needs storing.
    pub fn is_default(&self) -> bool {
        *self == JobOptions::default()
    }
}

/// A job that is about to be stored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NewJob {
    /// Its name, made by the client.
    pub id: JobId,
    /// Which handler runs it.
    pub kind: KindName,
    /// The handler's arguments.
    pub args: Json,
    /// The line it waits in. Default: `default`.
    pub queue: QueueName,
    /// Rank within its queue: higher first; equal ranks in order of arrival. Default: 0.
    pub priority: i16,
    /// When it may run. Default: at once.
    pub when: When,
    /// The rest.
    pub options: JobOptions,
    /// What it waits for, belongs to, and is limited by.
    pub ties: Ties,
}

impl NewJob {
    /// A job for the default queue that may run at once.
    pub fn new(id: JobId, kind: KindName, args: Json) -> NewJob {
        NewJob {
            id,
            kind,
            args,
            queue: QueueName::DEFAULT,
            priority: 0,
            when: When::Now,
            options: JobOptions::default(),
            ties: Ties::default(),
        }
    }

    /// Checks every bound; storages call it before they store anything.
    ///
    /// # Errors
    /// The first bound that is broken, by name and with its limit.
    pub fn validate(&self, limits: &Limits) -> Result<(), InvalidJob> {
        let size = self.args.as_str().len();
        if size > limits.args_bytes_max {
            return Err(InvalidJob::ArgsTooLarge { size, limit: limits.args_bytes_max });
        }
        if let Some(policy) = &self.options.retry {
            policy.validate()?;
        }
        let tags = &self.options.tags;
        if tags.len() > TAGS_MAX {
            return Err(InvalidJob::TooManyTags { count: tags.len() });
        }
        if let Some(tag) = tags.iter().find(|tag| !(1..=TAG_BYTES_MAX).contains(&tag.len())) {
            return Err(InvalidJob::Tag { tag: excerpt(tag) });
        }
        let metadata = &self.options.metadata;
        if metadata.len() > METADATA_KEYS_MAX {
            return Err(InvalidJob::TooMuchMetadata { count: metadata.len() });
        }
        let broken = |(key, value): &(&String, &String)| {
            !(1..=METADATA_KEY_BYTES_MAX).contains(&key.len())
                || value.len() > METADATA_VALUE_BYTES_MAX
        };
        if let Some((key, _)) = metadata.iter().find(broken) {
            return Err(InvalidJob::Metadata { key: excerpt(key) });
        }
        let trace = self.options.traceparent.as_deref();
        if let Some(text) =
            trace.filter(|text| text.len() > TRACEPARENT_BYTES_MAX || !text.is_ascii())
        {
            return Err(InvalidJob::TraceParent { text: excerpt(text) });
        }
        self.ties.validate()
    }
}

/// Bounds on what a storage takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest args in bytes. Default: 1 MiB; at most 16 MiB.
    pub args_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { args_bytes_max: 1024 * 1024 }
    }
}

/// A job that cannot be stored because of what it says. Nothing was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJob {
    /// Not a UUID.
    #[error("`{text}` is not a job id: expected a UUID")]
    Id {
        /// What was given, shortened.
        text: String,
    },
    /// Not a legal kind.
    #[error("`{name}` is not a kind: expected 1 to 128 letters, digits or any of `_ . - :`")]
    Kind {
        /// What was given, shortened.
        name: String,
    },
    /// Not a legal queue name.
    #[error(
        "`{name}` is not a queue name: expected 1 to 64 of `a-z 0-9 _ -`, starting with a letter or digit"
    )]
    Queue {
        /// What was given, shortened.
        name: String,
    },
    /// The arguments could not be serialised.
    #[error("the arguments cannot be written as JSON: {reason}")]
    Encode {
        /// What the serialiser said.
        reason: String,
    },
    /// The arguments are not JSON.
    #[error("the arguments are not JSON: {reason}")]
    NotJson {
        /// What is wrong and where.
        reason: String,
    },
    /// The value of a metadata key cannot be written, or is of another shape than the one asked for.
    #[error("the value of metadata `{key}`: {reason}")]
    MetadataValue {
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The arguments are too large.
    #[error(
        "the arguments have {size} bytes and at most {limit} are taken; store the data elsewhere and pass its name"
    )]
    ArgsTooLarge {
        /// Bytes of the arguments.
        size: usize,
        /// Bytes that are taken.
        limit: usize,
    },
    /// A delay that ends after the year 9999.
    #[error("a delay of {delay:?} ends after the year 9999")]
    Delay {
        /// The delay.
        delay: Duration,
    },
    /// Over 16 tags.
    #[error("{count} tags, and a job takes at most {max}", max = TAGS_MAX)]
    TooManyTags {
        /// How many were given.
        count: usize,
    },
    /// An empty or overlong tag.
    #[error("`{tag}` is not a tag: expected 1 to {max} bytes", max = TAG_BYTES_MAX)]
    Tag {
        /// What was given, shortened.
        tag: String,
    },
    /// Over 64 metadata keys.
    #[error("{count} metadata keys, and a job takes at most {max}", max = METADATA_KEYS_MAX)]
    TooMuchMetadata {
        /// How many were given.
        count: usize,
    },
    /// A metadata key or value over its bound.
    #[error(
        "metadata `{key}`: a key has 1 to {key_max} bytes and a value at most {value_max} KiB",
        key_max = METADATA_KEY_BYTES_MAX,
        value_max = METADATA_VALUE_BYTES_MAX / 1024
    )]
    Metadata {
        /// The key, shortened.
        key: String,
    },
    /// More jobs in one call than a storage takes.
    #[error(
        "{count} jobs in one call, and at most {limit} are taken; create them in several calls"
    )]
    TooManyJobs {
        /// How many were given.
        count: usize,
        /// How many are taken.
        limit: usize,
    },
    /// Not a trace context.
    #[error(
        "`{text}` is not a traceparent: expected at most {max} bytes of ASCII, as in W3C Trace Context",
        max = TRACEPARENT_BYTES_MAX
    )]
    TraceParent {
        /// What was given, shortened.
        text: String,
    },
    /// Something to wait for is not there.
    #[error(
        "{waiting} waits for {on}, which is neither stored nor earlier in the same call; create what is waited for first"
    )]
    NoAntecedent {
        /// The job or batch that was to wait.
        waiting: Antecedent,
        /// What it waits for.
        on: Antecedent,
    },
    /// Over 100 things to wait for.
    #[error(
        "{count} things to wait for, and at most 100 are taken; put them into a batch and wait for that"
    )]
    TooManyDependencies {
        /// How many were given.
        count: usize,
    },
    /// The same thing to wait for twice.
    #[error("{on} is waited for twice; one condition on its end is all there can be")]
    DependencyTwice {
        /// What is waited for.
        on: Antecedent,
    },
    /// Not a batch id.
    #[error("`{text}` is not a batch id: expected a UUID")]
    BatchId {
        /// What was given, shortened.
        text: String,
    },
    /// A batch that makes no sense.
    #[error("batch {batch}: {reason}")]
    Batch {
        /// Which.
        batch: BatchId,
        /// What is wrong.
        reason: String,
    },
    /// A member for a batch that is not there.
    #[error("batch {batch} is neither stored nor earlier in the same call; create it first")]
    NoBatch {
        /// Which.
        batch: BatchId,
    },
    /// A member for a batch that has ended.
    #[error("batch {batch} is {state} and takes no more members; create another batch")]
    BatchEnded {
        /// Which.
        batch: BatchId,
        /// Where it stands.
        state: &'static str,
    },
    /// An empty or overlong unique key.
    #[error("the unique key `{key}` has {size} bytes: expected 1 to 512; hash what is longer")]
    UniqueKey {
        /// The key, shortened.
        key: String,
        /// Its bytes.
        size: usize,
    },
    /// A unique key for no time at all.
    #[error("the unique key `{key}` is to be held for no time; give a duration above zero")]
    UniqueWithin {
        /// The key, shortened.
        key: String,
    },
    /// Over 4 limits.
    #[error("{count} limits, and a job takes at most 4")]
    TooManyLimits {
        /// How many were given.
        count: usize,
    },
    /// A limit that makes no sense.
    #[error("limit `{name}`: {reason}")]
    Limit {
        /// Which, shortened.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Not the name of a recurring job.
    #[error(
        "`{text}` is not the name of a recurring job: expected 1 to 128 characters, none of them a control character"
    )]
    RecurringId {
        /// What was given, shortened.
        text: String,
    },
    /// A recurring job that makes no sense.
    #[error("recurring job: {reason}")]
    Schedule {
        /// What is wrong.
        reason: String,
    },
    /// Not a lock.
    #[error("lock: {reason}")]
    Lock {
        /// What is wrong.
        reason: String,
    },
    /// A job that takes something from its parents, and has too few.
    #[error(
        "`{kind}` takes what its parents return: it needs {needed} of them and names {given}; enqueue it by `continue_with`, `then` or `pipe`, or name its parents by `after`"
    )]
    NoParent {
        /// The kind.
        kind: KindName,
        /// How many parents it needs.
        needed: usize,
        /// How many it names.
        given: usize,
    },
    /// A key or a limit made from an argument that is not there.
    #[error("`{kind}`: {reason}")]
    Argument {
        /// The kind.
        kind: KindName,
        /// What is wrong.
        reason: String,
    },
    /// A text that is no duration.
    #[error(
        "`{text}` is not a duration: {reason}; write a number and a unit (ms, s, m, h, d, w), such as `10m` or `1h30m`"
    )]
    Duration {
        /// What was given, shortened.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A retry policy that makes no sense.
    #[error("retry policy: {reason}")]
    Retry {
        /// What is wrong.
        reason: String,
    },
}

/// The beginning of a text, short and on one line, for messages.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_are_checked() {
        for good in ["a", "default", "mail-2", "0_x"] {
            assert!(QueueName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "Mail", "-a", "_a", "a b", "é", "a\0", &"x".repeat(65)] {
            let refusal = QueueName::new(bad.to_owned()).unwrap_err().to_string();
            assert!(refusal.contains("is not a queue name"), "{refusal}");
        }
    }

    #[test]
    fn kinds_are_checked() {
        for good in ["send_welcome", "EmailService.send", "crate::path-2"] {
            assert!(KindName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\n", "<script>"] {
            assert!(KindName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_json_are_refused_with_their_place() {
        let not_utf8 = Json::from_bytes(vec![b'"', 0xff, b'"']).unwrap_err().to_string();
        assert!(not_utf8.contains("not UTF-8 at byte 1"), "{not_utf8}");
        let raw_nul = Json::from_bytes(b"{\"a\":\"\0\"}".to_vec()).unwrap_err().to_string();
        assert!(raw_nul.contains("control character"), "{raw_nul}");
        assert!(Json::from_bytes(b"{\"a\":\"\\u0000\"}".to_vec()).is_ok());
    }

    #[test]
    fn the_year_2999_is_legal_and_an_absurd_delay_is_not() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let in_2999: Timestamp = "2999-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(When::At(in_2999).resolve(now), Ok(Some(in_2999)));
        assert!(matches!(When::In(Duration::MAX).resolve(now), Err(InvalidJob::Delay { .. })));
        assert_eq!(When::At(Timestamp::MIN).resolve(now), Ok(None));
        assert_eq!(When::In(Duration::ZERO).resolve(now), Ok(None));
    }

    #[test]
    fn ids_sort_by_time() {
        let early = JobId::from_parts(Timestamp::from_micros(1_000_000), u128::MAX);
        let late = JobId::from_parts(Timestamp::from_micros(2_000_000), 0);
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
    }

    #[test]
    fn options_of_a_newer_version_are_read_as_far_as_they_are_known() {
        let text = r#"{"tags":["eu"],"sooner":true,"retry":{"max":2,"mood":"good"}}"#;
        let options: JobOptions = serde_json::from_str(text).unwrap();
        assert_eq!(options.tags, ["eu"]);
        assert_eq!(options.retry, Some(RetryPolicy::times(2)));
    }

    #[test]
    fn bounds_are_named() {
        let mut job = NewJob::new(JobId::from_bytes([0; 16]), KindName::stored("k"), Json::empty());
        assert_eq!(job.validate(&Limits::default()), Ok(()));
        job.options.tags = vec![String::new()];
        assert!(matches!(job.validate(&Limits::default()), Err(InvalidJob::Tag { .. })));
        job.options.tags.clear();
        job.options.retry = Some(RetryPolicy::times(crate::retry::RETRIES_MAX + 1));
        assert!(matches!(job.validate(&Limits::default()), Err(InvalidJob::Retry { .. })));
        job.options.retry = None;
        job.args = Json::stored("1".repeat(11));
        let refused = job.validate(&Limits { args_bytes_max: 10 });
        assert_eq!(refused, Err(InvalidJob::ArgsTooLarge { size: 11, limit: 10 }));
    }
}
