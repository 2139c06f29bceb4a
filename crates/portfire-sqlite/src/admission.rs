//! What a new job or batch waits for and belongs to: found out before it is stored, then written.

use std::collections::{HashMap, HashSet};

use portfire_core::batch::BATCH_DEPTH_MAX;
use portfire_core::circle::Circles;
use portfire_core::{
    Antecedent, BatchId, BatchState, Dependency, InvalidJob, JobId, NewBatch, NewJob, Progression,
    StateName,
};
use rusqlite::params;

use crate::batches::{self, Batch, state_code};
use crate::circles::{self, Node};
use crate::error::Failure;
use crate::links;
use crate::outcomes::Outcome;
use crate::row::{Body, Stand};
use crate::write::Write;

const INSERT_BATCH: &str = "INSERT INTO portfire_batch (batch, id, parent, depth, description, \
    after, retention, created_at, state, waits, start, followed, total, pending, succeeded, \
    failed, deleted) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, 0, 0, 0, 0, 0)";

/// What is known of a call that creates jobs and batches.
#[derive(Default)]
pub(crate) struct Call {
    /// What the call waits for; its own jobs among that are marked as they are stored.
    followed: HashSet<Antecedent>,
    /// Jobs of the call that have not ended, by their numbers.
    made: HashMap<JobId, i64>,
    /// Jobs of the call that were marked as followed, and that nobody follows so far.
    unfollowed: HashSet<i64>,
    /// Batches that the call has named.
    batches: HashMap<BatchId, i64>,
    /// Jobs of the call that others stand for, because those hold their unique key.
    instead: HashMap<JobId, JobId>,
    /// Batches of the call, with why those can never start that cannot.
    new_batches: Vec<(i64, Option<String>)>,
    circles: Circles<Node>,
}

/// What a new job or batch waits for and belongs to.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) batch: Option<i64>,
    /// Whether it waits for the start of that batch.
    pub(crate) start: bool,
    open: Vec<Open>,
    /// How those ended whose outcome is passed on, with their place.
    outcomes: Vec<(usize, Outcome)>,
    /// Why it can never run.
    pub(crate) unmet: Option<String>,
}

/// Something that has not ended, and is waited for.
struct Open {
    number: i64,
    dependency: Dependency,
    /// The place of the dependency among all.
    place: usize,
    /// Whether it is known already that something waits for it.
    is_followed: bool,
}

impl Plan {
    /// What it waits for.
    pub(crate) fn pending(&self) -> u32 {
        u32::try_from(self.open.len()).unwrap_or(u32::MAX) + u32::from(self.start)
    }

    /// Whether it is created awaiting.
    pub(crate) fn is_awaiting(&self) -> bool {
        self.pending() > 0 || self.unmet.is_some()
    }
}

impl Call {
    pub(crate) fn new(batches: &[NewBatch], jobs: &[NewJob]) -> Call {
        let of_batches = batches.iter().flat_map(|batch| &batch.after);
        let of_jobs = jobs.iter().flat_map(|job| &job.ties.after);
        let followed = of_batches.chain(of_jobs).map(|dependency| dependency.on).collect();
        Call { followed, ..Call::default() }
    }

    /// Whether something in the call waits for this job.
    pub(crate) fn is_followed(&self, job: JobId) -> bool {
        !self.followed.is_empty() && self.followed.contains(&Antecedent::Job(job))
    }

    /// Remembers a job that was stored and has not ended.
    pub(crate) fn made(&mut self, job: JobId, seq: i64) {
        if self.is_followed(job) {
            self.made.insert(job, seq);
            self.unfollowed.insert(seq);
        }
    }

    /// Forgets what it knew of its jobs, because one of them may have ended.
    pub(crate) fn doubt(&mut self) {
        self.made.clear();
    }

    /// Remembers that one job stands for another, which was not stored.
    pub(crate) fn stands_for(&mut self, holder: JobId, rejected: JobId) {
        self.instead.insert(rejected, holder);
    }

    /// The job as it is to be stored, when it is to wait for others than it says.
    pub(crate) fn redirected(&self, job: &NewJob) -> Option<NewJob> {
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
    pub(crate) fn plan_job(
        &mut self,
        write: &mut Write<'_>,
        job: &NewJob,
    ) -> Result<Plan, Failure> {
        let mut plan = Plan::default();
        if let Some(id) = job.ties.batch {
            let batch = self.enter(write, id)?;
            plan.batch = Some(batch);
            plan.start = !batches::get(write, batch)?.has_started();
        }
        self.plan_after(write, &mut plan, job.id, &job.ties.after)?;
        self.refuse_circle(write, job.id.into(), &plan)?;
        Ok(plan)
    }

    /// Stores a batch, unless it is stored already.
    pub(crate) fn add_batch(
        &mut self,
        write: &mut Write<'_>,
        new: &NewBatch,
    ) -> Result<(), Failure> {
        if self.find(write, new.id)?.is_some() {
            return Ok(());
        }
        let (mut plan, depth) = self.plan_batch(write, new)?;
        let number = write.draw();
        let waits = plan.pending();
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
            waits,
            start: plan.start,
            followed: false,
            members: Progression::default(),
            ended_at: None,
            expires_at: None,
            clean_at: None,
            reason: None,
            dirty: false,
        };
        insert(write, number, new, &batch)?;
        write.batches.insert(number, batch);
        self.batches.insert(new.id, number);
        if let Some(parent) = plan.batch {
            batches::member_moved(write, parent, None, StateName::Awaiting)?;
        }
        self.link(write, number, true, &mut plan)?;
        self.new_batches.push((number, plan.unmet));
        Ok(())
    }

    fn plan_batch(
        &mut self,
        write: &mut Write<'_>,
        new: &NewBatch,
    ) -> Result<(Plan, u32), Failure> {
        let mut plan = Plan::default();
        let mut depth = 1;
        if let Some(id) = new.parent {
            let number = self.enter(write, id)?;
            let parent = batches::get(write, number)?;
            depth += parent.depth;
            plan.start = !parent.has_started();
            plan.batch = Some(number);
        }
        if depth as usize > BATCH_DEPTH_MAX {
            let reason = format!("batches stand at most {BATCH_DEPTH_MAX} deep in one another");
            return Err(InvalidJob::Batch { batch: new.id, reason }.into());
        }
        let own = JobId::from_bytes(*new.id.as_bytes());
        self.plan_after(write, &mut plan, own, &new.after)?;
        self.refuse_circle(write, new.id.into(), &plan)?;
        Ok((plan, depth))
    }

    /// Refuses a member that waits for what waits for its batch.
    fn refuse_circle(
        &mut self,
        write: &mut Write<'_>,
        member: Antecedent,
        plan: &Plan,
    ) -> Result<(), Failure> {
        if plan.open.is_empty() || plan.batch.is_none() {
            return Ok(());
        }
        let after = plan.open.iter().map(|open| Node::new(open.dependency.on, open.number));
        circles::refuse(write, &mut self.circles, member, plan.batch, after)
    }

    /// The number of a batch that takes another member.
    fn enter(&mut self, write: &mut Write<'_>, id: BatchId) -> Result<i64, Failure> {
        let Some(number) = self.find(write, id)? else {
            return Err(InvalidJob::NoBatch { batch: id }.into());
        };
        let batch = batches::get(write, number)?;
        match batch.state {
            BatchState::Open | BatchState::Awaiting | BatchState::Started => Ok(number),
            state => Err(InvalidJob::BatchEnded { batch: id, state: state.as_str() }.into()),
        }
    }

    fn find(&mut self, write: &Write<'_>, id: BatchId) -> rusqlite::Result<Option<i64>> {
        if let Some(&number) = self.batches.get(&id) {
            return Ok(Some(number));
        }
        let found = links::batch_number(write.conn, id)?;
        if let Some(number) = found {
            self.batches.insert(id, number);
        }
        Ok(found)
    }

    /// Looks at each dependency of `follower`, a job or the id of a batch.
    fn plan_after(
        &mut self,
        write: &mut Write<'_>,
        plan: &mut Plan,
        follower: JobId,
        after: &[Dependency],
    ) -> Result<(), Failure> {
        for (place, dependency) in after.iter().enumerate() {
            let on = dependency.on;
            let Some(Found { number, end, is_followed }) = self.antecedent(write, on)? else {
                return Err(InvalidJob::NoAntecedent { job: follower, on }.into());
            };
            refuse_own_batch(write, plan.batch, number, on)?;
            match end {
                None => {
                    plan.open.push(Open { number, dependency: *dependency, place, is_followed })
                }
                Some(end) if !dependency.after.is_met_by(end) => {
                    plan.unmet.get_or_insert_with(|| dependency.unmet_reason(end));
                }
                Some(end) if dependency.pass => {
                    let seq = matches!(on, Antecedent::Job(_)).then_some(number);
                    let outcome = Outcome::of(write.conn, seq, end)?;
                    plan.outcomes.push((place, outcome));
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
    fn antecedent(
        &mut self,
        write: &mut Write<'_>,
        on: Antecedent,
    ) -> Result<Option<Found>, Failure> {
        match on {
            Antecedent::Job(id) => {
                if let Some(&number) = self.made.get(&id) {
                    return Ok(Some(Found { number, end: None, is_followed: true }));
                }
                let Some(body) = Body::find(write.conn, id)? else { return Ok(None) };
                let state = Stand::find(write.conn, &body)?.standing.state;
                let end = state.is_final().then_some(state);
                Ok(Some(Found { number: body.seq, end, is_followed: body.followed }))
            }
            Antecedent::Batch(id) => {
                let Some(number) = self.find(write, id)? else { return Ok(None) };
                let batch = batches::get(write, number)?;
                Ok(Some(Found { number, end: batch.state.end(), is_followed: batch.followed }))
            }
        }
    }

    /// Writes what a job or batch with this number waits for.
    pub(crate) fn link(
        &mut self,
        write: &mut Write<'_>,
        number: i64,
        is_batch: bool,
        plan: &mut Plan,
    ) -> Result<(), Failure> {
        for Open { number: antecedent, dependency, place, is_followed } in &plan.open {
            links::open(write, *antecedent, number, is_batch, dependency, *place)?;
            match dependency.on {
                _ if *is_followed => _ = self.unfollowed.remove(antecedent),
                Antecedent::Job(_) => links::mark_followed(write.conn, *antecedent)?,
                Antecedent::Batch(_) => {
                    let batch = batches::get(write, *antecedent)?;
                    batch.dirty = true;
                    batch.followed = true;
                }
            }
        }
        for (place, outcome) in plan.outcomes.iter_mut().filter(|_| !is_batch) {
            outcome.keep(write.conn, number, *place)?;
        }
        Ok(())
    }

    /// Takes back marks that turned out to be wrong, and lets the batches of the call take their course, now that its jobs are stored.
    pub(crate) fn finish(self, write: &mut Write<'_>, emptied: Vec<i64>) -> Result<(), Failure> {
        for seq in self.unfollowed {
            links::mark_unfollowed(write.conn, seq)?;
        }
        batches::let_end(write, self.new_batches, emptied)
    }
}

/// What is waited for.
struct Found {
    number: i64,
    /// How it has ended, if it has.
    end: Option<StateName>,
    is_followed: bool,
}

fn insert(write: &Write<'_>, number: i64, new: &NewBatch, batch: &Batch) -> Result<(), Failure> {
    let after = match new.after.is_empty() {
        true => None,
        false => Some(
            serde_json::to_string(&new.after)
                .map_err(|error| InvalidJob::Encode { reason: error.to_string() })?,
        ),
    };
    write.conn.prepare_cached(INSERT_BATCH)?.execute(params![
        number,
        new.id.as_bytes(),
        batch.parent,
        batch.depth,
        new.description,
        after,
        batch.retention,
        write.now.as_micros(),
        state_code(batch.state),
        batch.waits,
        batch.start
    ])?;
    Ok(())
}

/// A member that waited for the end of a batch it is in would wait for itself.
fn refuse_own_batch(
    write: &mut Write<'_>,
    mut batch: Option<i64>,
    antecedent: i64,
    on: Antecedent,
) -> Result<(), Failure> {
    let Antecedent::Batch(id) = on else { return Ok(()) };
    while let Some(number) = batch {
        if number == antecedent {
            let reason = "a member cannot wait for the end of its own batch".to_owned();
            return Err(InvalidJob::Batch { batch: id, reason }.into());
        }
        batch = batches::get(write, number)?.parent;
    }
    Ok(())
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[INSERT_BATCH];
