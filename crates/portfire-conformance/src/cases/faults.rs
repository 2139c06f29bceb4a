//! What goes wrong around a storage: lost answers, dropped futures, hostile texts, other tenants.

use portfire_core::{
    Action, Change, Changed, CycleRequest, Expect, JobFilter, KindName, Outcome, StateName, Verdict,
};

use crate::odd;
use crate::server::{error, finish, is_gone, retry, success};
use crate::stage::{DAY, Stage, kind, queue, secs};
use crate::wait::poll_once;

/// Texts that look like commands are stored and found as texts, in every field that takes them.
pub async fn sql_injection_strings_everywhere(s: Stage) {
    for text in odd::TEXTS {
        let text = *text;
        let mut server = crate::server::Server::new(s.clone(), text, 30 * DAY);
        server.new.id = portfire_core::ServerId::new(format!("{text}/{}", s.id()));
        server.announce().await.expect("taken");
        let record = s.server_record(&server.id()).await.expect("listed");
        assert_eq!(record.name, text);

        let mut job = s.new_job();
        job.args = portfire_core::Json::encode(&serde_json::json!({ text: text })).expect("JSON");
        if (1..=64).contains(&text.len()) {
            job.options.tags = vec![text.to_owned()];
            job.options.metadata.insert(text.to_owned(), text.to_owned());
        }
        s.create(vec![job.clone()]).await;
        let claimed = server.claim_one().await;
        assert_eq!((&claimed.args, &claimed.options), (&job.args, &job.options), "{text:?}");
        let failed = portfire_core::ErrorRecord::new(text, text);
        let outcome = Outcome::Retry { delay: secs(0), error: failed.clone() };
        server.end(claimed.claim, outcome).await;
        assert_eq!(s.history(job.id).await[2].error, Some(failed));

        s.promote().await;
        let result = Some(job.args.clone());
        let claimed = server.claim_one().await;
        server.end(claimed.claim, Outcome::Succeeded { result: result.clone() }).await;
        let state = s.record(job.id).await.state;
        let portfire_core::JobState::Succeeded { result: kept, .. } = state else {
            panic!("the job has ended");
        };
        assert_eq!(kept, result, "{text:?}");
        let _ = s.change(job.id, Action::Delete { reason: text.to_owned() }).await;
        let history = s.history(job.id).await;
        assert_eq!(history[history.len() - 1].reason.as_deref(), Some(text));
    }
    s.expect_count(StateName::Deleted, odd::TEXTS.len() as u64).await;
}

/// Kinds of every script are stored, listed and claimed.
pub async fn kinds_of_every_script(s: Stage) {
    let server = s.server("a").await;
    let longest = "é".repeat(128);
    for name in ["日本語", "ß", "a::b.c-d_e", "0", longest.as_str()] {
        let mut job = s.new_job();
        job.kind = KindName::new(name.to_owned()).expect("a legal kind");
        s.create(vec![job.clone()]).await;
        let filter = JobFilter { kind: Some(job.kind.clone()), ..JobFilter::default() };
        assert_eq!(s.list_ids(filter).await, [job.id]);
        assert_eq!(server.claim_one().await.kind, job.kind);
    }
}

/// Two applications that open two storages see nothing of each other.
pub async fn namespace_isolation_two_apps(s: Stage) {
    let other = s.elsewhere().await;
    let job = s.new_job();
    s.create(vec![job.clone()]).await;
    s.pause("default", true).await;
    let server = s.server("a").await;
    assert_eq!((other.find(job.id).await, other.queue("default").await), (None, None));
    assert!(is_gone(&other.storage().heartbeat(server.id(), vec![]).await));
    let mut same_id = job.clone();
    same_id.kind = kind("other");
    assert!(!other.create(vec![same_id]).await[0].existing);
    other.server("a").await.claim_one().await;
    assert_eq!(s.state(job.id).await, StateName::Enqueued);
    assert_eq!(s.counts().await.created_total, 1);
    crate::audit::audit(&other).await;
}

/// A call that is dropped half-way is applied or not, never half, and nobody waits for it.
pub async fn drop_future_mid_op_leaves_no_lock(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(20).await;
    for round in 0..10 {
        let storage = s.storage();
        let waiting = s.enqueue_one().await;
        poll_once(storage.create(s.new_jobs(3))).await;
        poll_once(storage.cycle(server.wish(2))).await;
        poll_once(storage.heartbeat(server.id(), vec![])).await;
        poll_once(storage.promote(10)).await;
        poll_once(storage.rescue(Default::default())).await;
        poll_once(storage.clean(10)).await;
        poll_once(storage.set_queue_paused(queue("default"), round % 2 == 0)).await;
        let action = Action::Delete { reason: "dropped".into() };
        poll_once(storage.change(vec![Change { job: waiting, action, expect: None }])).await;
        poll_once(storage.jobs(JobFilter::default())).await;
        poll_once(storage.counts()).await;
        s.enqueue_one().await;
    }
    s.pause("default", false).await;
    let created = s.counts().await.created_total;
    let whole = created - 20 - 2 * 10;
    assert!(whole <= 30 && whole.is_multiple_of(3), "a call of three is whole: {whole}");
    server.claim(5).await;
}

/// A create that was dropped can be repeated with the same ids, whatever became of it.
pub async fn drop_future_then_repeat_create(s: Stage) {
    for _ in 0..20 {
        let jobs = s.new_jobs(3);
        poll_once(s.storage().create(jobs.clone())).await;
        let created = s.create(jobs.clone()).await;
        assert!(created.iter().all(|one| one.existing == created[0].existing), "all or none");
        for job in jobs {
            assert_eq!(s.record(job.id).await.revision, 1);
        }
    }
    s.expect_count(StateName::Enqueued, 60).await;
}

/// A cycle that was dropped can be repeated with its key: no job is lost to a claim nobody heard of.
pub async fn drop_future_then_repeat_cycle(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(40).await;
    let mut finished = Vec::new();
    for _ in 0..20 {
        let request = CycleRequest { finished, ..server.wish(2) };
        poll_once(s.storage().cycle(request.clone())).await;
        let cycle = server.cycle(CycleRequest { repeated: true, ..request }).await;
        assert!(cycle.verdicts.iter().all(|verdict| *verdict != Verdict::Fenced));
        assert_eq!(cycle.claimed.len(), 2);
        finished = cycle.claimed.iter().map(|job| finish(job.claim, success())).collect();
    }
    server.cycle(CycleRequest { finished, ..server.request() }).await;
    s.expect_count(StateName::Succeeded, 40).await;
}

/// After an unknown outcome each call can be made again: the second one changes nothing.
pub async fn connection_lost_after_commit_unknown_retry_ok(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let mortal = s.server_with_lease("b", secs(5)).await;
    let jobs = s.new_jobs(4);
    s.create(jobs.clone()).await;
    let request = server.wish(2);
    let held = server.cycle(request.clone()).await.claimed;
    mortal.claim_one().await;
    let finished = vec![finish(held[0].claim, success()), finish(held[1].claim, retry(60))];
    let report = CycleRequest { finished, ..server.request() };
    server.cycle(report.clone()).await;
    let revision = s.record(jobs[3].id).await.revision;
    let expect = Some(Expect::Revision(revision));
    let action = Action::Reschedule(secs(120).into());
    let change = Change { job: jobs[3].id, action, expect };
    s.storage().change(vec![change.clone()]).await.expect("answered");
    s.advance(secs(6)).await;
    s.rescue().await;
    s.pause("other", true).await;

    let before =
        (s.everything().await, s.counts().await, s.storage().queues().await.expect("read"));
    assert!(s.create(jobs.clone()).await.iter().all(|created| created.existing));
    let repeated = CycleRequest { repeated: true, ..report };
    assert_eq!(server.cycle(repeated).await.verdicts, [Verdict::Already; 2]);
    let changed = s.storage().change(vec![change]).await.expect("answered");
    assert!(matches!(changed[0], Changed::Unexpected { .. }));
    assert_eq!(s.rescue().await, portfire_core::Rescued::default());
    assert_eq!(s.promote().await.promoted, 0);
    s.pause("other", true).await;
    s.clean(100).await;
    server.announce().await.expect("alive");
    let after = (s.everything().await, s.counts().await, s.storage().queues().await.expect("read"));
    assert_eq!(after, before);
}

/// The storage says what it is, always the same, and without a secret or an empty word.
pub async fn info_says_what_it_is(s: Stage) {
    let info = s.storage().info();
    assert!(!info.name.is_empty() && !info.durability.is_empty(), "{info:?}");
    assert!(info.args_bytes_max >= 1024 && info.args_bytes_max <= 16 * 1024 * 1024, "{info:?}");
    s.enqueue_one().await;
    assert_eq!(s.storage().info(), info);
}

/// Storage time moves as its clock moves.
pub async fn storage_time_moves_with_its_clock(s: Stage) {
    let before = s.now().await;
    s.advance(secs(90)).await;
    let passed = s.now().await.since(before);
    assert!(passed >= secs(90) && passed < secs(120), "{passed:?}");
}

/// A thousand failures of one job are a history of three thousand lines, all there.
pub async fn history_of_a_long_life(s: Stage) {
    let server = s.server_with_lease("a", 30 * DAY).await;
    let id = s.enqueue_one().await;
    for _ in 0..300 {
        let held = server.claim_one().await;
        let outcome = Outcome::Retry { delay: secs(0), error: error() };
        server.end(held.claim, outcome).await;
        s.promote().await;
    }
    assert_eq!(s.history(id).await.len(), 901);
    assert_eq!(s.record(id).await.failures, 300);
}

/// Everybody at once: creators, workers, deleters, promoters, readers; nothing is lost or doubled.
pub async fn everything_at_once(s: Stage) {
    let mut tasks = Vec::new();
    for n in 0..4 {
        let creator = s.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..25 {
                let mut jobs = creator.new_jobs(2);
                jobs[0].when = secs(3_600).into();
                let ids: Vec<_> = creator.create(jobs).await.iter().map(|job| job.id).collect();
                let _ = creator.delete(ids[0]).await;
                creator.promote().await;
                creator.storage().jobs(JobFilter::default()).await.expect("read");
            }
        }));
        let worker = s.server_with_lease(&format!("w{n}"), DAY).await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..25 {
                for job in worker.claim(2).await {
                    worker.end(job.claim, success()).await;
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("the task ends");
    }
    let server = s.server("last").await;
    for job in server.claim(1_000).await {
        server.end(job.claim, success()).await;
    }
    s.expect_count(StateName::Succeeded, 100).await;
    s.expect_count(StateName::Deleted, 100).await;
}
