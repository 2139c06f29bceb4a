//! What running jobs say: log lines, bars, metadata, tags. A row for each piece, however many lines it has.

use std::collections::BTreeMap;

use portfire_core::engine::notes::{LinePlace, take_bar, take_line, take_tag, takes_metadata};
use portfire_core::monitor::PAGE_MAX;
use portfire_core::{
    Cursor, JobId, JobOptions, Json, LogLine, LogPage, Notes, NotesRecord, Progress, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;

use crate::codes;
use crate::error::{Failure, corrupt, foreign_cursor};
use crate::row::options;
use crate::write::Write;

// A piece that is there already changes nothing.
const INSERT_PIECE: &str = "INSERT INTO portfire_log (seq, attempt, piece, bytes, lines) \
    VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (seq, attempt, piece) DO NOTHING";
const SELECT_LAST: &str = "SELECT piece, bytes FROM portfire_log WHERE seq = ?1 AND attempt = ?2 \
    ORDER BY piece DESC LIMIT 1";
const UPDATE_LAST: &str =
    "UPDATE portfire_log SET bytes = ?4 WHERE seq = ?1 AND attempt = ?2 AND piece = ?3";
const SELECT_NOTE: &str = "SELECT bars, tags FROM portfire_note WHERE seq = ?1";
const UPSERT_NOTE: &str = "INSERT INTO portfire_note (seq, bars, tags) VALUES (?1, ?2, ?3) \
    ON CONFLICT (seq) DO UPDATE SET bars = ?2, tags = ?3";
const SELECT_OPTIONS: &str = "SELECT options FROM portfire_job WHERE seq = ?1";
const SELECT_NAMES: &str = "SELECT name FROM portfire_metadata WHERE seq = ?1";
const UPSERT_METADATA: &str = "INSERT INTO portfire_metadata (seq, name, value) \
    VALUES (?1, ?2, ?3) ON CONFLICT (seq, name) DO UPDATE SET value = ?3";
const SELECT_METADATA: &str = "SELECT name, value FROM portfire_metadata WHERE seq = ?1";
const SELECT_LINES: &str = "SELECT attempt, piece, lines FROM portfire_log \
    WHERE seq = ?1 AND (attempt, piece) >= (?2, ?3) ORDER BY attempt, piece";
const SELECT_SEQ: &str = "SELECT seq FROM portfire_job WHERE id = ?1";
const SELECT_NEXT: &str = "SELECT seq FROM portfire_log WHERE seq >= ?1 ORDER BY seq LIMIT 1";
const DELETE_NOTE: &str = "DELETE FROM portfire_note WHERE seq = ?1";
const DELETE_LOG: &str = "DELETE FROM portfire_log WHERE seq = ?1";
const DELETE_METADATA: &str = "DELETE FROM portfire_metadata WHERE seq = ?1";

/// A stored line: when, the code of its level, what.
type Line<T> = (i64, u8, T);
/// A stored bar: its name, how far it is, how far it goes.
type Bar = (String, u64, u64);

/// Takes down what an attempt says. The caller has made sure that it may speak.
pub(crate) fn annotate(
    write: &mut Write<'_>,
    seq: i64,
    attempt: u32,
    notes: &Notes,
) -> Result<(), Failure> {
    let (last, used) = last_piece(write, seq, attempt)?;
    let (lines, used) = fitting(&notes.lines, used);
    let lines = encode(&lines)?;
    let values = params![seq, attempt, notes.piece, used, lines];
    if write.statement(INSERT_PIECE)?.execute(values)? == 0 {
        return Ok(());
    }
    write.touch();
    let conn = write.conn;
    if let Some(last) = last.filter(|last| *last > notes.piece) {
        let values = params![seq, attempt, last, used];
        conn.prepare_cached(UPDATE_LAST)?.execute(values)?;
    }
    if !(notes.progress.is_empty() && notes.tags.is_empty()) {
        let mut note = Note::find(conn, seq)?;
        note.take_bars(&notes.progress)?;
        note.take_tags(conn, seq, &notes.tags)?;
        note.store(conn, seq)?;
    }
    if !notes.metadata.is_empty() {
        take_metadata(conn, seq, &notes.metadata)?;
    }
    Ok(())
}

/// The last piece of an attempt, and how many bytes of log text the attempt has used.
fn last_piece(
    write: &mut Write<'_>,
    seq: i64,
    attempt: u32,
) -> rusqlite::Result<(Option<u32>, u32)> {
    let select = write.statement(SELECT_LAST)?;
    let read = |row: &Row<'_>| Ok((Some(row.get(0)?), row.get(1)?));
    Ok(select.query_row([seq, i64::from(attempt)], read).optional()?.unwrap_or_default())
}

/// The lines that an attempt may still say, and the bytes that it has used then.
fn fitting(lines: &[LogLine], used: u32) -> (Vec<Line<&str>>, u32) {
    let mut taken = Vec::with_capacity(lines.len());
    let mut bytes = used as usize;
    for line in lines {
        if let Some(text) = take_line(&mut bytes, &line.text) {
            taken.push((line.at.as_micros(), codes::level_code(line.level), text));
        }
    }
    (taken, u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// What a job says besides lines and metadata.
#[derive(Default)]
struct Note {
    bars: Option<String>,
    tags: Option<String>,
}

impl Note {
    fn find(conn: &Connection, seq: i64) -> Result<Note, Failure> {
        let mut select = conn.prepare_cached(SELECT_NOTE)?;
        let found =
            select.query_row([seq], |row| Ok(Note { bars: row.get(0)?, tags: row.get(1)? }));
        Ok(found.optional()?.unwrap_or_default())
    }

    fn store(&self, conn: &Connection, seq: i64) -> Result<(), Failure> {
        conn.prepare_cached(UPSERT_NOTE)?.execute(params![seq, self.bars, self.tags])?;
        Ok(())
    }

    fn take_bars(&mut self, progress: &[Progress]) -> Result<(), Failure> {
        if progress.is_empty() {
            return Ok(());
        }
        let mut bars = bars(self.bars.as_deref())?;
        progress.iter().for_each(|moved| take_bar(&mut bars, moved.clone()));
        let stored = |Progress { bar, done, total }: Progress| (bar, done, total);
        let bars: Vec<Bar> = bars.into_iter().map(stored).collect();
        self.bars = Some(encode(&bars)?);
        Ok(())
    }

    fn take_tags(&mut self, conn: &Connection, seq: i64, tags: &[String]) -> Result<(), Failure> {
        if tags.is_empty() {
            return Ok(());
        }
        let of_call = tags_of_call(conn, seq)?;
        let mut own: Vec<String> = decode_or_default(self.tags.as_deref())?;
        tags.iter().for_each(|tag| take_tag(&mut own, &of_call, tag.clone()));
        self.tags = Some(encode(&own)?);
        Ok(())
    }
}

fn tags_of_call(conn: &Connection, seq: i64) -> Result<Vec<String>, Failure> {
    let mut select = conn.prepare_cached(SELECT_OPTIONS)?;
    let text: Option<String> = select.query_row([seq], |row| row.get(0))?;
    let options = text.map_or(Ok(JobOptions::default()), |text| options(seq, &text));
    Ok(options?.tags)
}

fn take_metadata(
    conn: &Connection,
    seq: i64,
    metadata: &BTreeMap<String, Json>,
) -> Result<(), Failure> {
    let mut known: Vec<String> = {
        let mut select = conn.prepare_cached(SELECT_NAMES)?;
        let rows = select.query_map([seq], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    for (name, value) in metadata {
        let is_known = known.contains(name);
        if !takes_metadata(known.len(), is_known, value) {
            continue;
        }
        if !is_known {
            known.push(name.clone());
        }
        let values = params![seq, name, value.as_str()];
        conn.prepare_cached(UPSERT_METADATA)?.execute(values)?;
    }
    Ok(())
}

/// The bars that are stored.
fn bars(text: Option<&str>) -> Result<Vec<Progress>, Failure> {
    let stored: Vec<Bar> = decode_or_default(text)?;
    let bar = |(bar, done, total)| Progress { bar, done, total };
    Ok(stored.into_iter().map(bar).collect())
}

/// What a job has said about itself, without its log.
pub(crate) fn notes(conn: &Connection, id: JobId) -> Result<NotesRecord, Failure> {
    let Some(seq) = seq_of(conn, id)? else { return Ok(NotesRecord::default()) };
    let note = Note::find(conn, seq)?;
    let mut select = conn.prepare_cached(SELECT_METADATA)?;
    let rows =
        select.query_map([seq], |row| Ok((row.get(0)?, Json::stored(row.get::<_, String>(1)?))))?;
    Ok(NotesRecord {
        progress: bars(note.bars.as_deref())?,
        metadata: rows.collect::<rusqlite::Result<_>>()?,
        tags: decode_or_default(note.tags.as_deref())?,
    })
}

/// A page of a job's log.
pub(crate) fn log(
    conn: &Connection,
    id: JobId,
    after: Option<Cursor>,
    max: u32,
) -> Result<LogPage, Failure> {
    // The first line that is wanted.
    let LinePlace { attempt, piece, line: first } = match &after {
        Some(cursor) => {
            let last: LinePlace = cursor.0.parse().map_err(|_| foreign_cursor(cursor))?;
            LinePlace { line: last.line.saturating_add(1), ..last }
        }
        None => LinePlace::default(),
    };
    let Some(seq) = seq_of(conn, id)? else { return Ok(LogPage::default()) };
    let max = max.min(PAGE_MAX) as usize;
    let mut page = LogPage { lines: Vec::new(), next: after };
    let mut select = conn.prepare_cached(SELECT_LINES)?;
    let mut rows = select.query(params![seq, attempt, piece])?;
    while page.lines.len() < max
        && let Some(row) = rows.next()?
    {
        let place: (u32, u32) = (row.get(0)?, row.get(1)?);
        let text = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
        let lines: Vec<Line<String>> = decode(text)?;
        let skipped = if place == (attempt, piece) { first } else { 0 };
        let room = max - page.lines.len();
        let wanted = lines.into_iter().enumerate().skip(skipped).take(room);
        for (number, (at, level, text)) in wanted {
            let (attempt, piece) = place;
            let level = codes::level(level)?;
            page.lines.push(LogLine { attempt, at: Timestamp::from_micros(at), level, text });
            page.next = Some(Cursor(LinePlace { attempt, piece, line: number }.to_string()));
        }
    }
    Ok(page)
}

fn seq_of(conn: &Connection, id: JobId) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached(SELECT_SEQ)?.query_row([id.as_bytes()], |row| row.get(0)).optional()
}

/// Removes what these jobs have said. Those that have said nothing cost nothing: only the rows
/// of the others are met.
pub(crate) fn remove(conn: &Connection, jobs: &[i64]) -> rusqlite::Result<()> {
    let mut jobs = jobs.to_vec();
    jobs.sort_unstable();
    let mut rest = jobs.as_slice();
    while let [first, ..] = rest {
        let mut select = conn.prepare_cached(SELECT_NEXT)?;
        let next: Option<i64> = select.query_row([first], |row| row.get(0)).optional()?;
        let Some(speaker) = next else { return Ok(()) };
        rest = &rest[rest.partition_point(|&seq| seq < speaker)..];
        if let [seq, after @ ..] = rest
            && *seq == speaker
        {
            for sql in [DELETE_NOTE, DELETE_LOG, DELETE_METADATA] {
                conn.prepare_cached(sql)?.execute([speaker])?;
            }
            rest = after;
        }
    }
    Ok(())
}

fn encode<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| corrupt(format!("notes: {error}")))
}

fn decode<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| corrupt(format!("the notes of a job: {error}")))
}

fn decode_or_default<T: DeserializeOwned + Default>(text: Option<&str>) -> Result<T, Failure> {
    text.map_or_else(|| Ok(T::default()), decode)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    INSERT_PIECE,
    SELECT_LAST,
    UPDATE_LAST,
    SELECT_NOTE,
    UPSERT_NOTE,
    SELECT_OPTIONS,
    SELECT_NAMES,
    UPSERT_METADATA,
    SELECT_METADATA,
    SELECT_LINES,
    SELECT_SEQ,
    SELECT_NEXT,
    DELETE_NOTE,
    DELETE_LOG,
    DELETE_METADATA,
];
