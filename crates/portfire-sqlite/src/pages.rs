//! Pages of jobs: each order of listing with the cursor that goes on in it.
//!
//! A page looks at a bounded number of rows, in the order of an index, and reads whole jobs only for
//! those that match.

use std::borrow::Cow;

use portfire_core::{Cursor, JobFilter, JobId, JobPage, QueueName, StateName};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, Statement, params};

use crate::error::{Failure, foreign_cursor};
use crate::links::batch_number;
use crate::monitor::record;
use crate::{row, shelves};

/// Most jobs that are looked at for one page.
const SCANNED_MAX: usize = 10_000;
/// Up to so many jobs with the wanted beginning of their ids are found by the ids, not by a scan.
const NAMED_MAX: usize = 1_000;

// The first columns are the place in the order; the last five are looked at by the filter.
const SELECT_CREATED: &str = "SELECT seq, 0, seq, queue, kind, id, batch FROM portfire_job \
    WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2";
const SELECT_AWAITING: &str = "SELECT a.seq, 0, a.seq, j.queue, j.kind, j.id, j.batch \
    FROM portfire_awaiting a CROSS JOIN portfire_job j ON j.seq = a.seq \
    WHERE a.seq < ?1 ORDER BY a.seq DESC LIMIT ?2";
// Members are looked through for those in a state.
const SELECT_MEMBERS: &str = "SELECT j.seq, 0, j.seq, j.queue, j.kind, j.id, j.batch \
    FROM portfire_job j WHERE j.seq < ?1 AND j.batch = ?3 ORDER BY j.seq DESC LIMIT ?2";
const SELECT_RUNNING: &str = "SELECT r.seq, 0, r.seq, j.queue, j.kind, j.id, j.batch \
    FROM portfire_running r CROSS JOIN portfire_job j ON j.seq = r.seq \
    WHERE r.seq < ?1 ORDER BY r.seq DESC LIMIT ?2";
const SELECT_SUCCEEDED: &str = "SELECT f.seq, 0, f.seq, j.queue, j.kind, j.id, j.batch \
    FROM portfire_succeeded f CROSS JOIN portfire_job j ON j.seq = f.seq \
    WHERE f.seq < ?1 ORDER BY f.seq DESC LIMIT ?2";
const SELECT_FAILED: &str = "SELECT f.seq, 0, f.seq, j.queue, j.kind, j.id, j.batch \
    FROM portfire_failed f CROSS JOIN portfire_job j ON j.seq = f.seq \
    WHERE f.seq < ?1 ORDER BY f.seq DESC LIMIT ?2";
const SELECT_DELETED: &str = "SELECT f.seq, 0, f.seq, j.queue, j.kind, j.id, j.batch \
    FROM portfire_deleted f CROSS JOIN portfire_job j ON j.seq = f.seq \
    WHERE f.seq < ?1 ORDER BY f.seq DESC LIMIT ?2";
const SELECT_SCHEDULED: &str = "SELECT s.run_at, s.seq, s.seq, j.queue, j.kind, j.id, j.batch \
    FROM portfire_scheduled s CROSS JOIN portfire_job j ON j.seq = s.seq \
    WHERE (s.run_at, s.seq) > (?1, ?2) ORDER BY s.run_at, s.seq LIMIT ?3";
const SELECT_READY: &str = "SELECT r.rank, r.place, r.seq, j.queue, j.kind, j.id, j.batch \
    FROM portfire_ready r CROSS JOIN portfire_job j ON j.seq = r.seq \
    WHERE r.queue = ?1 AND (r.rank, r.place) > (?2, ?3) ORDER BY r.rank, r.place LIMIT ?4";
// Behind those who can be claimed stand those in the lines of limits, and then the suspects; no rank is one of the
// two highest numbers.
const SELECT_LINE: &str = "SELECT 9223372036854775806, r.seq, r.seq, r.queue, j.kind, j.id, j.batch \
    FROM portfire_line r CROSS JOIN portfire_job j ON j.seq = r.seq \
    WHERE r.queue = ?1 AND r.seq > ?2 ORDER BY r.seq LIMIT ?3";
const SELECT_APART: &str = "SELECT 9223372036854775807, r.place, r.seq, j.queue, j.kind, j.id, j.batch \
    FROM portfire_ready r CROSS JOIN portfire_job j ON j.seq = r.seq \
    WHERE r.queue = -?1 AND r.rank = 0 AND r.place > ?2 ORDER BY r.place LIMIT ?3";
const SELECT_QUEUES: &str = "SELECT queue, name FROM portfire_queue WHERE name >= ?1 ORDER BY name";
const SELECT_NAMED: &str = "SELECT seq FROM portfire_job WHERE id BETWEEN ?1 AND ?2 LIMIT ?3";
const SELECT_QUEUE: &str = "SELECT queue FROM portfire_queue WHERE name = ?1";
const SELECT_KIND: &str = "SELECT kind FROM portfire_kind WHERE name = ?1";

/// The rank of those in lines, for a cursor.
const IN_LINE: i64 = i64::MAX - 1;
/// The rank of suspects, for a cursor.
const APART: i64 = i64::MAX;

/// Reads a page.
pub(crate) fn page(conn: &Connection, filter: &JobFilter) -> Result<JobPage, Failure> {
    let after =
        filter.after.as_ref().map(|cursor| Mark::parse(cursor, filter.state)).transpose()?;
    let Some(wanted) = Wanted::of(conn, filter)? else { return Ok(JobPage::default()) };
    let mut page = Page::new(conn, filter, wanted);
    match filter.state {
        Some(StateName::Scheduled) => {
            let (run_at, seq) = match after {
                Some(Mark::Scheduled(run_at, seq)) => (run_at, seq),
                _ => (i64::MIN, 0),
            };
            let limit = SCANNED_MAX as i64 + 1;
            page.take(SELECT_SCHEDULED, params![run_at, seq, limit], Mark::Scheduled)?;
        }
        Some(StateName::Enqueued) => page.take_enqueued(filter, after)?,
        state => {
            let before = match after {
                Some(Mark::Created(seq)) => seq,
                _ => i64::MAX,
            };
            let limit = SCANNED_MAX as i64 + 1;
            let mark = |seq, _| Mark::Created(seq);
            if let Some(batch) = page.wanted.batch {
                page.wanted.state = state;
                page.take(SELECT_MEMBERS, params![before, limit, batch], mark)?;
                return Ok(page.page);
            }
            let sql = match state {
                None => SELECT_CREATED,
                Some(StateName::Processing) => SELECT_RUNNING,
                Some(StateName::Succeeded) => SELECT_SUCCEEDED,
                Some(StateName::Failed) => SELECT_FAILED,
                Some(StateName::Deleted) => SELECT_DELETED,
                Some(_) => SELECT_AWAITING,
            };
            page.take(sql, params![before, limit], mark)?;
        }
    }
    Ok(page.page)
}

/// A place in an order of listing; its text is the cursor.
#[derive(Clone, Debug)]
enum Mark {
    Created(i64),
    Scheduled(i64, i64),
    Enqueued(QueueName, i64, i64),
}

impl Mark {
    fn cursor(&self) -> Cursor {
        Cursor(match self {
            Mark::Created(seq) => seq.to_string(),
            Mark::Scheduled(run_at, seq) => format!("{run_at}.{seq}"),
            Mark::Enqueued(queue, rank, place) => format!("{queue}.{rank}.{place}"),
        })
    }

    fn parse(cursor: &Cursor, state: Option<StateName>) -> Result<Mark, Failure> {
        let mut parts = cursor.0.splitn(3, '.');
        let mut text = || parts.next().unwrap_or_default();
        let mark = match state {
            Some(StateName::Scheduled) => text()
                .parse()
                .ok()
                .and_then(|run_at| Some(Mark::Scheduled(run_at, text().parse().ok()?))),
            Some(StateName::Enqueued) => text().parse().ok().and_then(|queue| {
                Some(Mark::Enqueued(queue, text().parse().ok()?, text().parse().ok()?))
            }),
            _ => cursor.0.parse().ok().map(Mark::Created),
        };
        mark.ok_or_else(|| foreign_cursor(cursor))
    }
}

/// A filter, in the numbers of the database.
struct Wanted {
    queue: Option<i64>,
    kind: Option<i64>,
    batch: Option<i64>,
    /// Set when the rows may be of jobs in other states.
    state: Option<StateName>,
    prefix: Option<String>,
    /// The jobs whose ids begin so, when they are few.
    named: Option<Vec<i64>>,
}

impl Wanted {
    /// `None` when nothing can match.
    fn of(conn: &Connection, filter: &JobFilter) -> Result<Option<Wanted>, Failure> {
        let number = |sql: &str, name: &str| -> rusqlite::Result<Option<i64>> {
            conn.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()
        };
        let mut wanted =
            Wanted { queue: None, kind: None, batch: None, state: None, prefix: None, named: None };
        if let Some(name) = &filter.queue {
            wanted.queue = number(SELECT_QUEUE, name.as_str())?;
            if wanted.queue.is_none() {
                return Ok(None);
            }
        }
        if let Some(name) = &filter.kind {
            wanted.kind = number(SELECT_KIND, name.as_str())?;
            if wanted.kind.is_none() {
                return Ok(None);
            }
        }
        if let Some(id) = filter.batch {
            wanted.batch = batch_number(conn, id)?;
            if wanted.batch.is_none() {
                return Ok(None);
            }
        }
        if let Some(prefix) = filter.id_prefix.as_ref().filter(|prefix| !prefix.is_empty()) {
            let Some((first, last)) = id_range(prefix) else { return Ok(None) };
            let mut select = conn.prepare_cached(SELECT_NAMED)?;
            let values = params![first, last, NAMED_MAX as i64 + 1];
            let rows = select.query_map(values, |row| row.get(0))?;
            let named: Vec<i64> = rows.collect::<rusqlite::Result<_>>()?;
            if named.is_empty() {
                return Ok(None);
            }
            wanted.prefix = Some(prefix.clone());
            wanted.named = (named.len() <= NAMED_MAX).then_some(named);
        }
        Ok(Some(wanted))
    }

    fn matches(&self, row: &SqlRow<'_>) -> rusqlite::Result<bool> {
        if self.queue.is_some_and(|queue| row.get(3).ok() != Some(queue))
            || self.kind.is_some_and(|kind| row.get(4).ok() != Some(kind))
            || self.batch.is_some_and(|batch| row.get(6).ok() != Some(batch))
        {
            return Ok(false);
        }
        match &self.prefix {
            None => Ok(true),
            Some(prefix) => {
                let id = JobId::from_bytes(row.get(5)?);
                Ok(id.to_string().starts_with(prefix.as_str()))
            }
        }
    }
}

/// The first and the last id whose text begins so; `None` when no id's does.
fn id_range(prefix: &str) -> Option<([u8; 16], [u8; 16])> {
    const SHAPE: &str = "00000000-0000-0000-0000-000000000000";
    let legal = |(at, byte): (usize, u8)| match SHAPE.as_bytes()[at] {
        b'-' => byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    if prefix.len() > SHAPE.len() || !prefix.bytes().enumerate().all(legal) {
        return None;
    }
    let padded = |pad: &str| -> Option<[u8; 16]> {
        let rest: String = SHAPE[prefix.len()..].replace('0', pad);
        let id: JobId = format!("{prefix}{rest}").parse().ok()?;
        Some(*id.as_bytes())
    };
    Some((padded("0")?, padded("f")?))
}

/// The statement, looking only at the jobs with these numbers.
fn narrowed(sql: &str, named: &[i64]) -> String {
    let list: Vec<String> = named.iter().map(i64::to_string).collect();
    let column = match sql {
        SELECT_CREATED => "seq",
        SELECT_MEMBERS => "j.seq",
        SELECT_AWAITING => "a.seq",
        SELECT_SCHEDULED => "s.seq",
        SELECT_SUCCEEDED | SELECT_FAILED | SELECT_DELETED => "f.seq",
        _ => "r.seq",
    };
    sql.replace(" WHERE ", &format!(" WHERE {column} IN ({}) AND ", list.join(",")))
}

/// The statement for the jobs of a queue that can be claimed by one server or another: those that are ready, and those on
/// these shelves, in one order.
fn ready_of(shelves: &[i64]) -> Cow<'static, str> {
    if shelves.is_empty() {
        return Cow::Borrowed(SELECT_READY);
    }
    let (part, rest) = SELECT_READY.split_once(" ORDER BY").unwrap_or((SELECT_READY, ""));
    // The order is that of the first two columns; each part is read in the order of its key.
    let mut sql = part.to_owned();
    for shelf in shelves {
        sql.push_str(" UNION ALL ");
        sql.push_str(&part.replace("r.queue = ?1", &format!("r.queue = {shelf}")));
    }
    Cow::Owned(format!("{sql} ORDER BY{}", rest.replace("r.rank, r.place", "1, 2")))
}

/// A page that is being filled.
struct Page<'a> {
    conn: &'a Connection,
    wanted: Wanted,
    size: usize,
    scanned: usize,
    last: Option<Mark>,
    page: JobPage,
    is_full: bool,
}

impl<'a> Page<'a> {
    fn new(conn: &'a Connection, filter: &JobFilter, wanted: Wanted) -> Page<'a> {
        let size = filter.page_size();
        let page = JobPage::default();
        Page { conn, wanted, size, scanned: 0, last: None, page, is_full: false }
    }

    /// Takes the matching jobs of a statement's rows.
    fn take(
        &mut self,
        sql: &str,
        values: impl rusqlite::Params,
        mark: impl Fn(i64, i64) -> Mark,
    ) -> Result<(), Failure> {
        match &self.wanted.named {
            None => {
                let mut select = self.conn.prepare_cached(sql)?;
                self.fill(&mut select, values, mark)
            }
            Some(named) => {
                let mut select = self.conn.prepare(&narrowed(sql, named))?;
                self.fill(&mut select, values, mark)
            }
        }
    }

    fn fill(
        &mut self,
        select: &mut Statement<'_>,
        values: impl rusqlite::Params,
        mark: impl Fn(i64, i64) -> Mark,
    ) -> Result<(), Failure> {
        let mut rows = select.query(values)?;
        while let Some(row) = rows.next()? {
            let matching = self.wanted.matches(row)? && self.stands_right(row.get(2)?)?;
            // The page ends at the last job that was looked at and need not be looked at again.
            if self.scanned == SCANNED_MAX || (matching && self.page.jobs.len() == self.size) {
                self.page.next = self.last.as_ref().map(Mark::cursor);
                self.is_full = true;
                return Ok(());
            }
            self.scanned += 1;
            if matching {
                self.page.jobs.push(record(self.conn, row.get(2)?)?);
            }
            self.last = Some(mark(row.get(0)?, row.get(1)?));
        }
        Ok(())
    }

    /// Whether a job is in the wanted state, when its row does not tell.
    fn stands_right(&self, seq: i64) -> Result<bool, Failure> {
        let Some(state) = self.wanted.state else { return Ok(true) };
        let body = row::body(self.conn, seq)?;
        Ok(row::stand(self.conn, &body)?.standing.state == state)
    }

    fn take_enqueued(&mut self, filter: &JobFilter, after: Option<Mark>) -> Result<(), Failure> {
        // Names are never empty, so nothing comes before this one.
        let none = QueueName::stored("");
        let (first, rank, place) = match after {
            Some(Mark::Enqueued(queue, rank, place)) => (queue, rank, place),
            _ => (filter.queue.clone().unwrap_or(none), i64::MIN, 0),
        };
        let queues: Vec<(i64, String)> = {
            let mut select = self.conn.prepare_cached(SELECT_QUEUES)?;
            let rows = select.query_map([first.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<_>>()?
        };
        for (number, name) in queues {
            if self.is_full || self.wanted.queue.is_some_and(|wanted| wanted != number) {
                continue;
            }
            let from = if name == first.as_str() { (rank, place) } else { (i64::MIN, 0) };
            let name = QueueName::stored(name);
            let limit = (SCANNED_MAX - self.scanned) as i64 + 1;
            let mark = |rank, place| Mark::Enqueued(name.clone(), rank, place);
            let ready = ready_of(&shelves::of_queue(self.conn, number)?);
            self.take(&ready, params![number, from.0, from.1, limit], mark)?;
            if self.is_full {
                continue;
            }
            if from.0 < APART {
                let after = if from.0 == IN_LINE { from.1 } else { 0 };
                let limit = (SCANNED_MAX - self.scanned) as i64 + 1;
                self.take(SELECT_LINE, params![number, after, limit], mark)?;
                if self.is_full {
                    continue;
                }
            }
            let after = if from.0 == APART { from.1 } else { i64::MIN };
            let limit = (SCANNED_MAX - self.scanned) as i64 + 1;
            self.take(SELECT_APART, params![number, after, limit], mark)?;
        }
        Ok(())
    }
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_CREATED,
    SELECT_AWAITING,
    SELECT_MEMBERS,
    SELECT_RUNNING,
    SELECT_SUCCEEDED,
    SELECT_FAILED,
    SELECT_DELETED,
    SELECT_SCHEDULED,
    SELECT_READY,
    SELECT_LINE,
    SELECT_APART,
    SELECT_QUEUES,
    SELECT_NAMED,
    SELECT_QUEUE,
    SELECT_KIND,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_id_is_a_range_of_ids() {
        let (first, last) = id_range("019b7").unwrap();
        assert_eq!(&first[..3], &[0x01, 0x9b, 0x70]);
        assert_eq!(&last[..3], &[0x01, 0x9b, 0x7f]);
        assert_eq!((first[15], last[15]), (0, 0xff));
        let whole = "019b7000-1111-7222-8333-444444444444";
        let (first, last) = id_range(whole).unwrap();
        assert_eq!(first, last);
        assert!(id_range("019b7000-").is_some());
    }

    #[test]
    fn what_begins_no_id_is_no_range() {
        for prefix in ["x", "019B", "019b70001", "-", "019b7000-1111-7222-8333-4444444444440"] {
            assert!(id_range(prefix).is_none(), "{prefix}");
        }
    }
}
