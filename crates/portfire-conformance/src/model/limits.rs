//! The limits: their rules, and for each key of one the jobs that run, the line of those that wait, and
//! the starts that its rate remembers.
//!
//! Running jobs are kept for every named key; of a kind from when it had a rule first, so that plain jobs
//! without any pay nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::jobs::Number;
use portfire_core::clock::Timestamp;
use portfire_core::engine::limits::{
    KeyState, Look, Rule, Rules, Scope, Use, forget_at, key_of_kind, scope, uses,
};
use portfire_core::job::{KindName, QueueName};
use portfire_core::limit::{KeyRecord, LimitName, LimitRecord, LimitRule, LimitTarget, RateWindow};
use portfire_core::monitor::PAGE_MAX;
use portfire_core::state::JobRecord;
use portfire_core::ties::Ties;

/// All limits.
#[derive(Default)]
pub(super) struct Limits {
    rules: Rules,
    /// Kinds that ever had a rule: their running jobs are known.
    tracked: BTreeSet<KindName>,
    keys: BTreeMap<String, Key>,
    /// The keys with a line.
    lines: BTreeSet<String>,
    starts_of_queues: BTreeMap<QueueName, RateWindow>,
    /// The queues whose rate was used up since it was last seen to have something left.
    used_up: BTreeSet<QueueName>,
}

/// What is counted together.
#[derive(Default)]
struct Key {
    running: BTreeSet<Number>,
    /// By negated priority and creation.
    line: BTreeSet<(i32, Number)>,
    starts: RateWindow,
}

impl Key {
    fn state(&self) -> KeyState<'_> {
        let (running, waiting) = (self.running.len() as u64, self.line.len() as u64);
        KeyState { running, waiting, starts: &self.starts }
    }
}

impl Limits {
    /// Takes note of the rules that a job declares.
    pub(super) fn declare(&mut self, ties: &Ties) {
        for limit in &ties.limits {
            if let Some(rule) = self.rules.declared_by(limit) {
                self.rules.put(LimitTarget::Named(limit.limit.clone()), rule);
            }
        }
    }

    /// Sets a rule by hand, or takes it away; says whether a kind has one for the first time.
    pub(super) fn set(&mut self, target: LimitTarget, set: Option<LimitRule>) -> bool {
        let first = match &target {
            LimitTarget::Kind(kind) => set.is_some() && self.tracked.insert(kind.clone()),
            LimitTarget::Queue(queue) => {
                // The next promotion looks whether it is.
                if self.starts_of_queues.contains_key(queue) {
                    self.used_up.insert(queue.clone());
                }
                false
            }
            LimitTarget::Named(_) => false,
        };
        let rule = Rule { set, ..self.rules.of(&target) };
        self.rules.put(target, rule);
        first
    }

    /// Takes note of a job that runs already, of a kind that has a rule for the first time.
    pub(super) fn track(&mut self, kind: &KindName, number: Number) {
        self.key(key_of_kind(kind.as_str())).running.insert(number);
    }

    fn uses(&self, record: &JobRecord) -> Vec<Use> {
        uses(&self.rules, &record.ties.limits, Some(&record.kind))
    }

    /// The keys that a job is counted under while it runs: those of a limit without a rule, and that of a kind
    /// which had one, with them.
    fn counted(&self, record: &JobRecord) -> Vec<(String, Option<LimitRule>)> {
        let of_kind = self.tracked.contains(&record.kind).then(|| {
            let rule = self.rules.of_kind(record.kind.as_str());
            (key_of_kind(record.kind.as_str()), rule)
        });
        let named = self.uses(record).into_iter().filter(|used| !used.is_kind);
        named.map(|used| (used.key, used.rule)).chain(of_kind).collect()
    }

    /// The keys of which a job frees a slot when it runs no more. Those that wait for a kind without a rule
    /// are let go by promotions.
    pub(super) fn freed_by(&self, record: &JobRecord) -> Vec<String> {
        if self.is_free(record) {
            return Vec::new();
        }
        self.uses(record).into_iter().map(|used| used.key).collect()
    }

    /// Whether no limit can concern this job.
    pub(super) fn is_free(&self, record: &JobRecord) -> bool {
        record.ties.limits.is_empty() && self.tracked.is_empty()
    }

    /// The first key of a job that lets no more in: one is full, or others wait for it.
    pub(super) fn full_at_entry(&self, record: &JobRecord, now: Timestamp) -> Option<String> {
        self.first_full(record, |key, rule| key.is_closed(rule, now))
    }

    /// The first key of a job that is full, whoever waits for it.
    pub(super) fn full_at_claim(&self, record: &JobRecord, now: Timestamp) -> Option<String> {
        self.first_full(record, |key, rule| key.is_full(rule, now))
    }

    fn first_full(
        &self,
        record: &JobRecord,
        is_full: impl Fn(KeyState<'_>, Option<LimitRule>) -> bool,
    ) -> Option<String> {
        if self.is_free(record) {
            return None;
        }
        let full = self.uses(record).into_iter().find(|used| {
            self.keys.get(&used.key).is_some_and(|key| is_full(key.state(), used.rule))
        });
        full.map(|used| used.key)
    }

    fn key(&mut self, name: String) -> &mut Key {
        self.keys.entry(name).or_default()
    }

    /// A job was claimed: it takes a slot of each key, and a start of each rate.
    pub(super) fn started(&mut self, number: Number, record: &JobRecord, now: Timestamp) {
        let of_queue = self.rules.of_queue(record.queue.as_str());
        if let Some(rate) = of_queue.and_then(|rule| rule.rate) {
            let starts = self.starts_of_queues.entry(record.queue.clone()).or_default();
            starts.take(&rate, now, 1);
            if starts.available(&rate, now) == 0 {
                self.used_up.insert(record.queue.clone());
            }
        }
        if self.is_free(record) {
            return;
        }
        for (name, rule) in self.counted(record) {
            let key = self.key(name);
            key.running.insert(number);
            if let Some(rate) = rule.and_then(|rule| rule.rate) {
                key.starts.take(&rate, now, 1);
            }
        }
    }

    /// A job runs no more.
    pub(super) fn stopped(&mut self, number: Number, record: &JobRecord) {
        if self.is_free(record) {
            return;
        }
        for (name, _) in self.counted(record) {
            if let Some(key) = self.keys.get_mut(&name) {
                key.running.remove(&number);
            }
            self.drop_if_idle(&name);
        }
    }

    fn drop_if_idle(&mut self, name: &str) {
        let idle =
            |key: &Key| key.running.is_empty() && key.line.is_empty() && key.starts.is_empty();
        if self.keys.get(name).is_some_and(idle) {
            self.keys.remove(name);
        }
    }

    /// Puts a job into the line of one of its keys.
    pub(super) fn join(&mut self, name: &str, number: Number, record: &JobRecord) {
        self.lines.insert(name.to_owned());
        self.key(name.to_owned()).line.insert((-i32::from(record.priority), number));
    }

    /// Takes a job out of a line.
    pub(super) fn quit(&mut self, name: &str, number: Number, record: &JobRecord) {
        let Some(key) = self.keys.get_mut(name) else { return };
        key.line.remove(&(-i32::from(record.priority), number));
        if key.line.is_empty() {
            self.lines.remove(name);
        }
        self.drop_if_idle(name);
    }

    /// The first of a line, when its key has room.
    pub(super) fn first_with_room(&self, name: &str, now: Timestamp) -> Option<Number> {
        let key = self.keys.get(name)?;
        let full = key.state().is_full(self.rules.of_key(name), now);
        key.line.first().filter(|_| !full).map(|&(_, number)| number)
    }

    /// The keys with a line.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    /// How many of a line one promotion lets go, because nothing else may come to do so.
    pub(super) fn let_go(&self, name: &str, now: Timestamp) -> usize {
        let key = self.keys.get(name);
        key.map_or(0, |key| key.state().turns(self.rules.of_key(name), now))
    }

    /// Whether the rate of a queue was used up and is not any more. Says it once.
    pub(super) fn has_queue_again(&mut self, now: Timestamp) -> bool {
        let before = self.used_up.len();
        let mut used_up = std::mem::take(&mut self.used_up);
        used_up.retain(|queue| self.queue_next_at(queue, now).is_some());
        self.used_up = used_up;
        self.used_up.len() < before
    }

    /// Whether nothing is left of the rate of a queue, as of the last claim from it.
    pub(super) fn is_used_up(&self, queue: &QueueName) -> bool {
        self.used_up.contains(queue)
    }

    fn queue_next_at(&self, queue: &QueueName, now: Timestamp) -> Option<Timestamp> {
        let rate = self.rules.of_queue(queue.as_str())?.rate?;
        self.starts_of_queues.get(queue)?.next_at(&rate, now)
    }

    /// When a promotion can let someone go, or tell that a queue has something left of its rate again, of which
    /// no running job's end would tell.
    pub(super) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let next = |name: &String| {
            let key = self.keys.get(name)?;
            match key.state().look(self.rules.of_key(name), now) {
                Look::Unruled => Some(now),
                Look::At(at) => Some(at),
                // Each promotion looks at every line.
                Look::AtOnce | Look::Never => None,
            }
        };
        let queues =
            self.starts_of_queues.keys().filter_map(|queue| self.queue_next_at(queue, now));
        self.lines.iter().filter_map(next).chain(queues).min()
    }

    /// How many jobs of a queue may be claimed, of which so many run.
    pub(super) fn room_in(&self, queue: &QueueName, running: u64, now: Timestamp) -> usize {
        let rule = self.rules.of_queue(queue.as_str());
        let none = RateWindow::default();
        let starts = self.starts_of_queues.get(queue).unwrap_or(&none);
        KeyState { running, waiting: 0, starts }.room(rule, now)
    }

    /// Forgets the starts that no longer matter.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        let names: Vec<String> = self.keys.keys().cloned().collect();
        for name in names {
            let rate = self.rules.of_key(&name).and_then(|rule| rule.rate);
            let Some(key) = self.keys.get_mut(&name) else { continue };
            // The running jobs of a kind are counted with or without a rule: they keep nothing here.
            let runs = !key.running.is_empty() && matches!(scope(&name), Scope::Limit(_));
            if !runs && key.line.is_empty() && forget_at(&key.starts, rate, now) <= now {
                key.starts = RateWindow::default();
            }
            self.drop_if_idle(&name);
        }
        let rules = &self.rules;
        self.starts_of_queues.retain(|queue, starts| {
            let rate = rules.of_queue(queue.as_str()).and_then(|rule| rule.rate);
            forget_at(starts, rate, now) > now
        });
    }

    /// The limits that have a rule, by target.
    pub(super) fn records(&self) -> Vec<LimitRecord> {
        self.rules.records()
    }

    /// The keys of a limit that have running or waiting jobs, by key.
    pub(super) fn key_records(&self, limit: &LimitName, now: Timestamp) -> Vec<KeyRecord> {
        let whole = self.keys.get_key_value(limit.as_str());
        let parts = self.keys.range(format!("{limit}:")..format!("{limit};"));
        let used = whole.into_iter().chain(parts);
        let used = used.filter(|(_, key)| !key.running.is_empty() || !key.line.is_empty());
        used.map(|(name, key)| self.record(name, key, now)).take(PAGE_MAX as usize).collect()
    }

    fn record(&self, name: &str, key: &Key, now: Timestamp) -> KeyRecord {
        KeyRecord {
            key: name.to_owned(),
            running: key.running.len() as u64,
            waiting: key.line.len() as u64,
            next_at: key.state().next_at(self.rules.of_key(name), now),
        }
    }

    /// A key, the jobs of its line before this one, and the first of those that run.
    pub(super) fn line_of(
        &self,
        name: &str,
        number: Number,
        record: &JobRecord,
        now: Timestamp,
    ) -> Option<(KeyRecord, impl Iterator<Item = Number>, impl Iterator<Item = Number>)> {
        let key = self.keys.get(name)?;
        let before = key.line.range(..(-i32::from(record.priority), number));
        let before = before.map(|&(_, number)| number);
        Some((self.record(name, key, now), before, key.running.iter().copied()))
    }
}
