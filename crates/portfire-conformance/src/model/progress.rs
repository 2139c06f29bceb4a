//! The progress of batches: their members are counted, and they start, end, are reopened and cancelled.

use super::Data;
use super::batches::Batch;
use super::jobs::Number;
use super::releases::Release;
use portfire_core::batch::{BatchChange, BatchChanged, BatchId, BatchState, Progression};
use portfire_core::state::StateName;

impl Data {
    /// Adds a job or a nested batch to a batch.
    pub(super) fn add_member(&mut self, batch: Number, member: Number) {
        self.batches.change(batch, |batch| {
            batch.record.members.total += 1;
            batch.record.members.pending += 1;
            batch.members.insert(member);
            batch.pending.insert(member);
        });
    }

    /// Counts the end of a member.
    pub(super) fn member_ended(&mut self, batch: Number, member: Number, end: StateName) {
        let left = self.batches.change(batch, |batch| {
            batch.pending.remove(&member);
            let members = &mut batch.record.members;
            members.pending -= 1;
            *counter(members, end) += 1;
            members.pending
        });
        if left == Some(0) {
            match &mut self.emptied {
                // More members may come by the same call.
                Some(emptied) => emptied.push(batch),
                None => self.end_if_empty(batch),
            }
        }
    }

    /// Counts a final member that was deleted. No batch ends twice, but one that has failed may have failed for good now,
    /// which is a deleted member to the one around it.
    pub(super) fn member_moved(&mut self, batch: Number, from: StateName, to: StateName) {
        let failed_for_good = self.batches.change(batch, |batch| {
            let before = batch.has_failed_for_good();
            *counter(&mut batch.record.members, from) -= 1;
            *counter(&mut batch.record.members, to) += 1;
            (!before && batch.has_failed_for_good()).then_some(batch.parent)
        });
        if let Some(parent) = failed_for_good.flatten() {
            self.push_end(batch, Release::FailedForGood(batch));
            if let Some(parent) = parent {
                self.member_moved(parent, StateName::Failed, StateName::Deleted);
            }
        }
    }

    /// Counts a final member that is to run again. A batch that had ended has not then.
    pub(super) fn member_reopened(&mut self, batch: Number, member: Number, from: StateName) {
        let reopened = self.batches.change(batch, |batch| {
            let counted = batch.counts_as();
            batch.pending.insert(member);
            *counter(&mut batch.record.members, from) -= 1;
            batch.record.members.pending += 1;
            let end = counted?;
            batch.record.state = BatchState::Started;
            batch.record.ended_at = None;
            batch.record.expires_at = None;
            Some((batch.parent?, end))
        });
        if let Some((parent, end)) = reopened.flatten() {
            self.member_reopened(parent, batch, end);
        }
    }

    /// Ends a batch that has nothing pending, when it has started or was cancelled.
    pub(super) fn end_if_empty(&mut self, number: Number) {
        let now = self.now;
        // One above it that is cancelled cancels it too, also before a promotion has come to it.
        let cancelled = self.batches.upward(number).find(|(_, batch)| batch.is_cancelled());
        let reason = cancelled.map(|(_, batch)| batch.record.reason.clone());
        let ended = self.batches.change(number, |batch| {
            let runs = matches!(batch.record.state, BatchState::Started | BatchState::Cancelling);
            if !runs || batch.record.members.pending > 0 {
                return None;
            }
            batch.record.state = batch.record.members.end(reason.is_some());
            batch.record.reason = reason.flatten();
            batch.record.ended_at = Some(now);
            batch.record.expires_at = Some(now.saturating_add(batch.retention));
            let release = match batch.has_failed_for_good() {
                true => Release::FailedForGood(number),
                false => Release::Ended(number, batch.record.state.end()?),
            };
            Some((batch.parent, batch.counts_as()?, release))
        });
        if let Some((parent, counted, release)) = ended.flatten() {
            self.push_end(number, release);
            if let Some(parent) = parent {
                self.member_ended(parent, number, counted);
            }
        }
    }

    /// Starts a batch if it waits for nothing any more.
    pub(super) fn start_if_due(&mut self, number: Number) {
        let started = self.batches.change(number, |batch| {
            let due = batch.record.state == BatchState::Awaiting && batch.waits == 0;
            if due {
                batch.record.state = BatchState::Started;
            }
            due.then_some(batch.record.members.pending)
        });
        match started.flatten() {
            None => {}
            Some(0) => self.end_if_empty(number),
            Some(_) => self.releases.push(Release::Started(number)),
        }
    }

    /// Cancels a batch that has not ended.
    pub(super) fn cancel(&mut self, number: Number, reason: &str) {
        let Some(batch) = self.batches.get(number) else { return };
        if batch.record.state.end().is_some() || batch.is_cancelled() {
            return;
        }
        self.close_links_of_batch(number);
        self.batches.change(number, |batch| {
            batch.record.state = BatchState::Cancelling;
            batch.record.reason = Some(reason.to_owned());
        });
        if self.batches.get(number).is_some_and(|batch| batch.record.members.pending > 0) {
            self.releases.cancelled.push_back((number, 0));
            self.jobs.hints.work = true;
        } else {
            self.end_if_empty(number);
        }
    }

    /// Why the members of a batch are deleted: the reason of the nearest one that was cancelled.
    pub(super) fn cancelled_above(&self, batch: Number) -> Option<String> {
        let (_, cancelled) = self.batches.upward(batch).find(|(_, batch)| batch.is_cancelled())?;
        Some(reason(cancelled))
    }

    pub(super) fn change_batch(&mut self, id: BatchId, change: BatchChange) -> BatchChanged {
        let Some(number) = self.batches.find(id) else { return BatchChanged::Missing };
        let state = |data: &Data| data.batches.get(number).map(|batch| batch.record.state);
        let before = state(self);
        match change {
            BatchChange::Seal if before == Some(BatchState::Open) => {
                self.batches.change(number, |batch| batch.record.state = BatchState::Awaiting);
                self.start_if_due(number);
            }
            BatchChange::Seal => {}
            BatchChange::Cancel { reason } => self.cancel(number, &reason),
            other => unreachable!("the model does not know {other:?}"),
        }
        let after = state(self);
        self.settle();
        match after {
            None => BatchChanged::Missing,
            Some(now) if after == before => BatchChanged::Unchanged(now),
            Some(now) => BatchChanged::Applied(now),
        }
    }
}

/// Why the members of a cancelled batch are deleted.
pub(super) fn reason(cancelled: &Batch) -> String {
    format!("its batch was cancelled: {}", cancelled.record.reason.as_deref().unwrap_or_default())
}

fn counter(members: &mut Progression, end: StateName) -> &mut u64 {
    match end {
        StateName::Succeeded => &mut members.succeeded,
        StateName::Failed => &mut members.failed,
        _ => &mut members.deleted,
    }
}
