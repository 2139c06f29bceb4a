//! Leases: heartbeats, lost claims, death, and the return of a dead server's jobs.

use std::collections::BTreeSet;

use portfire_core::{
    Cause, Claim, JobState, Lost, LostReason, Outcome, RescueRequest, StateName, Verdict,
};

use crate::server::{Server, claims, is_gone, retry, success};
use crate::stage::{DAY, LEASE, Stage, secs};

fn lost(claim: Claim, reason: LostReason) -> Lost {
    Lost { claim, reason }
}

/// A heartbeat moves the end of the lease to a full lease from now.
pub async fn heartbeat_extends(s: Stage) {
    let server = s.server("a").await;
    s.advance(secs(20)).await;
    assert!(server.heartbeat(&[]).await.expect("alive").is_empty());
    let record = s.server_record(&server.id()).await.expect("listed");
    assert_eq!(record.lease_until.since(record.heartbeat_at), LEASE);
    s.advance(secs(20)).await;
    assert!(s.rescue().await.dead.is_empty(), "40 s after its start, 20 s after its heartbeat");
}

/// A server that holds what it thinks it holds hears of no loss.
pub async fn heartbeat_loses_nothing_that_is_held(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(3).await;
    let held = claims(&server.claim(3).await);
    assert!(server.heartbeat(&held).await.expect("alive").is_empty());
    assert!(server.heartbeat(&[]).await.expect("alive").is_empty());
}

/// One heartbeat tells of each claim on its own.
pub async fn heartbeat_batch_mixed_verdicts(s: Stage) {
    let (server, other) = (s.server("a").await, s.server("b").await);
    s.enqueue(4).await;
    let held = claims(&server.claim(4).await);
    let _ = s.delete(held[0].job).await;
    server.end(held[1], success()).await;
    server.end(held[2], Outcome::Released).await;
    other.claim_one().await;
    let told = server.heartbeat(&held).await.expect("alive");
    let expected = [
        lost(held[0], LostReason::Deleted),
        lost(held[1], LostReason::Taken),
        lost(held[2], LostReason::Taken),
    ];
    assert_eq!(sorted(told), sorted(expected.to_vec()));
}

fn sorted(mut told: Vec<Lost>) -> Vec<Lost> {
    told.sort_by_key(|lost| lost.claim);
    told
}

/// A claim under another attempt than the present one is lost.
pub async fn heartbeat_wrong_attempt_lost(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_one().await;
    let first = server.claim_one().await;
    server.end(first.claim, Outcome::Released).await;
    let second = server.claim_one().await;
    let told = server.heartbeat(&[first.claim, second.claim]).await.expect("alive");
    assert_eq!(told, [lost(first.claim, LostReason::Taken)]);
}

/// A claim on a job that is not stored is lost.
pub async fn heartbeat_missing_job_lost(s: Stage) {
    let server = s.server("a").await;
    let unknown = Claim::new(s.id(), 1);
    let told = server.heartbeat(&[unknown]).await.expect("alive");
    assert_eq!(told, [lost(unknown, LostReason::Missing)]);
}

/// A lease that has lapsed and was not yet declared dead is renewed, and its jobs stay.
pub async fn heartbeat_after_expiry_unclaimed_revives(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_one().await;
    let held = server.claim_one().await;
    s.advance(10 * LEASE).await;
    assert!(server.heartbeat(&[held.claim]).await.expect("not yet declared dead").is_empty());
    assert!(s.rescue().await.dead.is_empty());
    server.end(held.claim, success()).await;
}

/// After the jobs of a dead server were taken by another, the dead one hears that it is gone.
pub async fn heartbeat_after_reclaim_lost(s: Stage) {
    let dead = s.server("a").await;
    s.enqueue_one().await;
    let old = dead.claim_one().await;
    s.lapse().await;
    s.rescue().await;
    let server = s.server("b").await;
    let new = server.claim_one().await;
    assert!(is_gone(&dead.heartbeat(&[old.claim]).await));
    assert!(is_gone(&dead.verify(&[old.claim]).await));
    server.end(new.claim, success()).await;
}

/// A heartbeat tells that a running job was deleted, as often as it is asked.
pub async fn heartbeat_reports_delete(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(2).await;
    let held = claims(&server.claim(2).await);
    let _ = s.delete(held[1].job).await;
    for _ in 0..2 {
        let told = server.heartbeat(&held).await.expect("alive");
        assert_eq!(told, [lost(held[1], LostReason::Deleted)]);
    }
}

/// A server that was never announced cannot beat.
pub async fn heartbeat_unannounced_rejected(s: Stage) {
    let server = Server::new(s.clone(), "ghost", LEASE);
    assert!(is_gone(&server.heartbeat(&[]).await));
    assert!(is_gone(&server.verify(&[]).await));
    assert_eq!(s.server_record(&server.id()).await, None);
}

/// Asking what is lost answers as a heartbeat would.
pub async fn verify_tells_as_a_heartbeat(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(3).await;
    let mut held = claims(&server.claim(3).await);
    let _ = s.delete(held[0].job).await;
    server.end(held[1], retry(5)).await;
    held.push(Claim::new(s.id(), 1));
    let told = server.verify(&held).await.expect("alive");
    let expected = vec![
        lost(held[0], LostReason::Deleted),
        lost(held[1], LostReason::Taken),
        lost(held[3], LostReason::Missing),
    ];
    assert_eq!(sorted(told), sorted(expected));
    let beaten = server.heartbeat(&held).await.expect("alive");
    assert_eq!(sorted(beaten), sorted(server.verify(&held).await.expect("alive")));
}

/// The locator of a claim only hints: without it, or with another job's, the answer is the same.
pub async fn verify_locator_is_no_right(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(3).await;
    let held = claims(&server.claim(3).await);
    let _ = s.delete(held[0].job).await;
    let told = async |locators: [i64; 3]| {
        let claims: Vec<_> =
            held.iter().zip(locators).map(|(claim, locator)| Claim { locator, ..*claim }).collect();
        let told = server.verify(&claims).await.expect("alive");
        told.into_iter().map(|lost| (lost.claim.job, lost.reason)).collect::<Vec<_>>()
    };
    let swapped = [held[1].locator, held[0].locator, held[0].locator];
    for locators in [[0; 3], swapped, [i64::MAX, -1, i64::MIN]] {
        assert_eq!(told(locators).await, [(held[0].job, LostReason::Deleted)], "{locators:?}");
    }
}

/// A thousand claims go in one heartbeat.
pub async fn heartbeat_of_a_thousand(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(1_000).await;
    let held = claims(&server.claim(1_000).await);
    assert!(server.heartbeat(&held).await.expect("alive").is_empty());
    let _ = s.delete(ids[999]).await;
    let told = server.heartbeat(&held).await.expect("alive");
    assert_eq!(told, [lost(held[999], LostReason::Deleted)]);
}

/// Asking what is lost writes nothing: the lease goes on to its end.
pub async fn verify_does_not_renew(s: Stage) {
    let server = s.server("a").await;
    let before = s.server_record(&server.id()).await;
    s.advance(secs(20)).await;
    server.verify(&[]).await.expect("alive");
    assert_eq!(s.server_record(&server.id()).await, before);
    s.advance(secs(11)).await;
    assert_eq!(s.rescue().await.dead, [server.id()]);
}

/// A claimed job whose server's lease lapsed goes back to its queue.
pub async fn rescue_requeues_expired(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.claim_one().await;
    s.lapse().await;
    let rescued = s.rescue().await;
    assert_eq!((rescued.dead, rescued.returned), (vec![server.id()], 1));
    assert_eq!((rescued.poisoned, rescued.more), (0, false));
    assert_eq!(s.state(id).await, StateName::Enqueued);
    let next = s.server("b").await.claim_one().await;
    assert_eq!((next.claim.job, next.claim.attempt), (id, 2));
}

/// A server whose lease runs is spared, to the last second.
pub async fn rescue_spares_live(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_one().await;
    let held = server.claim_one().await;
    s.advance(LEASE - secs(1)).await;
    assert_eq!(s.rescue().await, portfire_core::Rescued::default());
    assert!(server.heartbeat(&[held.claim]).await.expect("alive").is_empty());
    s.advance(LEASE - secs(1)).await;
    assert_eq!(s.rescue().await, portfire_core::Rescued::default());
    server.end(held.claim, success()).await;
}

/// Each server's own lease counts.
pub async fn rescue_goes_by_each_servers_lease(s: Stage) {
    let brief = s.server_with_lease("brief", secs(2)).await;
    let long = s.server_with_lease("long", secs(600)).await;
    s.enqueue(2).await;
    brief.claim_one().await;
    let held = long.claim_one().await;
    s.advance(secs(3)).await;
    assert_eq!(s.rescue().await.dead, [brief.id()]);
    assert!(long.heartbeat(&[held.claim]).await.expect("alive").is_empty());
}

/// Two rescuers at once return a job once.
pub async fn rescue_two_rescuers_once(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(50).await;
    server.claim(50).await;
    s.lapse().await;
    let rescuers: Vec<_> = (0..4)
        .map(|_| {
            let s = s.clone();
            tokio::spawn(async move { s.rescue().await })
        })
        .collect();
    let (mut dead, mut returned) = (0, 0);
    for rescuer in rescuers {
        let rescued = rescuer.await.expect("the rescuer ends");
        dead += rescued.dead.len();
        returned += rescued.returned;
    }
    assert_eq!((dead, returned), (1, 50));
    for id in ids {
        let record = s.record(id).await;
        assert_eq!((record.crashes, record.recoveries), (1, 0));
    }
    assert_eq!(s.counts().await.recovered_total, 50);
}

/// A rescue counts a recovery and no failure.
pub async fn rescue_counts_recovery(s: Stage) {
    let id = s.enqueue_one().await;
    for crash in 1..=2 {
        let server = s.server(&format!("a{crash}")).await;
        server.claim_one().await;
        s.lapse().await;
        s.rescue().await;
        let record = s.record(id).await;
        assert_eq!((record.recoveries, record.failures), (crash, 0));
    }
    assert_eq!(s.counts().await.recovered_total, 2);
    assert_eq!(s.counts().await.retried_total, 0);
}

/// A job that has survived as many crashes as it may is failed at the next.
pub async fn rescue_poison_after_limit_fails(s: Stage) {
    let id = s.enqueue_one().await;
    for crash in 0..4 {
        let server = s.server(&format!("a{crash}")).await;
        server.claim_one().await;
        s.lapse().await;
        let rescued = s.rescue().await;
        let last = crash == 3;
        assert_eq!((rescued.returned, rescued.poisoned), (u32::from(!last), u32::from(last)));
    }
    let record = s.record(id).await;
    let JobState::Failed { error, expires_at, .. } = record.state else {
        panic!("the job is given up: {record:?}");
    };
    assert_eq!((error.class.as_str(), expires_at), ("poison", None));
    assert_eq!((record.recoveries, record.failures, record.attempt), (3, 0, 4));
    let counts = s.counts().await;
    assert_eq!((counts.recovered_total, counts.failed_total), (3, 1));
}

/// The limit is the request's: with none allowed the first crash is the last.
pub async fn rescue_poison_limit_is_the_requests(s: Stage) {
    let ids = s.enqueue(2).await;
    s.server("a").await.claim_one().await;
    s.lapse().await;
    let none = RescueRequest { recoveries_max: 0, ..RescueRequest::default() };
    assert_eq!(s.rescue_with(none).await.poisoned, 1);
    assert_eq!(s.state(ids[0]).await, StateName::Failed);
    s.server("b").await.claim_one().await;
    s.lapse().await;
    let many = RescueRequest { recoveries_max: 1_000, ..RescueRequest::default() };
    assert_eq!(s.rescue_with(many).await.returned, 1);
    assert_eq!(s.state(ids[1]).await, StateName::Enqueued);
}

/// A poisonous job does not keep other jobs from coming back, nor from running.
pub async fn rescue_poison_keeps_others_flowing(s: Stage) {
    let poison = s.enqueue_one().await;
    let fine = s.enqueue_one().await;
    let other = s.server_with_lease("other", DAY).await;
    for crash in 0..4 {
        let killed = s.server(&format!("a{crash}")).await;
        assert_eq!(killed.claim_one().await.claim.job, poison, "crash {crash}");
        s.lapse().await;
        let rescued = s.rescue().await;
        let last = crash == 3;
        assert_eq!((rescued.returned, rescued.poisoned), (u32::from(!last), u32::from(last)));
    }
    assert_eq!(s.state(poison).await, StateName::Failed);
    other.end(other.claim_one().await.claim, success()).await;
    assert_eq!(s.state(fine).await, StateName::Succeeded);
}

/// A poisoned job that someone asks for again begins anew.
pub async fn rescue_poisoned_job_can_be_requeued(s: Stage) {
    let id = s.enqueue_one().await;
    s.server("a").await.claim_one().await;
    s.lapse().await;
    s.rescue_with(RescueRequest { recoveries_max: 0, ..RescueRequest::default() }).await;
    assert!(s.requeue(id).await.is_done());
    let record = s.record(id).await;
    assert_eq!((record.state.name(), record.recoveries), (StateName::Enqueued, 0));
}

/// Storage time decides about death: a lease is as long as the storage's clock says.
pub async fn rescue_uses_storage_clock(s: Stage) {
    let server = s.server("a").await;
    let record = s.server_record(&server.id()).await.expect("listed");
    let now = s.now().await;
    assert!(record.lease_until > now && record.lease_until.since(record.heartbeat_at) == LEASE);
    // However long this takes by the host's clock, in storage time nothing has passed.
    for _ in 0..100 {
        assert!(s.rescue().await.dead.is_empty());
    }
    s.advance(record.lease_until.since(now) + secs(1)).await;
    assert_eq!(s.rescue().await.dead, [server.id()]);
}

/// A server that was declared dead can never renew, announce itself, claim or finish again.
pub async fn server_declared_dead_cannot_renew(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    s.lapse().await;
    s.rescue().await;
    for _ in 0..2 {
        assert!(is_gone(&server.heartbeat(&[held.claim]).await));
        assert!(is_gone(&server.announce().await));
        assert!(is_gone(&server.verify(&[]).await));
        assert!(is_gone(&server.try_cycle(server.wish(1)).await));
        s.advance(secs(3_600)).await;
    }
    assert_eq!(s.state(id).await, StateName::Enqueued);
    let record = s.server_record(&server.id()).await.expect("listed for a day");
    assert!(record.dead);
}

/// A rescue returns at most as many jobs as asked and says whether more are left.
pub async fn rescue_batch_limit(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(25).await;
    server.claim(25).await;
    s.lapse().await;
    let ten = RescueRequest { max: 10, ..RescueRequest::default() };
    let first = s.rescue_with(ten).await;
    assert_eq!((first.dead, first.returned, first.more), (vec![server.id()], 10, true));
    let second = s.rescue_with(ten).await;
    assert_eq!((second.dead, second.returned, second.more), (vec![], 10, true));
    let third = s.rescue_with(ten).await;
    assert_eq!((third.returned, third.more), (5, false));
    s.expect_count(StateName::Enqueued, 25).await;
}

/// Between two parts of a rescue nothing of the dead server can be finished by it.
pub async fn rescue_in_parts_fences_at_once(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(4).await;
    let held = server.claim(4).await;
    s.lapse().await;
    s.rescue_with(RescueRequest { max: 1, ..RescueRequest::default() }).await;
    let finished = held.iter().map(|job| crate::server::finish(job.claim, success())).collect();
    let cycle = portfire_core::CycleRequest { finished, ..server.request() };
    assert!(is_gone(&server.try_cycle(cycle).await));
    s.expect_count(StateName::Succeeded, 0).await;
    assert_eq!(s.rescue().await.returned, 3);
}

/// A rescue that is repeated changes nothing.
pub async fn rescue_repeat_changes_nothing(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.claim_one().await;
    s.lapse().await;
    s.rescue().await;
    let before = (s.record(id).await, s.counts().await);
    assert_eq!(s.rescue().await, portfire_core::Rescued::default());
    assert_eq!((s.record(id).await, s.counts().await), before);
}

/// A rescue touches what was running and nothing else of the server's past.
pub async fn rescue_returns_only_what_runs(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(4).await;
    let held = server.claim(4).await;
    server.end(held[0].claim, success()).await;
    server.end(held[1].claim, retry(600)).await;
    let _ = s.delete(ids[2]).await;
    s.lapse().await;
    assert_eq!(s.rescue().await.returned, 1);
    let mut states = Vec::new();
    for id in ids {
        states.push(s.state(id).await);
    }
    use StateName::{Deleted, Enqueued, Scheduled, Succeeded};
    assert_eq!(states, [Succeeded, Scheduled, Deleted, Enqueued]);
}

/// A rescue keeps the failures that were counted before the crash.
pub async fn rescue_keeps_failures(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, retry(0)).await;
    s.promote().await;
    server.claim_one().await;
    s.lapse().await;
    s.rescue().await;
    let record = s.record(id).await;
    assert_eq!((record.failures, record.recoveries), (1, 1));
}

/// A dead server without jobs is declared dead too.
pub async fn rescue_declares_idle_servers_dead(s: Stage) {
    let server = s.server("a").await;
    s.lapse().await;
    let rescued = s.rescue().await;
    assert_eq!((rescued.dead, rescued.returned, rescued.more), (vec![server.id()], 0, false));
    assert!(is_gone(&server.heartbeat(&[]).await));
}

/// The jobs of several dead servers come back in one call.
pub async fn rescue_of_many_servers(s: Stage) {
    let mut ids = BTreeSet::new();
    s.enqueue(10).await;
    for n in 0..10 {
        let server = s.server(&format!("a{n}")).await;
        server.claim_one().await;
        ids.insert(server.id());
    }
    s.lapse().await;
    let rescued = s.rescue().await;
    assert_eq!(rescued.dead.iter().cloned().collect::<BTreeSet<_>>(), ids);
    assert_eq!(rescued.returned, 10);
}

/// Rescued jobs are announced to those that idle, and the death to those that listen for it.
pub async fn rescue_wakes_idle_worker(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_one().await;
    server.claim_one().await;
    s.lapse().await;
    let (mut work, mut control) = (s.storage().wakeups(), s.storage().wakeups());
    s.rescue().await;
    s.heard(work.work(), "the rescued job").await;
    s.heard(control.control(), "the death").await;
}

/// The finish of a dead server's former job by its next holder counts, whatever the dead one held.
pub async fn rescue_then_finish_by_the_next(s: Stage) {
    let dead = s.server_with_lease("a", secs(5)).await;
    let next = s.server_with_lease("b", DAY).await;
    let id = s.enqueue_one().await;
    let old = dead.claim_one().await;
    s.advance(secs(6)).await;
    s.rescue().await;
    let new = next.claim_one().await;
    assert_eq!(next.finish(old.claim, success()).await, Verdict::Fenced);
    next.end(new.claim, success()).await;
    use Cause::{Claimed, Created, Rescued, Succeeded};
    assert_eq!(s.causes(id).await, [Created, Claimed, Rescued, Claimed, Succeeded]);
}
