//! What a parent hands to its continuation: its state, and its result or error.

use portfire_core::{
    After, Antecedent, Dependency, ErrorRecord, Outcome, ParentOutcome, StateName,
};

use crate::server::{discard, error, failure, result, retry, success};
use crate::stage::{DAY, Stage, json, secs};

fn outcome(parent: impl Into<Antecedent>, state: StateName) -> ParentOutcome {
    ParentOutcome { parent: parent.into(), state, result: None, error: None }
}

/// The result of a parent comes with the claim of its continuation, byte for byte.
pub async fn continue_result_passed(s: Stage) {
    let server = s.server("a").await;
    for text in [r#"{ "rows" : 17,"rows":18 }"#, "null", "\"\\u0000 é\""] {
        let parent = s.enqueue_one().await;
        let child = s.create_one(s.new_after([Dependency::on(parent).passing()])).await;
        server.run(parent, result(text)).await;
        let claimed = server.claim_job(child).await;
        let passed = outcome(parent, StateName::Succeeded);
        assert_eq!(claimed.parents, [ParentOutcome { result: Some(json(text)), ..passed }]);
    }
}

/// A large result comes out whole.
pub async fn continue_large_result_passed(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.create_one(s.new_after([Dependency::on(parent).passing()])).await;
    let text = format!("\"{}\"", "x".repeat(1024 * 1024 - 2));
    server.run(parent, result(&text)).await;
    let claimed = server.claim_job(child).await;
    let passed = claimed.parents[0].result.as_ref().expect("a result");
    assert!(passed.as_str() == text, "a mebibyte comes out as it went in");
}

/// A large result is there for each that asked for it, also for one that came later, and for the last of them
/// when the parent and the others have been cleaned.
pub async fn continue_large_result_for_many(s: Stage) {
    let server = s.server_with_lease("a", 9 * DAY).await;
    let parent = s.enqueue_one().await;
    let asks = || s.new_after([Dependency::on(parent).passing()]);
    let mut children = vec![asks(), asks()];
    s.create(children.clone()).await;
    let text = format!("\"{}\"", "x".repeat(10_000));
    server.run(parent, result(&text)).await;
    children.push(asks());
    s.create(children[2..].to_vec()).await;
    let last = server.claim_job(children[0].id).await;
    for child in &children[1..] {
        let claimed = server.claim_job(child.id).await;
        assert_eq!(claimed.parents[0].result, Some(json(&text)));
        server.end(claimed.claim, success()).await;
    }
    s.advance(DAY + secs(1)).await;
    assert_eq!(s.clean(10).await.jobs, 3);
    server.end(last.claim, retry(0)).await;
    s.promote().await;
    let again = server.claim_job(children[0].id).await;
    assert_eq!(again.parents[0].result, Some(json(&text)));
}

/// Each end of a parent passes what it was: a large error stays with who asked before the next end.
pub async fn continue_large_errors_passed_apart(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let mut held = Vec::new();
    for text in ["first ", "second "] {
        let on = Dependency::on(parent).after(After::Failure).passing();
        let child = s.create_one(s.new_after([on])).await;
        let error = ErrorRecord { message: text.repeat(2_000), ..error() };
        server.run(parent, Outcome::Failed { error: error.clone() }).await;
        held.push((child, server.claim_job(child).await, error));
        let _ = s.requeue(parent).await;
    }
    for (child, claimed, error) in held {
        server.end(claimed.claim, Outcome::Released).await;
        let again = server.claim_job(child).await;
        assert_eq!(again.parents[0].error, Some(error));
    }
}

/// A parent that returned nothing passes its state alone.
pub async fn continue_no_result_passed(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.create_one(s.new_after([Dependency::on(parent).passing()])).await;
    server.run(parent, success()).await;
    let claimed = server.claim_job(child).await;
    assert_eq!(claimed.parents, [outcome(parent, StateName::Succeeded)]);
}

/// The error of a failed parent is passed on.
pub async fn continue_error_passed(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let on = Dependency::on(parent).after(After::Failure).passing();
    let child = s.create_one(s.new_after([on])).await;
    server.run(parent, failure()).await;
    let claimed = server.claim_job(child).await;
    let passed = outcome(parent, StateName::Failed);
    assert_eq!(claimed.parents, [ParentOutcome { error: Some(error()), ..passed }]);
}

/// A deleted parent passes the error that led to it, if one did.
pub async fn continue_deletion_passed(s: Stage) {
    let server = s.server("a").await;
    let with = portfire_core::Outcome::Discarded { reason: "x".into(), error: Some(error()) };
    for (end, expected) in [(discard(), None), (with, Some(error()))] {
        let parent = s.enqueue_one().await;
        let on = Dependency::on(parent).after(After::End).passing();
        let child = s.create_one(s.new_after([on])).await;
        server.run(parent, end).await;
        let claimed = server.claim_job(child).await;
        let passed = outcome(parent, StateName::Deleted);
        assert_eq!(claimed.parents, [ParentOutcome { error: expected, ..passed }]);
    }
}

/// Only what was asked for is passed, in the order in which the job names it.
pub async fn continue_passes_only_when_asked(s: Stage) {
    let server = s.server("a").await;
    let parents = s.enqueue(3).await;
    let after = [
        Dependency::on(parents[2]).passing(),
        Dependency::on(parents[1]),
        Dependency::on(parents[0]).passing(),
    ];
    let child = s.create_one(s.new_after(after)).await;
    for (n, &parent) in parents.iter().enumerate() {
        server.run(parent, result(&n.to_string())).await;
    }
    let claimed = server.claim_job(child).await;
    let passed = |n: usize| ParentOutcome {
        result: Some(json(&n.to_string())),
        ..outcome(parents[n], StateName::Succeeded)
    };
    assert_eq!(claimed.parents, [passed(2), passed(0)]);
}

/// A parent that had ended before its continuation was created passes its result all the same.
pub async fn continue_passes_of_an_ended_parent(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    server.run(parent, result("[1]")).await;
    let child = s.create_one(s.new_after([Dependency::on(parent).passing()])).await;
    let claimed = server.claim_job(child).await;
    let passed = outcome(parent, StateName::Succeeded);
    assert_eq!(claimed.parents, [ParentOutcome { result: Some(json("[1]")), ..passed }]);
}

/// What was passed is kept with the continuation, through retries, longer than the parent itself.
pub async fn continue_passed_outlives_the_parent(s: Stage) {
    let server = s.server_with_lease("a", 9 * DAY).await;
    let parent = s.enqueue_one().await;
    let child = s.create_one(s.new_after([Dependency::on(parent).passing()])).await;
    server.run(parent, result("[1]")).await;
    let first = server.claim_job(child).await;
    s.advance(DAY + secs(1)).await;
    assert_eq!(s.clean(10).await.jobs, 1);
    assert_eq!(s.find(parent).await, None);
    server.end(first.claim, retry(0)).await;
    s.promote().await;
    let second = server.claim_job(child).await;
    assert_eq!((second.claim.attempt, &second.parents), (2, &first.parents));
    assert_eq!(second.parents[0].result, Some(json("[1]")));
}

/// The first end is what is passed: another run of the parent changes nothing about it.
pub async fn continue_passes_the_first_end(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let child = s.create_one(s.new_after([Dependency::on(parent).passing()])).await;
    server.run(parent, result("1")).await;
    let held = server.claim_job(child).await;
    let _ = s.requeue(parent).await;
    server.run(parent, result("2")).await;
    server.end(held.claim, Outcome::Released).await;
    assert_eq!(server.claim_job(child).await.parents[0].result, Some(json("1")));
}

/// Of a batch only its state is passed.
pub async fn continue_batch_state_passed(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(1).await;
    let on = Dependency::on(batch).after(After::End).passing();
    let child = s.create_one(s.new_after([on])).await;
    server.run(members[0], failure()).await;
    let claimed = server.claim_job(child).await;
    assert_eq!(claimed.parents, [outcome(batch, StateName::Failed)]);
}

/// A repeated cycle answers what was passed again.
pub async fn continue_passed_again_by_a_repeat(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    s.create_one(s.new_after([Dependency::on(parent).passing()])).await;
    server.run(parent, result("1")).await;
    let wish = server.wish(1);
    let first = server.cycle(wish.clone()).await.claimed;
    let again = server.cycle(portfire_core::CycleRequest { repeated: true, ..wish }).await.claimed;
    assert_eq!(again, first);
    assert_eq!(first[0].parents.len(), 1);
}
