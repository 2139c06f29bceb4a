//! Claims where jobs stand out of order: given back to old places, or woken from lines.

use std::sync::Arc;
use std::time::Duration;

use portfire_core::client::block_on;
use portfire_core::{
    ClaimRequest, CycleRequest, Finish, JobId, Json, KindName, LimitName, LimitRule, LimitTarget,
    LimitUse, ManualClock, Monitor, NewJob, NewServer, Outcome, QueueName, ServerId, Storage,
    Timestamp,
};
use portfire_sqlite::{SqliteOptions, SqliteStorage};

const AGING: Duration = Duration::from_secs(5);

struct Setup {
    _folder: tempfile::TempDir,
    storage: SqliteStorage,
    clock: Arc<ManualClock>,
    made: u128,
    cycles: u64,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let options = SqliteOptions::new(folder.path().join("jobs.db")).clock(clock.clone());
    let storage = block_on(options.open()).unwrap();
    Setup { _folder: folder, storage, clock, made: 0, cycles: 0 }
}

impl Setup {
    fn job(&mut self) -> NewJob {
        self.made += 1;
        let id = JobId::from_parts(Timestamp::from_micros(1_000_000), self.made);
        NewJob::new(id, KindName::stored("noop"), Json::empty())
    }

    /// Stores jobs under a limit, or under none.
    fn create(&mut self, count: usize, limit: Option<&str>) -> Vec<JobId> {
        let mut jobs: Vec<NewJob> = (0..count).map(|_| self.job()).collect();
        for job in &mut jobs {
            job.ties.limits = limit.map(under).into_iter().collect();
        }
        let ids = jobs.iter().map(|job| job.id).collect();
        block_on(self.storage.create(jobs)).unwrap();
        ids
    }

    fn server(&self, name: &str) -> ServerId {
        let id = ServerId::new(name);
        let server = NewServer {
            kinds: Vec::new(),
            id: id.clone(),
            name: name.to_owned(),
            queues: vec![QueueName::DEFAULT],
            workers: 1,
            lease: Duration::from_secs(3_600),
        };
        block_on(self.storage.announce(server)).unwrap();
        id
    }

    fn claim(&mut self, server: &ServerId, max: u32, aging: Option<Duration>) -> Vec<JobId> {
        self.cycles += 1;
        let mut request = CycleRequest::new(server.clone(), self.cycles);
        request.claim = Some(ClaimRequest { queues: vec![QueueName::DEFAULT], max, aging });
        let claimed = block_on(self.storage.cycle(request)).unwrap().claimed;
        claimed.iter().map(|job| job.claim.job).collect()
    }

    fn finish(&mut self, server: &ServerId, job: JobId) {
        self.cycles += 1;
        let mut request = CycleRequest::new(server.clone(), self.cycles);
        let claim = portfire_core::Claim::new(job, 1);
        let outcome = Outcome::Succeeded { result: None };
        request.finished = vec![Finish { claim, outcome, duration: Duration::ZERO }];
        block_on(self.storage.cycle(request)).unwrap();
    }
}

fn under(limit: &str) -> LimitUse {
    let limit = LimitName::new(limit).unwrap();
    LimitUse { limit, partition: String::new(), declared: None }
}

#[test]
fn an_aged_job_behind_many_that_were_given_back_is_claimed() {
    let mut s = setup();
    let first = s.server("first");
    let jobs = s.create(1_101, None);
    assert_eq!(s.claim(&first, 1_100, None).len(), 1_100);
    s.clock.advance(2 * AGING);
    // Those that are given back keep their places and wait anew; the last has aged behind them.
    block_on(s.storage.retire(first)).unwrap();
    let second = s.server("second");
    let claimed = s.claim(&second, 2_000, Some(AGING));
    assert_eq!(claimed.len(), jobs.len());
    assert_eq!(s.claim(&second, 10, Some(AGING)), []);
}

#[test]
fn a_job_that_aged_in_a_line_comes_before_fresh_ones() {
    let mut s = setup();
    let server = s.server("server");
    let target = LimitTarget::Named(LimitName::new("l").unwrap());
    block_on(s.storage.set_limit(target, Some(LimitRule::concurrency(1)))).unwrap();
    let limited = s.create(2, Some("l"));
    assert_eq!(s.claim(&server, 10, None), limited[..1]);
    s.clock.advance(2 * AGING);
    let fresh = s.create(3, None);
    // The waiter goes to the end of its queue, and has waited longest.
    s.finish(&server, limited[0]);
    assert_eq!(s.claim(&server, 2, Some(AGING)), [limited[1], fresh[0]]);
    assert_eq!(s.claim(&server, 2, None), fresh[1..]);
}

#[test]
fn keys_that_are_at_nothing_leave_no_row() {
    let mut s = setup();
    let server = s.server("server");
    let target = LimitTarget::Named(LimitName::new("l").unwrap());
    block_on(s.storage.set_limit(target, Some(LimitRule::concurrency(1)))).unwrap();
    let jobs = s.create(3, Some("l"));
    for job in &jobs {
        assert_eq!(s.claim(&server, 10, None), [*job]);
        s.finish(&server, *job);
    }
    assert_eq!(block_on(s.storage.limit_keys(LimitName::new("l").unwrap())).unwrap(), []);
    let file = portfire_sqlite::rusqlite::Connection::open(s.storage.path()).unwrap();
    for table in ["portfire_key", "portfire_line"] {
        let count = format!("SELECT count(*) FROM {table}");
        let rows: i64 = file.query_row(&count, [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}
