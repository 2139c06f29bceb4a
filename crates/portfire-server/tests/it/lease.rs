//! The server's lease: heartbeats, self-fencing, death and return, and what other servers do then.

use portfire_core::{Cause, Monitor, RescueRequest, StateName, Storage};
use portfire_server::Runtime;

use crate::cancel::on_listening;
use crate::faulty::{Fault, Op};
use crate::stage::{DONE, SECOND, Stage, ms, play};

fn on_lasting(stage: &Stage, kind: &str, seconds: u32) {
    let (world, notes) = (stage.world.clone(), stage.notes.clone());
    stage.on(kind, move |_| {
        let (world, notes) = (world.clone(), notes.clone());
        async move {
            notes.add("started");
            world.pass(SECOND * seconds).await;
            notes.add("ended");
            DONE
        }
    });
}

#[test]
fn a_job_of_hours_runs_once() {
    play(|stage| async move {
        on_lasting(&stage, "long", 3 * 3_600);
        let server = || stage.server().poll_interval(60 * SECOND).start();
        let _one = server().await.unwrap();
        let _other = server().await.unwrap();
        let id = stage.enqueue("long").await;
        let job = stage.until_state(id, StateName::Succeeded).await;
        assert_eq!((job.attempt, job.recoveries), (1, 0));
        assert_eq!(stage.notes.all(), ["started", "ended"]);
    });
}

#[test]
fn the_jobs_of_a_dead_server_run_elsewhere_within_forty_seconds() {
    play(|stage| async move {
        on_lasting(&stage, "long", 2);
        let dying = stage.start().await;
        let id = stage.enqueue("long").await;
        stage.until_state(id, StateName::Processing).await;
        let _living = stage.start().await;
        // Dropped without a shutdown: a crash.
        drop(dying);
        let died_at = stage.world.elapsed();
        stage.world.until("it runs again", || stage.notes.count("started") == 2).await;
        assert!(stage.world.elapsed() - died_at <= 40 * SECOND);
        let job = stage.until_state(id, StateName::Succeeded).await;
        assert_eq!((job.attempt, job.failures, job.recoveries), (2, 0, 1));
        assert_eq!(stage.notes.count("ended"), 1);
    });
}

#[test]
fn a_server_that_cannot_renew_its_lease_fences_itself_before_it_lapses() {
    play(|stage| async move {
        on_listening(&stage, "long");
        on_lasting(&stage, "next", 1);
        let server = stage.server().workers(2).start().await.unwrap();
        let id = stage.enqueue("long").await;
        stage.until_state(id, StateName::Processing).await;
        stage.world.pass(SECOND).await;
        stage.storage.all(Op::Heartbeat, Fault::Lost);
        stage.world.until("it hears", || stage.notes.count("LeaseLost") == 1).await;
        let fenced_at = stage.world.elapsed();
        assert!((26 * SECOND..28 * SECOND).contains(&fenced_at), "{fenced_at:?}");

        // Under the old lease nothing is finished and nothing is started any more.
        let cycles = stage.storage.cycles().len();
        stage.enqueue("next").await;
        stage.world.pass(ms(500)).await;
        assert_eq!(stage.storage.cycles().len(), cycles);
        assert_eq!(stage.state(id).await, StateName::Processing);

        // Renewed in time, everything counts again: nobody had taken its jobs.
        stage.storage.heal();
        stage.world.until("it goes on", || stage.notes.count("ended") == 1).await;
        assert_eq!(server.stats().restarts_total, 0);
        let causes = stage.causes(id).await;
        assert_eq!(causes[1..3], [Cause::Claimed, Cause::Released], "{causes:?}");
        assert_eq!(stage.job(id).await.failures, 0);
    });
}

#[test]
fn a_heartbeat_that_hangs_does_not_keep_the_server_from_fencing_itself() {
    play(|stage| async move {
        on_listening(&stage, "long");
        let _server = stage.start().await;
        let id = stage.enqueue("long").await;
        stage.until_state(id, StateName::Processing).await;
        stage.storage.all(Op::Heartbeat, Fault::Hangs);
        stage.world.until("it hears", || stage.notes.count("LeaseLost") == 1).await;
        assert!(stage.world.elapsed() < 28 * SECOND, "{:?}", stage.world.elapsed());
    });
}

#[test]
fn the_lease_counts_from_the_sending_of_a_heartbeat_not_from_its_answer() {
    play(|stage| async move {
        on_listening(&stage, "long");
        let _server = stage.start().await;
        let id = stage.enqueue("long").await;
        stage.until_state(id, StateName::Processing).await;
        // The one heartbeat that gets through takes 8 s; it was sent after 10 s at the latest.
        stage.storage.next(Op::Heartbeat, Fault::Late(8 * SECOND));
        stage.world.until("it is sent", || stage.storage.calls(Op::Heartbeat).len() == 1).await;
        let sent_at = stage.storage.calls(Op::Heartbeat)[0];
        stage.storage.all(Op::Heartbeat, Fault::Lost);
        stage.world.until("it hears", || stage.notes.count("LeaseLost") == 1).await;
        let fenced_at = stage.world.elapsed();
        let valid_for = fenced_at - sent_at;
        assert!((ms(26_990)..ms(27_010)).contains(&valid_for), "{valid_for:?}");
    });
}

#[test]
fn a_server_that_was_declared_dead_goes_on_under_a_new_id() {
    play(|stage| async move {
        on_listening(&stage, "long");
        on_lasting(&stage, "short", 0);
        let server = stage.start().await;
        let first_id = server.id();
        let id = stage.enqueue("long").await;
        stage.until_state(id, StateName::Processing).await;

        // Cut off from the storage until another has declared it dead.
        stage.storage.outage();
        stage.world.pass(31 * SECOND).await;
        stage.storage.heal();
        let rescued = stage.storage.rescue(RescueRequest::default()).await.unwrap();
        assert_eq!(rescued.dead, std::slice::from_ref(&first_id));
        stage.world.until("it is back", || server.stats().restarts_total == 1).await;
        assert_ne!(server.id(), first_id);
        assert!(stage.notes.count("LeaseLost") == 1);

        // The job that it lost is its own again by a new claim, and other jobs run.
        stage.world.until("it runs again", || stage.notes.count("started") == 2).await;
        let job = stage.job(id).await;
        assert_eq!((job.attempt, job.recoveries, job.failures), (2, 1, 0));
        let short = stage.enqueue("short").await;
        stage.until_state(short, StateName::Succeeded).await;
    });
}

#[test]
fn what_a_dead_server_finishes_counts_for_nothing() {
    play(|stage| async move {
        on_lasting(&stage, "job", 20);
        let server = stage.start().await;
        let id = stage.enqueue("job").await;
        stage.until_state(id, StateName::Processing).await;
        stage.storage.retire(server.id()).await.unwrap();
        let job = stage.until_state(id, StateName::Succeeded).await;
        // The first run ended nowhere; the second is the one that counts.
        assert_eq!(job.attempt, 2);
        assert_eq!(stage.notes.count("started"), 2);
        assert_eq!(stage.notes.count("ended"), 1);
        assert_eq!(server.stats().restarts_total, 1);
    });
}

#[test]
fn two_servers_may_have_one_name() {
    play(|stage| async move {
        on_lasting(&stage, "job", 1);
        let one = stage.server().name("web").workers(2).start().await.unwrap();
        let other = stage.server().name("web").workers(2).start().await.unwrap();
        assert_ne!(one.id(), other.id());
        stage.enqueue_many("job", "default", 8).await;
        stage.until_count(StateName::Succeeded, 8).await;
        let finished = [one.stats().finished_total, other.stats().finished_total];
        assert_eq!(finished, [4, 4]);
        let names: Vec<String> =
            stage.storage.servers().await.unwrap().into_iter().map(|server| server.name).collect();
        assert_eq!(names, ["web", "web"]);
    });
}

#[test]
fn a_job_that_kills_its_servers_is_failed_after_three_recoveries() {
    play(|stage| async move {
        on_lasting(&stage, "poison", 1_000);
        let id = stage.enqueue("poison").await;
        for _ in 0..4 {
            let server = stage.start().await;
            stage.until_state(id, StateName::Processing).await;
            drop(server);
            stage.world.pass(31 * SECOND).await;
            stage.storage.rescue(RescueRequest::default()).await.unwrap();
        }
        let job = stage.job(id).await;
        assert_eq!((job.state.name(), job.recoveries, job.failures), (StateName::Failed, 3, 0));
        assert_eq!(stage.notes.count("started"), 4);
    });
}

#[test]
fn the_announcement_tells_queues_and_workers() {
    play(|stage| async move {
        on_lasting(&stage, "job", 1);
        let pool = portfire_server::Pool::new("mail").queues(["mail", "b"]).workers(3);
        let server = stage.server().queues(["a", "b"]).workers(2).pool(pool);
        let server = server.start().await.unwrap();
        let record = stage.storage.servers().await.unwrap().remove(0);
        let queues: Vec<&str> = record.queues.iter().map(|queue| queue.as_str()).collect();
        assert_eq!(queues, ["a", "b", "mail"]);
        assert_eq!((record.id, record.name.as_str()), (server.id(), "test"));
        assert_eq!((record.workers, record.lease), (5, 30 * SECOND));
    });
}
