//! What must hold of the attempts and the storage when all is at rest.

use std::collections::BTreeMap;

use portfire::{BatchId, BatchRecord, Counts, JobId, JobRecord, JobState, StateName, Storage};

use super::trace::Trace;
use super::work::Work;
use crate::AnyError;
use crate::checker::few;

/// What the storage holds when all is over.
#[derive(Debug, Default)]
pub(super) struct Found {
    jobs: BTreeMap<JobId, JobRecord>,
    batches: BTreeMap<BatchId, BatchRecord>,
    pub(super) counts: Counts,
}

impl Found {
    pub(super) async fn read(work: &Work, storage: &dyn Storage) -> Result<Found, AnyError> {
        let mut found = Found { counts: storage.counts().await?, ..Found::default() };
        for &id in work.ends.keys() {
            found.jobs.extend(storage.job(id).await?.map(|job| (id, job)));
        }
        for &id in work.batches.keys() {
            found.batches.extend(storage.batch(id).await?.map(|batch| (id, batch)));
        }
        Ok(found)
    }
}

/// Names everything that is wrong; of each sort the first few.
pub(super) fn all(work: &Work, trace: &Trace, found: &Found) -> Vec<String> {
    let sorts = [
        trace.faults.clone(),
        ends(work, trace, found),
        counters(work, found),
        orders(work, trace),
        limits(work, trace),
        unique(work, trace, found),
        batches(work, found),
    ];
    sorts.into_iter().flat_map(few).collect()
}

/// Every job ended as it was to, ran when it was to, and did not run again without a crash.
fn ends(work: &Work, trace: &Trace, found: &Found) -> Vec<String> {
    let mut faults = Vec::new();
    for (id, &end) in &work.ends {
        let Some(job) = found.jobs.get(id) else {
            faults.push(format!("job {id} is gone"));
            continue;
        };
        if job.state.name() != end {
            faults.push(format!("job {id} was to be {end}, and is {:?}", job.state));
            continue;
        }
        let attempts = trace.of_job(*id);
        let whole = attempts.iter().filter(|attempt| attempt.whole).count();
        match end {
            StateName::Deleted if !attempts.is_empty() => {
                faults.push(format!("job {id} can never run, and ran"));
            }
            StateName::Deleted => {}
            _ if !attempts.last().is_some_and(|last| last.whole) => {
                faults.push(format!("job {id} is {end}, and its last attempt did not end"));
            }
            _ if attempts.len() as u32 > job.attempt => {
                let (runs, claims) = (attempts.len(), job.attempt);
                faults.push(format!(
                    "job {id} ran {runs} times, {whole} to its end, with {claims} claims"
                ));
            }
            _ => {}
        }
    }
    let strangers = trace.jobs().filter(|job| !work.ends.contains_key(job));
    faults.extend(strangers.map(|job| format!("job {job} ran, and was not stored")));
    faults
}

/// The counters agree with how the jobs ended.
fn counters(work: &Work, found: &Found) -> Vec<String> {
    let counts = &found.counts;
    let wanted = |state| work.ends.values().filter(|end| **end == state).count() as u64;
    let mut faults = Vec::new();
    if work.repaired != work.failing {
        let (repaired, failing) = (work.repaired, work.failing);
        faults.push(format!(
            "{repaired} jobs had failed and were requeued, and {failing} were to be"
        ));
    }
    for state in StateName::ALL {
        let wanted = if state.is_final() { wanted(state) } else { 0 };
        if counts.of(state) != wanted {
            faults.push(format!("{} jobs are {state}, and {wanted} were to be", counts.of(state)));
        }
    }
    let totals = [
        ("created", counts.created_total, work.ends.len() as u64),
        ("succeeded", counts.succeeded_total, wanted(StateName::Succeeded)),
        ("failed", counts.failed_total, work.failing),
        ("deleted", counts.deleted_total, wanted(StateName::Deleted)),
        ("retried", counts.retried_total, 0),
    ];
    for (what, found, wanted) in totals {
        if found != wanted {
            faults.push(format!("{found} jobs {what} in all, and {wanted} were to be"));
        }
    }
    faults
}

/// What was to come later began after the last attempt of what was to come before.
fn orders(work: &Work, trace: &Trace) -> Vec<String> {
    let mut faults = Vec::new();
    for (before, after) in &work.orders {
        let ended = trace.of_job(*before).iter().map(|attempt| attempt.end).max();
        let began = trace.of_job(*after).iter().map(|attempt| attempt.begin).min();
        if let (Some(ended), Some(began)) = (ended, began)
            && began < ended
        {
            let early = ended - began;
            faults.push(format!("job {after} began {early} ns before the end of job {before}"));
        }
    }
    faults
}

/// Never more jobs of a key ran at a time than it allows.
fn limits(work: &Work, trace: &Trace) -> Vec<String> {
    let mut faults = Vec::new();
    for (key, (bound, jobs)) in &work.limits {
        let most = most_at_a_time(trace, jobs);
        if most > *bound {
            faults.push(format!("{most} jobs of `{key}` ran at a time, and {bound} may"));
        }
    }
    faults
}

fn most_at_a_time(trace: &Trace, jobs: &[JobId]) -> usize {
    let mut moves = Vec::new();
    for attempt in jobs.iter().flat_map(|job| trace.of_job(*job)) {
        // At one instant an end comes before a begin.
        moves.push((attempt.begin, 1));
        moves.push((attempt.end, -1));
    }
    moves.sort_unstable();
    let (mut running, mut most) = (0i64, 0i64);
    for (_, by) in moves {
        running += by;
        most = most.max(running);
    }
    most as usize
}

/// Those who held a key held it one after another, in the storage's time and in ours.
fn unique(work: &Work, trace: &Trace, found: &Found) -> Vec<String> {
    let mut faults = Vec::new();
    for (key, holders) in &work.unique {
        for pair in holders.windows(2) {
            let (Some(first), Some(second)) = (found.jobs.get(&pair[0]), found.jobs.get(&pair[1]))
            else {
                continue;
            };
            if ended_at(first).is_none_or(|ended| ended > second.created_at) {
                faults.push(format!("jobs {} and {} held `{key}` together", pair[0], pair[1]));
            }
            if most_at_a_time(trace, pair) > 1 {
                faults.push(format!("jobs {} and {} of `{key}` ran together", pair[0], pair[1]));
            }
        }
        if holders.len() < 2 {
            faults.push(format!("`{key}` was held once only: it was not given back"));
        }
    }
    faults
}

fn ended_at(job: &JobRecord) -> Option<portfire::Timestamp> {
    match job.state {
        JobState::Succeeded { succeeded_at, .. } => Some(succeeded_at),
        _ => None,
    }
}

/// Every batch ended as it was to, with exact numbers.
fn batches(work: &Work, found: &Found) -> Vec<String> {
    let mut faults = Vec::new();
    for (id, (state, members)) in &work.batches {
        match found.batches.get(id) {
            None => faults.push(format!("batch {id} is gone")),
            Some(batch) if batch.state != *state || batch.members != *members => {
                let (is, has) = (batch.state.as_str(), batch.members);
                let was = state.as_str();
                faults.push(format!(
                    "batch {id} is {is} with {has:?}, and was to be {was} with {members:?}"
                ));
            }
            Some(_) => {}
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use portfire::Timestamp;

    use super::*;

    fn id(number: u128) -> JobId {
        JobId::from_parts(Timestamp::default(), number)
    }

    /// Jobs by number, each with one attempt from and to.
    fn trace(attempts: &[(u128, u64, u64)]) -> Trace {
        let mut lines = Vec::new();
        for (number, begin, end) in attempts {
            lines.push((0, format!("begin {} 1 {begin}", id(*number))));
            lines.push((0, format!("end {} 1 {end}", id(*number))));
        }
        Trace::of(&lines, &BTreeMap::new()).unwrap()
    }

    #[test]
    fn one_too_many_of_a_key_is_found() {
        let mut work = Work::default();
        work.limits.insert("k".to_owned(), (2, vec![id(1), id(2), id(3)]));
        assert_eq!(
            limits(&work, &trace(&[(1, 0, 10), (2, 5, 15), (3, 10, 20)])),
            Vec::<String>::new()
        );
        let faults = limits(&work, &trace(&[(1, 0, 10), (2, 5, 15), (3, 9, 20)]));
        assert_eq!(faults, ["3 jobs of `k` ran at a time, and 2 may"]);
    }

    #[test]
    fn what_begins_too_early_is_found() {
        let mut work = Work::default();
        work.orders.push((id(1), id(2)));
        assert_eq!(orders(&work, &trace(&[(1, 0, 10), (2, 10, 20)])), Vec::<String>::new());
        assert_eq!(orders(&work, &trace(&[(1, 0, 10), (2, 9, 20)])).len(), 1);
    }

    #[test]
    fn jobs_that_are_gone_or_ran_although_they_could_not_are_found() {
        let mut work = Work::default();
        work.ends.insert(id(1), StateName::Succeeded);
        let faults = ends(&work, &trace(&[(2, 0, 1)]), &Found::default());
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(
            faults[0].contains("is gone") && faults[1].contains("was not stored"),
            "{faults:?}"
        );
    }

    #[test]
    fn counters_that_disagree_are_found() {
        let mut work = Work::default();
        work.ends.insert(id(1), StateName::Succeeded);
        let states = [(StateName::Succeeded, 1)].into();
        let counts = Counts { states, created_total: 1, succeeded_total: 1, ..Counts::default() };
        let found = |counts| Found { counts, ..Found::default() };
        assert_eq!(counters(&work, &found(counts.clone())), Vec::<String>::new());
        let awaiting = [(StateName::Succeeded, 1), (StateName::Awaiting, 1)].into();
        let wrong = Counts { states: awaiting, succeeded_total: 2, ..counts };
        assert_eq!(counters(&work, &found(wrong)).len(), 2);
    }

    #[test]
    fn a_key_that_is_never_given_back_is_found() {
        let mut work = Work::default();
        work.unique.insert("k".to_owned(), vec![id(1)]);
        let faults = unique(&work, &Trace::default(), &Found::default());
        assert!(faults[0].contains("was not given back"), "{faults:?}");
    }

    #[test]
    fn a_batch_that_is_gone_is_found() {
        let mut work = Work::default();
        let end = (portfire::BatchState::Succeeded, Default::default());
        work.batches.insert(BatchId::new(id(1)), end);
        assert!(batches(&work, &Found::default())[0].contains("is gone"));
    }
}
