//! The limits: their rules, and for each key of one the jobs that run, the line of those that wait, and
//! the starts that its rate remembers.
//!
//! Running jobs are kept for every named key; of a kind from when it had a rule first, so that plain jobs
//! without any pay nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::jobs::Number;
use crate::clock::Timestamp;
use crate::job::{KindName, QueueName};
use crate::limit::{KeyRecord, LimitName, LimitRecord, LimitRule, LimitTarget, Rate, RateWindow};
use crate::monitor::PAGE_MAX;
use crate::state::JobRecord;
use crate::ties::Ties;

/// All limits.
#[derive(Default)]
pub(super) struct Limits {
    named: BTreeMap<LimitName, Rules>,
    queues: BTreeMap<QueueName, Rules>,
    kinds: BTreeMap<KindName, Rules>,
    /// Kinds that ever had a rule: their running jobs are known.
    tracked: BTreeSet<KindName>,
    keys: BTreeMap<String, Key>,
    /// The keys with a line.
    lines: BTreeSet<String>,
    starts_of_queues: BTreeMap<QueueName, RateWindow>,
    /// The queues whose rate was used up since it was last seen to have something left.
    used_up: BTreeSet<QueueName>,
}

/// What someone has set and what code declared last.
#[derive(Default)]
struct Rules {
    set: Option<LimitRule>,
    declared: Option<LimitRule>,
}

impl Rules {
    fn rule(&self) -> Option<LimitRule> {
        self.set.or(self.declared)
    }

    fn record(&self, target: LimitTarget) -> Option<LimitRecord> {
        Some(LimitRecord { target, rule: self.rule()?, set: self.set.is_some() })
    }
}

/// Whose rule a key is under.
#[derive(Clone)]
enum Scope {
    Named(LimitName),
    Kind(KindName),
}

/// What is counted together.
struct Key {
    scope: Scope,
    running: BTreeSet<Number>,
    /// By negated priority and creation.
    line: BTreeSet<(i32, Number)>,
    starts: Option<RateWindow>,
}

impl Key {
    fn has_room(&self, rule: LimitRule, now: Timestamp) -> bool {
        self.free_slots(rule) > 0 && self.starts_left(rule, now) > 0
    }

    fn free_slots(&self, rule: LimitRule) -> usize {
        let slots = rule.concurrency.map_or(usize::MAX, |slots| slots as usize);
        slots.saturating_sub(self.running.len())
    }

    fn starts_left(&self, rule: LimitRule, now: Timestamp) -> usize {
        let Some(rate) = rule.rate else { return usize::MAX };
        let left = self.starts.as_ref().map_or(rate.count, |starts| starts.available(&rate, now));
        left as usize
    }

    fn next_at(&self, rule: Option<LimitRule>, now: Timestamp) -> Option<Timestamp> {
        self.starts.as_ref()?.next_at(&rule?.rate?, now)
    }
}

/// A rule that allows everything is none.
fn limiting(rule: Option<LimitRule>) -> Option<LimitRule> {
    rule.filter(|rule| rule.concurrency.is_some() || rule.rate.is_some())
}

impl Limits {
    /// Takes note of the rules that a job declares.
    pub(super) fn declare(&mut self, ties: &Ties) {
        for limit in &ties.limits {
            if let Some(rule) = limit.declared {
                self.named.entry(limit.limit.clone()).or_default().declared = Some(rule);
            }
        }
    }

    /// Sets a rule by hand, or takes it away; says whether a kind has one for the first time.
    pub(super) fn set(&mut self, target: LimitTarget, rule: Option<LimitRule>) -> bool {
        match target {
            LimitTarget::Named(limit) => set_in(&mut self.named, limit, rule),
            LimitTarget::Queue(queue) => {
                // The next promotion looks whether it is.
                if self.starts_of_queues.contains_key(&queue) {
                    self.used_up.insert(queue.clone());
                }
                set_in(&mut self.queues, queue, rule);
            }
            LimitTarget::Kind(kind) => {
                let first = rule.is_some() && self.tracked.insert(kind.clone());
                set_in(&mut self.kinds, kind, rule);
                return first;
            }
        }
        false
    }

    /// Takes note of a job that runs already, of a kind that has a rule for the first time.
    pub(super) fn track(&mut self, kind: &KindName, number: Number) {
        let scope = Scope::Kind(kind.clone());
        self.key(key_of_kind(kind), scope).running.insert(number);
    }

    /// The keys that a job is counted under, those of limits without a rule with them.
    fn keys_of(&self, record: &JobRecord) -> Vec<(String, Scope)> {
        let mut keys: Vec<(String, Scope)> = Vec::new();
        for limit in &record.ties.limits {
            let key = limit.key();
            if !keys.iter().any(|(known, _)| *known == key) {
                keys.push((key, Scope::Named(limit.limit.clone())));
            }
        }
        if self.tracked.contains(&record.kind) {
            keys.push((key_of_kind(&record.kind), Scope::Kind(record.kind.clone())));
        }
        keys
    }

    /// The keys of which a job frees a slot when it runs no more. Those that wait for a kind without a rule
    /// are let go by promotions.
    pub(super) fn freed_by(&self, record: &JobRecord) -> Vec<String> {
        if self.is_free(record) {
            return Vec::new();
        }
        let has_rule = |scope: &Scope| match scope {
            Scope::Named(_) => true,
            Scope::Kind(_) => limiting(self.rule(scope)).is_some(),
        };
        let keys = self.keys_of(record).into_iter().filter(|(_, scope)| has_rule(scope));
        keys.map(|(name, _)| name).collect()
    }

    /// Whether no limit can concern this job.
    pub(super) fn is_free(&self, record: &JobRecord) -> bool {
        record.ties.limits.is_empty() && self.tracked.is_empty()
    }

    fn rule(&self, scope: &Scope) -> Option<LimitRule> {
        let rules = match scope {
            Scope::Named(limit) => self.named.get(limit),
            Scope::Kind(kind) => self.kinds.get(kind),
        };
        rules?.rule()
    }

    fn rule_of(&self, name: &str) -> Option<LimitRule> {
        self.rule(&self.keys.get(name)?.scope)
    }

    /// The first key of a job that lets no more in: one is full, or others wait for it.
    pub(super) fn full_at_entry(&self, record: &JobRecord, now: Timestamp) -> Option<String> {
        self.first_full(record, |key, rule| !key.line.is_empty() || !key.has_room(rule, now))
    }

    /// The first key of a job that is full, whoever waits for it.
    pub(super) fn full_at_claim(&self, record: &JobRecord, now: Timestamp) -> Option<String> {
        self.first_full(record, |key, rule| !key.has_room(rule, now))
    }

    fn first_full(
        &self,
        record: &JobRecord,
        is_full: impl Fn(&Key, LimitRule) -> bool,
    ) -> Option<String> {
        if self.is_free(record) {
            return None;
        }
        let full = self.keys_of(record).into_iter().find(|(name, scope)| {
            let rule = limiting(self.rule(scope));
            self.keys.get(name).zip(rule).is_some_and(|(key, rule)| is_full(key, rule))
        });
        full.map(|(name, _)| name)
    }

    fn key(&mut self, name: String, scope: Scope) -> &mut Key {
        let empty = Key { scope, running: BTreeSet::new(), line: BTreeSet::new(), starts: None };
        self.keys.entry(name).or_insert(empty)
    }

    /// A job was claimed: it takes a slot of each key, and a start of each rate.
    pub(super) fn started(&mut self, number: Number, record: &JobRecord, now: Timestamp) {
        if let Some(rate) = self.rate_of(&record.queue) {
            let starts = self.starts_of_queues.entry(record.queue.clone()).or_default();
            starts.take(&rate, now, 1);
            if starts.available(&rate, now) == 0 {
                self.used_up.insert(record.queue.clone());
            }
        }
        if self.is_free(record) {
            return;
        }
        for (name, scope) in self.keys_of(record) {
            let rate = self.rule(&scope).and_then(|rule| rule.rate);
            let key = self.key(name, scope);
            key.running.insert(number);
            if let Some(rate) = rate {
                key.starts.get_or_insert_default().take(&rate, now, 1);
            }
        }
    }

    /// A job runs no more.
    pub(super) fn stopped(&mut self, number: Number, record: &JobRecord) {
        if self.is_free(record) {
            return;
        }
        for (name, _) in self.keys_of(record) {
            if let Some(key) = self.keys.get_mut(&name) {
                key.running.remove(&number);
            }
            self.drop_if_idle(&name);
        }
    }

    fn drop_if_idle(&mut self, name: &str) {
        let idle =
            |key: &Key| key.running.is_empty() && key.line.is_empty() && key.starts.is_none();
        if self.keys.get(name).is_some_and(idle) {
            self.keys.remove(name);
        }
    }

    /// Puts a job into the line of one of its keys.
    pub(super) fn join(&mut self, name: &str, number: Number, record: &JobRecord) {
        let found = self.keys_of(record).into_iter().find(|(own, _)| own == name);
        if let Some((name, scope)) = found {
            self.lines.insert(name.clone());
            self.key(name, scope).line.insert((-i32::from(record.priority), number));
        }
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
        let room = limiting(self.rule(&key.scope)).is_none_or(|rule| key.has_room(rule, now));
        key.line.first().filter(|_| room).map(|&(_, number)| number)
    }

    /// The keys with a line.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    /// How many of a line one promotion lets go, because nothing else may come to do so.
    pub(super) fn let_go(&self, name: &str, now: Timestamp) -> usize {
        let Some(key) = self.keys.get(name) else { return 0 };
        match limiting(self.rule(&key.scope)) {
            None => usize::MAX,
            Some(rule) if rule.rate.is_some() => {
                key.starts_left(rule, now).min(key.free_slots(rule))
            }
            Some(rule) => key.free_slots(rule).min(1),
        }
    }

    fn rate_of(&self, queue: &QueueName) -> Option<Rate> {
        self.queues.get(queue)?.rule()?.rate
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
        self.starts_of_queues.get(queue)?.next_at(&self.rate_of(queue)?, now)
    }

    /// When a promotion can let someone go, or tell that a queue has something left of its rate again, of which
    /// no running job's end would tell.
    pub(super) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let next = |name: &String| {
            let rule = limiting(self.rule_of(name));
            if rule.is_none() {
                return Some(now);
            }
            self.keys.get(name)?.next_at(rule, now)
        };
        let queues =
            self.starts_of_queues.keys().filter_map(|queue| self.queue_next_at(queue, now));
        self.lines.iter().filter_map(next).chain(queues).min()
    }

    /// How many jobs of a queue may be claimed, of which so many run.
    pub(super) fn room_in(&self, queue: &QueueName, running: u64, now: Timestamp) -> usize {
        let Some(rule) = self.queues.get(queue).and_then(Rules::rule) else { return usize::MAX };
        let slots = rule.concurrency.map_or(u64::MAX, u64::from).saturating_sub(running);
        let starts = rule.rate.map_or(u32::MAX, |rate| {
            let starts = self.starts_of_queues.get(queue);
            starts.map_or(rate.count, |starts| starts.available(&rate, now))
        });
        usize::try_from(slots).unwrap_or(usize::MAX).min(starts as usize)
    }

    /// Forgets the starts that no longer matter.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        let names: Vec<String> = self.keys.keys().cloned().collect();
        for name in names {
            let rate = self.rule_of(&name).and_then(|rule| rule.rate);
            let Some(key) = self.keys.get_mut(&name) else { continue };
            let matters = |starts: &RateWindow| {
                rate.is_some_and(|rate| starts.available(&rate, now) < rate.count)
            };
            // The running jobs of a kind are counted with or without a rule: they keep nothing here.
            let runs = !key.running.is_empty() && matches!(key.scope, Scope::Named(_));
            if !runs && key.line.is_empty() && !key.starts.as_ref().is_some_and(matters) {
                key.starts = None;
            }
            self.drop_if_idle(&name);
        }
        let queues = &self.queues;
        self.starts_of_queues.retain(|queue, starts| {
            let rate = queues.get(queue).and_then(|rules| rules.rule()?.rate);
            rate.is_some_and(|rate| starts.available(&rate, now) < rate.count)
        });
    }

    /// Whether anything is kept of a key.
    #[cfg(test)]
    pub(super) fn knows(&self, name: &str) -> bool {
        self.keys.contains_key(name)
    }

    /// The limits that have a rule, by target.
    pub(super) fn records(&self) -> Vec<LimitRecord> {
        let named =
            self.named.iter().map(|(name, rules)| (LimitTarget::Named(name.clone()), rules));
        let queues =
            self.queues.iter().map(|(name, rules)| (LimitTarget::Queue(name.clone()), rules));
        let kinds = self.kinds.iter().map(|(name, rules)| (LimitTarget::Kind(name.clone()), rules));
        let all = named.chain(queues).chain(kinds);
        all.filter_map(|(target, rules)| rules.record(target)).collect()
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
            next_at: key.next_at(self.rule(&key.scope), now),
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

fn key_of_kind(kind: &KindName) -> String {
    format!("kind {kind}")
}

fn set_in<N: Ord>(all: &mut BTreeMap<N, Rules>, name: N, rule: Option<LimitRule>) {
    let mut rules = all.remove(&name).unwrap_or_default();
    rules.set = rule;
    if rules.rule().is_some() {
        all.insert(name, rules);
    }
}
