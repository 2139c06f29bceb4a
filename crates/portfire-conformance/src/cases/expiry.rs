//! Retention: what is cleaned, when, and that nothing else is.

use portfire_core::{Bucket, Cleaned, JobFilter, JobId, JobState, Retention, StateName};

use crate::server::{failure, success};
use crate::stage::{DAY, Stage, secs};

const YEAR: std::time::Duration = secs(365 * 86_400);

/// A job that was run to this end with this retention.
async fn ended(s: &Stage, state: StateName, retention: Option<Retention>) -> JobId {
    let server = s.server_with_lease(&format!("ender-{}", s.id()), 100 * YEAR).await;
    let mut job = s.new_job();
    job.options.retention = retention;
    let id = s.create_one(job).await;
    if state == StateName::Deleted {
        let _ = s.delete(id).await;
        return id;
    }
    let held = server.claim_one().await;
    assert_eq!(held.claim.job, id);
    let outcome = if state == StateName::Failed { failure() } else { success() };
    server.end(held.claim, outcome).await;
    id
}

/// However old they are, jobs that have not ended are not cleaned.
pub async fn expire_only_final(s: Stage) {
    let mut ids = Vec::new();
    for state in [StateName::Scheduled, StateName::Enqueued, StateName::Processing] {
        ids.push(s.job_in(state).await.expect("a way leads there"));
    }
    s.advance(300 * DAY).await;
    assert_eq!(s.clean(1_000).await, Cleaned::default());
    for id in ids {
        assert!(s.find(id).await.is_some());
    }
}

/// Succeeded and deleted jobs are kept for a day, and not cleaned before.
pub async fn expire_not_before_its_time(s: Stage) {
    let succeeded = ended(&s, StateName::Succeeded, None).await;
    let deleted = ended(&s, StateName::Deleted, None).await;
    s.advance(DAY - secs(1)).await;
    assert_eq!(s.clean(1_000).await, Cleaned::default());
    s.advance(secs(2)).await;
    assert_eq!(s.clean(1_000).await, Cleaned { jobs: 2, more: false });
    assert_eq!((s.find(succeeded).await, s.find(deleted).await), (None, None));
}

/// A failed job is kept until someone acts.
pub async fn expire_failed_kept_by_default(s: Stage) {
    let id = ended(&s, StateName::Failed, None).await;
    s.advance(10 * YEAR).await;
    assert_eq!(s.clean(1_000).await, Cleaned::default());
    assert_eq!(s.state(id).await, StateName::Failed);
}

/// Of a cleaned job nothing is left: no record, no history, no line in a list, no count.
pub async fn expire_removes_all_traces(s: Stage) {
    let mut job = s.new_job_in("gone");
    job.options.tags = vec!["trace".into()];
    let id = s.create_one(job).await;
    let _ = s.delete(id).await;
    let other = s.enqueue_one().await;
    s.advance(DAY + secs(1)).await;
    assert_eq!(s.clean(10).await.jobs, 1);
    assert_eq!((s.find(id).await, s.history(id).await), (None, vec![]));
    assert_eq!(s.list_ids(JobFilter::default()).await, [other]);
    assert_eq!(s.list_ids(JobFilter::state(StateName::Deleted)).await, []);
    let counts = s.counts().await;
    assert_eq!((counts.of(StateName::Deleted), counts.cleaned_total), (0, 1));
    assert_eq!((counts.created_total, counts.deleted_total), (2, 1));
    assert_eq!(s.change(id, portfire_core::Action::Requeue).await, portfire_core::Changed::Missing);
}

/// The id of a cleaned job is free again.
pub async fn expire_frees_the_id(s: Stage) {
    let job = s.new_job();
    s.create(vec![job.clone()]).await;
    let _ = s.delete(job.id).await;
    s.advance(DAY + secs(1)).await;
    s.clean(10).await;
    let mut other = job.clone();
    other.args = crate::stage::json("[2]");
    assert!(!s.create(vec![other]).await[0].existing);
    assert_eq!(s.record(job.id).await.revision, 1);
}

/// A job that was asked for again after it had expired is not cleaned.
pub async fn expire_requeue_race(s: Stage) {
    let id = ended(&s, StateName::Succeeded, None).await;
    s.advance(DAY + secs(1)).await;
    let _ = s.requeue(id).await;
    assert_eq!(s.clean(10).await, Cleaned::default());
    assert_eq!(s.state(id).await, StateName::Enqueued);
    let server = s.server("late").await;
    server.end(server.claim_one().await.claim, success()).await;
    assert_eq!(s.clean(10).await, Cleaned::default(), "its time begins anew");
}

/// Requeues and cleaning at once: each job is either asked for again or cleaned, and never half.
pub async fn expire_requeue_at_once(s: Stage) {
    let ids = s.enqueue(40).await;
    for &id in &ids {
        let _ = s.delete(id).await;
    }
    s.advance(DAY + secs(1)).await;
    let cleaner = {
        let s = s.clone();
        tokio::spawn(async move {
            let mut cleaned = 0;
            for _ in 0..20 {
                cleaned += s.clean(2).await.jobs;
            }
            cleaned
        })
    };
    let mut requeued = 0;
    for &id in ids.iter().rev() {
        match s.requeue(id).await {
            portfire_core::Changed::Applied { .. } => requeued += 1,
            portfire_core::Changed::Missing => {}
            other => panic!("{other:?}"),
        }
    }
    let mut cleaned = cleaner.await.expect("the cleaner ends");
    cleaned += s.clean(100).await.jobs;
    assert_eq!(cleaned + requeued, 40);
    s.expect_count(StateName::Enqueued, u64::from(requeued)).await;
}

/// A cleaning removes at most as many as asked and says whether more have expired.
pub async fn expire_batch_limit(s: Stage) {
    for id in s.enqueue(25).await {
        let _ = s.delete(id).await;
    }
    s.advance(DAY + secs(1)).await;
    assert_eq!(s.clean(10).await, Cleaned { jobs: 10, more: true });
    assert_eq!(s.clean(10).await, Cleaned { jobs: 10, more: true });
    assert_eq!(s.clean(10).await, Cleaned { jobs: 5, more: false });
    assert_eq!(s.counts().await.cleaned_total, 25);
}

/// A cleaning that is repeated changes nothing.
pub async fn clean_repeat_changes_nothing(s: Stage) {
    ended(&s, StateName::Succeeded, None).await;
    s.advance(DAY + secs(1)).await;
    s.clean(10).await;
    let before = s.counts().await;
    assert_eq!(s.clean(10).await, Cleaned::default());
    assert_eq!(s.counts().await, before);
}

/// The retention that a job's own call named goes before the storage's.
pub async fn expire_by_the_jobs_own_retention(s: Stage) {
    let brief = Some(Retention {
        succeeded: Some(secs(10)),
        failed: Some(secs(20)),
        deleted: Some(secs(30)),
    });
    let states = [StateName::Succeeded, StateName::Failed, StateName::Deleted];
    let mut ids = Vec::new();
    for state in states {
        ids.push(ended(&s, state, brief).await);
    }
    for id in ids {
        s.advance(secs(10)).await;
        s.advance(std::time::Duration::from_millis(1)).await;
        assert_eq!(s.clean(10).await.jobs, 1);
        assert_eq!(s.find(id).await, None);
    }
}

/// A job that is to be kept is never cleaned and says so.
pub async fn expire_never_when_kept(s: Stage) {
    let kept = Some(Retention { succeeded: None, failed: None, deleted: None });
    for state in [StateName::Succeeded, StateName::Failed, StateName::Deleted] {
        let id = ended(&s, state, kept).await;
        let expires = match s.record(id).await.state {
            JobState::Succeeded { expires_at, .. }
            | JobState::Failed { expires_at, .. }
            | JobState::Deleted { expires_at, .. } => expires_at,
            other => panic!("{other:?}"),
        };
        assert_eq!(expires, None, "{state}");
    }
    s.advance(100 * YEAR).await;
    assert_eq!(s.clean(10).await, Cleaned::default());
    s.expect_count(StateName::Failed, 1).await;
}

/// A job that is kept for no time is cleaned at the next pass.
pub async fn expire_at_once_when_not_kept(s: Stage) {
    let none = secs(0);
    let at_once =
        Some(Retention { succeeded: Some(none), failed: Some(none), deleted: Some(none) });
    ended(&s, StateName::Succeeded, at_once).await;
    s.advance(secs(1)).await;
    assert_eq!(s.clean(10).await.jobs, 1);
}

/// Cleaning takes nothing from the totals.
pub async fn clean_keeps_the_totals(s: Stage) {
    ended(&s, StateName::Succeeded, None).await;
    ended(&s, StateName::Deleted, None).await;
    s.advance(DAY + secs(1)).await;
    s.clean(10).await;
    let counts = s.counts().await;
    assert_eq!((counts.created_total, counts.succeeded_total, counts.deleted_total), (2, 1, 1));
    assert_eq!(counts.cleaned_total, 2);
}

/// Statistics by the hour are forgotten after two days, those by the day after 400.
pub async fn clean_forgets_statistics_after_their_time(s: Stage) {
    ended(&s, StateName::Failed, None).await;
    let since = s.now().await;
    let kept = async |bucket: Bucket| {
        s.clean(100).await;
        s.storage().statistics(bucket, since).await.expect("read").len()
    };
    s.advance(2 * DAY - secs(7_200)).await;
    assert_eq!((kept(Bucket::Hour).await, kept(Bucket::Day).await), (1, 1));
    s.advance(secs(3 * 3_600 + 7_200)).await;
    assert_eq!((kept(Bucket::Hour).await, kept(Bucket::Day).await), (0, 1));
    s.advance(396 * DAY).await;
    assert_eq!(kept(Bucket::Day).await, 1);
    s.advance(6 * DAY).await;
    assert_eq!(kept(Bucket::Day).await, 0);
}
