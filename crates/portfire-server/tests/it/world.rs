//! A runtime in virtual time: [`World`] runs all tasks of a test on one thread, and moves its clock
//! only when nothing can go on without it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use portfire_core::{BoxFuture, Clock, Timestamp};
use portfire_server::{Runtime, TaskHandle};
use tokio::sync::watch;

/// Virtual time that no test needs: one that gets there is stuck.
const LIMIT: Duration = Duration::from_secs(30 * 86_400);
/// Polls that no test needs.
const POLLS_MAX: u64 = 3_000_000;
/// Real time that a thread of a blocking handler may take.
const THREAD_MAX: Duration = Duration::from_secs(20);

/// The runtime and the clock of a test. Cheap to clone.
#[derive(Clone)]
pub(crate) struct World {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    progress: Condvar,
}

#[derive(Default)]
struct State {
    now: Duration,
    next_id: u64,
    tasks: BTreeMap<u64, Task>,
    ready: VecDeque<u64>,
    timers: BTreeMap<(Duration, u64), Waker>,
    /// Threads of blocking handlers that work, as opposed to wait for the test.
    threads: usize,
    random: u64,
}

type Task = BoxFuture<'static, ()>;

impl World {
    pub(crate) fn new() -> World {
        let shared = Shared { state: Mutex::default(), progress: Condvar::new() };
        World { shared: Arc::new(shared) }
    }

    /// Runs a test to its end.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        test: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let result = Arc::new(Mutex::new(None));
        let to = Arc::clone(&result);
        let test = async move {
            let outcome = test.await;
            *to.lock().unwrap() = Some(outcome);
        };
        self.start(Box::pin(test));
        let mut polls = 0;
        while result.lock().unwrap().is_none() {
            polls += 1;
            assert!(polls < POLLS_MAX, "the test goes round in circles at {:?}", self.elapsed());
            match self.next_ready() {
                Some(task) => self.poll(task),
                None => self.move_on(),
            }
        }
        let left = std::mem::take(&mut self.lock().tasks);
        // Dropped outside of the lock: what a task holds may reach for the world.
        drop(left);
        result.lock().unwrap().take().unwrap()
    }

    /// Lets virtual time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        self.sleep(time).await;
    }

    /// Waits, for at most a virtual minute, until something holds.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..60_000 {
            if holds() {
                return;
            }
            self.pass(Duration::from_millis(1)).await;
        }
        panic!("within a minute it did not come to this: {what}");
    }

    /// Runs something that blocks the thread of a blocking handler until the test lets it go on, so
    /// that virtual time does not wait for it.
    pub(crate) fn parked<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.lock().threads -= 1;
        self.shared.progress.notify_all();
        let result = wait();
        self.lock().threads += 1;
        result
    }

    fn start(&self, task: Task) -> u64 {
        let mut state = self.lock();
        state.next_id += 1;
        let id = state.next_id;
        state.tasks.insert(id, task);
        state.ready.push_back(id);
        id
    }

    fn next_ready(&self) -> Option<u64> {
        self.lock().ready.pop_front()
    }

    fn poll(&self, id: u64) {
        // Taken out while it is polled: it may start and end others.
        let Some(mut task) = self.lock().tasks.remove(&id) else { return };
        let waker = Waker::from(Arc::new(WakeTask { world: self.clone(), id }));
        let mut context = Context::from_waker(&waker);
        if task.as_mut().poll(&mut context).is_pending() {
            self.lock().tasks.insert(id, task);
        }
    }

    /// Nothing is ready: waits for threads that work, else moves the clock to the next timer.
    fn move_on(&self) {
        let mut state = self.lock();
        while state.ready.is_empty() && state.threads > 0 {
            let (woken, timeout) = self
                .shared
                .progress
                .wait_timeout(state, THREAD_MAX)
                .unwrap_or_else(PoisonError::into_inner);
            assert!(!timeout.timed_out(), "a blocking handler hangs; let it wait in `parked`");
            state = woken;
        }
        if !state.ready.is_empty() {
            return;
        }
        let Some(((due, _), waker)) = state.timers.pop_first() else {
            panic!("nothing can go on, and nothing is waited for");
        };
        assert!(due < LIMIT, "the test waits for more than {LIMIT:?}");
        state.now = state.now.max(due);
        drop(state);
        waker.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct WakeTask {
    world: World,
    id: u64,
}

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        let mut state = self.world.lock();
        if !state.ready.contains(&self.id) {
            state.ready.push_back(self.id);
        }
        drop(state);
        self.world.shared.progress.notify_all();
    }
}

impl Runtime for World {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        let (stop, mut stopped) = watch::channel(false);
        let (end, mut ended) = watch::channel(());
        self.start(Box::pin(async move {
            // Dropped when the task ends, however it ends.
            let _end = end;
            tokio::select! {
                biased;
                // A handle that is dropped leaves its task running.
                Ok(_) = stopped.wait_for(|stop| *stop) => {}
                () = task => {}
            }
        }));
        let stop = Arc::new(stop);
        TaskHandle::new(move || _ = stop.send(true), async move {
            while ended.changed().await.is_ok() {}
        })
    }

    fn spawn_apart(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        self.spawn(name, task)
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.lock().threads += 1;
        let world = self.clone();
        std::thread::spawn(move || {
            work();
            world.lock().threads -= 1;
            world.shared.progress.notify_all();
        });
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let mut state = self.lock();
        state.next_id += 1;
        let key = (state.now.saturating_add(time), state.next_id);
        Box::pin(Sleep { world: self.clone(), key, over: time.is_zero() })
    }

    fn elapsed(&self) -> Duration {
        self.lock().now
    }

    fn random(&self) -> u64 {
        let mut state = self.lock();
        // SplitMix64.
        state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn process_id(&self) -> u32 {
        7
    }
}

struct Sleep {
    world: World,
    key: (Duration, u64),
    over: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.world.lock();
        if self.over || state.now >= self.key.0 {
            return Poll::Ready(());
        }
        state.timers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.world.lock().timers.remove(&self.key);
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_767_225_600_000_000).saturating_add(self.elapsed())
    }

    fn passed(&self) -> Option<Duration> {
        Some(self.elapsed())
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World at {:?}", self.elapsed())
    }
}
