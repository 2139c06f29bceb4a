//! Deterministic simulation of the shipped code of Portfire.

mod effects;
mod executor;
mod faulty;
mod handlers;
mod hosts;
mod invariants;
mod ledger;
mod marks;
mod mutants;
mod nemesis;
mod panics;
mod place;
mod plan;
mod rng;
mod runtime;
mod scenario;
mod sync;
mod timers;
mod trace;
mod truth;
mod workload;
mod world;

pub use invariants::{Invariant, Violation};
pub use marks::{Mark, Marks};
pub use mutants::{Mutant, UnknownMutant};
pub use scenario::{Options, Report, simulate};
