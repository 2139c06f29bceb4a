//! What a call may name, and whether its jobs and batches may wait for that: found out before any of it is
//! stored.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use super::Data;
use super::jobs::Number;
use portfire_core::batch::{BATCH_DEPTH_MAX, BatchId, BatchState, NewBatch};
use portfire_core::circle::{self, Circles, Waits};
use portfire_core::continuation::{Antecedent, Dependency};
use portfire_core::error::StorageError;
use portfire_core::job::{InvalidJob, JobId, Json, KindName, NewJob};
use portfire_core::state::StateName;

/// What a call may name: what is stored when it comes, and what stands earlier in it.
pub(super) struct Check<'a> {
    known: Known<'a>,
    circles: Circles<Antecedent>,
}

/// What is stored, and what stands earlier in the call.
struct Known<'a> {
    data: &'a Data,
    batches: BTreeMap<BatchId, Ahead>,
    jobs: BTreeMap<JobId, AheadJob<'a>>,
    /// The members of each batch that come by the call.
    members: BTreeMap<BatchId, Vec<Antecedent>>,
    /// What something in the call waits for.
    followed: BTreeSet<Antecedent>,
}

/// A batch that is to be stored.
struct Ahead {
    parent: Option<BatchId>,
    depth: usize,
    waits: Vec<Antecedent>,
    has_started: bool,
}

/// A job that is to be stored.
struct AheadJob<'a> {
    kind: &'a KindName,
    args: &'a Json,
    batch: Option<BatchId>,
    waits: Vec<Antecedent>,
    /// Set when it is deleted as soon as it is stored, because it would wait in vain.
    end: Option<StateName>,
}

impl<'a> Check<'a> {
    pub(super) fn new(data: &'a Data) -> Check<'a> {
        let (batches, jobs, members) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let known = Known { data, batches, jobs, members, followed: BTreeSet::new() };
        Check { known, circles: Circles::default() }
    }

    /// Refuses what cannot be stored.
    pub(super) fn check(
        mut self,
        batches: &[NewBatch],
        jobs: &'a [NewJob],
    ) -> Result<(), StorageError> {
        let data = self.known.data;
        for batch in batches {
            if data.batches.find(batch.id).is_none() && !self.known.batches.contains_key(&batch.id)
            {
                self.check_batch(batch)?;
            }
        }
        for job in jobs {
            let known = match data.jobs.find(job.id) {
                Some(number) => {
                    let stored = &data.jobs[number].record;
                    Some((&stored.kind, &stored.args))
                }
                None => self.known.jobs.get(&job.id).map(|ahead| (ahead.kind, ahead.args)),
            };
            if known.is_some_and(|known| known != (&job.kind, &job.args)) {
                return Err(StorageError::IdTaken { job: job.id });
            }
            if known.is_none() {
                self.check_job(job)?;
            }
        }
        Ok(())
    }

    fn check_batch(&mut self, batch: &NewBatch) -> Result<(), InvalidJob> {
        let mut depth = 1;
        if let Some(parent) = batch.parent {
            self.known.takes_members(parent)?;
            depth += self.known.depth(parent);
        }
        if depth > BATCH_DEPTH_MAX {
            let reason = "batches stand at most 100 deep in one another".to_owned();
            return Err(InvalidJob::Batch { batch: batch.id, reason });
        }
        self.check_antecedents(batch.id.into(), &batch.after, batch.parent)?;
        let (waits, unmet) = self.known.weigh(&batch.after);
        self.refuse_circle(batch.id.into(), batch.parent, &waits)?;
        let is_free = waits.is_empty() && !unmet && !batch.open;
        let has_started = is_free && batch.parent.is_none_or(|above| self.known.has_started(above));
        self.follow(batch.id.into(), batch.parent, &waits);
        let ahead = Ahead { parent: batch.parent, depth, waits, has_started };
        self.known.batches.insert(batch.id, ahead);
        Ok(())
    }

    fn check_job(&mut self, job: &'a NewJob) -> Result<(), InvalidJob> {
        let batch = job.ties.batch;
        if let Some(batch) = batch {
            self.known.takes_members(batch)?;
        }
        self.check_antecedents(job.id.into(), &job.ties.after, batch)?;
        let (waits, unmet) = self.known.weigh(&job.ties.after);
        self.refuse_circle(job.id.into(), batch, &waits)?;
        self.follow(job.id.into(), batch, &waits);
        let end = unmet.then_some(StateName::Deleted);
        let ahead = AheadJob { kind: &job.kind, args: &job.args, batch, waits, end };
        self.known.jobs.insert(job.id, ahead);
        Ok(())
    }

    /// Whether a job or batch may wait for these, as a member of that batch.
    fn check_antecedents(
        &self,
        waiting: Antecedent,
        after: &[Dependency],
        member_of: Option<BatchId>,
    ) -> Result<(), InvalidJob> {
        for &Dependency { on, .. } in after {
            if !self.known.has(on) {
                return Err(InvalidJob::NoAntecedent { waiting, on });
            }
            if let Antecedent::Batch(batch) = on
                && self.known.upward(member_of).any(|above| above == batch)
            {
                let reason = "a member cannot wait for the end of its own batch".to_owned();
                return Err(InvalidJob::Batch { batch, reason });
            }
        }
        Ok(())
    }

    /// Refuses a member that waits for what waits for its batch.
    fn refuse_circle(
        &mut self,
        member: Antecedent,
        batch: Option<BatchId>,
        waits: &[Antecedent],
    ) -> Result<(), InvalidJob> {
        let above: Vec<Antecedent> = self.known.upward(batch).map(Antecedent::from).collect();
        if waits.is_empty() || !above.iter().any(|&batch| self.known.is_followed(batch)) {
            return Ok(());
        }
        let Ok(way) = self.circles.find(&mut self.known, &above, waits.iter().copied());
        let Some(way) = way else { return Ok(()) };
        let Some(&Antecedent::Batch(batch)) = way.last() else { return Ok(()) };
        let Ok(refusal) = circle::refusal(&mut self.known, member, batch, &way);
        Err(refusal)
    }

    fn follow(&mut self, member: Antecedent, batch: Option<BatchId>, waits: &[Antecedent]) {
        self.known.followed.extend(waits);
        if let Some(batch) = batch {
            self.known.members.entry(batch).or_default().push(member);
        }
    }
}

impl Known<'_> {
    fn stored(&self, batch: BatchId) -> Option<&super::batches::Batch> {
        self.data.batches.get(self.data.batches.find(batch)?)
    }

    fn has(&self, on: Antecedent) -> bool {
        let is_ahead = match on {
            Antecedent::Job(job) => self.jobs.contains_key(&job),
            Antecedent::Batch(batch) => self.batches.contains_key(&batch),
        };
        is_ahead || self.data.find_antecedent(on).is_some()
    }

    fn takes_members(&self, batch: BatchId) -> Result<(), InvalidJob> {
        if self.batches.contains_key(&batch) {
            return Ok(());
        }
        let Some(stored) = self.stored(batch) else { return Err(InvalidJob::NoBatch { batch }) };
        match stored.record.state {
            BatchState::Open | BatchState::Awaiting | BatchState::Started => Ok(()),
            state => Err(InvalidJob::BatchEnded { batch, state: state.as_str() }),
        }
    }

    fn depth(&self, batch: BatchId) -> usize {
        match self.batches.get(&batch) {
            Some(ahead) => ahead.depth,
            None => self.stored(batch).map_or(0, |stored| stored.depth),
        }
    }

    fn has_started(&self, batch: BatchId) -> bool {
        match self.batches.get(&batch) {
            Some(ahead) => ahead.has_started,
            None => self.stored(batch).is_none_or(super::batches::Batch::has_started),
        }
    }

    fn is_followed(&self, batch: Antecedent) -> bool {
        let Antecedent::Batch(id) = batch else { return false };
        self.followed.contains(&batch) || self.stored(id).is_some_and(|stored| stored.followed)
    }

    /// The batch itself, and those it stands in, the nearest first.
    fn upward(&self, batch: Option<BatchId>) -> impl Iterator<Item = BatchId> {
        std::iter::successors(batch, |batch| match self.batches.get(batch) {
            Some(ahead) => ahead.parent,
            None => self.stored(*batch)?.record.parent,
        })
    }

    /// What is to be waited for still, and whether that is in vain.
    fn weigh(&self, after: &[Dependency]) -> (Vec<Antecedent>, bool) {
        let mut waits = Vec::new();
        for dependency in after {
            match self.end_for(dependency) {
                None => waits.push(dependency.on),
                Some(end) if dependency.after.is_met_by(end) => {}
                Some(_) => return (Vec::new(), true),
            }
        }
        (waits, false)
    }

    /// How something has ended, as far as that decides for who depends on it so.
    fn end_for(&self, dependency: &Dependency) -> Option<StateName> {
        if let Antecedent::Job(job) = dependency.on
            && let Some(ahead) = self.jobs.get(&job)
        {
            return ahead.end;
        }
        let number = self.data.find_antecedent(dependency.on)?;
        self.data.end_for(number, dependency.after).map(|(end, _)| end)
    }

    /// What is stored and waits for these still.
    fn open(&self, follower: Number, after: &[Dependency]) -> Vec<Antecedent> {
        let waits = |on: &Antecedent| {
            let antecedent = self.data.find_antecedent(*on);
            antecedent.is_some_and(|antecedent| self.data.links.is_open(antecedent, follower))
        };
        after.iter().map(|dependency| dependency.on).filter(waits).collect()
    }

    /// What a batch waits for before it starts, and those around it.
    fn starts_after(&self, batch: Option<BatchId>) -> Vec<Antecedent> {
        let mut waits = Vec::new();
        for batch in self.upward(batch).take_while(|&batch| !self.has_started(batch)) {
            match (self.batches.get(&batch), self.data.batches.find(batch)) {
                (Some(ahead), _) => waits.extend(&ahead.waits),
                (None, Some(number)) => {
                    let after = self.stored(batch).map_or(&[][..], |batch| &batch.record.after);
                    waits.extend(self.open(number, after));
                }
                (None, None) => {}
            }
        }
        waits
    }

    fn job_waits_for(&self, job: JobId) -> Vec<Antecedent> {
        if let Some(ahead) = self.jobs.get(&job) {
            let after_start = if ahead.end.is_none() { ahead.batch } else { None };
            return [ahead.waits.clone(), self.starts_after(after_start)].concat();
        }
        let Some(number) = self.data.jobs.find(job) else { return Vec::new() };
        let stored = &self.data.jobs[number];
        if stored.standing().state != StateName::Awaiting {
            return Vec::new();
        }
        let ties = &stored.record.ties;
        [self.open(number, &ties.after), self.starts_after(ties.batch)].concat()
    }

    fn batch_waits_for(&self, batch: BatchId, room: usize) -> Vec<Antecedent> {
        let stored = self.stored(batch);
        if stored.is_some_and(|batch| batch.is_cancelled() || batch.record.state.end().is_some()) {
            return Vec::new();
        }
        let name = |&member: &Number| match self.data.batches.get(member) {
            Some(nested) => Antecedent::Batch(nested.record.id),
            None => Antecedent::Job(self.data.jobs[member].record.id),
        };
        let members = stored.into_iter().flat_map(|batch| &batch.members).map(name);
        let ahead = self.members.get(&batch).into_iter().flatten().copied();
        let mut waits = self.starts_after(Some(batch));
        waits.extend(members.chain(ahead).take(room));
        waits
    }
}

impl Waits for Known<'_> {
    type Node = Antecedent;
    type Error = Infallible;

    fn waits_for(&mut self, node: Antecedent, room: usize) -> Result<Vec<Antecedent>, Infallible> {
        Ok(match node {
            Antecedent::Job(job) => self.job_waits_for(job),
            Antecedent::Batch(batch) => self.batch_waits_for(batch, room),
        })
    }

    fn name(&mut self, node: Antecedent) -> Result<Antecedent, Infallible> {
        Ok(node)
    }
}
