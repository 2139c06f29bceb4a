//! How ends spread: cascades, floods of children that are released in pieces, and races.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};

use portfire_core::storage::RELEASE_MAX;
use portfire_core::{After, Cause, Dependency, JobId, NewJob, Retention, StateName};

use crate::server::{discard, success};
use crate::stage::{DAY, Stage, ids, secs};

use StateName::{Awaiting, Deleted, Enqueued};

/// A chain of jobs, each after the success of the one before, behind `first`.
fn chain(s: &Stage, first: JobId, links: usize) -> Vec<NewJob> {
    let mut last = first;
    let link = |_| {
        let job = s.new_after([Dependency::on(last)]);
        last = job.id;
        job
    };
    (0..links).map(link).collect()
}

/// A job that cannot run any more is deleted, and so is what waits for its success; what waits for its
/// end runs.
pub async fn continue_cascade_of_deletions(s: Stage) {
    let server = s.server("a").await;
    let top = s.enqueue_one().await;
    let links = ids(&s.create(chain(&s, top, 3)).await);
    let end = s.continue_on(links[2], After::End).await;
    let undo = s.continue_on(links[0], After::Deletion).await;
    server.run(top, discard()).await;
    assert_eq!(s.reason(links[0]).await, Dependency::on(top).unmet_reason(Deleted));
    assert_eq!(s.reason(links[1]).await, Dependency::on(links[0]).unmet_reason(Deleted));
    assert_eq!(s.state(links[2]).await, Deleted);
    assert_eq!((s.state(end).await, s.state(undo).await), (Enqueued, Enqueued));
    s.expect_count(Awaiting, 0).await;
}

/// A continuation that cannot run at its creation takes those behind it in the same call with it.
pub async fn continue_cascade_at_creation(s: Stage) {
    let server = s.server("a").await;
    let top = s.enqueue_one().await;
    server.run(top, discard()).await;
    let mut jobs = chain(&s, top, 3);
    jobs.push(s.new_after([Dependency::on(jobs[2].id).after(After::End)]));
    let made = ids(&s.create(jobs).await);
    for &job in &made[..3] {
        assert_eq!(s.causes(job).await, [Cause::Created, Cause::Deleted]);
    }
    assert_eq!(s.state(made[3]).await, Enqueued);
}

/// A deletion by hand spreads in the call that asks for it, to each job once, whatever the way.
pub async fn continue_cascade_through_a_diamond(s: Stage) {
    let top = s.enqueue_one().await;
    let sides = s.continue_many(top, 3).await;
    let bottom = s.create_one(s.new_after(sides.iter().map(|&side| Dependency::on(side)))).await;
    let _ = s.delete(top).await;
    assert_eq!(s.record(bottom).await.revision, 2);
    assert_eq!(s.reason(bottom).await, Dependency::on(sides[0]).unmet_reason(Deleted));
    s.expect_count(Deleted, 5).await;
}

/// The end of a parent of 5,000 releases a thousand; promotions release the rest, each child once.
pub async fn continue_5000_children_outbox(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let children = s.continue_many(parent, 5_000).await;
    server.run(parent, success()).await;
    s.expect_count(Enqueued, RELEASE_MAX as u64).await;
    assert_eq!(s.state(children[999]).await, Enqueued, "in the order of creation");
    assert_eq!(s.state(children[1_000]).await, Awaiting);
    let promoted = s.storage().promote(500).await.expect("promoted");
    assert_eq!((promoted.promoted, promoted.released), (0, 500));
    assert_eq!(promoted.next_in, Some(secs(0)), "there is more to do at once");
    s.expect_count(Enqueued, 1_500).await;
    let rest = s.promote_all().await;
    assert_eq!((rest.released, rest.next_in), (3_500, None));
    let mut claimed = Vec::new();
    while claimed.len() < 5_000 {
        claimed.extend(server.claim(5_000).await.iter().map(|job| job.claim.job));
    }
    assert_eq!(claimed, children);
}

/// What a call leaves undone is done by promotions in the order of the ends.
pub async fn release_goes_on_in_the_order_of_the_ends(s: Stage) {
    let parents = s.enqueue(2).await;
    let first = s.continue_many(parents[0], 1_200).await;
    let second = s.continue_many(parents[1], 3).await;
    let server = s.server("a").await;
    for &parent in &parents {
        server.run(parent, success()).await;
    }
    s.expect_count(Enqueued, 1_003).await;
    assert_eq!(s.state(second[2]).await, Enqueued, "a later end does its own thousand");
    assert_eq!(s.promote().await.released, 200);
    assert_eq!(s.state(first[1_199]).await, Enqueued);
}

/// Deletions that spread count as releases do: a long chain falls in pieces.
pub async fn release_of_a_long_cascade_in_pieces(s: Stage) {
    let server = s.server("a").await;
    let top = s.enqueue_one().await;
    let links = ids(&s.create(chain(&s, top, 2_500)).await);
    let end = s.continue_on(links[2_499], After::End).await;
    server.run(top, discard()).await;
    s.expect_count(Deleted, RELEASE_MAX as u64 + 1).await;
    let promoted = s.promote_all().await;
    assert_eq!(promoted.released, 1_501);
    assert_eq!(promoted.promoted, 0);
    s.expect_count(Deleted, 2_501).await;
    assert_eq!(s.state(end).await, Enqueued);
}

/// Releases and promotions together are at most what was asked, releases first.
pub async fn promote_max_bounds_releases_too(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    s.continue_many(parent, 1_010).await;
    let scheduled = s.schedule(secs(1)).await;
    server.run(parent, success()).await;
    s.advance(secs(1)).await;
    let promoted = s.storage().promote(8).await.expect("promoted");
    assert_eq!((promoted.released, promoted.promoted), (8, 0));
    let nothing = s.storage().promote(0).await.expect("promoted");
    assert_eq!((nothing.released, nothing.promoted), (0, 0));
    assert_eq!(nothing.next_in, Some(secs(0)));
    let promoted = s.storage().promote(3).await.expect("promoted");
    assert_eq!((promoted.released, promoted.promoted, promoted.next_in), (2, 1, None));
    assert_eq!(s.state(scheduled).await, Enqueued);
}

/// A batch may end while its start is still told to its members: who waits for its end is told all the same.
pub async fn release_of_an_end_behind_its_own_start(s: Stage) {
    let batch = s.new_open_batch();
    let id = batch.id;
    let members = ids(&s.store(vec![batch], s.new_members(id, RELEASE_MAX + 5)).await);
    let next = s.continue_on(id, After::End).await;
    let _ = s.seal(id).await;
    s.expect_count(Awaiting, 6).await;
    for &member in &members {
        let _ = s.delete(member).await;
    }
    s.promote_all().await;
    assert_eq!(s.state(next).await, Enqueued);
}

/// A listener that idles hears that more is left to release.
pub async fn release_left_over_wakes_the_promoter(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    // They are all deleted: nothing else of this end would be worth a hint.
    s.continue_many(parent, 1_001).await;
    let held = server.claim_job(parent).await;
    let mut wakeups = s.storage().wakeups();
    server.end(held.claim, discard()).await;
    s.heard(wakeups.work(), "releases that are left over").await;
    s.promote_all().await;
    s.expect_count(Deleted, 1_002).await;
}

/// Promoters that go on with releases at once release each job once.
pub async fn release_by_8_promoters_once(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let children = s.continue_many(parent, 3_000).await;
    server.run(parent, success()).await;
    let promoters: Vec<_> = (0..8)
        .map(|_| {
            let s = s.clone();
            tokio::spawn(async move { s.promote_all().await.released })
        })
        .collect();
    let mut released = 0;
    for promoter in promoters {
        released += promoter.await.expect("the promoter ends");
    }
    assert_eq!(released, 2_000);
    s.expect_count(Enqueued, 3_000).await;
    assert_eq!(s.record(children[2_999]).await.revision, 2);
}

/// A parent is not cleaned while jobs wait for it, even when its retention has ended.
pub async fn continue_parent_not_expired_while_waiting(s: Stage) {
    let server = s.server("a").await;
    let mut parent = s.new_job();
    let at_once = Retention { succeeded: Some(secs(0)), failed: None, deleted: None };
    parent.options.retention = Some(at_once);
    let parent = s.create_one(parent).await;
    let children = s.continue_many(parent, 1_500).await;
    server.run(parent, success()).await;
    s.advance(secs(60)).await;
    assert_eq!(s.clean(10).await.jobs, 0);
    assert_eq!(s.state(children[1_499]).await, Awaiting);
    s.promote_all().await;
    assert_eq!(s.clean(10).await.jobs, 1);
    assert_eq!(s.find(parent).await, None);
    assert_eq!(s.state(children[1_499]).await, Enqueued);
}

/// A requeued parent whose children are still being released releases them all, once.
pub async fn release_survives_a_requeue_of_the_parent(s: Stage) {
    let server = s.server("a").await;
    let parent = s.enqueue_one().await;
    let children = s.continue_many(parent, 1_500).await;
    server.run(parent, success()).await;
    let _ = s.requeue(parent).await;
    s.promote_all().await;
    s.expect_count(Awaiting, 0).await;
    assert_eq!(s.record(children[1_499]).await.revision, 2);
}

/// A child that is added while its parent ends is released by one of the two, in a thousand races of two
/// threads.
pub async fn continue_added_while_finishing_1000_rounds_never_stuck(s: Stage) {
    const ROUNDS: usize = 1_000;
    let server = Arc::new(s.server_with_lease("a", DAY).await);
    s.enqueue(ROUNDS).await;
    let held = server.claim(ROUNDS as u32).await;
    assert_eq!(held.len(), ROUNDS);
    let children: Vec<NewJob> =
        held.iter().map(|job| s.new_after([Dependency::on(job.claim.job)])).collect();
    let expected: BTreeSet<JobId> = children.iter().map(|child| child.id).collect();
    let line = Arc::new(Barrier::new(2));
    let handle = tokio::runtime::Handle::current();
    let parents = {
        let (server, line, handle) = (server.clone(), line.clone(), handle.clone());
        std::thread::spawn(move || {
            for (round, job) in held.iter().enumerate() {
                line.wait();
                (0..round % 64 * 20).for_each(|_| std::hint::spin_loop());
                handle.block_on(server.end(job.claim, success()));
            }
        })
    };
    let adding = {
        let s = s.clone();
        std::thread::spawn(move || {
            for (round, child) in children.into_iter().enumerate() {
                line.wait();
                (0..round / 64 * 20).for_each(|_| std::hint::spin_loop());
                handle.block_on(s.create(vec![child]));
            }
        })
    };
    // The threads are waited for without holding up the runtime that serves them.
    tokio::task::spawn_blocking(move || {
        parents.join().expect("the parents end");
        adding.join().expect("the children are added");
    })
    .await
    .expect("both threads end");
    s.expect_count(Awaiting, 0).await;
    let mut released = BTreeSet::new();
    loop {
        let claimed = server.claim(ROUNDS as u32).await;
        if claimed.is_empty() {
            break;
        }
        released.extend(claimed.iter().map(|job| job.claim.job));
    }
    assert_eq!(released, expected);
}

/// The two parents of a child that end at the same time release it once, in a hundred races.
pub async fn continue_diamond_parents_end_at_once(s: Stage) {
    const ROUNDS: usize = 100;
    let server = Arc::new(s.server_with_lease("a", DAY).await);
    s.enqueue(2 * ROUNDS).await;
    let held = server.claim(2 * ROUNDS as u32).await;
    let pair = |pair: &[portfire_core::ClaimedJob]| {
        s.new_after(pair.iter().map(|job| Dependency::on(job.claim.job)))
    };
    let children = ids(&s.create(held.chunks(2).map(pair).collect()).await);
    for pair in held.chunks(2) {
        let ends = [pair[0].claim, pair[1].claim].map(|claim| {
            let server = server.clone();
            tokio::spawn(async move { server.end(claim, success()).await })
        });
        for end in ends {
            end.await.expect("the parent ends");
        }
    }
    for child in children {
        assert_eq!(s.causes(child).await, [Cause::Created, Cause::Continued]);
    }
}
