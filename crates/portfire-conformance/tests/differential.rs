//! The comparison with the model passes for the storage in memory, and fails for storages that are
//! wrong in one place.

use std::any::Any;
use std::sync::Arc;

use portfire_conformance::differential::{self, Difference, Grouped};
use portfire_core::client::block_on;
use portfire_core::{
    After, Answer, Antecedent, BatchChange, BatchChanged, BatchId, Bucket, Change, Changed, Claim,
    Cleaned, Conflict, Continuation, Created, Cursor, Cycle, CycleRequest, DueRecurring, Fire,
    Fired, JobFilter, JobId, JobPage, KindRecord, Layer, LimitRule, LimitTarget, LockAnswer,
    LockRequest, LogPage, Lost, ManualClock, MemoryStorage, Monitor, NewBatch, NewJob, NewServer,
    Overlap, Promoted, QueueName, RecurringChange, RecurringChanged, RecurringId, RescueRequest,
    Rescued, RunRecord, ServerId, StatisticsRecord, Storage, Ties, Timestamp, WaitingRecord,
};

const STEPS: usize = 60;

#[test]
fn the_storage_in_memory_equals_the_model() {
    for seed in 0..300 {
        let make = async |clock: Arc<ManualClock>| {
            Arc::new(MemoryStorage::with_clock(clock)) as Arc<dyn Storage>
        };
        if let Err(difference) = block_on(differential::run(seed, STEPS, make)) {
            panic!("{difference}");
        }
    }
}

/// The storage in memory does one call after the other; here each counts as a commit that calls share.
struct OneByOne(Arc<MemoryStorage>);

impl Grouped for OneByOne {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.0) as Arc<dyn Storage>
    }

    fn hold(&self) -> Box<dyn Any + Send> {
        Box::new(())
    }

    fn commits(&self) -> Option<u64> {
        None
    }
}

#[test]
fn the_storage_in_memory_equals_the_model_when_calls_stand_together() {
    for seed in 0..100 {
        let make = async |clock: Arc<ManualClock>| {
            let storage = Arc::new(MemoryStorage::with_clock(clock));
            Arc::new(OneByOne(storage)) as Arc<dyn Grouped>
        };
        if let Err(difference) = block_on(differential::run_together(seed, STEPS, make)) {
            panic!("{difference}");
        }
    }
}

/// One thing that a storage does wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    CreatesInReverse,
    AnnouncesNothingTwice,
    HeartbeatRenewsNothing,
    RetireForgotten,
    RepeatClaimsAnew,
    RescueIgnoresTheLimit,
    PromotesTooMany,
    ExpectationIgnored,
    CleansTooFew,
    PauseForgotten,
    PagesLoseTheirEnd,
    OutcomeOfAnHourLost,
    DependenciesForgotten,
    ConditionsIgnored,
    OutcomesKeptBack,
    BatchesNeverAwait,
    CancelsNothing,
    KeysForgotten,
    ConflictsAlwaysReject,
    LimitsForgotten,
    RulesNeverRemoved,
    AgingIgnored,
    FiresNothing,
    OverlapAllowed,
    JitterForgotten,
    DueWithoutBound,
    PrunesNothing,
    LocksForOneOwner,
    LocksKept,
    NotesDropped,
    LogOfOnePage,
    KindsForgotten,
    WaitsForNothing,
    RunsForgotten,
    FollowersForgotten,
}

const FAULTS: [Fault; 35] = [
    Fault::CreatesInReverse,
    Fault::AnnouncesNothingTwice,
    Fault::HeartbeatRenewsNothing,
    Fault::RetireForgotten,
    Fault::RepeatClaimsAnew,
    Fault::RescueIgnoresTheLimit,
    Fault::PromotesTooMany,
    Fault::ExpectationIgnored,
    Fault::CleansTooFew,
    Fault::PauseForgotten,
    Fault::PagesLoseTheirEnd,
    Fault::OutcomeOfAnHourLost,
    Fault::DependenciesForgotten,
    Fault::ConditionsIgnored,
    Fault::OutcomesKeptBack,
    Fault::BatchesNeverAwait,
    Fault::CancelsNothing,
    Fault::KeysForgotten,
    Fault::ConflictsAlwaysReject,
    Fault::LimitsForgotten,
    Fault::RulesNeverRemoved,
    Fault::AgingIgnored,
    Fault::FiresNothing,
    Fault::OverlapAllowed,
    Fault::JitterForgotten,
    Fault::DueWithoutBound,
    Fault::PrunesNothing,
    Fault::LocksForOneOwner,
    Fault::LocksKept,
    Fault::NotesDropped,
    Fault::LogOfOnePage,
    Fault::KindsForgotten,
    Fault::WaitsForNothing,
    Fault::RunsForgotten,
    Fault::FollowersForgotten,
];

fn first_difference(fault: Fault, seeds: u64) -> Option<Difference> {
    (0..seeds).find_map(|seed| {
        let make = async |clock: Arc<ManualClock>| {
            let right = MemoryStorage::with_clock(clock);
            Arc::new(Wrong { right, fault }) as Arc<dyn Storage>
        };
        block_on(differential::run(seed, STEPS, make)).err()
    })
}

#[test]
fn every_wrong_storage_is_found() {
    for fault in FAULTS {
        let found = first_difference(fault, 300);
        assert!(found.is_some(), "{fault:?} was not found in 300 sequences");
    }
}

#[test]
fn a_difference_is_told_with_the_few_operations_that_it_needs() {
    let difference = first_difference(Fault::PauseForgotten, 100).unwrap();
    assert!(difference.operations.len() <= 4, "{difference}");
    let text = difference.to_string();
    assert!(text.contains(&format!("seed {} differs at step", difference.seed)), "{text}");
    assert!(text.contains("Pause"), "{text}");
    assert_ne!(difference.expected, difference.actual);
}

/// The storage in memory with one fault.
#[derive(Debug)]
struct Wrong {
    right: MemoryStorage,
    fault: Fault,
}

impl Wrong {
    fn spoil_ties(&self, ties: &mut Ties) {
        let after = ties.after.iter_mut();
        match self.fault {
            Fault::DependenciesForgotten => ties.after.clear(),
            Fault::ConditionsIgnored => after.for_each(|one| one.after = After::End),
            Fault::OutcomesKeptBack => after.for_each(|one| one.pass = false),
            Fault::KeysForgotten => ties.unique = None,
            Fault::ConflictsAlwaysReject => {
                ties.unique.iter_mut().for_each(|key| key.conflict = Conflict::Reject);
            }
            Fault::LimitsForgotten => ties.limits.clear(),
            _ => {}
        }
    }
}

impl Layer for Wrong {
    fn inner(&self) -> &dyn Storage {
        &self.right
    }

    fn create_batches(
        &self,
        mut batches: Vec<NewBatch>,
        mut jobs: Vec<NewJob>,
    ) -> Answer<'_, Vec<Created>> {
        for job in &mut jobs {
            self.spoil_ties(&mut job.ties);
        }
        if let Fault::BatchesNeverAwait = self.fault {
            batches.iter_mut().for_each(|batch| batch.after.clear());
        }
        let Fault::CreatesInReverse = self.fault else {
            return self.right.create_batches(batches, jobs);
        };
        jobs.reverse();
        Box::pin(async move {
            let mut created = self.right.create_batches(batches, jobs).await?;
            created.reverse();
            Ok(created)
        })
    }

    fn change_batch(&self, batch: BatchId, change: BatchChange) -> Answer<'_, BatchChanged> {
        match (self.fault, change) {
            (Fault::CancelsNothing, BatchChange::Cancel { .. }) => {
                self.right.change_batch(batch, BatchChange::Seal)
            }
            (_, change) => self.right.change_batch(batch, change),
        }
    }

    fn change_recurring(&self, mut change: RecurringChange) -> Answer<'_, RecurringChanged> {
        match (self.fault, &mut change) {
            (Fault::OverlapAllowed, RecurringChange::Upsert(new)) => new.overlap = Overlap::Allow,
            (Fault::JitterForgotten, RecurringChange::Upsert(new)) => {
                new.jitter = std::time::Duration::ZERO;
            }
            (Fault::PrunesNothing, RecurringChange::Prune { app, .. }) => app.push('!'),
            _ => {}
        }
        self.right.change_recurring(change)
    }

    fn due_recurring(&self, max: u32) -> Answer<'_, DueRecurring> {
        match self.fault {
            Fault::DueWithoutBound => self.right.due_recurring(u32::MAX),
            _ => self.right.due_recurring(max),
        }
    }

    fn fire(&self, mut plans: Vec<Fire>) -> Answer<'_, Vec<Fired>> {
        if let Fault::FiresNothing = self.fault {
            plans.iter_mut().for_each(|plan| plan.revision += 1);
        }
        self.right.fire(plans)
    }

    fn set_limit(&self, target: LimitTarget, rule: Option<LimitRule>) -> Answer<'_, ()> {
        match (self.fault, rule) {
            (Fault::RulesNeverRemoved, None) => Box::pin(async { Ok(()) }),
            _ => self.right.set_limit(target, rule),
        }
    }

    fn lock(&self, mut request: LockRequest) -> Answer<'_, LockAnswer> {
        match (self.fault, &mut request) {
            (Fault::LocksForOneOwner, LockRequest::Acquire { owner, .. }) => owner.truncate(1),
            (Fault::LocksKept, LockRequest::Release { fence, .. }) => *fence += 1,
            _ => {}
        }
        self.right.lock(request)
    }

    fn announce(&self, server: NewServer) -> Answer<'_, ()> {
        let Fault::AnnouncesNothingTwice = self.fault else { return self.right.announce(server) };
        Box::pin(async move {
            match self.right.verify(server.id.clone(), Vec::new()).await {
                Ok(_) => Ok(()),
                Err(_) => self.right.announce(server).await,
            }
        })
    }

    fn heartbeat(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        match self.fault {
            Fault::HeartbeatRenewsNothing => self.right.verify(server, held),
            _ => self.right.heartbeat(server, held),
        }
    }

    fn retire(&self, server: ServerId) -> Answer<'_, ()> {
        match self.fault {
            Fault::RetireForgotten => Box::pin(async { Ok(()) }),
            _ => self.right.retire(server),
        }
    }

    fn cycle(&self, mut request: CycleRequest) -> Answer<'_, Cycle> {
        request.repeated &= !matches!(self.fault, Fault::RepeatClaimsAnew);
        match (self.fault, &mut request.claim) {
            (Fault::NotesDropped, _) => request.notes.clear(),
            (Fault::AgingIgnored, Some(claim)) => claim.aging = None,
            _ => {}
        }
        self.right.cycle(request)
    }

    fn rescue(&self, mut request: RescueRequest) -> Answer<'_, Rescued> {
        if let Fault::RescueIgnoresTheLimit = self.fault {
            request.recoveries_max = 3;
        }
        self.right.rescue(request)
    }

    fn promote(&self, max: u32) -> Answer<'_, Promoted> {
        match self.fault {
            Fault::PromotesTooMany => self.right.promote(max.saturating_add(1)),
            _ => self.right.promote(max),
        }
    }

    fn change(&self, mut changes: Vec<Change>) -> Answer<'_, Vec<Changed>> {
        if let Fault::ExpectationIgnored = self.fault {
            changes.iter_mut().for_each(|change| change.expect = None);
        }
        self.right.change(changes)
    }

    fn clean(&self, max: u32) -> Answer<'_, Cleaned> {
        let Fault::CleansTooFew = self.fault else { return self.right.clean(max) };
        Box::pin(async move {
            let cleaned = self.right.clean(max.min(1)).await?;
            Ok(Cleaned { more: false, ..cleaned })
        })
    }

    fn set_queue_paused(&self, queue: QueueName, paused: bool) -> Answer<'_, ()> {
        match self.fault {
            Fault::PauseForgotten => Box::pin(async { Ok(()) }),
            _ => self.right.set_queue_paused(queue, paused),
        }
    }

    fn jobs(&self, filter: JobFilter) -> Answer<'_, JobPage> {
        let Fault::PagesLoseTheirEnd = self.fault else { return self.right.jobs(filter) };
        Box::pin(async move { Ok(JobPage { next: None, ..self.right.jobs(filter).await? }) })
    }

    fn kinds(&self) -> Answer<'_, Vec<KindRecord>> {
        match self.fault {
            Fault::KindsForgotten => Box::pin(async { Ok(Vec::new()) }),
            _ => self.right.kinds(),
        }
    }

    fn waiting(&self, id: JobId) -> Answer<'_, Option<WaitingRecord>> {
        let Fault::WaitsForNothing = self.fault else { return self.right.waiting(id) };
        Box::pin(async move {
            let waiting = self.right.waiting(id).await?;
            Ok(waiting.map(|waiting| WaitingRecord { limit: None, ..waiting }))
        })
    }

    fn continuations(&self, on: Antecedent, max: u32) -> Answer<'_, Vec<Continuation>> {
        match self.fault {
            Fault::FollowersForgotten => self.right.continuations(on, max.min(1)),
            _ => self.right.continuations(on, max),
        }
    }

    fn runs(&self, id: RecurringId, max: u32) -> Answer<'_, Vec<RunRecord>> {
        match self.fault {
            Fault::RunsForgotten => self.right.runs(id, max.min(1)),
            _ => self.right.runs(id, max),
        }
    }

    fn log(&self, id: JobId, after: Option<Cursor>, max: u32) -> Answer<'_, LogPage> {
        match (self.fault, &after) {
            (Fault::LogOfOnePage, Some(_)) => Box::pin(async { Ok(LogPage::default()) }),
            _ => self.right.log(id, after, max),
        }
    }

    fn statistics(&self, bucket: Bucket, since: Timestamp) -> Answer<'_, Vec<StatisticsRecord>> {
        let Fault::OutcomeOfAnHourLost = self.fault else {
            return self.right.statistics(bucket, since);
        };
        Box::pin(async move {
            let mut records = self.right.statistics(bucket, since).await?;
            records.iter_mut().for_each(|record| record.failed = 0);
            Ok(records)
        })
    }
}
