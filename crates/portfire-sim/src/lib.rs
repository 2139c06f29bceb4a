//! Deterministic simulation of the shipped code of Portfire.

mod executor;
mod rng;
mod runtime;
mod sync;
mod timers;
mod trace;
