//! A storage that a test can disturb: [`Faulty`] passes every call on to a real one, unless told
//! otherwise, and remembers what was asked.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portfire_core::{
    Answer, Claim, Cleaned, Cycle, CycleRequest, DueRecurring, Fire, Fired, HistoryEntry, JobId,
    Layer, Lost, MemoryStorage, Monitor, NewServer, Promoted, RecurringChange, RecurringChanged,
    RescueRequest, Rescued, Schedule, ServerId, Storage, StorageError, WakeupHub, Wakeups,
};
use portfire_server::Runtime;

use crate::world::World;

/// The calls that can be disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Announce,
    Heartbeat,
    Verify,
    Retire,
    Cycle,
    Rescue,
    Promote,
    Clean,
    History,
    DueRecurring,
    Fire,
    ChangeRecurring,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails before anything is applied, but nobody can know.
    Lost,
    /// It is applied, and its answer is lost.
    AnswerLost,
    /// It fails for sure.
    Full,
    /// It fails, and is applied so much later all the same. For cycles.
    AppliedLater(Duration),
    /// It is applied, and then panics.
    Panics,
    /// It never answers, and is not applied.
    Hangs,
    /// It answers after this time.
    Late(Duration),
}

pub(crate) struct Faulty {
    inner: Arc<MemoryStorage>,
    world: World,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    /// Faults of the next calls of an operation, each once.
    next: VecDeque<(Op, Fault)>,
    /// Faults of all calls of an operation.
    all: Vec<(Op, Fault)>,
    /// How long every cycle takes.
    cycle_takes: Duration,
    /// The recurring job whose schedule cannot be read here.
    garbled: Option<String>,
    /// Whether listeners hear nothing, as those of another process may.
    deaf: bool,
    /// Whether servers state no kinds.
    hides_kinds: bool,
    calls: Vec<(Op, Duration)>,
    cycles: Vec<CycleRequest>,
}

impl Faulty {
    pub(crate) fn new(world: World, inner: MemoryStorage) -> Faulty {
        Faulty { inner: Arc::new(inner), world, plan: Mutex::default() }
    }

    /// Disturbs the next call of an operation; several are disturbed in turn.
    pub(crate) fn next(&self, op: Op, fault: Fault) {
        self.plan.lock().unwrap().next.push_back((op, fault));
    }

    /// Disturbs all calls of an operation until [`heal`](Self::heal).
    pub(crate) fn all(&self, op: Op, fault: Fault) {
        self.plan.lock().unwrap().all.push((op, fault));
    }

    /// Disturbs everything that a server calls.
    pub(crate) fn outage(&self) {
        use Op::{Announce, Clean, Cycle, Heartbeat, Promote, Rescue, Retire, Verify};
        for op in [Announce, Clean, Cycle, Heartbeat, Promote, Rescue, Retire, Verify] {
            self.all(op, Fault::Lost);
        }
    }

    /// Disturbs nothing any more.
    pub(crate) fn heal(&self) {
        let mut plan = self.plan.lock().unwrap();
        plan.all.clear();
        plan.next.clear();
    }

    /// Makes every cycle take time, as a disk does.
    pub(crate) fn cycles_take(&self, time: Duration) {
        self.plan.lock().unwrap().cycle_takes = time;
    }

    /// Lets those who listen from now on hear no wake-up.
    pub(crate) fn deafen(&self) {
        self.plan.lock().unwrap().deaf = true;
    }

    /// Lets servers that are announced from now on state no kinds.
    pub(crate) fn hide_kinds(&self) {
        self.plan.lock().unwrap().hides_kinds = true;
    }

    /// Makes the schedule of a recurring job one that this program cannot read.
    pub(crate) fn garble(&self, recurring: &str) {
        self.plan.lock().unwrap().garbled = Some(recurring.to_owned());
    }

    /// When an operation was called.
    pub(crate) fn calls(&self, op: Op) -> Vec<Duration> {
        let plan = self.plan.lock().unwrap();
        plan.calls.iter().filter(|(called, _)| *called == op).map(|(_, at)| *at).collect()
    }

    /// The cycles that were asked for.
    pub(crate) fn cycles(&self) -> Vec<CycleRequest> {
        self.plan.lock().unwrap().cycles.clone()
    }

    fn fault(&self, op: Op) -> Option<Fault> {
        let mut plan = self.plan.lock().unwrap();
        plan.calls.push((op, self.world.elapsed()));
        let planned = plan.next.iter().position(|(on, _)| *on == op);
        match planned {
            Some(at) => plan.next.remove(at).map(|(_, fault)| fault),
            None => plan.all.iter().find(|(on, _)| *on == op).map(|(_, fault)| *fault),
        }
    }

    fn call<'a, T: Send + 'a>(
        &'a self,
        op: Op,
        call: impl Future<Output = Result<T, StorageError>> + Send + 'a,
    ) -> Answer<'a, T> {
        self.disturbed(self.fault(op), call)
    }

    fn disturbed<'a, T: Send + 'a>(
        &'a self,
        fault: Option<Fault>,
        call: impl Future<Output = Result<T, StorageError>> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            match fault {
                None => call.await,
                Some(Fault::Lost | Fault::AppliedLater(_)) => {
                    Err(StorageError::unavailable("the line is cut"))
                }
                Some(Fault::AnswerLost) => {
                    call.await?;
                    Err(StorageError::unavailable("the answer is lost"))
                }
                Some(Fault::Full) => Err(StorageError::Full("no space left".into())),
                Some(Fault::Panics) => {
                    call.await?;
                    panic!("a bug in the storage")
                }
                Some(Fault::Hangs) => std::future::pending().await,
                Some(Fault::Late(time)) => {
                    self.world.pass(time).await;
                    call.await
                }
            }
        })
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl Layer for Faulty {
    fn inner(&self) -> &dyn Storage {
        &*self.inner
    }

    fn change_recurring(&self, change: RecurringChange) -> Answer<'_, RecurringChanged> {
        self.call(Op::ChangeRecurring, async move { self.inner.change_recurring(change).await })
    }

    fn due_recurring(&self, max: u32) -> Answer<'_, DueRecurring> {
        let garbled = self.plan.lock().unwrap().garbled.clone();
        self.call(Op::DueRecurring, async move {
            let mut due = self.inner.due_recurring(max).await?;
            for record in &mut due.due {
                if garbled.as_deref() == Some(record.definition.id.as_str()) {
                    record.definition.schedule = Schedule::Cron {
                        text: "@daily".to_owned(),
                        zone: "Europe/Atlantis".to_owned(),
                    };
                }
            }
            Ok(due)
        })
    }

    fn fire(&self, plans: Vec<Fire>) -> Answer<'_, Vec<Fired>> {
        self.call(Op::Fire, async move { self.inner.fire(plans).await })
    }

    fn announce(&self, mut server: NewServer) -> Answer<'_, ()> {
        if self.plan.lock().unwrap().hides_kinds {
            server.kinds.clear();
        }
        self.call(Op::Announce, async { self.inner.announce(server).await })
    }

    fn heartbeat(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        self.call(Op::Heartbeat, async { self.inner.heartbeat(server, held).await })
    }

    fn verify(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        self.call(Op::Verify, async { self.inner.verify(server, held).await })
    }

    fn retire(&self, server: ServerId) -> Answer<'_, ()> {
        self.call(Op::Retire, async { self.inner.retire(server).await })
    }

    fn cycle(&self, request: CycleRequest) -> Answer<'_, Cycle> {
        let takes = {
            let mut plan = self.plan.lock().unwrap();
            plan.cycles.push(request.clone());
            plan.cycle_takes
        };
        let fault = self.fault(Op::Cycle);
        if let Some(Fault::AppliedLater(time)) = fault {
            let (inner, world, request) =
                (Arc::clone(&self.inner), self.world.clone(), request.clone());
            let later = async move {
                world.pass(time).await;
                let _ = inner.cycle(request).await;
            };
            self.world.spawn("a late cycle", Box::pin(later));
        }
        self.disturbed(fault, async move {
            let answer = self.inner.cycle(request).await;
            self.world.pass(takes).await;
            answer
        })
    }

    fn rescue(&self, request: RescueRequest) -> Answer<'_, Rescued> {
        self.call(Op::Rescue, async move { self.inner.rescue(request).await })
    }

    fn promote(&self, max: u32) -> Answer<'_, Promoted> {
        self.call(Op::Promote, async move { self.inner.promote(max).await })
    }

    fn clean(&self, max: u32) -> Answer<'_, Cleaned> {
        self.call(Op::Clean, async move { self.inner.clean(max).await })
    }

    fn wakeups(&self) -> Wakeups {
        match self.plan.lock().unwrap().deaf {
            true => WakeupHub::default().subscribe(),
            false => self.inner.wakeups(),
        }
    }

    fn history(&self, id: JobId) -> Answer<'_, Vec<HistoryEntry>> {
        self.call(Op::History, async move { self.inner.history(id).await })
    }
}
