//! Limits: their rules, and what they let a job do, which is to enter its queue, to be claimed, or to
//! stand in the line of a key.
//!
//! What a key is at is in `keys.rs`, the lines are in `lines.rs`.

use std::sync::Arc;

use portfire_core::engine::limits::{
    self as rule, KeyState, Rule, Rules, Scope, Use, key_of, key_of_queue, scope,
};
use portfire_core::storage::RELEASE_MAX;
use portfire_core::{KindName, LimitName, LimitRecord, LimitRule, LimitTarget, QueueName, Ties};
use rusqlite::{Connection, Row as SqlRow, params};

use crate::codes;
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

/// How a target is stored.
fn stored(target: &LimitTarget) -> (i64, &str) {
    match target {
        LimitTarget::Named(limit) => (NAMED, limit.as_str()),
        LimitTarget::Queue(queue) => (QUEUE, queue.as_str()),
        LimitTarget::Kind(kind) => (KIND, kind.as_str()),
    }
}

fn read_target(row: &SqlRow<'_>) -> Result<LimitTarget, Failure> {
    let name: String = row.get(1)?;
    Ok(match row.get(0)? {
        NAMED => LimitTarget::Named(LimitName::new(name).map_err(corrupt)?),
        QUEUE => LimitTarget::Queue(QueueName::stored(name)),
        KIND => LimitTarget::Kind(KindName::stored(name)),
        other => return Err(codes::unknown("target of a limit", other).into()),
    })
}

fn read_rule(row: &SqlRow<'_>) -> Result<Rule, Failure> {
    let rule = |column: usize| -> Result<Option<LimitRule>, Failure> {
        let text = row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        let rule = text.map(serde_json::from_str).transpose();
        rule.map_err(|error| corrupt(format!("the rule of a limit: {error}")))
    };
    Ok(Rule { set: rule(2)?, declared: rule(3)? })
}

fn store_rule(conn: &Connection, target: &LimitTarget, rule: Rule) -> Result<(), Failure> {
    let (target, name) = stored(target);
    if rule == Rule::default() {
        conn.prepare_cached(DELETE_RULE)?.execute(params![target, name])?;
        return Ok(());
    }
    let text = |rule: Option<LimitRule>| rule.map(|rule| serde_json::to_string(&rule));
    let encode = |rule| {
        let encoded = text(rule).transpose();
        encoded.map_err(|error| corrupt(format!("the rule of limit {name}: {error}")))
    };
    let values = params![target, name, encode(rule.set)?, encode(rule.declared)?];
    conn.prepare_cached(UPSERT_RULE)?.execute(values)?;
    Ok(())
}

/// Reads all rules; they are remembered with the names.
pub(crate) fn rules(conn: &Connection) -> Result<Rules, Failure> {
    let mut rules = Rules::default();
    let mut select = conn.prepare_cached(SELECT_RULES)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        rules.put(read_target(row)?, read_rule(row)?);
    }
    Ok(rules)
}

/// The keys of a job in the order in which they are looked at.
fn uses(write: &mut Write<'_>, ties: Option<&Ties>, kind: i64) -> Result<Vec<Use>, Failure> {
    let limits = ties.map_or(&[][..], |ties| &ties.limits);
    let rules = write.names.rules(write.conn)?;
    if limits.is_empty() && !rules.limit_kinds() {
        return Ok(Vec::new());
    }
    let rules = Arc::clone(rules);
    let kind = match rules.limit_kinds() {
        true => Some(write.names.kind(write.conn, kind)?),
        false => None,
    };
    Ok(rule::uses(&rules, limits, kind.as_ref()))
}

/// What a key of a job of this kind is at, as far as its rule asks.
fn state<'w>(write: &'w mut Write<'_>, used: &Use, kind: i64) -> Result<KeyState<'w>, Failure> {
    let counts = used.is_kind && used.rule.is_some_and(|rule| rule.concurrency.is_some());
    let of_kind = if counts { Some(write.processing_of_kind(kind)?) } else { None };
    Ok(keys::key(write, &used.key)?.state(of_kind))
}

/// The job goes into the line of a key. Answers the number of the key.
fn line_up(write: &mut Write<'_>, key: &str) -> Result<i64, Failure> {
    let number = keys::number(write, key)?;
    keys::change(write, key, |key| key.waiting += 1)?;
    Ok(number)
}

/// Whether a job that comes to the end of its queue has to stand in a line instead: in that of which
/// key. It is counted there already.
pub(crate) fn entry(
    write: &mut Write<'_>,
    ties: Option<&Ties>,
    kind: i64,
) -> Result<Option<i64>, Failure> {
    let now = write.now;
    for used in uses(write, ties, kind)? {
        if used.rule.is_some() && state(write, &used, kind)?.is_closed(used.rule, now) {
            return line_up(write, &used.key).map(Some);
        }
    }
    Ok(None)
}

/// Whether all limits of a job have room for it. Changes nothing.
pub(crate) fn have_room(
    write: &mut Write<'_>,
    ties: Option<&Ties>,
    kind: i64,
) -> Result<bool, Failure> {
    let now = write.now;
    for used in uses(write, ties, kind)? {
        if used.rule.is_some() && state(write, &used, kind)?.is_full(used.rule, now) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a job that is about to be claimed has to stand in a line instead: in that of which key. Its turn
/// with the others is the next one's then. If not, its slots are taken and its starts are counted.
pub(crate) fn admit(
    write: &mut Write<'_>,
    ties: Option<&Ties>,
    kind: i64,
) -> Result<Option<i64>, Failure> {
    let now = write.now;
    let uses = uses(write, ties, kind)?;
    for used in &uses {
        if used.rule.is_some() && state(write, used, kind)?.is_full(used.rule, now) {
            let others = uses.iter().filter(|other| other.key != used.key);
            write.keys.freed.extend(others.map(|other| other.key.clone()));
            return line_up(write, &used.key).map(Some);
        }
    }
    for used in &uses {
        keys::change(write, &used.key, |key| {
            key.running += i64::from(!used.is_kind);
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
                keys::change(write, &used.key, |key| key.running -= i64::from(!used.is_kind))?;
                write.keys.freed.push(used.key);
            }
        }
        At::Ready { .. } | At::Apart { .. } | At::Aside { .. } => {
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
        if keys::key(write, &name)?.waiting > 0 {
            let (now, (state, rule)) = (write.now, of_key(write, &name)?);
            if !state.is_full(rule, now) {
                lines::wake(write, &name, 1, RELEASE_MAX)?;
            }
        }
    }
    Ok(())
}

/// What a key is at, as far as its rule asks, and the rule.
pub(crate) fn of_key<'w>(
    write: &'w mut Write<'_>,
    name: &str,
) -> Result<(KeyState<'w>, Option<LimitRule>), Failure> {
    let rule = write.names.rules(write.conn)?.of_key(name);
    let counts = rule.is_some_and(|rule| rule.concurrency.is_some());
    let of_kind = match scope(name) {
        Scope::Kind(kind) if counts => Some(running_of_kind(write, kind)?),
        _ => None,
    };
    Ok((keys::key(write, name)?.state(of_kind), rule))
}

fn running_of_kind(write: &mut Write<'_>, kind: &str) -> Result<i64, Failure> {
    let kind = KindName::stored(kind.to_owned());
    match write.names.known_kind(write.conn, &kind)? {
        Some(number) => Ok(write.processing_of_kind(number)?),
        None => Ok(0),
    }
}

/// Moves jobs whose limit has room again, up to `max`. Says how many.
pub(crate) fn promote(write: &mut Write<'_>, max: usize) -> Result<usize, Failure> {
    // What was freed in this call is seen to here.
    write.keys.freed.clear();
    let mut left = max;
    for name in keys::due(write)? {
        if matches!(scope(&name), Scope::Queue(_)) {
            // It has something left of its rate again.
            write.hint_work();
            continue;
        }
        if left == 0 {
            continue;
        }
        let (now, (state, rule)) = (write.now, of_key(write, &name)?);
        let turns = state.turns(rule, now);
        left -= lines::wake(write, &name, turns, left)?;
    }
    Ok(max - left)
}

/// How many more jobs of a queue may be claimed.
pub(crate) fn room_of(
    write: &mut Write<'_>,
    queue: &Queue,
    wanted: usize,
) -> Result<usize, Failure> {
    let rule = write.names.rules(write.conn)?.of_queue(queue.name.as_str());
    let Some(LimitRule { concurrency, .. }) = rule else { return Ok(wanted) };
    let running = match concurrency {
        Some(_) => write.processing_of_queue(queue.number)?,
        None => 0,
    };
    let now = write.now;
    let state = keys::key(write, &key_of_queue(queue.name.as_str()))?.state(Some(running));
    Ok(state.room(rule, now).min(wanted))
}

/// Counts what was claimed from a queue.
pub(crate) fn take_of(write: &mut Write<'_>, queue: &Queue, claimed: usize) -> Result<(), Failure> {
    let rule = write.names.rules(write.conn)?.of_queue(queue.name.as_str());
    let Some(rate) = rule.and_then(|rule| rule.rate).filter(|_| claimed > 0) else {
        return Ok(());
    };
    let (now, name) = (write.now, key_of_queue(queue.name.as_str()));
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
    set: Option<LimitRule>,
) -> Result<(), Failure> {
    if let Some(rule) = set {
        rule.validate(stored(target).1)?;
    }
    let known = find(write.conn, target)?;
    if known.set != set {
        store(write, target.clone(), Rule { set, ..known })?;
    }
    Ok(())
}

/// Stores the rules that a job which was just created declares.
pub(crate) fn declare(write: &mut Write<'_>, ties: &Ties) -> Result<(), Failure> {
    for limit in &ties.limits {
        if limit.declared.is_none() {
            continue;
        }
        if let Some(rule) = write.names.rules(write.conn)?.declared_by(limit) {
            store(write, LimitTarget::Named(limit.limit.clone()), rule)?;
        }
    }
    Ok(())
}

/// Stores a rule that has changed, and lets those who wait under it look again.
fn store(write: &mut Write<'_>, target: LimitTarget, rule: Rule) -> Result<(), Failure> {
    store_rule(write.conn, &target, rule)?;
    let key = key_of(&target);
    let is_queue = matches!(target, LimitTarget::Queue(_));
    if let Some(rules) = write.names.rules_mut() {
        rules.put(target, rule);
    }
    write.tally.names += 1;
    keys::look_again(write, &key, rule.in_force())?;
    if is_queue {
        keys::change(write, &key, |_| ())?;
    }
    write.touch();
    write.hint_work();
    Ok(())
}

fn find(conn: &Connection, target: &LimitTarget) -> Result<Rule, Failure> {
    let (target, name) = stored(target);
    let mut select = conn.prepare_cached(SELECT_RULE)?;
    let mut rows = select.query(params![target, name])?;
    rows.next()?.map_or_else(|| Ok(Rule::default()), read_rule)
}

/// The rule that a limit is under, for those who only read.
pub(crate) fn rule_of(conn: &Connection, key: &str) -> Result<Option<LimitRule>, Failure> {
    Ok(rules(conn)?.of_key(key))
}

/// The limits that have a rule, by target.
pub(crate) fn limits(conn: &Connection) -> Result<Vec<LimitRecord>, Failure> {
    Ok(rules(conn)?.records())
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[SELECT_RULES, SELECT_RULE, UPSERT_RULE, DELETE_RULE];
