//! What a new job or batch waits for and belongs to: found out before it is stored, then written.

use std::collections::{HashMap, HashSet};

use super::cycles;
use super::rows::{Batch, Node, RowChange, Rows, Seq};
use super::{batches, links};
use crate::batch::{BATCH_DEPTH_MAX, BatchId, BatchState, NewBatch};
use crate::circle::Circles;
use crate::continuation::{After, Antecedent, Dependency};
use crate::error::StorageError;
use crate::job::{InvalidJob, JobId, NewJob};
use crate::state::StateName;

/// What is known of a call that creates jobs and batches.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// What the call waits for; its own jobs among that are marked as they are stored.
    followed: HashSet<Antecedent>,
    /// Jobs of the call that have not ended, by their numbers.
    made: HashMap<JobId, Seq>,
    /// Jobs of the call that were marked as followed, and that nobody follows so far.
    unfollowed: HashSet<Seq>,
    /// Batches that the call has named.
    batches: HashMap<BatchId, Seq>,
    /// Jobs of the call that others stand for, because those hold their unique key.
    instead: HashMap<JobId, JobId>,
    /// Batches of the call, with why those can never start that cannot.
    new_batches: Vec<(Seq, Option<String>)>,
    circles: Circles<Node>,
}

/// What a new job or batch waits for and belongs to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The batch that it is a member of.
    pub(super) batch: Option<Seq>,
    /// Whether it waits for the start of that batch.
    pub(super) start: bool,
    /// What has not ended, and is waited for.
    open: Vec<Open>,
    /// Those that ended as they were to and whose outcome is passed on.
    met: Vec<Met>,
    /// Why it can never run.
    pub(super) unmet: Option<String>,
}

/// Something that has not ended, and is waited for.
#[derive(Debug)]
struct Open {
    parent: Node,
    dependency: Dependency,
    /// The place of the dependency among all.
    place: usize,
    /// Whether it is known already that something waits for the parent.
    is_followed: bool,
}

/// A parent that ended as it was to, and whose outcome is passed on.
#[derive(Debug)]
struct Met {
    place: usize,
    end: StateName,
    of: Option<(Seq, u32)>,
}

/// What is waited for.
struct Found {
    node: Node,
    /// How it has ended, if it has.
    end: Option<StateName>,
    /// Whether it is a batch that has failed for good.
    for_good: bool,
    is_followed: bool,
}

impl Found {
    /// Its end, as far as that decides for who waits for this.
    fn end_for(&self, after: After) -> Option<StateName> {
        self.end.filter(|end| self.for_good || !after.is_open_after(*end))
    }

    /// Why who waits for this waits in vain.
    fn unmet_reason(&self, dependency: &Dependency, end: StateName) -> String {
        match self.for_good {
            true => dependency.unmet_for_good(),
            false => dependency.unmet_reason(end),
        }
    }
}

impl Plan {
    /// How many things it waits for.
    pub(super) fn pending(&self) -> u32 {
        u32::try_from(self.open.len()).unwrap_or(u32::MAX) + u32::from(self.start)
    }

    /// Whether it is created awaiting.
    pub(super) fn is_awaiting(&self) -> bool {
        self.pending() > 0 || self.unmet.is_some()
    }
}

impl Admission {
    pub(super) fn new(batches: &[NewBatch], jobs: &[NewJob]) -> Admission {
        let of_batches = batches.iter().flat_map(|batch| &batch.after);
        let of_jobs = jobs.iter().flat_map(|job| &job.ties.after);
        let followed = of_batches.chain(of_jobs).map(|dependency| dependency.on).collect();
        Admission { followed, ..Admission::default() }
    }

    /// Whether something in the call waits for this job.
    pub(super) fn is_followed(&self, job: JobId) -> bool {
        !self.followed.is_empty() && self.followed.contains(&Antecedent::Job(job))
    }

    /// Remembers a job that was stored and has not ended.
    pub(super) fn made(&mut self, job: JobId, seq: Seq) {
        if self.is_followed(job) {
            self.made.insert(job, seq);
            self.unfollowed.insert(seq);
        }
    }

    /// Forgets what it knew of its jobs, because one of them may have ended.
    pub(super) fn doubt(&mut self) {
        self.made.clear();
    }

    /// Remembers that one job stands for another, which was not stored.
    pub(super) fn stands_for(&mut self, holder: JobId, rejected: JobId) {
        self.instead.insert(rejected, holder);
    }

    /// The job as it is to be stored, when it is to wait for others than it says.
    pub(super) fn redirected(&self, job: &NewJob) -> Option<NewJob> {
        let instead = |on: Antecedent| match on {
            Antecedent::Job(id) => self.instead.get(&id).copied().map(Antecedent::Job),
            Antecedent::Batch(_) => None,
        };
        if self.instead.is_empty() || job.ties.after.iter().all(|after| instead(after.on).is_none())
        {
            return None;
        }
        let mut redirected = job.clone();
        let mut seen = HashSet::new();
        for dependency in &mut redirected.ties.after {
            dependency.on = instead(dependency.on).unwrap_or(dependency.on);
        }
        redirected.ties.after.retain(|dependency| seen.insert(dependency.on));
        Some(redirected)
    }

    /// Finds out what a new job waits for and belongs to.
    pub(super) fn plan_job<R: Rows>(
        &mut self,
        rows: &mut R,
        job: &NewJob,
    ) -> Result<Plan, R::Error> {
        let mut plan = Plan::default();
        if let Some(id) = job.ties.batch {
            let (seq, batch) = self.enter(rows, id)?;
            plan.batch = Some(seq);
            plan.start = !batch.has_started();
        }
        self.plan_after(rows, &mut plan, job.id.into(), &job.ties.after)?;
        self.refuse_cycle(rows, job.id.into(), &plan)?;
        Ok(plan)
    }

    /// Stores a batch, unless it is stored already.
    pub(super) fn add_batch<R: Rows>(
        &mut self,
        rows: &mut R,
        new: &NewBatch,
    ) -> Result<(), R::Error> {
        if self.find(rows, new.id)?.is_some() {
            return Ok(());
        }
        let (plan, depth) = self.plan_batch(rows, new)?;
        let seq = rows.next_seq()?;
        let state = match plan.is_awaiting() {
            _ if new.open => BatchState::Open,
            true => BatchState::Awaiting,
            false => BatchState::Started,
        };
        let batch = Batch {
            parent: plan.batch,
            depth,
            retention: i64::try_from(new.retention.as_micros()).unwrap_or(i64::MAX),
            state,
            waits: plan.pending(),
            start: plan.start,
            followed: false,
            for_good: false,
            ended_at: None,
            expires_at: None,
            clean_at: None,
            reason: None,
        };
        rows.put(RowChange::BatchNew { seq, new, batch: &batch })?;
        self.batches.insert(new.id, seq);
        if let Some(parent) = plan.batch {
            batches::member_moved(rows, parent, None, StateName::Awaiting)?;
        }
        self.link(rows, Node::Batch(seq), &plan)?;
        self.new_batches.push((seq, plan.unmet));
        Ok(())
    }

    fn plan_batch<R: Rows>(
        &mut self,
        rows: &mut R,
        new: &NewBatch,
    ) -> Result<(Plan, u32), R::Error> {
        let mut plan = Plan::default();
        let mut depth = 1;
        if let Some(id) = new.parent {
            let (seq, parent) = self.enter(rows, id)?;
            depth += parent.depth;
            plan.start = !parent.has_started();
            plan.batch = Some(seq);
        }
        if depth as usize > BATCH_DEPTH_MAX {
            let reason = format!("batches stand at most {BATCH_DEPTH_MAX} deep in one another");
            return Err(refused(InvalidJob::Batch { batch: new.id, reason }));
        }
        self.plan_after(rows, &mut plan, new.id.into(), &new.after)?;
        self.refuse_cycle(rows, new.id.into(), &plan)?;
        Ok((plan, depth))
    }

    /// Refuses a member that waits for what waits for its batch.
    fn refuse_cycle<R: Rows>(
        &mut self,
        rows: &mut R,
        member: Antecedent,
        plan: &Plan,
    ) -> Result<(), R::Error> {
        let Some(batch) = plan.batch.filter(|_| !plan.open.is_empty()) else { return Ok(()) };
        let after = plan.open.iter().map(|open| open.parent);
        cycles::refuse(rows, &mut self.circles, member, batch, after)
    }

    /// A batch that takes another member.
    fn enter<R: Rows>(&mut self, rows: &mut R, id: BatchId) -> Result<(Seq, Batch), R::Error> {
        let Some(seq) = self.find(rows, id)? else {
            return Err(refused(InvalidJob::NoBatch { batch: id }));
        };
        let batch = batches::get(rows, seq)?;
        match batch.state {
            BatchState::Open | BatchState::Awaiting | BatchState::Started => Ok((seq, batch)),
            state => Err(refused(InvalidJob::BatchEnded { batch: id, state: state.as_str() })),
        }
    }

    fn find<R: Rows>(&mut self, rows: &mut R, id: BatchId) -> Result<Option<Seq>, R::Error> {
        if let Some(&seq) = self.batches.get(&id) {
            return Ok(Some(seq));
        }
        let found = rows.batch_by_id(id)?;
        if let Some(seq) = found {
            self.batches.insert(id, seq);
        }
        Ok(found)
    }

    /// Looks at each dependency of a job or a batch.
    fn plan_after<R: Rows>(
        &mut self,
        rows: &mut R,
        plan: &mut Plan,
        waiting: Antecedent,
        after: &[Dependency],
    ) -> Result<(), R::Error> {
        for (place, dependency) in after.iter().enumerate() {
            let on = dependency.on;
            let Some(found) = self.parent(rows, on)? else {
                return Err(refused(InvalidJob::NoAntecedent { waiting, on }));
            };
            let Found { node, is_followed, .. } = found;
            refuse_own_batch(rows, plan.batch, node, on)?;
            match found.end_for(dependency.after) {
                None => plan.open.push(Open {
                    parent: node,
                    dependency: *dependency,
                    place,
                    is_followed,
                }),
                Some(end) if !dependency.after.is_met_by(end) => {
                    plan.unmet.get_or_insert_with(|| found.unmet_reason(dependency, end));
                }
                Some(end) if dependency.pass => {
                    let of = links::said(rows, node, end)?;
                    plan.met.push(Met { place, end, of });
                }
                Some(_) => {}
            }
        }
        if plan.unmet.is_some() {
            plan.open.clear();
        }
        Ok(())
    }

    /// What is waited for, when it is stored.
    fn parent<R: Rows>(&mut self, rows: &mut R, on: Antecedent) -> Result<Option<Found>, R::Error> {
        match on {
            Antecedent::Job(id) => {
                let for_good = false;
                if let Some(&seq) = self.made.get(&id) {
                    let (node, end) = (Node::Job(seq), None);
                    return Ok(Some(Found { node, end, for_good, is_followed: true }));
                }
                let Some((job, position)) = rows.job_by_id(id)? else { return Ok(None) };
                let state = position.standing.state;
                let (node, end) = (Node::Job(job.seq), state.is_final().then_some(state));
                Ok(Some(Found { node, end, for_good, is_followed: job.followed }))
            }
            Antecedent::Batch(id) => {
                let Some(seq) = self.find(rows, id)? else { return Ok(None) };
                let batch = batches::get(rows, seq)?;
                let Batch { for_good, followed: is_followed, .. } = batch;
                let (node, end) = (Node::Batch(seq), batch.state.end());
                Ok(Some(Found { node, end, for_good, is_followed }))
            }
        }
    }

    /// Writes what a job or a batch waits for.
    pub(super) fn link<R: Rows>(
        &mut self,
        rows: &mut R,
        child: Node,
        plan: &Plan,
    ) -> Result<(), R::Error> {
        let is_batch = matches!(child, Node::Batch(_));
        for Open { parent, dependency, place, is_followed } in &plan.open {
            let (seq, place) = (parent.seq(), *place);
            let child = child.seq();
            rows.put(RowChange::LinkNew { parent: seq, child, is_batch, dependency, place })?;
            match parent {
                _ if *is_followed => _ = self.unfollowed.remove(&seq),
                Node::Job(job) => rows.put(RowChange::Followed { job: *job, followed: true })?,
                Node::Batch(_) => {
                    let batch = Batch { followed: true, ..batches::get(rows, seq)? };
                    rows.put(RowChange::BatchPut { seq, batch: &batch })?;
                }
            }
        }
        // A batch has nobody whom it could hand a result.
        for &Met { place, end, of } in plan.met.iter().filter(|_| !is_batch) {
            rows.put(RowChange::Passed { child: child.seq(), place, end, of })?;
        }
        Ok(())
    }

    /// Takes back marks that turned out to be wrong, and lets the batches take their course, now that the jobs of the call
    /// are stored: first those of the call, then those that lost their last pending member meanwhile.
    pub(super) fn finish<R: Rows>(self, rows: &mut R, emptied: Vec<Seq>) -> Result<(), R::Error> {
        for job in self.unfollowed {
            rows.put(RowChange::Followed { job, followed: false })?;
        }
        for (seq, unmet) in self.new_batches {
            match unmet {
                Some(reason) => batches::give_up(rows, seq, &reason)?,
                None => batches::end_emptied(rows, seq)?,
            }
        }
        emptied.into_iter().try_for_each(|seq| batches::end_emptied(rows, seq))
    }
}

/// Refuses a member that waits for the end of its own batch, or of one around it.
fn refuse_own_batch<R: Rows>(
    rows: &mut R,
    mut batch: Option<Seq>,
    parent: Node,
    on: Antecedent,
) -> Result<(), R::Error> {
    let (Node::Batch(parent), Antecedent::Batch(id)) = (parent, on) else { return Ok(()) };
    while let Some(seq) = batch {
        if seq == parent {
            let reason = "a member cannot wait for the end of its own batch".to_owned();
            return Err(refused(InvalidJob::Batch { batch: id, reason }));
        }
        batch = batches::get(rows, seq)?.parent;
    }
    Ok(())
}

fn refused<E: From<StorageError>>(invalid: InvalidJob) -> E {
    StorageError::from(invalid).into()
}
