//! What is chosen here about continuations, batches, unique keys, limits and recurring jobs.

use super::*;
use crate::batch::BatchState;
use crate::continuation::{After, Dependency};
use crate::limit::{LimitUse, Rate, Window};
use crate::recurring::{FireAction, NewRecurring, RUNS_KEPT, Schedule};
use crate::storage::RELEASE_MAX;
use crate::unique::{Conflict, UniqueKey, UniqueScope};

fn batch(n: u8) -> NewBatch {
    NewBatch::new(BatchId::from_bytes([n; 16]))
}

fn member(n: u8, batch: &NewBatch) -> NewJob {
    let mut job = job(n);
    job.ties.batch = Some(batch.id);
    job
}

fn after(n: u8, on: impl Into<Antecedent>, after: After) -> NewJob {
    let mut job = job(n);
    job.ties.after = vec![Dependency::on(on).after(after)];
    job
}

fn unique(n: u8, conflict: Conflict) -> NewJob {
    let mut job = job(n);
    let key = "user:17".to_owned();
    job.ties.unique = Some(UniqueKey { key, scope: UniqueScope::UntilFinished, conflict });
    job
}

fn limited(n: u8, limit: &str) -> NewJob {
    let mut job = job(n);
    let limit = LimitName::new(limit.to_owned()).unwrap();
    job.ties.limits = vec![LimitUse { limit, partition: String::new(), declared: None }];
    job
}

impl Bench {
    fn create_batches(&self, batches: Vec<NewBatch>, jobs: Vec<NewJob>) -> Vec<Created> {
        block_on(self.storage.create_batches(batches, jobs)).unwrap()
    }

    fn state(&self, n: u8) -> StateName {
        self.record(id(n)).state.name()
    }

    fn batch_state(&self, batch: &NewBatch) -> BatchState {
        block_on(self.storage.batch(batch.id)).unwrap().unwrap().state
    }

    fn promote(&self, max: u32) -> Promoted {
        block_on(self.storage.promote(max)).unwrap()
    }

    fn delete(&self, n: u8) -> Changed {
        self.change(id(n), Action::Delete { reason: "by hand".into() })
    }

    fn set_limit(&self, target: LimitTarget, rule: LimitRule) {
        block_on(self.storage.set_limit(target, Some(rule))).unwrap();
    }

    /// A job that so many others wait for, each with an id of its own.
    fn parent_of(&self, children: usize) -> Vec<JobId> {
        let _ = self.create(job(1));
        let child = |n: usize| {
            let child = JobId::from_parts(Timestamp::from_micros(n as i64 * 1_000), 7);
            NewJob { id: child, ..after(0, id(1), After::Success) }
        };
        let children: Vec<_> = (1..=children).map(child).collect();
        self.create_batches(vec![], children).iter().map(|created| created.id).collect()
    }

    fn count(&self, state: StateName) -> u64 {
        block_on(self.storage.counts()).unwrap().of(state)
    }
}

#[test]
fn what_one_call_cannot_release_is_left_and_decided_by_the_first_end() {
    let bench = Bench::new();
    let children = bench.parent_of(RELEASE_MAX + 3);
    let claim = bench.claim(1)[0].claim;
    bench.finish(claim, succeeded());
    assert_eq!(bench.count(StateName::Enqueued), RELEASE_MAX as u64);

    // The parent fails at a second try; its followers have been promised the first.
    assert!(bench.change(id(1), Action::Requeue).is_done());
    assert!(bench.delete(1).is_done());
    assert_eq!(bench.count(StateName::Awaiting), 3);
    let two = bench.promote(2);
    assert_eq!((two.released, two.next_in), (2, Some(Duration::ZERO)));
    let last = bench.promote(1);
    assert_eq!((last.released, last.next_in), (1, None));
    let last_child = bench.record(children[RELEASE_MAX + 2]);
    assert_eq!(last_child.state.name(), StateName::Enqueued);
    assert_eq!(bench.count(StateName::Deleted), 1);
}

#[test]
fn a_parent_is_not_cleaned_while_the_outbox_holds_its_end() {
    let bench = Bench::new();
    bench.parent_of(RELEASE_MAX + 1);
    let claim = bench.claim(1)[0].claim;
    bench.finish(claim, succeeded());
    bench.clock.advance(DEAD_SHOWN);
    let kept = block_on(bench.storage.clean(9)).unwrap();
    assert_eq!(kept, Cleaned { jobs: 0, more: false });
    assert_eq!(bench.promote(9).released, 1);
    assert_eq!(block_on(bench.storage.clean(9)).unwrap().jobs, 1);
}

#[test]
fn who_waits_for_a_rejected_job_of_its_call_waits_for_the_holder() {
    let bench = Bench::new();
    let _ = bench.create(unique(1, Conflict::Reject));
    let mut child = after(3, id(2), After::Success);
    child.ties.after.push(Dependency::on(id(1)).after(After::Failure));
    let created = bench.create_batches(vec![], vec![unique(2, Conflict::Reject), child]);
    assert_eq!(created[0], Created { id: id(1), existing: true });
    assert_eq!(bench.record(id(3)).ties.after, [Dependency::on(id(1))]);
    let claim = bench.claim(1)[0].claim;
    bench.finish(claim, succeeded());
    assert_eq!(bench.state(3), StateName::Enqueued);
}

#[test]
fn a_batch_does_not_end_between_two_jobs_of_one_call() {
    let bench = Bench::new();
    let batch = batch(9);
    let mut first = unique(1, Conflict::Replace);
    first.ties.batch = Some(batch.id);
    bench.create_batches(vec![batch.clone()], vec![first]);
    // The second takes the key, and with it the only member; the third is one more.
    let second = unique(2, Conflict::Replace);
    let callback = after(4, batch.id, After::End);
    bench.create_batches(vec![], vec![callback, second, member(3, &batch)]);
    assert_eq!((bench.state(1), bench.state(4)), (StateName::Deleted, StateName::Awaiting));
    assert_eq!(bench.batch_state(&batch), BatchState::Started);
    assert!(bench.delete(3).is_done());
    assert_eq!(
        (bench.batch_state(&batch), bench.state(4)),
        (BatchState::Failed, StateName::Enqueued)
    );
}

#[test]
fn a_batch_that_can_never_start_takes_the_members_of_its_call_with_it() {
    let bench = Bench::new();
    let _ = bench.create(job(1));
    assert!(bench.delete(1).is_done());
    let doomed = NewBatch { after: vec![Dependency::on(id(1))], ..batch(9) };
    bench.create_batches(vec![doomed.clone()], vec![member(2, &doomed)]);
    assert_eq!(bench.batch_state(&doomed), BatchState::Cancelling);
    assert_eq!(bench.state(2), StateName::Awaiting);
    bench.promote(1);
    assert_eq!(bench.batch_state(&doomed), BatchState::Cancelled);
    let JobState::Deleted { reason, .. } = bench.record(id(2)).state else { panic!() };
    let unmet = doomed.after[0].unmet_reason(StateName::Deleted);
    assert_eq!(reason, format!("its batch was cancelled: {unmet}"));
}

#[test]
fn a_member_cannot_wait_for_a_batch_that_waits_for_it() {
    let bench = Bench::new();
    let outer = batch(8);
    let inner = NewBatch { parent: Some(outer.id), ..batch(9) };
    let mut waits = member(1, &inner);
    waits.ties.after = vec![Dependency::on(outer.id)];
    let refused = block_on(bench.storage.create_batches(vec![outer, inner], vec![waits]));
    assert!(refused.unwrap_err().to_string().contains("end of its own batch"));
    assert_eq!(block_on(bench.storage.batches(BatchFilter::default())).unwrap().batches, []);
}

#[test]
fn a_refused_requeue_leaves_the_key_where_it_is() {
    let bench = Bench::new();
    let _ = bench.create(unique(1, Conflict::Reject));
    assert!(bench.delete(1).is_done());
    let _ = bench.create(unique(2, Conflict::Reject));
    assert_eq!(bench.change(id(1), Action::Requeue), Changed::Conflict { with: id(2) });
    let soon = Action::Reschedule(When::In(SECOND));
    assert_eq!(bench.change(id(1), soon), Changed::Conflict { with: id(2) });
    assert!(bench.delete(2).is_done());
    assert!(bench.change(id(1), Action::Requeue).is_done());
    assert_eq!(bench.change(id(2), Action::Requeue), Changed::Conflict { with: id(1) });
}

#[test]
fn a_kinds_first_rule_counts_those_that_run_already() {
    let bench = Bench::new();
    for n in 1..=4 {
        let _ = bench.create(job(n));
    }
    let running = bench.claim(2);
    bench.set_limit(LimitTarget::Kind(KindName::stored("k")), LimitRule::concurrency(2));
    assert_eq!(bench.claim(9), []);
    let waiting = block_on(bench.storage.waiting(id(4))).unwrap().unwrap();
    let key = waiting.limit.unwrap();
    assert_eq!((waiting.ahead, key.running, key.waiting, &*key.key), (1, 2, 2, "kind k"));
    assert_eq!(waiting.holders, [id(1), id(2)]);
    bench.finish(running[0].claim, succeeded());
    assert_eq!(ids(&bench.claim(9)), [id(3)]);
}

#[test]
fn a_waiter_goes_on_in_the_cycle_that_frees_its_slot() {
    let bench = Bench::new();
    let named = LimitTarget::Named(LimitName::new("db").unwrap());
    bench.set_limit(named, LimitRule::concurrency(1));
    for n in 1..=3 {
        let _ = bench.create(limited(n, "db"));
    }
    let first = bench.claim(9);
    assert_eq!(ids(&first), [id(1)]);
    let finish = Finish { claim: first[0].claim, outcome: succeeded(), duration: SECOND };
    let request = CycleRequest { finished: vec![finish], ..bench.claim_request(9) };
    assert_eq!(ids(&block_on(bench.storage.cycle(request)).unwrap().claimed), [id(2)]);
    // A second run begins in line too, by the order of creation; who runs frees its slot by its deletion.
    assert!(bench.change(id(1), Action::Requeue).is_done());
    assert_eq!(bench.claim(9), []);
    assert!(bench.delete(2).is_done());
    assert_eq!(ids(&bench.claim(9)), [id(1)]);
}

#[test]
fn starts_of_a_rate_are_forgotten_when_they_no_longer_matter() {
    let bench = Bench::new();
    let named = LimitTarget::Named(LimitName::new("mail").unwrap());
    let rate = Rate { count: 1, per: SECOND, window: Window::Fixed };
    bench.set_limit(named, LimitRule { concurrency: None, rate: Some(rate) });
    let _ = bench.create(limited(1, "mail"));
    let _ = bench.create(limited(2, "mail"));
    assert_eq!(ids(&bench.claim(9)), [id(1)]);
    let waits = bench.promote(9);
    assert_eq!((waits.released, waits.next_in), (0, Some(SECOND)));
    bench.clock.advance(SECOND);
    assert_eq!(bench.promote(9).released, 1);
    assert_eq!(ids(&bench.claim(9)), [id(2)]);
    for n in 1..=2 {
        assert!(bench.delete(n).is_done());
    }
    let data = || bench.storage.data.lock().unwrap();
    block_on(bench.storage.clean(9)).unwrap();
    assert!(data().jobs.limits.knows("mail"));
    bench.clock.advance(SECOND);
    block_on(bench.storage.clean(9)).unwrap();
    assert!(!data().jobs.limits.knows("mail"));
}

#[test]
fn aged_jobs_come_by_place_and_a_release_begins_the_wait_anew() {
    let bench = Bench::new();
    let _ = bench.create(job(1));
    let _ = bench.create(NewJob { priority: 5, ..job(2) });
    bench.clock.advance(SECOND);
    let _ = bench.create(NewJob { priority: 9, ..job(3) });
    let aged = |max| {
        let mut request = bench.claim_request(max);
        request.claim.as_mut().unwrap().aging = Some(SECOND);
        block_on(bench.storage.cycle(request)).unwrap().claimed
    };
    let first = aged(1);
    assert_eq!(ids(&first), [id(1)]);
    bench.finish(first[0].claim, Outcome::Released);
    assert_eq!(ids(&aged(9)), [id(2), id(3), id(1)]);
}

#[test]
fn the_last_runs_are_remembered_and_those_before_forgotten() {
    let bench = Bench::new();
    let name = RecurringId::new("r").unwrap();
    let every = Schedule::Every(SECOND);
    let new = NewRecurring::new(name.clone(), every, KindName::stored("k"), Json::empty());
    block_on(bench.storage.change_recurring(RecurringChange::Upsert(Box::new(new)))).unwrap();
    let start = bench.clock.now();
    let planned = |n: u64| start.saturating_add(Duration::from_secs(n));
    let count = u64::from(RUNS_KEPT) + 5;
    let action = FireAction::Run {
        planned: (1..=count).map(planned).collect(),
        next_at: Some(planned(count + 1)),
    };
    let stored = block_on(bench.storage.recurring(name.clone())).unwrap().unwrap();
    let plan = Fire { id: name.clone(), revision: stored.revision, action };
    let fired = block_on(bench.storage.fire(vec![plan.clone(), plan])).unwrap();
    let Fired::Applied { jobs } = &fired[0] else { panic!("{fired:?}") };
    assert_eq!((jobs.len() as u64, &fired[1]), (count, &Fired::Stale));

    // The end of a run that is remembered no more is noted nowhere; that of another is.
    for &job in [&jobs[0], &jobs[5]] {
        assert!(bench.change(job, Action::Delete { reason: "no".into() }).is_done());
    }
    let runs = block_on(bench.storage.runs(name, u32::MAX)).unwrap();
    assert_eq!(runs.len() as u32, RUNS_KEPT);
    assert_eq!(runs[0].planned_at, planned(count));
    let last = &runs[RUNS_KEPT as usize - 1];
    assert_eq!((last.job, last.outcome), (Some(jobs[5]), Some(StateName::Deleted)));
    assert!(runs[1..RUNS_KEPT as usize - 1].iter().all(|run| run.outcome.is_none()));
}
