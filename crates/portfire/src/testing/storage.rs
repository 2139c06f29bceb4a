//! The storage of a test: memory, which in inline mode runs what it has just stored.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use portfire_core::storage::Answer;
use portfire_core::{
    Created, Layer, MemoryStorage, NewBatch, NewJob, RecurringChange, RecurringChanged, Storage,
};

use super::runner::Runner;

#[derive(Debug)]
pub(super) struct TestStorage {
    memory: Arc<MemoryStorage>,
    inline: Mutex<Inline>,
}

/// The runner of inline mode. It has a client, which has this storage, so this must not own it.
#[derive(Default)]
struct Inline(Option<Weak<Runner>>);

impl std::fmt::Debug for Inline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "inline" } else { "stored" })
    }
}

impl TestStorage {
    pub(super) fn new(memory: Arc<MemoryStorage>) -> TestStorage {
        TestStorage { memory, inline: Mutex::default() }
    }

    /// Runs what is due after everything that creates jobs.
    pub(super) fn run_at_once(&self, runner: &Arc<Runner>) {
        self.lock().0 = Some(Arc::downgrade(runner));
    }

    fn runner(&self) -> Option<Arc<Runner>> {
        self.lock().0.as_ref().and_then(Weak::upgrade)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inline> {
        self.inline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layer for TestStorage {
    fn inner(&self) -> &dyn Storage {
        &*self.memory
    }

    fn create_batches(
        &self,
        batches: Vec<NewBatch>,
        jobs: Vec<NewJob>,
    ) -> Answer<'_, Vec<Created>> {
        Box::pin(async move {
            let created = self.memory.create_batches(batches, jobs).await?;
            if let Some(runner) = self.runner() {
                runner.drain().await;
            }
            Ok(created)
        })
    }

    fn change_recurring(&self, change: RecurringChange) -> Answer<'_, RecurringChanged> {
        Box::pin(async move {
            let changed = self.memory.change_recurring(change).await?;
            if let (RecurringChanged::Triggered(_), Some(runner)) = (&changed, self.runner()) {
                runner.drain().await;
            }
            Ok(changed)
        })
    }
}
