//! Which final jobs expire when, in runs of neighbouring numbers.
//!
//! Jobs that end in one commit mostly have neighbouring numbers and one instant of expiry. A run may
//! promise too much (a job that was requeued meanwhile is in it, too), never too little: whoever reads
//! it looks at the jobs themselves.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension};

use crate::codes;
use portfire_core::{StateName, Timestamp};

/// Numbers that are this near belong to one run; what lies between is looked at in vain.
const GAP_MAX: i64 = 8;

const INSERT_RUN: &str = "INSERT INTO portfire_expiry (expires_at, state, first, last) \
    VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT (expires_at, state, first) DO UPDATE SET last = max(last, ?4)";
const SELECT_SOONEST: &str = "SELECT expires_at FROM portfire_expiry \
    WHERE expires_at <= ?1 AND expires_at > ?2 ORDER BY expires_at LIMIT 1";
const SELECT_RUNS: &str = "SELECT state, first, last FROM portfire_expiry WHERE expires_at = ?1";
const DELETE_RUNS: &str = "DELETE FROM portfire_expiry WHERE expires_at = ?1";
const SELECT_SUCCEEDED: &str = "SELECT seq FROM portfire_succeeded \
    WHERE seq BETWEEN ?1 AND ?2 AND expires_at = ?3";
const SELECT_FAILED: &str = "SELECT seq FROM portfire_failed \
    WHERE seq BETWEEN ?1 AND ?2 AND expires_at = ?3";
const SELECT_DELETED: &str = "SELECT seq FROM portfire_deleted \
    WHERE seq BETWEEN ?1 AND ?2 AND expires_at = ?3";

/// Writes the runs of the jobs (instant, state, number) that a transaction has ended.
pub(crate) fn write(
    conn: &Connection,
    expiring: &mut Vec<(i64, i64, i64)>,
) -> rusqlite::Result<()> {
    expiring.sort_unstable();
    let mut jobs = expiring.drain(..).peekable();
    while let Some((expires_at, state, first)) = jobs.next() {
        let mut last = first;
        let is_next = |&(at, of, seq): &(i64, i64, i64), last: i64| {
            (at, of) == (expires_at, state) && seq - last <= GAP_MAX
        };
        while let Some((_, _, seq)) = jobs.next_if(|job| is_next(job, last)) {
            last = seq;
        }
        conn.prepare_cached(INSERT_RUN)?.execute([expires_at, state, first, last])?;
    }
    Ok(())
}

/// Up to `max` jobs that have expired, the earliest expiry first, then by number; those in `kept` are
/// passed over. Runs that have nothing to tell any more are removed on the way.
pub(crate) fn take(
    conn: &Connection,
    now: Timestamp,
    max: usize,
    kept: &HashSet<i64>,
) -> rusqlite::Result<Vec<i64>> {
    let mut expired = Vec::new();
    let mut passed = i64::MIN;
    loop {
        let Some(expires_at) = soonest(conn, now, passed)? else { return Ok(expired) };
        passed = expires_at;
        let mut together = jobs_of(conn, expires_at)?;
        let all = together.len();
        together.retain(|seq| !kept.contains(seq));
        let keeps_any = together.len() < all;
        let room = max - expired.len();
        if together.len() > room {
            together.truncate(room);
            expired.append(&mut together);
            return Ok(expired);
        }
        expired.append(&mut together);
        if !keeps_any {
            conn.prepare_cached(DELETE_RUNS)?.execute([expires_at])?;
        }
    }
}

/// Whether any job has expired, besides those in `kept`.
pub(crate) fn has_more(
    conn: &Connection,
    now: Timestamp,
    kept: &HashSet<i64>,
) -> rusqlite::Result<bool> {
    let mut passed = i64::MIN;
    loop {
        let Some(expires_at) = soonest(conn, now, passed)? else { return Ok(false) };
        passed = expires_at;
        let jobs = jobs_of(conn, expires_at)?;
        if jobs.iter().any(|seq| !kept.contains(seq)) {
            return Ok(true);
        }
        if jobs.is_empty() {
            conn.prepare_cached(DELETE_RUNS)?.execute([expires_at])?;
        }
    }
}

/// The first instant after `passed` at which jobs may expire, if it has come.
fn soonest(conn: &Connection, now: Timestamp, passed: i64) -> rusqlite::Result<Option<i64>> {
    let mut select = conn.prepare_cached(SELECT_SOONEST)?;
    select.query_row([now.as_micros(), passed], |row| row.get(0)).optional()
}

/// The jobs that expire at an instant, by number.
fn jobs_of(conn: &Connection, expires_at: i64) -> rusqlite::Result<Vec<i64>> {
    let mut select = conn.prepare_cached(SELECT_RUNS)?;
    let runs = select.query_map([expires_at], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut jobs: Vec<i64> = Vec::new();
    for run in runs {
        let (code, first, last): (i64, i64, i64) = run?;
        let sql = match codes::state(code)? {
            StateName::Succeeded => SELECT_SUCCEEDED,
            StateName::Failed => SELECT_FAILED,
            StateName::Deleted => SELECT_DELETED,
            _ => return Err(codes::unknown("state of an expiry", code)),
        };
        let mut select = conn.prepare_cached(sql)?;
        for job in select.query_map([first, last, expires_at], |row| row.get(0))? {
            jobs.push(job?);
        }
    }
    // Runs of different commits may overlap.
    jobs.sort_unstable();
    jobs.dedup();
    Ok(jobs)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    INSERT_RUN,
    SELECT_SOONEST,
    SELECT_RUNS,
    DELETE_RUNS,
    SELECT_SUCCEEDED,
    SELECT_FAILED,
    SELECT_DELETED,
];

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000);

    /// A database with jobs that succeeded, by number and expiry.
    fn with(jobs: &[(i64, i64)]) -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        let migrations = crate::migrate::migrations();
        migrations.iter().for_each(|step| conn.execute_batch(step.sql).unwrap());
        let insert =
            "INSERT INTO portfire_succeeded VALUES (?1, 0, ?2, 3, 1, 0, 0, 0, 1, 0, NULL, 0)";
        for &(seq, expires_at) in jobs {
            conn.execute(insert, [seq, expires_at]).unwrap();
        }
        conn
    }

    fn runs(conn: &Connection) -> Vec<(i64, i64, i64)> {
        let sql = "SELECT expires_at, first, last FROM portfire_expiry ORDER BY 1, 2";
        let mut select = conn.prepare(sql).unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }

    #[test]
    fn neighbours_of_one_instant_are_one_run() {
        let conn = with(&[]);
        let mut jobs: Vec<_> = [7, 1, 2, 3, 40, 41, 10].map(|seq| (500, 4, seq)).to_vec();
        jobs.push((600, 4, 4));
        write(&conn, &mut jobs).unwrap();
        assert_eq!(runs(&conn), [(500, 1, 10), (500, 40, 41), (600, 4, 4)]);
    }

    #[test]
    fn what_left_or_expires_later_is_passed_over() {
        let conn = with(&[(1, 500), (3, 900), (4, 500), (5, 2_000)]);
        write(&conn, &mut vec![(500, 4, 1), (500, 4, 2), (500, 4, 3), (500, 4, 4)]).unwrap();
        write(&conn, &mut vec![(900, 4, 3), (2_000, 4, 5)]).unwrap();
        assert_eq!(take(&conn, NOW, 10, &HashSet::new()).unwrap(), [1, 4, 3]);
        assert_eq!(runs(&conn), [(2_000, 5, 5)]);
    }

    #[test]
    fn what_is_kept_is_passed_over_and_found_again() {
        let conn = with(&[(1, 500), (2, 500), (3, 600)]);
        write(&conn, &mut vec![(500, 4, 1), (500, 4, 2), (600, 4, 3)]).unwrap();
        let kept = HashSet::from([1, 3]);
        assert_eq!(take(&conn, NOW, 10, &kept).unwrap(), [2]);
        conn.execute("DELETE FROM portfire_succeeded WHERE seq = 2", []).unwrap();
        assert!(!has_more(&conn, NOW, &kept).unwrap());
        assert_eq!(take(&conn, NOW, 10, &HashSet::new()).unwrap(), [1, 3]);
    }

    #[test]
    fn a_run_that_is_cut_stays_for_the_next_time() {
        let conn = with(&[(1, 500), (2, 500), (3, 500)]);
        write(&conn, &mut vec![(500, 4, 1), (500, 4, 2), (500, 4, 3)]).unwrap();
        assert_eq!(take(&conn, NOW, 2, &HashSet::new()).unwrap(), [1, 2]);
        conn.execute("DELETE FROM portfire_succeeded WHERE seq < 3", []).unwrap();
        assert!(has_more(&conn, NOW, &HashSet::new()).unwrap());
        assert_eq!(take(&conn, NOW, 2, &HashSet::new()).unwrap(), [3]);
        conn.execute("DELETE FROM portfire_succeeded", []).unwrap();
        assert!(!has_more(&conn, NOW, &HashSet::new()).unwrap());
    }
}
