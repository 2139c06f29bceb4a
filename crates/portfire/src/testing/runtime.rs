//! The world of a test: time is the manual clock, randomness is counted, threads are tokio's.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portfire_core::{BoxFuture, Client, Clock, ManualClock, Timestamp};
use portfire_server::{Runtime, TaskHandle, TokioRuntime};
use tokio::sync::watch;

use crate::global::ThreadGlobal;

pub(super) struct VirtualRuntime {
    clock: Arc<ManualClock>,
    started: Timestamp,
    /// Tells sleepers that the clock was moved.
    moves: watch::Sender<()>,
    random: AtomicU64,
    /// The global client of the threads that blocking handlers run on.
    client: Client,
}

impl VirtualRuntime {
    pub(super) fn new(clock: Arc<ManualClock>, client: Client) -> VirtualRuntime {
        let started = clock.now();
        let (moves, random) = (watch::Sender::new(()), AtomicU64::new(0));
        VirtualRuntime { clock, started, moves, random, client }
    }

    /// The clock was moved.
    pub(super) fn moved(&self) {
        self.moves.send_replace(());
    }
}

impl Runtime for VirtualRuntime {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        TokioRuntime::current().spawn(name, task)
    }

    fn spawn_apart(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        self.spawn(name, task)
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        let client = self.client.clone();
        let work = move || {
            let _global = ThreadGlobal::set(client);
            work();
        };
        match tokio::runtime::Handle::try_current() {
            Ok(tokio) => _ = tokio.spawn_blocking(work),
            // A test on some other runtime: nothing else runs meanwhile anyway.
            Err(_) => work(),
        }
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let (clock, until) = (self.clock.clone(), self.clock.now().saturating_add(time));
        let mut moves = self.moves.subscribe();
        Box::pin(async move {
            while clock.now() < until {
                if moves.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        })
    }

    fn elapsed(&self) -> Duration {
        self.clock.now().since(self.started)
    }

    fn random(&self) -> u64 {
        // The same numbers in every run of the test, spread over all bits (SplitMix64).
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl fmt::Debug for VirtualRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualRuntime").field("clock", &self.clock).finish_non_exhaustive()
    }
}
