//! What a call has changed, so that a call that is refused half-way leaves nothing.

use std::collections::VecDeque;

use super::Data;
use super::jobs::{Job, Number};
use super::keys::Holder;
use super::links::Link;
use super::tally::Totals;
use crate::batch::Progression;
use crate::engine::Batch as Row;
use crate::engine::limits::Rule;
use crate::job::{KindName, QueueName};
use crate::limit::LimitTarget;
use crate::recurring::{RecurringId, RunRecord};

/// The changes of a call that may be refused still.
pub(super) struct Journal {
    totals: Totals,
    changes: Vec<Undo>,
}

/// How one change is undone.
pub(super) enum Undo {
    /// A job was like this, or was not there. It was not processing: what runs is not moved by what may be refused.
    Job(Number, Option<Box<Job>>),
    /// Somebody waited for the end of a job, or nobody did.
    Followed { job: Number, was: bool },
    /// A batch was not there.
    BatchAdded(Number),
    /// A batch was like this.
    Batch(Number, Row, Progression),
    /// A member was not in its batch.
    MemberAdded { batch: Number, member: Number },
    /// A member waited for the start of its batch, or did not.
    Starting { batch: Number, member: Number, was: bool },
    /// Nobody waited there.
    LinkAdded { parent: Number, child: Number },
    /// Somebody waited there.
    LinkClosed { parent: Number, child: Number, link: Link },
    /// A unique key was held so.
    Key(String, Option<Holder>),
    /// A limit had this rule.
    Rule(LimitTarget, Rule),
    /// A recurring job had these runs.
    Runs(RecurringId, VecDeque<RunRecord>),
    /// A queue was not known.
    QueueAdded(QueueName),
    /// A kind was not known.
    KindAdded(KindName),
}

impl Data {
    /// Does what may be refused half-way: then nothing of it is left.
    pub(super) fn all_or_nothing<T, E>(
        &mut self,
        act: impl FnOnce(&mut Data) -> Result<T, E>,
    ) -> Result<T, E> {
        let totals = self.jobs.tally.totals(self.now);
        self.journal = Some(Journal { totals, changes: Vec::new() });
        let done = act(self);
        if let Some(journal) = self.journal.take()
            && done.is_err()
        {
            self.undo(journal);
        }
        done
    }

    /// Takes note of how something was before it is changed.
    pub(super) fn before(&mut self, undo: impl FnOnce(&Data) -> Undo) {
        if self.journal.is_some() {
            let undo = undo(self);
            if let Some(journal) = &mut self.journal {
                journal.changes.push(undo);
            }
        }
    }

    fn undo(&mut self, journal: Journal) {
        for change in journal.changes.into_iter().rev() {
            match change {
                Undo::Job(number, was) => self.jobs.restore(number, was),
                Undo::Followed { job, was } => {
                    if let Some(job) = self.jobs.get_mut(job) {
                        job.followed = was;
                    }
                }
                Undo::BatchAdded(number) => _ = self.batches.remove(number),
                Undo::Batch(number, row, counts) => {
                    self.batches.change(number, |batch| (batch.row, batch.counts) = (row, counts));
                }
                Undo::MemberAdded { batch, member } => {
                    self.batches.change(batch, |batch| batch.members.remove(&member));
                }
                Undo::Starting { batch, member, was: true } => {
                    self.batches.change(batch, |batch| batch.starting.insert(member));
                }
                Undo::Starting { batch, member, was: false } => {
                    self.batches.change(batch, |batch| batch.starting.remove(&member));
                }
                Undo::LinkAdded { parent, child } => self.links.forget_child(parent, child),
                Undo::LinkClosed { parent, child, link } => self.links.add(parent, child, link),
                Undo::Key(key, was) => self.keys.restore(&key, was),
                Undo::Rule(target, rule) => self.jobs.limits.put_rule(target, rule),
                Undo::Runs(id, runs) => self.recurring.restore_runs(&id, runs),
                Undo::QueueAdded(queue) => self.jobs.queues.forget(&queue),
                Undo::KindAdded(kind) => self.jobs.tally.forget_kind(&kind),
            }
        }
        self.jobs.tally.restore(journal.totals);
        self.freed.clear();
        if let Some(told) = &mut self.jobs.told {
            told.clear();
        }
        self.agenda = crate::engine::Agenda::default();
        self.jobs.hints = super::Hints::default();
    }
}
