//! The short numbers under which names of queues and kinds are stored, remembered as they are met.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use portfire_core::engine::limits::Rules;
use portfire_core::{BatchId, KindName, QueueName};
use rusqlite::{Connection, OptionalExtension};

use crate::error::Failure;
use crate::limits;
use crate::shelves::{self, Shelves};

/// A queue, as claims need it.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) number: i64,
    pub(crate) name: QueueName,
    pub(crate) paused: bool,
}

/// The names that were met since the last change of any.
#[derive(Debug, Default)]
pub(crate) struct Names {
    queues: HashMap<QueueName, Queue>,
    kinds: HashMap<KindName, i64>,
    kinds_by_number: HashMap<i64, KindName>,
    batches: HashMap<i64, BatchId>,
    rules: Option<Arc<Rules>>,
    shelves: Option<Shelves>,
    staff: HashMap<i64, Handlers>,
}

/// The kinds of a server.
#[derive(Debug)]
struct Handlers {
    stated: HashSet<KindName>,
    /// The same by number, as far as that was asked.
    known: HashMap<i64, bool>,
}

const SELECT_QUEUE: &str = "SELECT queue, paused FROM portfire_queue WHERE name = ?1";
const INSERT_QUEUE: &str = "INSERT INTO portfire_queue (name) VALUES (?1)";
const INSERT_TALLY: &str = "INSERT INTO portfire_tally (queue) VALUES (?1)";
const SELECT_KIND: &str = "SELECT kind FROM portfire_kind WHERE name = ?1";
const SELECT_KIND_NAME: &str = "SELECT name FROM portfire_kind WHERE kind = ?1";
const INSERT_KIND: &str = "INSERT INTO portfire_kind (name) VALUES (?1)";
const SELECT_BATCH_ID: &str = "SELECT id FROM portfire_batch WHERE batch = ?1";

/// Most batches that are remembered; then all are forgotten.
const BATCHES_MAX: usize = 10_000;

impl Names {
    pub(crate) fn clear(&mut self) {
        *self = Names::default();
    }

    /// The numbers of both, when both names were met.
    pub(crate) fn known(&self, queue: &QueueName, kind: &KindName) -> Option<(i64, i64)> {
        Some((self.queues.get(queue)?.number, *self.kinds.get(kind)?))
    }

    /// The queue with this name, when there is one.
    pub(crate) fn queue(
        &mut self,
        conn: &Connection,
        name: &QueueName,
    ) -> rusqlite::Result<Option<&Queue>> {
        if !self.queues.contains_key(name) {
            let found = conn
                .prepare_cached(SELECT_QUEUE)?
                .query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((number, paused)) = found else { return Ok(None) };
            self.queues.insert(name.clone(), Queue { number, name: name.clone(), paused });
        }
        Ok(self.queues.get(name))
    }

    /// The number of a queue, which is made when it is new. `added` rises with each name that is.
    pub(crate) fn number_queue(
        &mut self,
        conn: &Connection,
        name: &QueueName,
        added: &mut i64,
    ) -> rusqlite::Result<i64> {
        if let Some(queue) = self.queue(conn, name)? {
            return Ok(queue.number);
        }
        let number = conn.prepare_cached(INSERT_QUEUE)?.insert([name.as_str()])?;
        conn.prepare_cached(INSERT_TALLY)?.execute([number])?;
        *added += 1;
        self.queues.insert(name.clone(), Queue { number, name: name.clone(), paused: false });
        Ok(number)
    }

    /// The number of a kind, which is made when it is new. `added` rises with each name that is.
    pub(crate) fn number_kind(
        &mut self,
        conn: &Connection,
        name: &KindName,
        added: &mut i64,
    ) -> rusqlite::Result<i64> {
        if let Some(&number) = self.kinds.get(name) {
            return Ok(number);
        }
        let found = conn
            .prepare_cached(SELECT_KIND)?
            .query_row([name.as_str()], |row| row.get(0))
            .optional()?;
        let number = match found {
            Some(number) => number,
            None => {
                let number = conn.prepare_cached(INSERT_KIND)?.insert([name.as_str()])?;
                conn.prepare_cached(INSERT_TALLY)?.execute([-number])?;
                *added += 1;
                number
            }
        };
        self.kinds.insert(name.clone(), number);
        Ok(number)
    }

    /// The name of a kind by its number.
    pub(crate) fn kind(&mut self, conn: &Connection, number: i64) -> rusqlite::Result<KindName> {
        if let Some(name) = self.kinds_by_number.get(&number) {
            return Ok(name.clone());
        }
        let name: String =
            conn.prepare_cached(SELECT_KIND_NAME)?.query_row([number], |row| row.get(0))?;
        let name = KindName::stored(name);
        self.kinds_by_number.insert(number, name.clone());
        Ok(name)
    }

    /// The number of a kind, when there is one.
    pub(crate) fn known_kind(
        &self,
        conn: &Connection,
        name: &KindName,
    ) -> rusqlite::Result<Option<i64>> {
        if let Some(&number) = self.kinds.get(name) {
            return Ok(Some(number));
        }
        conn.prepare_cached(SELECT_KIND)?.query_row([name.as_str()], |row| row.get(0)).optional()
    }

    /// The rules of all limits.
    pub(crate) fn rules(&mut self, conn: &Connection) -> Result<&Arc<Rules>, Failure> {
        let rules = match self.rules.take() {
            Some(rules) => rules,
            None => Arc::new(limits::rules(conn)?),
        };
        Ok(self.rules.insert(rules))
    }

    /// The rules, to change them as they were changed in the database; `None` when they were not met yet.
    pub(crate) fn rules_mut(&mut self) -> Option<&mut Rules> {
        self.rules.as_mut().map(Arc::make_mut)
    }

    /// The shelves of jobs that stand aside.
    pub(crate) fn shelves(&mut self, conn: &Connection) -> rusqlite::Result<Shelves> {
        let shelves = match self.shelves.take() {
            Some(shelves) => shelves,
            None => shelves::all(conn)?,
        };
        Ok(Arc::clone(self.shelves.insert(shelves)))
    }

    /// The shelves were changed so in the database.
    pub(crate) fn put_shelves(&mut self, shelves: Shelves) {
        self.shelves = Some(shelves);
    }

    /// Whether a server that was announced has handlers of a kind, as far as it says.
    pub(crate) fn has_handler(
        &mut self,
        conn: &Connection,
        server: i64,
        kind: i64,
    ) -> Result<bool, Failure> {
        if let Some(&has) = self.staff.get(&server).and_then(|own| own.known.get(&kind)) {
            return Ok(has);
        }
        let name = self.kind(conn, kind)?;
        let own = match self.staff.entry(server) {
            Entry::Occupied(own) => own.into_mut(),
            Entry::Vacant(new) => {
                let stated = shelves::stated(conn, server)?.into_iter().collect();
                new.insert(Handlers { stated, known: HashMap::new() })
            }
        };
        let has = own.stated.is_empty() || own.stated.contains(&name);
        own.known.insert(kind, has);
        Ok(has)
    }

    /// The id of a batch by its number.
    pub(crate) fn batch(&mut self, conn: &Connection, number: i64) -> rusqlite::Result<BatchId> {
        if let Some(id) = self.batches.get(&number) {
            return Ok(*id);
        }
        let id = conn.prepare_cached(SELECT_BATCH_ID)?.query_row([number], |row| row.get(0))?;
        let id = BatchId::from_bytes(id);
        if self.batches.len() >= BATCHES_MAX {
            self.batches.clear();
        }
        self.batches.insert(number, id);
        Ok(id)
    }
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[
    SELECT_QUEUE,
    INSERT_QUEUE,
    INSERT_TALLY,
    SELECT_KIND,
    SELECT_KIND_NAME,
    INSERT_KIND,
    SELECT_BATCH_ID,
];
