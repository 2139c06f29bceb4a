//! Limits: whose rule a key is under, the keys of a job, and what a key lets in.
//!
//! The keys of a job are looked at in one order, that of [`uses`]. A storage keeps of each key how many of its
//! jobs run and wait, and the starts that its rate remembers; a [`KeyState`] is these together. The arithmetic of
//! rates is in [`RateWindow`].

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::job::{KindName, QueueName};
use crate::limit::{LimitName, LimitRecord, LimitRule, LimitTarget, LimitUse, Rate, RateWindow};

/// The rules of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The rule that someone has set by hand.
    pub set: Option<LimitRule>,
    /// The rule that code declared last.
    pub declared: Option<LimitRule>,
}

impl Rule {
    /// The rule that is shown: that by hand comes before that of code.
    pub fn shown(self) -> Option<LimitRule> {
        self.set.or(self.declared)
    }

    /// The rule that limits; one that allows everything is none.
    pub fn in_force(self) -> Option<LimitRule> {
        self.shown().filter(|rule| *rule != LimitRule::default())
    }
}

/// The rules of all limits.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    named: BTreeMap<LimitName, Rule>,
    queues: BTreeMap<QueueName, Rule>,
    kinds: BTreeMap<KindName, Rule>,
}

impl Rules {
    /// The rules of one limit.
    pub fn of(&self, target: &LimitTarget) -> Rule {
        let found = match target {
            LimitTarget::Named(limit) => self.named.get(limit),
            LimitTarget::Queue(queue) => self.queues.get(queue),
            LimitTarget::Kind(kind) => self.kinds.get(kind),
        };
        found.copied().unwrap_or_default()
    }

    /// Puts the rules of one limit in the place of those before.
    pub fn put(&mut self, target: LimitTarget, rule: Rule) {
        match target {
            LimitTarget::Named(limit) => put_in(&mut self.named, limit, rule),
            LimitTarget::Queue(queue) => put_in(&mut self.queues, queue, rule),
            LimitTarget::Kind(kind) => put_in(&mut self.kinds, kind, rule),
        }
    }

    /// What a use by a new job makes of the rules of its limit, when it declares another one than the last.
    pub fn declared_by(&self, limit: &LimitUse) -> Option<Rule> {
        let declared = limit.declared?;
        let known = self.named.get(limit.limit.as_str()).copied().unwrap_or_default();
        (known.declared != Some(declared)).then_some(Rule { declared: Some(declared), ..known })
    }

    /// Whether jobs without limits of their own may be limited by their kind.
    pub fn limit_kinds(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// Whether any queue has a rule.
    pub fn limit_queues(&self) -> bool {
        !self.queues.is_empty()
    }

    /// The rule that limits those who name this limit.
    pub fn of_limit(&self, limit: &str) -> Option<LimitRule> {
        self.named.get(limit)?.in_force()
    }

    /// The rule that limits a queue.
    pub fn of_queue(&self, queue: &str) -> Option<LimitRule> {
        self.queues.get(queue)?.in_force()
    }

    /// The rule that limits a kind.
    pub fn of_kind(&self, kind: &str) -> Option<LimitRule> {
        self.kinds.get(kind)?.in_force()
    }

    /// The rule that a key is under.
    pub fn of_key(&self, key: &str) -> Option<LimitRule> {
        match scope(key) {
            Scope::Limit(limit) => self.of_limit(limit),
            Scope::Queue(queue) => self.of_queue(queue),
            Scope::Kind(kind) => self.of_kind(kind),
        }
    }

    /// The limits that have a rule: the named, then queues, then kinds, each by name.
    pub fn records(&self) -> Vec<LimitRecord> {
        let named = self.named.iter().map(|(name, rule)| (LimitTarget::Named(name.clone()), rule));
        let queues =
            self.queues.iter().map(|(name, rule)| (LimitTarget::Queue(name.clone()), rule));
        let kinds = self.kinds.iter().map(|(name, rule)| (LimitTarget::Kind(name.clone()), rule));
        let record = |(target, rule): (LimitTarget, &Rule)| {
            Some(LimitRecord { target, rule: rule.shown()?, set: rule.set.is_some() })
        };
        named.chain(queues).chain(kinds).filter_map(record).collect()
    }
}

fn put_in<N: Ord>(rules: &mut BTreeMap<N, Rule>, name: N, rule: Rule) {
    if rule == Rule::default() {
        rules.remove(&name);
    } else {
        rules.insert(name, rule);
    }
}

// No limit has a space in its name, so these are nobody's keys but theirs.
const KIND: &str = "kind ";
const QUEUE: &str = "queue ";

/// The key under which all jobs of a kind are counted.
pub fn key_of_kind(kind: &str) -> String {
    [KIND, kind].concat()
}

/// The key under which all jobs of a queue are counted. Nobody stands in line for it.
pub fn key_of_queue(queue: &str) -> String {
    [QUEUE, queue].concat()
}

/// The key of a limit as a whole; those of its partitions begin with it and a colon.
pub fn key_of(target: &LimitTarget) -> String {
    match target {
        LimitTarget::Named(limit) => limit.as_str().to_owned(),
        LimitTarget::Queue(queue) => key_of_queue(queue.as_str()),
        LimitTarget::Kind(kind) => key_of_kind(kind.as_str()),
    }
}

/// Whose rule a key is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// That of this limit, for the whole or one of its partitions.
    Limit(&'a str),
    /// That of this queue.
    Queue(&'a str),
    /// That of this kind.
    Kind(&'a str),
}

/// Whose rule a key is under.
pub fn scope(key: &str) -> Scope<'_> {
    if let Some(kind) = key.strip_prefix(KIND) {
        return Scope::Kind(kind);
    }
    match key.strip_prefix(QUEUE) {
        Some(queue) => Scope::Queue(queue),
        None => Scope::Limit(key.split(':').next().unwrap_or_default()),
    }
}

/// A key that a job is counted under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The key.
    pub key: String,
    /// Its rule; a limit that has none limits nothing, and its running jobs are counted all the same.
    pub rule: Option<LimitRule>,
    /// Whether it is the key of the job's kind.
    pub is_kind: bool,
}

/// The keys of a job in the order in which they are looked at. A key that is named twice is one. `kind` may be
/// left out while no rule [limits kinds](Rules::limit_kinds).
pub fn uses(rules: &Rules, limits: &[LimitUse], kind: Option<&KindName>) -> Vec<Use> {
    let mut uses: Vec<Use> = Vec::new();
    for limit in limits {
        let key = limit.key();
        if uses.iter().all(|known| known.key != key) {
            let rule = rules.of_limit(limit.limit.as_str());
            uses.push(Use { key, rule, is_kind: false });
        }
    }
    // The line of a kind that has no rule any more is emptied by promotions.
    if let Some(kind) = kind
        && let rule @ Some(_) = rules.of_kind(kind.as_str())
    {
        uses.push(Use { key: key_of_kind(kind.as_str()), rule, is_kind: true });
    }
    uses
}

/// What a key is at.
#[derive(Clone, Copy, Debug)]
pub struct KeyState<'a> {
    /// Its running jobs. Not looked at under a rule without concurrency.
    pub running: u64,
    /// The jobs in its line.
    pub waiting: u64,
    /// The starts that its rate remembers.
    pub starts: &'a RateWindow,
}

impl KeyState<'_> {
    /// How many more of its jobs may start now.
    pub fn room(&self, rule: Option<LimitRule>, now: Timestamp) -> usize {
        let slots = rule.and_then(|rule| rule.concurrency);
        let slots = slots.map_or(u64::MAX, |most| u64::from(most).saturating_sub(self.running));
        let rate = rule.and_then(|rule| rule.rate);
        let starts = rate.map_or(usize::MAX, |rate| self.starts.available(&rate, now) as usize);
        usize::try_from(slots).unwrap_or(usize::MAX).min(starts)
    }

    /// Whether a job that is about to be claimed has to stand in line.
    pub fn is_full(&self, rule: Option<LimitRule>, now: Timestamp) -> bool {
        self.room(rule, now) == 0
    }

    /// Whether a job that comes to the end of its queue has to stand in line: the key is full, or others wait.
    pub fn is_closed(&self, rule: Option<LimitRule>, now: Timestamp) -> bool {
        rule.is_some() && (self.waiting > 0 || self.is_full(rule, now))
    }

    /// How many of its line one promotion lets go. Jobs that end wake the next by themselves, so under a mere
    /// concurrency this is for a line whose first is claimed by nobody.
    pub fn turns(&self, rule: Option<LimitRule>, now: Timestamp) -> usize {
        let room = self.room(rule, now);
        match rule {
            Some(LimitRule { rate: None, .. }) => room.min(1),
            _ => room,
        }
    }

    /// When its rate allows the next start; `None` when it does now.
    pub fn next_at(&self, rule: Option<LimitRule>, now: Timestamp) -> Option<Timestamp> {
        self.starts.next_at(&rule?.rate?, now)
    }

    /// When a promotion has to look at its line.
    pub fn look(&self, rule: Option<LimitRule>, now: Timestamp) -> Look {
        if self.waiting == 0 {
            return Look::Never;
        }
        if rule.is_none() {
            return Look::Unruled;
        }
        match self.next_at(rule, now) {
            Some(at) => Look::At(at),
            None if self.is_full(rule, now) => Look::Never,
            None => Look::AtOnce,
        }
    }
}

/// When a promotion has to look at the line of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Not before one of its running jobs ends, or somebody comes.
    Never,
    /// At the next one: there is room, and its first may stand where nobody claims it.
    AtOnce,
    /// At once: the line has no rule any more, and all of it may go.
    Unruled,
    /// When its rate allows the next start.
    At(Timestamp),
}

impl Look {
    /// When to look at the lines of a limit whose rule has just become this one.
    pub fn after_change(rule: Option<LimitRule>) -> Look {
        if rule.is_some() { Look::AtOnce } else { Look::Unruled }
    }
}

/// When none of the starts counts any more; that has come already when none does now.
pub fn forget_at(starts: &RateWindow, rate: Option<Rate>, now: Timestamp) -> Timestamp {
    // When a single start would be allowed.
    let last = rate.and_then(|rate| starts.next_at(&Rate { count: 1, ..rate }, now));
    last.unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Window;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);
    const TWO: Option<LimitRule> = Some(LimitRule::concurrency(2));

    fn rate(count: u32) -> Rate {
        Rate { count, per: Duration::from_secs(10), window: Window::Sliding }
    }

    fn per_ten_seconds(count: u32) -> Option<LimitRule> {
        let Rate { count, per, window } = rate(count);
        Some(LimitRule::rate(count, per, window))
    }

    fn limit(name: &str, partition: &str, declared: Option<LimitRule>) -> LimitUse {
        let (limit, partition) = (LimitName::new(name).unwrap(), partition.to_owned());
        LimitUse { limit, partition, declared }
    }

    fn named(name: &str) -> LimitTarget {
        LimitTarget::Named(LimitName::new(name).unwrap())
    }

    #[test]
    fn a_rule_by_hand_comes_before_that_of_code_and_one_that_allows_all_is_none() {
        let all = Some(LimitRule::default());
        // By hand, declared, shown, in force.
        let table = [
            (None, None, None, None),
            (None, TWO, TWO, TWO),
            (per_ten_seconds(3), TWO, per_ten_seconds(3), per_ten_seconds(3)),
            (all, TWO, all, None),
        ];
        for (set, declared, shown, in_force) in table {
            let rule = Rule { set, declared };
            assert_eq!((rule.shown(), rule.in_force()), (shown, in_force), "{rule:?}");
        }
    }

    #[test]
    fn a_key_is_under_the_rule_of_what_it_was_made_from() {
        let mut rules = Rules::default();
        let (queue, kind) = (QueueName::stored("kind"), KindName::stored("a:b"));
        let targets = [named("kind"), LimitTarget::Queue(queue), LimitTarget::Kind(kind)];
        for (most, target) in (1..).zip(&targets) {
            let set = Some(LimitRule::concurrency(most));
            rules.put(target.clone(), Rule { set, declared: None });
        }
        for (most, target) in (1..).zip(&targets) {
            let rule = Some(LimitRule::concurrency(most));
            assert_eq!(rules.of_key(&key_of(target)), rule, "{target:?}");
            assert_eq!(rules.of(target).in_force(), rule, "{target:?}");
        }
        let tenant = limit("kind", "7:8", None).key();
        assert_eq!(rules.of_key(&tenant), Some(LimitRule::concurrency(1)));
        assert_eq!(rules.of_key("nobody"), None);
        assert_eq!(rules.records().len(), 3);
        rules.put(targets[0].clone(), Rule::default());
        assert_eq!((rules.records().len(), rules.of_key(&tenant)), (2, None));
    }

    #[test]
    fn a_declaration_counts_when_it_is_another_one() {
        let mut rules = Rules::default();
        let first = rules.declared_by(&limit("l", "", TWO)).unwrap();
        assert_eq!(first, Rule { set: None, declared: TWO });
        rules.put(named("l"), Rule { set: per_ten_seconds(1), declared: TWO });
        assert_eq!(rules.declared_by(&limit("l", "p", TWO)), None);
        assert_eq!(rules.declared_by(&limit("l", "", None)), None);
        let other = rules.declared_by(&limit("l", "", per_ten_seconds(9))).unwrap();
        assert_eq!((other.set, other.declared), (per_ten_seconds(1), per_ten_seconds(9)));
    }

    #[test]
    fn a_job_has_the_keys_that_it_names_each_once_and_then_that_of_its_kind() {
        let mut rules = Rules::default();
        let kind = KindName::stored("k");
        let limits = [limit("b", "", None), limit("a", "1", None), limit("b", "", TWO)];
        let keys = |rules: &Rules| -> Vec<String> {
            uses(rules, &limits, Some(&kind)).into_iter().map(|used| used.key).collect()
        };
        assert_eq!(keys(&rules), ["b", "a:1"]);
        rules.put(LimitTarget::Kind(kind.clone()), Rule { set: TWO, declared: None });
        assert_eq!(keys(&rules), ["b", "a:1", "kind k"]);
        assert!(uses(&rules, &[], None).is_empty());
    }

    #[test]
    fn a_key_lets_in_what_its_slots_and_starts_allow() {
        let mut starts = RateWindow::default();
        starts.take(&rate(3), NOW, 2);
        let both = Some(LimitRule { concurrency: Some(2), rate: Some(rate(3)) });
        // Rule, running, waiting; room, closed to a newcomer, turns of a promotion.
        let table = [
            (None, 9, 0, usize::MAX, false, usize::MAX),
            (None, 9, 4, usize::MAX, false, usize::MAX),
            (TWO, 0, 0, 2, false, 1),
            (TWO, 1, 0, 1, false, 1),
            (TWO, 1, 4, 1, true, 1),
            (TWO, 2, 0, 0, true, 0),
            (TWO, 7, 0, 0, true, 0),
            (per_ten_seconds(4), 9, 0, 2, false, 2),
            (per_ten_seconds(2), 0, 0, 0, true, 0),
            (both, 0, 0, 1, false, 1),
            (both, 2, 0, 0, true, 0),
        ];
        for (rule, running, waiting, room, closed, turns) in table {
            let state = KeyState { running, waiting, starts: &starts };
            let said = (state.room(rule, NOW), state.is_closed(rule, NOW), state.turns(rule, NOW));
            assert_eq!(said, (room, closed, turns), "{rule:?}: {running} run, {waiting} wait");
        }
    }

    #[test]
    fn a_promotion_looks_at_a_line_when_nothing_else_would_move_it() {
        let mut starts = RateWindow::default();
        starts.take(&rate(2), NOW, 2);
        let later = NOW.saturating_add(Duration::from_secs(10));
        let table = [
            (TWO, 0, 0, Look::Never),
            (None, 0, 1, Look::Unruled),
            (TWO, 2, 1, Look::Never),
            (TWO, 1, 1, Look::AtOnce),
            (per_ten_seconds(2), 0, 1, Look::At(later)),
            (per_ten_seconds(3), 0, 1, Look::AtOnce),
        ];
        for (rule, running, waiting, look) in table {
            let state = KeyState { running, waiting, starts: &starts };
            assert_eq!(state.look(rule, NOW), look, "{rule:?}: {running} run, {waiting} wait");
        }
        assert_eq!(Look::after_change(TWO), Look::AtOnce);
        assert_eq!(Look::after_change(None), Look::Unruled);
    }

    #[test]
    fn starts_are_forgotten_when_the_last_of_them_counts_no_more() {
        let mut starts = RateWindow::default();
        assert_eq!(forget_at(&starts, Some(rate(5)), NOW), NOW);
        starts.take(&rate(5), NOW, 2);
        let later = NOW.saturating_add(Duration::from_secs(10));
        assert_eq!(forget_at(&starts, Some(rate(5)), NOW), later);
        assert_eq!(forget_at(&starts, Some(rate(5)), later), later);
        assert_eq!(forget_at(&starts, None, NOW), NOW);
    }
}
