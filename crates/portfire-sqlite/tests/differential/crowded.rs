//! A database that is used through several handles in turn, in a crowd: each operation is handed in
//! together with others that are refused or find nothing to do, so that it shares its commit with
//! them and must not feel it. In company several operations that change something share one.

use std::any::Any;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use portfire_conformance::differential::Grouped;

use portfire_core::{
    Action, Answer, Change, Changed, CycleRequest, JobId, Json, KindName, Layer, Monitor, NewJob,
    QueueName, ServerId, Storage, StorageError, Timestamp,
};
use portfire_sqlite::{HeldCommits, SqliteStorage};

/// Two handles on one file, as two processes have.
#[derive(Debug)]
pub(crate) struct Crowded {
    handles: [SqliteStorage; 2],
    turn: AtomicUsize,
    /// The handle whose commits are held back: all goes to it, and nobody else joins.
    held: Mutex<Option<usize>>,
}

/// The same, when the test says what shares a commit.
pub(crate) struct InCompany(pub(crate) Arc<Crowded>);

impl Grouped for InCompany {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.0) as Arc<dyn Storage>
    }

    fn hold(&self) -> Box<dyn Any + Send> {
        let place = self.0.turn.fetch_add(1, Ordering::Relaxed) % self.0.handles.len();
        *self.0.held.lock().unwrap() = Some(place);
        let commits = self.0.handles[place].hold_commits();
        Box::new(Company { of: Arc::clone(&self.0), _commits: commits })
    }

    fn commits(&self) -> Option<u64> {
        Some(self.0.handles.iter().map(SqliteStorage::commits).sum())
    }
}

/// Ends the company, and then lets the commit be made.
struct Company {
    of: Arc<Crowded>,
    _commits: HeldCommits,
}

impl Drop for Company {
    fn drop(&mut self) {
        *self.of.held.lock().unwrap() = None;
    }
}

impl Crowded {
    pub(crate) fn new(handles: [SqliteStorage; 2]) -> Crowded {
        Crowded { handles, turn: AtomicUsize::new(0), held: Mutex::default() }
    }

    fn handle(&self) -> &SqliteStorage {
        let held = *self.held.lock().unwrap();
        let next = || self.turn.fetch_add(1, Ordering::Relaxed) % self.handles.len();
        &self.handles[held.unwrap_or_else(next)]
    }

    /// Does an operation in the crowd.
    fn write<'a, T: Send + 'a>(
        &'a self,
        operation: impl FnOnce(&'a SqliteStorage) -> Answer<'a, T>,
    ) -> Answer<'a, T> {
        let handle = self.handle();
        let mut answer = operation(handle);
        if self.held.lock().unwrap().is_some() {
            return answer;
        }
        Box::pin(async move {
            // A process that was told no instant need not hold time up when the clock goes back.
            for handle in &self.handles {
                handle.now().await?;
            }
            let mut before = refused(handle);
            let mut after = idle(handle);
            let mut done = None;
            let (mut before_done, mut after_done) = (false, false);
            poll_fn(|cx| {
                before_done = before_done || poll_checked(&mut before, cx).is_ready();
                if done.is_none()
                    && let Poll::Ready(answer) = answer.as_mut().poll(cx)
                {
                    done = Some(answer);
                }
                after_done = after_done || poll_checked(&mut after, cx).is_ready();
                match done.take_if(|_| before_done && after_done) {
                    Some(answer) => Poll::Ready(answer),
                    None => Poll::Pending,
                }
            })
            .await
        })
    }
}

fn poll_checked(crowd: &mut Answer<'_, ()>, cx: &mut std::task::Context<'_>) -> Poll<()> {
    crowd.as_mut().poll(cx).map(|done| done.expect("the crowd is answered as it should be"))
}

/// A create that is refused after half of it was written, in a queue and of a kind that come to be
/// by it and must be gone with it.
fn refused(handle: &SqliteStorage) -> Answer<'_, ()> {
    let id = JobId::from_bytes([0xff; 16]);
    let kind = KindName::stored("refused");
    let mut one = NewJob::new(id, kind.clone(), Json::stored("1"));
    one.queue = QueueName::stored("refused");
    let mut other = one.clone();
    other.args = Json::stored("2");
    Box::pin(async move {
        match handle.create(vec![one, other]).await {
            Err(StorageError::IdTaken { job }) => {
                assert_eq!(job, id);
                Ok(())
            }
            other => panic!("{other:?}"),
        }
    })
}

/// Operations that find nothing to do.
fn idle(handle: &SqliteStorage) -> Answer<'_, ()> {
    Box::pin(async move {
        let nobody = ServerId::new("nobody");
        let cycle = handle.cycle(CycleRequest::new(nobody, 1)).await;
        assert!(matches!(cycle, Err(StorageError::ServerGone { .. })), "{cycle:?}");
        let job = JobId::from_bytes([0xff; 16]);
        let change = Change { job, action: Action::Requeue, expect: None };
        assert_eq!(handle.change(vec![change]).await?, [Changed::Missing]);
        Ok(())
    })
}

macro_rules! in_the_crowd {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(
            fn $name(&self, $($argument: $type),*) -> Answer<'_, $answer> {
                self.write(|handle| handle.$name($($argument),*))
            }
        )*
    };
}

impl Layer for Crowded {
    fn inner(&self) -> &dyn Storage {
        self.handle()
    }

    portfire_core::each_call!(writes in_the_crowd);

    fn now(&self) -> Answer<'_, Timestamp> {
        self.write(|handle| Monitor::now(handle))
    }

    fn skew(&self) -> Answer<'_, Duration> {
        self.write(|handle| Monitor::skew(handle))
    }
}
