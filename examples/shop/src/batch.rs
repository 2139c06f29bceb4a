//! An import from beginning to end: submits the files of a folder, waits until no work is left, and
//! says what was done.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use portfire::{Cause, JobFilter, JobState, StateName, Storage, StorageError};

use crate::app::App;
use crate::db;
use crate::error::ShopError;
use crate::import;
use crate::jobs::import_call;
use crate::report::{Report, Run, Totals};

/// Time between two looks at the counters. They are counters: looking costs nothing that grows.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A job that was scheduled for later than this is no work of today's: next week's coupons and the
/// nightly work do not keep an import from ending. Retries always do.
const SOON: Duration = Duration::from_secs(60);

/// How an import ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Nothing is left to do.
    Done(Report),
    /// The program was told to end; what is left is stored.
    Interrupted,
}

/// Imports every file of a folder, with so many workers in this process (0: others do the work).
///
/// # Errors
/// When the folder or the storage cannot be used. Malformed files and rows are failed jobs instead.
pub async fn run(app: &Arc<App>, data: PathBuf, workers: usize) -> anyhow::Result<End> {
    let begun = begin(app).await?;
    submit(app, data).await?;
    let mut idle = None;
    let stop = async {
        tokio::select! {
            result = wait_until_idle(&*app.storage) => idle = Some(result),
            () = portfire::shutdown_signal() => {}
        }
    };
    app.work_until(workers, stop).await?;
    match idle {
        Some(result) => {
            result?;
            Ok(End::Done(finish(app, begun).await?))
        }
        None => Ok(End::Interrupted),
    }
}

async fn begin(app: &Arc<App>) -> anyhow::Result<Run> {
    let jobs = app.storage.counts().await?;
    let begin = app.blocking(move |app| {
        app.shop.db.write(|db| {
            let totals = Totals::of(&jobs, &db::counts(db)?);
            Run::begin(db, jiff::Timestamp::now(), &totals)
        })
    });
    Ok(begin.await?)
}

async fn finish(app: &Arc<App>, run: Run) -> anyhow::Result<Report> {
    let jobs = app.storage.counts().await?;
    let finish = app.blocking(move |app| {
        // Nothing is running, so what lies in the passing folder is nobody's any more.
        app.shop.files.sweep().map_err(ShopError::file(&app.shop.files.passing()))?;
        app.shop.db.write(|db| {
            let totals = Totals::of(&jobs, &db::counts(db)?);
            run.finish(db, jiff::Timestamp::now(), &totals)
        })
    });
    Ok(finish.await?)
}

/// Enqueues a job for each file of a folder.
async fn submit(app: &Arc<App>, data: PathBuf) -> anyhow::Result<()> {
    let files = import::files(&data).with_context(|| format!("the folder {}", data.display()))?;
    if files.is_empty() {
        tracing::warn!(folder = %data.display(), "no .csv, .json or .xml file here");
    }
    for file in files {
        let call = app.blocking(move |_| import_call(&file)).await?;
        app.client.enqueue(call).await?;
    }
    Ok(())
}

/// Waits until nothing is enqueued, processing or awaiting, and nothing is scheduled for soon.
///
/// # Errors
/// When the storage cannot be read.
pub async fn wait_until_idle(storage: &dyn Storage) -> Result<(), StorageError> {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        looks.tick().await;
        let counts = storage.counts().await?;
        // A handler stores the jobs that follow from it before it is finished itself, and what waits for
        // a job is released in the commit that ends it, so there is no moment between the two in which
        // the queue looks empty.
        let busy = counts.of(StateName::Enqueued) + counts.of(StateName::Processing) > 0
            || counts.of(StateName::Awaiting) > 0;
        let waiting = counts.of(StateName::Scheduled) > 0;
        if busy || (waiting && is_anything_due_soon(storage).await?) {
            continue;
        }
        return Ok(());
    }
}

async fn is_anything_due_soon(storage: &dyn Storage) -> Result<bool, StorageError> {
    let soon = storage.now().await?.saturating_add(SOON);
    let mut filter = JobFilter::state(StateName::Scheduled);
    loop {
        let page = storage.jobs(filter.clone()).await?;
        let counts = |state: &JobState| match state {
            JobState::Scheduled { run_at, cause } => *run_at <= soon || *cause == Cause::Retried,
            // It has moved on since: that is work.
            _ => true,
        };
        if page.jobs.iter().any(|job| counts(&job.state)) {
            return Ok(true);
        }
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return Ok(false),
        }
    }
}
