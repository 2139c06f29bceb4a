//! Links: who waits for the end of a job or batch, and what that end makes of them.

use portfire_core::{After, Antecedent, BatchId, Dependency, Event, JobId, StateName, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use crate::batches;
use crate::error::{Failure, corrupt};
use crate::outbox::{Due, Settled, What};
use crate::outcomes::{self, Outcome};
use crate::row::{At, Body, Facts, Stand, body_columns, transit};
use crate::write::Write;

const INSERT_LINK: &str = "INSERT INTO portfire_link (antecedent, follower, batch, after, pass, open) \
    VALUES (?1, ?2, ?3, ?4, ?5, 1)";
const UPDATE_FOLLOWED: &str =
    "UPDATE portfire_job SET followed = 1 WHERE seq = ?1 AND followed = 0";
const UPDATE_UNFOLLOWED: &str = "UPDATE portfire_job SET followed = 0 WHERE seq = ?1";
pub(crate) const SELECT_FOLLOWERS: &str = concat!(
    "SELECT l.follower, l.batch, l.after, l.pass, a.pending, a.start, a.delay, a.run_at, ",
    body_columns!(),
    " FROM portfire_link l LEFT JOIN portfire_awaiting a ON a.seq = l.follower \
    LEFT JOIN portfire_job j ON j.seq = a.seq \
    WHERE l.antecedent = ?1 AND l.follower > ?2 AND l.open = 1 ORDER BY l.follower LIMIT ?3"
);
const CLOSE_LINK: &str =
    "UPDATE portfire_link SET open = 0 WHERE antecedent = ?1 AND follower = ?2";
const UPDATE_PENDING: &str = "UPDATE portfire_awaiting SET pending = ?2, start = ?3 WHERE seq = ?1";
const SELECT_JOB_ID: &str = "SELECT id FROM portfire_job WHERE seq = ?1";
const SELECT_JOB: &str = "SELECT seq FROM portfire_job WHERE id = ?1";
const SELECT_BATCH: &str = "SELECT batch FROM portfire_batch WHERE id = ?1";
const DELETE_LINKS: &str = "DELETE FROM portfire_link WHERE antecedent = ?1";
const DELETE_LINK: &str = "DELETE FROM portfire_link WHERE antecedent = ?1 AND follower = ?2";

/// Makes `follower` wait for an antecedent, which is known to be marked as one.
pub(crate) fn open(
    write: &mut Write<'_>,
    antecedent: i64,
    follower: i64,
    is_batch: bool,
    dependency: &Dependency,
    place: usize,
) -> rusqlite::Result<()> {
    let pass = dependency.pass.then_some(place as i64);
    let values = params![antecedent, follower, is_batch, after_code(dependency.after), pass];
    write.statement(INSERT_LINK)?.execute(values)?;
    Ok(())
}

/// Marks a job as one that something waits for, so that its end looks for links.
pub(crate) fn mark_followed(conn: &Connection, seq: i64) -> rusqlite::Result<()> {
    conn.prepare_cached(UPDATE_FOLLOWED)?.execute([seq])?;
    Ok(())
}

/// Takes the mark back from a job that nothing has ever waited for.
pub(crate) fn mark_unfollowed(conn: &Connection, seq: i64) -> rusqlite::Result<()> {
    conn.prepare_cached(UPDATE_UNFOLLOWED)?.execute([seq])?;
    Ok(())
}

/// Someone who waits for an end.
struct Follower {
    number: i64,
    after: After,
    /// Its place among what the follower waits for, when the outcome is passed on.
    pass: Option<usize>,
    who: Who,
}

enum Who {
    Batch,
    /// A job that is awaiting.
    Job(Box<Body>, Stand),
    /// A job that waits no more.
    Gone,
}

impl Follower {
    fn read(row: &SqlRow<'_>) -> Result<Follower, Failure> {
        let is_awaiting = row.get::<_, Option<i64>>(4)?.is_some();
        let who = match (row.get(1)?, is_awaiting) {
            (true, _) => Who::Batch,
            (false, false) => Who::Gone,
            (false, true) => Who::Job(Box::new(Body::read(row, 8)?), Stand::read_awaiting(row, 4)?),
        };
        let pass = row.get::<_, Option<i64>>(3)?.and_then(|place| usize::try_from(place).ok());
        Ok(Follower { number: row.get(0)?, after: after(row.get(2)?), pass, who })
    }
}

/// Tells an end to up to `room` of those who wait for it, in the order of their creation.
pub(crate) fn settle(write: &mut Write<'_>, due: &Due, room: usize) -> Result<Settled, Failure> {
    let mut followers = followers(write, due, room + 1)?;
    let more = followers.len() > room;
    followers.truncate(room);
    let settled = Settled {
        count: followers.len(),
        position: followers.last().filter(|_| more).map(|last| last.number),
    };
    let mut ended = Ended { due, outcome: None };
    for follower in followers {
        let key = [due.number, follower.number];
        write.statement(CLOSE_LINK)?.execute(key)?;
        write.touch();
        ended.tell(write, follower)?;
    }
    Ok(settled)
}

fn followers(write: &mut Write<'_>, due: &Due, limit: usize) -> Result<Vec<Follower>, Failure> {
    let select = write.statement(SELECT_FOLLOWERS)?;
    let mut rows = select.query([due.number, due.position, limit as i64])?;
    let mut followers = Vec::new();
    while let Some(row) = rows.next()? {
        followers.push(Follower::read(row)?);
    }
    Ok(followers)
}

/// An end that is being told.
struct Ended<'a> {
    due: &'a Due,
    /// Read once, when someone asks.
    outcome: Option<Outcome>,
}

impl Ended<'_> {
    fn state(&self) -> StateName {
        match self.due.what {
            What::Job(end) | What::Batch(end) => end,
            What::Start => StateName::Deleted,
        }
    }

    fn tell(&mut self, write: &mut Write<'_>, follower: Follower) -> Result<(), Failure> {
        let Follower { number, after, pass, who } = follower;
        let is_met = after.is_met_by(self.state());
        match who {
            Who::Gone => Ok(()),
            Who::Batch if is_met => batches::fulfil(write, number, false),
            Who::Batch => {
                let reason = self.unmet_reason(write, after)?;
                batches::give_up(write, number, &reason)
            }
            Who::Job(body, stand) if is_met => {
                if let Some(place) = pass {
                    self.outcome(write)?.keep(write.conn, number, place)?;
                }
                fulfil(write, &body, &stand, false)
            }
            Who::Job(body, stand) => {
                let reason = self.unmet_reason(write, after)?;
                let facts = Facts { reason: Some(&reason), ..Facts::default() };
                transit(write, &body, &stand, Event::Delete, &facts)?.map_err(corrupt)?;
                Ok(())
            }
        }
    }

    fn antecedent(&self, write: &mut Write<'_>) -> Result<Antecedent, Failure> {
        let number = self.due.number;
        Ok(match self.due.what {
            What::Job(_) => Antecedent::Job(job_id(write.conn, number)?),
            _ => Antecedent::Batch(write.names.batch(write.conn, number)?),
        })
    }

    fn unmet_reason(&self, write: &mut Write<'_>, after: After) -> Result<String, Failure> {
        let dependency = Dependency::on(self.antecedent(write)?).after(after);
        Ok(dependency.unmet_reason(self.state()))
    }

    fn outcome(&mut self, write: &Write<'_>) -> Result<&mut Outcome, Failure> {
        let outcome = match self.outcome.take() {
            Some(outcome) => outcome,
            None => {
                let job = matches!(self.due.what, What::Job(_)).then_some(self.due.number);
                Outcome::of(write.conn, job, self.state())?
            }
        };
        Ok(self.outcome.insert(outcome))
    }
}

/// One thing less that a job waits for, perhaps the start of its batch; the last one releases it.
pub(crate) fn fulfil(
    write: &mut Write<'_>,
    body: &Body,
    stand: &Stand,
    is_start: bool,
) -> Result<(), Failure> {
    let At::Awaiting { pending, start, when } = stand.at else {
        return Err(corrupt(format!("job number {} is released and was not awaiting", body.seq)));
    };
    if pending > 1 {
        let values = params![body.seq, pending - 1, start && !is_start];
        write.statement(UPDATE_PENDING)?.execute(values)?;
        return Ok(());
    }
    // A delay that ends beyond the last instant waits for that one.
    let at = when.resolve(write.now).unwrap_or(Some(Timestamp::MAX));
    transit(write, body, stand, Event::Continue(at), &Facts::default())?.map_err(corrupt)?;
    Ok(())
}

/// Removes what is known of a job's links, as far as it is one of two.
pub(crate) fn forget(conn: &Connection, body: &Body) -> Result<(), Failure> {
    if body.followed {
        conn.prepare_cached(DELETE_LINKS)?.execute([body.seq])?;
    }
    let Some(ties) = &body.ties else { return Ok(()) };
    forget_waits(conn, body.seq, &ties.after)?;
    if ties.after.iter().any(|dependency| dependency.pass) {
        outcomes::forget(conn, body.seq)?;
    }
    Ok(())
}

/// Closes the links of a follower that waits for nothing any more, since it was moved by hand, or deleted.
pub(crate) fn close_waits(
    write: &mut Write<'_>,
    follower: i64,
    after: &[Dependency],
) -> rusqlite::Result<()> {
    for dependency in after {
        if let Some(antecedent) = number(write.conn, dependency.on)? {
            write.statement(CLOSE_LINK)?.execute([antecedent, follower])?;
        }
    }
    Ok(())
}

/// Removes the links of a follower to those antecedents that are still stored.
pub(crate) fn forget_waits(
    conn: &Connection,
    follower: i64,
    after: &[Dependency],
) -> rusqlite::Result<()> {
    for dependency in after {
        if let Some(antecedent) = number(conn, dependency.on)? {
            conn.prepare_cached(DELETE_LINK)?.execute([antecedent, follower])?;
        }
    }
    Ok(())
}

/// Removes the links to an antecedent.
pub(crate) fn forget_followers(conn: &Connection, antecedent: i64) -> rusqlite::Result<()> {
    conn.prepare_cached(DELETE_LINKS)?.execute([antecedent])?;
    Ok(())
}

/// The number of a job or batch, when it is stored.
pub(crate) fn number(conn: &Connection, of: Antecedent) -> rusqlite::Result<Option<i64>> {
    let (sql, id) = match of {
        Antecedent::Job(id) => (SELECT_JOB, *id.as_bytes()),
        Antecedent::Batch(id) => (SELECT_BATCH, *id.as_bytes()),
    };
    conn.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()
}

/// The id of a batch that is stored under this number.
pub(crate) fn batch_number(conn: &Connection, id: BatchId) -> rusqlite::Result<Option<i64>> {
    number(conn, Antecedent::Batch(id))
}

/// The id of a job by its number.
pub(crate) fn job_id(conn: &Connection, seq: i64) -> rusqlite::Result<JobId> {
    let id = conn.prepare_cached(SELECT_JOB_ID)?.query_row([seq], |row| row.get(0))?;
    Ok(JobId::from_bytes(id))
}

fn after_code(after: After) -> i64 {
    match after {
        After::Success => 0,
        After::Failure => 1,
        After::Deletion => 2,
        After::End => 3,
    }
}

/// The condition that is stored under this number.
pub(crate) fn after(code: i64) -> After {
    match code {
        0 => After::Success,
        1 => After::Failure,
        2 => After::Deletion,
        _ => After::End,
    }
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    INSERT_LINK,
    UPDATE_FOLLOWED,
    UPDATE_UNFOLLOWED,
    SELECT_FOLLOWERS,
    CLOSE_LINK,
    UPDATE_PENDING,
    SELECT_JOB_ID,
    SELECT_JOB,
    SELECT_BATCH,
    DELETE_LINKS,
    DELETE_LINK,
];
