//! Listeners hear of every transition that their process makes, as the history has it.

use std::collections::BTreeMap;

use portfire_core::{
    After, Dependency, Heard, HistoryEntry, JobId, LimitRule, Moved, StateName, Transitions,
};

use crate::server::{failure, finish, retry, success};
use crate::stage::{DAY, Stage, every, recurring, secs};

/// A listener, and what it has heard so far; `None` when the storage does not tell.
struct Ear {
    listener: Transitions,
    heard: BTreeMap<JobId, Vec<Moved>>,
}

impl Ear {
    fn of(s: &Stage) -> Option<Ear> {
        let storage = s.storage();
        let tells = storage.info().capabilities.tells_transitions;
        tells.then(|| Ear { listener: storage.transitions(), heard: BTreeMap::new() })
    }

    fn listen(&mut self) {
        while let Some(heard) = self.listener.try_next() {
            let Heard::Moved(moved) = heard else { panic!("commits were missed: {heard:?}") };
            for one in moved.iter() {
                self.heard.entry(one.job).or_default().push(one.clone());
            }
        }
    }

    /// Every job that is stored has moved as its history says, and nothing else was told.
    async fn check(&mut self, s: &Stage) {
        self.listen();
        let jobs = s.everything().await;
        assert_eq!(self.heard.len(), jobs.len(), "jobs that were told of");
        for job in jobs {
            let told = &self.heard[&job.id];
            assert!(told.iter().all(|one| one.kind == job.kind && one.queue == job.queue));
            let entries: Vec<&HistoryEntry> = told.iter().map(|one| &one.entry).collect();
            let history = s.history(job.id).await;
            assert_eq!(entries, history.iter().collect::<Vec<_>>(), "of {}", job.id);
            let left: Vec<_> = told.iter().map(|one| one.from).collect();
            let mut states = vec![None];
            states.extend(history.iter().map(|entry| Some(entry.state)));
            assert_eq!(left, states[..history.len()], "the states that {} left", job.id);
        }
    }
}

/// A job's own life: creation, claim, retry, promotion, end, requeue, deletion, release.
pub async fn moved_of_a_life(s: Stage) {
    let Some(mut ear) = Ear::of(&s) else { return };
    let server = s.server("a").await;
    let jobs = s.enqueue(4).await;
    let later = s.schedule(secs(10)).await;
    server.run(jobs[0], success()).await;
    server.run(jobs[1], retry(5)).await;
    server.run(jobs[2], failure()).await;
    ear.check(&s).await;
    s.advance(secs(10)).await;
    s.promote().await;
    assert!(s.requeue(jobs[2]).await.is_done());
    assert!(s.delete(later).await.is_done());
    let held = server.claim(10).await;
    assert_eq!(held.len(), 3);
    server.retire().await;
    ear.check(&s).await;
}

/// What follows from an end: children released and deleted, members that start with their batch, a sweep.
pub async fn moved_by_what_follows(s: Stage) {
    let Some(mut ear) = Ear::of(&s) else { return };
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.continue_with(parent).await;
    s.continue_on(child, After::Failure).await;
    let mut batch = s.new_batch();
    batch.after = vec![Dependency::on(parent)];
    let (batch, _) = s.batch_of(batch, 5).await;
    server.run(parent, success()).await;
    server.run(child, success()).await;
    ear.check(&s).await;
    let held = server.claim(2).await;
    assert_eq!(held.len(), 2);
    let _ = s.cancel(batch).await;
    s.promote_all().await;
    ear.check(&s).await;
}

/// What other calls do: a rescue, an occurrence, a refused create (nothing).
pub async fn moved_by_other_calls(s: Stage) {
    let Some(mut ear) = Ear::of(&s) else { return };
    s.define(&recurring("r", every(60))).await;
    s.set_limit("l", Some(LimitRule::concurrency(1))).await;
    let limited = s.enqueue_under("l", 2).await;
    let dying = s.server("a").await;
    assert_eq!(dying.claim_one().await.claim.job, limited[0]);
    s.lapse().await;
    assert_eq!(s.rescue().await.returned, 1);
    s.advance(secs(60)).await;
    assert_eq!(s.tick().await.len(), 1);
    let mut orphan = s.new_job();
    orphan.ties.after = vec![Dependency::on(s.id())];
    let refused = s.storage().create(vec![s.new_job(), orphan]).await;
    assert!(refused.is_err(), "{refused:?}");
    ear.check(&s).await;
    let server = s.server_with_lease("b", DAY).await;
    let held = server.claim(10).await;
    server.finish_all(held.iter().map(|job| finish(job.claim, success())).collect()).await;
    ear.check(&s).await;
    s.expect_count(StateName::Succeeded, held.len() as u64).await;
}
