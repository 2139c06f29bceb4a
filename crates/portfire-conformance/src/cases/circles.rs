//! Circles: a member that would wait for what waits for its own batch is refused, and nothing else is.

use portfire_core::circle::CIRCLE_STEPS_MAX;
use portfire_core::{After, Antecedent, BatchId, Dependency, InvalidJob, NewJob, StateName};

use crate::stage::Stage;

/// A member that waits for one end of these.
fn member(s: &Stage, batch: BatchId, after: &[Antecedent]) -> NewJob {
    let mut job = s.new_member(batch);
    job.ties.after = after.iter().map(|&on| Dependency::on(on).after(After::End)).collect();
    job
}

/// Why it is refused, which must be about this batch.
fn reason(refused: &InvalidJob, about: BatchId) -> String {
    match refused {
        InvalidJob::Batch { batch, reason } if *batch == about => reason.clone(),
        other => panic!("expected a refusal about batch {about}, not {other:?}"),
    }
}

/// A member of a batch cannot wait for a job that waits for the end of that batch; the refusal names both.
pub async fn circle_through_a_batch_is_refused(s: Stage) {
    let (batch, _) = s.batch(1).await;
    let after = s.continue_on(batch, After::End).await;
    let closing = member(&s, batch, &[after.into()]);
    let refused = s.refused(vec![], vec![closing.clone()]).await;
    assert_eq!(
        reason(&refused, batch),
        format!(
            "job {} cannot stand in it: it waits for job {after}, which waits for the end of the batch",
            closing.id
        )
    );
    assert_eq!(s.members(batch).await[0], 1, "the batch has no other member");
}

/// The way may lead over other jobs, and end at a batch around that of the member.
pub async fn circle_over_several_is_refused(s: Stage) {
    let outer = s.new_batch();
    let mut inner = s.new_batch();
    inner.parent = Some(outer.id);
    let members = vec![s.new_member(outer.id), s.new_member(inner.id)];
    s.store(vec![outer.clone(), inner.clone()], members).await;
    let first = s.continue_with(outer.id).await;
    let second = s.continue_on(first, After::Failure).await;
    let third = s.continue_with(second).await;
    let refused = s.refused(vec![], vec![member(&s, inner.id, &[third.into()])]).await;
    let reason = reason(&refused, outer.id);
    let way = format!(
        "waits for job {third}, which waits for job {second}, which waits for job {first}, which waits for the end"
    );
    assert!(reason.contains(&way), "{reason}");
}

/// A batch that is to stand in another cannot wait for what waits for that.
pub async fn circle_of_a_nested_batch_is_refused(s: Stage) {
    let (outer, _) = s.batch(1).await;
    let after = s.continue_with(outer).await;
    let mut inner = s.new_batch();
    inner.parent = Some(outer);
    inner.after = vec![Dependency::on(after)];
    let refused = s.refused(vec![inner.clone()], vec![s.new_member(inner.id)]).await;
    assert!(reason(&refused, outer).starts_with(&format!("batch {} cannot", inner.id)));
}

/// The way may lead through the members of another batch, and through what a batch waits for before it starts.
pub async fn circle_through_other_batches_is_refused(s: Stage) {
    let (batch, _) = s.batch(1).await;
    let mut next = s.new_batch();
    next.after = vec![Dependency::on(batch)];
    let (next, waiting) = s.batch_of(next, 2).await;
    let (other, _) = s.batch(3).await;
    s.create_one(member(&s, other, &[waiting[1].into()])).await;
    for on in [Antecedent::from(next), waiting[0].into(), other.into()] {
        let refused = s.refused(vec![], vec![member(&s, batch, &[on])]).await;
        reason(&refused, batch);
    }
}

/// A circle that lies in one call is refused with the whole call.
pub async fn circle_within_a_call_is_refused(s: Stage) {
    let (batch, other) = (s.new_batch(), s.new_batch());
    let after = s.new_after([Dependency::on(batch.id)]);
    let between = member(&s, other.id, &[after.id.into()]);
    let closing = member(&s, batch.id, &[other.id.into()]);
    let batches = vec![batch.clone(), other];
    let refused = s.refused(batches, vec![after, between, closing]).await;
    reason(&refused, batch.id);
}

/// Who waits for what has ended, or is followed by nothing that leads back, stands in no circle.
pub async fn circle_is_not_seen_where_there_is_none(s: Stage) {
    let server = s.server("a").await;
    let (batch, members) = s.batch(2).await;
    let after = s.continue_on(batch, After::End).await;
    // Others of the same batch, what they wait for, and other batches.
    let chained = s.create_one(member(&s, batch, &[members[0].into()])).await;
    let (nested, _) = {
        let mut nested = s.new_batch();
        nested.parent = Some(batch);
        s.batch_of(nested, 1).await
    };
    let (apart, _) = s.batch(1).await;
    s.create_one(member(&s, batch, &[chained.into(), nested.into(), apart.into()])).await;
    // What waited for the batch, and waits no more.
    let _ = s.delete(after).await;
    let last = s.create_one(member(&s, batch, &[after.into()])).await;
    assert_eq!(s.state(last).await, StateName::Enqueued, "what is deleted has ended");
    let moved = s.continue_with(batch).await;
    let _ = s.requeue(moved).await;
    let last = s.create_one(member(&s, batch, &[moved.into()])).await;
    assert_eq!(s.pending(last).await, 1);
    server.work_off().await;
    assert_eq!(s.state(last).await, StateName::Succeeded);
    assert_eq!(s.members(batch).await[1], 0, "all have ended");
}

/// A chain of members in one call is no circle however long it is, and one that follows it is still found.
pub async fn circle_after_a_chain_is_found(s: Stage) {
    let (batch, _) = s.batch(1).await;
    let after = s.continue_with(batch).await;
    let mut chain: Vec<NewJob> = Vec::new();
    for _ in 0..CIRCLE_STEPS_MAX / 2 {
        let before: Vec<Antecedent> = chain.last().map(|job| job.id.into()).into_iter().collect();
        chain.push(member(&s, batch, &before));
    }
    s.store(vec![], chain.clone()).await;
    chain.iter_mut().for_each(|job| job.id = s.id());
    for at in 1..chain.len() {
        chain[at].ties.after = vec![Dependency::on(chain[at - 1].id)];
    }
    chain.push(member(&s, batch, &[after.into()]));
    let refused = s.refused(vec![], chain).await;
    reason(&refused, batch);
}

/// A member may wait for a batch of more members than are looked at.
pub async fn circle_search_is_bounded(s: Stage) {
    let (batch, _) = s.batch(1).await;
    let after = s.continue_with(batch).await;
    let (large, members) = s.batch(CIRCLE_STEPS_MAX).await;
    // What lies behind so many is not seen.
    s.create_one(member(&s, large, &[members[0].into()])).await;
    s.create_one(member(&s, large, &[after.into()])).await;
    let waits = s.create_one(member(&s, batch, &[large.into()])).await;
    assert_eq!(s.pending(waits).await, 1);
}
