//! What is known of the ties between jobs: who waits for whose end, what the batches add up to, who
//! runs under which limit and who holds which key. Kept beside the [`Ledger`](crate::ledger::Ledger)
//! and, as that, by other code than the storage's own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portfire_core::{
    After, Antecedent, BatchId, BatchRecord, BatchState, Cause, Dependency, JobId, NewBatch,
    NewJob, Progression, StateName, Timestamp, UniqueKey, UniqueScope,
};

use crate::invariants::{Check, Deed, Invariant, require};
use crate::ledger::{Entry, Moved};
use crate::marks::{Mark, Marks};

/// How the reason of a job begins that was deleted because it waits for what cannot happen any more.
const UNMET: &str = "it was to run after";

/// How the other reasons begin with which the storage deletes a job by itself.
const OF_ITSELF: [&str; 3] = ["its batch was cancelled", "replaced by job", "its next occurrence"];

/// What lies so close together is the same moment to those who do it.
const JUST: Duration = Duration::from_millis(100);

/// How something has ended.
#[derive(Clone, Copy, Debug)]
struct End {
    state: StateName,
    /// Whether it is a batch that has failed and in which a member was deleted.
    for_good: bool,
}

impl End {
    fn of(state: StateName) -> End {
        End { state, for_good: false }
    }

    /// How a batch stands, when it has ended.
    fn of_batch(state: BatchState, members: &Progression) -> Option<End> {
        let for_good = state == BatchState::Failed && members.deleted > 0;
        Some(End { state: state.end()?, for_good })
    }

    /// Whether who waits for this end of it waits on: what has failed may be requeued and succeed, or be deleted.
    fn leaves_open(self, after: After) -> bool {
        self.state == StateName::Failed
            && !self.for_good
            && matches!(after, After::Success | After::Deletion)
    }

    /// As what a nested batch that has ended so counts in the one around it.
    fn counted(self) -> StateName {
        if self.for_good { StateName::Deleted } else { self.state }
    }
}

/// Somebody who waits.
#[derive(Debug, Default)]
struct Wait {
    /// What nothing has decided yet.
    open: Vec<Dependency>,
    /// What of that has failed once.
    failed: BTreeSet<Antecedent>,
    /// Whether something ended otherwise than it was to.
    doomed: bool,
    /// After how many promotions all of it was decided.
    decided: Option<u64>,
}

impl Wait {
    /// Takes note of ends.
    fn hear(&mut self, end_of: impl Fn(Antecedent) -> Option<End>) {
        let Wait { open, failed, doomed, .. } = self;
        open.retain(|dependency| match end_of(dependency.on) {
            None => true,
            Some(end) if end.leaves_open(dependency.after) => {
                failed.insert(dependency.on);
                true
            }
            Some(end) => {
                *doomed |= !dependency.after.is_met_by(end.state);
                false
            }
        });
    }

    /// Whether it waits for nothing any more, when this is all that it waited for.
    fn is_decided(&self) -> bool {
        self.doomed || self.open.is_empty()
    }
}

/// A batch as it was last seen.
#[derive(Debug)]
struct Batch {
    parent: Option<BatchId>,
    state: BatchState,
    sealed: bool,
    cancelled: bool,
    wait: Wait,
    members: Progression,
}

/// A member that is a job.
#[derive(Debug)]
struct Member {
    batch: BatchId,
    state: StateName,
}

/// All ties that were seen.
#[derive(Debug, Default)]
pub(crate) struct TieLedger {
    /// What clients set out to create.
    asked: BTreeMap<BatchId, NewBatch>,
    batches: BTreeMap<BatchId, Batch>,
    waits: BTreeMap<JobId, Wait>,
    /// Members, also those that were cleaned.
    members: BTreeMap<JobId, Member>,
    /// Keys and their holders.
    unique: BTreeMap<JobId, UniqueKey>,
    /// Jobs that are counted under limits, with the keys and how many may run.
    limited: BTreeMap<JobId, Vec<(String, u32)>>,
    /// Jobs that somebody waits or waited for.
    followed: BTreeSet<JobId>,
    /// A cleaning tells those who wait for these.
    lapsed: Lapsed,
    /// When jobs ended last, in virtual time.
    ended_at: BTreeMap<JobId, Duration>,
    promotions: u64,
    /// How often an operator has requeued jobs that had failed.
    repairs: BTreeMap<JobId, u32>,
    /// Whether anything here was ever asked for.
    used: bool,
}

/// Failed jobs whose retention has ended.
#[derive(Debug, Default)]
struct Lapsed(BTreeSet<JobId>);

impl Lapsed {
    /// What such a job is to those who wait for it.
    fn end_of(&self, on: Antecedent) -> Option<End> {
        let Antecedent::Job(job) = on else { return None };
        self.0.contains(&job).then_some(End::of(StateName::Deleted))
    }
}

/// The call that is being looked at, and what it moved.
pub(crate) struct TieLook<'a> {
    pub(crate) deed: Deed,
    /// Virtual time.
    pub(crate) at: Duration,
    /// Storage time.
    pub(crate) now: Timestamp,
    pub(crate) jobs: &'a BTreeMap<JobId, Entry>,
    pub(crate) moves: &'a [Moved],
    /// Jobs that it created, with the states they began in.
    pub(crate) born: &'a [(JobId, StateName)],
    pub(crate) asked: &'a BTreeMap<JobId, NewJob>,
    pub(crate) marks: &'a Marks,
}

impl TieLedger {
    /// Notes what somebody sets out to create.
    pub(crate) fn ask(&mut self, batches: &[NewBatch], jobs: &[NewJob]) {
        self.used |= !batches.is_empty() || jobs.iter().any(|job| !job.ties.is_empty());
        self.asked.extend(batches.iter().map(|batch| (batch.id, batch.clone())));
    }

    /// Whether any job has ties.
    pub(crate) fn is_used(&self) -> bool {
        self.used
    }

    /// The batches that somebody set out to create.
    pub(crate) fn batches(&self) -> Vec<BatchId> {
        self.asked.keys().copied().collect()
    }

    /// The batches that were seen, with their states.
    pub(crate) fn states(&self) -> impl Iterator<Item = (BatchId, BatchState)> {
        self.batches.iter().map(|(&id, batch)| (id, batch.state))
    }

    /// Failed jobs whose success others wait for, or for that of a batch around them.
    pub(crate) fn failed_parents(&self, failed: &[JobId]) -> Vec<JobId> {
        let of_batches = self.batches.values().map(|batch| &batch.wait);
        let waits = self.waits.values().chain(of_batches);
        let open: BTreeSet<Antecedent> =
            waits.flat_map(|wait| &wait.open).map(|dependency| dependency.on).collect();
        let up = |id: &BatchId| self.batches.get(id)?.parent;
        let is_waited_for = |job: &&JobId| {
            let batch = self.members.get(job).map(|member| member.batch);
            let mut around = std::iter::successors(batch, up);
            open.contains(&(**job).into()) || around.any(|batch| open.contains(&batch.into()))
        };
        failed.iter().filter(is_waited_for).copied().collect()
    }

    /// Counts that an operator requeues a failed job; answers how often that was done before.
    pub(crate) fn repair(&mut self, job: JobId) -> u32 {
        let times = self.repairs.entry(job).or_default();
        *times += 1;
        *times - 1
    }

    /// Notes a batch that somebody sealed or cancelled, before the call.
    pub(crate) fn note_change(&mut self, batch: BatchId, cancel: bool) {
        if let Some(batch) =
            self.batches.get_mut(&batch).filter(|batch| batch.state.end().is_none())
        {
            batch.sealed = true;
            batch.cancelled |= cancel;
        }
    }

    /// Whether a job may hold a key, as far as its state tells.
    pub(crate) fn may_hold(&self, key: &str, job: JobId, entry: &Entry) -> bool {
        let Some(unique) = self.unique.get(&job).filter(|unique| unique.key == key) else {
            return false;
        };
        match unique.scope {
            UniqueScope::Within(_) => entry.standing.state != StateName::Deleted,
            _ => !entry.standing.state.is_final(),
        }
    }

    /// S14, S15, S20: looks at all ties after a call. `records` are the batches that are stored.
    pub(crate) fn look(
        &mut self,
        records: &BTreeMap<BatchId, BatchRecord>,
        look: &TieLook<'_>,
    ) -> Check {
        self.promotions += u64::from(look.deed == Deed::Promote);
        let mut ends: BTreeMap<Antecedent, End> = BTreeMap::new();
        self.take_cleaned(look, &mut ends);
        for moved in look.moves {
            let decides = !moved.from.is_final() || moved.from == StateName::Failed;
            if moved.to.is_final() && decides {
                ends.insert(moved.job.into(), End::of(moved.to));
                self.ended_at.insert(moved.job, look.at);
            }
            if let Some(member) = self.members.get_mut(&moved.job) {
                member.state = moved.to;
            }
        }
        for (&id, record) in records {
            let before = self.batches.get(&id);
            let before = before.and_then(|batch| End::of_batch(batch.state, &batch.members));
            match (before, End::of_batch(record.state, &record.members)) {
                (None, Some(end)) => _ = ends.insert(id.into(), end),
                (Some(before), Some(end)) if end.for_good && !before.for_good => {
                    ends.insert(id.into(), end);
                    look.marks.hit(Mark::FailedForGood);
                }
                _ => {}
            }
        }
        self.take_born_batches(records, look, &ends);
        self.take_born_jobs(records, look, &ends)?;
        self.s15_batches(records, &ends)?;
        self.s14_waits(records, look, &ends)?;
        self.s20_limits(look)?;
        self.s20_keys(look)
    }

    /// Failed jobs whose retention has ended come to nothing any more: those that were cleaned, and those of which a
    /// cleaning may have told those who wait.
    fn take_cleaned(&mut self, look: &TieLook<'_>, ends: &mut BTreeMap<Antecedent, End>) {
        let is_gone = |job: &JobId| !look.jobs.contains_key(job);
        for (job, member) in &mut self.members {
            if member.state == StateName::Failed && is_gone(job) {
                member.state = StateName::Deleted;
            }
        }
        let of_batches = self.batches.values().map(|batch| &batch.wait);
        for dependency in self.waits.values().chain(of_batches).flat_map(|wait| &wait.open) {
            if let Antecedent::Job(parent) = dependency.on
                && is_gone(&parent)
            {
                ends.insert(dependency.on, End::of(StateName::Deleted));
            }
        }
        let lapsed = look.jobs.iter().filter(|(_, entry)| {
            entry.standing.state == StateName::Failed && entry.is_expired(look.now)
        });
        self.lapsed = Lapsed(lapsed.map(|(&job, _)| job).collect());
    }

    fn take_born_batches(
        &mut self,
        records: &BTreeMap<BatchId, BatchRecord>,
        look: &TieLook<'_>,
        ends: &BTreeMap<Antecedent, End>,
    ) {
        for (&id, record) in records {
            let Some(asked) = self.asked.get(&id).filter(|_| !self.batches.contains_key(&id))
            else {
                continue;
            };
            let wait = self.wait(&asked.after, look, records, ends);
            let batch = Batch {
                parent: asked.parent,
                state: if asked.open { BatchState::Open } else { BatchState::Awaiting },
                sealed: !asked.open,
                cancelled: false,
                wait,
                members: record.members,
            };
            self.batches.insert(id, batch);
        }
    }

    /// What somebody waits for who is created now.
    fn wait(
        &self,
        after: &[Dependency],
        look: &TieLook<'_>,
        records: &BTreeMap<BatchId, BatchRecord>,
        ends: &BTreeMap<Antecedent, End>,
    ) -> Wait {
        let mut wait = Wait { open: after.to_vec(), ..Wait::default() };
        wait.hear(|on| {
            let stands = match on {
                Antecedent::Job(job) => look
                    .jobs
                    .get(&job)
                    .map(|entry| End::of(entry.standing.state))
                    .filter(|end| end.state.is_final()),
                Antecedent::Batch(batch) => records
                    .get(&batch)
                    .and_then(|record| End::of_batch(record.state, &record.members)),
            };
            ends.get(&on).copied().or(stands)
        });
        wait
    }

    fn take_born_jobs(
        &mut self,
        records: &BTreeMap<BatchId, BatchRecord>,
        look: &TieLook<'_>,
        ends: &BTreeMap<Antecedent, End>,
    ) -> Check {
        for &(job, first) in look.born {
            let Some(NewJob { ties, .. }) = look.asked.get(&job) else { continue };
            if let Some(batch) = ties.batch {
                let state = look.jobs.get(&job).map_or(first, |entry| entry.standing.state);
                self.members.insert(job, Member { batch, state });
            }
            if let Some(unique) = &ties.unique {
                self.unique.insert(job, unique.clone());
            }
            let slots = ties
                .limits
                .iter()
                .filter_map(|limit| Some((limit.key(), limit.declared?.concurrency?)));
            self.limited.insert(job, slots.collect());
            for dependency in &ties.after {
                if let Antecedent::Job(parent) = dependency.on {
                    self.followed.insert(parent);
                }
            }
            let wait = self.wait(&ties.after, look, records, ends);
            if ties.after.len() > wait.open.len() {
                let just = |ended: &Duration| look.at - *ended <= JUST;
                let just_ended = ties.after.iter().any(|dependency| match dependency.on {
                    Antecedent::Job(parent) => self.ended_at.get(&parent).is_some_and(just),
                    Antecedent::Batch(_) => false,
                });
                look.marks.hit(if just_ended {
                    Mark::ParentJustEnded
                } else {
                    Mark::ParentHadEnded
                });
            }
            let held_up = ties.batch.is_some_and(|batch| !has_started(records, batch));
            let right = match first {
                StateName::Awaiting => !ties.after.is_empty() || ties.batch.is_some(),
                _ => wait.is_decided() && !wait.doomed && !held_up,
            };
            require(Invariant::S14, right, || {
                format!("job {job} began as {first}; it waits for {wait:?}")
            })?;
            if first == StateName::Awaiting {
                self.waits.insert(job, wait);
            }
        }
        Ok(())
    }

    /// S14: who waits leaves `awaiting` once, as the first ends decide, and in time.
    fn s14_waits(
        &mut self,
        records: &BTreeMap<BatchId, BatchRecord>,
        look: &TieLook<'_>,
        ends: &BTreeMap<Antecedent, End>,
    ) -> Check {
        let promotions = self.promotions;
        let mut gone = Vec::new();
        for (&job, wait) in &mut self.waits {
            wait.hear(|on| ends.get(&on).copied());
            let batch = self.members.get(&job).map(|member| member.batch);
            let starts = batch.is_none_or(|batch| has_started(records, batch));
            let left = look
                .moves
                .iter()
                .find(|moved| moved.job == job && moved.from == StateName::Awaiting);
            if let Some(moved) = left {
                if look.deed == Deed::Clean {
                    // The parent may be gone by the same call, and be known as deleted so.
                    wait.hear(|on| self.lapsed.end_of(on));
                    if wait.doomed && !wait.failed.is_empty() {
                        look.marks.hit(Mark::FailedParentCleaned);
                    }
                }
                s14_left_rightly(job, moved, wait, starts, look.deed)?;
                if moved.cause == Cause::Continued {
                    for on in &wait.failed {
                        look.marks.hit(match on {
                            Antecedent::Job(_) => Mark::FailedParentRepaired,
                            Antecedent::Batch(_) => Mark::FailedBatchRepaired,
                        });
                    }
                }
                if moved.cause == Cause::Continued && look.deed == Deed::Rescue {
                    look.marks.hit(Mark::ReleasedByRescue);
                }
                if moved.cause == Cause::Deleted && wait.doomed {
                    look.marks.hit(Mark::Unmet);
                }
                gone.push(job);
                continue;
            }
            if !look.jobs.contains_key(&job) {
                gone.push(job);
                continue;
            }
            if wait.doomed || (wait.open.is_empty() && starts) {
                let decided = *wait.decided.get_or_insert(promotions);
                require(Invariant::S14, promotions <= decided, || {
                    format!("job {job} stands awaiting, though all is decided: {wait:?}")
                })?;
            }
        }
        for job in gone {
            self.waits.remove(&job);
        }
        Ok(())
    }

    /// S15: the numbers of each batch are a recount of its members, and it stands where they lead.
    fn s15_batches(
        &mut self,
        records: &BTreeMap<BatchId, BatchRecord>,
        ends: &BTreeMap<Antecedent, End>,
    ) -> Check {
        for (id, batch) in &mut self.batches {
            batch.wait.hear(|on| ends.get(&on).copied());
            if records.get(id).is_some_and(|record| record.state != batch.state) {
                batch.wait.hear(|on| self.lapsed.end_of(on));
            }
        }
        let mut counted: BTreeMap<BatchId, Progression> = BTreeMap::new();
        for member in self.members.values() {
            count(counted.entry(member.batch).or_default(), Some(member.state));
        }
        for (id, batch) in &self.batches {
            if let Some(parent) = batch.parent {
                let end =
                    records.get(id).and_then(|record| End::of_batch(record.state, &record.members));
                count(counted.entry(parent).or_default(), end.map(End::counted));
            }
        }
        let started: BTreeSet<BatchId> =
            records.keys().copied().filter(|&batch| has_started(records, batch)).collect();
        let cancelled: BTreeSet<BatchId> =
            self.batches.keys().copied().filter(|&batch| self.is_cancelled_above(batch)).collect();
        for (id, batch) in &mut self.batches {
            let Some(record) = records.get(id) else { continue };
            let numbers = counted.get(id).copied().unwrap_or_default();
            require(Invariant::S15, numbers == record.members, || {
                format!("batch {id} counts {:?}; its members are {numbers:?}", record.members)
            })?;
            let may_start = batch.sealed
                && batch.wait.open.is_empty()
                && !batch.wait.doomed
                && batch.parent.is_none_or(|parent| started.contains(&parent));
            let was_started = !matches!(batch.state, BatchState::Open | BatchState::Awaiting);
            let right = match record.state {
                BatchState::Open => !batch.sealed,
                BatchState::Awaiting => batch.sealed,
                BatchState::Started | BatchState::Succeeded | BatchState::Failed => {
                    was_started || may_start
                }
                BatchState::Cancelling | BatchState::Cancelled => {
                    cancelled.contains(id) || batch.wait.doomed
                }
            };
            let ended = record.state.end().is_some();
            let empty = record.members.pending == 0;
            let ends_rightly = match (batch.state.end(), record.state) {
                (Some(_), _) => true,
                (None, BatchState::Succeeded) => numbers.succeeded == numbers.total,
                (None, BatchState::Failed) => numbers.succeeded < numbers.total,
                _ => true,
            };
            let over = !started.contains(id) || ended == empty;
            require(Invariant::S15, right && over && ends_rightly, || {
                format!(
                    "batch {id} went from {:?} to {:?} with {numbers:?}; it waits for {:?}",
                    batch.state, record.state, batch.wait
                )
            })?;
            batch.cancelled |= batch.wait.doomed;
            batch.state = record.state;
            batch.members = numbers;
        }
        Ok(())
    }

    fn is_cancelled_above(&self, batch: BatchId) -> bool {
        let up = |id: &BatchId| self.batches.get(id)?.parent;
        let line = std::iter::successors(Some(batch), up);
        line.filter_map(|id| self.batches.get(&id))
            .any(|batch| batch.cancelled || batch.wait.doomed)
    }

    /// S20: no claim lets more jobs of a key run than its limit allows.
    fn s20_limits(&self, look: &TieLook<'_>) -> Check {
        let claimed = look.moves.iter().filter(|moved| moved.cause == Cause::Claimed);
        for (key, most) in claimed.filter_map(|moved| self.limited.get(&moved.job)).flatten() {
            let of_key = |job: &JobId| {
                self.limited.get(job).is_some_and(|keys| keys.iter().any(|(own, _)| own == key))
            };
            let runs = look.jobs.iter().filter(|(job, entry)| {
                entry.standing.state == StateName::Processing && of_key(job)
            });
            let running = runs.count();
            require(Invariant::S20, running <= *most as usize, || {
                format!("{running} jobs of `{key}` run at a time; at most {most} may")
            })?;
        }
        Ok(())
    }

    /// S20: of those who hold a key until they start or end, there is one.
    fn s20_keys(&self, look: &TieLook<'_>) -> Check {
        let mut holders: BTreeMap<&str, JobId> = BTreeMap::new();
        for (&job, unique) in &self.unique {
            let Some(entry) = look.jobs.get(&job).filter(|entry| holds(unique, entry)) else {
                continue;
            };
            if let Some(other) = holders.insert(&unique.key, job) {
                let key = &unique.key;
                return require(Invariant::S20, false, || {
                    format!("`{key}` is held by job {other} and by job {job} ({})", entry.cause)
                });
            }
        }
        Ok(())
    }

    /// Counts the rare situations of a call.
    pub(crate) fn mark(&self, look: &TieLook<'_>) {
        for batch in self.batches.keys() {
            let of_batch = |moved: &&Moved| {
                let member = self.members.get(&moved.job);
                member.is_some_and(|member| member.batch == *batch)
                    && moved.to.is_final()
                    && !moved.from.is_final()
            };
            let ended = look.moves.iter().filter(of_batch).count();
            let pending = self.batches.get(batch).map_or(1, |batch| batch.members.pending);
            if look.deed == Deed::Cycle && ended > 1 && pending == 0 {
                look.marks.hit(Mark::LastTwoMembers);
            }
        }
        for moved in look.moves {
            let again = moved.from.is_final() && !moved.to.is_final();
            if again && self.followed.contains(&moved.job) {
                look.marks.hit(Mark::ParentRequeued);
            }
            if again && self.members.contains_key(&moved.job) {
                look.marks.hit(Mark::BatchReopened);
            }
            let limited = self.limited.get(&moved.job).is_some_and(|keys| !keys.is_empty());
            if moved.cause == Cause::Rescued && limited {
                look.marks.hit(Mark::SlotFreedByRescue);
            }
        }
    }
}

/// S14: how somebody left `awaiting` is what the ends of the others decide.
fn s14_left_rightly(job: JobId, moved: &Moved, wait: &Wait, starts: bool, deed: Deed) -> Check {
    let reason = moved.reason.as_deref().unwrap_or_default();
    let right = match moved.cause {
        Cause::Continued => wait.open.is_empty() && !wait.doomed && starts,
        Cause::Deleted if reason.starts_with(UNMET) => wait.doomed,
        Cause::Deleted if OF_ITSELF.iter().any(|own| reason.starts_with(own)) => true,
        _ => deed == Deed::Change,
    };
    require(Invariant::S14, right, || {
        format!("job {job} was {} ({reason}) by {deed:?}; it waits for {wait:?}", moved.cause)
    })
}

fn has_started(records: &BTreeMap<BatchId, BatchRecord>, batch: BatchId) -> bool {
    let state = records.get(&batch).map(|record| record.state);
    !matches!(state, Some(BatchState::Open | BatchState::Awaiting))
}

/// Whether a job holds its key for certain.
fn holds(unique: &UniqueKey, entry: &Entry) -> bool {
    match unique.scope {
        UniqueScope::UntilFinished => !entry.standing.state.is_final(),
        UniqueScope::UntilStarted => {
            !entry.standing.state.is_final() && entry.standing.attempt == 0
        }
        UniqueScope::Within(_) => false,
    }
}

fn count(numbers: &mut Progression, state: Option<StateName>) {
    numbers.total += 1;
    match state {
        Some(StateName::Succeeded) => numbers.succeeded += 1,
        Some(StateName::Failed) => numbers.failed += 1,
        Some(StateName::Deleted) => numbers.deleted += 1,
        _ => numbers.pending += 1,
    }
}
