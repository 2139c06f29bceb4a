//! Limits of a rate: how many jobs of a key start in a window of time.

use std::time::Duration;

use portfire_core::{
    JobId, LimitRule, LimitTarget, Outcome, RescueRequest, StateName, Timestamp, Window,
};

use crate::server::{Server, success};
use crate::stage::{DAY, Stage, kind, queue, secs};

async fn claimed(server: &Server, max: u32) -> Vec<JobId> {
    server.claim(max).await.iter().map(|job| job.claim.job).collect()
}

fn sliding(count: u32, per: Duration) -> Option<LimitRule> {
    Some(LimitRule::rate(count, per, Window::Sliding))
}

fn fixed(count: u32, per: Duration) -> Option<LimitRule> {
    Some(LimitRule::rate(count, per, Window::Fixed))
}

/// Moves storage time to the next border of a fixed window.
async fn to_border(s: &Stage, per: Duration) {
    let per = per.as_micros() as i64;
    let now = s.now().await.as_micros();
    s.advance_to(Timestamp::from_micros(now - now % per + per)).await;
}

/// Of a sliding rate no window of its length has more starts than its count, and those who wait come up
/// in time, in their order.
pub async fn rate_limit_window(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    s.set_limit("l", sliding(4, secs(16))).await;
    let jobs = s.enqueue_under("l", 30).await;
    let mut starts: Vec<(JobId, Timestamp)> = Vec::new();
    for _ in 0..300 {
        s.promote().await;
        for job in server.claim(10).await {
            starts.push((job.claim.job, job.claimed_at));
            server.end(job.claim, success()).await;
        }
        s.advance(Duration::from_millis(500)).await;
    }
    let order: Vec<_> = starts.iter().map(|(job, _)| *job).collect();
    assert_eq!(order, jobs, "150 s are enough for 30 jobs at 4 in 16 s, less a sixteenth");
    for (n, (_, start)) in starts.iter().enumerate() {
        let before = starts[..n].iter().filter(|(_, at)| start.since(*at) < secs(16)).count();
        assert!(before < 4, "{before} starts in the 16 s before {start}");
    }
}

/// A fixed rate takes its count in each window, aligned to the clock.
pub async fn rate_fixed_window(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    s.set_limit("l", fixed(2, secs(60))).await;
    to_border(&s, secs(60)).await;
    s.advance(secs(50)).await;
    let jobs = s.enqueue_under("l", 5).await;
    assert_eq!(claimed(&server, 10).await, jobs[..2]);
    s.advance(secs(9)).await;
    s.promote().await;
    assert!(server.claim(10).await.is_empty());
    s.advance(secs(1)).await;
    assert_eq!(s.promote().await.released, 2);
    assert_eq!(claimed(&server, 10).await, jobs[2..4]);
    assert_eq!(s.line("l").await, (4, 1));
}

/// Whoever promotes is told when the rate allows the next start.
pub async fn rate_tells_when_the_next_may_start(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    s.set_limit("l", fixed(1, secs(60))).await;
    to_border(&s, secs(60)).await;
    let jobs = s.enqueue_under("l", 2).await;
    let border = s.now().await.saturating_add(secs(60));
    assert_eq!(s.promote().await.next_in, None, "nobody waits yet");
    server.claim_job(jobs[0]).await;
    assert!(server.claim(10).await.is_empty());
    s.advance(secs(20)).await;
    let promoted = s.promote().await;
    assert_eq!((promoted.released, promoted.next_in), (0, Some(secs(40))));
    assert_eq!(s.limit_keys("l").await[0].next_at, Some(border));
    s.advance(secs(40)).await;
    let promoted = s.promote().await;
    assert_eq!((promoted.released, promoted.next_in), (1, None));
    server.claim_job(jobs[1]).await;
}

/// A start that is given back counts, and so does each start of one job.
pub async fn rate_counts_starts_not_jobs(s: Stage) {
    s.set_limit("l", fixed(3, secs(3_600))).await;
    to_border(&s, secs(3_600)).await;
    let server = s.server("a").await;
    let jobs = s.enqueue_under("l", 2).await;
    for _ in 0..2 {
        server.run(jobs[0], Outcome::Released).await;
    }
    server.run(jobs[0], success()).await;
    assert!(server.claim(10).await.is_empty());
    assert_eq!(s.line("l").await, (0, 1));
}

/// The end of a job frees no start.
pub async fn rate_is_not_freed_by_an_end(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", sliding(1, secs(20))).await;
    let jobs = s.enqueue_under("l", 2).await;
    server.run(jobs[0], success()).await;
    assert!(server.claim(10).await.is_empty());
    s.promote().await;
    assert!(server.claim(10).await.is_empty());
    // A sliding window keeps a start for a sixteenth longer at most.
    s.advance(secs(20) + Duration::from_millis(1_250)).await;
    s.promote().await;
    server.claim_job(jobs[1]).await;
}

/// A limit of both sorts needs a slot and a start.
pub async fn rate_with_concurrency(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let rule = LimitRule { concurrency: Some(2), ..fixed(3, secs(60)).expect("a rule") };
    s.set_limit("l", Some(rule)).await;
    to_border(&s, secs(60)).await;
    let jobs = s.enqueue_under("l", 6).await;
    let held = server.claim(10).await;
    assert_eq!(held.len(), 2, "two slots");
    server.end(held[0].claim, success()).await;
    server.end(held[1].claim, success()).await;
    assert_eq!(claimed(&server, 10).await, [jobs[2]], "the third start");
    s.advance(secs(60)).await;
    assert_eq!(s.promote().await.released, 1, "one slot is taken still");
    assert_eq!(claimed(&server, 10).await, [jobs[3]]);
}

/// A crash gives back no start, and takes none.
pub async fn rate_through_a_rescue(s: Stage) {
    s.set_limit("l", fixed(2, DAY)).await;
    to_border(&s, DAY).await;
    let server = s.server("a").await;
    let jobs = s.enqueue_under("l", 3).await;
    server.claim_job(jobs[0]).await;
    s.lapse().await;
    assert_eq!(s.rescue_with(RescueRequest::default()).await.returned, 1);
    let next = s.server("c").await;
    assert_eq!(claimed(&next, 10).await, [jobs[0]]);
    assert_eq!(s.line("l").await, (1, 2));
}

/// Each partition has its own window.
pub async fn rate_of_partitions(s: Stage) {
    let server = s.server("a").await;
    s.set_limit("l", sliding(1, secs(60))).await;
    let a = s.enqueue_for("l", "a", 2).await;
    let b = s.enqueue_for("l", "b", 2).await;
    assert_eq!(claimed(&server, 10).await, [a[0], b[0]]);
}

/// A rate may be set for a queue and for a kind.
pub async fn rate_of_a_queue_and_of_a_kind(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    s.set_limit_of(LimitTarget::Queue(queue("mail")), fixed(2, secs(60))).await;
    s.set_limit_of(LimitTarget::Kind(kind("probe")), fixed(3, secs(60))).await;
    to_border(&s, secs(60)).await;
    for _ in 0..3 {
        s.enqueue_in("mail").await;
    }
    s.enqueue(3).await;
    assert_eq!(server.claim_from(&["mail"], 10).await.len(), 2);
    assert!(server.claim_from(&["mail"], 10).await.is_empty());
    assert_eq!(server.claim(10).await.len(), 1, "the third of its kind");
    s.advance(secs(60)).await;
    s.promote().await;
    assert_eq!(server.claim(10).await.len(), 2);
    assert_eq!(server.claim_from(&["mail"], 10).await.len(), 1);
}

/// Whoever promotes hears when a queue has something left of its rate again, and tells those who claim.
pub async fn rate_of_a_queue_tells_when_it_goes_on(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    s.set_limit_of(LimitTarget::Queue(queue("default")), fixed(2, secs(60))).await;
    to_border(&s, secs(60)).await;
    let jobs = s.enqueue(3).await;
    assert_eq!(s.promote().await.next_in, None);
    let mut wakeups = s.storage().wakeups();
    assert_eq!(claimed(&server, 10).await, jobs[..2]);
    s.heard(wakeups.work(), "the rate that is used up").await;
    s.advance(secs(20)).await;
    assert_eq!(s.promote().await.next_in, Some(secs(40)));
    // A rule that changes moves the instant, and one without a rate names none.
    s.set_limit_of(LimitTarget::Queue(queue("default")), Some(LimitRule::concurrency(9))).await;
    assert_eq!(s.promote().await.next_in, None);
    s.set_limit_of(LimitTarget::Queue(queue("default")), fixed(1, secs(60))).await;
    assert_eq!(s.promote().await.next_in, Some(secs(40)));
    let mut wakeups = s.storage().wakeups();
    s.advance(secs(40)).await;
    let promoted = s.promote().await;
    assert_eq!((promoted.released, promoted.next_in), (0, None));
    s.heard(wakeups.work(), "a rate with something left").await;
    assert_eq!(claimed(&server, 10).await, jobs[2..]);
}

/// A rate that is lowered, raised or removed counts the starts that there were.
pub async fn rate_changed_live(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    s.set_limit("l", fixed(2, secs(60))).await;
    to_border(&s, secs(60)).await;
    let jobs = s.enqueue_under("l", 8).await;
    assert_eq!(server.claim(10).await.len(), 2);
    s.set_limit("l", fixed(5, secs(60))).await;
    assert_eq!(s.promote().await.released, 3);
    assert_eq!(server.claim(10).await.len(), 3);
    s.set_limit("l", fixed(1, secs(60))).await;
    assert_eq!(s.promote().await.released, 0);
    assert!(server.claim(10).await.is_empty());
    s.set_limit("l", None).await;
    assert_eq!(s.promote().await.released, 3);
    assert_eq!(claimed(&server, 10).await, jobs[5..]);
    s.expect_count(StateName::Processing, 8).await;
}
