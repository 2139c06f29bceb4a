//! The one storage of a simulated world: a [`MemoryStorage`] on the virtual clock. Each call is
//! applied in one step, is looked at by the [`Ledger`](crate::ledger::Ledger), and is recorded.
//! Mutants that change what one step does are here; those that need time between two steps are in
//! `faulty.rs`.

mod checks;
mod firing;
mod planted;
mod planted_ties;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use portfire_core::{
    Action, Answer, BatchChange, BatchChanged, BatchId, BatchState, Cause, Change, Changed, Claim,
    ClaimRequest, Cleaned, Clock, Counts, Created, Cycle, CycleRequest, Dependency, Finish,
    HistoryEntry, JobFilter, JobId, JobRecord, Lost, MemoryStorage, Monitor, NewBatch, NewJob,
    NewServer, Outcome, Promoted, QueueName, RescueRequest, Rescued, Retention, ServerId,
    StateName, Storage, StorageError, Ties, Timestamp, Verdict,
};

use self::checks::s21_lost_claims_are_told;
use crate::effects::{Effects, Run};
use crate::executor::{DomainId, Executor};
use crate::invariants::{self as rules, Check, Deed, Invariant, Violation, require};
use crate::ledger::{Ledger, Look};
use crate::marks::{Mark, Marks};
use crate::mutants::Mutant;
use crate::sync::lock;

/// The present at the beginning of every run: 2026-01-01T00:00:00Z.
const BEGINNING_MICROS: i64 = 1_767_225_600_000_000;

/// How soon things happen that nothing holds up.
pub(crate) const PROMPT: Duration = Duration::from_millis(150);

/// Calls between two looks at everything.
const LOOK_AT_ALL_EVERY: u64 = 64;

/// The clock of the storage's machine: virtual time, with steps.
pub(crate) struct StorageClock {
    executor: Arc<Executor>,
    /// How far it was put forward or back by hand, in microseconds.
    steps: AtomicI64,
    /// How far ahead a mutant looks during one call.
    ahead: AtomicI64,
}

impl StorageClock {
    pub(crate) fn new(executor: Arc<Executor>) -> StorageClock {
        StorageClock { executor, steps: AtomicI64::new(0), ahead: AtomicI64::new(0) }
    }

    /// Puts the clock back.
    pub(crate) fn step_back(&self, by: Duration) {
        self.steps.fetch_sub(by.as_micros() as i64, Ordering::Relaxed);
    }

    fn told(&self) -> Timestamp {
        let passed = self.executor.now().as_micros() as i64;
        let stepped = self.steps.load(Ordering::Relaxed);
        Timestamp::from_micros(BEGINNING_MICROS + passed + stepped)
    }
}

impl Clock for StorageClock {
    fn now(&self) -> Timestamp {
        let ahead = self.ahead.load(Ordering::Relaxed);
        Timestamp::from_micros(self.told().as_micros() + ahead)
    }

    fn passed(&self) -> Option<Duration> {
        Some(self.executor.now())
    }
}

impl fmt::Debug for StorageClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageClock({})", self.told())
    }
}

/// The storage with everything that is known of it.
pub(crate) struct Truth {
    executor: Arc<Executor>,
    pub(crate) clock: Arc<StorageClock>,
    memory: MemoryStorage,
    ledger: Mutex<Ledger>,
    mutant: Option<Mutant>,
    planted: Mutex<Planted>,
    marks: Arc<Marks>,
    promptly: Option<Duration>,
    violation: Mutex<Option<Violation>>,
    violated: AtomicBool,
    effects: Arc<Mutex<Effects>>,
}

/// What the mutants remember.
#[derive(Default)]
struct Planted {
    /// Jobs that are stored and in no queue yet.
    drafts: BTreeMap<JobId, NewJob>,
    /// Counts of failures that were written before the states.
    failures: BTreeMap<JobId, u32>,
    /// Jobs that were removed though they had not expired.
    removed: BTreeSet<JobId>,
    /// The ties that jobs should have had, of those that were stored with others.
    disguised: BTreeMap<JobId, Ties>,
    /// Callbacks of batches, with what they wait for.
    callbacks: Vec<(JobId, Vec<Dependency>)>,
    fenced: u64,
    ghosts: u64,
    calls: u64,
}

impl Truth {
    pub(crate) fn new(
        executor: Arc<Executor>,
        retention: Retention,
        calm: bool,
        recoveries_max: u32,
        mutant: Option<Mutant>,
        marks: Arc<Marks>,
        effects: Arc<Mutex<Effects>>,
    ) -> Truth {
        let clock = Arc::new(StorageClock::new(Arc::clone(&executor)));
        let builder = MemoryStorage::builder().clock(Arc::clone(&clock) as Arc<dyn Clock>);
        Truth {
            executor,
            clock,
            memory: builder.retention(retention).build(),
            ledger: Mutex::new(Ledger::new(recoveries_max)),
            mutant,
            planted: Mutex::default(),
            marks,
            promptly: calm.then_some(PROMPT),
            violation: Mutex::new(None),
            violated: AtomicBool::new(false),
            effects,
        }
    }

    /// The planted fault.
    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// What is known.
    pub(crate) fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// The wake-ups of the storage itself.
    pub(crate) fn wakeups(&self) -> portfire_core::Wakeups {
        self.memory.wakeups()
    }

    /// Storage time.
    pub(crate) fn skew(&self) -> Duration {
        now(self.memory.skew()).unwrap_or_default()
    }

    pub(crate) fn now(&self) -> Timestamp {
        // The storage learns of the time only when it is called: both must have seen it.
        let _ = now(self.memory.now());
        self.ledger().tick(self.clock.told(), self.executor.now())
    }

    /// Remembers the first broken rule.
    pub(crate) fn report(&self, check: Check) {
        if let Err(violation) = check {
            lock(&self.violation).get_or_insert(violation);
            self.violated.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a rule was broken.
    pub(crate) fn is_violated(&self) -> bool {
        self.violated.load(Ordering::Relaxed)
    }

    /// The first broken rule.
    pub(crate) fn violation(&self) -> Option<Violation> {
        lock(&self.violation).clone()
    }

    // The calls, each in one step.

    pub(crate) fn create(&self, jobs: Vec<NewJob>) -> Result<Vec<Created>, StorageError> {
        self.create_batches(Vec::new(), jobs)
    }

    pub(crate) fn create_batches(
        &self,
        batches: Vec<NewBatch>,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Created>, StorageError> {
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let keys = jobs.iter().map(|job| job.ties.unique.clone().map(|unique| unique.key));
        let keys: Vec<Option<String>> = keys.collect();
        // An id may be used again once its job was cleaned; that is not explored here.
        let cleaned: BTreeSet<JobId> = {
            let ledger = self.ledger();
            ids.iter().copied().filter(|id| ledger.cleaned.contains(id)).collect()
        };
        let jobs: Vec<NewJob> = jobs.into_iter().filter(|job| !cleaned.contains(&job.id)).collect();
        let jobs = if self.is(Mutant::CreateTwiceOnRepeat) { self.renamed(jobs) } else { jobs };
        let jobs = self.mistied(jobs);
        let mut stored = now(self.memory.create_batches(batches, jobs))?.into_iter();
        let answer = |&id: &JobId| match cleaned.contains(&id) {
            true => Some(Created { id, existing: true }),
            false => stored.next(),
        };
        let created: Vec<Created> = ids.iter().filter_map(answer).collect();
        self.look_after(Deed::Create, None, |ledger, look| {
            for ((created, &id), key) in created.iter().zip(&ids).zip(&keys) {
                self.check_rejection(ledger, created, id, key.as_deref(), &ids)?;
            }
            self.look_at(ledger, &ids, look)
        });
        if created.iter().zip(&ids).any(|(created, &id)| created.existing && created.id == id) {
            self.marks.hit(Mark::CreateRepeated);
        }
        Ok(created)
    }

    pub(crate) fn change_batch(
        &self,
        batch: BatchId,
        change: BatchChange,
    ) -> Result<BatchChanged, StorageError> {
        let cancels = matches!(change, BatchChange::Cancel { .. });
        self.ledger().ties.note_change(batch, cancels);
        let answer = now(self.memory.change_batch(batch, change))?;
        if cancels && answer == BatchChanged::Applied(BatchState::Cancelling) {
            self.marks.hit(Mark::BatchCancelled);
        }
        self.look_after(Deed::Batch, None, |_, _| Ok(()));
        Ok(answer)
    }

    pub(crate) fn announce(&self, domain: DomainId, server: NewServer) -> Result<(), StorageError> {
        let mut stored = server.clone();
        if self.is(Mutant::KindsIgnored) {
            stored.kinds.clear();
        }
        let answer = now(self.memory.announce(stored));
        self.look_after(Deed::Other, None, |ledger, look| {
            let dead = ledger.servers.get(&server.id).is_some_and(|known| known.dead);
            rules::s6_the_dead_stay_dead(&server.id, dead, answer.is_ok())?;
            if ledger.servers.values().any(|known| known.domain == domain && known.dead) {
                self.marks.hit(Mark::Reborn);
            }
            if answer.is_ok() {
                ledger.announced(&server, domain, look.now);
            }
            Ok(())
        });
        answer
    }

    pub(crate) fn heartbeat(
        &self,
        server: &ServerId,
        held: Vec<Claim>,
    ) -> Result<Vec<Lost>, StorageError> {
        let mut answer = now(self.memory.heartbeat(server.clone(), held.clone()));
        if answer.is_err() && self.is(Mutant::HeartbeatRevivesDead) {
            answer = Ok(Vec::new());
        }
        self.look_after(Deed::Other, None, |ledger, look| {
            if answer.is_err() {
                self.marks.hit(Mark::ZombieHeartbeat);
            }
            rules::s6_the_dead_stay_dead(server, !ledger.is_alive(server), answer.is_ok())?;
            let Ok(lost) = &answer else { return Ok(()) };
            ledger.renewed(server, look.now);
            s21_lost_claims_are_told(ledger, server, &held, lost)
        });
        answer
    }

    pub(crate) fn verify(
        &self,
        server: &ServerId,
        held: Vec<Claim>,
    ) -> Result<Vec<Lost>, StorageError> {
        let answer = now(self.memory.verify(server.clone(), held.clone()));
        self.look_after(Deed::Other, None, |ledger, _| {
            rules::s6_the_dead_stay_dead(server, !ledger.is_alive(server), answer.is_ok())?;
            let Ok(lost) = &answer else { return Ok(()) };
            s21_lost_claims_are_told(ledger, server, &held, lost)
        });
        answer
    }

    pub(crate) fn retire(&self, server: &ServerId) -> Result<(), StorageError> {
        let answer = now(self.memory.retire(server.clone()));
        self.look_after(Deed::Retire, None, |ledger, look| {
            let held = ledger.held_by(server);
            ledger.died(server);
            self.look_at(ledger, &held, look)
        });
        answer
    }

    pub(crate) fn cycle(&self, request: CycleRequest) -> Result<Cycle, StorageError> {
        let foreseen: Vec<_> = {
            let ledger = self.ledger();
            let foresee = |finish: &Finish| ledger.foresee(&request.server, &finish.claim);
            request.finished.iter().map(foresee).collect()
        };
        let answer = self.mutated_cycle(request.clone());
        self.look_after(Deed::Cycle, Some(&request), |ledger, look| {
            let alive = ledger.is_alive(&request.server);
            rules::s6_the_dead_stay_dead(&request.server, !alive, answer.is_ok())?;
            let Ok(cycle) = &answer else {
                self.marks.hit(Mark::ZombieCycle);
                return Ok(());
            };
            for ((finish, &(stored, held, ended)), &verdict) in
                request.finished.iter().zip(&foreseen).zip(&cycle.verdicts)
            {
                rules::s6_the_holder_alone_finishes(finish, stored, held, ended, verdict)?;
            }
            self.check_claims(ledger, &request, cycle)?;
            let finished = request.finished.iter().map(|finish| finish.claim.job);
            let claimed = cycle.claimed.iter().map(|job| job.claim.job);
            let ids: Vec<JobId> = finished.chain(claimed).collect();
            self.look_at(ledger, &ids, look)?;
            self.check_finishes(ledger, &request, &foreseen, cycle)?;
            ledger.note_claims(&request, cycle);
            self.check_grants(ledger, &request, cycle)
        });
        answer
    }

    pub(crate) fn rescue(&self, mut request: RescueRequest) -> Result<Rescued, StorageError> {
        if self.is(Mutant::PoisonNeverCounted) {
            request.recoveries_max = u32::MAX;
        }
        if self.is(Mutant::CrashBlamesOneOfMany) {
            self.blame_one_of_many();
        }
        let answer = now(self.memory.rescue(request))?;
        self.look_after(Deed::Rescue, None, |ledger, look| {
            for server in &answer.dead {
                self.marks.hit(Mark::DeclaredDead);
                let lease_until = ledger.servers.get(server).map(|known| known.lease_until);
                let lapsed = lease_until.is_some_and(|until| until <= look.now);
                require(Invariant::S5, lapsed, || {
                    format!(
                        "{server} was declared dead at {}, its lease runs until {lease_until:?}",
                        look.now
                    )
                })?;
                ledger.died(server);
            }
            if answer.returned + answer.poisoned + answer.unhandled > 0 {
                self.look_at_all(ledger, look)?;
            }
            Ok(())
        });
        Ok(answer)
    }

    pub(crate) fn promote(&self, max: u32) -> Result<Promoted, StorageError> {
        let answer = now(self.memory.promote(max))?;
        self.look_after(Deed::Promote, None, |ledger, look| {
            if answer.promoted > 0 { self.look_at_all(ledger, look) } else { Ok(()) }
        });
        Ok(answer)
    }

    pub(crate) fn change(&self, changes: Vec<Change>) -> Result<Vec<Changed>, StorageError> {
        let ids: Vec<JobId> = changes.iter().map(|change| change.job).collect();
        let answer = now(self.memory.change(changes))?;
        self.look_after(Deed::Change, None, |ledger, look| self.look_at(ledger, &ids, look));
        Ok(answer)
    }

    pub(crate) fn clean(&self, max: u32) -> Result<Cleaned, StorageError> {
        if self.is(Mutant::CleanForgetsWaiters) && self.forget_parents() {
            self.look_after(Deed::Clean, None, |ledger, look| self.look_at_all(ledger, look));
            return Ok(Cleaned::default());
        }
        let answer = now(self.memory.clean(max))?;
        self.look_after(Deed::Clean, None, |ledger, look| {
            if answer.jobs == 0 && !answer.more {
                return Ok(());
            }
            self.marks.hit(Mark::Cleaned);
            self.look_at_all(ledger, look)
        });
        Ok(answer)
    }

    pub(crate) fn set_queue_paused(&self, queue: QueueName, paused: bool) {
        let _ = now(self.memory.set_queue_paused(queue.clone(), paused));
        let mut ledger = self.ledger();
        if paused {
            ledger.paused.insert(queue)
        } else {
            ledger.paused.remove(&queue)
        };
    }

    /// Writes what no rule of the simulation is about yet: the jobs of it are looked at with all others.
    pub(crate) fn pass<'a, T>(
        &'a self,
        write: impl FnOnce(&'a MemoryStorage) -> Answer<'a, T>,
    ) -> Result<T, StorageError> {
        now(write(&self.memory))
    }

    /// Reads, without looking.
    pub(crate) fn read<'a, T>(
        &'a self,
        read: impl FnOnce(&'a MemoryStorage) -> Answer<'a, T>,
    ) -> Result<T, StorageError> {
        now(read(&self.memory))
    }

    // Races: what there is to do when a call sets out, and whether it was done by others meanwhile.

    /// Jobs of servers that are dead, or whose leases have lapsed.
    pub(crate) fn orphans(&self) -> Vec<JobId> {
        let ledger = self.ledger();
        let now = ledger.peek(self.clock.told(), self.executor.now());
        let gone = |server: &ServerId| {
            ledger.servers.get(server).is_some_and(|known| known.dead || known.lease_until <= now)
        };
        let orphaned = |holder: &Option<ServerId>| holder.as_ref().is_some_and(gone);
        let orphans = ledger.jobs.iter().filter(|(_, entry)| orphaned(&entry.holder));
        orphans.map(|(&job, _)| job).collect()
    }

    /// Scheduled jobs whose instant has come.
    pub(crate) fn due(&self) -> Vec<JobId> {
        let ledger = self.ledger();
        let now = ledger.peek(self.clock.told(), self.executor.now());
        ledger.jobs.iter().filter(|(_, job)| job.is_due(now)).map(|(&id, _)| id).collect()
    }

    /// Final jobs whose retention has ended.
    pub(crate) fn expired_jobs(&self) -> Vec<JobId> {
        let ledger = self.ledger();
        let now = ledger.peek(self.clock.told(), self.executor.now());
        ledger.jobs.iter().filter(|(_, job)| job.is_expired(now)).map(|(&id, _)| id).collect()
    }

    /// Counts a lost race: there was something to do, and nothing was left of it.
    pub(crate) fn mark_race(&self, mark: Mark, candidates: &[JobId], done: u32) {
        if !candidates.is_empty() && done == 0 {
            self.marks.hit(mark);
        }
    }

    /// Counts a cleaner that set out for a job which somebody wanted again meanwhile.
    pub(crate) fn mark_wanted_again(&self, candidates: &[JobId]) {
        let ledger = self.ledger();
        let open = |job: &JobId| {
            ledger.jobs.get(job).is_some_and(|entry| !entry.standing.state.is_final())
        };
        if candidates.iter().any(open) {
            self.marks.hit(Mark::CleanRaceLost);
        }
    }

    /// The counters.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = now(self.memory.counts()).unwrap_or_default();
        counts.succeeded_total += lock(&self.planted).fenced;
        counts
    }

    // Looking.

    fn look_after(
        &self,
        deed: Deed,
        cycle: Option<&CycleRequest>,
        check: impl FnOnce(&mut Ledger, Look<'_>) -> Check,
    ) {
        if self.is_violated() {
            return;
        }
        let mut ledger = self.ledger();
        let now = ledger.tick(self.clock.told(), self.executor.now());
        let look = Look { deed, now, at: self.executor.now(), cycle, promptly: self.promptly };
        ledger.moves.clear();
        ledger.born.clear();
        let mut checked = check(&mut ledger, look);
        if checked.is_ok() && ledger.ties.is_used() && deed != Deed::Other {
            checked = self.look_at_ties(&mut ledger, look);
        }
        let calls = {
            let mut planted = lock(&self.planted);
            planted.calls += 1;
            planted.calls
        };
        if checked.is_ok() && calls.is_multiple_of(LOOK_AT_ALL_EVERY) {
            checked = self.look_at_everything(&mut ledger, look);
        }
        for moved in &ledger.moves {
            self.mark(moved, deed);
        }
        drop(ledger);
        self.report(checked);
    }

    /// Looks at these jobs.
    fn look_at(&self, ledger: &mut Ledger, jobs: &[JobId], look: Look<'_>) -> Check {
        for &job in jobs {
            let record = self.record(job);
            ledger.look(job, record.as_ref(), || self.history(job), look)?;
        }
        Ok(())
    }

    /// Looks at all jobs that are stored or were.
    fn look_at_all(&self, ledger: &mut Ledger, look: Look<'_>) -> Check {
        let records = self.records();
        let known: Vec<JobId> = ledger.jobs.keys().copied().collect();
        for job in known.iter().filter(|job| !records.contains_key(job)) {
            ledger.look(*job, None, Vec::new, look)?;
        }
        for (&job, record) in &records {
            ledger.look(job, Some(record), || self.history(job), look)?;
        }
        Ok(())
    }

    /// What a call moves besides what it names: those that wait, batches, who is next.
    fn look_at_ties(&self, ledger: &mut Ledger, look: Look<'_>) -> Check {
        self.look_at_all(ledger, look)?;
        let stored = |id: BatchId| Some((id, now(self.memory.batch(id)).ok().flatten()?));
        let records = ledger.ties.batches().into_iter().filter_map(stored).collect();
        ledger.look_at_ties(&records, look, &self.marks)
    }

    /// S1, S17: looks at all jobs, at what was promised, and at the counters.
    fn look_at_everything(&self, ledger: &mut Ledger, look: Look<'_>) -> Check {
        self.look_at_all(ledger, Look { deed: Deed::Other, ..look })?;
        ledger.s1_nothing_is_lost()?;
        ledger.s2_creates_are_whole()?;
        ledger.s17_counters_add_up(&self.counts())
    }

    /// As [`look_at_everything`](Self::look_at_everything), at any time.
    pub(crate) fn inspect(&self) {
        self.look_after(Deed::Other, None, |ledger, look| self.look_at_everything(ledger, look));
    }

    fn record(&self, job: JobId) -> Option<JobRecord> {
        if self.mutant.is_some() && lock(&self.planted).removed.contains(&job) {
            return None;
        }
        now(self.memory.job(job)).ok().flatten().map(|record| self.undisguised(record))
    }

    fn history(&self, job: JobId) -> Vec<HistoryEntry> {
        now(self.memory.history(job)).unwrap_or_default()
    }

    fn records(&self) -> BTreeMap<JobId, JobRecord> {
        let mut records = BTreeMap::new();
        let mut filter =
            JobFilter { max: portfire_core::monitor::PAGE_MAX, ..JobFilter::default() };
        loop {
            let page = now(self.memory.jobs(filter.clone())).unwrap_or_default();
            records
                .extend(page.jobs.into_iter().map(|record| (record.id, self.undisguised(record))));
            filter.after = page.next;
            if filter.after.is_none() {
                break;
            }
        }
        let planted = lock(&self.planted);
        records.retain(|job, _| !planted.removed.contains(job));
        records
    }
}

impl fmt::Debug for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Truth").field("mutant", &self.mutant).finish_non_exhaustive()
    }
}

/// The answer of a call that waits for nothing.
fn now<T>(mut answer: Answer<'_, T>) -> Result<T, StorageError> {
    let mut context = Context::from_waker(Waker::noop());
    match answer.as_mut().poll(&mut context) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the storage in memory waits for something"),
    }
}
