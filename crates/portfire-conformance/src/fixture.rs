//! What a storage's tests hand to the suite: a fresh storage and a way to move its time.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portfire_core::{BoxFuture, Clock, ManualClock, Storage};

/// A storage under test. Each case gets one of its own, empty.
///
/// [`ManualFixture`] serves every storage that takes its time from a [`Clock`]. A storage that lives
/// by the time of a database implements this itself and moves that time.
pub trait Fixture: Send + Sync + 'static {
    /// The storage; the same one until [`reopen`](Self::reopen).
    fn storage(&self) -> Arc<dyn Storage>;

    /// Moves storage time forward by exactly this much.
    fn advance(&self, by: Duration) -> BoxFuture<'_, ()>;

    /// How long a hint may take at most before a case calls it lost. Bounds a wait and measures
    /// nothing. Default: 20 s, for machines that are busy.
    fn hint_max(&self) -> Duration {
        Duration::from_secs(20)
    }

    /// Moves the host's clock back. Only for suites that name the capability `clock`.
    fn set_clock_back(&self, by: Duration) -> BoxFuture<'_, ()> {
        panic!(
            "this fixture cannot move its clock back by {by:?}: leave out the capability `clock`"
        )
    }

    /// Closes the storage and opens it again on the same data, as after a restart;
    /// [`storage`](Self::storage) then gives the new one. Only for suites that name `reopen`.
    fn reopen(&self) -> BoxFuture<'_, ()> {
        panic!("this fixture cannot reopen its storage: leave out the capability `reopen`")
    }

    /// Opens the same data a second time, as another process would. Only for suites that name
    /// `second` or `hints`.
    fn second(&self) -> BoxFuture<'_, Arc<dyn Storage>> {
        panic!("this fixture opens its storage only once: leave out `second` and `hints`")
    }
}

type Open = dyn Fn(Arc<dyn Clock>) -> BoxFuture<'static, Arc<dyn Storage>> + Send + Sync;

/// A fixture for storages that take their time from a [`ManualClock`].
pub struct ManualFixture {
    clock: Arc<ManualClock>,
    /// Empty only while it is being reopened.
    storage: Mutex<Option<Arc<dyn Storage>>>,
    open: Option<Box<Open>>,
    hint_max: Duration,
    /// What must live as long as the storage, such as its directory. Dropped last.
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl ManualFixture {
    /// A storage that lives in this process only, on this clock.
    pub fn new(storage: Arc<dyn Storage>, clock: Arc<ManualClock>) -> ManualFixture {
        ManualFixture {
            clock,
            storage: Mutex::new(Some(storage)),
            open: None,
            hint_max: Duration::from_secs(20),
            kept: Vec::new(),
        }
    }

    /// A storage that can be opened again, and several times at once, on the same data: `open` opens
    /// it and is called with the clock it must use.
    pub async fn opening<F, O>(open: F) -> ManualFixture
    where
        F: Fn(Arc<dyn Clock>) -> O + Send + Sync + 'static,
        O: Future<Output = Arc<dyn Storage>> + Send + 'static,
    {
        let clock = Arc::new(ManualClock::default());
        let storage = open(clock.clone()).await;
        let open: Box<Open> = Box::new(move |clock| Box::pin(open(clock)));
        let mut fixture = ManualFixture::new(storage, clock);
        fixture.open = Some(open);
        fixture
    }

    /// Calls a hint lost after this time. See [`Fixture::hint_max`].
    #[must_use]
    pub fn hint_max(mut self, hint_max: Duration) -> ManualFixture {
        self.hint_max = hint_max;
        self
    }

    /// Keeps something alive as long as the storage, such as the directory it lies in.
    #[must_use]
    pub fn keeping(mut self, kept: impl Any + Send + Sync) -> ManualFixture {
        self.kept.push(Box::new(kept));
        self
    }

    fn open(&self) -> BoxFuture<'static, Arc<dyn Storage>> {
        let open = self.open.as_ref().expect("made by `ManualFixture::opening`, not by `new`");
        open(self.clock.clone())
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<dyn Storage>>> {
        self.storage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fixture for ManualFixture {
    fn storage(&self) -> Arc<dyn Storage> {
        self.slot().clone().expect("no case runs while the storage is reopened")
    }

    fn advance(&self, by: Duration) -> BoxFuture<'_, ()> {
        self.clock.advance(by);
        Box::pin(std::future::ready(()))
    }

    fn hint_max(&self) -> Duration {
        self.hint_max
    }

    fn set_clock_back(&self, by: Duration) -> BoxFuture<'_, ()> {
        self.clock.set(self.clock.now().saturating_sub(by));
        Box::pin(std::future::ready(()))
    }

    fn reopen(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // The old one is closed first: a restart does not overlap with what it restarts.
            let old = self.slot().take();
            drop(old);
            let new = self.open().await;
            *self.slot() = Some(new);
        })
    }

    fn second(&self) -> BoxFuture<'_, Arc<dyn Storage>> {
        self.open()
    }
}

impl Drop for ManualFixture {
    fn drop(&mut self) {
        // Before what is kept for it: its files are closed when the directory goes.
        self.slot().take();
    }
}

impl fmt::Debug for ManualFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualFixture").field("storage", &self.storage).finish_non_exhaustive()
    }
}

/// Makes fixtures: what the argument of [`suite!`](crate::suite) becomes.
#[derive(Clone)]
pub struct Fixtures {
    make: Arc<dyn Fn() -> BoxFuture<'static, Arc<dyn Fixture>> + Send + Sync>,
}

impl Fixtures {
    /// Takes the factory of a suite.
    pub fn new<F, M, X>(factory: F) -> Fixtures
    where
        F: Fn() -> M + Send + Sync + 'static,
        M: Future<Output = X> + Send + 'static,
        X: Fixture,
    {
        let make = move || -> BoxFuture<'static, Arc<dyn Fixture>> {
            let making = factory();
            Box::pin(async move { Arc::new(making.await) as Arc<dyn Fixture> })
        };
        Fixtures { make: Arc::new(make) }
    }

    pub(crate) async fn make(&self) -> Arc<dyn Fixture> {
        (self.make)().await
    }
}

impl fmt::Debug for Fixtures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixtures").finish_non_exhaustive()
    }
}
