//! A storage that fails, forgets to answer, is full or hangs: nothing is lost, nothing runs twice for
//! it, and no restart is needed.

use std::collections::BTreeSet;

use portfire_core::{Cause, Monitor, NewJob, StateName, When};
use portfire_server::Runtime;

use crate::faulty::{Fault, Op};
use crate::stage::{DONE, SECOND, Stage, ms, play};

fn on_noted(stage: &Stage, kind: &str) {
    let notes = stage.notes.clone();
    stage.on(kind, move |cx| {
        notes.add(cx.id().to_string());
        async { DONE }
    });
}

/// No job ran twice.
fn assert_each_ran_once(stage: &Stage, jobs: usize) {
    let ran = stage.notes.all();
    let distinct: BTreeSet<&String> = ran.iter().collect();
    assert_eq!((ran.len(), distinct.len()), (jobs, jobs));
}

#[test]
fn an_outage_is_survived_without_a_restart() {
    play(|stage| async move {
        on_noted(&stage, "job");
        let world = stage.world.clone();
        stage.on("long", move |_| {
            let world = world.clone();
            async move {
                world.pass(5 * SECOND).await;
                DONE
            }
        });
        let server = stage.start().await;
        let long = stage.enqueue("long").await;
        stage.until_state(long, StateName::Processing).await;

        // The long job ends while nobody can be told.
        stage.storage.outage();
        stage.enqueue_many("job", "default", 10).await;
        stage.world.pass(20 * SECOND).await;
        assert_eq!(stage.state(long).await, StateName::Processing);
        stage.storage.heal();
        let back_at = stage.world.elapsed();
        stage.until_count(StateName::Succeeded, 11).await;
        assert!(stage.world.elapsed() - back_at <= 5 * SECOND);
        assert_eq!(stage.job(long).await.attempt, 1);
        assert_each_ran_once(&stage, 10);
        assert_eq!(server.stats().restarts_total, 0);
    });
}

#[test]
fn an_outage_longer_than_the_lease_costs_recoveries_and_no_job() {
    play(|stage| async move {
        crate::cancel::on_listening(&stage, "long");
        on_noted(&stage, "job");
        let server = stage.start().await;
        let long = stage.enqueue("long").await;
        stage.until_state(long, StateName::Processing).await;
        stage.storage.outage();
        stage.enqueue_many("job", "default", 10).await;
        stage.world.pass(300 * SECOND).await;
        assert_eq!(stage.notes.all(), ["started", "LeaseLost"]);
        stage.storage.heal();
        let back_at = stage.world.elapsed();
        stage.until_count(StateName::Succeeded, 10).await;
        stage.until_state(long, StateName::Processing).await;
        assert!(stage.world.elapsed() - back_at <= 10 * SECOND);
        stage.world.until("it runs again", || stage.notes.count("started") == 2).await;
        assert_eq!(stage.job(long).await.failures, 0);
        drop(server);
    });
}

#[test]
fn a_cycle_whose_answer_is_lost_is_repeated_and_takes_effect_once() {
    play(|stage| async move {
        on_noted(&stage, "job");
        stage.storage.cycles_take(ms(1));
        for _ in 0..20 {
            stage.storage.next(Op::Cycle, Fault::AnswerLost);
            stage.storage.next(Op::Cycle, Fault::Lost);
        }
        let server = stage.server().workers(4).start().await.unwrap();
        let ids = stage.enqueue_many("job", "default", 200).await;
        stage.until_count(StateName::Succeeded, 200).await;
        assert_each_ran_once(&stage, 200);
        for id in ids {
            assert_eq!(stage.job(id).await.attempt, 1);
        }
        assert_eq!(server.stats().fenced_total, 0);
        let cycles = stage.storage.cycles();
        let repeats: Vec<_> = cycles.iter().filter(|cycle| cycle.repeated).collect();
        assert!(repeats.len() >= 40, "{}", repeats.len());
        for repeat in repeats {
            let first = cycles.iter().find(|cycle| cycle.key == repeat.key).unwrap();
            assert!(!first.repeated && first.finished == repeat.finished);
            assert_eq!(first.claim, repeat.claim);
        }
    });
}

#[test]
fn a_full_storage_loses_no_outcome() {
    play(|stage| async move {
        on_noted(&stage, "job");
        stage.storage.cycles_take(ms(1));
        let server = stage.server().workers(2).start().await.unwrap();
        stage.enqueue_many("job", "default", 10).await;
        stage.world.until("some have run", || stage.notes.all().len() >= 2).await;
        stage.storage.all(Op::Cycle, Fault::Full);
        stage.world.pass(120 * SECOND).await;
        stage.storage.heal();
        stage.until_count(StateName::Succeeded, 10).await;
        assert_each_ran_once(&stage, 10);
        assert_eq!(server.stats().restarts_total, 0);
        assert!(stage.storage.cycles().iter().all(|cycle| !cycle.repeated));
    });
}

#[test]
fn a_cycle_that_never_answers_is_given_up_and_repeated() {
    play(|stage| async move {
        on_noted(&stage, "job");
        stage.storage.next(Op::Cycle, Fault::Hangs);
        let _server = stage.start().await;
        let id = stage.enqueue("job").await;
        stage.until_state(id, StateName::Succeeded).await;
        assert!((30 * SECOND..32 * SECOND).contains(&stage.world.elapsed()));
        assert_each_ran_once(&stage, 1);
    });
}

#[test]
fn a_pass_that_never_answers_is_given_up_and_repeated() {
    play(|stage| async move {
        on_noted(&stage, "job");
        for op in [Op::Promote, Op::Rescue, Op::Clean] {
            stage.storage.next(op, Fault::Hangs);
        }
        let server = stage.start().await;
        let delayed = |mut job: NewJob| {
            job.when = When::In(SECOND);
            job
        };
        let id = stage.enqueue_with("job", delayed).await;
        stage.until_state(id, StateName::Succeeded).await;
        assert!((30 * SECOND..32 * SECOND).contains(&stage.world.elapsed()));
        stage.world.pass(60 * SECOND).await;
        for op in [Op::Promote, Op::Rescue, Op::Clean] {
            assert!(stage.storage.calls(op).len() > 1, "{op:?}");
        }
        assert_eq!(server.stats().restarts_total, 0);
    });
}

#[test]
fn a_history_that_never_answers_keeps_no_worker() {
    play(|stage| async move {
        on_noted(&stage, "job");
        // Or else it is not given what it has no handler of.
        stage.storage.hide_kinds();
        stage.storage.all(Op::History, Fault::Hangs);
        let _server = stage.server().workers(1).start().await.unwrap();
        let unknown = stage.enqueue("unknown").await;
        // Parked once without a look at its history; the second time that look never ends.
        stage.world.pass(31 * SECOND).await;
        let id = stage.enqueue("job").await;
        stage.until_state(id, StateName::Succeeded).await;
        assert!(stage.world.elapsed() <= 45 * SECOND);
        stage.storage.heal();
        assert_eq!(stage.job(unknown).await.failures, 0);
    });
}

#[test]
fn waits_between_tries_grow_to_two_seconds() {
    play(|stage| async move {
        on_noted(&stage, "job");
        let _server = stage.start().await;
        stage.world.pass(ms(10)).await;
        stage.storage.outage();
        let before = stage.storage.calls(Op::Cycle).len();
        stage.enqueue("job").await;
        stage.world.pass(25 * SECOND).await;
        let tries = &stage.storage.calls(Op::Cycle)[before..];
        let gaps: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.first().unwrap() <= &ms(50), "{gaps:?}");
        let last = gaps.last().unwrap();
        assert!((SECOND..=2 * SECOND).contains(last), "{gaps:?}");
    });
}

#[test]
fn a_storage_that_panics_is_an_outage_like_others() {
    play(|stage| async move {
        on_noted(&stage, "job");
        let server = stage.start().await;
        for op in [Op::Cycle, Op::Cycle, Op::Heartbeat, Op::Promote, Op::Rescue, Op::Clean] {
            stage.storage.next(op, Fault::Panics);
        }
        stage.enqueue_many("job", "default", 20).await;
        stage.until_count(StateName::Succeeded, 20).await;
        assert_each_ran_once(&stage, 20);
        stage.world.pass(120 * SECOND).await;
        assert!(server.stats().heartbeats_total >= 10);
        assert_eq!(server.stats().restarts_total, 0);
        assert!(server.shutdown().await.retired);
    });
}

#[test]
fn a_claim_that_is_applied_after_its_repeat_holds_no_job_for_long() {
    play(|stage| async move {
        on_noted(&stage, "job");
        // Without hints the server looks every 5 s. Its first claim is cut off, the repeat finds
        // nothing, and then the first is applied after all, when there is a job.
        stage.storage.deafen();
        stage.storage.next(Op::Cycle, Fault::AppliedLater(7 * SECOND));
        let server = stage.server().poll_interval(5 * SECOND).start().await.unwrap();
        stage.world.pass(6 * SECOND).await;
        assert!(stage.storage.cycles()[1].repeated);
        let id = stage.enqueue("job").await;
        stage.until_state(id, StateName::Processing).await;
        assert_eq!(server.stats().claimed_total, 0);

        let held_at = stage.world.elapsed();
        stage.until_state(id, StateName::Succeeded).await;
        let held_for = stage.world.elapsed() - held_at;
        assert!(held_for <= 31 * SECOND, "{held_for:?}");
        assert_each_ran_once(&stage, 1);
        let causes = stage.causes(id).await;
        assert_eq!(causes[1..4], [Cause::Claimed, Cause::Released, Cause::Claimed]);
    });
}

#[test]
fn an_audit_leaves_alone_what_the_server_knows_of() {
    play(|stage| async move {
        let (world, notes) = (stage.world.clone(), stage.notes.clone());
        stage.on("long", move |cx| {
            let (world, notes) = (world.clone(), notes.clone());
            async move {
                notes.add(cx.id().to_string());
                world.pass(50 * SECOND).await;
                DONE
            }
        });
        // In doubt all the time, with answers that take longer than an audit's interval.
        stage.storage.cycles_take(12 * SECOND);
        let _one = stage.server().workers(8).start().await.unwrap();
        let _other = stage.server().workers(8).start().await.unwrap();
        for _ in 0..8 {
            stage.storage.next(Op::Cycle, Fault::AnswerLost);
            stage.world.pass(3 * SECOND).await;
            stage.enqueue_many("long", "default", 5).await;
        }
        let mut waited = 0;
        while stage.storage.counts().await.unwrap().of(StateName::Succeeded) < 40 {
            waited += 1;
            assert!(waited < 3_000, "{:?}", stage.storage.counts().await);
            stage.world.pass(SECOND).await;
        }
        assert_each_ran_once(&stage, 40);
    });
}
