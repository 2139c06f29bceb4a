//! What a call says about its key: [`Unique`].

use std::time::Duration;

use crate::call::template::Args;
use crate::duration::IntoDuration;
use crate::job::{InvalidJob, When};
use crate::unique::{Conflict, UniqueKey, UniqueScope};

/// A key that one job at a time holds, made from a call: `Unique::by_args().within("10m")`.
///
/// By default it is held until the job's end, with all retries, and a job that finds it held is not
/// stored: enqueueing it answers the id of the holder.
///
/// ```
/// use portfire_core::{Conflict, Unique};
/// use std::time::Duration;
///
/// let welcome = Unique::by_fields(["user_id"]).until_started();
/// let import = Unique::by_key("import").on_conflict(Conflict::Replace);
/// let digest = Unique::by_args().within(Duration::from_secs(600));
/// // Half a minute after the last call, and five minutes after the first one at the latest.
/// let index = Unique::by_template("index:{document}").debounce("30s").at_most("5m");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is for `call.unique(..)`"]
pub struct Unique {
    by: By,
    scope: Result<UniqueScope, InvalidJob>,
    conflict: Result<Conflict, InvalidJob>,
    /// The delay of a call that has none of its own.
    wait: Option<Result<Duration, InvalidJob>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    Args,
    Fields(Vec<String>),
    Key(String),
    Template(String),
}

impl Unique {
    /// One job of this kind with these arguments. They are compared as JSON, in which the order of a map's
    /// keys does not matter; the items of a `HashSet` have no order of their own, so take a `BTreeSet`.
    pub fn by_args() -> Unique {
        Unique::by(By::Args)
    }

    /// One job of this kind with these values of these arguments.
    pub fn by_fields<F: Into<String>>(fields: impl IntoIterator<Item = F>) -> Unique {
        Unique::by(By::Fields(fields.into_iter().map(Into::into).collect()))
    }

    /// One job with this key: 1 to 512 bytes. All kinds share it, so give it a prefix of your own.
    pub fn by_key(key: impl Into<String>) -> Unique {
        Unique::by(By::Key(key.into()))
    }

    /// As [`by_key`](Self::by_key), with arguments in the place of their names in braces:
    /// `invoice:{order_id}`. Double a brace that is meant as one.
    pub fn by_template(template: impl Into<String>) -> Unique {
        Unique::by(By::Template(template.into()))
    }

    fn by(by: By) -> Unique {
        let (scope, conflict) = (Ok(UniqueScope::UntilFinished), Ok(Conflict::Reject));
        Unique { by, scope, conflict, wait: None }
    }

    /// Holds the key until the job's first start: from then on another one may wait.
    pub fn until_started(self) -> Unique {
        Unique { scope: Ok(UniqueScope::UntilStarted), ..self }
    }

    /// Holds the key until the job's end, with all retries. This is the default.
    pub fn until_finished(self) -> Unique {
        Unique { scope: Ok(UniqueScope::UntilFinished), ..self }
    }

    /// Holds the key for so long from the job's creation, even after its end: a `Duration`, or a text
    /// such as `"10m"`.
    pub fn within(self, time: impl IntoDuration) -> Unique {
        Unique { scope: time.into_duration().map(UniqueScope::Within), ..self }
    }

    /// What happens to a job that finds the key held. Default: [`Conflict::Reject`].
    pub fn on_conflict(self, conflict: Conflict) -> Unique {
        Unique { conflict: Ok(conflict), ..self }
    }

    /// Runs the job so long after the last call: each call that finds the key held delays the job that holds
    /// it anew. A `Duration`, or a text such as `"30s"`; a call with a delay of its own waits for that. The key
    /// is held [`until_started`](Self::until_started), so that what comes while it runs is not lost, and the
    /// conflict is [`Conflict::Debounce`]. Without [`at_most`](Self::at_most) who calls all the time delays it
    /// for ever.
    pub fn debounce(self, wait: impl IntoDuration) -> Unique {
        let (scope, conflict) = (Ok(UniqueScope::UntilStarted), Ok(Conflict::Debounce));
        Unique { scope, conflict, wait: Some(wait.into_duration()), ..self }
    }

    /// Runs a debounced job so long after its creation at the latest, however often it is called:
    /// [`Conflict::DebounceAtMost`]. A `Duration`, or a text such as `"5m"`.
    pub fn at_most(self, max: impl IntoDuration) -> Unique {
        Unique { conflict: max.into_duration().map(Conflict::DebounceAtMost), ..self }
    }

    /// When a call that was to run then does, by the delay of [`debounce`](Self::debounce).
    pub(super) fn delayed(&self, when: When) -> Result<When, InvalidJob> {
        match &self.wait {
            Some(wait) if when == When::Now => Ok(When::In(wait.clone()?)),
            _ => Ok(when),
        }
    }

    pub(super) fn into_key(self, args: &Args<'_>) -> Result<UniqueKey, InvalidJob> {
        let key = match &self.by {
            By::Args => format!("{}#{}", args.kind, args.digest()?),
            By::Fields(fields) => format!("{}#{}", args.kind, args.digest_of_fields(fields)?),
            By::Key(key) => key.clone(),
            By::Template(template) => args.fill(template)?,
        };
        Ok(UniqueKey { key, scope: self.scope?, conflict: self.conflict? })
    }
}
