//! [`Moved`]: a transition that this process has caused, told after its commit to those who [listen](Transitions).
//!
//! It is for what has to happen beside a transition: an alert, a metric, a page that is live. The history is the record:
//! what is told here is lost when the process dies first, and a listener that is too slow misses some.

use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast::{self, error::RecvError};

use crate::job::{JobId, KindName, QueueName};
use crate::state::{HistoryEntry, StateName};

/// How many commits a listener may be behind before it misses the oldest.
const BEHIND_MAX: usize = 1_024;

/// A transition of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moved {
    /// The job.
    pub job: JobId,
    /// Its kind.
    pub kind: KindName,
    /// Its queue.
    pub queue: QueueName,
    /// The state that it left; `None` when it was created.
    pub from: Option<StateName>,
    /// What the history says of the transition: the state that it entered, when and why. It is never folded here.
    pub entry: HistoryEntry,
}

impl Moved {
    /// A transition from one state to that of the entry.
    pub fn new(
        job: JobId,
        kind: KindName,
        queue: QueueName,
        from: Option<StateName>,
        entry: HistoryEntry,
    ) -> Moved {
        Moved { job, kind, queue, from, entry }
    }
}

/// Where a storage tells of the transitions that it has committed.
#[derive(Debug, Default)]
pub struct TransitionHub {
    /// There is none before the first listener, so a storage without any pays nothing.
    sender: OnceLock<broadcast::Sender<Arc<[Moved]>>>,
}

impl TransitionHub {
    /// Whether anyone listens, so that noting transitions is worth its while.
    pub fn is_heard(&self) -> bool {
        self.sender.get().is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// Tells of the transitions of one commit, in their order.
    pub fn tell(&self, moved: Vec<Moved>) {
        if let Some(sender) = self.sender.get()
            && !moved.is_empty()
        {
            // Nobody may listen any more.
            let _ = sender.send(moved.into());
        }
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> Transitions {
        let sender = self.sender.get_or_init(|| broadcast::Sender::new(BEHIND_MAX));
        Transitions { receiver: Some(sender.subscribe()) }
    }
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The transitions of one commit, in their order.
    Moved(Arc<[Moved]>),
    /// The transitions of so many commits were missed, because the listener was too slow.
    Missed(u64),
}

/// A listener to transitions. Made by [`Storage::transitions`](crate::Storage::transitions).
#[derive(Debug)]
pub struct Transitions {
    receiver: Option<broadcast::Receiver<Arc<[Moved]>>>,
}

impl Transitions {
    /// A listener that hears nothing, of a storage that does not tell.
    pub fn none() -> Transitions {
        Transitions { receiver: None }
    }

    /// Waits for the next commit that moves jobs. Never returns after the storage is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Heard {
        if let Some(receiver) = &mut self.receiver {
            match receiver.recv().await {
                Ok(moved) => return Heard::Moved(moved),
                Err(RecvError::Lagged(missed)) => return Heard::Missed(missed),
                Err(RecvError::Closed) => {}
            }
        }
        std::future::pending().await
    }

    /// What is there already; `None` when that is nothing.
    pub fn try_next(&mut self) -> Option<Heard> {
        use broadcast::error::TryRecvError;
        match self.receiver.as_mut()?.try_recv() {
            Ok(moved) => Some(Heard::Moved(moved)),
            Err(TryRecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}
