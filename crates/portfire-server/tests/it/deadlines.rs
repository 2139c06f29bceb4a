//! Jobs that come too late to be run, and the order of those that have waited long.

use portfire_core::{JobError, JobState, Monitor, StateName};

use crate::stage::{DONE, SECOND, Stage, ms, play};

/// The reason for which a job was deleted.
async fn reason(stage: &Stage, id: portfire_core::JobId) -> String {
    match stage.until_state(id, StateName::Deleted).await.state {
        JobState::Deleted { reason, .. } => reason,
        state => panic!("{state:?}"),
    }
}

#[test]
fn a_job_that_waited_over_its_start_deadline_is_deleted_with_both_times() {
    play(|stage| async move {
        let notes = stage.notes.clone();
        stage.on("late", move |_| {
            notes.add("ran");
            async { DONE }
        });
        let late = || {
            stage.enqueue_with("late", |mut job| {
                job.options.start_deadline = Some(10 * SECOND);
                job
            })
        };
        let missed = late().await;
        stage.world.pass(11 * SECOND).await;
        let in_time = late().await;
        let _server = stage.start().await;
        let reason = reason(&stage, missed).await;
        assert_eq!(
            reason,
            "it was to start within 10s of being enqueued, and was claimed after 11s"
        );
        stage.until_state(in_time, StateName::Succeeded).await;
        assert_eq!(stage.notes.count("ran"), 1);
    });
}

#[test]
fn no_attempt_starts_after_the_job_has_expired() {
    play(|stage| async move {
        stage.on("fails", |_| async { Err(JobError::new("again")) });
        let now = stage.storage.now().await.unwrap();
        let expires_at = now.saturating_add(60 * SECOND);
        let id = stage.enqueue_with("fails", |mut job| {
            job.options.expires_at = Some(expires_at);
            job
        });
        let id = id.await;
        let _server = stage.start().await;
        let reason = reason(&stage, id).await;
        assert!(reason.starts_with(&format!("it was to start by {expires_at}")), "{reason}");
        let job = stage.job(id).await;
        assert!(job.failures >= 1, "it was tried while there was time: {job:?}");
    });
}

#[test]
fn a_job_of_a_kind_without_a_handler_expires_too() {
    play(|stage| async move {
        stage.on("other", |_| async { DONE });
        let expires_at = stage.storage.now().await.unwrap().saturating_add(ms(1));
        let id = stage.enqueue_with("unknown", |mut job| {
            job.options.expires_at = Some(expires_at);
            job
        });
        let id = id.await;
        stage.world.pass(SECOND).await;
        let _server = stage.start().await;
        assert!(reason(&stage, id).await.starts_with("it was to start by"));
    });
}

#[test]
fn with_aging_a_flood_of_important_jobs_starves_no_other() {
    play(|stage| async move {
        let (world, notes) = (stage.world.clone(), stage.notes.clone());
        stage.on("important", move |_| {
            let (world, notes) = (world.clone(), notes.clone());
            async move {
                notes.add("important");
                world.pass(SECOND).await;
                DONE
            }
        });
        stage.on("humble", |_| async { DONE });
        let important = || {
            stage.enqueue_with("important", |mut job| {
                job.priority = 5;
                job
            })
        };
        let _server = stage.server().workers(1).aging(20 * SECOND).start().await.unwrap();
        important().await;
        stage.world.pass(ms(500)).await;
        let humble = stage.enqueue("humble").await;
        for _ in 0..100 {
            important().await;
        }
        stage.until_state(humble, StateName::Succeeded).await;
        let before = stage.notes.count("important");
        assert!((19..=23).contains(&before), "{before}");
    });
}
