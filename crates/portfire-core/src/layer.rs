//! [`Layer`]: a storage around another one, which changes some calls and passes on the others.
//!
//! The calls of [`Storage`] and [`Monitor`] are listed here once more, in [`each_call!`](crate::each_call), for those who
//! do the same to all of them.

use std::any::Any;
use std::fmt;

use crate::monitor::Monitor;
use crate::moved::Transitions;
use crate::storage::{Answer, Storage, StorageInfo};
use crate::wakeup::Wakeups;

/// Hands all calls of [`Storage`] (`writes`) or of [`Monitor`] (`reads`) to a macro, as `name(argument: Type) -> Answer;`.
///
/// Of the reads `now` and `skew` are not among them, nor are `wakeups`, `transitions` and `info`, which ask for
/// nothing that is stored.
///
/// ```
/// macro_rules! names {
///     ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => { [$(stringify!($name)),*] };
/// }
/// assert!(portfire_core::each_call!(reads names).contains(&"counts"));
/// ```
#[macro_export]
macro_rules! each_call {
    (writes $to:ident $($before:tt)*) => {
        $to! {
            $($before)*
            create_batches(
                batches: Vec<$crate::NewBatch>,
                jobs: Vec<$crate::NewJob>
            ) -> Vec<$crate::Created>;
            change_batch(
                batch: $crate::BatchId,
                change: $crate::BatchChange
            ) -> $crate::BatchChanged;
            change_recurring(change: $crate::RecurringChange) -> $crate::RecurringChanged;
            due_recurring(max: u32) -> $crate::DueRecurring;
            fire(plans: Vec<$crate::Fire>) -> Vec<$crate::Fired>;
            set_limit(target: $crate::LimitTarget, rule: Option<$crate::LimitRule>) -> ();
            lock(request: $crate::LockRequest) -> $crate::LockAnswer;
            announce(server: $crate::NewServer) -> ();
            heartbeat(server: $crate::ServerId, held: Vec<$crate::Claim>) -> Vec<$crate::Lost>;
            verify(server: $crate::ServerId, held: Vec<$crate::Claim>) -> Vec<$crate::Lost>;
            retire(server: $crate::ServerId) -> ();
            cycle(request: $crate::CycleRequest) -> $crate::Cycle;
            rescue(request: $crate::RescueRequest) -> $crate::Rescued;
            promote(max: u32) -> $crate::Promoted;
            change(changes: Vec<$crate::Change>) -> Vec<$crate::Changed>;
            clean(max: u32) -> $crate::Cleaned;
            set_queue_paused(queue: $crate::QueueName, paused: bool) -> ();
        }
    };
    (reads $to:ident $($before:tt)*) => {
        $to! {
            $($before)*
            counts() -> $crate::Counts;
            job(id: $crate::JobId) -> Option<$crate::JobRecord>;
            history(id: $crate::JobId) -> Vec<$crate::HistoryEntry>;
            jobs(filter: $crate::JobFilter) -> $crate::JobPage;
            queues() -> Vec<$crate::QueueRecord>;
            kinds() -> Vec<$crate::KindRecord>;
            waiting(id: $crate::JobId) -> Option<$crate::WaitingRecord>;
            continuations(on: $crate::Antecedent, max: u32) -> Vec<$crate::Continuation>;
            batch(id: $crate::BatchId) -> Option<$crate::BatchRecord>;
            batches(filter: $crate::BatchFilter) -> $crate::BatchPage;
            recurring(id: $crate::RecurringId) -> Option<$crate::RecurringRecord>;
            recurring_jobs(filter: $crate::RecurringFilter) -> $crate::RecurringPage;
            runs(id: $crate::RecurringId, max: u32) -> Vec<$crate::RunRecord>;
            limits() -> Vec<$crate::LimitRecord>;
            limit_keys(limit: $crate::LimitName) -> Vec<$crate::KeyRecord>;
            locks() -> Vec<$crate::LockRecord>;
            notes(id: $crate::JobId) -> $crate::NotesRecord;
            log(id: $crate::JobId, after: Option<$crate::Cursor>, max: u32) -> $crate::LogPage;
            servers() -> Vec<$crate::ServerRecord>;
            statistics(
                bucket: $crate::Bucket,
                since: $crate::Timestamp
            ) -> Vec<$crate::StatisticsRecord>;
        }
    };
}

macro_rules! layer {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// A storage around another one: each call goes to [`inner`](Layer::inner), but for those that it defines itself.
        ///
        /// What it defines has the contract of the call of the same name in [`Storage`] and [`Monitor`]. A call that
        /// creates jobs comes to [`create_batches`](Layer::create_batches), with or without batches.
        ///
        /// ```
        /// use portfire_core::storage::Answer;
        /// use portfire_core::{Layer, MemoryStorage, Promoted, Storage};
        ///
        /// /// A storage in which no instant ever comes.
        /// #[derive(Debug)]
        /// struct Timeless(MemoryStorage);
        ///
        /// impl Layer for Timeless {
        ///     fn inner(&self) -> &dyn Storage {
        ///         &self.0
        ///     }
        ///
        ///     fn promote(&self, _max: u32) -> Answer<'_, Promoted> {
        ///         Box::pin(async { Ok(Promoted::default()) })
        ///     }
        /// }
        ///
        /// let storage: Box<dyn Storage> = Box::new(Timeless(MemoryStorage::new()));
        /// assert_eq!(storage.info().name, "memory");
        /// ```
        pub trait Layer: Any + fmt::Debug + Send + Sync + 'static {
            /// The storage that the calls go to.
            fn inner(&self) -> &dyn Storage;

            /// See [`Monitor::now`].
            fn now(&self) -> Answer<'_, crate::Timestamp> {
                self.inner().now()
            }

            /// See [`Monitor::skew`].
            fn skew(&self) -> Answer<'_, std::time::Duration> {
                self.inner().skew()
            }

            /// See [`Storage::wakeups`].
            fn wakeups(&self) -> Wakeups {
                self.inner().wakeups()
            }

            /// See [`Storage::transitions`].
            fn transitions(&self) -> Transitions {
                self.inner().transitions()
            }

            /// See [`Storage::info`].
            fn info(&self) -> StorageInfo {
                self.inner().info()
            }

            $(
                /// See the call of this name in [`Storage`] or [`Monitor`].
                fn $name(&self, $($argument: $type),*) -> Answer<'_, $answer> {
                    self.inner().$name($($argument),*)
                }
            )*
        }
    };
}

each_call!(writes each_call reads layer);

macro_rules! pass_on {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(
            fn $name(&self, $($argument: $type),*) -> Answer<'_, $answer> {
                Layer::$name(self, $($argument),*)
            }
        )*
    };
}

impl<L: Layer> Storage for L {
    each_call!(writes pass_on);

    fn wakeups(&self) -> Wakeups {
        Layer::wakeups(self)
    }

    fn transitions(&self) -> Transitions {
        Layer::transitions(self)
    }

    fn info(&self) -> StorageInfo {
        Layer::info(self)
    }
}

impl<L: Layer> Monitor for L {
    each_call!(reads pass_on);

    fn now(&self) -> Answer<'_, crate::Timestamp> {
        Layer::now(self)
    }

    fn skew(&self) -> Answer<'_, std::time::Duration> {
        Layer::skew(self)
    }
}
