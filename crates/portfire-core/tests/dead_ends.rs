//! What keeps jobs from running, as data: the problems of a storage, and why one job waits.

use std::sync::Arc;
use std::time::Duration;

use portfire_core::client::block_on;
use portfire_core::explain::{Basis, Explanation, Reason};
use portfire_core::problems::Problem;
use portfire_core::{
    Action, After, BatchChange, BatchId, BatchState, Cause, ClaimRequest, ClaimedJob, Client,
    CycleRequest, Dependency, ErrorRecord, Finish, JobId, Json, KindName, LimitName, LimitRule,
    LimitTarget, LimitUse, ManualClock, MemoryStorage, Monitor, NewBatch, NewJob, NewRecurring,
    NewServer, Outcome, QueueName, RecurringChange, RecurringId, Schedule, ServerId, StateName,
    Storage, Window,
};

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(30);

/// A storage on a clock that the test moves, without any server at first.
struct Stage {
    clock: Arc<ManualClock>,
    storage: Arc<MemoryStorage>,
    client: Client,
    keys: std::cell::Cell<u64>,
}

impl Stage {
    fn new() -> Stage {
        let clock = Arc::new(ManualClock::default());
        let storage = Arc::new(MemoryStorage::with_clock(clock.clone()));
        let client = Client::builder(storage.clone()).clock(clock.clone()).build();
        Stage { clock, storage, client, keys: std::cell::Cell::new(0) }
    }

    /// Makes a server known that serves a queue with handlers of some kinds.
    fn announce(&self, id: &str, queue: &str, kinds: &[&str], workers: u32) {
        let kinds = kinds.iter().map(|kind| KindName::stored(kind.to_string())).collect();
        let queues = vec![QueueName::stored(queue.to_owned())];
        let (name, id) = (id.to_owned(), ServerId::new(id));
        let server = NewServer { id, name, queues, workers, lease: LEASE, kinds };
        block_on(self.storage.announce(server)).unwrap();
    }

    /// Stores a job of kind `work`.
    fn create(&self, with: impl FnOnce(&mut NewJob)) -> JobId {
        let mut job = NewJob::new(self.client.next_id(), KindName::stored("work"), Json::empty());
        with(&mut job);
        block_on(self.client.create(vec![job])).unwrap()[0].id
    }

    fn cycle(&self, server: &str, finished: Vec<Finish>, max: u32) -> Vec<ClaimedJob> {
        self.keys.set(self.keys.get() + 1);
        let queues = vec![QueueName::DEFAULT];
        let claim = Some(ClaimRequest { queues, max, aging: None });
        let request = CycleRequest::new(ServerId::new(server), self.keys.get());
        block_on(self.storage.cycle(CycleRequest { finished, claim, ..request })).unwrap().claimed
    }

    fn explain(&self, job: JobId) -> Explanation {
        block_on(self.client.explain(job)).unwrap().unwrap()
    }

    fn reasons(&self, job: JobId) -> Vec<Reason> {
        self.explain(job).reasons
    }

    fn problems(&self) -> Vec<Problem> {
        block_on(self.client.problems()).unwrap()
    }

    fn recurring(&self, change: RecurringChange) {
        block_on(self.storage.change_recurring(change)).unwrap();
    }
}

fn success(job: &ClaimedJob) -> Finish {
    Finish { claim: job.claim, outcome: Outcome::Succeeded { result: None }, duration: SECOND }
}

fn recurring(id: &str, schedule: Schedule) -> NewRecurring {
    let (id, kind) = (RecurringId::new(id).unwrap(), KindName::stored("work"));
    NewRecurring::new(id, schedule, kind, Json::empty())
}

#[test]
fn a_storage_where_everything_is_served_has_no_problem() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 2);
    stage.create(|_| ());
    stage.recurring(RecurringChange::Upsert(Box::new(recurring("r", Schedule::cron("0 8 * * *")))));
    assert_eq!(stage.problems(), []);
}

#[test]
fn queues_and_kinds_that_nobody_serves_are_named() {
    let stage = Stage::new();
    stage.create(|_| ());
    assert_eq!(stage.problems(), [Problem::NoServer { waiting: 1 }]);
    stage.announce("a", "mail", &["send"], 1);
    let (queue, kind) = (QueueName::DEFAULT, KindName::stored("work"));
    assert_eq!(
        stage.problems(),
        [
            Problem::QueueWithoutServer { queue: queue.clone(), enqueued: 1 },
            Problem::KindWithoutHandler { kind, waiting: 1 },
        ]
    );
    // A server that does not say what it can do may be able to do anything.
    stage.announce("b", "default", &[], 1);
    assert_eq!(stage.problems(), []);
    block_on(stage.client.pause_queue("default")).unwrap();
    let paused = Problem::QueuePaused { queue, enqueued: 1 };
    let said = "queue `default` is paused with 1 job in it: resume it with `portfire queues resume default`";
    assert_eq!(paused.to_string(), said);
    assert_eq!(stage.problems(), [paused]);
    block_on(stage.client.resume_queue("default")).unwrap();
    assert_eq!(stage.problems(), []);
    assert!(block_on(stage.client.pause_queue("A B")).is_err());
}

#[test]
fn a_lost_heartbeat_is_told_until_its_jobs_are_returned() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 1);
    stage.create(|_| ());
    assert_eq!(stage.cycle("a", Vec::new(), 1).len(), 1);
    let heartbeat_at = block_on(stage.storage.now()).unwrap();
    stage.clock.advance(LEASE + SECOND);
    let server = ServerId::new("a");
    assert_eq!(stage.problems(), [Problem::HeartbeatLost { server, heartbeat_at, processing: 1 }]);
    block_on(stage.storage.rescue(portfire_core::RescueRequest::default())).unwrap();
    assert_eq!(stage.problems(), [Problem::NoServer { waiting: 1 }]);
}

#[test]
fn recurring_jobs_that_do_not_fire_are_named_with_the_reason() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 1);
    stage.recurring(RecurringChange::Upsert(Box::new(recurring(
        "february",
        Schedule::cron("0 0 30 2 *"),
    ))));
    stage.recurring(RecurringChange::Upsert(Box::new(recurring(
        "often",
        Schedule::Every(60 * SECOND),
    ))));
    let mut over = recurring("over", Schedule::Every(60 * SECOND));
    over.ends_at = Some(block_on(stage.storage.now()).unwrap());
    stage.recurring(RecurringChange::Upsert(Box::new(over)));
    let mut foreign = recurring("foreign", Schedule::cron("@yearly"));
    foreign.kind = KindName::stored("unknown");
    stage.recurring(RecurringChange::Upsert(Box::new(foreign)));
    let id = |id: &str| RecurringId::stored(id);
    let lacking = Problem::RecurringWithoutHandler {
        recurring: id("foreign"),
        kind: KindName::stored("unknown"),
    };
    let never = Problem::RecurringNeverFires { recurring: id("february") };
    assert_eq!(stage.problems(), [never.clone(), lacking.clone()]);
    let due_at = block_on(stage.storage.recurring(id("often"))).unwrap().unwrap().next_at.unwrap();
    for _ in 0..13 {
        stage.clock.advance(10 * SECOND);
        block_on(stage.storage.heartbeat(ServerId::new("a"), Vec::new())).unwrap();
    }
    let overdue = Problem::RecurringOverdue { recurring: id("often"), due_at };
    assert_eq!(stage.problems(), [never, lacking.clone(), overdue]);
    stage.recurring(RecurringChange::Pause { id: id("often"), until: None });
    stage.recurring(RecurringChange::Remove(id("february")));
    assert_eq!(stage.problems(), [lacking]);
}

#[test]
fn a_recurring_job_that_was_given_up_is_told_with_its_fault() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 1);
    stage.recurring(RecurringChange::Upsert(Box::new(recurring("r", Schedule::Every(SECOND)))));
    let id = RecurringId::stored("r");
    for faults in 1..=portfire_core::recurring::FAULTS_MAX {
        let record = block_on(stage.storage.recurring(id.clone())).unwrap().unwrap();
        let action = portfire_core::FireAction::Fault { reason: "no such zone".to_owned() };
        let plan = portfire_core::Fire { id: id.clone(), revision: record.revision, action };
        block_on(stage.storage.fire(vec![plan])).unwrap();
        let (recurring, reason) = (id.clone(), "no such zone".to_owned());
        let expected = match faults < portfire_core::recurring::FAULTS_MAX {
            true => Problem::RecurringFaulty { recurring, reason },
            false => Problem::RecurringDisabled { recurring, reason },
        };
        assert_eq!(stage.problems(), [expected]);
    }
}

#[test]
fn a_batch_that_nobody_seals_is_told_after_an_hour() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 1);
    let id = BatchId::new(stage.client.next_id());
    let mut batch = NewBatch::new(id);
    batch.open = true;
    batch.description = "import".to_owned();
    block_on(stage.storage.create_batches(vec![batch], Vec::new())).unwrap();
    assert_eq!(stage.problems(), []);
    stage.clock.advance(Duration::from_secs(3_601));
    let told = stage.problems();
    assert!(
        matches!(&told[..], [.., Problem::BatchOpen { batch, .. }] if *batch == id),
        "{told:?}"
    );
}

#[test]
fn a_job_that_is_not_stored_has_no_explanation() {
    let stage = Stage::new();
    assert_eq!(block_on(stage.client.explain(stage.client.next_id())).unwrap(), None);
}

#[test]
fn a_job_that_nothing_holds_back_is_next() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 1);
    let job = stage.create(|_| ());
    let told = stage.explain(job);
    assert_eq!((told.state, &told.reasons[..]), (StateName::Enqueued, &[Reason::Next][..]));
    assert_eq!(told.start.unwrap().at, block_on(stage.storage.now()).unwrap());
}

#[test]
fn obstacles_come_in_the_order_in_which_they_must_be_overcome() {
    let stage = Stage::new();
    let now = block_on(stage.storage.now()).unwrap();
    let job = stage.create(|job| {
        job.when = (10 * SECOND).into();
        job.options.expires_at = Some(now.saturating_add(20 * SECOND));
    });
    let (queue, kind) = (QueueName::DEFAULT, KindName::stored("work"));
    block_on(stage.storage.set_queue_paused(queue.clone(), true)).unwrap();
    let run_at = now.saturating_add(10 * SECOND);
    let instant = Reason::Instant { run_at, cause: Cause::Created };
    let paused = Reason::QueuePaused { queue: queue.clone() };
    assert_eq!(stage.reasons(job), [instant, paused.clone(), Reason::NoServer]);
    assert_eq!(stage.explain(job).start, None);
    stage.announce("a", "mail", &["send"], 1);
    stage.clock.advance(21 * SECOND);
    let expires_at = now.saturating_add(20 * SECOND);
    let expected = [
        Reason::Due { run_at },
        Reason::TooLate { expires_at },
        paused,
        Reason::QueueWithoutServer { queue },
        Reason::KindWithoutHandler { kind, since: None, fails_at: None },
    ];
    assert_eq!(stage.reasons(job), expected);
    let text = stage.explain(job).to_string();
    assert!(
        text.starts_with(&format!("job {job} is scheduled\n  - it is due since {run_at}")),
        "{text}"
    );
    assert!(text.contains("\n  - no live server has a handler of kind `work`"), "{text}");
}

#[test]
fn a_handler_that_serves_other_queues_only_is_told() {
    let stage = Stage::new();
    stage.announce("a", "default", &["send"], 1);
    stage.announce("b", "mail", &["work"], 1);
    let job = stage.create(|_| ());
    let (queue, kind) = (QueueName::DEFAULT, KindName::stored("work"));
    assert_eq!(
        stage.reasons(job)[0],
        Reason::HandlerElsewhere { kind, queue, servers: vec![ServerId::new("b")] }
    );
    assert_eq!(stage.explain(job).start, None);
    stage.announce("c", "default", &["work"], 1);
    assert_eq!(stage.reasons(job), [Reason::Next]);
}

#[test]
fn a_planned_job_has_its_instant_as_the_estimate() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 1);
    let job = stage.create(|job| job.when = (10 * SECOND).into());
    let told = stage.explain(job).start.unwrap();
    let run_at = block_on(stage.storage.now()).unwrap().saturating_add(10 * SECOND);
    assert_eq!((told.at, told.basis), (run_at, Basis::Plan));
}

#[test]
fn antecedents_are_told_with_their_states_and_batches_with_theirs() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 1);
    let done = stage.create(|_| ());
    let claimed = stage.cycle("a", Vec::new(), 1);
    let parent = stage.create(|_| ());
    let id = BatchId::new(stage.client.next_id());
    let mut batch = NewBatch::new(id);
    batch.open = true;
    block_on(stage.storage.create_batches(vec![batch], Vec::new())).unwrap();
    let child = stage.create(|job| {
        job.ties.after = vec![Dependency::on(done), Dependency::on(parent)];
        job.ties.batch = Some(id);
    });
    stage.cycle("a", vec![success(&claimed[0])], 0);
    let waits = |state: &str| Reason::Antecedent {
        on: parent.into(),
        after: portfire_core::After::Success,
        state: Some(state.to_owned()),
    };
    let open = Reason::BatchNotStarted { batch: id, state: BatchState::Open };
    assert_eq!(stage.reasons(child), [waits("enqueued"), open.clone()]);
    stage.cycle("a", Vec::new(), 1);
    assert_eq!(stage.reasons(child), [waits("processing"), open]);
    let _ = block_on(stage.storage.change_batch(id, BatchChange::Seal)).unwrap();
    assert_eq!(stage.reasons(child), [waits("processing")]);
    let text = stage.explain(child).to_string();
    assert!(
        text.contains(&format!("it waits for the success of job {parent}, which is processing"))
    );
}

#[test]
fn a_member_of_a_cancelled_batch_is_told_that_it_will_be_deleted() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 1);
    let id = BatchId::new(stage.client.next_id());
    let mut batch = NewBatch::new(id);
    batch.open = true;
    block_on(stage.storage.create_batches(vec![batch], Vec::new())).unwrap();
    let job = stage.create(|job| job.ties.batch = Some(id));
    let _ = block_on(stage.storage.change_batch(id, BatchChange::Seal)).unwrap();
    let reason = "not wanted".to_owned();
    let _ = block_on(stage.storage.change_batch(id, BatchChange::Cancel { reason })).unwrap();
    assert_eq!(stage.reasons(job)[0], Reason::BatchCancelled { batch: id });
}

#[test]
fn a_full_limit_is_told_with_its_holders() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 4);
    let limit = LimitName::new("mail").unwrap();
    let limited = |job: &mut NewJob| {
        let declared = Some(LimitRule::concurrency(1));
        let limit = limit.clone();
        job.ties.limits = vec![LimitUse { limit, partition: "eu".to_owned(), declared }];
    };
    let holder = stage.create(limited);
    let waiter = stage.create(limited);
    assert_eq!(stage.cycle("a", Vec::new(), 4).len(), 1);
    let full = Reason::LimitFull { key: "mail:eu".to_owned(), running: 1, holders: vec![holder] };
    assert_eq!(stage.reasons(waiter), [full]);
    assert_eq!(stage.explain(waiter).start, None, "nobody knows how long the holder takes");
}

#[test]
fn a_used_rate_is_told_with_the_instant_at_which_it_allows_the_next() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 4);
    let target = LimitTarget::Kind(KindName::stored("work"));
    let rule = LimitRule::rate(1, 60 * SECOND, Window::Fixed);
    block_on(stage.storage.set_limit(target, Some(rule))).unwrap();
    stage.create(|_| ());
    let waiter = stage.create(|_| ());
    assert_eq!(stage.cycle("a", Vec::new(), 4).len(), 1);
    let told = stage.explain(waiter);
    let next_at = match &told.reasons[..] {
        [Reason::RateUsed { key, next_at }] if key == "kind work" => *next_at,
        reasons => panic!("{reasons:?}"),
    };
    let start = told.start.unwrap();
    assert_eq!((start.at, start.basis), (next_at, Basis::Rate));
    // The next but two starts two windows later.
    let third = (0..2).map(|_| stage.create(|_| ())).last().unwrap();
    let told = stage.explain(third);
    assert_eq!(told.reasons[1], Reason::Ahead { jobs: 2 });
    assert_eq!(Reason::Ahead { jobs: 1 }.to_string(), "1 job comes before it");
    assert_eq!(told.start.unwrap().at, next_at.saturating_add(120 * SECOND));
}

#[test]
fn the_rate_of_a_queue_is_told_with_the_windows_that_those_ahead_fill() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 4);
    let target = LimitTarget::Queue(QueueName::DEFAULT);
    let rule = LimitRule::rate(2, 60 * SECOND, Window::Fixed);
    block_on(stage.storage.set_limit(target, Some(rule))).unwrap();
    let jobs: Vec<JobId> = (0..6).map(|_| stage.create(|_| ())).collect();
    assert_eq!(stage.cycle("a", Vec::new(), 4).len(), 2);
    let (queue, now) = (QueueName::DEFAULT, block_on(stage.storage.now()).unwrap());
    let rate = Reason::QueueRate { queue, count: 2, per: 60 * SECOND };
    assert_eq!(rate.to_string(), "queue `default` starts at most 2 jobs in 1m");
    assert_eq!(stage.reasons(jobs[2]), std::slice::from_ref(&rate));
    let told = stage.explain(jobs[5]);
    assert_eq!(told.reasons, [rate, Reason::Ahead { jobs: 3 }]);
    let start = told.start.unwrap();
    assert_eq!((start.at, start.basis), (now.saturating_add(60 * SECOND), Basis::Rate));
}

#[test]
fn a_job_that_waits_for_an_instant_says_why() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 1);
    let job = stage.create(|job| job.when = (10 * SECOND).into());
    let text = stage.explain(job).to_string();
    assert!(text.contains(": it was scheduled for then"), "{text}");
    stage.clock.advance(11 * SECOND);
    block_on(stage.storage.promote(10)).unwrap();
    let claimed = stage.cycle("a", Vec::new(), 1);
    let outcome = Outcome::Retry { delay: SECOND, error: ErrorRecord::new("error", "no") };
    let finish = Finish { claim: claimed[0].claim, outcome, duration: SECOND };
    stage.cycle("a", vec![finish], 0);
    let text = stage.explain(job).to_string();
    assert!(text.contains(": it failed, and is tried again then"), "{text}");
}

#[test]
fn jobs_ahead_busy_workers_and_the_limit_of_the_queue_are_told_with_an_estimate() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 1);
    for _ in 0..9 {
        stage.create(|_| ());
        let claimed = stage.cycle("a", Vec::new(), 1);
        stage.cycle("a", vec![success(&claimed[0])], 0);
    }
    stage.create(|_| ());
    stage.cycle("a", Vec::new(), 1);
    (0..3).for_each(|_| _ = stage.create(|_| ()));
    let last = stage.create(|_| ());
    stage.clock.advance(29 * SECOND);
    let told = stage.explain(last);
    assert_eq!(told.reasons, [Reason::Ahead { jobs: 3 }, Reason::AllBusy { workers: 1 }]);
    // Nine jobs ended in an hour and 29 seconds: four more take four ninths of that.
    let start = told.start.unwrap();
    let wait = start.at.since(block_on(stage.storage.now()).unwrap());
    assert_eq!((wait.as_secs(), start.basis), (3_629 * 4 / 9, Basis::Pace));
    let target = LimitTarget::Queue(QueueName::DEFAULT);
    block_on(stage.storage.set_limit(target, Some(LimitRule::concurrency(1)))).unwrap();
    let limit = Reason::QueueLimit { queue: QueueName::DEFAULT, concurrency: 1 };
    assert_eq!(stage.reasons(last)[0], limit);
}

#[test]
fn running_lost_and_ended_jobs_say_so() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 1);
    let job = stage.create(|_| ());
    let since = block_on(stage.storage.now()).unwrap();
    stage.cycle("a", Vec::new(), 1);
    let server = ServerId::new("a");
    assert_eq!(stage.reasons(job), [Reason::Running { server: server.clone(), since }]);
    stage.clock.advance(LEASE);
    let lost = Reason::ServerLost { server, heartbeat_at: Some(since) };
    assert_eq!(stage.reasons(job), [lost]);
    let action = Action::Delete { reason: "not wanted".to_owned() };
    let change = portfire_core::Change { job, action, expect: None };
    block_on(stage.storage.change(vec![change])).unwrap();
    let at = block_on(stage.storage.now()).unwrap();
    assert_eq!(stage.reasons(job), [Reason::Ended { at, why: Some("not wanted".to_owned()) }]);
    let json = serde_json::to_value(stage.explain(job)).unwrap();
    assert_eq!(
        (&json["state"], &json["reasons"][0]["reason"]),
        (&"deleted".into(), &"ended".into())
    );
}

#[test]
fn who_waits_for_what_has_failed_says_what_to_do() {
    let stage = Stage::new();
    stage.announce("a", "default", &["work"], 1);
    let batch = BatchId::new(stage.client.next_id());
    let mut member = NewJob::new(stage.client.next_id(), KindName::stored("work"), Json::empty());
    member.ties.batch = Some(batch);
    let failed = member.id;
    block_on(stage.storage.create_batches(vec![NewBatch::new(batch)], vec![member])).unwrap();
    let claimed = stage.cycle("a", Vec::new(), 1);
    let outcome = Outcome::Failed { error: ErrorRecord::new("error", "no disk") };
    stage.cycle("a", vec![Finish { claim: claimed[0].claim, outcome, duration: SECOND }], 0);
    assert_eq!(stage.problems(), [], "nobody waits for it");

    let of_job = stage.create(|job| job.ties.after = vec![Dependency::on(failed)]);
    let of_batch = stage.create(|job| job.ties.after = vec![Dependency::on(batch)]);
    let next = stage.create(|job| job.ties.after = vec![Dependency::on(of_job)]);
    let told = stage.reasons(of_job)[0].to_string();
    let expected =
        format!("it waits for the success of job {failed}, which has failed: requeue or delete it");
    assert_eq!(told, expected);
    let told = stage.reasons(of_batch)[0].to_string();
    let mend = "requeue the members that failed, or delete one of them";
    let expected = format!("it waits for the success of batch {batch}, which has failed: {mend}");
    assert_eq!(told, expected);
    let told = stage.reasons(next)[0].to_string();
    assert_eq!(told, format!("it waits for the success of job {of_job}, which is awaiting"));
    let mut new = NewBatch::new(BatchId::new(stage.client.next_id()));
    new.after = vec![Dependency::on(failed)];
    block_on(stage.storage.create_batches(vec![new], Vec::new())).unwrap();
    let problems = [
        Problem::FailedParent { on: failed.into(), waiting: 2 },
        Problem::FailedParent { on: batch.into(), waiting: 1 },
    ];
    assert_eq!(stage.problems(), problems);
    let said = format!("2 wait for job {failed}, which has failed: requeue or delete it");
    assert_eq!(problems[0].to_string(), said);
    let said = format!("1 waits for batch {batch}, which has failed: {mend}");
    assert_eq!(problems[1].to_string(), said);

    stage.clock.advance(SECOND);
    let parents = [stage.create(|_| ()), stage.create(|_| ())];
    let both = stage.create(|job| {
        let end = Dependency::on(parents[0]).after(After::End);
        job.ties.after = vec![end, Dependency::on(parents[1])];
    });
    let claimed = stage.cycle("a", Vec::new(), 1);
    let outcome = Outcome::Failed { error: ErrorRecord::new("error", "no disk") };
    stage.cycle("a", vec![Finish { claim: claimed[0].claim, outcome, duration: SECOND }], 0);
    for job in [failed, parents[0]] {
        let change = portfire_core::Change { job, action: Action::Requeue, expect: None };
        block_on(stage.storage.change(vec![change])).unwrap();
    }
    assert_eq!(stage.problems(), [], "they run again");
    let told: Vec<String> = stage.reasons(both).iter().map(ToString::to_string).collect();
    let expected = format!("it waits for the success of job {}, which is enqueued", parents[1]);
    assert_eq!(told, [expected], "the end of the first has come");
}
