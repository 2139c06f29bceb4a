//! Limits: their rules, and what they let a job do, which is to enter its queue, to be claimed, or to
//! stand in the line of a key.
//!
//! What a key is at is in `keys.rs`, the lines are in `lines.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use portfire_core::storage::RELEASE_MAX;
use portfire_core::{KindName, LimitName, LimitRecord, LimitRule, LimitTarget, QueueName, Ties};
use rusqlite::{Connection, Row as SqlRow, params};

use crate::error::{Failure, corrupt};
use crate::keys;
use crate::lines;
use crate::names::Queue;
use crate::row::{At, Body};
use crate::write::Write;

const SELECT_RULES: &str =
    "SELECT target, name, by_hand, declared FROM portfire_limit ORDER BY target, name";
const SELECT_RULE: &str =
    "SELECT target, name, by_hand, declared FROM portfire_limit WHERE target = ?1 AND name = ?2";
const UPSERT_RULE: &str = "INSERT INTO portfire_limit (target, name, by_hand, declared) \
    VALUES (?1, ?2, ?3, ?4) ON CONFLICT (target, name) DO UPDATE SET by_hand = ?3, declared = ?4";
const DELETE_RULE: &str = "DELETE FROM portfire_limit WHERE target = ?1 AND name = ?2";

const NAMED: i64 = 0;
const QUEUE: i64 = 1;
const KIND: i64 = 2;

/// The rules of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rule {
    by_hand: Option<LimitRule>,
    declared: Option<LimitRule>,
}

impl Rule {
    fn in_force(self) -> Option<LimitRule> {
        let rule = self.by_hand.or(self.declared)?;
        (rule != LimitRule::default()).then_some(rule)
    }

    fn read(row: &SqlRow<'_>) -> Result<Rule, Failure> {
        let rule = |column: usize| -> Result<Option<LimitRule>, Failure> {
            let text = row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)?;
            let rule = text.map(serde_json::from_str).transpose();
            rule.map_err(|error| corrupt(format!("the rule of a limit: {error}")))
        };
        Ok(Rule { by_hand: rule(2)?, declared: rule(3)? })
    }

    fn store(self, conn: &Connection, target: i64, name: &str) -> Result<(), Failure> {
        if self == Rule::default() {
            conn.prepare_cached(DELETE_RULE)?.execute(params![target, name])?;
            return Ok(());
        }
        let text = |rule: Option<LimitRule>| rule.map(|rule| serde_json::to_string(&rule));
        let encode = |rule| {
            let encoded = text(rule).transpose();
            encoded.map_err(|error| corrupt(format!("the rule of limit {name}: {error}")))
        };
        let values = params![target, name, encode(self.by_hand)?, encode(self.declared)?];
        conn.prepare_cached(UPSERT_RULE)?.execute(values)?;
        Ok(())
    }
}

/// All rules, by name; remembered with the names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    named: HashMap<String, Rule>,
    queues: HashMap<String, Rule>,
    kinds: HashMap<String, Rule>,
}

impl Rules {
    pub(crate) fn read(conn: &Connection) -> Result<Rules, Failure> {
        let mut rules = Rules::default();
        let mut select = conn.prepare_cached(SELECT_RULES)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            rules.set(row.get(0)?, row.get(1)?, Rule::read(row)?);
        }
        Ok(rules)
    }

    fn set(&mut self, target: i64, name: String, rule: Rule) {
        let of_target = match target {
            NAMED => &mut self.named,
            QUEUE => &mut self.queues,
            _ => &mut self.kinds,
        };
        if rule == Rule::default() {
            of_target.remove(&name);
        } else {
            of_target.insert(name, rule);
        }
    }

    /// Whether jobs without limits of their own may be limited by their kind.
    pub(crate) fn limit_kinds(&self) -> bool {
        !self.kinds.is_empty()
    }

    fn limit_queues(&self) -> bool {
        !self.queues.is_empty()
    }

    fn named(&self, limit: &str) -> Option<LimitRule> {
        self.named.get(limit).and_then(|rule| rule.in_force())
    }

    fn of_queue(&self, queue: &QueueName) -> Option<LimitRule> {
        self.queues.get(queue.as_str()).and_then(|rule| rule.in_force())
    }

    /// The rule that a key is under.
    pub(crate) fn of_key(&self, key: &str) -> Option<LimitRule> {
        if let Some(kind) = key.strip_prefix(KIND_KEY) {
            return self.kinds.get(kind).and_then(|rule| rule.in_force());
        }
        if let Some(queue) = key.strip_prefix(QUEUE_KEY) {
            return self.queues.get(queue).and_then(|rule| rule.in_force());
        }
        self.named(key.split(':').next().unwrap_or_default())
    }
}

// No limit has a space in its name, so these are nobody's keys but theirs.
const KIND_KEY: &str = "kind ";
const QUEUE_KEY: &str = "queue ";

/// The key of all jobs of a kind.
pub(crate) fn kind_key(kind: &KindName) -> String {
    format!("{KIND_KEY}{kind}")
}

/// The kind whose key this is.
pub(crate) fn kind_of_key(key: &str) -> Option<KindName> {
    key.strip_prefix(KIND_KEY).map(|kind| KindName::stored(kind.to_owned()))
}

/// Whether this is the key of a queue, at which nobody stands in line.
pub(crate) fn is_of_queue(key: &str) -> bool {
    key.starts_with(QUEUE_KEY)
}

fn queue_key(queue: &QueueName) -> String {
    format!("{QUEUE_KEY}{queue}")
}

/// A key that a job is counted under.
struct Use {
    key: String,
    rule: Option<LimitRule>,
    /// The number of the kind, for the key of a whole kind.
    kind: Option<i64>,
}

/// The keys of a job in the order in which they are looked at. A key that is named twice is one.
fn uses(write: &mut Write<'_>, ties: Option<&Ties>, kind: i64) -> Result<Vec<Use>, Failure> {
    let limits = ties.map_or(&[][..], |ties| &ties.limits);
    let mut uses: Vec<Use> = Vec::new();
    let rules = write.names.rules(write.conn)?;
    if limits.is_empty() && !rules.limit_kinds() {
        return Ok(uses);
    }
    let rules = Arc::clone(rules);
    for limit in limits {
        let key = limit.key();
        if uses.iter().all(|known| known.key != key) {
            uses.push(Use { key, rule: rules.named(limit.limit.as_str()), kind: None });
        }
    }
    if rules.limit_kinds() {
        let name = write.names.kind(write.conn, kind)?;
        // The line of a kind that has no rule any more is emptied by `promote`.
        let rule = rules.kinds.get(name.as_str()).and_then(|rule| rule.in_force());
        if rule.is_some() {
            uses.push(Use { key: kind_key(&name), rule, kind: Some(kind) });
        }
    }
    Ok(uses)
}

impl Use {
    fn running(&self, write: &mut Write<'_>) -> Result<i64, Failure> {
        match self.kind {
            Some(kind) => Ok(write.processing_of_kind(kind)?),
            None => Ok(keys::key(write, &self.key)?.running),
        }
    }

    /// Whether no further job of the key may start.
    fn is_full(&self, write: &mut Write<'_>) -> Result<bool, Failure> {
        let Some(rule) = self.rule else { return Ok(false) };
        if let Some(most) = rule.concurrency
            && self.running(write)? >= i64::from(most)
        {
            return Ok(true);
        }
        let Some(rate) = rule.rate else { return Ok(false) };
        let now = write.now;
        Ok(keys::key(write, &self.key)?.starts.available(&rate, now) == 0)
    }

    /// The job goes into the line. Answers the number of the key.
    fn line_up(&self, write: &mut Write<'_>) -> Result<i64, Failure> {
        let number = keys::number(write, &self.key)?;
        keys::change(write, &self.key, |key| key.waiting += 1)?;
        Ok(number)
    }
}

/// Whether a job that comes to the end of its queue has to stand in a line instead: in that of which
/// key. It is counted there already.
pub(crate) fn entry(
    write: &mut Write<'_>,
    ties: Option<&Ties>,
    kind: i64,
) -> Result<Option<i64>, Failure> {
    for used in uses(write, ties, kind)? {
        if used.rule.is_none() {
            continue;
        }
        if keys::key(write, &used.key)?.waiting > 0 || used.is_full(write)? {
            return used.line_up(write).map(Some);
        }
    }
    Ok(None)
}

/// Whether a job that is about to be claimed has to stand in a line instead: in that of which key. Its turn
/// with the others is the next one's then. If not, its slots are taken and its starts are counted.
pub(crate) fn admit(
    write: &mut Write<'_>,
    ties: Option<&Ties>,
    kind: i64,
) -> Result<Option<i64>, Failure> {
    let uses = uses(write, ties, kind)?;
    for used in &uses {
        if used.is_full(write)? {
            let others = uses.iter().filter(|other| other.key != used.key);
            write.keys.freed.extend(others.map(|other| other.key.clone()));
            return used.line_up(write).map(Some);
        }
    }
    let now = write.now;
    for used in &uses {
        keys::change(write, &used.key, |key| {
            key.running += i64::from(used.kind.is_none());
            if let Some(rate) = used.rule.and_then(|rule| rule.rate) {
                key.starts.take(&rate, now, 1);
            }
        })?;
    }
    Ok(None)
}

/// What a transition means for the keys of the job: slots that are given back, a turn or a place in a line
/// that is.
pub(crate) fn moved(write: &mut Write<'_>, body: &Body, from: &At) -> Result<(), Failure> {
    match *from {
        At::Running { .. } => {
            if write.names.rules(write.conn)?.limit_queues() {
                write.hint_work();
            }
            for used in uses(write, body.ties.as_deref(), body.kind)? {
                keys::change(write, &used.key, |key| {
                    key.running -= i64::from(used.kind.is_none())
                })?;
                write.keys.freed.push(used.key);
            }
        }
        At::Ready { .. } => {
            let uses = uses(write, body.ties.as_deref(), body.kind)?;
            write.keys.freed.extend(uses.into_iter().map(|used| used.key));
        }
        At::InLine { key, .. } => {
            let name = keys::numbered(write, key)?;
            keys::change(write, &name, |key| key.waiting -= 1)?;
        }
        _ => {}
    }
    Ok(())
}

/// Wakes those whose turn it is since jobs have left `processing`, or their queue without being claimed. The
/// last of a call's changes.
pub(crate) fn settle(write: &mut Write<'_>) -> Result<(), Failure> {
    for name in std::mem::take(&mut write.keys.freed) {
        if keys::key(write, &name)?.waiting > 0 && room(write, &name)? > 0 {
            lines::wake(write, &name, 1, RELEASE_MAX)?;
        }
    }
    Ok(())
}

/// How many of a line may move to their queues.
fn room(write: &mut Write<'_>, name: &str) -> Result<usize, Failure> {
    let Some(rule) = write.names.rules(write.conn)?.of_key(name) else { return Ok(usize::MAX) };
    let mut room = usize::MAX;
    if let Some(most) = rule.concurrency {
        let running = running(write, name)?;
        room = usize::try_from(i64::from(most) - running).unwrap_or(0);
    }
    if let Some(rate) = rule.rate {
        let now = write.now;
        let available = keys::key(write, name)?.starts.available(&rate, now);
        room = room.min(available as usize);
    }
    Ok(room)
}

/// Running jobs of a key.
pub(crate) fn running(write: &mut Write<'_>, name: &str) -> Result<i64, Failure> {
    match kind_of_key(name) {
        Some(kind) => match write.names.known_kind(write.conn, &kind)? {
            Some(number) => Ok(write.processing_of_kind(number)?),
            None => Ok(0),
        },
        None => Ok(keys::key(write, name)?.running),
    }
}

/// Moves jobs whose limit has room again, up to `max`. Says how many.
pub(crate) fn promote(write: &mut Write<'_>, max: usize) -> Result<usize, Failure> {
    // What was freed in this call is seen to here.
    write.keys.freed.clear();
    let mut left = max;
    for name in keys::due(write)? {
        if is_of_queue(&name) {
            // It has something left of its rate again.
            write.hint_work();
            continue;
        }
        if left == 0 {
            continue;
        }
        let room = room(write, &name)?;
        let rule = write.names.rules(write.conn)?.of_key(&name);
        let most = match rule {
            // Those of its jobs that end wake the next; this is for lines whose first cannot be claimed.
            Some(LimitRule { rate: None, .. }) => room.min(1),
            _ => room,
        };
        let moved = lines::wake(write, &name, most, left)?;
        left -= moved;
    }
    Ok(max - left)
}

/// How many more jobs of a queue may be claimed.
pub(crate) fn room_of(
    write: &mut Write<'_>,
    queue: &Queue,
    wanted: usize,
) -> Result<usize, Failure> {
    let Some(rule) = write.names.rules(write.conn)?.of_queue(&queue.name) else {
        return Ok(wanted);
    };
    let mut room = wanted;
    if let Some(most) = rule.concurrency {
        let processing = write.processing_of_queue(queue.number)?;
        room = room.min(usize::try_from(i64::from(most) - processing).unwrap_or(0));
    }
    if let Some(rate) = rule.rate {
        let now = write.now;
        let available = keys::key(write, &queue_key(&queue.name))?.starts.available(&rate, now);
        room = room.min(available as usize);
    }
    Ok(room)
}

/// Counts what was claimed from a queue.
pub(crate) fn take_of(write: &mut Write<'_>, queue: &Queue, claimed: usize) -> Result<(), Failure> {
    let rule = write.names.rules(write.conn)?.of_queue(&queue.name);
    let Some(rate) = rule.and_then(|rule| rule.rate).filter(|_| claimed > 0) else {
        return Ok(());
    };
    let (now, name) = (write.now, queue_key(&queue.name));
    let count = u32::try_from(claimed).unwrap_or(u32::MAX);
    keys::change(write, &name, |key| key.starts.take(&rate, now, count))?;
    if keys::key(write, &name)?.starts.available(&rate, now) == 0 {
        // Whoever promotes has to know when there is something left again.
        write.hint_work();
    }
    Ok(())
}

/// Sets a limit by hand, or removes what was set so.
pub(crate) fn set_limit(
    write: &mut Write<'_>,
    target: &LimitTarget,
    by_hand: Option<LimitRule>,
) -> Result<(), Failure> {
    let (code, name) = match target {
        LimitTarget::Named(limit) => (NAMED, limit.as_str()),
        LimitTarget::Queue(queue) => (QUEUE, queue.as_str()),
        LimitTarget::Kind(kind) => (KIND, kind.as_str()),
    };
    if let Some(rule) = by_hand {
        rule.validate(name)?;
    }
    let known = find(write.conn, code, name)?;
    if known.by_hand != by_hand {
        store(write, code, name, Rule { by_hand, ..known })?;
    }
    Ok(())
}

/// Stores the rules that a job which was just created declares.
pub(crate) fn declare(write: &mut Write<'_>, ties: &Ties) -> Result<(), Failure> {
    for limit in &ties.limits {
        let Some(declared) = limit.declared else { continue };
        let name = limit.limit.as_str();
        let known = write.names.rules(write.conn)?.named.get(name).copied().unwrap_or_default();
        if known.declared != Some(declared) {
            store(write, NAMED, name, Rule { declared: Some(declared), ..known })?;
        }
    }
    Ok(())
}

/// Stores a rule that has changed, and lets those who wait under it look again.
fn store(write: &mut Write<'_>, target: i64, name: &str, rule: Rule) -> Result<(), Failure> {
    rule.store(write.conn, target, name)?;
    if let Some(rules) = write.names.rules_mut() {
        rules.set(target, name.to_owned(), rule);
    }
    write.tally.names += 1;
    let key = match target {
        NAMED => name.to_owned(),
        QUEUE => format!("{QUEUE_KEY}{name}"),
        _ => format!("{KIND_KEY}{name}"),
    };
    keys::look_again(write, &key, rule.in_force())?;
    if target == QUEUE {
        keys::change(write, &key, |_| ())?;
    }
    write.touch();
    write.hint_work();
    Ok(())
}

fn find(conn: &Connection, target: i64, name: &str) -> Result<Rule, Failure> {
    let mut select = conn.prepare_cached(SELECT_RULE)?;
    let mut rows = select.query(params![target, name])?;
    rows.next()?.map_or_else(|| Ok(Rule::default()), Rule::read)
}

/// The rule that a limit is under, for those who only read.
pub(crate) fn rule_of(conn: &Connection, key: &str) -> Result<Option<LimitRule>, Failure> {
    Ok(Rules::read(conn)?.of_key(key))
}

/// The limits that have a rule, by target.
pub(crate) fn limits(conn: &Connection) -> Result<Vec<LimitRecord>, Failure> {
    let mut limits = Vec::new();
    let mut select = conn.prepare_cached(SELECT_RULES)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(1)?;
        let target = match row.get(0)? {
            NAMED => LimitTarget::Named(LimitName::new(name)?),
            QUEUE => LimitTarget::Queue(QueueName::stored(name)),
            _ => LimitTarget::Kind(KindName::stored(name)),
        };
        let rule = Rule::read(row)?;
        if let Some(in_force) = rule.by_hand.or(rule.declared) {
            limits.push(LimitRecord { target, rule: in_force, set: rule.by_hand.is_some() });
        }
    }
    Ok(limits)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[SELECT_RULES, SELECT_RULE, UPSERT_RULE, DELETE_RULE];
