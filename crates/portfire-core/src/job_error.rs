//! What a handler returns when it does not succeed: [`JobError`], which can steer what happens next.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::BoxError;
use crate::state::{ErrorRecord, shortened};

/// The error of a handler, with what should happen next.
///
/// Every error type converts into it by `?` and is then retried by the job's policy. The
/// constructors ask for something else. Like `anyhow::Error` it is not itself a
/// [`std::error::Error`], so that `?` works for every type that is one; [`into_error`](Self::into_error)
/// makes one, which keeps its meaning inside `anyhow` and other wrappers.
///
/// ```
/// use portfire_core::JobError;
/// use std::time::Duration;
///
/// fn charge(card: &str) -> Result<(), JobError> {
///     let number: u64 = card.parse().map_err(JobError::permanent)?; // never right: no retry
///     std::fs::metadata("/rates").map_err(|e| JobError::retry_after(Duration::from_secs(60), e))?;
///     let _ = number;
///     Ok(())
/// }
/// assert!(charge("x").is_err());
/// ```
pub struct JobError {
    steer: Steer,
    class: String,
    source: Option<BoxError>,
}

/// How far the sources of an error are followed: one may be its own source.
const CHAIN_MAX: usize = 32;

/// What a [`JobError`] asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Steer {
    /// The job's retry policy decides.
    Policy,
    /// No retry: the job is failed.
    Permanent,
    /// A retry after exactly this wait, as long as the policy has retries left.
    RetryAfter(Duration),
    /// Another run after this wait, at no cost.
    Snooze(Duration),
    /// Another program has to run the job: it is parked for this wait, at no cost, until the grace of the server is over.
    Elsewhere(Duration),
    /// The job is deleted, with this reason.
    Discard(String),
    /// The attempt noticed its cancellation.
    Cancelled(CancelReason),
}

impl JobError {
    /// An error that the job's retry policy decides about, as `?` makes it. What a [`JobError`] that is
    /// wrapped somewhere in it asks for stays.
    pub fn new<E: Into<BoxError>>(error: E) -> JobError {
        JobError::steered(Steer::Policy, error).found_in_chain()
    }

    /// An error that no retry can heal: the job is failed at once.
    pub fn permanent<E: Into<BoxError>>(error: E) -> JobError {
        JobError::steered(Steer::Permanent, error)
    }

    /// An error that says itself when to try again. It is retried no more often than the policy allows.
    pub fn retry_after<E: Into<BoxError>>(wait: Duration, error: E) -> JobError {
        JobError::steered(Steer::RetryAfter(wait), error)
    }

    /// An error that lies in this program and not in the job: an older program cannot read what a newer one has stored, say.
    /// The job is parked for this wait, so that another program can take it. That costs no retry, whatever the policy
    /// says. Once it has been so for the server's `unknown_kind_grace` the job is failed with this error.
    pub fn elsewhere<E: Into<BoxError>>(wait: Duration, error: E) -> JobError {
        JobError::steered(Steer::Elsewhere(wait), error)
    }

    /// No error: run again after this wait. Costs no retry.
    pub fn snooze(wait: Duration) -> JobError {
        JobError { steer: Steer::Snooze(wait), class: "snooze".into(), source: None }
    }

    /// No error: the job is not wanted any more and is deleted, with this reason in its history, cut as the
    /// message of an error is.
    pub fn discard(reason: impl Into<String>) -> JobError {
        let reason = shortened(reason.into());
        JobError { steer: Steer::Discard(reason), class: "discard".into(), source: None }
    }

    /// The same with the class that policies match `only` and `except` against.
    #[must_use]
    pub fn with_class(self, class: impl Into<String>) -> JobError {
        JobError { class: class.into(), ..self }
    }

    /// What should happen next.
    pub fn steer(&self) -> &Steer {
        &self.steer
    }

    /// The error behind it; `None` when a handler asked for something without one.
    pub fn source(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    /// What is stored about it: the class, and the message with all its sources.
    pub fn record(&self) -> ErrorRecord {
        ErrorRecord::new(self.class.clone(), self.to_string())
    }

    /// An ordinary error with the same meaning, for handlers that return `anyhow::Result` and the like.
    pub fn into_error(self) -> impl std::error::Error + Send + Sync + 'static {
        SteeringError { inner: Steering(self) }
    }

    fn steered<E: Into<BoxError>>(steer: Steer, error: E) -> JobError {
        let class = short_type_name::<E>();
        let source: BoxError = error.into();
        JobError { steer, class, source: Some(source) }
    }
}

/// `anyhow::Error` and boxed errors hide their type; every other type names itself.
fn short_type_name<E>() -> String {
    let name = std::any::type_name::<E>();
    let bare = name.split('<').next().unwrap_or(name);
    if bare.ends_with("::Box") {
        "error".to_owned()
    } else {
        bare.trim_start_matches('&').to_owned()
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.steer, &self.source) {
            (_, Some(source)) => write_chain(f, &**source),
            (Steer::Snooze(wait), None) => write!(f, "snoozed for {wait:?}"),
            (Steer::Discard(reason), None) => write!(f, "discarded: {reason}"),
            (Steer::Cancelled(reason), None) => write!(f, "cancelled: {reason}"),
            (_, None) => f.write_str("failed"),
        }
    }
}

/// Writes an error with its sources, leaving out those that repeat what stands there already.
fn write_chain(f: &mut fmt::Formatter<'_>, error: &dyn std::error::Error) -> fmt::Result {
    let mut text = error.to_string();
    f.write_str(&text)?;
    let mut source = error.source();
    for _ in 0..CHAIN_MAX {
        let Some(inner) = source else { break };
        let next = inner.to_string();
        if !text.contains(&next) {
            write!(f, ": {next}")?;
        }
        text = next;
        source = inner.source();
    }
    Ok(())
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobError({:?}, {}: {self})", self.steer, self.class)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for JobError {
    fn from(error: E) -> JobError {
        if let Some(cancelled) = (&error as &dyn std::any::Any).downcast_ref::<Cancelled>() {
            return JobError {
                steer: Steer::Cancelled(cancelled.reason),
                class: "cancelled".into(),
                source: None,
            };
        }
        JobError::new(error)
    }
}

impl JobError {
    /// Takes the meaning of a [`JobError`] or [`Cancelled`] that is wrapped somewhere inside.
    fn found_in_chain(mut self) -> JobError {
        let mut error: Option<&(dyn std::error::Error + 'static)> =
            self.source.as_deref().map(|source| source as _);
        let mut found = None;
        for _ in 0..CHAIN_MAX {
            let Some(inner) = error else { break };
            if let Some(Steering(wrapped)) = inner.downcast_ref::<Steering>() {
                found = Some((wrapped.steer.clone(), wrapped.class.clone()));
                break;
            }
            if let Some(cancelled) = inner.downcast_ref::<Cancelled>() {
                found = Some((Steer::Cancelled(cancelled.reason), "cancelled".to_owned()));
                break;
            }
            error = inner.source();
        }
        if let Some((steer, class)) = found {
            self.steer = steer;
            self.class = class;
        }
        self
    }
}

/// Turns whatever a handler's `Result` carries into a [`JobError`]. Implemented for [`JobError`] and
/// for everything that converts into a boxed error: error types, `anyhow::Error`, `String`, `&str`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a job",
    note = "a job returns `()` or `Result<T, E>` where `E` is an error type, `anyhow::Error`, `String` or `JobError`"
)]
pub trait IntoJobError {
    /// The error with what should happen next.
    fn into_job_error(self) -> JobError;
}

impl IntoJobError for JobError {
    fn into_job_error(self) -> JobError {
        self
    }
}

#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> IntoJobError for E {
    fn into_job_error(self) -> JobError {
        JobError::new(self)
    }
}

/// The outer half of [`JobError::into_error`]. Wrappers such as `anyhow` hide the type of what they
/// wrap but hand on its source, so the meaning stands in the source.
struct SteeringError {
    inner: Steering,
}

/// The inner half, which is looked for.
struct Steering(JobError);

impl fmt::Debug for SteeringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner.0, f)
    }
}

impl fmt::Display for SteeringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner.0, f)
    }
}

impl std::error::Error for SteeringError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.inner)
    }
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Steering {}

/// Why an attempt is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CancelReason {
    /// The server stops; the job goes back to its queue, at no cost.
    Shutdown,
    /// The job was deleted.
    Deleted,
    /// The attempt ran longer than its timeout; that is a failure.
    Timeout,
    /// The server's lease ran out; another server may have the job by now.
    LeaseLost,
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CancelReason::Shutdown => "the server stops",
            CancelReason::Deleted => "the job was deleted",
            CancelReason::Timeout => "the attempt ran longer than its timeout",
            CancelReason::LeaseLost => "the server's lease ran out",
        })
    }
}

/// The error of [`CancellationToken::check`](https://docs.rs/portfire): the attempt is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled: {reason}")]
pub struct Cancelled {
    /// Why.
    pub reason: CancelReason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_question_mark_keeps_class_and_sources() {
        fn run() -> Result<(), JobError> {
            Err(Outer(std::io::Error::other("disk on fire")))?;
            Ok(())
        }
        let error = run().unwrap_err();
        assert_eq!(error.steer(), &Steer::Policy);
        let record = error.record();
        assert!(record.class.ends_with("Outer"), "{}", record.class);
        assert_eq!(record.message, "outer: disk on fire");
    }

    #[test]
    fn a_steering_error_keeps_its_meaning_in_wrappers() {
        #[derive(Debug, thiserror::Error)]
        #[error("wrapped")]
        struct Wrapped(#[source] BoxError);

        let inner = JobError::retry_after(Duration::from_secs(7), "busy").into_error();
        let error = Wrapped(Box::new(inner)).into_job_error();
        assert_eq!(error.steer(), &Steer::RetryAfter(Duration::from_secs(7)));
        let direct: JobError = JobError::permanent("no").into_error().into();
        assert_eq!(direct.steer(), &Steer::Permanent);
        let boxed: BoxError = Box::new(Wrapped(Box::new(direct.into_error())));
        assert_eq!(JobError::new(boxed).steer(), &Steer::Permanent, "as `?` makes it");
    }

    #[test]
    fn an_error_that_is_its_own_source_comes_to_an_end() {
        #[derive(Debug)]
        struct Circle;
        impl fmt::Display for Circle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("around")
            }
        }
        impl std::error::Error for Circle {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(self)
            }
        }
        let error: JobError = Circle.into();
        assert_eq!((error.steer(), error.to_string().as_str()), (&Steer::Policy, "around"));
    }

    #[test]
    fn an_endless_reason_is_cut() {
        let error = JobError::discard("x".repeat(1 << 20));
        let Steer::Discard(reason) = error.steer() else { panic!("{error:?}") };
        assert!(reason.len() <= crate::state::ERROR_BYTES_MAX && reason.ends_with('…'));
    }

    #[test]
    fn a_noticed_cancellation_is_known() {
        let error: JobError = Cancelled { reason: CancelReason::Deleted }.into();
        assert_eq!(error.steer(), &Steer::Cancelled(CancelReason::Deleted));
    }

    #[test]
    fn texts_are_errors_too() {
        assert_eq!("plain".into_job_error().record().message, "plain");
        assert_eq!(String::from("s").into_job_error().record().message, "s");
    }
}
