//! Several processes on one file: each enqueues, works, or dies. The processes are this test binary
//! itself, started again with a role.

// A child tells its parent what it did.
#![allow(clippy::print_stdout)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use portfire_core::client::block_on;
use portfire_core::{
    ClaimRequest, CycleRequest, Finish, JobId, Json, KindName, Monitor, NewJob, NewServer, Outcome,
    QueueName, RescueRequest, ServerId, StateName, Storage, Verdict,
};
use portfire_sqlite::{SqliteOptions, SqliteStorage, Synchronous};

const ROLE: &str = "PORTFIRE_TEST_ROLE";
const FILE: &str = "PORTFIRE_TEST_FILE";

const ENQUEUERS: u32 = 4;
const WORKERS: u32 = 2;
const JOBS: u32 = 100_000;
const JOBS_A_CALL: u32 = 50;

/// A child of one of the tests below: does its part and prints what it did.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let path = PathBuf::from(std::env::var(FILE).expect("the parent names the file"));
    let (role, number) = role.split_once('-').expect("a role and a number");
    let number: u32 = number.parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        match role {
            "enqueue" => enqueue(&path, number).await,
            "work" => work(&path, number).await,
            "hold" => hold(&path, number).await,
            "open" => _ = open(&path).await.counts().await.unwrap(),
            other => panic!("no role {other}"),
        }
    });
}

fn start(role: &str, number: u32, path: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this test binary"))
        .args(["--exact", "role", "--nocapture"])
        .env(ROLE, format!("{role}-{number}"))
        .env(FILE, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child process")
}

/// The lines that a child has printed for its parent.
fn finish(child: Child) -> Vec<String> {
    let output = child.wait_with_output().expect("the child's output");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "a child failed: {text}");
    text.lines().filter_map(|line| line.split_once("> ").map(|(_, told)| told.to_owned())).collect()
}

async fn open(path: &Path) -> SqliteStorage {
    // The disk is not what is tested here.
    let options = SqliteOptions::new(path).synchronous(Synchronous::Off);
    options.open().await.expect("the file opens")
}

fn job(process: u32, number: u32) -> NewJob {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    id[4..8].copy_from_slice(&process.to_be_bytes());
    NewJob::new(JobId::from_bytes(id), KindName::stored("noop"), Json::empty())
}

async fn enqueue(path: &Path, process: u32) {
    let storage = open(path).await;
    for call in 0..JOBS / ENQUEUERS / JOBS_A_CALL {
        let numbers = call * JOBS_A_CALL..(call + 1) * JOBS_A_CALL;
        let jobs = numbers.map(|number| job(process, number)).collect();
        storage.create(jobs).await.expect("no write fails because others write");
    }
    storage.close().await;
}

async fn announce(storage: &SqliteStorage, number: u32) -> ServerId {
    let id = ServerId::new(format!("server-{number}"));
    let server = NewServer {
        kinds: Vec::new(),
        id: id.clone(),
        name: "worker".to_owned(),
        queues: vec![QueueName::DEFAULT],
        workers: 20,
        lease: Duration::from_secs(600),
    };
    storage.announce(server).await.expect("a server is announced");
    id
}

fn request(server: &ServerId, key: u64) -> CycleRequest {
    let mut request = CycleRequest::new(server.clone(), key);
    request.claim = Some(ClaimRequest { queues: vec![QueueName::DEFAULT], max: 100, aging: None });
    request
}

async fn work(path: &Path, process: u32) {
    let storage = open(path).await;
    let mut wakeups = storage.wakeups();
    let server = announce(&storage, process).await;
    let mut finished: Vec<Finish> = Vec::new();
    for key in 0.. {
        let done = finished.len();
        let mut request = request(&server, key);
        request.finished = std::mem::take(&mut finished);
        let cycle = storage.cycle(request).await.expect("no cycle fails because others write");
        assert!(cycle.verdicts.iter().all(|verdict| *verdict == Verdict::Applied));
        for job in &cycle.claimed {
            println!("> {}", job.claim.job);
            let outcome = Outcome::Succeeded { result: None };
            finished.push(Finish { claim: job.claim, outcome, duration: Duration::ZERO });
        }
        if cycle.claimed.is_empty() && done == 0 {
            if storage.counts().await.unwrap().succeeded_total == u64::from(JOBS) {
                break;
            }
            // Hints may be lost; then it is time to look again.
            let _ = tokio::time::timeout(Duration::from_millis(50), wakeups.work()).await;
        }
    }
    storage.retire(server).await.unwrap();
    storage.close().await;
}

/// Claims what there is, says so, and waits to be killed.
async fn hold(path: &Path, number: u32) {
    let storage = open(path).await;
    let server = announce(&storage, number).await;
    let cycle = storage.cycle(request(&server, 1)).await.unwrap();
    println!("> {}", cycle.claimed.len());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

#[test]
fn four_processes_enqueue_and_two_work_each_job_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let enqueuers: Vec<Child> =
        (0..ENQUEUERS).map(|number| start("enqueue", number, &path)).collect();
    let workers: Vec<Child> = (0..WORKERS).map(|number| start("work", number, &path)).collect();
    // The pipes are emptied side by side, so that no child waits for its parent.
    let readers: Vec<_> =
        workers.into_iter().map(|worker| std::thread::spawn(move || finish(worker))).collect();
    enqueuers.into_iter().for_each(|enqueuer| _ = finish(enqueuer));
    let mut ran = HashSet::new();
    for reader in readers {
        for id in reader.join().expect("the worker's output") {
            assert!(ran.insert(id.clone()), "job {id} ran twice");
        }
    }
    assert_eq!(ran.len(), JOBS as usize);

    let counts = block_on(async { open(&path).await.counts().await.unwrap() });
    assert_eq!(counts.of(StateName::Succeeded), u64::from(JOBS));
    assert_eq!(counts.created_total, u64::from(JOBS));
}

#[test]
fn eight_processes_start_on_a_new_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let starters: Vec<Child> = (0..8).map(|number| start("open", number, &path)).collect();
    starters.into_iter().for_each(|starter| _ = finish(starter));
    let counts = block_on(async { open(&path).await.counts().await.unwrap() });
    assert_eq!(counts.created_total, 0);
}

#[test]
fn the_jobs_of_a_killed_process_are_returned_before_its_lease_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let storage = block_on(open(&path));
    block_on(storage.create((0..10).map(|number| job(0, number)).collect())).unwrap();

    let mut holder = start("hold", 1, &path);
    let mut told = std::io::BufReader::new(holder.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("> ") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut told, &mut line).unwrap();
        assert!(read > 0, "the child ended early");
    }
    assert!(line.contains("> 10"), "{line}");
    let alive = block_on(storage.rescue(RescueRequest::default())).unwrap();
    assert_eq!((alive.dead.len(), alive.returned), (0, 0), "its process lives");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let heard = runtime.block_on(async {
        let mut wakeups = storage.wakeups();
        holder.kill().unwrap();
        holder.wait().unwrap();
        tokio::time::timeout(Duration::from_secs(10), wakeups.control()).await
    });
    assert!(heard.is_ok(), "no hint that a process has ended");
    let rescued = block_on(storage.rescue(RescueRequest::default())).unwrap();
    assert_eq!((rescued.dead.len(), rescued.returned), (1, 10));
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("-process-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
