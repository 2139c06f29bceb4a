//! How those have ended that a job waited for, as far as it asked: kept with the job, however long they are.
//!
//! What is long is written once for all jobs that are to get it: a thousand jobs that wait for one large
//! result do not make a commit of a thousand large results.

use portfire_core::{Dependency, ErrorRecord, Json, ParentOutcome, StateName};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use crate::error::Failure;
use crate::history;
use crate::row::{Body, Stand, state};
use crate::write::code;

/// The most bytes of a result and an error that each job gets a copy of.
const COPIED_MAX: usize = 256;

const INSERT_OUTCOME: &str = "INSERT INTO portfire_parent \
    (seq, place, state, result, error_class, error_message, passed) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const INSERT_PASSED: &str = "INSERT INTO portfire_passed \
    (antecedent, revision, result, error_class, error_message) VALUES (?1, ?2, ?3, ?4, ?5)";
const SELECT_PASSED: &str =
    "SELECT passed FROM portfire_passed WHERE antecedent = ?1 AND revision = ?2";
const SELECT_OUTCOMES: &str = "SELECT o.place, o.state, coalesce(o.result, p.result), \
    coalesce(o.error_class, p.error_class), coalesce(o.error_message, p.error_message) \
    FROM portfire_parent o LEFT JOIN portfire_passed p ON p.passed = o.passed \
    WHERE o.seq = ?1 ORDER BY o.place";
const SELECT_RESULT: &str = "SELECT result FROM portfire_result WHERE seq = ?1";
const SELECT_GOT: &str = "SELECT passed FROM portfire_parent WHERE seq = ?1 AND passed IS NOT NULL";
const DELETE_OUTCOMES: &str = "DELETE FROM portfire_parent WHERE seq = ?1";
const DELETE_PASSED: &str = "DELETE FROM portfire_passed WHERE passed = ?1 \
    AND NOT EXISTS (SELECT 1 FROM portfire_parent o WHERE o.passed = ?1)";

/// How a parent has ended, to be kept with those that asked for it.
pub(crate) struct Outcome {
    state: StateName,
    said: Said,
}

enum Said {
    /// Nothing: the parent is a batch, or it has moved on since.
    Nothing,
    /// This, by the job with this number in this revision.
    New { number: i64, revision: u32, result: Option<String>, error: Option<ErrorRecord> },
    /// What is stored under this number.
    Stored(i64),
}

impl Outcome {
    /// How a parent is told of that ended in this state: with what it returned, or what went wrong, if it is
    /// a job (with this number) and still stands there.
    pub(crate) fn of(
        conn: &Connection,
        job: Option<i64>,
        state: StateName,
    ) -> Result<Outcome, Failure> {
        let said = match job {
            Some(number) => Said::by(conn, number, state)?,
            None => Said::Nothing,
        };
        Ok(Outcome { state, said })
    }

    /// Keeps it with a job that waited for it at this place.
    pub(crate) fn keep(
        &mut self,
        conn: &Connection,
        seq: i64,
        place: usize,
    ) -> rusqlite::Result<()> {
        self.said.share(conn)?;
        let (result, error, passed) = match &self.said {
            Said::Nothing => (None, None, None),
            Said::New { result, error, .. } => (result.as_deref(), error.as_ref(), None),
            Said::Stored(passed) => (None, None, Some(passed)),
        };
        conn.prepare_cached(INSERT_OUTCOME)?.execute(params![
            seq,
            place as i64,
            code(self.state) as i64,
            result,
            error.map(|error| &error.class),
            error.map(|error| &error.message),
            passed
        ])?;
        Ok(())
    }
}

impl Said {
    fn by(conn: &Connection, number: i64, state: StateName) -> Result<Said, Failure> {
        let body = Body::of(conn, number)?;
        let stand = Stand::find(conn, &body)?;
        if stand.standing.state != state {
            return Ok(Said::Nothing);
        }
        let revision = stand.standing.revision;
        if let Some(stored) = stored(conn, number, revision)? {
            return Ok(Said::Stored(stored));
        }
        let (mut result, mut error) = (None, None);
        if state == StateName::Succeeded {
            let mut select = conn.prepare_cached(SELECT_RESULT)?;
            result = select.query_row([number], |row| row.get(0)).optional()?;
        } else {
            error = history::last(conn, &body, &stand)?.error;
        }
        Ok(Said::New { number, revision, result, error })
    }

    /// Stores what is long, for all who get it.
    fn share(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let Said::New { number, revision, result, error } = self else { return Ok(()) };
        let in_error = error.as_ref().map_or(0, |error| error.class.len() + error.message.len());
        if result.as_ref().map_or(0, String::len) + in_error <= COPIED_MAX {
            return Ok(());
        }
        let passed = match stored(conn, *number, *revision)? {
            Some(passed) => passed,
            None => {
                conn.prepare_cached(INSERT_PASSED)?.execute(params![
                    *number,
                    *revision,
                    &*result,
                    error.as_ref().map(|error| &error.class),
                    error.as_ref().map(|error| &error.message)
                ])?;
                conn.last_insert_rowid()
            }
        };
        *self = Said::Stored(passed);
        Ok(())
    }
}

fn stored(conn: &Connection, number: i64, revision: u32) -> rusqlite::Result<Option<i64>> {
    let mut select = conn.prepare_cached(SELECT_PASSED)?;
    select.query_row(params![number, revision], |row| row.get(0)).optional()
}

/// How those have ended that a job waited for, as far as it asked; `after` is what it waited for.
pub(crate) fn read(
    conn: &Connection,
    seq: i64,
    after: &[Dependency],
) -> rusqlite::Result<Vec<ParentOutcome>> {
    let mut select = conn.prepare_cached(SELECT_OUTCOMES)?;
    let rows = select.query_map([seq], |row| outcome(row, after))?;
    rows.filter_map(Result::transpose).collect()
}

fn outcome(row: &SqlRow<'_>, after: &[Dependency]) -> rusqlite::Result<Option<ParentOutcome>> {
    let place: u32 = row.get(0)?;
    let Some(dependency) = after.get(place as usize) else { return Ok(None) };
    let class: Option<String> = row.get(3)?;
    let message: Option<String> = row.get(4)?;
    Ok(Some(ParentOutcome {
        parent: dependency.on,
        state: state(row.get(1)?),
        result: row.get::<_, Option<String>>(2)?.map(Json::stored),
        error: class.zip(message).map(|(class, message)| ErrorRecord { class, message }),
    }))
}

/// Removes what a job was told, and what nobody else was told of that.
pub(crate) fn forget(conn: &Connection, seq: i64) -> rusqlite::Result<()> {
    let mut select = conn.prepare_cached(SELECT_GOT)?;
    let got: Vec<i64> = select.query_map([seq], |row| row.get(0))?.collect::<Result<_, _>>()?;
    conn.prepare_cached(DELETE_OUTCOMES)?.execute([seq])?;
    for passed in got {
        conn.prepare_cached(DELETE_PASSED)?.execute([passed])?;
    }
    Ok(())
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    INSERT_OUTCOME,
    INSERT_PASSED,
    SELECT_PASSED,
    SELECT_OUTCOMES,
    SELECT_RESULT,
    SELECT_GOT,
    DELETE_OUTCOMES,
    DELETE_PASSED,
];
