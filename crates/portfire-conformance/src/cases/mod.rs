//! The cases, in files by what they are about. A case is an async function that gets a [`Stage`] with
//! an empty storage and panics when the storage breaks the sentence over it.
//!
//! [`Stage`]: crate::stage::Stage

pub mod batch_expiry;
pub mod batches;
pub mod change;
pub mod circles;
pub mod claim;
pub mod clock;
pub mod continuations;
pub mod counters;
pub mod cycle;
pub mod enqueue;
pub mod expiry;
pub mod explain;
pub mod failed_parents;
pub mod faults;
pub mod finish;
pub mod hints;
pub mod history;
pub mod kinds;
pub mod lease;
pub mod limits;
pub mod lists;
pub mod locks;
pub mod moved;
pub mod notes;
pub mod occurrences;
pub mod open_batches;
pub mod pass;
pub mod rates;
pub mod recurring;
pub mod releases;
pub mod reopen;
pub mod repeats;
pub mod retry;
pub mod schedule;
pub mod second;
pub mod servers;
pub mod steering;
pub mod suspects;
pub mod together;
pub mod unique;
