//! Finishing and claiming in one call, and the repeat of that call when its answer was lost.

use portfire_core::{Claim, ClaimRequest, CycleRequest, Outcome, StateName, Verdict};

use crate::server::{claims, finish, is_gone, success};
use crate::stage::{Stage, queue};

fn repeat(request: &CycleRequest) -> CycleRequest {
    CycleRequest { repeated: true, ..request.clone() }
}

/// A cycle that is repeated answers the claim of the first time.
pub async fn cycle_repeat_answers_the_same_claim(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(3).await;
    let request = server.wish(3);
    let first = server.cycle(request.clone()).await;
    let again = server.cycle(repeat(&request)).await;
    let mut expected = first.claimed;
    let mut answered = again.claimed;
    expected.sort_by_key(|job| job.claim.job);
    answered.sort_by_key(|job| job.claim.job);
    assert_eq!(answered, expected);
}

/// A cycle that is repeated claims nothing anew, however much is waiting.
pub async fn cycle_repeat_claims_nothing_anew(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(10).await;
    let request = server.wish(3);
    server.cycle(request.clone()).await;
    for _ in 0..3 {
        assert_eq!(server.cycle(repeat(&request)).await.claimed.len(), 3);
    }
    s.expect_count(StateName::Processing, 3).await;
    s.expect_count(StateName::Enqueued, 7).await;
}

/// The repeat of a cycle that found nothing may find what has come since, and then answers it.
pub async fn cycle_repeat_of_an_empty_claim_hides_nothing(s: Stage) {
    let server = s.server("a").await;
    let request = server.wish(3);
    assert!(server.cycle(request.clone()).await.claimed.is_empty());
    s.enqueue(5).await;
    let answered = server.cycle(repeat(&request)).await.claimed.len() as u64;
    assert!(answered <= 3);
    s.expect_count(StateName::Processing, answered).await;
    s.expect_count(StateName::Enqueued, 5 - answered).await;
}

/// A repeat whose first time never arrived claims as if it were the first.
pub async fn cycle_repeat_never_applied_claims(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(3).await;
    server.cycle(server.wish(1)).await;
    let lost = server.wish(2);
    let claimed = server.cycle(repeat(&lost)).await.claimed;
    let claimed: Vec<_> = claimed.iter().map(|job| job.claim.job).collect();
    assert_eq!(claimed, ids[1..]);
}

/// A repeat leaves out jobs that the server has finished or lost meanwhile.
pub async fn cycle_repeat_leaves_out_what_is_no_longer_held(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(4).await;
    let request = server.wish(3);
    let first = server.cycle(request.clone()).await.claimed;
    let _ = s.delete(first[0].claim.job).await;
    server.end(first[1].claim, success()).await;
    let again = server.cycle(repeat(&request)).await.claimed;
    assert_eq!(claims(&again), [first[2].claim]);
    s.expect_count(StateName::Enqueued, 1).await;
}

/// A repeat after all it claimed was lost holds no job that it does not answer.
pub async fn cycle_repeat_after_all_was_lost_hides_nothing(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(4).await;
    let request = server.wish(2);
    let first = server.cycle(request.clone()).await.claimed;
    for job in &first {
        let _ = s.delete(job.claim.job).await;
    }
    let again = server.cycle(repeat(&request)).await.claimed;
    assert!(again.iter().all(|job| !claims(&first).contains(&job.claim)));
    s.expect_count(StateName::Processing, again.len() as u64).await;
}

/// Two cycles of one server may be under way at once; each is repeated by its own key.
pub async fn cycle_repeat_of_an_earlier_key(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(6).await;
    let (one, two) = (server.wish(2), server.wish(2));
    server.cycle(one.clone()).await;
    server.cycle(two.clone()).await;
    let mut again: Vec<_> = claims(&server.cycle(repeat(&one)).await.claimed);
    again.sort();
    let again: Vec<_> = again.iter().map(|claim| claim.job).collect();
    assert_eq!(again, ids[..2]);
    let mut again: Vec<_> = claims(&server.cycle(repeat(&two)).await.claimed);
    again.sort();
    let again: Vec<_> = again.iter().map(|claim| claim.job).collect();
    assert_eq!(again, ids[2..4]);
    s.expect_count(StateName::Enqueued, 2).await;
}

/// A key belongs to its server: another server's same key is another cycle.
pub async fn cycle_keys_are_per_server(s: Stage) {
    let (a, b) = (s.server("a").await, s.server("b").await);
    let ids = s.enqueue(2).await;
    let (of_a, of_b) = (a.wish(1), b.wish(1));
    assert_eq!(of_a.key, of_b.key);
    assert_eq!(a.cycle(of_a.clone()).await.claimed[0].claim.job, ids[0]);
    assert_eq!(b.cycle(repeat(&of_b)).await.claimed[0].claim.job, ids[1]);
    assert_eq!(a.cycle(repeat(&of_a)).await.claimed[0].claim.job, ids[0]);
}

/// The finishes of a repeated cycle are applied once and then answered as done.
pub async fn cycle_repeat_of_finishes_is_already(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(3).await;
    let held = server.claim(2).await;
    let finished = held.iter().map(|job| finish(job.claim, success())).collect();
    let request = CycleRequest { finished, ..server.wish(1) };
    let first = server.cycle(request.clone()).await;
    let before = (s.counts().await, s.record(ids[0]).await);
    let again = server.cycle(repeat(&request)).await;
    assert_eq!(first.verdicts, [Verdict::Applied; 2]);
    assert_eq!(again.verdicts, [Verdict::Already; 2]);
    assert_eq!(claims(&again.claimed), claims(&first.claimed));
    assert_eq!((s.counts().await, s.record(ids[0]).await), before);
}

/// A repeat whose first time never arrived applies its finishes.
pub async fn cycle_repeat_never_applied_finishes(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    let finished = vec![finish(held.claim, success())];
    let lost = CycleRequest { finished, ..server.request() };
    assert_eq!(server.cycle(repeat(&lost)).await.verdicts, [Verdict::Applied]);
    assert_eq!(s.state(id).await, StateName::Succeeded);
}

/// What a cycle gives back can be claimed by that same cycle: its finishes come first.
pub async fn cycle_finishes_before_it_claims(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    let finished = vec![finish(held.claim, Outcome::Released)];
    let cycle = server.cycle(CycleRequest { finished, ..server.wish(1) }).await;
    assert_eq!(cycle.verdicts, [Verdict::Applied]);
    assert_eq!(claims(&cycle.claimed), [Claim { attempt: 2, ..cycle.claimed[0].claim }]);
    assert_eq!(cycle.claimed[0].claim.job, id);
}

/// Each finish of a cycle is judged on its own, and the verdicts come in its order.
pub async fn cycle_verdicts_come_in_order(s: Stage) {
    let (server, other) = (s.server("a").await, s.server("b").await);
    s.enqueue(3).await;
    let held = server.claim(2).await;
    let foreign = other.claim_one().await;
    server.end(held[0].claim, success()).await;
    let unknown = Claim::new(s.id(), 1);
    let finishes = [foreign.claim, held[0].claim, unknown, held[1].claim, held[1].claim];
    let finishes = finishes.into_iter().map(|claim| finish(claim, success())).collect();
    let verdicts = server.finish_all(finishes).await;
    use Verdict::{Already, Applied, Fenced, Missing};
    assert_eq!(verdicts, [Fenced, Already, Missing, Applied, Already]);
    assert_eq!(s.state(foreign.claim.job).await, StateName::Processing);
}

/// A cycle without a wish claims nothing.
pub async fn cycle_without_wish_claims_nothing(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_one().await;
    let cycle = server.cycle(server.request()).await;
    assert!(cycle.claimed.is_empty() && cycle.verdicts.is_empty());
    s.expect_count(StateName::Enqueued, 1).await;
}

/// A cycle of a dead server is refused whole: it finishes nothing and claims nothing.
pub async fn cycle_of_dead_server_applies_nothing(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(2).await;
    let held = server.claim_one().await;
    s.lapse().await;
    s.rescue().await;
    let finished = vec![finish(held.claim, success())];
    let answer = server.try_cycle(CycleRequest { finished, ..server.wish(5) }).await;
    assert!(is_gone(&answer), "{answer:?}");
    for id in ids {
        assert_eq!(s.state(id).await, StateName::Enqueued);
    }
}

/// Many finishes and a claim of many go in one cycle.
pub async fn cycle_of_a_thousand(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(2_000).await;
    let held = server.claim(1_000).await;
    let finished = held.iter().map(|job| finish(job.claim, success())).collect();
    let cycle = server.cycle(CycleRequest { finished, ..server.wish(1_000) }).await;
    assert!(cycle.verdicts.iter().all(|verdict| *verdict == Verdict::Applied));
    assert_eq!(cycle.claimed.len(), 1_000);
    s.expect_count(StateName::Succeeded, 1_000).await;
    s.expect_count(StateName::Processing, 1_000).await;
}

/// A repeat of a wish for a paused queue answers what was claimed before the pause.
pub async fn cycle_repeat_looks_at_no_pause(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_in("mail").await;
    let claim = Some(ClaimRequest { queues: vec![queue("mail")], max: 1, aging: None });
    let request = CycleRequest { claim, ..server.request() };
    let first = server.cycle(request.clone()).await;
    s.pause("mail", true).await;
    let again = server.cycle(repeat(&request)).await;
    assert_eq!(claims(&again.claimed), claims(&first.claimed));
}
