//! The history of a job: whole, in order, and exact for each way that a job can go.

use portfire_core::{
    Cause, HistoryEntry, JobId, Loss, Outcome, RescueRequest, ServerId, StateName, Timestamp,
    Verdict,
};

use crate::server::{error, failure, retry, success};
use crate::stage::{DAY, Stage, secs};

/// One expected line, without revision and instant.
#[derive(Debug, Default, PartialEq)]
struct Line {
    state: Option<StateName>,
    cause: Option<Cause>,
    server: Option<ServerId>,
    attempt: Option<u32>,
    waits: Option<std::time::Duration>,
    class: Option<String>,
    reason: Option<String>,
}

fn line(state: StateName, cause: Cause) -> Line {
    Line { state: Some(state), cause: Some(cause), ..Line::default() }
}

impl Line {
    fn by(self, server: &ServerId) -> Line {
        Line { server: Some(server.clone()), ..self }
    }
    fn of(self, attempt: u32) -> Line {
        Line { attempt: Some(attempt), ..self }
    }
    fn waits(self, seconds: u64) -> Line {
        Line { waits: Some(secs(seconds)), ..self }
    }
    fn class(self, class: &str) -> Line {
        Line { class: Some(class.into()), ..self }
    }
    fn reason(self, reason: &str) -> Line {
        Line { reason: Some(reason.into()), ..self }
    }
}

fn told(entry: HistoryEntry) -> Line {
    Line {
        state: Some(entry.state),
        cause: Some(entry.cause),
        server: entry.server,
        attempt: entry.attempt,
        waits: entry.run_at.map(|run_at| run_at.since(entry.at)),
        class: entry.error.map(|error| error.class),
        reason: entry.reason,
    }
}

async fn expect(s: &Stage, job: JobId, expected: &[Line]) {
    let history: Vec<Line> = s.history(job).await.into_iter().map(told).collect();
    assert_eq!(history, expected);
}

fn created() -> Line {
    line(StateName::Enqueued, Cause::Created)
}

fn claimed(server: &ServerId, attempt: u32) -> Line {
    line(StateName::Processing, Cause::Claimed).by(server).of(attempt)
}

/// A history begins with revision 1, the creation, at the instant of creation.
pub async fn history_starts_at_1(s: Stage) {
    let id = s.enqueue_one().await;
    let history = s.history(id).await;
    assert_eq!(history.len(), 1);
    assert_eq!((history[0].revision, history[0].cause), (1, Cause::Created));
    assert_eq!(history[0].at, s.record(id).await.created_at);
}

/// Revisions follow each other without a gap through a long life.
pub async fn history_contiguous(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let id = s.enqueue_one().await;
    for _ in 0..5 {
        server.end(server.claim_one().await.claim, retry(1)).await;
        s.advance(secs(1)).await;
        s.promote().await;
        server.end(server.claim_one().await.claim, Outcome::Released).await;
        server.end(server.claim_one().await.claim, success()).await;
        let _ = s.requeue(id).await;
    }
    let revisions: Vec<u32> = s.history(id).await.iter().map(|entry| entry.revision).collect();
    assert_eq!(revisions, (1..=41).collect::<Vec<u32>>());
    assert_eq!(s.record(id).await.revision, 41);
}

/// The last entry is the state that the job is in, at every step.
pub async fn history_matches_current(s: Stage) {
    let server = s.server("a").await;
    let id = s.schedule(secs(5)).await;
    let mut seen = Vec::new();
    for step in 0..6 {
        s.advance(secs(1)).await;
        match step {
            0 => drop(s.requeue(id).await),
            1 => server.end(server.claim_one().await.claim, failure()).await,
            2 => drop(s.reschedule(id, secs(60)).await),
            3 => drop(s.delete(id).await),
            4 => drop(s.requeue(id).await),
            _ => drop(server.claim_one().await),
        }
        let record = s.record(id).await;
        let history = s.history(id).await;
        crate::audit::check_history(&record, &history);
        seen.push(record.state.name());
    }
    use StateName::{Deleted, Enqueued, Failed, Processing, Scheduled};
    assert_eq!(seen, [Enqueued, Failed, Scheduled, Deleted, Enqueued, Processing]);
}

/// Each entry has the instant of its transition in storage time.
pub async fn history_times_are_those_of_the_transitions(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let start = s.now().await;
    s.advance(secs(3)).await;
    let held = server.claim_one().await;
    s.advance(secs(4)).await;
    server.end(held.claim, success()).await;
    s.advance(secs(5)).await;
    let _ = s.requeue(id).await;
    let since = |at: Timestamp| at.since(start).as_secs();
    let times: Vec<u64> = s.history(id).await.iter().map(|entry| since(entry.at)).collect();
    assert_eq!(times, [0, 3, 7, 12]);
}

/// A job that is not stored has no history.
pub async fn history_of_a_missing_job_is_empty(s: Stage) {
    s.enqueue_one().await;
    assert_eq!(s.history(s.id()).await, []);
}

/// created, claimed, succeeded.
pub async fn history_of_success(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, success()).await;
    let done = line(StateName::Succeeded, Cause::Succeeded).of(1);
    expect(&s, id, &[created(), claimed(&server.id(), 1), done]).await;
}

/// created with an instant, promoted, claimed, succeeded.
pub async fn history_of_a_delayed_job(s: Stage) {
    let server = s.server("a").await;
    let id = s.schedule(secs(10)).await;
    s.advance(secs(10)).await;
    s.promote().await;
    server.end(server.claim_one().await.claim, success()).await;
    let waiting = line(StateName::Scheduled, Cause::Created).waits(10);
    let promoted = line(StateName::Enqueued, Cause::Promoted);
    let done = line(StateName::Succeeded, Cause::Succeeded).of(1);
    expect(&s, id, &[waiting, promoted, claimed(&server.id(), 1), done]).await;
}

/// created, claimed, retried with error and instant, promoted, claimed, failed with error.
pub async fn history_of_a_retry(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, retry(20)).await;
    s.advance(secs(20)).await;
    s.promote().await;
    server.end(server.claim_one().await.claim, failure()).await;
    let class = error().class;
    let retried = line(StateName::Scheduled, Cause::Retried).of(1).waits(20).class(&class);
    let promoted = line(StateName::Enqueued, Cause::Promoted);
    let failed = line(StateName::Failed, Cause::Failed).of(2).class(&class);
    let (first, second) = (claimed(&server.id(), 1), claimed(&server.id(), 2));
    expect(&s, id, &[created(), first, retried, promoted, second, failed]).await;
}

/// The whole error of each failure stays in the history.
pub async fn history_keeps_each_error(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let mut errors = Vec::new();
    for n in 0..3 {
        let error = portfire_core::ErrorRecord::new(format!("E{n}"), format!("no. {n}\n'é'"));
        errors.push(error.clone());
        let outcome = Outcome::Retry { delay: secs(0), error };
        server.end(server.claim_one().await.claim, outcome).await;
        s.promote().await;
    }
    let kept: Vec<_> = s.history(id).await.into_iter().filter_map(|entry| entry.error).collect();
    assert_eq!(kept, errors);
}

/// created, claimed, snoozed with instant.
pub async fn history_of_a_snooze(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, Outcome::Snoozed { delay: secs(8) }).await;
    let snoozed = line(StateName::Scheduled, Cause::Snoozed).of(1).waits(8);
    expect(&s, id, &[created(), claimed(&server.id(), 1), snoozed]).await;
}

/// created, claimed, parked with instant.
pub async fn history_of_a_park(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, Outcome::Parked { delay: secs(8) }).await;
    let parked = line(StateName::Scheduled, Cause::Parked).of(1).waits(8);
    expect(&s, id, &[created(), claimed(&server.id(), 1), parked]).await;
}

/// created, claimed, released, claimed again.
pub async fn history_of_a_release(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, Outcome::Released).await;
    server.claim_one().await;
    let released = line(StateName::Enqueued, Cause::Released).of(1);
    let (first, second) = (claimed(&server.id(), 1), claimed(&server.id(), 2));
    expect(&s, id, &[created(), first, released, second]).await;
}

/// What a retiring server gives back is released in the history.
pub async fn history_of_a_retirement(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.claim_one().await;
    server.retire().await;
    assert_eq!(s.causes(id).await, [Cause::Created, Cause::Claimed, Cause::Released]);
}

/// created, claimed, rescued from its server, claimed by the next.
pub async fn history_of_a_rescue(s: Stage) {
    let dead = s.server("a").await;
    let id = s.enqueue_one().await;
    dead.claim_one().await;
    s.lapse().await;
    s.rescue().await;
    let next = s.server("b").await;
    next.claim_one().await;
    let alone = Loss::CrashedAlone.reason();
    let rescued = line(StateName::Enqueued, Cause::Rescued).by(&dead.id()).reason(alone);
    let (first, second) = (claimed(&dead.id(), 1), claimed(&next.id(), 2));
    expect(&s, id, &[created(), first, rescued, second]).await;
}

/// created, claimed, poisoned with its server and an error of class `poison`.
pub async fn history_of_a_poison(s: Stage) {
    let dead = s.server("a").await;
    let id = s.enqueue_one().await;
    dead.claim_one().await;
    s.lapse().await;
    s.rescue_with(RescueRequest { recoveries_max: 0, ..RescueRequest::default() }).await;
    let alone = Loss::CrashedAlone.reason();
    let poisoned = line(StateName::Failed, Cause::Poisoned).by(&dead.id()).class("poison");
    let poisoned = poisoned.reason(alone);
    expect(&s, id, &[created(), claimed(&dead.id(), 1), poisoned]).await;
}

/// created, claimed, discarded with reason, and with the error that led to it if one did.
pub async fn history_of_a_discard(s: Stage) {
    let server = s.server("a").await;
    for cause in [None, Some(error())] {
        let id = s.enqueue_one().await;
        let held = server.claim_one().await;
        let outcome = Outcome::Discarded { reason: "no user".into(), error: cause.clone() };
        server.end(held.claim, outcome).await;
        let mut gone = line(StateName::Deleted, Cause::Discarded).of(1).reason("no user");
        gone.class = cause.map(|error| error.class);
        expect(&s, id, &[created(), claimed(&server.id(), 1), gone]).await;
    }
}

/// created, claimed, deleted with reason: nobody's attempt ended it.
pub async fn history_of_a_delete_while_processing(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    let held = server.claim_one().await;
    let _ = s.delete(id).await;
    server.finish(held.claim, success()).await;
    let gone = line(StateName::Deleted, Cause::Deleted).reason("not wanted");
    expect(&s, id, &[created(), claimed(&server.id(), 1), gone]).await;
}

/// A requeue of each final state is one line.
pub async fn history_of_requeues(s: Stage) {
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.end(server.claim_one().await.claim, success()).await;
    let _ = s.requeue(id).await;
    server.end(server.claim_one().await.claim, failure()).await;
    let _ = s.requeue(id).await;
    let _ = s.delete(id).await;
    let _ = s.requeue(id).await;
    let requeued = || line(StateName::Enqueued, Cause::Requeued);
    let expected = [
        created(),
        claimed(&server.id(), 1),
        line(StateName::Succeeded, Cause::Succeeded).of(1),
        requeued(),
        claimed(&server.id(), 2),
        line(StateName::Failed, Cause::Failed).of(2).class(&error().class),
        requeued(),
        line(StateName::Deleted, Cause::Deleted).reason("not wanted"),
        requeued(),
    ];
    expect(&s, id, &expected).await;
}

/// A reschedule is one line with its instant, from each state that allows it.
pub async fn history_of_reschedules(s: Stage) {
    let id = s.enqueue_one().await;
    let _ = s.reschedule(id, secs(60)).await;
    let _ = s.reschedule(id, secs(30)).await;
    let _ = s.delete(id).await;
    let _ = s.reschedule(id, secs(90)).await;
    let moved = |wait| line(StateName::Scheduled, Cause::Rescheduled).waits(wait);
    let gone = line(StateName::Deleted, Cause::Deleted).reason("not wanted");
    // The second takes the place of the first: see below.
    expect(&s, id, &[created(), moved(30), gone, moved(90)]).await;
}

/// Moves of the instant in a row are one line, which tells how many they are, and of when the first and the last.
pub async fn history_folds_moves_of_the_instant(s: Stage) {
    let id = s.enqueue_one().await;
    s.advance(secs(1)).await;
    let first = s.now().await;
    for _ in 0..50 {
        let _ = s.reschedule(id, secs(60)).await;
        s.advance(secs(1)).await;
    }
    let history = s.history(id).await;
    assert_eq!(history.len(), 2, "{history:?}");
    let moved = &history[1];
    assert_eq!((moved.revision, moved.count(), moved.since()), (51, 50, first));
    assert_eq!(moved.at, first.saturating_add(secs(49)));
    assert_eq!(moved.run_at, Some(moved.at.saturating_add(secs(60))));
    assert_eq!(s.record(id).await.revision, 51);
}

/// Snoozes in a row, and parks, are one line each, which stands for the promotions and claims between them, too.
pub async fn history_folds_snoozes_and_parks(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let id = s.enqueue_one().await;
    let first = s.now().await;
    for _ in 0..20 {
        let held = server.claim_one().await;
        server.end(held.claim, Outcome::Snoozed { delay: secs(1) }).await;
        s.advance(secs(1)).await;
        s.promote().await;
    }
    for _ in 0..3 {
        let held = server.claim_one().await;
        server.end(held.claim, Outcome::Parked { delay: secs(1) }).await;
        s.advance(secs(1)).await;
        s.promote().await;
    }
    let snoozed = line(StateName::Scheduled, Cause::Snoozed).of(20).waits(1).by(&server.id());
    let parked = line(StateName::Scheduled, Cause::Parked).of(23).waits(1).by(&server.id());
    let promoted = || line(StateName::Enqueued, Cause::Promoted);
    let expected = [
        created(),
        claimed(&server.id(), 1),
        snoozed,
        promoted(),
        claimed(&server.id(), 21),
        parked,
        promoted(),
    ];
    expect(&s, id, &expected).await;
    let history = s.history(id).await;
    let told: Vec<_> = history.iter().map(|entry| (entry.revision, entry.count())).collect();
    assert_eq!(told, [(1, 1), (2, 1), (60, 20), (61, 1), (62, 1), (69, 3), (70, 1)]);
    assert_eq!(history[2].since(), first);
    assert_eq!(history[2].at, first.saturating_add(secs(19)));
}

/// What differs, or has something else between it, is not folded.
pub async fn history_keeps_what_differs(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let id = s.enqueue_one().await;
    let snooze = || Outcome::Snoozed { delay: secs(1) };
    for release in [false, true] {
        if release {
            server.end(server.claim_one().await.claim, Outcome::Released).await;
        }
        server.end(server.claim_one().await.claim, snooze()).await;
        s.advance(secs(1)).await;
        s.promote().await;
    }
    for _ in 0..2 {
        server.end(server.claim_one().await.claim, retry(1)).await;
        s.advance(secs(1)).await;
        s.promote().await;
    }
    let history = s.history(id).await;
    assert!(history.iter().all(|entry| entry.folded.is_none()), "{history:?}");
    assert_eq!(history.len() as u32, s.record(id).await.revision);
}

/// A finish whose line was folded is known when it is repeated, to the server that made it and to no other.
pub async fn history_knows_a_folded_finish(s: Stage) {
    let servers = [s.server_with_lease("a", DAY).await, s.server_with_lease("b", DAY).await];
    let id = s.enqueue_one().await;
    let snooze = || Outcome::Snoozed { delay: secs(1) };
    for server in &servers {
        let held = server.claim_job(id).await;
        server.end(held.claim, snooze()).await;
        assert_eq!(server.finish(held.claim, snooze()).await, Verdict::Already);
        for other in servers.iter().filter(|other| other.id() != server.id()) {
            assert_eq!(other.finish(held.claim, snooze()).await, Verdict::Fenced);
        }
        s.advance(secs(1)).await;
        s.promote().await;
    }
}
