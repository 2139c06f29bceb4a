//! The suite that every storage of Portfire passes: one named case for each sentence of the contract
//! in `portfire_core::storage` and `portfire_core::monitor`.
//!
//! # Holding a storage to it
//! A storage's own tests say how a fresh, empty storage is made; [`suite!`] makes a `#[test]` of
//! every case:
//!
//! ```
//! // my-storage/tests/conformance.rs
//! use std::sync::Arc;
//!
//! use portfire_conformance::ManualFixture;
//! use portfire_core::{ManualClock, MemoryStorage};
//!
//! async fn fixture() -> ManualFixture {
//!     let clock = Arc::new(ManualClock::default());
//!     ManualFixture::new(Arc::new(MemoryStorage::with_clock(clock.clone())), clock)
//! }
//!
//! portfire_conformance::suite!(fixture, clock);
//! # fn main() {}
//! ```
//!
//! A storage that outlives its process is made by a closure that can open it again on the same data:
//!
//! ```
//! # use std::sync::Arc;
//! # use portfire_conformance::ManualFixture;
//! # use portfire_core::{Clock, MemoryStorage, Storage};
//! # async fn open(_: std::path::PathBuf, clock: Arc<dyn Clock>) -> MemoryStorage { MemoryStorage::with_clock(clock) }
//! # fn tempdir() -> std::path::PathBuf { std::env::temp_dir() }
//! async fn fixture() -> ManualFixture {
//!     let dir = tempdir();
//!     let path = dir.join("jobs.db");
//!     ManualFixture::opening(move |clock| {
//!         let path = path.clone();
//!         async move { Arc::new(open(path, clock).await) as Arc<dyn Storage> }
//!     })
//!     .await
//!     .keeping(dir)
//! }
//! ```
//!
//! A capability that does not exist is refused:
//!
//! ```compile_fail
//! # async fn fixture() -> portfire_conformance::ManualFixture { loop {} }
//! portfire_conformance::suite!(fixture, telepathy);
//! ```
//!
//! A storage that takes its time from a database implements [`Fixture`] itself and moves that time.
//!
//! After each case the harness [audits](audit) the storage: counters equal a recount, batches know
//! their members, nothing waits for what has ended, every history is whole and legal.
//!
//! # Capabilities
//! Cases that not every storage can be asked stand under a capability, which the suite is given by
//! name. The test `conformance_count` prints how many cases apply, and each that does not, by name.
//!
//! | capability | what the fixture can do |
//! |---|---|
//! | `clock` | [`set_clock_back`](Fixture::set_clock_back): the storage goes by the host's clock |
//! | `reopen` | [`reopen`](Fixture::reopen): the data outlives a process |
//! | `second` | [`second`](Fixture::second): several processes share the data |
//! | `hints` | as `second`, and wake-ups of other handles are heard |
//!
//! # Names
//! Cases keep the names of the catalogue that the project was planned with, in our words:
//! `epoch` is `attempt`, `sweep` is `rescue`, `version` is `revision`, `type` is `kind`,
//! `not_found` is `missing`, `unregister` is `retire`. Further:
//! `claim_sets_owner_and_lease` is `claim_sets_owner` (the lease is the server's, see
//! `server_register`); `claim_requeued_keeps_seq` is `claim_released_keeps_place` and
//! `claim_rescued_keeps_place` (a requeue goes to the end); `heartbeat_reports_cancel` is
//! `heartbeat_reports_delete`. Of the catalogue's groups, recurring stands in `recurring`, `steering`
//! and `occurrences`, continuations in `continuations`, `pass` and `releases`, batches in `batches`,
//! `open_batches` and `batch_expiry`, and unique keys, limits and locks in `unique`, `limits`, `rates`
//! and `locks`. `lock_timeout` keeps its name, though no storage waits for a lock.
//!
//! # Names that live elsewhere
//! - With the server, because they need workers, kinds or deadlines:
//!   `claim_queue_weighted_no_starvation`, `claim_only_known_types`,
//!   `claim_blocking_wakes_on_enqueue`, `cancel_request_cooperative_ignored`,
//!   `slow_storage_no_false_expiry_before_ttl`.
//! - With the SQL storages, because they need a transaction, a file or a connection:
//!   `enqueue_in_user_tx_commit_visible`, `enqueue_in_user_tx_rollback_invisible`,
//!   `enqueue_in_user_tx_not_claimable_before_commit`, `claim_skips_row_locked_by_other`,
//!   `migrate_empty`, `migrate_twice_noop`, `migrate_8_concurrent`,
//!   `migrate_from_each_old_version`, `newer_schema_refused_clearly`,
//!   `connection_lost_mid_claim_recovers`, `deadlock_retried`, `serialization_failure_retried`,
//!   `pool_exhausted_error_not_hang`, `disk_full_error_then_recovers`, `read_only_storage_error`.
//! - With a later feature: `queue_rename_keeps_jobs` waits for a rename of queues.
//! - With the bench, because they measure: `monitoring_on_5m_rows_under_100ms`.

pub mod audit;
pub mod cases;
pub mod count;
pub mod differential;
pub mod fixture;
pub mod list;
pub mod model;
mod odd;
mod random;
pub mod run;
pub mod server;
pub mod stage;
mod wait;

pub use fixture::{Fixture, Fixtures, ManualFixture};
pub use run::run;

/// Makes one `#[test]` for each case that applies to a storage, in modules by group, and
/// `conformance_count`, which tells how many there are.
///
/// The first argument is an async function (or a closure that returns a future) without parameters
/// that makes a [`Fixture`] on a fresh, empty storage. Capabilities of the storage follow by name:
/// `clock`, `reopen`, `second`, `hints`. See the [crate](crate) for an example. Two suites in one
/// file each need a module of their own.
#[macro_export]
macro_rules! suite {
    ($factory:expr $(, $capability:ident)* $(,)?) => {
        fn conformance_fixtures() -> $crate::Fixtures {
            $crate::Fixtures::new($factory)
        }

        #[test]
        fn conformance_count() {
            $crate::count::count(&[$(stringify!($capability)),*]);
        }

        $crate::__cases!(always, __tests);
        $($crate::__cases!($capability, __tests);)*
    };
}
