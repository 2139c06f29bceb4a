//! Who of this process writes next: [`Turns`], for the writer and the transactions of running jobs.
//!
//! SQLite lets in whoever asks at the right moment. That does between a few processes; a hundred
//! transactions that keep asking in one process would starve each other, the writer, and the processor.
//! So here they stand in a line, and one of them at a time asks SQLite. The writer stands before it: it
//! waits for one transaction at most, however many there are, and so do heartbeats.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use portfire_core::{Claim, JobId, StorageError};
use tokio::sync::oneshot;

/// The one turn of a process, and who waits for it.
#[derive(Default)]
pub(crate) struct Turns(Mutex<State>);

#[derive(Default)]
struct State {
    taken: bool,
    /// The attempt whose transaction has the turn.
    holder: Option<Claim>,
    /// The writer, which is next.
    writer: Option<mpsc::Sender<Turn>>,
    line: VecDeque<(Claim, oneshot::Sender<Turn>)>,
}

/// The right to ask SQLite for its write lock. It goes on when this is dropped.
pub(crate) struct Turn(Option<Arc<Turns>>);

/// A transaction of this job has had the turn for longer than the writer waits.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) job: Option<JobId>,
    pub(crate) waited: Duration,
}

impl Turns {
    /// A turn for a transaction of this attempt, behind those that came before.
    ///
    /// # Cancel safety
    /// Whoever stops waiting is passed over.
    pub(crate) async fn of_job(self: &Arc<Self>, claim: Claim) -> Result<Turn, StorageError> {
        let next = {
            let mut state = self.lock();
            if state.holder.is_some_and(|holder| holder == claim) {
                return Err(StorageError::Unsupported(format!(
                    "job {} has a transaction open already, and a second one would wait for it: \
                     complete or drop the first",
                    claim.job
                )));
            }
            if !state.taken {
                (state.taken, state.holder) = (true, Some(claim));
                return Ok(self.turn());
            }
            let (turn, next) = oneshot::channel();
            state.line.push_back((claim, turn));
            next
        };
        next.await.map_err(|_| StorageError::Closed)
    }

    /// The turn for the writer: the next one.
    pub(crate) fn of_writer(self: &Arc<Self>, patience: Duration) -> Result<Turn, Held> {
        let next = {
            let mut state = self.lock();
            if !state.taken {
                state.taken = true;
                return Ok(self.turn());
            }
            let (turn, next) = mpsc::channel();
            state.writer = Some(turn);
            next
        };
        next.recv_timeout(patience).map_err(|_| {
            let mut state = self.lock();
            state.writer = None;
            Held { job: state.holder.map(|claim| claim.job), waited: patience }
        })
    }

    /// Gives the turn to the next that still waits for it.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            state.holder = None;
            let refused = if let Some(writer) = state.writer.take() {
                drop(state);
                writer.send(self.turn()).err().map(|unsent| unsent.0)
            } else if let Some((claim, next)) = state.line.pop_front() {
                state.holder = Some(claim);
                drop(state);
                next.send(self.turn()).err()
            } else {
                state.taken = false;
                return;
            };
            match refused {
                None => return,
                // Nobody waits there any more: it does not go on by itself, but here.
                Some(mut turn) => turn.0 = None,
            }
        }
    }

    fn turn(self: &Arc<Self>) -> Turn {
        Turn(Some(Arc::clone(self)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The transaction is about to end: its attempt may ask for another one.
    pub(crate) fn ends(&self) {
        if let Some(turns) = &self.0 {
            turns.lock().holder = None;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portfire_core::client::block_on;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn claim() -> Claim {
        Claim::new(JobId::from_bytes([7; 16]), 1)
    }

    fn polled<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn jobs_come_in_order_the_writer_first_and_who_left_is_passed_over() {
        let turns = Arc::new(Turns::default());
        let of = |n: u32| Claim { attempt: n, ..claim() };
        let first = block_on(turns.of_job(of(1))).unwrap();
        let mut second = pin!(turns.of_job(of(2)));
        let mut left: Vec<_> = (0..20_000).map(|n| Box::pin(turns.of_job(of(9 + n)))).collect();
        let mut third = pin!(turns.of_job(of(3)));
        assert!(polled(second.as_mut()).is_pending());
        assert!(left.iter_mut().all(|waiter| polled(waiter.as_mut()).is_pending()));
        assert!(polled(third.as_mut()).is_pending());
        drop(left);

        std::thread::scope(|scope| {
            let writer = scope.spawn(|| turns.of_writer(Duration::from_secs(60)).is_ok());
            while turns.lock().writer.is_none() {
                std::thread::yield_now();
            }
            drop(first);
            assert!(writer.join().unwrap());
        });
        let Poll::Ready(Ok(turn)) = polled(second.as_mut()) else { panic!("its turn") };
        assert!(polled(third.as_mut()).is_pending(), "one at a time");
        drop(turn);
        assert!(matches!(polled(third.as_mut()), Poll::Ready(Ok(_))));
        assert!(!turns.lock().taken);
    }

    #[test]
    fn who_waits_in_vain_hears_whose_transaction_is_open() {
        let turns = Arc::new(Turns::default());
        let turn = block_on(turns.of_job(claim())).unwrap();
        let held = turns.of_writer(Duration::ZERO).err().unwrap();
        assert_eq!(held.job, Some(claim().job));
        let second = block_on(turns.of_job(claim())).err().unwrap().to_string();
        assert!(second.contains("a transaction open already"), "{second}");
        turn.ends();
        let mut again = pin!(turns.of_job(claim()));
        assert!(polled(again.as_mut()).is_pending(), "the first is on its way out");
        drop(turn);
        assert!(matches!(polled(again.as_mut()), Poll::Ready(Ok(_))));
        assert!(turns.of_writer(Duration::ZERO).is_ok());
    }
}
