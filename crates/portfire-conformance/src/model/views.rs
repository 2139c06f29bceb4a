//! What is shown of several parts at once, and the setting of limits.

use super::Data;
use super::jobs::Lane;
use super::queues::Placed;
use portfire_core::batch::{BatchId, BatchRecord};
use portfire_core::continuation::{Antecedent, Continuation};
use portfire_core::engine::kinds;
use portfire_core::error::StorageError;
use portfire_core::job::JobId;
use portfire_core::limit::{LimitRule, LimitTarget};
use portfire_core::monitor::{PAGE_MAX, WaitingRecord};
use portfire_core::notes::NotesRecord;
use portfire_core::state::StateName;

/// Most jobs that are counted before another.
const AHEAD_MAX: usize = 10_000;
/// Most jobs that are named as holders of a limit.
const HOLDERS_MAX: usize = 10;

impl Data {
    pub(super) fn waiting(&self, id: JobId) -> Option<WaitingRecord> {
        let number = self.jobs.find(id)?;
        let job = &self.jobs[number];
        if job.standing().state != StateName::Enqueued {
            return None;
        }
        let queue = self.jobs.queues.get(&job.record.queue)?;
        let shelf = queue.shelves.get(&job.record.kind);
        let mut waiting = match job.lane() {
            Lane::Ready | Lane::Aside => {
                let Placed { rank, .. } = job.placed(number);
                let own = shelf.into_iter().flat_map(|shelf| shelf.jobs.jobs.range(..rank));
                let before = queue.ready.jobs.range(..rank).chain(own);
                WaitingRecord::behind(before.take(AHEAD_MAX).count() as u64)
            }
            Lane::Apart(turn) => {
                let before = queue.apart.range(turn + 1..);
                WaitingRecord::behind(before.take(AHEAD_MAX).count() as u64)
            }
            Lane::Line(key) => {
                let (limit, before, running) =
                    self.jobs.limits.line_of(key, number, &job.record, self.now)?;
                let holders = running.take(HOLDERS_MAX);
                WaitingRecord {
                    limit: Some(limit),
                    holders: holders.map(|holder| self.jobs[holder].record.id).collect(),
                    ..WaitingRecord::behind(before.take(AHEAD_MAX).count() as u64)
                }
            }
        };
        if let Some(shelf) = shelf {
            let had = kinds::had_until(&self.servers.handlers(), &job.record.kind);
            let since = kinds::missing_since(shelf.missing_since, had, self.now);
            waiting.miss_handler(since, shelf.grace, job.enqueued_at());
        }
        Some(waiting)
    }

    pub(super) fn continuations(&self, on: Antecedent, max: u32) -> Vec<Continuation> {
        let Some(antecedent) = self.find_antecedent(on) else { return Vec::new() };
        let jobs = self.links.followers(antecedent).filter(|&number| self.jobs.contains(number));
        let shown = jobs.take(max.min(PAGE_MAX) as usize).filter_map(|number| {
            let record = &self.jobs[number].record;
            let waited = record.ties.after.iter().find(|dependency| dependency.on == on)?;
            let state = record.state.name();
            Some(Continuation { job: record.id, after: waited.after, state })
        });
        shown.collect()
    }

    pub(super) fn batch_record(&self, id: BatchId) -> Option<BatchRecord> {
        let batch = self.batches.get(self.batches.find(id)?)?;
        Some(batch.record.clone())
    }

    pub(super) fn notes_record(&self, id: JobId) -> NotesRecord {
        self.jobs.find(id).map(|number| self.notes.record(number)).unwrap_or_default()
    }

    pub(super) fn set_limit(
        &mut self,
        target: LimitTarget,
        rule: Option<LimitRule>,
    ) -> Result<(), StorageError> {
        let name = match &target {
            LimitTarget::Named(limit) => limit.as_str(),
            LimitTarget::Queue(queue) => queue.as_str(),
            LimitTarget::Kind(kind) => kind.as_str(),
        };
        rule.map_or(Ok(()), |rule| rule.validate(name))?;
        let kind = match &target {
            LimitTarget::Kind(kind) => Some(kind.clone()),
            _ => None,
        };
        let first = self.jobs.limits.set(target, rule);
        if let Some(kind) = kind.filter(|_| first) {
            self.jobs.track_kind(&kind);
        }
        self.jobs.hints.work = true;
        Ok(())
    }
}
