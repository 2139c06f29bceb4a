//! What a call says about its key: [`Unique`].

use crate::call::template::Args;
use crate::duration::IntoDuration;
use crate::job::InvalidJob;
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
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is for `call.unique(..)`"]
pub struct Unique {
    by: By,
    scope: Result<UniqueScope, InvalidJob>,
    conflict: Conflict,
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
        Unique { by, scope: Ok(UniqueScope::UntilFinished), conflict: Conflict::Reject }
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
        Unique { conflict, ..self }
    }

    pub(super) fn into_key(self, args: &Args<'_>) -> Result<UniqueKey, InvalidJob> {
        let key = match &self.by {
            By::Args => format!("{}#{}", args.kind, args.digest()?),
            By::Fields(fields) => format!("{}#{}", args.kind, args.digest_of_fields(fields)?),
            By::Key(key) => key.clone(),
            By::Template(template) => args.fill(template)?,
        };
        Ok(UniqueKey { key, scope: self.scope?, conflict: self.conflict })
    }
}
