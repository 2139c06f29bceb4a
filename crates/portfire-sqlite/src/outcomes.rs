//! How those have ended that a job waited for, as far as it asked: kept with the job, however long they are.
//!
//! What is long is written once for all jobs that are to get it: a thousand jobs that wait for one large
//! result do not make a commit of a thousand large results.

use portfire_core::{Dependency, ErrorRecord, Json, ParentOutcome, StateName};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use crate::codes;
use crate::error::Failure;
use crate::history;
use crate::row;
use crate::write::{Write, code};

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

/// What a job said at its end, for those who are to get it: read once, and remembered while it is handed to many.
#[derive(Debug)]
pub(crate) struct Said {
    seq: i64,
    revision: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    /// This, which each gets a copy of.
    Short { result: Option<String>, error: Option<ErrorRecord> },
    /// What is stored under this number.
    Stored(i64),
}

/// Keeps the end of a parent with a job that waited for it at this place: with what the job of `of` said in that
/// revision, in which it stands.
pub(crate) fn keep(
    write: &mut Write<'_>,
    child: i64,
    place: usize,
    end: StateName,
    of: Option<(i64, u32)>,
) -> Result<(), Failure> {
    if let Some((seq, revision)) = of
        && write.said.as_ref().is_none_or(|said| (said.seq, said.revision) != (seq, revision))
    {
        write.said = Some(Said { seq, revision, what: What::of(write.conn, seq, revision)? });
    }
    let said = write.said.as_ref().filter(|_| of.is_some());
    let (result, error, passed) = match said.map(|said| &said.what) {
        None => (None, None, None),
        Some(What::Short { result, error }) => (result.as_deref(), error.as_ref(), None),
        Some(What::Stored(passed)) => (None, None, Some(passed)),
    };
    write.conn.prepare_cached(INSERT_OUTCOME)?.execute(params![
        child,
        place as i64,
        code(end) as i64,
        result,
        error.map(|error| &error.class),
        error.map(|error| &error.message),
        passed
    ])?;
    write.touch();
    Ok(())
}

impl What {
    fn of(conn: &Connection, seq: i64, revision: u32) -> Result<What, Failure> {
        if let Some(stored) = stored(conn, seq, revision)? {
            return Ok(What::Stored(stored));
        }
        let body = row::body(conn, seq)?;
        let stand = row::stand(conn, &body)?;
        let (mut result, mut error): (Option<String>, _) = (None, None);
        if stand.standing.state == StateName::Succeeded {
            let mut select = conn.prepare_cached(SELECT_RESULT)?;
            result = select.query_row([seq], |row| row.get(0)).optional()?;
        } else {
            error = history::last(conn, &body, &stand)?.error;
        }
        let in_error =
            error.as_ref().map_or(0, |error: &ErrorRecord| error.class.len() + error.message.len());
        if result.as_ref().map_or(0, String::len) + in_error <= COPIED_MAX {
            return Ok(What::Short { result, error });
        }
        conn.prepare_cached(INSERT_PASSED)?.execute(params![
            seq,
            revision,
            result,
            error.as_ref().map(|error| &error.class),
            error.as_ref().map(|error| &error.message)
        ])?;
        Ok(What::Stored(conn.last_insert_rowid()))
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
        state: codes::state(row.get(1)?)?,
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
