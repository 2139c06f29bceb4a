//! A process whose writes are recorded: it stores jobs and works them off, and tells of each call before it is
//! made and after it is acknowledged.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use portfire::prelude::*;
use portfire::sqlite::{SqliteOptions, SqliteStorage};
use portfire::{Finish, JobId, Outcome, QueueName, ServerId, StateName, Storage};
use portfire_core::{ClaimRequest, CycleRequest, ErrorRecord, NewServer, Verdict};

use crate::AnyError;
use crate::power::story::Line;

/// Callers that store jobs at the same time.
const CALLERS: u64 = 3;

/// Jobs of a call that stores several.
const GROUP: u64 = 4;

/// Jobs that are claimed at a time.
const CLAIMED: u32 = 3;

/// How often a call whose answer was lost is made again.
const REPEATS: u32 = 20;

/// What this process does.
#[derive(Debug, Args)]
pub(crate) struct Role {
    /// The database.
    #[arg(long)]
    database: PathBuf,
    /// Where it tells of its calls.
    #[arg(long)]
    story: PathBuf,
    /// Its name.
    #[arg(long)]
    name: String,
    /// The number of its first job.
    #[arg(long)]
    from: u64,
    /// The number after the last.
    #[arg(long)]
    to: u64,
    /// Pages of the log from which it is copied.
    #[arg(long)]
    log_pages: u32,
    /// Dies at the first call that fails, as a process does that takes a disk's error for its end. Otherwise it
    /// repeats the call.
    #[arg(long)]
    dies: bool,
    /// Closes the storage at the end. Otherwise it dies without a word.
    #[arg(long)]
    closes: bool,
}

/// The job: it is only stored and ended, never run.
#[job]
pub(crate) async fn store(number: u64, padding: String) {
    drop((number, padding));
}

/// What a job carries beside its number: so long that rows spread over pages in ever other ways.
pub(crate) fn padding(number: u64) -> String {
    let length = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    let letter = char::from(b'a' + (number % 26) as u8);
    std::iter::repeat_n(letter, length as usize).collect()
}

pub(crate) async fn run(role: Role) -> Result<(), AnyError> {
    let story = OpenOptions::new().create(true).append(true).open(&role.story)?;
    let options = SqliteOptions::new(&role.database).log_pages(role.log_pages);
    let actor = Arc::new(Actor { story, dies: role.dies, storing: AtomicU64::new(CALLERS) });
    let storage = actor.repeat(|| options.clone().open()).await?;
    let client = Client::new(Arc::new(storage.clone()));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let numbers = share(role.from, role.to, caller);
            tokio::spawn(Arc::clone(&actor).store(client.clone(), numbers))
        })
        .collect();
    actor.work(&storage, &role.name).await?;
    for caller in callers {
        caller.await??;
    }
    if role.closes {
        drop(client);
        storage.close().await;
        return Ok(());
    }
    std::process::abort();
}

fn share(from: u64, to: u64, caller: u64) -> std::ops::Range<u64> {
    let jobs = to - from;
    from + jobs * caller / CALLERS..from + jobs * (caller + 1) / CALLERS
}

struct Actor {
    story: File,
    dies: bool,
    /// Callers that are not done.
    storing: AtomicU64,
}

impl Actor {
    /// Tells, in one write: lines of several threads do not mix.
    fn tell(&self, lines: impl IntoIterator<Item = Line>) -> Result<(), AnyError> {
        let text: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
        (&self.story).write_all(text.as_bytes())?;
        Ok(())
    }

    /// Makes a call until it is answered.
    async fn repeat<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
        &self,
        mut call: impl FnMut() -> F,
    ) -> Result<T, AnyError> {
        for _ in 0..REPEATS {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.tell([Line::Refused(error.to_string())])?,
            }
            if self.dies {
                std::process::abort();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err(format!("a call was refused {REPEATS} times").into())
    }

    /// Stores jobs one by one and in groups.
    async fn store(
        self: Arc<Self>,
        client: Client,
        numbers: std::ops::Range<u64>,
    ) -> Result<(), AnyError> {
        let mut next = numbers.start;
        while next < numbers.end {
            let count = if next.is_multiple_of(5) { GROUP } else { 1 };
            let group: Vec<(JobId, u64)> = (next..numbers.end.min(next + count))
                .map(|number| (client.next_id(), number))
                .collect();
            next += group.len() as u64;
            let first = group[0].1;
            self.tell(group.iter().map(|&(job, number)| Line::Wish { job, number, group: first }))?;
            let calls =
                || group.iter().map(|&(job, number)| store(number, padding(number)).id(job));
            self.repeat(|| client.enqueue_many(calls())).await?;
            self.tell(group.iter().map(|&(job, _)| Line::Stored(job)))?;
        }
        self.storing.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Claims and ends jobs until none is left and none will come.
    async fn work(&self, storage: &SqliteStorage, name: &str) -> Result<(), AnyError> {
        let id = ServerId::new(format!("{name}:{}:0", std::process::id()));
        let queue = QueueName::new("default")?;
        let new = NewServer {
            id: id.clone(),
            name: name.to_owned(),
            queues: vec![queue.clone()],
            workers: CLAIMED,
            lease: Duration::from_secs(3_600),
            kinds: Vec::new(),
        };
        self.repeat(|| storage.announce(new.clone())).await?;
        let mut finished: Vec<Finish> = Vec::new();
        for key in 1.. {
            let last = self.storing.load(Ordering::Relaxed) == 0;
            let claim = ClaimRequest { queues: vec![queue.clone()], max: CLAIMED, aging: None };
            let request = CycleRequest {
                finished: finished.clone(),
                claim: Some(claim),
                ..CycleRequest::new(id.clone(), key)
            };
            self.tell(finished.iter().map(|finish| Line::Ends(finish.claim.job, end(finish))))?;
            let mut repeated = false;
            let cycle = self
                .repeat(|| {
                    let request = CycleRequest { repeated, ..request.clone() };
                    repeated = true;
                    storage.cycle(request)
                })
                .await?;
            let ended = finished
                .iter()
                .zip(&cycle.verdicts)
                .filter(|(_, verdict)| matches!(verdict, Verdict::Applied | Verdict::Already));
            self.tell(ended.map(|(finish, _)| Line::Ended(finish.claim.job, end(finish))))?;
            if last && cycle.claimed.is_empty() {
                return Ok(());
            }
            if cycle.claimed.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            finished = cycle
                .claimed
                .iter()
                .map(|job| Finish {
                    claim: job.claim,
                    outcome: outcome(job.claim.job),
                    duration: Duration::from_millis(1),
                })
                .collect();
        }
        Ok(())
    }
}

/// How a job ends: most succeed, some fail.
fn outcome(job: JobId) -> Outcome {
    match job.to_string().as_bytes().last() {
        Some(b'0'..=b'3') => {
            Outcome::Failed { error: ErrorRecord::new("torture", "it was to fail") }
        }
        _ => Outcome::Succeeded { result: None },
    }
}

fn end(finish: &Finish) -> StateName {
    match finish.outcome {
        Outcome::Failed { .. } => StateName::Failed,
        _ => StateName::Succeeded,
    }
}
