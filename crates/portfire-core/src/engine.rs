//! The engine: every rule of Portfire, once. It decides; a storage keeps rows.
//!
//! For those who write a storage. Most users never meet this module.
//!
//! There are two sorts of rules. A rule about one thing is a pure function over plain structs: `now` and the rows that it
//! looks at are its arguments, and it answers with what is to be stored. A rule that leads from row to row (an end releases
//! children, a child ends a batch, the batch releases its own children) is decided over the trait [`Rows`]: what a storage
//! reads and writes inside one call. So a rule is the same under every storage, in the simulator and in the tests, and its
//! bounds and texts stand beside it.
//!
//! | file | decides |
//! |---|---|
//! | `moves` | what a transition of a job means for its run, its children, its unique key and its batch |
//! | `create`, `admission` | what a call may store, and what new jobs and batches wait for and belong to |
//! | `cycles` | which member would wait for its own batch |
//! | `links` | what the end of a parent makes of its children |
//! | `starts` | what the start of a batch makes of its members |
//! | `batches` | when a batch starts, ends, goes on, fails for good and is cancelled |
//! | `sweeps` | how the members of a cancelled batch are deleted |
//! | `due` | how much of all that one call does, and what is left to promotions |
//! | [`changes`] | in which order an explicit change of a job is judged |
//! | [`attempts`] | what a finish, or a note, of an attempt is worth, and why a claim is lost |
//! | [`history`] | which entries of a history are folded into one |
//! | [`kinds`] | which jobs a server is given, and since when no server has a kind |
//! | [`limits`] | which keys a job is under, whether they have room, and when that changes |
//! | [`unique`] | what a new job meets whose key is held, and how long a key is held |
//! | [`recurring`] | what definitions, plans, runs and overlaps of recurring jobs come to |
//! | [`notes`] | what of a job's log, bars, tags and metadata is kept |
//! | [`locks`] | who gets a lock, and for how long |
//! | [`pages`] | how large a page is, and what its cursor says |
//!
//! What a crash proves about a job is in [`suspects`](crate::suspects).
//!
//! A storage behind a network has its calls decided over a [`Workspace`] of loaded rows, in the loop of [`intent`].
//!
//! Rules that came before the engine stay where they are: the state machine in [`transition`](crate::transition), the plan
//! of a recurring job in [`recurring::plan`](crate::recurring::plan), the arithmetic of rates in
//! [`limit::RateWindow`](crate::limit::RateWindow), the search of dependencies that bite their own tail in
//! [`circle`](crate::circle).
//!
//! **To add a rule**: write its sentence into the [contract](crate::storage), find the file whose noun it is about, write it
//! there with its table of cases, and add its case to `portfire-conformance`. When it needs a row that nobody reads yet, add
//! a read or a [`RowChange`] to [`Rows`], with the sentence that says what a storage does for it.

mod admission;
pub mod attempts;
mod batches;
pub mod changes;
mod create;
mod cycles;
mod due;
pub mod history;
mod intents;
pub mod kinds;
mod layer;
pub mod limits;
mod links;
pub mod locks;
mod moves;
pub mod notes;
pub mod pages;
pub mod recurring;
mod rows;
mod starts;
mod sweeps;
pub mod unique;
mod workspace;
mod writes;

pub use batches::{NEVER_SEALED, cancel, cancellation, change_batch, end_emptied, member_removed};
pub use create::{check_new, create, is_alone};
pub use due::{expire, put_off, settle, work_off};
pub use intents::{Applied, Remote, TURNS_MAX, WAVES_MAX, intent};
pub use moves::{is_derived, must, transit};
pub use rows::{
    Agenda, Batch, Broken, Child, Due, Facts, Fault, FirstRow, Job, Move, Node, Number, Numbers,
    Origin, Position, Ran, Reach, RowChange, Rows, Seq, Starter, StateRow, Sweep, Taken, Waiter,
    What,
};
pub use sweeps::{delete_member, sweep};
pub use workspace::{Drawn, Setting, Workspace};
pub use writes::{
    BatchRow, Footprint, Gap, JobMoved, JobRow, Key, Link, Loaded, OwnedFacts, Write,
};

/// What another row says to be there.
fn must_be<T, E: From<Broken>>(found: Option<T>, what: impl FnOnce() -> String) -> Result<T, E> {
    found.ok_or_else(|| Broken(what()).into())
}
