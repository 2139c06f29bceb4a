//! What an import did, in numbers.
//!
//! The storage counts everything that ever happened, so a report is a difference: the totals at its
//! end less those at its beginning. The beginning is kept in the database, because a run may be
//! killed and started again: the next one goes on with it, and the report covers the whole import.

use jiff::Timestamp;
use portfire::Counts;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use crate::db::ShopCounts;
use crate::error::ShopError;

/// What a run did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The numbers.
    #[serde(flatten)]
    pub totals: Totals,
    /// Time since the run began, in seconds; time in which no process was running counts too.
    pub seconds: f64,
}

/// Things that are only ever counted up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Jobs stored.
    pub created: u64,
    /// Jobs that ran to their end.
    pub succeeded: u64,
    /// Jobs given up: here, malformed rows and files.
    pub failed: u64,
    /// Failures after which a job was tried again.
    pub retried: u64,
    /// Jobs taken over from processes that died.
    pub recovered: u64,
    /// E-mails sent.
    pub mails: u64,
    /// Invoices written.
    pub invoices: u64,
}

impl Totals {
    /// The totals of a storage and of the shop.
    pub fn of(jobs: &Counts, shop: &ShopCounts) -> Totals {
        Totals {
            created: jobs.created_total,
            succeeded: jobs.succeeded_total,
            failed: jobs.failed_total,
            retried: jobs.retried_total,
            recovered: jobs.recovered_total,
            mails: shop.mails,
            invoices: shop.invoices,
        }
    }

    /// What has been added since.
    pub fn since(&self, before: &Totals) -> Totals {
        Totals {
            created: self.created.saturating_sub(before.created),
            succeeded: self.succeeded.saturating_sub(before.succeeded),
            failed: self.failed.saturating_sub(before.failed),
            retried: self.retried.saturating_sub(before.retried),
            recovered: self.recovered.saturating_sub(before.recovered),
            mails: self.mails.saturating_sub(before.mails),
            invoices: self.invoices.saturating_sub(before.invoices),
        }
    }
}

/// A run that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    run_id: i64,
    started_at: Timestamp,
    baseline: Totals,
}

impl Run {
    /// Goes on with a run that was never finished, or begins one.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn begin(db: &Connection, now: Timestamp, totals: &Totals) -> Result<Run, ShopError> {
        let unfinished = "select run_id, started_at, baseline from shop_runs where not finished order by run_id limit 1";
        let damaged = |error: String| ShopError::Damaged(format!("shop_runs: {error}"));
        let found: Option<(i64, String, String)> = db
            .query_row(unfinished, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        if let Some((run_id, started_at, baseline)) = found {
            return Ok(Run {
                run_id,
                started_at: started_at
                    .parse()
                    .map_err(|error: jiff::Error| damaged(error.to_string()))?,
                baseline: serde_json::from_str(&baseline)
                    .map_err(|error| damaged(error.to_string()))?,
            });
        }
        let baseline = serde_json::to_string(totals).map_err(|error| damaged(error.to_string()))?;
        db.execute(
            "insert into shop_runs (started_at, baseline, finished) values (?, ?, 0)",
            params![now.to_string(), baseline],
        )?;
        Ok(Run { run_id: db.last_insert_rowid(), started_at: now, baseline: *totals })
    }

    /// Ends the run.
    ///
    /// # Errors
    /// When the statement fails.
    pub fn finish(
        &self,
        db: &Connection,
        now: Timestamp,
        totals: &Totals,
    ) -> Result<Report, ShopError> {
        db.execute("update shop_runs set finished = 1 where run_id = ?", [self.run_id])?;
        let millis = now.as_millisecond() - self.started_at.as_millisecond();
        Ok(Report { totals: totals.since(&self.baseline), seconds: millis.max(0) as f64 / 1000.0 })
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Totals { created, succeeded, failed, retried, recovered, mails, invoices } =
            self.totals;
        write!(
            f,
            "{created} jobs created, {succeeded} succeeded, {failed} failed, {retried} retries, \
             {recovered} recovered; {mails} e-mails, {invoices} invoices; {:.1} s",
            self.seconds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    #[test]
    fn a_run_that_was_killed_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("shop.db")).unwrap();
        let at = |second: i64| Timestamp::from_second(1_767_225_600 + second).unwrap();
        let totals = |created| Totals { created, ..Totals::default() };
        db.write(|db| {
            let first = Run::begin(db, at(0), &totals(10))?;
            let again = Run::begin(db, at(5), &totals(15))?;
            assert_eq!(first, again);
            let report = again.finish(db, at(8), &totals(30))?;
            assert_eq!((report.totals.created, report.seconds), (20, 8.0));
            let next = Run::begin(db, at(9), &totals(30))?;
            assert_eq!(next.finish(db, at(9), &totals(30))?.totals, Totals::default());
            Ok(())
        })
        .unwrap();
    }
}
