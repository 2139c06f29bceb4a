//! The client for code without a runtime: [`BlockingClient`], and [`block_on`] under it.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::{BatchChanged, BatchId, BatchRecord};
use crate::call::Enqueue;
use crate::client::{
    Batch, Client, ClientError, CreateIn, Lock, LockGuard, Recurring, RecurringJob, Upserted,
};
use crate::continuation::{After, Antecedent};
use crate::job::{JobId, NewJob, When};
use crate::limit::{LimitRule, LimitTarget};
use crate::recurring::{RecurringRecord, RunRecord};
use crate::state::{JobRecord, StateName};
use crate::storage::{Action, Changed, Created};

/// A [`Client`] for code without a runtime. Made by [`Client::blocking`].
///
/// Do not call it from async code: it blocks the thread.
#[derive(Clone, Copy, Debug)]
pub struct BlockingClient<'a> {
    client: &'a Client,
}

impl<'a> BlockingClient<'a> {
    pub(super) fn new(client: &'a Client) -> BlockingClient<'a> {
        BlockingClient { client }
    }
}

impl BlockingClient<'_> {
    /// As [`Client::enqueue`].
    ///
    /// # Errors
    /// As there.
    pub fn enqueue(&self, call: impl Enqueue) -> Result<JobId, ClientError> {
        block_on(self.client.enqueue(call))
    }

    /// As [`Client::enqueue_unique`].
    ///
    /// # Errors
    /// As there.
    pub fn enqueue_unique(&self, call: impl Enqueue) -> Result<Created, ClientError> {
        block_on(self.client.enqueue_unique(call))
    }

    /// As [`Client::schedule`].
    ///
    /// # Errors
    /// As there.
    pub fn schedule(
        &self,
        call: impl Enqueue,
        when: impl Into<When>,
    ) -> Result<JobId, ClientError> {
        block_on(self.client.schedule(call, when))
    }

    /// As [`Client::enqueue_many`].
    ///
    /// # Errors
    /// As there.
    pub fn enqueue_many<E: Enqueue>(
        &self,
        calls: impl IntoIterator<Item = E>,
    ) -> Result<Vec<JobId>, ClientError> {
        block_on(self.client.enqueue_many(calls))
    }

    /// As [`Client::continue_with`], after this end of the parent.
    ///
    /// # Errors
    /// As [`Client::enqueue`], and for a parent that is not stored.
    pub fn continue_with(
        &self,
        parent: impl Into<Antecedent>,
        on: After,
        call: impl Enqueue,
    ) -> Result<JobId, ClientError> {
        block_on(self.client.continue_with(parent, call).on(on).store())
    }

    /// As [`Batch::enqueue`]: `client.blocking().enqueue_batch(Batch::new("import").add(..))`.
    ///
    /// # Errors
    /// As there.
    pub fn enqueue_batch<C>(&self, batch: Batch<'_, C>) -> Result<BatchId, ClientError> {
        block_on(batch.without_client().1.store(self.client, None))
    }

    /// As [`Client::add_to_batch`].
    ///
    /// # Errors
    /// As there.
    pub fn add_to_batch(&self, batch: BatchId, call: impl Enqueue) -> Result<JobId, ClientError> {
        block_on(self.client.add_to_batch(batch, call))
    }

    /// As [`Client::cancel_batch`].
    ///
    /// # Errors
    /// As there.
    pub fn cancel_batch(&self, batch: BatchId) -> Result<BatchChanged, ClientError> {
        block_on(self.client.cancel_batch(batch))
    }

    /// As [`Client::batch_record`].
    ///
    /// # Errors
    /// As there.
    pub fn batch_record(&self, batch: BatchId) -> Result<Option<BatchRecord>, ClientError> {
        block_on(self.client.batch_record(batch))
    }

    /// As [`Recurring::upsert`]:
    /// `client.blocking().upsert(Recurring::new("nightly", "0 3 * * *", sweep()))`.
    ///
    /// # Errors
    /// As there.
    pub fn upsert<C>(&self, recurring: Recurring<C>) -> Result<Upserted, ClientError> {
        block_on(recurring.store(self.client))
    }

    /// The recurring job of this name.
    pub fn recurring_job(&self, id: &str) -> BlockingRecurringJob {
        BlockingRecurringJob { job: self.client.recurring_job(id) }
    }

    /// As [`Client::set_limit`].
    ///
    /// # Errors
    /// As there.
    pub fn set_limit(
        &self,
        target: LimitTarget,
        rule: impl Into<Option<LimitRule>>,
    ) -> Result<(), ClientError> {
        block_on(self.client.set_limit(target, rule))
    }

    /// Takes a lock, and waits for it as long as it [says](Lock::wait).
    ///
    /// # Errors
    /// As [`Lock::try_acquire`], and [`ClientError::LockTaken`].
    pub fn acquire(&self, lock: Lock) -> Result<LockGuard, ClientError> {
        let started = Instant::now();
        let release = |release| block_on(release);
        block_on(lock.acquire_with(sleep, || started.elapsed(), Some(release)))
    }

    /// As [`Client::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(&self, jobs: Vec<NewJob>) -> Result<Vec<Created>, ClientError> {
        block_on(self.client.create(jobs))
    }

    /// As [`Client::enqueue_in`].
    ///
    /// # Errors
    /// As there.
    pub fn enqueue_in<S: 'static, T: CreateIn<S> + ?Sized>(
        &self,
        transaction: &mut T,
        call: impl Enqueue,
    ) -> Result<JobId, ClientError> {
        block_on(self.client.enqueue_in(transaction, call))
    }

    /// As [`Client::change_if`].
    ///
    /// # Errors
    /// As there.
    pub fn change_if(
        &self,
        job: JobId,
        action: Action,
        states: impl IntoIterator<Item = StateName>,
    ) -> Result<Changed, ClientError> {
        block_on(self.client.change_if(job, action, states))
    }

    /// As [`Client::requeue`].
    ///
    /// # Errors
    /// As there.
    pub fn requeue(&self, job: JobId) -> Result<Changed, ClientError> {
        block_on(self.client.requeue(job))
    }

    /// As [`Client::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, job: JobId) -> Result<Changed, ClientError> {
        block_on(self.client.delete(job))
    }

    /// As [`Client::reschedule`].
    ///
    /// # Errors
    /// As there.
    pub fn reschedule(&self, job: JobId, when: impl Into<When>) -> Result<Changed, ClientError> {
        block_on(self.client.reschedule(job, when))
    }

    /// As [`Client::job`].
    ///
    /// # Errors
    /// As there.
    pub fn job(&self, job: JobId) -> Result<Option<JobRecord>, ClientError> {
        block_on(self.client.job(job))
    }
}

/// A [`RecurringJob`] for code without a runtime. Made by [`BlockingClient::recurring_job`].
#[derive(Clone, Debug)]
pub struct BlockingRecurringJob {
    job: RecurringJob,
}

impl BlockingRecurringJob {
    /// As [`RecurringJob::trigger`].
    ///
    /// # Errors
    /// As there.
    pub fn trigger(&self) -> Result<JobId, ClientError> {
        block_on(self.job.trigger())
    }

    /// As [`RecurringJob::pause`].
    ///
    /// # Errors
    /// As there.
    pub fn pause(&self) -> Result<bool, ClientError> {
        block_on(self.job.pause())
    }

    /// As [`RecurringJob::pause_until`].
    ///
    /// # Errors
    /// As there.
    pub fn pause_until(
        &self,
        until: impl Into<crate::clock::Timestamp>,
    ) -> Result<bool, ClientError> {
        block_on(self.job.pause_until(until))
    }

    /// As [`RecurringJob::resume`].
    ///
    /// # Errors
    /// As there.
    pub fn resume(&self) -> Result<bool, ClientError> {
        block_on(self.job.resume())
    }

    /// As [`RecurringJob::remove`].
    ///
    /// # Errors
    /// As there.
    pub fn remove(&self) -> Result<bool, ClientError> {
        block_on(self.job.remove())
    }

    /// As [`RecurringJob::record`].
    ///
    /// # Errors
    /// As there.
    pub fn record(&self) -> Result<Option<RecurringRecord>, ClientError> {
        block_on(self.job.record())
    }

    /// As [`RecurringJob::runs`].
    ///
    /// # Errors
    /// As there.
    pub fn runs(&self, max: u32) -> Result<Vec<RunRecord>, ClientError> {
        block_on(self.job.runs(max))
    }
}

/// Sleeps on a thread of its own, so that [`block_on`] can wait for something else meanwhile.
async fn sleep(time: Duration) {
    let (done, sleeping) = tokio::sync::oneshot::channel();
    let spawned = std::thread::Builder::new().name("portfire-wait".to_owned()).spawn(move || {
        std::thread::sleep(time);
        _ = done.send(());
    });
    match spawned {
        Ok(_) => _ = sleeping.await,
        // Without a second thread this one sleeps, and hears of a release when it wakes.
        Err(_) => std::thread::sleep(time),
    }
}

/// Runs a future on this thread, parking it while the future waits.
///
/// For futures that need no runtime, as those of the embedded storages.
pub fn block_on<F: Future>(future: F) -> F::Output {
    use std::task::{Context, Poll, Wake, Waker};

    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
        fn wake_by_ref(self: &Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocking_waits_for_another_thread() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || sender.send(5).ok());
        assert_eq!(block_on(receiver), Ok(5));
        thread.join().unwrap();
    }
}
