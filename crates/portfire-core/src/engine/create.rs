//! The creation of batches and jobs.

use super::admission::{Admission, Plan};
use super::rows::Fault;
use super::rows::{Facts, FirstRow, Node, Origin, Rows, Seq, Taken};
use super::{moves, must_be};
use crate::batch::NewBatch;
use crate::error::StorageError;
use crate::job::{InvalidJob, NewJob};
use crate::state::StateName;
use crate::storage::{BATCH_MAX, Created};
use crate::transition::Event;

/// Refuses what breaks a bound. It comes before [`create`], which writes as it goes.
///
/// # Errors
/// [`Invalid`](StorageError::Invalid), for the first that breaks one.
pub fn check_new<R: Rows>(
    rows: &R,
    batches: &[NewBatch],
    jobs: &[NewJob],
) -> Result<(), StorageError> {
    let count = jobs.len().max(batches.len());
    if count > BATCH_MAX {
        return Err(InvalidJob::TooManyJobs { count, limit: BATCH_MAX }.into());
    }
    batches.iter().try_for_each(NewBatch::validate)?;
    let (limits, now) = (rows.limits(), rows.now());
    for job in jobs {
        job.validate(&limits)?;
        job.when.resolve(now)?;
    }
    Ok(())
}

/// Stores the batches and then the jobs, which [`check_new`] has passed. On an error the caller undoes what was written.
///
/// # Errors
/// Those of [`Storage::create_batches`](crate::Storage::create_batches).
pub fn create<R: Rows>(
    rows: &mut R,
    batches: &[NewBatch],
    jobs: &[NewJob],
) -> Result<Vec<Created>, R::Error> {
    // From here on no batch ends, because members are being added.
    rows.agenda().emptied = Some(Vec::new());
    let stored = store_each(rows, batches, jobs);
    let emptied = rows.agenda().emptied.take().unwrap_or_default();
    let (created, admission) = stored?;
    admission.finish(rows, emptied)?;
    Ok(created)
}

/// Whether all that can be refused about a job is found out before anything of it is written, its numbers apart.
pub fn is_alone(job: &NewJob) -> bool {
    job.ties.after.is_empty() && job.ties.batch.is_none()
}

fn store_each<R: Rows>(
    rows: &mut R,
    batches: &[NewBatch],
    jobs: &[NewJob],
) -> Result<(Vec<Created>, Admission), R::Error> {
    let mut admission = Admission::new(batches, jobs);
    for batch in batches {
        rows.item(|rows| admission.add_batch(rows, batch))?;
    }
    let mut created = Vec::with_capacity(jobs.len());
    for job in jobs {
        let redirected = admission.redirected(job);
        let job = redirected.as_ref().unwrap_or(job);
        created.extend(rows.item(|rows| store(rows, &mut admission, job))?);
    }
    Ok((created, admission))
}

/// Stores one job of a call.
fn store<R: Rows>(
    rows: &mut R,
    admission: &mut Admission,
    job: &NewJob,
) -> Result<Created, R::Error> {
    if let Some(key) = &job.ties.unique {
        // What is wrong with a job is told whether or not its key is held.
        plan(rows, admission, job)?;
        let seq = rows.next_seq()?;
        match rows.take_unique(key, job, seq)? {
            Taken::Free => {}
            Taken::Replaced => admission.doubt(),
            Taken::Existing => return existing(rows, job),
            Taken::Held(id) => {
                admission.stands_for(id, job.id);
                return Ok(Created { id, existing: true });
            }
        }
    }
    let plan = plan(rows, admission, job)?;
    let run_at = match plan.is_awaiting() {
        true => None,
        false => job.when.resolve(rows.now()).map_err(StorageError::from)?,
    };
    let origin = Origin {
        run_at,
        batch: plan.batch,
        awaited: plan.is_awaiting(),
        followed: admission.is_followed(job.id),
    };
    let Some(numbers) = rows.add_job(job, origin)? else {
        if let Some(key) = &job.ties.unique {
            let seq = rows.next_seq()?;
            rows.free_unique(key, seq)?;
        }
        return existing(rows, job);
    };
    rows.declare_limits(&job.ties)?;
    let row = match run_at {
        _ if plan.is_awaiting() => {
            FirstRow::Awaiting { pending: plan.pending(), start: plan.start }
        }
        Some(run_at) => FirstRow::Scheduled(run_at),
        None => match rows.line_up(Some(&job.ties), numbers.kind)? {
            Some(key) => FirstRow::InLine(key),
            None => FirstRow::Ready,
        },
    };
    rows.place_job(job, numbers, row)?;
    admission.made(job.id, numbers.seq);
    if let Some(batch) = plan.batch {
        super::batches::member_moved(rows, batch, None, row.state())?;
    }
    admission.link(rows, Node::Job(numbers.seq), &plan)?;
    if let Some(reason) = &plan.unmet {
        admission.doubt();
        delete_unmet(rows, numbers.seq, reason)?;
    }
    Ok(Created { id: job.id, existing: false })
}

/// What a job waits for and belongs to; most wait for nothing and belong to nothing. A job that is stored already is not
/// looked at.
fn plan<R: Rows>(rows: &mut R, admission: &mut Admission, job: &NewJob) -> Result<Plan, R::Error> {
    if is_alone(job) {
        return Ok(Plan::default());
    }
    match admission.plan_job(rows, job) {
        Err(error) if error.is_refusal() && rows.is_same(job)?.is_some() => Ok(Plan::default()),
        planned => planned,
    }
}

/// Deletes a new job that waits in vain.
fn delete_unmet<R: Rows>(rows: &mut R, seq: Seq, reason: &str) -> Result<(), R::Error> {
    let (job, position) = moves::job(rows, seq)?;
    debug_assert_eq!(position.standing.state, StateName::Awaiting);
    moves::must(rows, &job, &position, Event::Delete, &Facts::reason(reason)).map(drop)
}

/// The answer for a job whose id is stored, unless it is another job's.
fn existing<R: Rows>(rows: &mut R, job: &NewJob) -> Result<Created, R::Error> {
    let same = rows.is_same(job)?;
    let same: Result<bool, R::Error> =
        must_be(same, || format!("job {} is stored and is not found", job.id));
    match same? {
        true => Ok(Created { id: job.id, existing: true }),
        false => Err(StorageError::IdTaken { job: job.id }.into()),
    }
}
