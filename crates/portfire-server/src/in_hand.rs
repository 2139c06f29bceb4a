//! The jobs that a pool has in hand: [`InHand`] stands between its dispatcher and its workers.
//!
//! Jobs come in *ready* (fetched, not started), are *running* in a slot, and leave *done* (ended, not
//! yet reported). Whatever happens to a job between its claim and its finish happens here, under one
//! short lock, so that a job is always in exactly one of the three.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portfire_core::{
    Annotation, CancelReason, Claim, ClaimedJob, Finish, JobId, Lost, Notes, Outcome,
};
use tokio::sync::Notify;

use crate::cancellation::CancellationToken;
use crate::context::JobContext;
use crate::desk::Desk;
use crate::lane::{Lane, LaneName, Seat};
use crate::lease::{Holder, Lease};
use crate::meters::Label;
use crate::notebook::weight;
use crate::runtime::Runtime;

/// Most jobs that are fetched ahead.
pub(crate) const AHEAD_MAX: usize = 1_024;

/// Most jobs that one cycle claims: half of what may be ready, so that the workers have the other
/// half while the storage is at work.
const CLAIM_MAX: usize = AHEAD_MAX / 2;

/// Most finishes that one cycle reports.
const FINISH_MAX: usize = 1_024;

/// How often it is sent what a running job says; its last words go with its end.
const NOTES_INTERVAL: Duration = Duration::from_secs(1);

/// About how much of what jobs say goes with one cycle, in bytes: other writers wait for it.
const NOTES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The jobs of one pool.
pub(crate) struct InHand {
    state: Mutex<State>,
    /// Tells the idle workers of a lane that there is something for them.
    arrivals: [Notify; 2],
    /// Tells the dispatcher that there is something to report, or room for more.
    departures: Notify,
    /// Tells whoever waits for the end that an errand has been delivered.
    calm: Notify,
    /// Tells the dispatcher that a running job has said something.
    spoken: Arc<Notify>,
    lease: Arc<Lease>,
    runtime: Arc<dyn Runtime>,
}

struct State {
    /// Under which of the server's ids the jobs were claimed.
    incarnation: u64,
    /// Where those that run under it say that they have something to say.
    desk: Arc<Desk>,
    /// Not before this is it collected again.
    notes_at: Duration,
    /// Of what was given up at the end.
    last_words: Vec<Annotation>,
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

/// A job that a worker is to run.
pub(crate) struct Assigned {
    pub(crate) job: ClaimedJob,
    pub(crate) label: Label,
    pub(crate) token: CancellationToken,
    pub(crate) incarnation: u64,
    pub(crate) desk: Arc<Desk>,
}

/// A job that has ended and is to be reported.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) finish: Finish,
    pub(crate) incarnation: u64,
    /// What it is counted under; none for a job that was not started.
    pub(crate) label: Option<Label>,
    /// What it said last.
    pub(crate) notes: Option<Box<Notes>>,
    /// For those who want to hear of it once it is stored.
    pub(crate) context: Option<JobContext>,
}

impl Done {
    fn annotation(&mut self) -> Option<Annotation> {
        let notes = *self.notes.take()?;
        Some(Annotation::new(self.finish.claim, notes))
    }
}

/// What a dispatcher is to do next.
pub(crate) struct Errand {
    pub(crate) incarnation: u64,
    /// What those that run say, and what those that are done said last.
    pub(crate) notes: Vec<Annotation>,
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
        let (holder, spoken) = (lease.holder(), Arc::new(Notify::new()));
        let desk = Desk::new(Some(holder.server), Arc::clone(&runtime), Arc::clone(&spoken));
        let state = State {
            incarnation: holder.incarnation,
            desk: Arc::new(desk),
            notes_at: Duration::ZERO,
            last_words: Vec::new(),
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
        InHand { state: Mutex::new(state), arrivals, departures, calm, spoken, lease, runtime }
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
        state.lanes[seat.lane as usize].linger(seat.slot);
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
        let wake_another = matches!(taken, Take::Job(_)) && lane.is_waited_for();
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
        let mut notes = state.take_notes(now);
        notes.append(&mut state.last_words);
        if state.done.is_empty() && notes.is_empty() && want == 0 {
            state.dispatcher_waits = true;
            return None;
        }
        let most = state.reportable();
        let mut done = match most == state.done.len() {
            true => std::mem::take(&mut state.done),
            false => state.done.drain(..most).collect(),
        };
        notes.extend(done.iter_mut().filter_map(Done::annotation));
        state.errands = Errands { begun: state.errands.begun + 1, under_way: true };
        state.reporting = done.iter().map(|done| done.finish.claim).collect();
        Some(Errand { incarnation: state.incarnation, notes, done, want })
    }

    /// Waits until it is time to send what running jobs have said.
    pub(crate) async fn something_to_tell(&self) {
        loop {
            // Made before the look, so that what comes in between is heard.
            let spoken = self.spoken.notified();
            let due = {
                let state = self.lock();
                (!state.desk.is_empty()).then_some(state.notes_at)
            };
            match due {
                Some(due) => {
                    let wait = due.saturating_sub(self.runtime.elapsed());
                    return self.runtime.sleep(wait).await;
                }
                None => spoken.await,
            }
        }
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
        sort: impl Fn(&ClaimedJob) -> (LaneName, Label),
    ) {
        let since = self.runtime.elapsed();
        let mut state = self.lock();
        if state.incarnation != incarnation {
            return;
        }
        for job in jobs {
            let (lane, label) = sort(&job);
            state.lanes[lane as usize].add(job, label, since);
        }
        if state.closed {
            state.give_back_all();
        }
        let wake = state.waited_for();
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
        to.extend(self.lock().lanes.iter().flat_map(Lane::claims));
    }

    /// All claims that this pool answers for, also those whose end is being reported.
    pub(crate) fn answers_for(&self, to: &mut BTreeSet<(JobId, u32)>) {
        let state = self.lock();
        let held = state.lanes.iter().flat_map(Lane::claims);
        let done = state.done.iter().map(|done| done.finish.claim);
        let all = held.chain(done).chain(state.reporting.iter().copied());
        to.extend(all.map(|claim| (claim.job, claim.attempt)));
    }

    /// How far the dispatcher is.
    pub(crate) fn errands(&self) -> Errands {
        self.lock().errands
    }

    /// Some claims are no longer good: what is ready is dropped, what runs is cancelled. How many.
    pub(crate) fn lose(&self, lost: &[Lost]) -> u64 {
        let mut state = self.lock();
        let count = state.lanes.iter_mut().map(|lane| lane.lose(lost)).sum::<u64>();
        state.lost += count;
        self.wake_dispatcher(state);
        count
    }

    /// Cancels everything that runs.
    pub(crate) fn cancel_all(&self, reason: CancelReason) {
        self.lock().cancel_all(reason);
    }

    /// The server goes on under another id: nothing that was claimed before is its own.
    pub(crate) fn forget_all(&self, holder: &Holder) {
        let server = Some(holder.server.clone());
        let desk = Desk::new(server, Arc::clone(&self.runtime), Arc::clone(&self.spoken));
        let mut state = self.lock();
        state.incarnation = holder.incarnation;
        // What they say under the old id is heard by nobody.
        std::mem::replace(&mut state.desk, Arc::new(desk)).clear();
        state.cancel_all(CancelReason::LeaseLost);
        state.lost += state.done.len() as u64;
        state.done.clear();
        state.lost += state.lanes.iter_mut().map(Lane::forget_all).sum::<u64>();
        self.wake_dispatcher(state);
    }

    /// The lease is good again: workers may start what is ready.
    pub(crate) fn resume(&self) {
        let mut state = self.lock();
        let wake = state.waited_for();
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

    /// Gives up what still runs; how much that is. Its claims are released by the retirement. What it has
    /// said so far is sent at once.
    pub(crate) fn abandon(&self) -> u64 {
        let mut state = self.lock();
        let running = state.lanes.iter_mut().map(Lane::abandon).sum();
        state.desk.close();
        state.last_words = state.desk.collect(NOTES_BYTES_MAX).0;
        self.wake_dispatcher(state);
        running
    }

    /// Nobody collects anything any more.
    pub(crate) fn clear(&self) {
        self.lock().desk.clear();
    }

    /// Whether a closed pool has nothing left to run or to report.
    pub(crate) fn is_finished(&self) -> bool {
        let state = self.lock();
        let reported = state.done.is_empty() && state.last_words.is_empty();
        state.closed && reported && state.lanes.iter().all(|lane| lane.running() == 0)
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
        let idle = |lane: &Lane| lane.ready() + lane.running() == 0;
        let reported = state.done.is_empty() && state.last_words.is_empty();
        state.lanes.iter().all(idle) && reported && !state.errands.under_way
    }

    /// What is in hand.
    pub(crate) fn counts(&self) -> InHandCounts {
        let state = self.lock();
        InHandCounts {
            ready: state.lanes.iter().map(Lane::ready).sum(),
            running: state.lanes.iter().map(Lane::running).sum(),
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
        self.lanes[seat.lane as usize].ended(seat.slot, done.finish.duration, now);
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
        // After the lease another server may have the job, and what is done now would count for
        // nothing: so nothing is begun.
        if !lease_is_valid {
            return Take::Nothing;
        }
        match self.lanes[seat.lane as usize].start(seat.slot) {
            Some((job, label, token)) => {
                let desk = Arc::clone(&self.desk);
                Take::Job(Assigned { job, label, token, incarnation, desk })
            }
            None => Take::Nothing,
        }
    }

    /// How many jobs may be claimed now.
    fn room(&self, now: Duration) -> u32 {
        let mut room = 0;
        for lane in self.lanes.iter().filter(|lane| lane.exists()) {
            // Which lane a job is for is known only once it is claimed. When one lane has a full
            // round of work waiting, the other may have to wait for it, as the queue's order says.
            let Some(more) = lane.room(now) else { return 0 };
            room = room.max(more);
        }
        room.min(CLAIM_MAX) as u32
    }

    fn give_back_stale(&mut self, now: Duration) {
        for lane in 0..self.lanes.len() {
            let stale = self.lanes[lane].take_stale(now);
            stale.into_iter().for_each(|claim| self.release(claim));
        }
    }

    fn give_back_all(&mut self) {
        for lane in 0..self.lanes.len() {
            let ready = self.lanes[lane].take_ready();
            ready.into_iter().for_each(|claim| self.release(claim));
        }
    }

    fn release(&mut self, claim: Claim) {
        let finish = Finish { claim, outcome: Outcome::Released, duration: Duration::ZERO };
        self.released += 1;
        let incarnation = self.incarnation;
        self.done.push(Done { finish, incarnation, label: None, notes: None, context: None });
    }

    /// What running jobs have said, if it is time for that.
    fn take_notes(&mut self, now: Duration) -> Vec<Annotation> {
        if now < self.notes_at || self.desk.is_empty() {
            return Vec::new();
        }
        let (notes, all) = self.desk.collect(NOTES_BYTES_MAX);
        if all && !notes.is_empty() {
            self.notes_at = now + NOTES_INTERVAL;
        }
        notes
    }

    /// How many of those that are done one cycle reports.
    fn reportable(&self) -> usize {
        let mut bytes = 0;
        let heavy = self.done.iter().take(FINISH_MAX).position(|done| {
            bytes += done.notes.as_deref().map_or(0, weight);
            bytes > NOTES_BYTES_MAX
        });
        // One goes in any case, however heavy.
        heavy.map_or(self.done.len().min(FINISH_MAX), |heavy| heavy.max(1))
    }

    fn cancel_all(&self, reason: CancelReason) {
        self.lanes.iter().for_each(|lane| lane.cancel_all(reason));
    }

    /// Which lanes have workers that wait for what is ready.
    fn waited_for(&self) -> [bool; 2] {
        [self.lanes[0].is_waited_for(), self.lanes[1].is_waited_for()]
    }
}
