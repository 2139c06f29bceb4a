//! Why a job is not running, and who could run it: what holds it back, the kinds, members of a batch.

use portfire_core::{
    ClaimRequest, CycleRequest, Dependency, JobFilter, KindRecord, LimitRule, StateName,
    WaitingRecord,
};

use crate::server::{Server, success};
use crate::stage::{DAY, Stage, ids, kind, secs, under};

use StateName::{Enqueued, Succeeded};

/// A job that is not enqueued waits for nothing that one could tell.
pub async fn waiting_only_of_enqueued_jobs(s: Stage) {
    for state in StateName::ALL.into_iter().filter(|state| *state != Enqueued) {
        let job = s.job_in(state).await.expect("a way leads there");
        assert_eq!(s.waiting(job).await, None, "{state}");
    }
    assert_eq!(s.waiting(s.id()).await, None);
}

/// Ahead of a job are those of its queue that are claimed before it, by priority and place.
pub async fn waiting_ahead_in_the_queue(s: Stage) {
    let jobs = s.enqueue(4).await;
    let (high, low) = (s.enqueue_ranked(5).await, s.enqueue_ranked(-5).await);
    s.enqueue_in("mail").await;
    for (job, expected) in [(high, 0), (jobs[0], 1), (jobs[3], 4), (low, 5)] {
        assert_eq!(s.waiting(job).await, Some(WaitingRecord::behind(expected)));
    }
    let server = s.server("a").await;
    server.claim(2).await;
    assert_eq!(s.waiting(jobs[3]).await.expect("enqueued").ahead, 2);
}

/// What is ahead is counted up to 10,000: the answer costs no more the longer the queue.
pub async fn waiting_counts_up_to_10_000(s: Stage) {
    let jobs = s.enqueue(10_000).await;
    let behind = s.enqueue(50).await;
    assert_eq!(s.waiting(jobs[9_999]).await.expect("enqueued").ahead, 9_999);
    assert_eq!(s.waiting(behind[0]).await.expect("enqueued").ahead, 10_000);
    assert_eq!(s.waiting(behind[49]).await.expect("enqueued").ahead, 10_000);
}

/// A job in the line of a limit tells the key, how many are before it in the line, and who holds it up.
pub async fn waiting_for_a_limit(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", Some(LimitRule::concurrency(2))).await;
    let jobs = s.enqueue_under("l", 5).await;
    assert_eq!(server.claim(10).await.len(), 2);
    let waiting = s.waiting(jobs[4]).await.expect("it waits");
    assert_eq!(waiting.ahead, 2);
    let key = waiting.limit.expect("for a limit");
    assert_eq!((key.key.as_str(), key.running, key.waiting, key.next_at), ("l", 2, 3, None));
    assert_eq!(waiting.holders, jobs[..2]);
    assert_eq!(s.waiting(jobs[2]).await.expect("it waits").ahead, 0);
    let _ = s.delete(jobs[0]).await;
    let next = s.waiting(jobs[2]).await.expect("enqueued");
    assert_eq!((next.limit, next.holders), (None, vec![]), "it has left the line");
}

/// Of those who hold a limit the oldest ten are told.
pub async fn waiting_tells_ten_holders(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", Some(LimitRule::concurrency(15))).await;
    let jobs = s.enqueue_under("l", 16).await;
    for _ in 0..15 {
        assert_eq!(server.claim(1).await.len(), 1);
        s.advance(std::time::Duration::from_millis(1)).await;
    }
    assert!(server.claim(1).await.is_empty());
    assert_eq!(s.waiting(jobs[15]).await.expect("it waits").holders, jobs[..10]);
}

/// Jobs that wait for a limit are listed after those that can be claimed, in the order of their creation.
pub async fn waiting_is_listed_behind(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", Some(LimitRule::concurrency(1))).await;
    let mut jobs: Vec<_> = (0..4).map(|_| s.new_limited([under("l")])).collect();
    jobs[3].priority = 7;
    jobs[1].queue = crate::stage::queue("aaa");
    let limited = ids(&s.create(jobs).await);
    assert_eq!(server.claim_from(&["default", "aaa"], 10).await.len(), 1);
    let plain = s.enqueue(2).await;
    let expected = [limited[1], plain[0], plain[1], limited[0], limited[2]];
    for max in [1, 2, 500] {
        let filter = JobFilter { max, ..JobFilter::state(Enqueued) };
        assert_eq!(s.list_ids(filter).await, expected);
    }
    let default = Some(crate::stage::queue("default"));
    let filter = JobFilter { queue: default, max: 3, ..JobFilter::state(Enqueued) };
    assert_eq!(s.list_ids(filter).await, expected[1..]);
}

/// Every kind of which a job was ever stored is listed, by name, with its jobs counted by state.
pub async fn kinds_are_listed(s: Stage) {
    assert_eq!(s.storage().kinds().await.expect("read"), []);
    let server = s.server_with_lease("a", 9 * DAY).await;
    for name in ["b", "a", "a", "c"] {
        let mut job = s.new_job();
        job.kind = kind(name);
        s.create_one(job).await;
    }
    let held = server.claim(2).await;
    server.end(held[0].claim, success()).await;
    let told = async || {
        let kinds: Vec<KindRecord> = s.storage().kinds().await.expect("read");
        let told = kinds.into_iter().map(|kind| {
            let states = kind.states.into_iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>();
            (kind.name.to_string(), states)
        });
        told.collect::<Vec<_>>()
    };
    let expected = vec![
        ("a".to_owned(), vec![(Enqueued, 1), (StateName::Processing, 1)]),
        ("b".to_owned(), vec![(Succeeded, 1)]),
        ("c".to_owned(), vec![(Enqueued, 1)]),
    ];
    assert_eq!(told().await, expected);
    s.advance(DAY).await;
    s.clean(10).await;
    assert_eq!(told().await[1], ("b".to_owned(), vec![]), "a kind is known for ever");
}

/// Counters of kinds follow every way of a job, also those that the storage takes by itself.
pub async fn kinds_follow_continuations_and_batches(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let mut child = s.new_after([Dependency::on(parent)]);
    child.kind = kind("child");
    s.create_one(child).await;
    let batch = s.new_open_batch();
    let mut member = s.new_member(batch.id);
    member.kind = kind("member");
    s.store(vec![batch.clone()], vec![member]).await;
    server.run(parent, crate::server::discard()).await;
    let _ = s.cancel(batch.id).await;
    s.promote_all().await;
    for record in s.storage().kinds().await.expect("read") {
        assert_eq!(record.states.get(&StateName::Deleted), Some(&1), "{record:?}");
    }
}

/// A server tells the kinds that it has handlers of.
pub async fn server_tells_its_kinds(s: Stage) {
    let mut server = Server::new(s.clone(), "a", DAY);
    server.new.kinds = vec![kind("send"), kind("EmailService.send"), kind("old")];
    server.announce().await.expect("taken");
    let silent = s.server("b").await;
    let told = s.server_record(&server.id()).await.expect("listed").kinds;
    assert_eq!(told, server.new.kinds);
    assert_eq!(s.server_record(&silent.id()).await.expect("listed").kinds, []);
}

/// The members of a batch are found as other jobs are: by state, in pages, in the order of the list.
pub async fn list_by_batch(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(7).await;
    s.batch(3).await;
    s.enqueue(3).await;
    server.run(members[0], success()).await;
    let of = |state, max| JobFilter { batch: Some(batch), state, max, ..JobFilter::default() };
    for max in [1, 3, 500] {
        let mut newest_first = members.clone();
        newest_first.reverse();
        assert_eq!(s.list_ids(of(None, max)).await, newest_first);
        assert_eq!(s.list_ids(of(Some(Enqueued), max)).await, members[1..]);
        assert_eq!(s.list_ids(of(Some(Succeeded), max)).await, members[..1]);
    }
    let nobody = JobFilter { batch: Some(s.new_batch().id), ..JobFilter::default() };
    assert!(s.list_ids(nobody).await.is_empty());
}

/// Jobs that have waited for a while come before the others of their queue, the earliest place first, whatever
/// their priority; without that wish priorities are strict.
pub async fn claim_aging_before_priority(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let cases: [(Option<u64>, u32, &[usize]); 5] = [
        (None, 4, &[2, 3, 0, 1]),
        (Some(11), 4, &[2, 3, 0, 1]),
        (Some(10), 3, &[0, 1, 2]),
        (Some(10), 1, &[0]),
        (Some(0), 4, &[0, 1, 2, 3]),
    ];
    for (aging, max, expected) in cases {
        let mut jobs = vec![s.enqueue_ranked(0).await, s.enqueue_ranked(-5).await];
        s.advance(secs(10)).await;
        jobs.extend([s.enqueue_ranked(8).await, s.enqueue_ranked(8).await]);
        let queues = vec![crate::stage::queue("default")];
        let claim = Some(ClaimRequest { queues, max, aging: aging.map(secs) });
        let claimed = server.cycle(CycleRequest { claim, ..server.request() }).await.claimed;
        let claimed: Vec<_> = claimed.iter().map(|job| job.claim.job).collect();
        assert_eq!(claimed, expected.iter().map(|&n| jobs[n]).collect::<Vec<_>>(), "{aging:?}");
        server.claim(10).await;
    }
}
