//! What a sequence sets up beside its jobs: the fate of batches, recurring jobs, limits, locks.

use std::time::Duration;

use portfire_core::recurring::plan;
use portfire_core::{
    BatchChange, BatchChanged, BatchState, FireAction, Fired, Json, KindName, LimitName, LimitRule,
    LimitTarget, LimitUse, LockAnswer, LockRequest, Misfire, NewRecurring, Overlap, QueueName,
    Rate, RecurringChange, RecurringChanged, RecurringId, Schedule, Timestamp, Window,
};

use super::{KINDS, Script, seconds};
use crate::differential::operation::{Answer, Operation, few};

const DAY: Duration = seconds(86_400);
const RECURRING: [&str; 3] = ["clean-up", "nightly report", "é"];
const APPS: [&str; 2] = ["", "shop"];
const LOCKS: [&str; 2] = ["migration", "é '\""];
const OWNERS: [&str; 2] = ["web-1", "web-2"];
const LIMITS: [(&str, &str); 4] = [("db", ""), ("mail", ""), ("mail", "a:b"), ("mail", "é %")];

/// What can be set up.
#[derive(Clone, Copy)]
enum Group {
    Batches,
    Recurring,
    Limits,
    Locks,
}

impl Script {
    /// An operation of this sort, if the scope has any.
    pub(super) fn rule(&mut self) -> Option<Operation> {
        let groups = [
            (self.scope.batches, Group::Batches),
            (self.scope.recurring, Group::Recurring),
            (self.scope.limits, Group::Limits),
            (self.scope.locks, Group::Locks),
        ];
        let groups: Vec<_> =
            groups.into_iter().filter(|(is_in, _)| *is_in).map(|(_, group)| group).collect();
        match self.random.recent(&groups)? {
            Group::Batches if self.random.below(400) == 0 => Some(self.crowd()),
            Group::Batches => self.change_batch(),
            Group::Recurring => Some(match self.random.below(10) {
                0..3 => self.change_recurring(),
                3..9 => Operation::Tick(self.small_max()),
                _ => return self.fire(),
            }),
            Group::Limits => Some(self.set_limit()),
            Group::Locks => Some(Operation::Lock(self.lock())),
        }
    }

    pub(super) fn learn_rule(&mut self, operation: &Operation, answer: &Answer) {
        match (operation, answer) {
            (Operation::ChangeBatch(batch, _), Answer::BatchChanged(changed)) => {
                use BatchState::{Awaiting, Open, Started};
                let takes = matches!(
                    changed,
                    BatchChanged::Applied(Open | Awaiting | Started)
                        | BatchChanged::Unchanged(Open | Awaiting | Started)
                );
                self.taking.retain(|taking| takes || taking != batch);
            }
            (Operation::ChangeRecurring(change), Answer::RecurringChanged(changed)) => {
                self.learn_recurring(change, changed);
            }
            (Operation::Tick(_), Answer::Ticked(due, fired)) => {
                let plans: Vec<_> =
                    due.due.iter().map(|record| few(plan(record, due.now))).collect();
                self.learn_fired(fired);
                self.plans.extend(plans);
            }
            (Operation::Fire(_) | Operation::Force(..), Answer::Fired(fired)) => {
                self.learn_fired(fired);
            }
            (
                Operation::Lock(LockRequest::Acquire { name, .. }),
                Answer::Locked(LockAnswer::Held { fence, .. }),
            ) => self.fences.push((name.clone(), *fence)),
            _ => {}
        }
    }

    fn learn_recurring(&mut self, change: &RecurringChange, changed: &RecurringChanged) {
        match (change, changed) {
            (RecurringChange::Trigger { .. }, RecurringChanged::Triggered(job)) => {
                self.runs.push(*job);
            }
            (RecurringChange::Remove(id), RecurringChanged::Applied { .. }) => {
                self.recurring.retain(|known| known != id);
            }
            (RecurringChange::Upsert(new), RecurringChanged::Applied { .. }) => {
                if !self.recurring.contains(&new.id) {
                    self.recurring.push(new.id.clone());
                }
                // Mostly it becomes due before it is changed again.
                if self.random.chance(60) {
                    let wait = self.random.pick(&[seconds(1), seconds(5), seconds(60), DAY]);
                    let max = self.small_max();
                    self.planned.extend([Operation::Forward(wait), Operation::Tick(max)]);
                }
            }
            (RecurringChange::Prune { .. }, RecurringChanged::Pruned(1..)) => {
                self.recurring.clear();
            }
            _ => {}
        }
    }

    fn learn_fired(&mut self, fired: &[Fired]) {
        for fired in fired {
            if let Fired::Applied { jobs } = fired {
                self.runs.extend(jobs);
            }
        }
    }

    fn change_batch(&mut self) -> Option<Operation> {
        let batch = *self.random.recent(&self.batches)?;
        let change = match self.random.below(3) {
            0 => BatchChange::Cancel { reason: "it took ' too long".to_owned() },
            _ => BatchChange::Seal,
        };
        Some(Operation::ChangeBatch(batch, change))
    }

    fn change_recurring(&mut self) -> Operation {
        let id = RecurringId::stored(self.random.pick(&RECURRING));
        Operation::ChangeRecurring(match self.random.below(20) {
            0..10 => RecurringChange::Upsert(Box::new(self.recurring_job(id))),
            10..13 => {
                let job = if self.random.chance(80) { self.new_run() } else { self.job() };
                RecurringChange::Trigger { id, job }
            }
            13..15 => {
                let until = self.random.chance(60).then(|| self.instant());
                RecurringChange::Pause { id, until }
            }
            15..17 => RecurringChange::Resume(id),
            17 => RecurringChange::Remove(id),
            _ => RecurringChange::Prune {
                app: self.random.pick(&APPS).to_owned(),
                keep: if self.random.chance(70) { vec![id] } else { Vec::new() },
            },
        })
    }

    fn new_run(&mut self) -> portfire_core::JobId {
        self.created += 1;
        let at = self.start.saturating_add(Duration::from_millis(self.created));
        portfire_core::JobId::from_parts(at, u128::from(self.random.number()))
    }

    fn recurring_job(&mut self, id: RecurringId) -> NewRecurring {
        let schedule = match self.random.below(12) {
            0..4 => Schedule::Every(self.random.pick(&[
                seconds(1),
                seconds(5),
                seconds(60),
                seconds(3_600),
            ])),
            4..7 => Schedule::cron(self.random.pick(&["* * * * * *", "*/10 * * * * *", "@daily"])),
            7..10 => Schedule::Cron {
                text: "30 2 * * *".to_owned(),
                zone: self.random.pick(&["Europe/Amsterdam", "America/New_York"]).to_owned(),
            },
            10 => Schedule::cron("0 0 30 2 *"),
            _ => Schedule::Every(Duration::from_millis(1)),
        };
        let kind = KindName::stored(self.random.pick(&KINDS));
        let mut new = NewRecurring::new(id, schedule, kind, Json::stored("{\"all\": true}"));
        new.app = self.random.pick(&[APPS[0], APPS[0], APPS[0], APPS[1]]).to_owned();
        new.declared = self.random.chance(50);
        if self.random.chance(15) {
            new.starts_at = Some(self.instant());
        }
        if self.random.chance(15) {
            new.ends_at = Some(self.instant());
        }
        new.jitter = self.random.pick(&[seconds(0), seconds(0), seconds(30)]);
        new.misfire = self.random.pick(&[Misfire::RunOnce, Misfire::All, Misfire::Skip]);
        new.overlap = self.random.pick(&[
            Overlap::Allow,
            Overlap::Skip,
            Overlap::QueueOne,
            Overlap::CancelPrevious,
        ]);
        new.queue = self.queue();
        if self.scope.unique && self.random.chance(15) {
            new.ties.unique = Some(self.unique_key());
        }
        if self.scope.limits && self.random.chance(25) {
            new.ties.limits = self.limit_uses();
        }
        new
    }

    /// Plans that were made before, or one that nobody made.
    fn fire(&mut self) -> Option<Operation> {
        if self.random.chance(40) {
            let plans = (0..2).filter_map(|_| self.random.recent(&self.plans).cloned()).collect();
            return Some(Operation::Fire(plans));
        }
        let id = self.random.recent(&self.recurring)?.clone();
        let next_at = self.random.chance(80).then(|| self.instant());
        let action = match self.random.below(5) {
            0..2 => FireAction::Fault { reason: "unknown zone".to_owned() },
            2 => FireAction::Resume { next_at },
            3 => FireAction::PassOver { planned: self.planned(), next_at },
            _ => FireAction::Run { planned: vec![self.planned(), self.planned()], next_at },
        };
        Some(Operation::Force(id, action))
    }

    /// An instant that no schedule names.
    fn planned(&mut self) -> Timestamp {
        self.created += 1;
        self.start.saturating_add(Duration::from_millis(7 * self.created + 1))
    }

    pub(super) fn limit_uses(&mut self) -> Vec<LimitUse> {
        let first = self.random.below(LIMITS.len());
        let count = 1 + self.random.below(2);
        let uses = (first..first + count).map(|place| LIMITS[place % LIMITS.len()]);
        let uses: Vec<_> = uses.collect();
        let make = |(limit, partition): (&str, &str)| LimitUse {
            limit: limit_name(limit),
            partition: partition.to_owned(),
            declared: self.random.chance(30).then(|| self.limit_rule()),
        };
        uses.into_iter().map(make).collect()
    }

    fn limit_rule(&mut self) -> LimitRule {
        let concurrency = Some(1 + self.random.below(3) as u32);
        let rate = Some(Rate {
            count: 1 + self.random.below(4) as u32,
            per: self.random.pick(&[seconds(1), seconds(10), seconds(60)]),
            window: self.random.pick(&[Window::Fixed, Window::Sliding]),
        });
        match self.random.below(4) {
            0..2 => LimitRule { concurrency, rate: None },
            2 => LimitRule { concurrency: None, rate },
            _ => LimitRule { concurrency, rate },
        }
    }

    fn set_limit(&mut self) -> Operation {
        let target = match self.random.below(6) {
            0..3 => LimitTarget::Named(limit_name(self.random.pick(&["db", "mail"]))),
            3..5 => LimitTarget::Kind(KindName::stored(self.random.pick(&KINDS))),
            _ => LimitTarget::Queue(QueueName::stored(self.random.pick(&super::QUEUES))),
        };
        let rule = match self.random.below(20) {
            0..6 => None,
            6 => Some(LimitRule::concurrency(0)),
            _ => Some(self.limit_rule()),
        };
        Operation::SetLimit(target, rule)
    }

    fn lock(&mut self) -> LockRequest {
        let lease = self.wait();
        let owner = self.random.pick(&OWNERS).to_owned();
        let fresh =
            LockRequest::Acquire { name: self.random.pick(&LOCKS).to_owned(), owner, lease };
        let Some((name, fence)) = self.random.recent(&self.fences).cloned() else { return fresh };
        match self.random.below(4) {
            0..2 => fresh,
            2 => LockRequest::Renew { name, fence, lease },
            _ => LockRequest::Release { name, fence },
        }
    }
}

fn limit_name(name: &str) -> LimitName {
    LimitName::new(name).expect("the names here are legal")
}
