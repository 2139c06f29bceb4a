//! The loop in which a storage behind a network has a call decided: load, decide, apply, and again on a conflict.

use std::future::Future;

use super::rows::Seq;
use super::workspace::Workspace;
use super::writes::{Footprint, Gap};
use crate::error::StorageError;

/// How often a call is decided anew when others have changed what it read. From the second time on it has the
/// [lead](Remote::begin), so that it comes to an end sooner than this.
pub const TURNS_MAX: u32 = 20;

/// How often one turn loads more rows. A wave follows what the wave before has found; a chain of more links than that
/// is left to the outbox before.
pub const WAVES_MAX: u32 = 64;

/// What became of a call that was to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is applied.
    Done {
        /// The batches whose pending members came to 0 by it.
        emptied: Vec<Seq>,
    },
    /// Something that was read has changed meanwhile: nothing is applied.
    Conflict,
}

/// A storage whose rows are loaded before they are read.
pub trait Remote {
    /// Begins a turn: an empty workspace, with what was drawn for the call. Takes no lock on rows.
    ///
    /// From turn 2 on it also waits until no other call has the lead, and takes it for as long as the turn lasts. The lead
    /// is for progress alone: [`apply`](Remote::apply) verifies all the same, so one that is lost breaks nothing.
    fn begin(&self, turn: u32) -> impl Future<Output = Result<Workspace, StorageError>> + Send;

    /// Loads rows and ranges in one round trip: what a range hangs on is read before the range.
    fn load(
        &self,
        work: &mut Workspace,
        wanted: &Footprint,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Locks what was read, in the order of [`Key`](super::Key), verifies it, and writes: all of it in one commit.
    fn apply(&self, work: &Workspace)
    -> impl Future<Output = Result<Applied, StorageError>> + Send;
}

/// Has a call decided and applied. Answers what it decided, and which batches ran empty by it: the caller ends each at once in
/// a call of its own, by [`end_emptied`](super::end_emptied).
///
/// `named` is what the call itself names: it is loaded first. `decide` may run many times, and only its last answer counts.
/// A refusal is verified as a change is, for it rests on what was read.
///
/// # Errors
/// Those of the storage and of the decision. [`Unavailable`](StorageError::Unavailable) when others kept changing the same
/// rows; nothing was applied then.
pub async fn intent<S: Remote, A>(
    storage: &S,
    named: Footprint,
    mut decide: impl FnMut(&mut Workspace) -> Result<A, Gap>,
) -> Result<(A, Vec<Seq>), StorageError> {
    let mut footprint = named;
    for turn in 0..TURNS_MAX {
        let mut work = storage.begin(turn).await?;
        let mut wanted = footprint.clone();
        let mut waves = 0;
        let decided = loop {
            storage.load(&mut work, &wanted).await?;
            work.restart();
            let decided = decide(&mut work);
            if work.wanted().is_empty() {
                break decided;
            }
            waves += 1;
            if waves > WAVES_MAX {
                let why = "a call hangs on a longer chain of rows than one call follows";
                return Err(StorageError::Unsupported(why.to_owned()));
            }
            wanted = work.wanted().clone();
            for (key, rows) in &wanted {
                let most = footprint.entry(key.clone()).or_insert(*rows);
                *most = (*most).max(*rows);
            }
        };
        if decided.is_err() {
            work.restart();
        }
        if let Applied::Done { emptied } = storage.apply(&work).await? {
            return match decided {
                Ok(answer) => Ok((answer, emptied)),
                Err(Gap::Failed(error)) => Err(error),
                Err(Gap::Missing) => {
                    let what = "a decision missed a row that it did not ask for";
                    Err(StorageError::Corrupt(what.to_owned()))
                }
            };
        }
    }
    Err(StorageError::unavailable("others kept changing the rows that this call is about"))
}
