//! Servers, their orderly end, the pause of queues, and the cancellation of what runs.

use portfire_core::{LostReason, Outcome, QueueName, StateName, Verdict};

use crate::server::{Server, claims, is_gone, retry, success};
use crate::stage::{DAY, LEASE, Stage, queue, secs};

/// An announced server is listed with everything it said, alive and with a lease from now.
pub async fn server_register(s: Stage) {
    let mut server = Server::new(s.clone(), "web é", secs(45));
    server.new.queues = vec![queue("critical"), queue("default")];
    server.new.workers = 17;
    let before = s.now().await;
    server.announce().await.expect("a new server is taken");
    let record = s.server_record(&server.id()).await.expect("listed");
    assert_eq!((record.name, record.queues), (server.new.name.clone(), server.new.queues.clone()));
    assert_eq!((record.workers, record.lease), (17, secs(45)));
    assert!(record.started_at >= before);
    assert_eq!(record.heartbeat_at, record.started_at);
    assert_eq!(record.lease_until.since(record.started_at), secs(45));
    assert_eq!((record.processing, record.dead), (0, false));
}

/// An announcement that is repeated while the server is alive only renews the lease.
pub async fn server_register_twice_renews(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_one().await;
    let held = server.claim_one().await;
    let before = s.server_record(&server.id()).await.expect("listed");
    s.advance(secs(20)).await;
    server.announce().await.expect("alive");
    let after = s.server_record(&server.id()).await.expect("listed");
    assert_eq!(after.started_at, before.started_at);
    assert_eq!(after.lease_until.since(before.lease_until), secs(20));
    assert_eq!(after.processing, 1);
    server.end(held.claim, success()).await;
}

/// A heartbeat is noted with its instant.
pub async fn server_heartbeat(s: Stage) {
    let server = s.server("a").await;
    let before = s.server_record(&server.id()).await.expect("listed");
    s.advance(secs(9)).await;
    server.heartbeat(&[]).await.expect("alive");
    let after = s.server_record(&server.id()).await.expect("listed");
    assert_eq!(after.started_at, before.started_at);
    assert_eq!(after.heartbeat_at.since(before.heartbeat_at), secs(9));
}

/// The jobs that a server holds are counted with it.
pub async fn server_processing_is_counted(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(5).await;
    let held = server.claim(3).await;
    let processing = async || s.server_record(&server.id()).await.expect("listed").processing;
    assert_eq!(processing().await, 3);
    server.end(held[0].claim, success()).await;
    assert_eq!(processing().await, 2);
    let _ = s.delete(held[1].claim.job).await;
    assert_eq!(processing().await, 1);
}

/// A dead server is listed for a day and then forgotten.
pub async fn server_dead_removed(s: Stage) {
    let server = s.server("a").await;
    s.lapse().await;
    s.rescue().await;
    s.advance(DAY - secs(60)).await;
    s.clean(100).await;
    assert!(s.server_record(&server.id()).await.expect("still listed").dead);
    s.advance(secs(120)).await;
    s.clean(100).await;
    assert_eq!(s.server_record(&server.id()).await, None);
    assert!(is_gone(&server.heartbeat(&[]).await), "forgotten is not alive");
    assert!(is_gone(&server.announce().await), "a dead id is refused for ever");
}

/// A live server is never forgotten, however old it is.
pub async fn server_live_not_removed(s: Stage) {
    let server = s.server_with_lease("a", 2 * DAY).await;
    for _ in 0..5 {
        s.advance(DAY).await;
        s.clean(100).await;
        s.rescue().await;
        server.heartbeat(&[]).await.expect("alive");
    }
    assert!(!s.server_record(&server.id()).await.expect("listed").dead);
}

/// A dead server whose jobs have not all been returned is not forgotten before they are.
pub async fn server_dead_jobs_requeued(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(2).await;
    server.claim(2).await;
    s.lapse().await;
    let one = portfire_core::RescueRequest { max: 1, ..Default::default() };
    assert!(s.rescue_with(one).await.more);
    s.advance(2 * DAY).await;
    s.clean(100).await;
    assert_eq!(s.rescue_with(one).await.returned, 1);
    s.expect_count(StateName::Enqueued, 2).await;
}

/// Two servers of one name are two servers.
pub async fn server_two_with_one_name(s: Stage) {
    let first = s.server("web").await;
    let mut second = Server::new(s.clone(), "web", LEASE);
    second.new.id = portfire_core::ServerId::new("web:1:another");
    second.announce().await.expect("another id is another server");
    s.enqueue(2).await;
    first.claim_one().await;
    second.claim_one().await;
    first.retire().await;
    assert!(is_gone(&first.heartbeat(&[]).await));
    second.heartbeat(&[]).await.expect("alive");
    s.expect_count(StateName::Processing, 1).await;
}

/// A server that ends in good order gives back what it holds, at once and to its old place.
pub async fn server_graceful_unregister_releases(s: Stage) {
    let server = s.server("a").await;
    let ids = s.enqueue(4).await;
    server.claim(2).await;
    server.retire().await;
    let next = s.server("b").await;
    let order: Vec<_> = next.claim(10).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(order, ids);
}

/// What is given back at the end keeps its failures and recoveries.
pub async fn shutdown_release_keeps_failures(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, retry(0)).await;
    s.promote().await;
    s.server("b").await.claim_one().await;
    s.lapse().await;
    s.rescue().await;
    server.claim_one().await;
    server.retire().await;
    let record = s.record(id).await;
    assert_eq!(record.state.name(), StateName::Enqueued);
    assert_eq!((record.failures, record.recoveries), (1, 1));
    assert_eq!(s.counts().await.recovered_total, 1);
}

/// A retired id is dead: it can do nothing any more, and its finishes count no more.
pub async fn retire_is_for_ever(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_one().await;
    let held = server.claim_one().await;
    server.retire().await;
    assert!(is_gone(&server.heartbeat(&[]).await));
    assert!(is_gone(&server.announce().await));
    assert!(is_gone(&server.verify(&[]).await));
    let finished = vec![crate::server::finish(held.claim, success())];
    let cycle = portfire_core::CycleRequest { finished, ..server.request() };
    assert!(is_gone(&server.try_cycle(cycle).await));
    s.expect_count(StateName::Enqueued, 1).await;
}

/// Retiring twice changes nothing the second time.
pub async fn retire_twice_changes_nothing(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.claim_one().await;
    server.retire().await;
    let before = (s.record(id).await, s.counts().await);
    s.advance(secs(1)).await;
    server.retire().await;
    assert_eq!((s.record(id).await, s.counts().await), before);
}

/// Retiring an unknown id changes nothing.
pub async fn retire_unknown_changes_nothing(s: Stage) {
    let server = Server::new(s.clone(), "ghost", LEASE);
    server.retire().await;
    assert_eq!(s.storage().servers().await.expect("read"), []);
    server.announce().await.expect("it was never used");
}

/// Retiring a server that was declared dead keeps its jobs from being counted twice.
pub async fn retire_of_dead_changes_nothing(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.claim_one().await;
    s.lapse().await;
    s.rescue().await;
    let before = (s.record(id).await, s.counts().await);
    server.retire().await;
    assert_eq!((s.record(id).await, s.counts().await), before);
}

/// Retiring leaves other servers' jobs alone.
pub async fn retire_spares_others(s: Stage) {
    let (a, b) = (s.server("a").await, s.server("b").await);
    s.enqueue(2).await;
    a.claim_one().await;
    let held = b.claim_one().await;
    a.retire().await;
    assert!(b.verify(&[held.claim]).await.expect("alive").is_empty());
    b.end(held.claim, success()).await;
}

/// What a retiring server gives back is announced to those that idle.
pub async fn retire_wakes_idle_worker(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_one().await;
    server.claim_one().await;
    let mut wakeups = s.storage().wakeups();
    server.retire().await;
    s.heard(wakeups.work(), "the job that was given back").await;
}

/// A paused queue gives no job until it is resumed.
pub async fn queue_pause_resume(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    s.pause("default", true).await;
    assert!(s.queue("default").await.expect("listed").paused);
    assert!(server.claim(1).await.is_empty());
    s.pause("default", false).await;
    assert!(!s.queue("default").await.expect("listed").paused);
    assert_eq!(server.claim_one().await.claim.job, id);
}

/// A paused queue takes jobs, in their order.
pub async fn queue_paused_takes_jobs(s: Stage) {
    let server = s.server("a").await;
    s.pause("default", true).await;
    let ids = s.enqueue(3).await;
    s.pause("default", false).await;
    let order: Vec<_> = server.claim(3).await.iter().map(|job| job.claim.job).collect();
    assert_eq!(order, ids);
}

/// What runs when its queue is paused runs on to its end.
pub async fn queue_drain(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(3).await;
    let held = server.claim(2).await;
    s.pause("default", true).await;
    assert!(server.heartbeat(&claims(&held)).await.expect("alive").is_empty());
    server.end(held[0].claim, success()).await;
    server.end(held[1].claim, Outcome::Released).await;
    assert!(server.claim(3).await.is_empty(), "what comes back to a paused queue stays there");
    s.expect_count(StateName::Enqueued, 2).await;
}

/// A queue can be paused before its first job.
pub async fn queue_paused_before_it_exists(s: Stage) {
    let server = s.server("a").await;
    s.pause("later", true).await;
    assert!(s.queue("later").await.expect("listed").paused);
    s.enqueue_in("later").await;
    assert!(server.claim_from(&["later"], 1).await.is_empty());
}

/// Pausing or resuming twice changes nothing the second time.
pub async fn queue_pause_twice_changes_nothing(s: Stage) {
    for paused in [true, false] {
        s.pause("q", paused).await;
        let before = s.queue("q").await;
        s.pause("q", paused).await;
        assert_eq!(s.queue("q").await, before);
    }
}

/// Pausing one queue leaves the others alone.
pub async fn queue_pause_spares_others(s: Stage) {
    let server = s.server("a").await;
    s.enqueue_in("a").await;
    s.enqueue_in("a-b").await;
    s.pause("a", true).await;
    assert_eq!(server.claim_from(&["a", "a-b"], 5).await.len(), 1);
    assert!(!s.queue("a-b").await.expect("listed").paused);
}

/// Jobs of a paused queue are promoted, deleted and asked for as ever.
pub async fn queue_paused_is_steered_as_ever(s: Stage) {
    let mut job = s.new_job_in("q");
    job.when = secs(5).into();
    let later = s.create_one(job).await;
    s.pause("q", true).await;
    s.advance(secs(5)).await;
    assert_eq!(s.promote().await.promoted, 1);
    assert_eq!(s.state(later).await, StateName::Enqueued);
    assert!(s.delete(later).await.is_done());
    assert!(s.requeue(later).await.is_done());
    assert_eq!(s.state(later).await, StateName::Enqueued);
}

/// The longest legal queue name works everywhere.
pub async fn queue_name_of_the_longest_kind(s: Stage) {
    let server = s.server("a").await;
    let name = QueueName::new("0".repeat(64)).expect("legal");
    let mut job = s.new_job();
    job.queue = name.clone();
    s.create(vec![job]).await;
    s.storage().set_queue_paused(name.clone(), true).await.expect("paused");
    s.storage().set_queue_paused(name.clone(), false).await.expect("resumed");
    let claim = Some(portfire_core::ClaimRequest { queues: vec![name], max: 1, aging: None });
    let request = portfire_core::CycleRequest { claim, ..server.request() };
    assert_eq!(server.cycle(request).await.claimed.len(), 1);
}

/// A running job that is deleted is taken from its holder at once, and the holder hears of it.
pub async fn cancel_running_signals(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    let mut wakeups = s.storage().wakeups();
    let _ = s.delete(id).await;
    s.heard(wakeups.control(), "the cancellation").await;
    let told = server.verify(&[held.claim]).await.expect("alive");
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].claim, told[0].reason), (held.claim, LostReason::Deleted));
    assert_eq!(s.state(id).await, StateName::Deleted);
}

/// The finish of a job that was deleted while it ran leaves no trace.
pub async fn cancel_delete_fences_finish(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    let _ = s.delete(id).await;
    let before = (s.record(id).await, s.history(id).await, s.counts().await);
    assert_eq!(server.finish(held.claim, success()).await, Verdict::Fenced);
    assert_eq!((s.record(id).await, s.history(id).await, s.counts().await), before);
}

/// A deleted job that is asked for again while its old holder still runs belongs to the new holder.
pub async fn cancel_then_requeue_fences_the_old(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let old = server.claim_one().await;
    let _ = s.delete(id).await;
    let _ = s.requeue(id).await;
    let new = server.claim_one().await;
    assert_eq!(new.claim.attempt, 2);
    assert_eq!(server.finish(old.claim, success()).await, Verdict::Fenced);
    let told = server.verify(&[old.claim, new.claim]).await.expect("alive");
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].claim, told[0].reason), (old.claim, LostReason::Taken));
    server.end(new.claim, success()).await;
}

/// The pause of a queue is announced, and its resumption.
pub async fn pause_and_resume_are_heard(s: Stage) {
    s.enqueue_one().await;
    let mut wakeups = s.storage().wakeups();
    s.pause("default", true).await;
    s.heard(wakeups.control(), "the pause").await;
    s.pause("default", false).await;
    s.heard(wakeups.next(), "the resumption").await;
}

/// Each listener hears, and a hint that came before the wait is still there.
pub async fn every_listener_hears(s: Stage) {
    let mut listeners: Vec<_> = (0..5).map(|_| s.storage().wakeups()).collect();
    s.enqueue_one().await;
    for listener in &mut listeners {
        s.heard(listener.work(), "the new job").await;
    }
}
