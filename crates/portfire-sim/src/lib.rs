//! Deterministic simulation of the shipped code of Portfire: server, dispatcher, heartbeat, promoter,
//! rescuer, cleaner and client run under one seeded scheduler in virtual time, on the storage in
//! memory behind a way that loses, delays and repeats.
//!
//! A seed decides everything: how many servers and jobs there are, which faults happen how often and
//! when, and in which order ready tasks run. The same seed gives the same run, step by step, on
//! every machine. What must hold is written down as named rules ([`Invariant`]) and looked at after
//! each step where that is cheap, and at the end. Planted faults ([`Mutant`]) show that the rules and
//! the seeds are sharp enough to find them; coverage marks ([`Mark`]) show that the rare situations
//! are met.
//!
//! ```
//! let report = portfire_sim::simulate(7, portfire_sim::Options::default());
//! assert_eq!(report.violation, None);
//! assert_eq!(report.hash, portfire_sim::simulate(7, portfire_sim::Options::default()).hash);
//! ```
//!
//! From a shell: `cargo xtask sim` runs 5,000 seeds, `cargo xtask sim --seed 7` replays one and
//! shows its trace, `cargo xtask sim --mutant finish-ignores-state` plants a fault.
//!
//! # How a world is put together
//! - `executor.rs`, `timers.rs`, `runtime.rs`: tasks, virtual time, and processes that can be crashed
//!   at any await, paused beyond their lease, resumed, slowed down and given a skewed clock.
//! - `truth.rs`, `ledger.rs`, `invariants.rs`: the one storage; what is known of it from watching its
//!   answers, kept by other code than its own; and the rules.
//! - `faulty.rs`: the way of a process to the storage.
//! - `hosts.rs`, `place.rs`, `handlers.rs`, `effects.rs`: machines that start and restart servers,
//!   the handlers they run, and the log of what the handlers did.
//! - `ties.rs`, `tied.rs`: who waits for whom, batches, limits and unique keys, as the ledger knows them
//!   and as clients make them. `recurring.rs`: the instants of recurring jobs, by counting.
//! - `torn.rs`: the engine over rows that are loaded in pieces while other calls commit; a world of its own.
//! - `workload.rs`, `nemesis.rs`, `plan.rs`, `scenario.rs`: clients, disasters, what a seed draws, and
//!   the run from its trouble to its end.
//!
//! # What is not simulated
//! Other storages (the conformance suite compares them with the one in memory), threads (each step
//! of a task is one step of the world), and ids that are used again after their job was cleaned.

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
mod recurring;
mod rng;
mod runtime;
mod scenario;
mod sync;
mod tied;
mod ties;
mod timers;
mod torn;
mod trace;
mod truth;
mod workload;
mod world;

pub use invariants::{Invariant, Violation};
pub use marks::{Mark, Marks};
pub use mutants::{Mutant, UnknownMutant};
pub use scenario::{Options, Report, simulate};
pub use torn::{TornMutant, TornReport, torn, torn_seeds};
