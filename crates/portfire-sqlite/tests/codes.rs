//! A stored number that this version does not know is answered as corrupt, never read as something else.

use std::path::Path;

use portfire_core::client::block_on;
use portfire_core::{
    After, Dependency, JobFilter, JobId, Json, KindName, Monitor, NewJob, StateName, Storage,
    StorageError,
};
use portfire_sqlite::{SqliteStorage, rusqlite};

fn job(number: u8) -> NewJob {
    NewJob::new(JobId::from_bytes([number; 16]), KindName::stored("mail"), Json::empty())
}

/// Changes the file behind the storage's back, as damage or a newer version would.
fn damage(path: &Path, sql: &str) {
    let conn = rusqlite::Connection::open(path).expect("the file opens");
    assert!(conn.execute(sql, []).expect(sql) > 0, "{sql} changes nothing");
}

fn is_corrupt<T: std::fmt::Debug>(answer: Result<T, StorageError>, text: &str) {
    match answer {
        Err(StorageError::Corrupt(told)) => assert!(told.contains(text), "{told}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_numbers_are_corrupt() {
    block_on(async {
        let folder = tempfile::tempdir().expect("the test may write to the temporary folder");
        let path = folder.path().join("jobs.db");
        let storage = SqliteStorage::open(&path).await.expect("a new file opens");
        let (parent, mut child) = (job(1), job(2));
        child.ties.after = vec![Dependency::on(parent.id).after(After::Success)];
        let (parent, child) = (parent.id, child.id);
        let jobs = vec![job(1), {
            let mut waiting = job(2);
            waiting.ties.after = vec![Dependency::on(parent).after(After::Success)];
            waiting
        }];
        drop(storage.create(jobs).await.expect("both are stored"));

        // A condition: the end of the parent must not be taken for what the child waits for.
        damage(&path, "UPDATE portfire_link SET after = 9");
        is_corrupt(storage.continuations(parent.into(), 9).await, "condition 9 is unknown");
        let delete = portfire_core::Change {
            job: parent,
            action: portfire_core::Action::Delete { reason: "by hand".to_owned() },
            expect: None,
        };
        is_corrupt(storage.change(vec![delete.clone()]).await, "condition 9 is unknown");
        let states = [parent, child].map(|id| block_on(storage.job(id)).unwrap().unwrap());
        assert_eq!(states.map(|job| job.state.name()), [StateName::Enqueued, StateName::Awaiting]);
        damage(&path, "UPDATE portfire_link SET after = 0");

        // A cause.
        drop(storage.change(vec![delete]).await.expect("the condition is known again"));
        damage(&path, "UPDATE portfire_history SET cause = 99");
        is_corrupt(storage.history(parent).await, "cause 99 is unknown");
        // A list shows the reason of a deletion, which stands beside the cause.
        is_corrupt(storage.jobs(JobFilter::default()).await, "cause 99 is unknown");
    });
}
