//! Creating jobs: what is stored, what is refused, and what a repeat does.

use std::collections::BTreeSet;
use std::time::Duration;

use portfire_core::{
    Call, Cause, ClientError, InvalidJob, JobFn, JobState, RetryPolicy, StateName, StorageError,
    When,
};

use crate::odd;
use crate::server::success;
use crate::stage::{Stage, json, kind, queue, secs};

/// A job function without a body: the cases store calls and run nothing.
enum Probe {}

impl JobFn for Probe {
    const KIND: &'static str = "probe";
    type Output = ();
}

fn call() -> Call<Probe> {
    Call::new(&serde_json::json!({"n": 1}))
}

/// The id that a client returns is the id under which the job is found.
pub async fn enqueue_returns_id(s: Stage) {
    let id = s.client().enqueue(call()).await.expect("enqueued");
    assert_eq!(s.record(id).await.id, id);
    let answered = s.create(vec![s.new_job()]).await;
    assert!(!answered[0].existing, "a new job was not there before");
    assert_eq!(s.state(answered[0].id).await, StateName::Enqueued);
}

/// Kind, args, queue and priority come out as they went in.
pub async fn enqueue_persists_payload(s: Stage) {
    let mut job = s.new_job_in("mail");
    job.kind = kind("EmailService.send");
    job.args = json(r#"{"to":"a@b.c","n":[1,2.50,null,true]}"#);
    job.priority = 7;
    s.create(vec![job.clone()]).await;
    let stored = s.record(job.id).await;
    assert_eq!((&stored.kind, &stored.args), (&job.kind, &job.args));
    assert_eq!((&stored.queue, stored.priority), (&job.queue, job.priority));
    let counted = (stored.revision, stored.attempt, stored.failures, stored.recoveries);
    assert_eq!(counted, (1, 0, 0, 0));
}

/// One call stores the body, the history, the place in the queue and the counters together.
pub async fn enqueue_is_atomic_row_history_queue(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    assert_eq!(s.causes(id).await, [Cause::Created]);
    let counts = s.counts().await;
    assert_eq!((counts.of(StateName::Enqueued), counts.created_total), (1, 1));
    let queue = s.queue("default").await.expect("the queue is listed");
    assert_eq!(queue.states.get(&StateName::Enqueued), Some(&1));
    assert_eq!(server.claim_one().await.claim.job, id);
}

/// A create that is repeated finds the job, changes nothing and says so.
pub async fn enqueue_same_id_twice_is_idempotent(s: Stage) {
    let job = s.new_job();
    let first = s.create(vec![job.clone()]).await;
    let before = (s.record(job.id).await, s.counts().await);
    s.advance(secs(5)).await;
    let second = s.create(vec![job.clone()]).await;
    assert_eq!((first[0].existing, second[0].existing), (false, true));
    assert_eq!((s.record(job.id).await, s.counts().await), before);
}

/// A repeat within one call counts as a repeat too.
pub async fn enqueue_same_id_twice_in_one_call(s: Stage) {
    let job = s.new_job();
    let created = s.create(vec![job.clone(), s.new_job(), job.clone()]).await;
    let existing: Vec<bool> = created.iter().map(|created| created.existing).collect();
    assert_eq!(existing, [false, false, true]);
    s.expect_count(StateName::Enqueued, 2).await;
}

/// An id that is stored with other args is refused, and the stored job is untouched.
pub async fn enqueue_same_id_other_payload_conflicts(s: Stage) {
    let mut job = s.new_job();
    s.create(vec![job.clone()]).await;
    let before = s.record(job.id).await;
    job.args = json(r#"{"n":2}"#);
    let refused = s.storage().create(vec![job.clone()]).await;
    assert!(matches!(refused, Err(StorageError::IdTaken { job: id }) if id == job.id));
    assert_eq!(s.record(job.id).await, before);
}

/// An id that is stored with another kind is refused.
pub async fn enqueue_same_id_other_kind_conflicts(s: Stage) {
    let mut job = s.new_job();
    s.create(vec![job.clone()]).await;
    job.kind = kind("other");
    let refused = s.storage().create(vec![job.clone()]).await;
    assert!(matches!(refused, Err(StorageError::IdTaken { job: id }) if id == job.id));
    assert_eq!(s.record(job.id).await.kind, kind("probe"));
}

/// Two different jobs under one id in one call are refused, and neither is stored.
pub async fn enqueue_same_id_conflict_in_one_call(s: Stage) {
    let job = s.new_job();
    let mut other = job.clone();
    other.args = json("[2]");
    let refused = s.storage().create(vec![job.clone(), other]).await;
    assert!(matches!(refused, Err(StorageError::IdTaken { .. })), "{refused:?}");
    assert_eq!(s.find(job.id).await, None);
}

/// An id that is taken fails the whole call: its other jobs are not stored either.
pub async fn enqueue_conflict_stores_nothing(s: Stage) {
    let taken = s.enqueue_one().await;
    let mut jobs = s.new_jobs(3);
    jobs[1].id = taken;
    jobs[1].args = json("[1]");
    let refused = s.storage().create(jobs.clone()).await;
    assert!(matches!(refused, Err(StorageError::IdTaken { .. })), "{refused:?}");
    assert_eq!((s.find(jobs[0].id).await, s.find(jobs[2].id).await), (None, None));
    assert_eq!(s.counts().await.created_total, 1);
}

/// A repeated create does not bring back a job that has run: it finds it where it stands.
pub async fn enqueue_repeat_after_success_changes_nothing(s: Stage) {
    let server = s.server("a").await;
    let job = s.new_job();
    s.create(vec![job.clone()]).await;
    let claimed = server.claim_one().await;
    server.end(claimed.claim, success()).await;
    let again = s.create(vec![job.clone()]).await;
    assert!(again[0].existing);
    assert_eq!(s.state(job.id).await, StateName::Succeeded);
    assert!(server.claim(1).await.is_empty());
}

/// Kind and args tell a repeat; another queue, rank or delay in it is not taken over.
pub async fn enqueue_repeat_with_other_options_changes_nothing(s: Stage) {
    let job = s.new_job();
    s.create(vec![job.clone()]).await;
    let before = s.record(job.id).await;
    let mut repeat = job.clone();
    repeat.queue = queue("other");
    repeat.priority = 9;
    repeat.when = When::In(secs(60));
    repeat.options.tags = vec!["late".into()];
    let answered = s.create(vec![repeat]).await;
    assert!(answered[0].existing);
    assert_eq!(s.record(job.id).await, before);
}

/// A call is stored whole or not at all: one job that breaks a bound fails them all.
pub async fn enqueue_many_all_or_nothing(s: Stage) {
    let mut jobs = s.new_jobs(3);
    jobs[2].options.tags = vec![String::new()];
    let refused = s.storage().create(jobs.clone()).await;
    assert!(matches!(refused, Err(StorageError::Invalid(InvalidJob::Tag { .. }))), "{refused:?}");
    for job in &jobs {
        assert_eq!(s.find(job.id).await, None);
    }
    assert_eq!(s.counts().await.created_total, 0);
    assert_eq!(s.queue("default").await, None, "a refused job makes no queue");
}

/// A thousand jobs in a call are all stored, and are claimed in the order given.
pub async fn enqueue_many_1000(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(1_000).await;
    s.expect_count(StateName::Enqueued, 1_000).await;
    let claimed: Vec<_> = server.claim(1_000).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(claimed, ids);
}

/// A call without jobs is answered and stores nothing.
pub async fn enqueue_many_empty(s: Stage) {
    assert!(s.create(Vec::new()).await.is_empty());
    assert_eq!(s.counts().await.created_total, 0);
}

/// The largest call is taken.
pub async fn enqueue_batch_max_is_taken(s: Stage) {
    let created = s.create(s.new_jobs(portfire_core::storage::BATCH_MAX)).await;
    assert_eq!(created.len(), portfire_core::storage::BATCH_MAX);
    s.expect_count(StateName::Enqueued, portfire_core::storage::BATCH_MAX as u64).await;
}

/// More jobs than the largest call are refused, and none is stored.
pub async fn enqueue_over_batch_max_rejected(s: Stage) {
    let jobs = s.new_jobs(portfire_core::storage::BATCH_MAX + 1);
    let refused = s.storage().create(jobs).await;
    assert!(matches!(refused, Err(StorageError::Invalid(_))), "{refused:?}");
    assert_eq!(s.counts().await.created_total, 0);
}

/// A queue comes to be by the first job that names it.
pub async fn enqueue_unknown_queue_created(s: Stage) {
    assert_eq!(s.queue("brand-new").await, None);
    s.enqueue_in("brand-new").await;
    let made = s.queue("brand-new").await.expect("the queue is listed");
    assert!(!made.paused);
}

/// A call with an illegal queue name is refused before anything is stored.
pub async fn enqueue_rejects_bad_queue_name(s: Stage) {
    for name in ["", "Mail", "a b", "-a", "é", "a\0b", "../etc"] {
        let refused = s.client().enqueue(call().queue(name)).await;
        let named = matches!(refused, Err(ClientError::Invalid(InvalidJob::Queue { .. })));
        assert!(named, "{name:?}: {refused:?}");
    }
    assert_eq!(s.counts().await.created_total, 0);
}

/// Text of every script comes out as it went in, for readers and for workers.
pub async fn enqueue_payload_unicode(s: Stage) {
    let server = s.server("a").await;
    for text in odd::TEXTS {
        let mut job = s.new_job();
        job.args = portfire_core::Json::encode(&serde_json::json!({"text": text})).expect("JSON");
        s.create(vec![job.clone()]).await;
        assert_eq!(s.record(job.id).await.args, job.args, "{text:?}");
        assert_eq!(server.claim_one().await.args, job.args, "{text:?}");
    }
}

/// A NUL in the args, written as JSON writes it, survives.
pub async fn enqueue_payload_nul_bytes(s: Stage) {
    let server = s.server("a").await;
    let mut job = s.new_job();
    job.args = json(r#"{"a":"x\u0000y","b\u0000":"\u0000"}"#);
    s.create(vec![job.clone()]).await;
    let claimed = server.claim_one().await;
    assert_eq!(claimed.args, job.args);
    let decoded: serde_json::Value = claimed.args.decode().expect("JSON");
    assert_eq!(decoded["a"], "x\0y");
}

/// The bytes of the args are kept, also where another spelling would mean the same.
pub async fn enqueue_payload_bytes_are_kept(s: Stage) {
    let server = s.server("a").await;
    let spellings = [
        r#"{ "b" : 1 ,"a":2,  "b":3 }"#,
        r#"{"n":1e400,"m":0.1000,"k":-0,"big":123456789012345678901234567890}"#,
        r#"{"s":"\u00e9\/\ud83d\ude00"}"#,
        "[]",
        "null",
        "\"\"",
    ];
    for text in spellings {
        let mut job = s.new_job();
        job.args = json(text);
        s.create(vec![job.clone()]).await;
        assert_eq!(s.record(job.id).await.args.as_str(), text);
        assert_eq!(server.claim_one().await.args.as_str(), text);
    }
}

/// Args of a mebibyte are taken and come out whole.
pub async fn enqueue_payload_1mib(s: Stage) {
    let server = s.server("a").await;
    let limit = s.storage().info().args_bytes_max;
    assert!(limit >= 1024 * 1024, "at least a mebibyte is taken; this storage takes {limit}");
    let mut job = s.new_job();
    job.args = json(&format!("\"{}\"", "x".repeat(1024 * 1024 - 2)));
    s.create(vec![job.clone()]).await;
    assert!(server.claim_one().await.args == job.args, "a mebibyte comes out as it went in");
}

/// Args of exactly the largest size are taken; one byte more is refused with both sizes.
pub async fn enqueue_payload_over_limit_rejected(s: Stage) {
    let limit = s.storage().info().args_bytes_max;
    let mut job = s.new_job();
    job.args = json(&format!("\"{}\"", "x".repeat(limit - 1)));
    let refused = s.storage().create(vec![s.new_job(), job.clone()]).await;
    let Err(StorageError::Invalid(InvalidJob::ArgsTooLarge { size, limit: named })) = refused
    else {
        panic!("expected a refusal that names the sizes");
    };
    assert_eq!((size, named), (limit + 1, limit));
    assert_eq!(s.counts().await.created_total, 0);
    job.args = json(&format!("\"{}\"", "x".repeat(limit - 2)));
    s.create(vec![job]).await;
}

/// Deeply nested args come out as they went in.
pub async fn enqueue_payload_deep_json(s: Stage) {
    let server = s.server("a").await;
    let mut job = s.new_job();
    job.args = json(&format!("{}{}", "[".repeat(100), "]".repeat(100)));
    s.create(vec![job.clone()]).await;
    assert_eq!(s.record(job.id).await.args, job.args);
    assert_eq!(server.claim_one().await.args, job.args);
}

/// Args with a thousand members come out as they went in.
pub async fn enqueue_many_params(s: Stage) {
    let server = s.server("a").await;
    let members: Vec<String> = (0..1_000).map(|n| format!("\"p{n}\":{n}")).collect();
    let mut job = s.new_job();
    job.args = json(&format!("{{{}}}", members.join(",")));
    s.create(vec![job.clone()]).await;
    assert_eq!(server.claim_one().await.args, job.args);
}

/// The instant of creation is the storage's, not the client's.
pub async fn enqueue_created_at_is_storage_time(s: Stage) {
    let before = s.now().await;
    s.advance(secs(3_600)).await;
    let id = s.enqueue_one().await;
    let after = s.now().await;
    let record = s.record(id).await;
    assert!(record.created_at.since(before) >= secs(3_600), "{record:?}");
    assert!(record.created_at <= after, "{record:?}");
    let JobState::Enqueued { enqueued_at } = record.state else { panic!("{record:?}") };
    assert_eq!(enqueued_at, record.created_at);
}

/// The whole range of ranks is stored.
pub async fn enqueue_priority_stored(s: Stage) {
    for priority in [i16::MIN, -1, 0, 1, i16::MAX] {
        let id = s.enqueue_ranked(priority).await;
        assert_eq!(s.record(id).await.priority, priority);
    }
}

/// The options of a call come out as they went in, for readers and for workers.
pub async fn enqueue_options_kept(s: Stage) {
    let server = s.server("a").await;
    let mut job = s.new_job();
    job.options.retry = Some(RetryPolicy::times(3));
    job.options.timeout = Some(Duration::from_millis(1_500));
    job.options.retention = Some(portfire_core::Retention {
        succeeded: None,
        failed: Some(secs(60)),
        deleted: Some(Duration::ZERO),
    });
    job.options.tags = vec!["a".into(), "é".into(), "x".repeat(64)];
    job.options.metadata.insert("trace".into(), "00-4bf9-01".into());
    job.options.metadata.insert("k".repeat(128), "v".repeat(64 * 1024));
    s.create(vec![job.clone()]).await;
    assert_eq!(s.record(job.id).await.options, job.options);
    assert_eq!(server.claim_one().await.options, job.options);
}

/// Every bound of a job's options is checked by the storage itself, whoever calls it.
pub async fn enqueue_options_over_bounds_rejected(s: Stage) {
    let mut broken = s.new_jobs(4);
    broken[0].options.tags = (0..17).map(|n| format!("t{n}")).collect();
    broken[1].options.tags = vec!["x".repeat(65)];
    broken[2].options.metadata = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
    broken[3].options.metadata.insert("k".into(), "v".repeat(64 * 1024 + 1));
    for job in broken {
        let refused = s.storage().create(vec![job]).await;
        assert!(matches!(refused, Err(StorageError::Invalid(_))), "{refused:?}");
    }
    assert_eq!(s.counts().await.created_total, 0);
}

/// A listener that idles hears of a new job.
pub async fn enqueue_wakes_idle_worker(s: Stage) {
    let mut wakeups = s.storage().wakeups();
    let idle = s.clone();
    let listener = tokio::spawn(async move { idle.heard(wakeups.work(), "a new job").await });
    s.enqueue_one().await;
    listener.await.expect("the new job was heard of");
}

/// A hundred callers with a hundred jobs each lose none.
pub async fn enqueue_concurrent_100x100_no_loss(s: Stage) {
    let mut callers = Vec::new();
    for _ in 0..100 {
        let s = s.clone();
        callers.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..100 {
                ids.push(s.enqueue_one().await);
            }
            ids
        }));
    }
    let mut ids = BTreeSet::new();
    for caller in callers {
        ids.extend(caller.await.expect("the caller ends"));
    }
    let stored: BTreeSet<_> = s.everything().await.into_iter().map(|job| job.id).collect();
    assert_eq!(ids.len(), 10_000);
    assert_eq!(stored, ids);
    s.expect_count(StateName::Enqueued, 10_000).await;
}

/// Of many callers that store the same id at once exactly one is first.
pub async fn enqueue_same_id_concurrent_one(s: Stage) {
    let job = s.new_job();
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (s, job) = (s.clone(), job.clone());
            tokio::spawn(async move { s.create(vec![job]).await[0].existing })
        })
        .collect();
    let mut first = 0;
    for caller in callers {
        first += u32::from(!caller.await.expect("the caller ends"));
    }
    assert_eq!(first, 1);
    s.expect_count(StateName::Enqueued, 1).await;
}
