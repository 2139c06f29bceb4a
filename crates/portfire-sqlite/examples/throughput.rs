//! Prints what the storage itself does per second, so that it can be measured again:
//! `cargo run --release -p portfire-sqlite --example throughput [FOLDER] [SCENARIO…]`.
//!
//! Scenarios: serial, concurrent, many, cycle, backlog, finished, scheduled, bytes, processes,
//! flood, latency, idle, ties, keys, lines, recurring, notes. All by default.
//! The database is made in FOLDER (default: the temporary folder), at durable defaults.

#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portfire_core::recurring::plan;
use portfire_core::{
    Annotation, BatchId, ClaimRequest, ClaimedJob, Conflict, CycleRequest, Dependency,
    DueRecurring, Finish, Fired, JobId, Json, KindName, Level, LimitName, LimitRule, LimitUse,
    LogLine, ManualClock, NewBatch, NewJob, NewRecurring, NewServer, Notes, Outcome, QueueName,
    RecurringChange, RecurringId, Schedule, ServerId, Storage, Timestamp, UniqueKey, UniqueScope,
    When,
};
use portfire_sqlite::rusqlite::Connection;
use portfire_sqlite::{SqliteOptions, SqliteStorage};

const SCENARIOS: [&str; 17] = [
    "serial",
    "concurrent",
    "many",
    "cycle",
    "backlog",
    "finished",
    "scheduled",
    "bytes",
    "processes",
    "flood",
    "latency",
    "idle",
    "ties",
    "keys",
    "lines",
    "recurring",
    "notes",
];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if let [role, path] = &wanted[..]
        && role.starts_with("role-")
    {
        return part(role, Path::new(path)).await;
    }
    let folder = match wanted.first() {
        Some(first) if !SCENARIOS.contains(&first.as_str()) => PathBuf::from(wanted.remove(0)),
        _ => std::env::temp_dir(),
    };
    let folder = folder.join(format!("portfire-throughput-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = measure(&folder, &wanted).await;
    std::fs::remove_dir_all(&folder)?;
    measured
}

async fn measure(folder: &Path, wanted: &[String]) -> Result<()> {
    for (number, scenario) in SCENARIOS.into_iter().enumerate() {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == scenario) {
            continue;
        }
        let path = folder.join(format!("{number}.db"));
        match scenario {
            "serial" => serial(&path).await?,
            "concurrent" => concurrent(&path).await?,
            "many" => many(&path).await?,
            "cycle" => cycle(&path).await?,
            "backlog" => backlog(&path).await?,
            "finished" => finished(&path).await?,
            "scheduled" => scheduled(&path).await?,
            "bytes" => bytes(&path).await?,
            "processes" => {
                let one = "role-enqueue";
                processes(&path, &[one, one, one, one, "role-work", "role-work"])?;
            }
            "latency" => latency(&path).await?,
            "idle" => idle(&path).await?,
            "ties" => ties(&path).await?,
            "keys" => keys(&path).await?,
            "lines" => lines(&path).await?,
            "recurring" => recurring(&path).await?,
            "notes" => notes(&path).await?,
            _ => processes(&path, &["role-flood", "role-flood", "role-enqueue", "role-work"])?,
        }
    }
    Ok(())
}

/// One caller that awaits each job, beside one-row commits of SQLite itself: what the disk and SQLite
/// allow. They take turns, so that both meet the same moods of the disk.
async fn serial(path: &Path) -> Result<()> {
    let raw = Connection::open(path.with_extension("raw.db"))?;
    raw.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000;
         CREATE TABLE row (seq INTEGER PRIMARY KEY, id BLOB, args TEXT);",
    )?;
    let mut insert = raw.prepare("INSERT INTO row (id, args) VALUES (?1, ?2)")?;
    let storage = SqliteStorage::open(path).await?;
    let mut ids = Ids::new(1);
    let (mut commits, mut jobs) = (0u32, 0u32);
    let (mut raw_watch, mut watch) = (Stopwatch::start(), Stopwatch::start());
    for _ in 0..20 {
        raw_watch.go_on();
        for _ in 0..200 {
            insert.execute(("0123456789abcdef", "{}"))?;
            commits += 1;
        }
        raw_watch.stop();
        watch.go_on();
        for _ in 0..200 {
            storage.create(vec![ids.job()]).await?;
            jobs += 1;
        }
        watch.stop();
    }
    raw_watch.report("one-row commits of SQLite itself", commits);
    watch.report("enqueue, one caller", jobs);
    let share = raw_watch.took.as_secs_f64() / watch.took.as_secs_f64();
    println!("one caller reaches {:.1} % of SQLite itself", share * 100.0);
    storage.close().await;
    Ok(())
}

async fn concurrent(path: &Path) -> Result<()> {
    let storage = Arc::new(SqliteStorage::open(path).await?);
    let mut watch = Stopwatch::start();
    let callers: Vec<_> = (0..100)
        .map(|caller| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                let mut ids = Ids::new(100 + caller);
                for _ in 0..3_000 {
                    storage.create(vec![ids.job()]).await?;
                }
                Ok::<_, portfire_core::StorageError>(())
            })
        })
        .collect();
    for caller in callers {
        caller.await??;
    }
    watch.report("enqueue, 100 callers", 300_000);
    println!("jobs a commit: {}", 300_000 / storage.commits());
    storage.close().await;
    Ok(())
}

async fn many(path: &Path) -> Result<()> {
    let storage = SqliteStorage::open(path).await?;
    let mut watch = Stopwatch::start();
    fill(&storage, 2, 500_000, When::Now).await?;
    watch.report("enqueue, 1,000 a call", 500_000);
    storage.close().await;
    Ok(())
}

async fn cycle(path: &Path) -> Result<()> {
    for batch in [50, 200, 500] {
        let path = path.with_extension(format!("{batch}.db"));
        let storage = SqliteStorage::open(&path).await?;
        fill(&storage, 3, 200_000, When::Now).await?;
        let mut watch = Stopwatch::start();
        drain(&storage, batch).await?;
        watch.report(&format!("claim + finish, {batch} a cycle"), 200_000);
        storage.close().await;
    }
    Ok(())
}

async fn backlog(path: &Path) -> Result<()> {
    let storage = SqliteStorage::open(path).await?;
    let server = announce(&storage).await?;
    let mut stored = 0;
    for waiting in [1_000, 10_000, 100_000, 1_000_000] {
        fill(&storage, 10 + waiting as u128, waiting - stored, When::Now).await?;
        stored = waiting;
        let took = claims(&storage, &server).await?;
        println!("claim of 20 with {waiting:>9} waiting: {:>8.1} us", micros(took));
    }
    storage.close().await;
    Ok(())
}

async fn finished(path: &Path) -> Result<()> {
    let storage = SqliteStorage::open(path).await?;
    fill(&storage, 4, 1_000_000, When::Now).await?;
    drain(&storage, 500).await?;
    fill(&storage, 5, 100_000, When::Now).await?;
    let mut watch = Stopwatch::start();
    drain(&storage, 200).await?;
    watch.report("claim + finish, 200 a cycle, 1 M finished", 100_000);
    storage.close().await;
    Ok(())
}

async fn scheduled(path: &Path) -> Result<()> {
    let storage = SqliteStorage::open(path).await?;
    let ahead = When::In(Duration::from_secs(86_400));
    let mut watch = Stopwatch::start();
    fill(&storage, 6, 1_000_000, ahead).await?;
    watch.report("schedule, 1,000 a call", 1_000_000);
    let mut watch = Stopwatch::start();
    fill(&storage, 7, 200_000, When::Now).await?;
    watch.report("enqueue, 1,000 a call, 1 M scheduled", 200_000);
    let mut watch = Stopwatch::start();
    drain(&storage, 200).await?;
    watch.report("claim + finish, 200 a cycle, 1 M scheduled", 200_000);
    storage.close().await;
    Ok(())
}

/// What a job costs on the disk from its creation to its end, the log and its checkpoint included.
async fn bytes(path: &Path) -> Result<()> {
    let storage = SqliteStorage::open(path).await?;
    let before = written();
    fill(&storage, 8, 200_000, When::Now).await?;
    let filled = written();
    drain(&storage, 300).await?;
    storage.close().await;
    let after = written();
    let (Some(before), Some(filled), Some(after)) = (before, filled, after) else {
        println!("bytes written: not told by this system");
        return Ok(());
    };
    println!("bytes written a job: {:>6} to create", (filled - before) / 200_000);
    println!("bytes written a job: {:>6} to claim and finish", (after - filled) / 200_000);
    println!("bytes written a job: {:>6} in all", (after - before) / 200_000);
    println!("bytes of the file a job: {:>6}", std::fs::metadata(path)?.len() / 200_000);
    Ok(())
}

/// A flood of jobs with ties, beside one of plain jobs: each is created 1,000 a call, and run 200 a cycle. They
/// take turns, so that all meet the same moods of the machine.
async fn ties(path: &Path) -> Result<()> {
    const JOBS: u32 = 30_000;
    const ROUNDS: u32 = 4;
    let sorts = ["plain", "continuations", "members", "unique", "limited"];
    let mut watches: Vec<Stopwatch> = sorts.iter().map(|_| Stopwatch::start()).collect();
    for round in 0..ROUNDS {
        for (sort, watch) in sorts.iter().zip(&mut watches) {
            let path = path.with_extension(format!("{sort}{round}.db"));
            let storage = SqliteStorage::open(&path).await?;
            let mut ids = Ids::new(20);
            watch.go_on();
            for call in 0..JOBS / 1_000 {
                let (batches, jobs) = tied(sort, call, &mut ids);
                storage.create_batches(batches, jobs).await?;
            }
            drain(&storage, 200).await?;
            watch.stop();
            storage.close().await;
        }
    }
    let plain = (watches[0].took, watches[0].processor);
    for (sort, watch) in sorts.iter().zip(&mut watches) {
        watch.report(&format!("create + claim + finish, {sort}"), JOBS * ROUNDS);
        let took = plain.0.as_secs_f64() / watch.took.as_secs_f64();
        let processor = plain.1.as_secs_f64() / watch.processor.as_secs_f64();
        println!("  {:.0} % of plain jobs' rate, {:.0} % by CPU", took * 100.0, processor * 100.0);
    }
    Ok(())
}

/// 1,000 jobs of a sort.
fn tied(sort: &str, call: u32, ids: &mut Ids) -> (Vec<NewBatch>, Vec<NewJob>) {
    let mut jobs: Vec<NewJob> = (0..1_000).map(|_| ids.job()).collect();
    match sort {
        "continuations" => {
            for at in (1..jobs.len()).step_by(2) {
                jobs[at].ties.after = vec![Dependency::on(jobs[at - 1].id)];
            }
        }
        "members" => {
            let batch = BatchId::new(ids.job().id);
            jobs.iter_mut().for_each(|job| job.ties.batch = Some(batch));
            return (vec![NewBatch::new(batch)], jobs);
        }
        "unique" => {
            for (at, job) in jobs.iter_mut().enumerate() {
                let key = format!("customer:{}", call as usize * 1_000 + at);
                let scope = UniqueScope::UntilFinished;
                job.ties.unique = Some(UniqueKey { key, scope, conflict: Conflict::Reject });
            }
        }
        "limited" => {
            let limit = LimitName::new("mail").expect("a legal name");
            let declared = Some(LimitRule::concurrency(100_000));
            let named = LimitUse { limit, partition: String::new(), declared };
            jobs.iter_mut().for_each(|job| job.ties.limits = vec![named.clone()]);
        }
        _ => {}
    }
    (Vec::new(), jobs)
}

/// From a create to the hint, in the same handle and in another one, as another process has it.
async fn latency(path: &Path) -> Result<()> {
    let storage = SqliteStorage::open(path).await?;
    let other = SqliteStorage::open(path).await?;
    let server = announce(&other).await?;
    for (name, listener) in [("this", &storage), ("another", &other)] {
        let mut wakeups = listener.wakeups();
        let mut ids = Ids::new(name.len() as u128);
        let mut times = Vec::new();
        for key in 0..250 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let start = Instant::now();
            storage.create(vec![ids.job()]).await?;
            let created = start.elapsed();
            wakeups.work().await;
            let mut request = CycleRequest::new(server.clone(), key);
            request.claim = wish(1);
            listener.cycle(request).await?;
            times.push((start.elapsed(), created));
        }
        times.sort_unstable();
        let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!(
            "create to claim by {name} process: p50 {:.0} us (of it the create {:.0}), p99 {:.0} us",
            micros(half.0),
            micros(half.1),
            micros(most.0)
        );
    }
    Ok(())
}

/// What a process costs that listens and has nothing to do.
async fn idle(path: &Path) -> Result<()> {
    let storage = SqliteStorage::open(path).await?;
    announce(&storage).await?;
    let _wakeups = storage.wakeups();
    let before = processor();
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let share = (processor() - before).as_secs_f64() / start.elapsed().as_secs_f64();
    println!("listening and idle: {:.2} % of a processor", share * 100.0);
    Ok(())
}

/// What a limit costs that is never reached, on every job: one of a thousand keys.
async fn keys(path: &Path) -> Result<()> {
    const JOBS: u32 = 100_000;
    let mut watches = [Stopwatch::start(), Stopwatch::start()];
    for round in 0..3 {
        for (limited, watch) in watches.iter_mut().enumerate() {
            let storage =
                SqliteStorage::open(path.with_extension(format!("{round}{limited}"))).await?;
            let mut ids = Ids::new(40 + round);
            watch.go_on();
            for _ in 0..JOBS / 1_000 {
                let mut batch: Vec<NewJob> = (0..1_000).map(|_| ids.job()).collect();
                for (tenant, job) in batch.iter_mut().enumerate().filter(|_| limited == 1) {
                    job.ties.limits = vec![tenant_limit(tenant.to_string(), 1_000)?];
                }
                storage.create(batch).await?;
            }
            drain(&storage, 200).await?;
            watch.stop();
            storage.close().await;
        }
    }
    let [mut plain, mut limited] = watches;
    plain.report("enqueue + claim + finish, plain", 3 * JOBS);
    limited.report("enqueue + claim + finish, a key each", 3 * JOBS);
    let share = plain.took.as_secs_f64() / limited.took.as_secs_f64();
    println!("jobs with a key reach {:.0} % of plain ones", share * 100.0);
    Ok(())
}

/// What a job costs that waits in the line of a mutex, by the length of the line.
async fn lines(path: &Path) -> Result<()> {
    for waiting in [10u32, 1_000, 10_000] {
        let path = path.with_extension(format!("{waiting}.db"));
        let storage = SqliteStorage::open(&path).await?;
        let mut ids = Ids::new(u128::from(waiting));
        let mut watch = Stopwatch::start();
        for _ in 0..10_000 / waiting {
            let mut batch: Vec<NewJob> = (0..waiting).map(|_| ids.job()).collect();
            for job in &mut batch {
                job.ties.limits = vec![tenant_limit(String::new(), 1)?];
            }
            storage.create(batch).await?;
            watch.go_on();
            drain(&storage, 20).await?;
            watch.stop();
        }
        watch.report(&format!("claim + finish one by one, {waiting} wait"), 10_000);
        storage.close().await;
    }
    Ok(())
}

/// 10,000 recurring jobs that are due at one instant.
async fn recurring(path: &Path) -> Result<()> {
    const DEFINITIONS: u32 = 10_000;
    let clock = Arc::new(ManualClock::default());
    let storage = SqliteOptions::new(path).clock(clock.clone()).open().await?;
    let mut watch = Stopwatch::start();
    let mut asked = Vec::new();
    for number in 0..DEFINITIONS {
        let id = RecurringId::new(format!("every-minute-{number}"))?;
        let schedule = Schedule::cron("* * * * *");
        let definition = NewRecurring::new(id, schedule, KindName::stored("noop"), Json::empty());
        let storage = storage.clone();
        let change = RecurringChange::Upsert(Box::new(definition));
        asked.push(tokio::spawn(async move { storage.change_recurring(change).await }));
    }
    for answer in asked {
        answer.await??;
    }
    watch.report("recurring jobs stored", DEFINITIONS);
    for minute in 1..=3 {
        clock.advance(Duration::from_secs(60));
        let mut watch = Stopwatch::start();
        let mut fired = 0;
        loop {
            let DueRecurring { now, due, .. } = storage.due_recurring(1_000).await?;
            if due.is_empty() {
                break;
            }
            let plans: Vec<_> = due.iter().map(|record| plan(record, now)).collect();
            for answer in storage.fire(plans).await? {
                fired += u32::from(matches!(answer, Fired::Applied { .. }));
            }
        }
        watch.report(&format!("recurring jobs fired in minute {minute}"), fired);
    }
    storage.close().await;
    Ok(())
}

/// What ten lines of log cost each job.
async fn notes(path: &Path) -> Result<()> {
    const JOBS: u32 = 100_000;
    let mut watches = [Stopwatch::start(), Stopwatch::start()];
    for round in 0..3 {
        for (speaks, watch) in watches.iter_mut().enumerate() {
            let storage =
                SqliteStorage::open(path.with_extension(format!("{round}{speaks}"))).await?;
            watch.go_on();
            fill(&storage, 50 + round, JOBS, When::Now).await?;
            drain_speaking(&storage, 200, speaks * 10).await?;
            watch.stop();
            storage.close().await;
        }
    }
    let [mut silent, mut speaking] = watches;
    silent.report("enqueue + claim + finish, plain", 3 * JOBS);
    speaking.report("enqueue + claim + finish, 10 log lines each", 3 * JOBS);
    let share = silent.took.as_secs_f64() / speaking.took.as_secs_f64();
    println!("jobs with 10 log lines reach {:.0} % of plain ones", share * 100.0);
    Ok(())
}

fn tenant_limit(tenant: String, concurrency: u32) -> Result<LimitUse> {
    let declared = Some(LimitRule::concurrency(concurrency));
    Ok(LimitUse { limit: LimitName::new("tenant")?, partition: tenant, declared })
}

/// Several processes on one file, for some seconds: what each of them gets done, and how long it
/// waited at worst.
fn processes(path: &Path, roles: &[&str]) -> Result<()> {
    let program = std::env::current_exe()?;
    let start = |role| std::process::Command::new(&program).arg(role).arg(path).spawn();
    let mut parts = Vec::new();
    for role in roles {
        parts.push(start(*role)?);
    }
    for mut part in parts {
        part.wait()?;
    }
    Ok(())
}

/// What one of several processes does.
async fn part(role: &str, path: &Path) -> Result<()> {
    let storage = SqliteStorage::open(path).await?;
    let mut ids = Ids::new(u128::from(std::process::id()));
    let server = announce(&storage).await?;
    let mut wakeups = storage.wakeups();
    let mut finished = Vec::new();
    let (mut jobs, mut calls, mut worst) = (0, 0, Duration::ZERO);
    let mut watch = Stopwatch::start();
    while watch.started.elapsed() < Duration::from_secs(5) {
        let start = Instant::now();
        if role == "role-enqueue" {
            storage.create(vec![ids.job()]).await?;
            jobs += 1;
        } else if role == "role-flood" {
            // So many callers that the writer finds work whenever it has committed.
            let callers = (0..16).map(|caller| {
                let storage = storage.clone();
                let mut ids = Ids::new(u128::from(std::process::id()) << 8 | caller);
                tokio::spawn(async move {
                    for _ in 0..20 {
                        storage.create((0..250).map(|_| ids.job()).collect()).await?;
                    }
                    Ok::<_, portfire_core::StorageError>(())
                })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await??;
                jobs += 20 * 250;
            }
        } else {
            let mut request = CycleRequest::new(server.clone(), calls);
            request.finished = std::mem::take(&mut finished);
            request.claim = wish(200);
            let claimed = storage.cycle(request).await?.claimed;
            finished = claimed.iter().map(done).collect();
            jobs += claimed.len() as u32;
        }
        calls += 1;
        worst = worst.max(start.elapsed());
        if role == "role-work" && finished.is_empty() {
            let _ = tokio::time::timeout(Duration::from_millis(20), wakeups.work()).await;
        }
    }
    watch.report(&format!("{role}: {calls} calls, worst {worst:.1?}"), jobs);
    storage.close().await;
    Ok(())
}

/// Bytes that this process has given to the disk so far.
fn written() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "))?;
    line.trim().parse().ok()
}

async fn fill(storage: &SqliteStorage, salt: u128, jobs: u32, when: When) -> Result<()> {
    let mut ids = Ids::new(salt);
    for _ in 0..jobs / 1_000 {
        let mut batch: Vec<NewJob> = (0..1_000).map(|_| ids.job()).collect();
        batch.iter_mut().for_each(|job| job.when = when);
        storage.create(batch).await?;
    }
    Ok(())
}

async fn announce(storage: &SqliteStorage) -> Result<ServerId> {
    let id = ServerId::new(format!("bench:{}", Timestamp::from(std::time::SystemTime::now())));
    let server = NewServer {
        kinds: Vec::new(),
        id: id.clone(),
        name: "bench".to_owned(),
        queues: vec![QueueName::DEFAULT],
        workers: 20,
        lease: Duration::from_secs(3_600),
    };
    storage.announce(server).await?;
    Ok(id)
}

fn wish(max: u32) -> Option<ClaimRequest> {
    Some(ClaimRequest { queues: vec![QueueName::DEFAULT], max, aging: None })
}

fn done(job: &ClaimedJob) -> Finish {
    let outcome = Outcome::Succeeded { result: None };
    Finish { claim: job.claim, outcome, duration: Duration::from_micros(3) }
}

/// Runs everything that waits, as a server would whose handlers take no time.
async fn drain(storage: &SqliteStorage, batch: u32) -> Result<()> {
    drain_speaking(storage, batch, 0).await
}

/// As `drain`, with so many lines of log from each job.
async fn drain_speaking(storage: &SqliteStorage, batch: u32, lines: usize) -> Result<()> {
    let server = announce(storage).await?;
    let (mut finished, mut notes) = (Vec::new(), Vec::new());
    for key in 0.. {
        let mut request = CycleRequest::new(server.clone(), key);
        request.notes = std::mem::take(&mut notes);
        request.finished = std::mem::take(&mut finished);
        request.claim = wish(batch);
        let answer = storage.cycle(request).await?;
        if answer.claimed.is_empty() {
            return Ok(());
        }
        finished = answer.claimed.iter().map(done).collect();
        if lines > 0 {
            notes = answer.claimed.iter().map(|job| speech(job, lines)).collect();
        }
    }
    Ok(())
}

fn speech(job: &ClaimedJob, lines: usize) -> Annotation {
    let line = |number| LogLine {
        attempt: job.claim.attempt,
        at: job.claimed_at,
        level: Level::Info,
        text: format!("step {number} of the work is done, with nothing odd about it"),
    };
    let lines = (0..lines).map(line).collect();
    Annotation::new(job.claim, Notes { lines, ..Notes::default() })
}

/// The median time of a claim of 20; what was claimed is given back.
async fn claims(storage: &SqliteStorage, server: &ServerId) -> Result<Duration> {
    let mut times = Vec::new();
    for key in 0..200 {
        let mut request = CycleRequest::new(server.clone(), key);
        request.claim = wish(20);
        let start = Instant::now();
        let claimed = storage.cycle(request).await?.claimed;
        times.push(start.elapsed());
        let mut request = CycleRequest::new(server.clone(), 1_000_000 + key);
        request.finished =
            claimed.iter().map(|job| Finish { outcome: Outcome::Released, ..done(job) }).collect();
        storage.cycle(request).await?;
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// Ids as a client makes them: rising, with some randomness behind.
struct Ids {
    salt: u128,
    made: i64,
    base: i64,
}

impl Ids {
    fn new(salt: u128) -> Ids {
        let base = Timestamp::from(std::time::SystemTime::now()).as_micros();
        Ids { salt, made: 0, base }
    }

    fn job(&mut self) -> NewJob {
        self.made += 1;
        let at = Timestamp::from_micros(self.base + self.made * 10);
        let fine = u128::from(self.made.unsigned_abs() % 100) << 64;
        let id = JobId::from_parts(at, fine | (self.salt << 20) | self.made.unsigned_abs() as u128);
        NewJob::new(id, KindName::stored("noop"), Json::empty())
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Processor time of this process so far, on all its threads. It tells what a busy machine hides.
fn processor() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split(' ').skip(12).take(2).filter_map(|part| part.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Time and processor time that something took, with pauses.
struct Stopwatch {
    started: Instant,
    processor_then: Duration,
    took: Duration,
    processor: Duration,
}

impl Stopwatch {
    fn start() -> Stopwatch {
        let (took, spent) = (Duration::ZERO, Duration::ZERO);
        let (started, processor_then) = (Instant::now(), processor());
        Stopwatch { started, processor_then, took, processor: spent }
    }

    fn stop(&mut self) {
        self.took += self.started.elapsed();
        self.processor += processor() - self.processor_then;
    }

    fn go_on(&mut self) {
        self.started = Instant::now();
        self.processor_then = processor();
    }

    /// Stops and prints, unless it was stopped before.
    fn report(&mut self, what: &str, count: u32) {
        if self.took.is_zero() {
            self.stop();
        }
        let per_second = f64::from(count) / self.took.as_secs_f64();
        let each = micros(self.took) / f64::from(count);
        let processor = micros(self.processor) / f64::from(count);
        println!("{what:<44} {per_second:>9.0} /s {each:>8.2} us each, {processor:>7.2} us of CPU");
    }
}
