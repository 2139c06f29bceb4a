//! The jobs and batches of a sequence, and what ties them to one another.

use portfire_core::storage::RELEASE_MAX;
use portfire_core::{
    After, Antecedent, Backoff, BatchChange, BatchId, Conflict, Dependency, JobId, JobOptions,
    Json, KindName, NewBatch, NewJob, Retention, RetryPolicy, UniqueKey, UniqueScope, When,
};
use std::time::Duration;

use super::{KINDS, Script, seconds};
use crate::differential::operation::{Crowd, Operation};

/// Few, so that jobs meet.
const KEYS: [&str; 2] = ["user:17", "é ' \""];

/// What stands earlier in a call.
#[derive(Default)]
struct Call {
    batches: Vec<NewBatch>,
    jobs: Vec<NewJob>,
    /// The one batch of an earlier call that gets members.
    stored: Option<BatchId>,
}

impl Script {
    pub(super) fn create(&mut self) -> Operation {
        let stored = self.random.recent(&self.taking).copied();
        let mut call = Call { stored, ..Call::default() };
        if self.scope.batches && self.random.chance(25) {
            for _ in 0..1 + self.random.below(3) {
                let batch = self.new_batch(&call);
                call.batches.push(batch);
            }
        }
        for _ in 0..1 + self.random.below(4) {
            let again = match self.random.below(24) {
                0 => self.random.recent(&self.jobs).cloned(),
                1 => self.random.recent(&call.jobs).cloned(),
                _ => None,
            };
            // Whether one is refused that is broken and whose key is held too is the storage's choice.
            let again = again.filter(|job| {
                job.ties.unique.is_none() || (job.ties.after.is_empty() && job.ties.batch.is_none())
            });
            let job = match again {
                Some(job) => job,
                None => {
                    let mut job = self.new_job();
                    self.tie(&mut job, &call);
                    job
                }
            };
            call.jobs.push(job);
        }
        // One fault in a call at most: which of two is told is the storage's choice.
        if self.random.chance(6) {
            let place = self.random.below(call.jobs.len());
            let id = call.jobs[place].id;
            // So is whether a repeat is looked at when the first of its id is rejected for its key.
            if call.jobs.iter().filter(|job| job.id == id).count() == 1 {
                self.spoil(&mut call.jobs[place]);
            }
        }
        Operation::Create(call.batches, call.jobs)
    }

    fn new_id(&mut self) -> JobId {
        self.created += 1;
        let at = self.start.saturating_add(Duration::from_millis(self.created));
        JobId::from_parts(at, u128::from(self.random.number()))
    }

    fn new_job(&mut self) -> NewJob {
        let id = self.new_id();
        let number = self.created;
        let kind = KindName::stored(self.random.pick(&KINDS));
        let args = Json::stored(format!("{{\"n\": {number},\"text\":\"é\\u0000 ' \\\" \"}}"));
        let mut job = NewJob::new(id, kind, args);
        job.queue = self.queue();
        job.priority = self.random.pick(&[0, 0, 0, 0, 1, -1, 5, i16::MAX, i16::MIN]);
        job.when = match self.random.below(10) {
            0..7 => When::Now,
            7..9 => When::In(self.wait()),
            _ => When::At(self.instant()),
        };
        if self.random.chance(30) {
            job.options = self.options();
        }
        job
    }

    fn options(&mut self) -> JobOptions {
        let mut options = JobOptions::default();
        match self.random.below(4) {
            0 => options.tags = vec!["eu".to_owned(), "päivä".to_owned()],
            1 => {
                options.metadata.insert("key".to_owned(), "a 'value'\n".to_owned());
                options.timeout = Some(self.wait());
            }
            2 => {
                let backoff = Backoff::Exponential { base: seconds(1), cap: seconds(60) };
                let policy = RetryPolicy::times(3).backoff(backoff);
                options.retry = Some(RetryPolicy { jitter: 0.25, ..policy });
            }
            _ => {
                let kept = [None, Some(Duration::ZERO), Some(seconds(1)), Some(seconds(3_600))];
                options.retention = Some(Retention {
                    succeeded: self.random.pick(&kept),
                    failed: self.random.pick(&kept),
                    deleted: self.random.pick(&kept),
                });
            }
        }
        options
    }

    fn new_batch(&mut self, call: &Call) -> NewBatch {
        let id = BatchId::new(self.new_id());
        let mut batch = NewBatch::new(id);
        batch.description = self.random.pick(&["", "import of 'May'", "é\n"]).to_owned();
        batch.open = self.random.chance(35);
        batch.retention =
            self.random.pick(&[seconds(0), seconds(1), seconds(3_600), batch.retention]);
        if self.random.chance(35) {
            batch.parent = self.batch_for_members(call);
        }
        if self.scope.continuations && self.random.chance(30) {
            batch.after = self.dependencies(call, false);
        }
        batch
    }

    /// A batch that one call cannot start, and whose members all end by hand before the next promotion.
    pub(super) fn crowd(&mut self) -> Operation {
        let batch = BatchId::new(self.new_id());
        let mut follower = NewJob::new(self.new_id(), KindName::stored(KINDS[0]), Json::empty());
        follower.ties.after = vec![Dependency::on(batch).after(After::End)];
        let members = RELEASE_MAX as u32 + 1 + self.random.below(60) as u32;
        let crowd = Crowd { batch, members, follower };
        self.planned.push_back(Operation::ChangeBatch(batch, BatchChange::Seal));
        if self.random.chance(80) {
            self.planned.push_back(Operation::DeleteCrowd(crowd.clone()));
        }
        self.planned.push_back(Operation::Promote(u32::MAX));
        Operation::CreateCrowd(crowd)
    }

    fn batch_for_members(&mut self, call: &Call) -> Option<BatchId> {
        let new = self.random.recent(&call.batches).map(|batch| batch.id);
        new.or(call.stored)
    }

    /// Ties a job to others.
    fn tie(&mut self, job: &mut NewJob, call: &Call) {
        if self.scope.unique && self.random.chance(35) {
            job.ties.unique = Some(self.unique_key());
        }
        let unique = job.ties.unique.is_some();
        if self.scope.batches && self.random.chance(if call.batches.is_empty() { 12 } else { 60 }) {
            job.ties.batch = self.batch_for_members(call);
            // What is stored may take no members, and then both are wrong: see `create`.
            if unique && job.ties.batch == call.stored {
                job.ties.batch = None;
            }
        }
        if self.scope.continuations && self.random.chance(35) {
            job.ties.after = self.dependencies(call, unique);
        }
        if self.scope.limits && self.random.chance(40) {
            job.ties.limits = self.limit_uses();
        }
    }

    pub(super) fn unique_key(&mut self) -> UniqueKey {
        let scope = match self.random.below(6) {
            0..2 => UniqueScope::UntilStarted,
            2..5 => UniqueScope::UntilFinished,
            _ => UniqueScope::Within(self.wait().max(Duration::from_micros(1))),
        };
        let conflict = self.random.pick(&[Conflict::Reject, Conflict::Replace, Conflict::Debounce]);
        UniqueKey { key: self.random.pick(&KEYS).to_owned(), scope, conflict }
    }

    /// What a job or batch waits for: mostly recent jobs, `of_call` only those that stand earlier in it.
    fn dependencies(&mut self, call: &Call, of_call: bool) -> Vec<Dependency> {
        let mut after: Vec<Dependency> = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let earlier = self.random.recent(&call.jobs).map(|job| job.id);
            let on = match self.random.below(10) {
                0..4 => earlier.map(Antecedent::Job),
                _ if of_call => earlier.map(Antecedent::Job),
                4..8 => Some(Antecedent::Job(self.job())),
                _ if !self.scope.batches => None,
                8 => self.random.recent(&call.batches).map(|batch| batch.id.into()),
                _ => self.random.recent(&self.batches).map(|&batch| batch.into()),
            };
            let Some(on) = on else { continue };
            if after.iter().any(|dependency| dependency.on == on) {
                continue;
            }
            let condition = self.random.pick(&[
                After::Success,
                After::Failure,
                After::Deletion,
                After::End,
                After::End,
            ]);
            let dependency = Dependency::on(on).after(condition);
            after.push(if self.random.chance(50) { dependency.passing() } else { dependency });
        }
        after
    }

    /// Makes a job that is refused, if it is new or if it is not.
    fn spoil(&mut self, job: &mut NewJob) {
        let limits = std::mem::take(&mut job.ties).limits;
        let nowhere = JobId::from_bytes([8; 16]);
        match self.random.below(8) {
            0 => job.when = When::In(Duration::MAX),
            1 => job.options.tags = vec![String::new()],
            2 if self.scope.continuations => job.ties.after = vec![Dependency::on(nowhere)],
            3 if self.scope.continuations => job.ties.after = vec![Dependency::on(job.id)],
            4 if self.scope.batches => job.ties.batch = Some(BatchId::new(nowhere)),
            5 if self.scope.unique => {
                let key = UniqueKey { key: String::new(), ..self.unique_key() };
                job.ties.unique = Some(key);
            }
            6 if self.scope.limits => {
                job.ties.limits = limits.into_iter().cycle().take(5).collect();
            }
            _ => {
                if let Some(stored) = self.random.recent(&self.jobs) {
                    job.id = stored.id;
                }
                job.args = Json::stored("[\"other\"]");
            }
        }
    }
}
