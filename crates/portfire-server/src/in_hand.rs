//! The jobs that a pool has in hand: [`InHand`] stands between its dispatcher and its workers.
//!
//! Jobs come in *ready* (fetched, not started), are *running* in a slot, and leave *done* (ended, not
//! yet reported). Whatever happens to a job between its claim and its finish happens here, under one
//! short lock, so that a job is always in exactly one of the three.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portfire_core::{CancelReason, Claim, ClaimedJob, Finish, JobId, Lost, LostReason, Outcome};
use tokio::sync::Notify;

use crate::context::{CancellationSource, CancellationToken, JobContext};
use crate::lease::Lease;
use crate::prefetch::Pace;
use crate::runtime::Runtime;

/// Most jobs that are fetched ahead.
pub(crate) const AHEAD_MAX: usize = 1_024;

/// Most jobs that one cycle claims: half of what may be ready, so that the workers have the other
/// half while the storage is at work.
const CLAIM_MAX: usize = AHEAD_MAX / 2;

/// Most finishes that one cycle reports.
const FINISH_MAX: usize = 1_024;

/// How long a job may wait here for a worker before it is given back, if more wait than the pool has
/// workers: other servers may have time for it.
const READY_MAX: Duration = Duration::from_secs(1);

/// The jobs of one pool.
pub(crate) struct InHand {
    state: Mutex<State>,
    /// Tells the idle workers of a lane that there is something for them.
    arrivals: [Notify; 2],
    /// Tells the dispatcher that there is something to report, or room for more.
    departures: Notify,
    /// Tells whoever waits for the end that an errand has been delivered.
    calm: Notify,
    lease: Arc<Lease>,
    runtime: Arc<dyn Runtime>,
}

/// Which of a pool's two kinds of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneName {
    /// For async handlers.
    Async,
    /// For handlers that block a thread.
    Blocking,
}

/// The place of one worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) lane: LaneName,
    pub(crate) slot: usize,
}

struct State {
    /// Under which of the server's ids the jobs were claimed.
    incarnation: u64,
    lanes: [Lane; 2],
    done: Vec<Done>,
    /// Nothing is started any more.
    closed: bool,
    /// The dispatcher has nothing to do and wants to be told when it has.
    dispatcher_waits: bool,
    errands: Errands,
    /// What the errand that is under way reports.
    reporting: Vec<Claim>,
    released: u64,
    /// Jobs that were in hand and turned out to be another's, or nobody's, any more.
    lost: u64,
}

struct Lane {
    ready: VecDeque<Ready>,
    slots: Vec<Slot>,
    busy: usize,
    idle: usize,
    pace: Pace,
}

struct Ready {
    job: ClaimedJob,
    since: Duration,
}

enum Slot {
    Free,
    Running {
        claim: Claim,
        source: CancellationSource,
    },
    /// What runs is no longer an attempt: it is reported, but its thread has not returned; or its
    /// job was lost with the server's former id.
    Lingering,
}

/// A job that a worker is to run.
pub(crate) struct Assigned {
    pub(crate) job: ClaimedJob,
    pub(crate) token: CancellationToken,
    pub(crate) incarnation: u64,
}

/// A job that has ended and is to be reported.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) finish: Finish,
    pub(crate) incarnation: u64,
    /// For those who want to hear of it once it is stored.
    pub(crate) context: Option<JobContext>,
}

/// What a dispatcher is to do next.
pub(crate) struct Errand {
    pub(crate) incarnation: u64,
    pub(crate) done: Vec<Done>,
    /// Jobs to claim.
    pub(crate) want: u32,
}

/// How far a dispatcher is with its errands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Errands {
    begun: u64,
    under_way: bool,
}

impl Errands {
    /// Whether no errand is under way any more that had begun at an earlier time.
    pub(crate) fn are_past(self, earlier: Errands) -> bool {
        !self.under_way || self.begun > earlier.begun
    }
}

/// What a pool has in hand, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InHandCounts {
    pub(crate) ready: usize,
    pub(crate) running: usize,
    pub(crate) done: usize,
    pub(crate) released: u64,
    pub(crate) lost: u64,
}

// It is matched where it is made: a box would cost each job an allocation.
#[allow(clippy::large_enum_variant)]
enum Take {
    Job(Assigned),
    Nothing,
    Closed,
}

impl InHand {
    pub(crate) fn new(
        lease: Arc<Lease>,
        runtime: Arc<dyn Runtime>,
        workers: usize,
        blocking_workers: usize,
    ) -> InHand {
        let lanes = [Lane::new(workers), Lane::new(blocking_workers)];
        let state = State {
            incarnation: lease.holder().incarnation,
            lanes,
            done: Vec::new(),
            closed: false,
            dispatcher_waits: false,
            errands: Errands::default(),
            reporting: Vec::new(),
            released: 0,
            lost: 0,
        };
        let arrivals = [Notify::new(), Notify::new()];
        let (departures, calm) = (Notify::new(), Notify::new());
        InHand { state: Mutex::new(state), arrivals, departures, calm, lease, runtime }
    }

    // The worker's side.

    /// Waits for the worker's next job; `None` when there will be none. What it has done is put down
    /// in the same step.
    pub(crate) async fn next(&self, seat: Seat, mut done: Option<Done>) -> Option<Assigned> {
        loop {
            // Made before the look, so that what comes in between is heard.
            let arrival = self.arrivals[seat.lane as usize].notified();
            match self.take(seat, done.take()) {
                Take::Job(assigned) => return Some(assigned),
                Take::Closed => return None,
                Take::Nothing => arrival.await,
            }
            self.lock().lanes[seat.lane as usize].idle -= 1;
        }
    }

    /// Puts down what a worker has done while its slot is still taken by a thread.
    pub(crate) fn linger(&self, seat: Seat, done: Done) {
        let now = self.runtime.elapsed();
        let mut state = self.lock();
        state.put_down(seat, done, now);
        let lane = &mut state.lanes[seat.lane as usize];
        lane.slots[seat.slot] = Slot::Lingering;
        lane.busy += 1;
        self.wake_dispatcher(state);
    }

    /// The thread has returned.
    pub(crate) fn stop_lingering(&self, seat: Seat) {
        let mut state = self.lock();
        state.lanes[seat.lane as usize].free(seat.slot);
        self.wake_dispatcher(state);
    }

    fn take(&self, seat: Seat, done: Option<Done>) -> Take {
        let now = self.runtime.elapsed();
        let mut state = self.lock();
        let anything_done = done.is_some();
        if let Some(done) = done {
            state.put_down(seat, done, now);
        }
        let taken = state.start(seat, self.lease.is_valid(now));
        let lane = &mut state.lanes[seat.lane as usize];
        lane.idle += usize::from(matches!(taken, Take::Nothing));
        // Each worker that starts something wakes the next: the dispatcher wakes one only.
        let wake_another = matches!(taken, Take::Job(_)) && lane.idle > 0 && !lane.ready.is_empty();
        if anything_done {
            self.wake_dispatcher(state);
        } else {
            drop(state);
        }
        if wake_another {
            self.arrivals[seat.lane as usize].notify_one();
        }
        taken
    }

    fn wake_dispatcher(&self, mut state: MutexGuard<'_, State>) {
        let waits = std::mem::take(&mut state.dispatcher_waits);
        drop(state);
        if waits {
            self.departures.notify_one();
        }
    }

    // The dispatcher's side.

    /// What to report and how much to claim, when `claiming`; `None` when there is nothing to do,
    /// and [`something_to_do`](Self::something_to_do) will tell when there is.
    pub(crate) fn errand(&self, claiming: bool) -> Option<Errand> {
        let now = self.runtime.elapsed();
        let mut state = self.lock();
        state.give_back_stale(now);
        let want = if claiming && !state.closed { state.room(now) } else { 0 };
        if state.done.is_empty() && want == 0 {
            state.dispatcher_waits = true;
            return None;
        }
        let most = state.done.len().min(FINISH_MAX);
        let done = match most == state.done.len() {
            true => std::mem::take(&mut state.done),
            false => state.done.drain(..most).collect(),
        };
        state.errands = Errands { begun: state.errands.begun + 1, under_way: true };
        state.reporting = done.iter().map(|done| done.finish.claim).collect();
        Some(Errand { incarnation: state.incarnation, done, want })
    }

    /// The errand is delivered, or has become void.
    pub(crate) fn delivered(&self) {
        let mut state = self.lock();
        state.errands.under_way = false;
        state.reporting.clear();
        drop(state);
        self.calm.notify_waiters();
    }

    /// Waits until [`errand`](Self::errand) may answer something else.
    pub(crate) async fn something_to_do(&self) {
        self.departures.notified().await;
    }

    /// Takes in jobs that were claimed under an incarnation. Those of a dead one belong to others.
    pub(crate) fn take_in(
        &self,
        jobs: Vec<ClaimedJob>,
        incarnation: u64,
        lane_of: impl Fn(&ClaimedJob) -> LaneName,
    ) {
        let since = self.runtime.elapsed();
        let mut state = self.lock();
        if state.incarnation != incarnation {
            return;
        }
        for job in jobs {
            let lane = lane_of(&job) as usize;
            state.lanes[lane].ready.push_back(Ready { job, since });
        }
        if state.closed {
            state.give_back_all();
        }
        let wake = [state.lanes[0].has_work(), state.lanes[1].has_work()];
        drop(state);
        for (arrivals, wake) in self.arrivals.iter().zip(wake) {
            if wake {
                arrivals.notify_one();
            }
        }
    }

    // The server's side.

    /// The claims that the server holds for this pool and may still lose.
    pub(crate) fn held(&self, to: &mut Vec<Claim>) {
        let state = self.lock();
        for lane in &state.lanes {
            to.extend(lane.ready.iter().map(|ready| ready.job.claim));
            to.extend(lane.slots.iter().filter_map(Slot::claim));
        }
    }

    /// All claims that this pool answers for, also those whose end is being reported.
    pub(crate) fn answers_for(&self, to: &mut BTreeSet<(JobId, u32)>) {
        let state = self.lock();
        let lanes = state.lanes.iter();
        let ready = lanes.clone().flat_map(|lane| &lane.ready).map(|ready| ready.job.claim);
        let running = lanes.flat_map(|lane| &lane.slots).filter_map(Slot::claim);
        let done = state.done.iter().map(|done| done.finish.claim);
        let all = ready.chain(running).chain(done).chain(state.reporting.iter().copied());
        to.extend(all.map(|claim| (claim.job, claim.attempt)));
    }

    /// How far the dispatcher is.
    pub(crate) fn errands(&self) -> Errands {
        self.lock().errands
    }

    /// Some claims are no longer good: what is ready is dropped, what runs is cancelled.
    pub(crate) fn lose(&self, lost: &[Lost]) {
        let mut state = self.lock();
        let State { lanes, lost: lost_count, .. } = &mut *state;
        for lane in lanes {
            for Lost { claim, reason } in lost {
                let is_lost = |held: &Claim| (held.job, held.attempt) == (claim.job, claim.attempt);
                let before = lane.ready.len();
                lane.ready.retain(|ready| !is_lost(&ready.job.claim));
                *lost_count += (before - lane.ready.len()) as u64;
                for slot in &lane.slots {
                    if let Slot::Running { claim, source } = slot
                        && is_lost(claim)
                    {
                        *lost_count += 1;
                        source.cancel(cancel_reason(*reason));
                    }
                }
            }
        }
        self.wake_dispatcher(state);
    }

    /// Cancels everything that runs.
    pub(crate) fn cancel_all(&self, reason: CancelReason) {
        self.lock().cancel_all(reason);
    }

    /// The server goes on under another id: nothing that was claimed before is its own.
    pub(crate) fn forget_all(&self, incarnation: u64) {
        let mut state = self.lock();
        state.incarnation = incarnation;
        state.cancel_all(CancelReason::LeaseLost);
        state.lost += state.done.len() as u64;
        state.done.clear();
        let State { lanes, lost, .. } = &mut *state;
        for lane in lanes {
            *lost += lane.ready.len() as u64;
            lane.ready.clear();
            for slot in lane.slots.iter_mut().filter(|slot| slot.is_running()) {
                *lost += 1;
                *slot = Slot::Lingering;
            }
        }
        self.wake_dispatcher(state);
    }

    /// The lease is good again: workers may start what is ready.
    pub(crate) fn resume(&self) {
        let mut state = self.lock();
        let wake = [state.lanes[0].has_work(), state.lanes[1].has_work()];
        let waits = std::mem::take(&mut state.dispatcher_waits);
        drop(state);
        if waits {
            self.departures.notify_one();
        }
        for (arrivals, wake) in self.arrivals.iter().zip(wake) {
            if wake {
                arrivals.notify_one();
            }
        }
    }

    /// Starts nothing any more: what is ready goes back, what runs is asked to stop.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.give_back_all();
        state.cancel_all(CancelReason::Shutdown);
        self.wake_dispatcher(state);
        self.arrivals.iter().for_each(Notify::notify_waiters);
    }

    /// Gives up what still runs; how much that is. Its claims are released by the retirement.
    pub(crate) fn abandon(&self) -> u64 {
        let mut state = self.lock();
        let mut running = 0;
        for lane in &mut state.lanes {
            for slot in &mut lane.slots {
                running += u64::from(matches!(slot, Slot::Running { .. }));
                *slot = Slot::Free;
            }
            lane.busy = 0;
        }
        self.wake_dispatcher(state);
        running
    }

    /// Whether a closed pool has nothing left to run or to report.
    pub(crate) fn is_finished(&self) -> bool {
        let state = self.lock();
        let running = state.lanes.iter().flat_map(|lane| &lane.slots).any(Slot::is_running);
        state.closed && state.done.is_empty() && !running
    }

    /// Waits until nothing runs, nothing waits to, and everything is reported.
    pub(crate) async fn idle(&self) {
        loop {
            let calm = self.calm.notified();
            if self.is_idle() {
                return;
            }
            calm.await;
        }
    }

    fn is_idle(&self) -> bool {
        let state = self.lock();
        let idle = |lane: &Lane| lane.ready.is_empty() && !lane.slots.iter().any(Slot::is_running);
        state.lanes.iter().all(idle) && state.done.is_empty() && !state.errands.under_way
    }

    /// What is in hand.
    pub(crate) fn counts(&self) -> InHandCounts {
        let state = self.lock();
        let running = state.lanes.iter().flat_map(|lane| &lane.slots);
        InHandCounts {
            ready: state.lanes.iter().map(|lane| lane.ready.len()).sum(),
            running: running.filter(|slot| slot.is_running()).count(),
            done: state.done.len(),
            released: state.released,
            lost: state.lost,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A worker has ended its attempt: its slot is free, and the finish waits to be reported.
    fn put_down(&mut self, seat: Seat, done: Done, now: Duration) {
        let lane = &mut self.lanes[seat.lane as usize];
        lane.free(seat.slot);
        lane.pace.ended(done.finish.duration, now);
        if done.incarnation == self.incarnation {
            self.done.push(done);
        } else {
            // The server was declared dead meanwhile: the job is another's.
            debug_assert!(done.incarnation < self.incarnation);
        }
    }

    /// Gives a free worker the next job, if it may start one.
    fn start(&mut self, seat: Seat, lease_is_valid: bool) -> Take {
        if self.closed {
            return Take::Closed;
        }
        let incarnation = self.incarnation;
        let lane = &mut self.lanes[seat.lane as usize];
        // After the lease another server may have the job, and what is done now would count for
        // nothing: so nothing is begun.
        if lane.ready.is_empty() || !lease_is_valid {
            return Take::Nothing;
        }
        let Some(Ready { job, .. }) = lane.ready.pop_front() else { return Take::Nothing };
        let (source, token) = CancellationToken::new();
        lane.slots[seat.slot] = Slot::Running { claim: job.claim, source };
        lane.busy += 1;
        Take::Job(Assigned { job, token, incarnation })
    }

    /// How many jobs may be claimed now: those for free workers, and so many ahead as the workers
    /// end while a claim is under way.
    fn room(&self, now: Duration) -> u32 {
        let mut room = 0;
        for lane in self.lanes.iter().filter(|lane| !lane.slots.is_empty()) {
            let ahead = lane.ahead(now);
            let target = lane.slots.len().saturating_sub(lane.busy) + ahead;
            room = room.max(target.saturating_sub(lane.ready.len()));
            // Which lane a job is for is known only once it is claimed. When one lane has a full
            // round of work waiting, the other may have to wait for it, as the queue's order says.
            if lane.ready.len() >= lane.slots.len() + ahead {
                return 0;
            }
        }
        room.min(CLAIM_MAX) as u32
    }

    /// Gives back what has waited long and is not for the next round: a slow job must not sit here
    /// while another server has nothing to do.
    fn give_back_stale(&mut self, now: Duration) {
        let mut stale = Vec::new();
        for lane in &mut self.lanes {
            let keep = lane.slots.len() + lane.ahead(now);
            let oldest = lane.ready.front().map(|ready| now.saturating_sub(ready.since));
            if lane.ready.len() > keep && oldest.is_some_and(|waited| waited >= READY_MAX) {
                stale.extend(lane.ready.split_off(keep));
            }
        }
        stale.into_iter().for_each(|ready| self.release(ready.job.claim));
    }

    fn give_back_all(&mut self) {
        let mut ready = std::mem::take(&mut self.lanes[0].ready);
        ready.append(&mut self.lanes[1].ready);
        ready.into_iter().for_each(|ready| self.release(ready.job.claim));
    }

    fn release(&mut self, claim: Claim) {
        let finish = Finish { claim, outcome: Outcome::Released, duration: Duration::ZERO };
        self.released += 1;
        self.done.push(Done { finish, incarnation: self.incarnation, context: None });
    }

    fn cancel_all(&self, reason: CancelReason) {
        for slot in self.lanes.iter().flat_map(|lane| &lane.slots) {
            if let Slot::Running { source, .. } = slot {
                source.cancel(reason);
            }
        }
    }
}

impl Lane {
    fn new(slots: usize) -> Lane {
        Lane {
            ready: VecDeque::new(),
            slots: (0..slots).map(|_| Slot::Free).collect(),
            busy: 0,
            idle: 0,
            pace: Pace::default(),
        }
    }

    fn free(&mut self, slot: usize) {
        // A slot that was given up at the deadline is free already.
        if !matches!(self.slots[slot], Slot::Free) {
            self.slots[slot] = Slot::Free;
            self.busy -= 1;
        }
    }

    fn ahead(&self, now: Duration) -> usize {
        self.pace.ahead(self.slots.len(), self.busy, now)
    }

    fn has_work(&self) -> bool {
        self.idle > 0 && !self.ready.is_empty()
    }
}

impl Slot {
    fn claim(&self) -> Option<Claim> {
        match self {
            Slot::Running { claim, .. } => Some(*claim),
            Slot::Free | Slot::Lingering => None,
        }
    }

    fn is_running(&self) -> bool {
        matches!(self, Slot::Running { .. })
    }
}

fn cancel_reason(lost: LostReason) -> CancelReason {
    match lost {
        LostReason::Deleted | LostReason::Missing => CancelReason::Deleted,
        LostReason::Taken => CancelReason::LeaseLost,
    }
}
