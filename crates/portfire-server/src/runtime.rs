//! How the server reaches time, tasks and randomness: [`Runtime`], with tokio behind it.
//!
//! The server calls nothing of tokio's but `tokio::sync`, which needs no runtime, so the shipped
//! code also runs under the simulator's scheduler in virtual time. This file and the threads below it
//! are the only ones of the crate that spawn, sleep, or read a clock.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portfire_core::BoxFuture;

mod threads;

use threads::Threads;

/// What a server needs of the world around it.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Starts a task.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle;

    /// Starts a task where no other task can hold it up: on a thread of its own.
    fn spawn_apart(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle;

    /// Runs code that blocks, on a thread that may block. Drops it when there is none to be had.
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>);

    /// Waits.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// Time since some fixed moment; never goes back, and goes on while the process is stopped.
    fn elapsed(&self) -> Duration;

    /// 64 random bits.
    fn random(&self) -> u64;

    /// The number of this process, for the ids of its servers.
    fn process_id(&self) -> u32 {
        std::process::id()
    }
}

/// A task that was started. Dropping the handle leaves the task running.
pub struct TaskHandle {
    abort: Box<dyn Fn() + Send + Sync>,
    ended: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl TaskHandle {
    /// A handle that ends the task by `abort` and learns of its end by `ended`.
    pub fn new(
        abort: impl Fn() + Send + Sync + 'static,
        ended: impl Future<Output = ()> + Send + Sync + 'static,
    ) -> TaskHandle {
        TaskHandle { abort: Box::new(abort), ended: Box::pin(ended) }
    }

    /// Drops the task at its next await.
    pub fn abort(&self) {
        (self.abort)();
    }

    /// Waits until the task has ended, by itself, by a panic or by [`abort`](Self::abort).
    pub async fn ended(self) {
        self.ended.await;
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskHandle")
    }
}

/// The real world: tokio's tasks and timers, the operating system's threads, clock and randomness.
#[derive(Debug, Clone)]
pub struct TokioRuntime {
    handle: tokio::runtime::Handle,
    threads: Arc<Threads>,
    started: Instant,
}

impl TokioRuntime {
    /// The tokio runtime that this is called in.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn current() -> TokioRuntime {
        TokioRuntime::of(tokio::runtime::Handle::current())
    }

    /// The tokio runtime that this is called in, if it is called in one.
    pub fn try_current() -> Option<TokioRuntime> {
        tokio::runtime::Handle::try_current().ok().map(TokioRuntime::of)
    }

    fn of(handle: tokio::runtime::Handle) -> TokioRuntime {
        let threads = Arc::new(Threads::new(handle.clone()));
        TokioRuntime { handle, threads, started: Instant::now() }
    }
}

impl Runtime for TokioRuntime {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        let task = self.handle.spawn(task);
        let abort = task.abort_handle();
        TaskHandle::new(move || abort.abort(), async move {
            let _ = task.await;
        })
    }

    fn spawn_apart(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        let (end, mut ended) = tokio::sync::watch::channel(false);
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let work = move || {
            // The sender is dropped when the thread ends, however it ends.
            let _end = end;
            let alone = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match alone {
                Ok(alone) => alone.block_on(async move {
                    tokio::select! {
                        biased;
                        // A handle that is dropped leaves its task running.
                        Ok(_) = stopped.wait_for(|stop| *stop) => {}
                        () = task => {}
                    }
                }),
                Err(error) => tracing::error!(%error, "no runtime for the thread {name}"),
            }
        };
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            tracing::error!(%error, "no thread for {name}");
        }
        TaskHandle::new(move || _ = stop.send(true), async move {
            while ended.changed().await.is_ok() {}
        })
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        if let Err(error) = self.threads.run(work) {
            tracing::error!(%error, "no thread for a blocking handler");
        }
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        // The timer belongs to the runtime that polls it: the heartbeat's thread has one of its own.
        Box::pin(async move { tokio::time::sleep(time).await })
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn random(&self) -> u64 {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(0u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_outlives_its_handle_and_ends_when_it_is_aborted() {
        let runtime = TokioRuntime::current();
        for start in [TokioRuntime::spawn, TokioRuntime::spawn_apart] {
            let (go, wait) = tokio::sync::oneshot::channel::<()>();
            let (done, is_done) = tokio::sync::oneshot::channel();
            let task = async move {
                let _ = wait.await;
                let _ = done.send(5);
            };
            drop(start(&runtime, "left alone", Box::pin(task)));
            go.send(()).unwrap();
            assert_eq!(is_done.await, Ok(5));

            let aborted = start(&runtime, "aborted", Box::pin(std::future::pending()));
            aborted.abort();
            aborted.ended().await;
        }
    }

    #[tokio::test]
    async fn the_clock_goes_on_and_sleeps_last() {
        let runtime = TokioRuntime::current();
        let before = runtime.elapsed();
        runtime.sleep(Duration::from_millis(5)).await;
        assert!(runtime.elapsed() - before >= Duration::from_millis(5));
    }
}
