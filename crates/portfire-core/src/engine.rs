//! The engine: every rule of Portfire, once. It decides; a storage keeps rows.
//!
//! For those who write a storage. Most users never meet this module.
//!
//! A rule is a pure function over plain structs. It reads no clock and no storage: `now` comes in as an
//! argument, and so do the rows that it looks at. It answers with what is to be stored, or with the answer to
//! the caller. A storage reads the rows, asks, and writes what it is told, all in one commit. So a rule is the
//! same under every storage, in the simulator and in the tests, and its bounds and texts stand beside it.
//!
//! Each submodule is a noun, and holds all rules about it. Rules that came before the engine stay where they
//! are: the state machine in [`transition`](crate::transition), the plan of a recurring job in
//! [`recurring::plan`](crate::recurring::plan), the arithmetic of rates in
//! [`limit::RateWindow`](crate::limit::RateWindow), dependencies that bite their own tail in
//! [`circle`](crate::circle).
//!
//! To add a rule: write its sentence into the [contract](crate::storage), its function and a table of its
//! cases here, its case into `portfire-conformance`, and call it from each storage.

pub mod recurring;
