//! A look at one image: it is opened by the shipped storage, as it would be after the machine is back.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use portfire::sqlite::rusqlite::{Connection, OpenFlags};
use portfire::sqlite::{SqliteOptions, SqliteStorage};
use portfire::{Changed, Client, JobFilter, JobId, JobRecord, ManualClock, StateName, block_on};
use portfire_conformance::stage::Stage;
use portfire_conformance::{Fixtures, ManualFixture};
use portfire_core::Monitor;

use crate::AnyError;
use crate::power::actor::{padding, store};
use crate::power::disk::Image;
use crate::power::record::DATABASE;
use crate::power::story::{Fault, Standing, Story};

/// What was found in an image, apart from any point of the story.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    /// What is wrong in itself.
    pub(crate) faults: Vec<Fault>,
    /// Where the jobs stand.
    pub(crate) standing: Standing,
}

/// Writes an image out into an empty directory.
pub(crate) fn write_out(image: &Image, directory: &Path) -> Result<(), AnyError> {
    for (name, bytes) in &image.files {
        std::fs::write(directory.join(name), bytes)?;
    }
    Ok(())
}

/// Looks at an image in a directory, which is emptied before and afterwards. `whole` is the story of the whole record.
pub(crate) fn look(image: &Image, directory: &Path, whole: &Story) -> Result<Look, AnyError> {
    let _ = std::fs::remove_dir_all(directory);
    std::fs::create_dir_all(directory)?;
    write_out(image, directory)?;
    let database = directory.join(DATABASE);
    let mut faults = Vec::new();
    let mut found = BTreeMap::new();
    match catch_unwind(AssertUnwindSafe(|| block_on(inspect(&database, whole)))) {
        Ok(Ok((jobs, wrong))) => {
            found = jobs;
            faults.extend(wrong);
        }
        Ok(Err(error)) => faults.push(Fault::Damaged(short(&error.to_string(), directory))),
        Err(panic) => faults.push(Fault::Damaged(short(&said(&*panic), directory))),
    }
    let _ = std::fs::remove_dir_all(directory);
    Ok(Look { faults, standing: whole.standing(&found) })
}

/// A text in one line, without the directory, which is gone when somebody reads it.
fn short(text: &str, directory: &Path) -> String {
    text.replace(&format!("{}/", directory.display()), "").replace('\n', "; ")
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

type Found = (BTreeMap<JobId, StateName>, Vec<Fault>);

async fn inspect(database: &Path, whole: &Story) -> Result<Found, AnyError> {
    // A clock that stands still: time goes on from where the storage was.
    let clock = Arc::new(ManualClock::default());
    let options = SqliteOptions::new(database).clock(clock.clone());
    let storage = options.open().await?;
    let damage = damage(database)?;
    if !damage.is_empty() {
        return Err(damage.join("; ").into());
    }
    let mut faults = Vec::new();
    let mut jobs = BTreeMap::new();
    for job in list(&storage).await? {
        match whole.number(job.id) {
            None => faults.push(Fault::Invented(format!("job {}, of which nobody knows", job.id))),
            Some(number) if !is_whole(&job, number) => {
                faults.push(Fault::Damaged(format!("job {} has other arguments", job.id)));
            }
            Some(_) => {}
        }
        jobs.insert(job.id, job.state.name());
    }
    use_it(&storage).await?;
    audit(&storage, &clock).await;
    storage.close().await;
    Ok((jobs, faults))
}

/// What SQLite finds wrong with the file.
fn damage(database: &Path) -> Result<Vec<String>, AnyError> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut statement = connection.prepare("PRAGMA integrity_check(5)")?;
    let lines: Vec<String> =
        statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

async fn list(storage: &SqliteStorage) -> Result<Vec<JobRecord>, AnyError> {
    let mut jobs = Vec::new();
    let mut filter = JobFilter { max: portfire_core::monitor::PAGE_MAX, ..JobFilter::default() };
    loop {
        let page = storage.jobs(filter.clone()).await?;
        jobs.extend(page.jobs);
        filter.after = page.next;
        if filter.after.is_none() {
            return Ok(jobs);
        }
    }
}

/// Whether a job has the arguments that it was stored with.
fn is_whole(job: &JobRecord, number: u64) -> bool {
    let text = format!(r#"{{"number":{number},"padding":"{}"}}"#, padding(number));
    job.args.as_str() == text
}

/// Stores a job and takes it out, as whoever comes next would.
async fn use_it(storage: &SqliteStorage) -> Result<(), AnyError> {
    let client = Client::new(Arc::new(storage.clone()));
    let job = client.enqueue(store(0, String::new())).await?;
    match client.delete(job).await? {
        Changed::Applied { .. } => Ok(()),
        other => Err(format!("a job that was just stored is not deleted: {other:?}").into()),
    }
}

/// The audit of the conformance suite: counters equal a recount, every history is whole. It panics at what is wrong.
async fn audit(storage: &SqliteStorage, clock: &Arc<ManualClock>) {
    let parts = (storage.clone(), Arc::clone(clock));
    let fixtures = Fixtures::new(move || {
        let (storage, clock) = parts.clone();
        std::future::ready(ManualFixture::new(Arc::new(storage), clock))
    });
    let stage = Stage::new(fixtures).await;
    portfire_conformance::audit::audit(&stage).await;
}
