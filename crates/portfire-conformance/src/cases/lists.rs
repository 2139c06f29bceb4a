//! What people read: job details, pages and their order, filters and search.

use std::collections::BTreeSet;

use portfire_core::{
    Cursor, JobFilter, JobId, JobState, Json, NewJob, Outcome, QueueName, StateName, When,
};

use crate::odd;
use crate::server::{failure, success};
use crate::stage::{DAY, Stage, json, kind, queue, secs};
use crate::wait::poll_once;

fn by_three(state: Option<StateName>) -> JobFilter {
    JobFilter { state, max: 3, ..JobFilter::default() }
}

/// The details of a job are everything that is known of it.
pub async fn job_details_full(s: Stage) {
    let server = s.server("a").await;
    let mut job = s.new_job_in("mail");
    job.kind = kind("send");
    job.args = json("{\"to\": \"é\"}");
    job.priority = 4;
    job.options.tags = vec!["vip".into()];
    job.options.metadata.insert("trace".into(), "1".into());
    s.create(vec![job.clone()]).await;
    let created_at = s.now().await;
    let held = server.claim_from(&["mail"], 1).await;
    let result = Some(json("{\"sent\":true}"));
    server.end(held[0].claim, Outcome::Succeeded { result: result.clone() }).await;
    let record = s.record(job.id).await;
    assert_eq!((record.id, &record.kind, &record.args), (job.id, &job.kind, &job.args));
    assert_eq!((&record.queue, record.priority), (&job.queue, 4));
    assert_eq!((&record.options, record.created_at), (&job.options, created_at));
    assert_eq!((record.revision, record.attempt), (3, 1));
    assert_eq!((record.failures, record.recoveries), (0, 0));
    assert!(matches!(record.state, JobState::Succeeded { result: kept, .. } if kept == result));
}

/// A job that is not stored is not there.
pub async fn job_missing_is_none(s: Stage) {
    assert_eq!(s.find(s.id()).await, None);
    assert_eq!(s.find(JobId::from_bytes([0; 16])).await, None);
    assert_eq!(s.find(JobId::from_bytes([255; 16])).await, None);
}

/// The lines of a list are the same records as the details.
pub async fn list_lines_equal_details(s: Stage) {
    for state in StateName::ALL {
        s.job_in(state).await;
    }
    let listed = s.list(JobFilter::default()).await;
    assert_eq!(listed.len(), 7);
    for job in listed {
        assert_eq!(Some(job.clone()), s.find(job.id).await);
    }
}

/// A list without a state has every job once, the newest first.
pub async fn list_everything_newest_first(s: Stage) {
    let mut ids = Vec::new();
    for state in StateName::ALL {
        ids.extend(s.job_in(state).await);
        s.advance(secs(1)).await;
    }
    ids.reverse();
    assert_eq!(s.list_ids(JobFilter::default()).await, ids);
    assert_eq!(s.list_ids(by_three(None)).await, ids);
}

/// Scheduled jobs come soonest first.
pub async fn list_scheduled_soonest_first(s: Stage) {
    let mut expected = Vec::new();
    for seconds in [50, 10, 40, 20, 30, 60, 5] {
        expected.push((seconds, s.schedule(secs(seconds)).await));
    }
    expected.sort();
    let expected: Vec<_> = expected.into_iter().map(|(_, id)| id).collect();
    assert_eq!(s.list_ids(by_three(Some(StateName::Scheduled))).await, expected);
}

/// Enqueued jobs come by queue, and in a queue as they would be claimed.
pub async fn list_enqueued_in_order_of_claims(s: Stage) {
    let server = s.server("a").await;
    let mut expected = Vec::new();
    for (name, priority) in [("b", 0), ("a", 0), ("b", 5), ("a", -1), ("a", 0), ("a", 9), ("c", 0)]
    {
        let mut job = s.new_job_in(name);
        job.priority = priority;
        expected.push((name, std::cmp::Reverse(priority), s.create_one(job).await));
    }
    expected.sort();
    let expected: Vec<_> = expected.into_iter().map(|(_, _, id)| id).collect();
    assert_eq!(s.list_ids(by_three(Some(StateName::Enqueued))).await, expected);
    let claimed = server.claim_from(&["a", "b", "c"], 10).await;
    let claimed: Vec<_> = claimed.iter().map(|job| job.claim.job).collect();
    assert_eq!(claimed, expected);
}

/// Jobs in the other states come the newest created first, whenever they got there.
pub async fn list_final_newest_created_first(s: Stage) {
    let server = s.server("a").await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(s.enqueue_one().await);
        s.advance(secs(1)).await;
    }
    let held = server.claim(7).await;
    for nth in [3, 0, 6, 1, 5, 2, 4] {
        server.end(held[nth].claim, success()).await;
        s.advance(secs(1)).await;
    }
    ids.reverse();
    assert_eq!(s.list_ids(by_three(Some(StateName::Succeeded))).await, ids);
}

/// A page has at most as many jobs as asked, and at most the largest number.
pub async fn list_page_size(s: Stage) {
    s.enqueue(600).await;
    for (max, expected) in [(1, 1), (7, 7), (0, 50), (500, 500), (10_000, 500)] {
        let filter = JobFilter { max, ..JobFilter::state(StateName::Enqueued) };
        let page = s.storage().jobs(filter).await.expect("read");
        assert_eq!(page.jobs.len(), expected, "of {max}");
        assert!(page.next.is_some());
    }
}

/// A list ends: its last page has no next one, also when it is full to the last line.
pub async fn list_ends(s: Stage) {
    assert_eq!(s.list(JobFilter::default()).await.len(), 0);
    s.enqueue(6).await;
    for state in [None, Some(StateName::Enqueued)] {
        assert_eq!(s.list(by_three(state)).await.len(), 6);
    }
    let whole = s.storage().jobs(JobFilter { max: 100, ..JobFilter::default() }).await;
    assert_eq!(whole.expect("read").next, None);
}

/// Pages of one and pages of all show the same jobs in the same order.
pub async fn list_pages_of_any_size_agree(s: Stage) {
    for state in StateName::ALL {
        for _ in 0..4 {
            s.job_in(state).await;
        }
    }
    let states = StateName::ALL.into_iter().map(Some).chain([None]);
    for state in states {
        let of = |max| JobFilter { state, max, ..JobFilter::default() };
        let whole = s.list_ids(of(500)).await;
        for max in [1, 2, 3, 7] {
            assert_eq!(s.list_ids(of(max)).await, whole, "{state:?} by {max}");
        }
    }
}

/// Reads pages of three while `disturb` is called between them; answers every id in order.
async fn page_through<F>(s: &Stage, filter: JobFilter, mut disturb: F) -> Vec<JobId>
where
    F: AsyncFnMut(&[JobId]),
{
    let mut filter = filter;
    let mut seen = Vec::new();
    // More pages than any list here has, whatever is added: pages that do not go on are a fault.
    for _ in 0..200 {
        let page = s.storage().jobs(filter.clone()).await.expect("read");
        let ids: Vec<_> = page.jobs.iter().map(|job| job.id).collect();
        seen.extend(ids.iter().copied());
        let Some(next) = page.next else { return seen };
        disturb(&ids).await;
        filter.after = Some(next);
    }
    panic!("the pages have no end");
}

/// Asserts that each of `stayed` was seen exactly once.
fn expect_each_once(seen: &[JobId], stayed: &[JobId]) {
    for id in stayed {
        let times = seen.iter().filter(|other| *other == id).count();
        assert_eq!(times, 1, "{id} in {seen:?}");
    }
}

/// New jobs make no other job of the enqueued appear twice or be passed over.
pub async fn list_paging_stable_under_insert(s: Stage) {
    for state in [None, Some(StateName::Enqueued), Some(StateName::Scheduled)] {
        let mut old = Vec::new();
        for n in 0..10 {
            let when = if state == Some(StateName::Scheduled) { secs(100 + n) } else { secs(0) };
            old.push(s.schedule(when).await);
        }
        let seen = page_through(&s, by_three(state), async |_| {
            s.enqueue_ranked(5).await;
            s.enqueue_ranked(-5).await;
            s.schedule(secs(1)).await;
            s.schedule(secs(1_000)).await;
        })
        .await;
        expect_each_once(&seen, &old);
    }
}

/// Jobs that leave a list, the last of a page among them, disturb no other in it.
pub async fn list_paging_stable_under_moves(s: Stage) {
    for state in [StateName::Enqueued, StateName::Scheduled, StateName::Failed] {
        let mut old = Vec::new();
        for _ in 0..9 {
            old.push(s.job_in(state).await.expect("a way leads there"));
        }
        let mut gone = BTreeSet::new();
        let seen = page_through(&s, by_three(Some(state)), async |page| {
            // The last of the page is the cursor's own job.
            for id in [page[0], page[page.len() - 1]] {
                let _ = s.delete(id).await;
                gone.insert(id);
            }
        })
        .await;
        assert_eq!(seen.len(), 9, "{state}");
        expect_each_once(&seen, &old);
        assert!(gone.len() >= 4, "at least two pages were disturbed");
    }
}

/// Jobs that are claimed while their queue is read disturb no other.
pub async fn list_paging_stable_under_claims(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(12).await;
    let mut claimed = BTreeSet::new();
    let seen = page_through(&s, by_three(Some(StateName::Enqueued)), async |_| {
        claimed.extend(server.claim(2).await.iter().map(|job| job.claim.job));
    })
    .await;
    let stayed: Vec<_> = ids.into_iter().filter(|id| !claimed.contains(id)).collect();
    expect_each_once(&seen, &stayed);
    let once: BTreeSet<_> = seen.iter().collect();
    assert_eq!(once.len(), seen.len());
}

/// Cleaned jobs make no other be passed over.
pub async fn list_paging_stable_under_cleaning(s: Stage) {
    let ids = s.enqueue(12).await;
    for id in &ids[..6] {
        let _ = s.delete(*id).await;
    }
    s.advance(DAY + secs(1)).await;
    for id in &ids[6..] {
        let _ = s.delete(*id).await;
    }
    let seen = page_through(&s, by_three(Some(StateName::Deleted)), async |_| {
        s.clean(2).await;
    })
    .await;
    expect_each_once(&seen, &ids[6..]);
}

/// A list of one queue has its jobs and no others, in any state.
pub async fn list_by_queue(s: Stage) {
    let server = s.server("a").await;
    let mail = [s.enqueue_in("mail").await, s.enqueue_in("mail").await];
    s.enqueue_in("mail-2").await;
    s.enqueue_in("mai").await;
    let of = |state| JobFilter { state, queue: Some(queue("mail")), ..JobFilter::default() };
    assert_eq!(s.list_ids(of(Some(StateName::Enqueued))).await, mail);
    server.end(server.claim_from(&["mail"], 1).await[0].claim, failure()).await;
    assert_eq!(s.list_ids(of(Some(StateName::Failed))).await, [mail[0]]);
    assert_eq!(s.list_ids(of(Some(StateName::Enqueued))).await, [mail[1]]);
    assert_eq!(s.list_ids(of(None)).await, [mail[1], mail[0]]);
    let unknown = JobFilter { queue: Some(queue("none")), ..JobFilter::default() };
    assert_eq!(s.list_ids(unknown).await, []);
}

/// A list of one kind has its jobs and no others, in any state.
pub async fn list_by_kind(s: Stage) {
    let mut of_kind = Vec::new();
    for n in 0..12 {
        let mut job = s.new_job();
        job.kind = kind(if n % 3 == 0 { "send" } else { "Send" });
        let send = n % 3 == 0;
        let id = s.create_one(job).await;
        of_kind.extend(send.then_some(id));
    }
    let of = |state| JobFilter { state, kind: Some(kind("send")), max: 2, ..JobFilter::default() };
    assert_eq!(s.list_ids(of(Some(StateName::Enqueued))).await, of_kind);
    let _ = s.delete(of_kind[1]).await;
    assert_eq!(s.list_ids(of(Some(StateName::Deleted))).await, [of_kind[1]]);
    of_kind.reverse();
    assert_eq!(s.list_ids(of(None)).await, of_kind);
}

/// Filters narrow each other.
pub async fn list_filters_combine(s: Stage) {
    let mut wanted = Vec::new();
    for (name, kind_name) in [("a", "x"), ("a", "y"), ("b", "x"), ("a", "x")] {
        let mut job = s.new_job_in(name);
        job.kind = kind(kind_name);
        let id = s.create_one(job).await;
        wanted.extend((name == "a" && kind_name == "x").then_some(id));
    }
    let _ = s.delete(wanted[0]).await;
    let filter = |state| JobFilter {
        state: Some(state),
        queue: Some(queue("a")),
        kind: Some(kind("x")),
        max: 1,
        ..JobFilter::default()
    };
    assert_eq!(s.list_ids(filter(StateName::Enqueued)).await, [wanted[1]]);
    assert_eq!(s.list_ids(filter(StateName::Deleted)).await, [wanted[0]]);
    assert_eq!(s.list_ids(filter(StateName::Failed)).await, []);
}

fn with_id(bytes: [u8; 16]) -> NewJob {
    NewJob::new(JobId::from_bytes(bytes), kind("probe"), Json::empty())
}

/// Jobs are found by the beginning of their id, of any length.
pub async fn search_by_id_prefix(s: Stage) {
    let mut bytes = *s.id().as_bytes();
    let mut near = Vec::new();
    for last in [0x00, 0x0f, 0x10, 0xff] {
        bytes[15] = last;
        near.push(s.create_one(with_id(bytes)).await);
    }
    bytes[0] ^= 0x80;
    let far = s.create_one(with_id(bytes)).await;
    let text = near[0].to_string();
    let of = |prefix: &str| JobFilter { id_prefix: Some(prefix.into()), ..JobFilter::default() };
    for end in [1, 8, 9, 13, 18, 33, 34] {
        let found: BTreeSet<_> = s.list_ids(of(&text[..end])).await.into_iter().collect();
        assert_eq!(found, near.iter().copied().collect(), "{:?}", &text[..end]);
    }
    assert_eq!(s.list_ids(of(&text[..35])).await.len(), 2, "all but the last digit");
    assert_eq!(s.list_ids(of(&text)).await, [near[0]]);
    assert_eq!(s.list_ids(of(&far.to_string()[..2])).await, [far]);
    assert_eq!(s.list_ids(of("")).await.len(), 5, "everything begins with nothing");
}

/// A search narrows the list of a state too, on pages of any size.
pub async fn search_by_id_prefix_in_a_state(s: Stage) {
    let ids = s.enqueue(5).await;
    let _ = s.delete(ids[0]).await;
    let text = ids[0].to_string();
    let of = |state, end: usize| JobFilter {
        state: Some(state),
        id_prefix: Some(text[..end].into()),
        max: 1,
        ..JobFilter::default()
    };
    assert_eq!(s.list_ids(of(StateName::Enqueued, 2)).await, ids[1..]);
    assert_eq!(s.list_ids(of(StateName::Deleted, 36)).await, [ids[0]]);
    assert_eq!(s.list_ids(of(StateName::Enqueued, 36)).await, []);
}

/// A search for what no id begins with finds nothing, whatever it says.
pub async fn search_by_odd_text_finds_nothing(s: Stage) {
    s.enqueue(3).await;
    let long = "0".repeat(10_000);
    let odd = odd::TEXTS.iter().copied().filter(|text| !text.is_empty());
    for text in odd.chain(["%", "_", "*", "?", "0_", "%%", "zz", long.as_str()]) {
        let filter = JobFilter { id_prefix: Some(text.into()), ..JobFilter::default() };
        assert_eq!(s.list_ids(filter).await, [], "{text:?}");
    }
}

/// A cursor that the storage did not make breaks nothing.
pub async fn list_foreign_cursor_breaks_nothing(s: Stage) {
    let ids = s.enqueue(3).await;
    for text in odd::TEXTS.iter().chain(&["0", "a,b,c", "99999999999999999999", "1:2:3"]) {
        for state in [None, Some(StateName::Enqueued), Some(StateName::Scheduled)] {
            let after = Some(Cursor((*text).to_owned()));
            let filter = JobFilter { after, ..by_three(state) };
            // A refusal or some page: which of them is the storage's choice.
            if let Ok(page) = s.storage().jobs(filter).await {
                assert!(page.jobs.len() <= 3);
            }
        }
    }
    assert_eq!(s.list_ids(JobFilter::state(StateName::Enqueued)).await, ids);
}

/// Queues are listed by name, each once, also those whose jobs are all gone.
pub async fn queues_are_listed_by_name(s: Stage) {
    for name in ["zeta", "alpha", "m-1", "m_1", "0"] {
        let id = s.enqueue_in(name).await;
        s.enqueue_in(name).await;
        let _ = s.delete(id).await;
    }
    s.pause("paused-only", true).await;
    let listed = s.storage().queues().await.expect("read");
    let names: Vec<QueueName> = listed.into_iter().map(|queue| queue.name).collect();
    let expected = ["0", "alpha", "m-1", "m_1", "paused-only", "zeta"];
    assert_eq!(names, expected.map(queue));
    s.pause("paused-only", false).await;
    assert!(s.queue("paused-only").await.is_some(), "it was paused once");
}

/// A queue is listed when all its jobs have been cleaned away.
pub async fn queues_are_listed_when_empty(s: Stage) {
    let id = s.enqueue_in("once").await;
    let _ = s.delete(id).await;
    s.advance(DAY + secs(1)).await;
    assert_eq!(s.clean(10).await.jobs, 1);
    let left: u64 = s.queue("once").await.expect("listed").states.values().sum();
    assert_eq!(left, 0);
}

/// Reads that stand half-way keep no one from creating, claiming and finishing.
pub async fn dashboard_reads_do_not_block_claims(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(100).await;
    let storage = s.storage();
    let mut reads: Vec<_> = (0..20).map(|_| storage.jobs(JobFilter::default())).collect();
    let mut details: Vec<_> = (0..20).map(|_| storage.job(ids[0])).collect();
    for read in &mut reads {
        poll_once(read).await;
    }
    for read in &mut details {
        poll_once(read).await;
    }
    let held = server.claim_one().await;
    server.end(held.claim, success()).await;
    s.enqueue_one().await;
    assert_eq!(s.state(ids[0]).await, StateName::Succeeded);
}

/// Many readers beside many writers each see one consistent moment.
pub async fn reads_see_one_moment(s: Stage) {
    let writer = {
        let s = s.clone();
        tokio::spawn(async move {
            for _ in 0..40 {
                for id in s.enqueue(5).await {
                    let _ = s.reschedule(id, secs(60)).await;
                }
            }
        })
    };
    while !writer.is_finished() {
        let counts = s.counts().await;
        let stored: u64 = counts.states.values().sum();
        assert_eq!(stored, counts.created_total, "{counts:?}");
        if let Some(queue) = s.queue("default").await {
            let of_queue: u64 = queue.states.values().sum();
            assert_eq!(of_queue % 5, 0, "each call stores five");
        }
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer ends");
}

/// A job that waits for ages is found as quickly as any: no list needs its neighbours.
pub async fn list_one_of_many(s: Stage) {
    s.enqueue(2_000).await;
    let mut job = s.new_job();
    job.when = When::In(100 * DAY);
    let id = s.create_one(job).await;
    assert_eq!(s.list_ids(JobFilter::state(StateName::Scheduled)).await, [id]);
    let filter = JobFilter { id_prefix: Some(id.to_string()), ..JobFilter::default() };
    assert_eq!(s.list_ids(filter).await, [id]);
}
