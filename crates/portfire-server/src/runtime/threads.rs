//! Threads for work that blocks: [`Threads`], which keeps those that are idle for a while.
//!
//! Not tokio's own pool: a tokio runtime waits at its end for everything that runs there, so one
//! handler that ignores its cancellation would keep the process from ending. These threads end with
//! the process.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

/// How long an idle thread waits for more work.
const KEPT: Duration = Duration::from_secs(10);

/// Work that blocks.
pub(super) type Work = Box<dyn FnOnce() + Send>;

/// A pool that has as many threads as there is work at a time. Its users bound that.
pub(super) struct Threads {
    shared: Arc<Shared>,
}

struct Shared {
    /// The work may use tokio's timers and tasks, as on tokio's own threads.
    tokio: Handle,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    idle: usize,
    closed: bool,
}

impl Threads {
    /// No threads yet.
    pub(super) fn new(tokio: Handle) -> Threads {
        let (state, arrived) = (Mutex::default(), Condvar::new());
        Threads { shared: Arc::new(Shared { tokio, state, arrived }) }
    }

    /// Runs work on an idle thread, or on a new one.
    ///
    /// # Errors
    /// When the system has no more threads; the work is dropped.
    pub(super) fn run(&self, work: Work) -> io::Result<()> {
        let mut state = self.shared.lock();
        // Each idle thread takes one; what waits already is promised to some of them.
        if state.idle > state.waiting.len() {
            state.waiting.push_back(work);
            drop(state);
            self.shared.arrived.notify_one();
            return Ok(());
        }
        drop(state);
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("portfire-blocking".to_owned());
        thread.spawn(move || shared.work(work)).map(|_| ())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.arrived.notify_all();
    }
}

impl Shared {
    /// What a thread does from its first work to its end.
    fn work(&self, first: Work) {
        let _inside = self.tokio.enter();
        let mut next = Some(first);
        while let Some(work) = next {
            work();
            next = self.next();
        }
    }

    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        state.idle += 1;
        let nothing = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let waited = self.arrived.wait_timeout_while(state, KEPT, nothing);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.idle -= 1;
        state.waiting.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Threads({} idle)", self.shared.lock().idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn work_shares_threads_one_after_the_other_and_never_waits_for_one() {
        let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let threads = Threads::new(tokio.handle().clone());
        let (done, all_done) = mpsc::channel();
        // Each waits for the next: they must all run at a time.
        let mut go_on: Option<mpsc::Sender<()>> = None;
        for n in 0..8 {
            let (go, wait) = mpsc::channel::<()>();
            let (done, next) = (done.clone(), go_on.replace(go));
            let work = move || {
                if n < 7 {
                    wait.recv().unwrap();
                }
                if let Some(next) = next {
                    next.send(()).unwrap();
                }
                done.send(n).unwrap();
            };
            threads.run(Box::new(work)).unwrap();
        }
        let mut ended: Vec<i32> = (0..8).map(|_| all_done.recv().unwrap()).collect();
        ended.sort_unstable();
        assert_eq!(ended, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn work_may_use_tokio() {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let threads = Threads::new(tokio.handle().clone());
        let (done, is_done) = mpsc::channel();
        let work = move || done.send(Handle::try_current().is_ok()).unwrap();
        threads.run(Box::new(work)).unwrap();
        assert_eq!(is_done.recv(), Ok(true));
    }
}
