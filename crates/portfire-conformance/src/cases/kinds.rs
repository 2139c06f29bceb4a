//! Kinds: a server that states its kinds is given jobs of these alone, and to others all is as if it were not there.

use std::time::Duration;

use portfire_core::explain::explain;
use portfire_core::{
    Action, Cause, Changed, ClaimRequest, ClaimedJob, Cycle, CycleRequest, JobFilter, JobId,
    JobState, LimitRule, NewJob, Outcome, Reason, RescueRequest, Rescued, StateName,
};

use crate::server::{Server, success};
use crate::stage::{DAY, LEASE, Stage, kind, secs, under};

/// The grace that these cases ask for.
const GRACE: Duration = secs(600);

/// A server that has handlers of these kinds, and lives as long as the case.
async fn with(s: &Stage, name: &str, kinds: &[&'static str]) -> Server {
    with_lease(s, name, kinds, 365 * DAY).await
}

async fn with_lease(s: &Stage, name: &str, kinds: &[&'static str], lease: Duration) -> Server {
    let mut server = Server::new(s.clone(), name, lease);
    server.new.kinds = kinds.iter().map(|name| kind(name)).collect();
    server.announce().await.expect("a new server is taken");
    server
}

fn job(s: &Stage, of: &'static str) -> NewJob {
    let mut job = s.new_job();
    job.kind = kind(of);
    job
}

fn ranked(s: &Stage, of: &'static str, priority: i16) -> NewJob {
    let mut job = job(s, of);
    job.priority = priority;
    job
}

/// A job under the limit `l`.
fn limited(s: &Stage, of: &'static str) -> NewJob {
    let mut job = s.new_limited([under("l")]);
    job.kind = kind(of);
    job
}

/// Stores jobs of these kinds in one call, in this order.
async fn store(s: &Stage, kinds: &[&'static str]) -> Vec<JobId> {
    let jobs = kinds.iter().map(|of| job(s, of)).collect();
    s.create(jobs).await.into_iter().map(|created| created.id).collect()
}

fn ids(claimed: &[ClaimedJob]) -> Vec<JobId> {
    claimed.iter().map(|job| job.claim.job).collect()
}

async fn rescue(s: &Stage) -> Rescued {
    let request = RescueRequest { unknown_kind_grace: GRACE, ..RescueRequest::default() };
    s.rescue_with(request).await
}

/// A job of kind `b`, which a server without a handler of it has met.
async fn aside(s: &Stage, by: &Server) -> JobId {
    let id = store(s, &["b"]).await[0];
    assert!(by.claim(5).await.is_empty(), "it has no handler of that");
    id
}

/// Two servers with different kinds work one queue, and each gets its own in order: no job is parked, or claimed
/// more than once.
pub async fn kinds_each_server_gets_its_own(s: Stage) {
    let (a, b) = (with(&s, "a", &["a"]).await, with(&s, "b", &["b", "old-b"]).await);
    let jobs = store(&s, &["b", "a", "old-b", "b", "a", "a", "b"]).await;
    assert_eq!(ids(&a.claim(2).await), [jobs[1], jobs[4]]);
    assert_eq!(ids(&b.claim(3).await), [jobs[0], jobs[2], jobs[3]]);
    assert_eq!(ids(&b.claim(3).await), [jobs[6]]);
    assert_eq!(ids(&a.claim(3).await), [jobs[5]]);
    for id in jobs {
        assert_eq!(s.causes(id).await, [Cause::Created, Cause::Claimed]);
        assert_eq!(s.record(id).await.attempt, 1);
    }
}

/// Thousands of jobs of other kinds at the head of a queue hold nobody up: a claim sets 1,000 aside and says that
/// there may be more, and once they are aside a claim is as if they were not there.
pub async fn kinds_of_others_hold_nobody_up(s: Stage) {
    let (a, b) = (with(&s, "a", &["a"]).await, with(&s, "b", &["b"]).await);
    let foreign = store(&s, &["b"; 3_000]).await;
    let own = store(&s, &["a", "a"]).await;
    let mut claims = Vec::new();
    for _ in 0..4 {
        let Cycle { claimed, more, .. } = a.cycle(a.wish(1)).await;
        claims.push((ids(&claimed), more));
    }
    let nothing = (vec![], true);
    let expected = [nothing.clone(), nothing.clone(), nothing, (vec![own[0]], false)];
    assert_eq!(claims, expected);
    assert_eq!(ids(&a.claim(5).await), own[1..]);
    assert_eq!(ids(&b.claim(3_000).await), foreign);
}

/// A claim that ends for want of jobs, or because it is full, does not say that there is more.
pub async fn kinds_claim_says_when_it_is_to_be_repeated(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    let jobs = store(&s, &["b", "a", "b", "a", "b"]).await;
    let first = a.cycle(a.wish(1)).await;
    assert_eq!((ids(&first.claimed), first.more), (vec![jobs[1]], false));
    let second = a.cycle(a.wish(10)).await;
    assert_eq!((ids(&second.claimed), second.more), (vec![jobs[3]], false));
    assert!(!a.cycle(a.wish(10)).await.more);
}

/// What was set aside and what was not are claimed in one order: by priority, then by place.
pub async fn kinds_aside_keep_priority_and_place(s: Stage) {
    let (a, b) = (with(&s, "a", &["a"]).await, with(&s, "b", &["b", "c"]).await);
    let rank = |of, priority| ranked(&s, of, priority);
    let first = vec![rank("b", 0), rank("c", 5), rank("c", 0), rank("b", 5), rank("b", -1)];
    let first = s.create(first).await;
    assert!(a.claim(10).await.is_empty());
    let second = vec![rank("b", 0), rank("c", 9), rank("b", 5)];
    let second = s.create(second).await;
    let order = [second[1], first[1], first[3], second[2], first[0], first[2], second[0], first[4]];
    let order: Vec<JobId> = order.iter().map(|created| created.id).collect();
    assert_eq!(s.list_ids(JobFilter::state(StateName::Enqueued)).await, order);
    let mut claimed = ids(&b.claim(3).await);
    claimed.extend(ids(&b.claim(10).await));
    assert_eq!(claimed, order);
}

/// Who has waited long comes first by aging, aside or not.
pub async fn kinds_aside_age(s: Stage) {
    let (a, b) = (with(&s, "a", &["a"]).await, with(&s, "b", &["b", "c"]).await);
    let old = store(&s, &["b", "c"]).await;
    assert!(a.claim(10).await.is_empty());
    let waiting = store(&s, &["c"]).await;
    s.advance(secs(60)).await;
    let urgent = s.create_one(ranked(&s, "b", 9)).await;
    let wish = ClaimRequest { aging: Some(secs(60)), ..b.wish(10).claim.expect("a wish") };
    let request = CycleRequest { claim: Some(wish), ..b.request() };
    let expected = [old[0], old[1], waiting[0], urgent];
    assert_eq!(ids(&b.cycle(request).await.claimed), expected);
}

/// A server that states no kinds is given every job, in the order of the queue.
pub async fn kinds_unstated_are_all(s: Stage) {
    let (a, any) = (with(&s, "a", &["a"]).await, with(&s, "any", &[]).await);
    let jobs = store(&s, &["b", "c", "b"]).await;
    assert!(a.claim(10).await.is_empty());
    let last = store(&s, &["a", "b"]).await;
    assert_eq!(ids(&any.claim(10).await), [jobs, last].concat());
}

/// To be set aside is no transition: record, history and counters stay as they were.
pub async fn kinds_aside_is_no_state(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    let id = store(&s, &["b"]).await[0];
    let (record, history, counts) = (s.record(id).await, s.history(id).await, s.counts().await);
    let kinds = s.storage().kinds().await.expect("read");
    s.advance(secs(5)).await;
    assert!(a.claim(5).await.is_empty());
    assert_eq!((s.record(id).await, s.history(id).await), (record, history));
    assert_eq!((s.counts().await, s.storage().kinds().await.expect("read")), (counts, kinds));
    let queue = s.queue("default").await.expect("listed");
    assert_eq!(queue.states.get(&StateName::Enqueued), Some(&1));
}

/// Jobs that were set aside are listed where they were, page by page.
pub async fn kinds_aside_are_listed_in_their_places(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    let mut jobs = store(&s, &["b", "c", "b", "c", "b"]).await;
    assert!(a.claim(10).await.is_empty());
    jobs.extend(store(&s, &["b", "a", "c"]).await);
    let enqueued = JobFilter { max: 2, ..JobFilter::state(StateName::Enqueued) };
    assert_eq!(s.list_ids(enqueued.clone()).await, jobs);
    let of_kind = JobFilter { kind: Some(kind("b")), ..enqueued.clone() };
    assert_eq!(s.list_ids(of_kind).await, [jobs[0], jobs[2], jobs[4], jobs[5]]);
    let id_prefix = Some(jobs[3].to_string());
    assert_eq!(s.list_ids(JobFilter { id_prefix, ..enqueued }).await, jobs[3..4]);
}

/// A job that was set aside is deleted, moved and asked for again as any that is enqueued.
pub async fn kinds_aside_are_steered(s: Stage) {
    let (a, b) = (with(&s, "a", &["a"]).await, with(&s, "b", &["b"]).await);
    let jobs = store(&s, &["b", "b", "b"]).await;
    assert!(a.claim(10).await.is_empty());
    assert!(s.delete(jobs[0]).await.is_done());
    assert_eq!(s.requeue(jobs[1]).await, Changed::Unchanged);
    let moved = s.change(jobs[2], Action::Reschedule(secs(60).into())).await;
    assert!(matches!(moved, Changed::Applied { from: StateName::Enqueued, revision: 2 }));
    assert_eq!(ids(&b.claim(10).await), [jobs[1]]);
    s.advance(secs(60)).await;
    s.promote().await;
    assert_eq!(ids(&b.claim(10).await), [jobs[2]]);
    assert!(s.requeue(jobs[0]).await.is_done());
    assert!(a.claim(10).await.is_empty());
    assert_eq!(ids(&b.claim(10).await), [jobs[0]]);
}

/// A job that is given back goes to its old place, among those that are aside.
pub async fn kinds_given_back_keep_their_places(s: Stage) {
    let (a, b) = (with(&s, "a", &["a"]).await, with(&s, "b", &["b"]).await);
    let jobs = store(&s, &["b", "b", "b"]).await;
    assert!(a.claim(10).await.is_empty());
    let held = b.claim(2).await;
    b.end(held[1].claim, Outcome::Released).await;
    assert_eq!(ids(&b.claim(10).await), jobs[1..]);
    b.retire().await;
    let next = with(&s, "c", &["b"]).await;
    assert!(a.claim(10).await.is_empty());
    assert_eq!(ids(&next.claim(10).await), jobs);
}

/// A paused queue gives out none of those that are aside, and gives them when it is resumed.
pub async fn kinds_aside_wait_in_a_paused_queue(s: Stage) {
    let (a, b) = (with(&s, "a", &["a"]).await, with(&s, "b", &["b"]).await);
    let id = aside(&s, &a).await;
    s.pause("default", true).await;
    assert!(b.claim(5).await.is_empty());
    let mut hints = s.storage().wakeups();
    s.pause("default", false).await;
    s.heard(hints.work(), "the resumed queue").await;
    assert_eq!(ids(&b.claim(5).await), [id]);
}

/// The repeat of a claim answers what was aside, too, in the same order.
pub async fn kinds_aside_in_a_repeated_cycle(s: Stage) {
    let (a, b) = (with(&s, "a", &["a"]).await, with(&s, "b", &["b"]).await);
    store(&s, &["b", "b"]).await;
    assert!(a.claim(5).await.is_empty());
    store(&s, &["b", "b"]).await;
    let request = b.wish(3);
    let first = b.cycle(request.clone()).await;
    let again = b.cycle(CycleRequest { repeated: true, ..request }).await;
    assert_eq!(first.claimed.len(), 3);
    assert_eq!(again.claimed, first.claimed);
}

/// The limits of a job are looked at when a server claims it that has its kind: what was set aside takes no slot and
/// stands in no line.
pub async fn kinds_limits_are_looked_at_by_who_has_them(s: Stage) {
    let (a, b) = (with(&s, "a", &["a"]).await, with(&s, "b", &["b"]).await);
    s.set_limit("l", Some(LimitRule::concurrency(1))).await;
    let of = |of| limited(&s, of);
    let jobs = s.create(vec![of("b"), of("b"), of("a"), of("b")]).await;
    let own = a.claim(10).await;
    assert_eq!(ids(&own), [jobs[2].id]);
    assert_eq!(s.line("l").await, (1, 0));
    assert!(b.claim(10).await.is_empty());
    assert_eq!(s.line("l").await, (1, 3));
    a.end(own[0].claim, success()).await;
    for next in [jobs[0].id, jobs[1].id, jobs[3].id] {
        // It has come out of the line, and whoever meets it first may be the one without a handler.
        assert!(a.claim(10).await.is_empty());
        let held = b.claim(10).await;
        assert_eq!(ids(&held), [next]);
        b.end(held[0].claim, success()).await;
    }
    assert_eq!(s.line("l").await, (0, 0));
}

/// A job of a limit that nobody claims because no server has its kind holds up no other of the limit for ever.
pub async fn kinds_aside_pass_a_limit_on(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    s.set_limit("l", Some(LimitRule::concurrency(1))).await;
    let of = |of| limited(&s, of);
    let jobs = s.create(vec![of("a"), of("b"), of("a")]).await;
    let held = a.claim_one().await;
    let any = with(&s, "any", &[]).await;
    assert!(any.claim(10).await.is_empty(), "two wait in the line");
    any.retire().await;
    a.end(held.claim, success()).await;
    assert!(a.claim(10).await.is_empty(), "the first of the line is of the other kind");
    s.promote().await;
    assert_eq!(ids(&a.claim(10).await), [jobs[2].id]);
}

/// The members of a cancelled batch are deleted, also those that are aside.
pub async fn kinds_aside_of_a_cancelled_batch(s: Stage) {
    let (a, b) = (with(&s, "a", &["a"]).await, with(&s, "b", &["b"]).await);
    let batch = s.new_batch();
    let mut member = job(&s, "b");
    member.ties.batch = Some(batch.id);
    let (id, id_of_batch) = (member.id, batch.id);
    s.store(vec![batch], vec![member]).await;
    assert!(a.claim(5).await.is_empty());
    let _ = s.cancel(id_of_batch).await;
    assert!(b.claim(5).await.is_empty());
    s.promote().await;
    assert_eq!(s.state(id).await, StateName::Deleted);
}

/// A suspect is given to servers that have its kind; to others it is nothing to be emptied for.
pub async fn kinds_suspect_is_not_for_others(s: Stage) {
    let id = store(&s, &["b"]).await[0];
    for name in ["x", "y"] {
        let server = with_lease(&s, name, &["b"], LEASE).await;
        server.claim_job(id).await;
        s.advance(LEASE).await;
        rescue(&s).await;
    }
    let a = with(&s, "a", &["a"]).await;
    let own = store(&s, &["a", "a"]).await;
    assert_eq!(ids(&a.claim(1).await), own[..1]);
    s.advance(secs(60)).await;
    assert_eq!(ids(&a.claim(1).await), own[1..], "it is not emptied");
    let b = with(&s, "b", &["b"]).await;
    assert_eq!(ids(&b.claim(5).await), [id]);
}

/// A job whose kind no server has had for the grace is failed, says so, and has one line for the wait.
pub async fn kinds_unhandled_fail_after_the_grace(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    let id = aside(&s, &a).await;
    for _ in 0..5 {
        s.advance(secs(100)).await;
        assert!(a.claim(5).await.is_empty());
        assert_eq!(rescue(&s).await.unhandled, 0);
    }
    s.advance(secs(99)).await;
    assert_eq!(rescue(&s).await.unhandled, 0);
    s.advance(secs(1)).await;
    let rescued = rescue(&s).await;
    assert_eq!((rescued.unhandled, rescued.returned, rescued.more), (1, 0, false));
    let JobState::Failed { error, .. } = s.record(id).await.state else { panic!("it is failed") };
    assert_eq!(error.class, "unknown_kind");
    assert!(error.message.starts_with("no server has had a handler of kind `b` for 600s"));
    let history = s.history(id).await;
    assert_eq!(history.len(), 2, "{history:?}");
    let last = &history[1];
    assert_eq!(
        (last.cause, last.attempt, last.error.as_ref()),
        (Cause::Failed, None, Some(&error))
    );
    let record = s.record(id).await;
    assert_eq!((record.attempt, record.failures), (0, 0));
    s.expect_count(StateName::Failed, 1).await;
    assert_eq!(s.counts().await.failed_total, 1);
}

/// A job that is too late is deleted, not set aside or failed, also for want of a handler.
pub async fn kinds_of_others_may_be_too_late(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    let until = |after| {
        let (mut job, now) = (job(&s, "b"), s.now());
        async move {
            job.options.expires_at = Some(now.await.saturating_add(after));
            job
        }
    };
    let jobs = s.create(vec![until(secs(5)).await, until(secs(60)).await]).await;
    s.advance(secs(6)).await;
    assert!(a.claim(5).await.is_empty());
    assert!(s.reason(jobs[0].id).await.starts_with("it was to start by"));
    assert_eq!(s.state(jobs[1].id).await, StateName::Enqueued);
    s.advance(GRACE).await;
    assert_eq!(rescue(&s).await.unhandled, 1);
    assert!(s.reason(jobs[1].id).await.starts_with("it was to start by"));
}

/// A job that was failed for want of a handler runs once a server has one and it is asked for again.
pub async fn kinds_unhandled_run_when_requeued(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    let id = aside(&s, &a).await;
    let after = s.continue_on(id, portfire_core::After::Failure).await;
    s.advance(GRACE).await;
    assert_eq!(rescue(&s).await.unhandled, 1);
    assert_eq!(s.state(after).await, StateName::Enqueued, "it waited for the failure");
    let b = with(&s, "b", &["b"]).await;
    assert!(s.requeue(id).await.is_done());
    assert_eq!(ids(&b.claim(5).await), [id]);
}

/// The grace counts from when the last server with the kind went, whether it retired or its lease ended.
pub async fn kinds_grace_counts_while_no_server_has_it(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    let id = aside(&s, &a).await;
    s.advance(GRACE - secs(1)).await;
    rescue(&s).await;
    // A server that has the kind, though it takes from other queues, comes and goes.
    let b = with(&s, "b", &["b"]).await;
    s.advance(secs(100)).await;
    assert_eq!(rescue(&s).await.unhandled, 0);
    b.retire().await;
    s.advance(GRACE - secs(1)).await;
    assert_eq!(rescue(&s).await.unhandled, 0);
    // Another is not heard of again: it counts until its lease ends, not until someone notices.
    with_lease(&s, "c", &["b"], LEASE).await;
    s.advance(LEASE + GRACE - secs(1)).await;
    assert_eq!(rescue(&s).await.unhandled, 0);
    s.advance(secs(1)).await;
    assert_eq!(rescue(&s).await.unhandled, 1);
    assert_eq!(s.state(id).await, StateName::Failed);
}

/// A server that states no kinds may have any: the grace does not count while one is alive.
pub async fn kinds_grace_stands_while_a_server_may_have_it(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    let any = with(&s, "any", &[]).await;
    aside(&s, &a).await;
    s.advance(2 * GRACE).await;
    assert_eq!(rescue(&s).await.unhandled, 0);
    any.retire().await;
    s.advance(GRACE - secs(1)).await;
    assert_eq!(rescue(&s).await.unhandled, 0);
    s.advance(secs(1)).await;
    assert_eq!(rescue(&s).await.unhandled, 1);
}

/// Time in which no server at all was alive does not count, whether a new one comes or an old one comes back.
pub async fn kinds_grace_stands_while_no_server_lives(s: Stage) {
    let a = with_lease(&s, "a", &["a"], LEASE).await;
    aside(&s, &a).await;
    s.advance(secs(10)).await;
    a.heartbeat(&[]).await.expect("it is alive");
    s.advance(LEASE + DAY).await;
    a.heartbeat(&[]).await.expect("nobody has declared it dead");
    assert_eq!(rescue(&s).await.unhandled, 0, "40 s have counted");
    a.retire().await;
    s.advance(DAY - secs(1)).await;
    let later = with(&s, "later", &["a"]).await;
    assert_eq!(rescue(&s).await.unhandled, 0);
    s.advance(GRACE - secs(41)).await;
    assert_eq!(rescue(&s).await.unhandled, 0);
    s.advance(secs(1)).await;
    assert_eq!(rescue(&s).await.unhandled, 1);
    later.retire().await;
}

/// A job waits for the grace itself, also when its kind has been missing for longer.
pub async fn kinds_grace_is_every_jobs_own(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    let first = aside(&s, &a).await;
    s.advance(secs(200)).await;
    let second = aside(&s, &a).await;
    s.advance(secs(400)).await;
    assert_eq!(rescue(&s).await.unhandled, 1);
    assert_eq!(s.state(first).await, StateName::Failed);
    assert_eq!(s.state(second).await, StateName::Enqueued);
    s.advance(secs(199)).await;
    assert_eq!(rescue(&s).await.unhandled, 0);
    s.advance(secs(1)).await;
    assert_eq!(rescue(&s).await.unhandled, 1);
}

/// Jobs without a handler are failed in pieces, and the answer says when there are more.
pub async fn kinds_unhandled_fail_in_pieces(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    store(&s, &["b", "c", "b", "c", "b"]).await;
    assert!(a.claim(10).await.is_empty());
    s.advance(GRACE).await;
    let request = RescueRequest { unknown_kind_grace: GRACE, max: 2, ..RescueRequest::default() };
    let mut failed = Vec::new();
    for _ in 0..3 {
        let rescued = s.rescue_with(request).await;
        failed.push((rescued.unhandled, rescued.more));
    }
    assert_eq!(failed, [(2, true), (2, true), (1, false)]);
    s.expect_count(StateName::Failed, 5).await;
}

/// `explain` tells since when no server has had the kind and when the job is failed; or which servers have it.
pub async fn kinds_aside_are_explained(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    let id = aside(&s, &a).await;
    let since = s.now().await;
    let reasons = || async {
        let explained = explain(&*s.storage(), id).await.expect("read").expect("stored");
        explained.reasons
    };
    let missing =
        |fails_at| Reason::KindWithoutHandler { kind: kind("b"), since: Some(since), fails_at };
    assert_eq!(reasons().await, [missing(None)]);
    s.advance(secs(30)).await;
    rescue(&s).await;
    assert_eq!(reasons().await, [missing(Some(since.saturating_add(GRACE)))]);
    let mut elsewhere = Server::new(s.clone(), "mail", 365 * DAY);
    elsewhere.new.kinds = vec![kind("b")];
    elsewhere.new.queues = vec![crate::stage::queue("mail")];
    elsewhere.announce().await.expect("taken");
    let queue = crate::stage::queue("default");
    let servers = vec![elsewhere.id()];
    assert_eq!(reasons().await, [Reason::HandlerElsewhere { kind: kind("b"), queue, servers }]);
    let b = with(&s, "b", &["b"]).await;
    assert_eq!(reasons().await, [Reason::Next]);
    b.retire().await;
    elsewhere.retire().await;
    let since = s.now().await;
    let told = s.waiting(id).await.expect("enqueued");
    assert_eq!(told.no_handler_since, Some(since));
    assert_eq!(told.fails_at, Some(since.saturating_add(GRACE)));
}

/// Jobs of other kinds that are aside are not counted among those before a job.
pub async fn kinds_aside_of_others_are_not_ahead(s: Stage) {
    let a = with(&s, "a", &["a"]).await;
    let jobs = store(&s, &["b", "c", "b", "c"]).await;
    assert!(a.claim(10).await.is_empty());
    let last = store(&s, &["a", "b", "c"]).await;
    for (id, expected) in [(jobs[0], 0), (jobs[3], 1), (last[0], 0), (last[1], 3), (last[2], 4)] {
        assert_eq!(s.waiting(id).await.expect("enqueued").ahead, expected);
    }
}
