//! The calls that run over torn loads: what each decides, by the engine, over any rows.

use portfire_core::engine::{
    self, Facts, Footprint, Gap, Key, Move, Position, Rows, Seq, StateRow,
};
use portfire_core::transition::next;
use portfire_core::{
    After, Antecedent, BatchChange, BatchId, Dependency, Event, JobId, Json, KindName, NewBatch,
    NewJob, QueueName, Retention, When,
};

use crate::rng::Rng;

/// One call.
#[derive(Clone, Debug)]
pub(super) enum Call {
    /// Stores batches and jobs.
    Create { batches: Vec<NewBatch>, jobs: Vec<NewJob> },
    /// Claims a job, if it may be claimed, and ends its attempt.
    Run { job: JobId, end: Event },
    /// Deletes or requeues a job.
    Move { job: JobId, event: Event },
    /// Sees to those who wait for a failed job, as a cleaning does when the retention of that has ended.
    Expire { job: JobId },
    /// Seals or cancels a batch.
    Change { batch: BatchId, change: BatchChange },
    /// Goes on with what earlier calls left.
    Promote { max: usize },
    /// Ends a batch that ran empty.
    End { batch: Seq },
}

impl Call {
    /// What the call itself names.
    pub(super) fn named(&self) -> Footprint {
        let keys: Vec<Key> = match self {
            Call::Create { batches, jobs } => {
                let of_batches = batches.iter().flat_map(|batch| {
                    let named = [Some(batch.id), batch.parent].into_iter().flatten();
                    named.map(Key::BatchOf).chain(batch.after.iter().map(named_by))
                });
                let of_jobs = jobs.iter().flat_map(|job| {
                    let batch = job.ties.batch.map(Key::BatchOf);
                    let after = job.ties.after.iter().map(named_by);
                    [Some(Key::JobOf(job.id)), batch].into_iter().flatten().chain(after)
                });
                of_batches.chain(of_jobs).collect()
            }
            Call::Run { job, .. } | Call::Move { job, .. } | Call::Expire { job } => {
                vec![Key::JobOf(*job)]
            }
            Call::Change { batch, .. } => vec![Key::BatchOf(*batch)],
            Call::Promote { .. } => vec![Key::Outbox, Key::Sweeps],
            Call::End { batch } => vec![Key::Batch(*batch), Key::Count(*batch)],
        };
        keys.into_iter().map(|key| (key, 1)).collect()
    }

    /// How many numbers are drawn for it: more than it can use.
    pub(super) fn numbers(&self) -> usize {
        400
    }

    /// Decides it. The answer is compared as text.
    pub(super) fn decide<R: Rows<Error = Gap>>(&self, rows: &mut R) -> Result<String, Gap> {
        let answer = match self {
            Call::Create { batches, jobs } => {
                engine::check_new(rows, batches, jobs)?;
                format!("{:?}", engine::create(rows, batches, jobs)?)
            }
            Call::Run { job, end } => self.run(rows, *job, *end)?,
            Call::Move { job, event } => {
                let facts = Facts::reason("by hand");
                match rows.job_by_id(*job)? {
                    None => "missing".to_owned(),
                    Some((job, position)) => {
                        let made = engine::transit(rows, &job, &position, *event, &facts)?;
                        format!("{made:?}")
                    }
                }
            }
            Call::Expire { job } => match rows.job_by_id(*job)? {
                None => "missing".to_owned(),
                Some((job, position)) => {
                    format!("{}", engine::expire(rows, &job, position.standing.state)?)
                }
            },
            Call::Change { batch, change } => {
                format!("{:?}", engine::change_batch(rows, *batch, change)?)
            }
            Call::Promote { max } => {
                let released = engine::work_off(rows, *max)?;
                let swept = engine::sweep(rows, max - released)?;
                format!("{released} {swept}")
            }
            Call::End { batch } => {
                engine::end_emptied(rows, *batch)?;
                String::new()
            }
        };
        engine::settle(rows)?;
        Ok(answer)
    }

    /// Claims have a way of their own in each storage; here it is the shortest.
    fn run<R: Rows<Error = Gap>>(
        &self,
        rows: &mut R,
        id: JobId,
        end: Event,
    ) -> Result<String, Gap> {
        let Some((job, from)) = rows.job_by_id(id)? else { return Ok("missing".to_owned()) };
        let StateRow::Ready { place, enqueued_at } = from.row else {
            return Ok("not ready".to_owned());
        };
        let now = rows.now();
        let Ok(made) = next(&from.standing, Event::Claim, now, &Retention::default()) else {
            return Ok("refused".to_owned());
        };
        let row = StateRow::Running { server: 1, exchange: 1, claimed_at: now, place, enqueued_at };
        let to = Position { standing: made.to, written: from.written, row };
        let facts = Facts::default();
        rows.move_job(Move { job: &job, from: &from, to: &to, made: &made, facts: &facts })?;
        Ok(format!("{:?}", engine::transit(rows, &job, &to, end, &facts)?))
    }
}

fn named_by(dependency: &Dependency) -> Key {
    match dependency.on {
        Antecedent::Job(job) => Key::JobOf(job),
        Antecedent::Batch(batch) => Key::BatchOf(batch),
    }
}

/// Draws calls that hang together.
#[derive(Debug)]
pub(super) struct Script {
    rng: Rng,
    jobs: Vec<JobId>,
    batches: Vec<BatchId>,
    drawn: u8,
}

impl Script {
    pub(super) fn new(rng: Rng) -> Script {
        Script { rng, jobs: Vec::new(), batches: Vec::new(), drawn: 0 }
    }

    /// The next call.
    pub(super) fn call(&mut self) -> Call {
        match self.rng.below(100) {
            0..30 => self.create(),
            _ if self.jobs.is_empty() => self.create(),
            30..65 => {
                let ends = [
                    Event::Succeed,
                    Event::Succeed,
                    Event::Fail,
                    Event::Fail,
                    Event::Discard { failed: true },
                    Event::Release,
                ];
                Call::Run { job: self.job(), end: *self.rng.pick(&ends) }
            }
            65..72 => Call::Move { job: self.job(), event: Event::Delete },
            // Mostly of what has failed, which others wait for.
            72..80 => Call::Move { job: self.job(), event: Event::Requeue },
            80..82 => Call::Expire { job: self.job() },
            82..89 if !self.batches.is_empty() => {
                let batch = *self.rng.pick(&self.batches);
                let change = match self.rng.chance(0.7) {
                    true => BatchChange::Seal,
                    false => BatchChange::Cancel { reason: "by hand".to_owned() },
                };
                Call::Change { batch, change }
            }
            _ => Call::Promote { max: self.rng.between(1, 8) as usize },
        }
    }

    fn job(&mut self) -> JobId {
        // Mostly one of the last, which others wait for and belong to.
        let from = self.jobs.len().saturating_sub(6);
        *self.rng.pick(&self.jobs[from..])
    }

    fn id(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.rng.bits().to_be_bytes());
        bytes[15] = self.drawn;
        self.drawn = self.drawn.wrapping_add(1);
        bytes
    }

    fn create(&mut self) -> Call {
        let mut batches = Vec::new();
        for _ in 0..self.rng.below(2) {
            let id = BatchId::from_bytes(self.id());
            let mut batch = NewBatch::new(id);
            batch.open = self.rng.chance(0.3);
            if !self.batches.is_empty() && self.rng.chance(0.4) {
                batch.parent = Some(*self.rng.pick(&self.batches));
            }
            batch.after = self.after();
            batches.push(batch);
            self.batches.push(id);
        }
        // Now and then more children and members than a range loads at first.
        let count =
            if self.rng.chance(0.08) { self.rng.between(10, 40) } else { self.rng.between(1, 4) };
        let shared = self.rng.chance(0.5).then(|| self.after());
        let mut jobs = Vec::new();
        for _ in 0..count {
            let id = JobId::from_bytes(self.id());
            let mut job = NewJob::new(id, KindName::stored("torn"), Json::stored("{}"));
            job.queue = QueueName::default();
            job.ties.after = match &shared {
                Some(after) => after.clone(),
                None => self.after(),
            };
            if !self.batches.is_empty() && self.rng.chance(0.5) {
                let from = self.batches.len().saturating_sub(4);
                job.ties.batch = Some(*self.rng.pick(&self.batches[from..]));
            }
            if self.rng.chance(0.1) {
                job.when = When::In(std::time::Duration::from_secs(60));
            }
            jobs.push(job);
            self.jobs.push(id);
        }
        Call::Create { batches, jobs }
    }

    fn after(&mut self) -> Vec<Dependency> {
        let mut after: Vec<Dependency> = Vec::new();
        for _ in 0..self.rng.below(3) {
            let on: Antecedent = match self.rng.chance(0.25) && !self.batches.is_empty() {
                true => (*self.rng.pick(&self.batches)).into(),
                false if self.jobs.is_empty() => continue,
                false => self.job().into(),
            };
            if after.iter().any(|known| known.on == on) {
                continue;
            }
            let ends =
                [After::Success, After::Success, After::Failure, After::Deletion, After::End];
            let dependency = Dependency::on(on).after(*self.rng.pick(&ends));
            after.push(if self.rng.chance(0.3) { dependency.passing() } else { dependency });
        }
        after
    }
}
