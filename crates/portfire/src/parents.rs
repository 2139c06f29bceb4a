//! What `#[parent]` and `#[parents]` parameters get: the results of the jobs that a continuation waited
//! for, kept with it.

use portfire_core::{JobError, Json, ParentError, ParentOutcome, ParentResult, StateName};
use portfire_server::JobContext;
use serde::de::DeserializeOwned;

use crate::args::{Misfit, read_text};

/// A type that can be read from what a parent returned. Implemented for all that serde reads.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a parent",
    label = "not `DeserializeOwned`",
    note = "what a parent returns is stored as JSON: derive `serde::Deserialize` for `{Self}`"
)]
pub trait ParentValue: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> ParentValue for T {}

/// What one of the parents returned.
///
/// # Errors
/// A permanent [`JobError`] when there is no such parent, it did not succeed, or what it returned is of
/// another shape: running again would not help.
pub fn parent<T: ParentValue>(context: &JobContext, place: usize) -> Result<T, JobError> {
    value(context, find(context, place)?)
}

/// What one of the parents returned, or how it ended instead.
///
/// # Errors
/// As [`parent`], but for one that did not succeed.
pub fn parent_result<T: ParentValue>(
    context: &JobContext,
    place: usize,
) -> Result<ParentResult<T>, JobError> {
    result(find(context, place)?)
}

/// How one of the parents ended that did not succeed.
///
/// # Errors
/// A permanent [`JobError`] when there is no such parent, or it succeeded.
pub fn parent_error(context: &JobContext, place: usize) -> Result<ParentError, JobError> {
    let parent = find(context, place)?;
    if parent.state != StateName::Succeeded {
        return Ok(ParentError::new(parent));
    }
    let message = format!(
        "its parent, {}, succeeded, and `{}` takes a `ParentError`: enqueue it `.on(After::Failure)`, or take a `ParentResult`",
        parent.parent,
        context.kind()
    );
    Err(no_parent(message))
}

/// What all of the parents returned, in the order in which they were named.
///
/// # Errors
/// As [`parent`].
pub fn parents<T: ParentValue>(context: &JobContext) -> Result<Vec<T>, JobError> {
    context.parents().iter().map(|parent| value(context, parent)).collect()
}

/// What all of the parents returned, or how they ended instead, in the order in which they were named.
///
/// # Errors
/// As [`parent_result`].
pub fn parent_results<T: ParentValue>(
    context: &JobContext,
) -> Result<Vec<ParentResult<T>>, JobError> {
    context.parents().iter().map(result).collect()
}

fn find(context: &JobContext, place: usize) -> Result<&ParentOutcome, JobError> {
    context.parents().get(place).ok_or_else(|| {
        let (kind, known) = (context.kind(), context.parents().len());
        let message = match known {
            0 => format!(
                "`{kind}` takes what its parent returned, and has none: enqueue it by `continue_with`, `then` or `pipe`, or name its parent by `after`"
            ),
            _ => format!(
                "`{kind}` takes something from {} parents at least, and has {known}: name the others by `after`",
                place + 1
            ),
        };
        no_parent(message)
    })
}

fn value<T: ParentValue>(context: &JobContext, parent: &ParentOutcome) -> Result<T, JobError> {
    result(parent)?.map_err(|error| {
        no_parent(format!(
            "its parent did not succeed: {error}; to run after that, let `{}` take a `ParentResult`",
            context.kind()
        ))
    })
}

fn result<T: ParentValue>(parent: &ParentOutcome) -> Result<ParentResult<T>, JobError> {
    if parent.state != StateName::Succeeded {
        return Ok(Err(ParentError::new(parent)));
    }
    // A parent without a result, such as a batch, returned `()`.
    let text = parent.result.as_ref().map_or("null", Json::as_str);
    read_text(text).map(Ok).map_err(|Misfit { path, reason }| {
        let parent = parent.parent;
        let message = match path.as_str() {
            "" => format!("what its parent, {parent}, returned does not fit: {reason}"),
            _ => format!("what its parent, {parent}, returned does not fit, at `{path}`: {reason}"),
        };
        JobError::permanent(message).with_class("undecodable_parent")
    })
}

fn no_parent(message: String) -> JobError {
    JobError::permanent(message).with_class("no_parent")
}
