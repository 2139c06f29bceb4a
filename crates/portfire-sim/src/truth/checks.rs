//! What is checked of the answers themselves: verdicts, claims, grants, lost claims.

use portfire_core::LostReason;

use super::*;

impl Truth {
    pub(super) fn check_claims(
        &self,
        ledger: &Ledger,
        request: &CycleRequest,
        cycle: &Cycle,
    ) -> Check {
        let Some(wish) = &request.claim else {
            return require(Invariant::S23, cycle.claimed.is_empty(), || {
                "jobs were claimed for a server that wanted none".to_owned()
            });
        };
        let mut before = ledger.still_held(&request.server, request.key);
        before.retain(|_| request.repeated);
        let repeated = !before.is_empty();
        if repeated {
            self.marks.hit(Mark::ClaimRepeated);
            rules::s25_a_repeat_answers_the_first_claim(&before, &cycle.claimed)?;
        } else if request.repeated && ledger.was_applied(&request.server, request.key) {
            self.marks.hit(Mark::CycleRepeated);
        }
        if !request.repeated && ledger.was_applied(&request.server, request.key) {
            self.marks.hit(Mark::CycleOvertaken);
        }
        for job in cycle.claimed.iter().filter(|_| !repeated) {
            let paused = ledger.paused.contains(&job.queue);
            let (claimed, max) = (cycle.claimed.len(), wish.max);
            let stated = ledger.servers.get(&request.server).map(|known| &known.kinds[..]);
            let (id, kind) = (job.claim.job, job.kind.as_str());
            rules::s27_a_server_has_the_kind(id, kind, stated.unwrap_or_default())?;
            rules::s23_a_claim_is_within_its_wish(&job.queue, &wish.queues, paused, claimed, max)?;
        }
        if wish.queues.iter().any(|queue| ledger.paused.contains(queue)) {
            self.marks.hit(Mark::PausedQueue);
        }
        Ok(())
    }

    /// S20: a job is rejected for one that holds its key.
    pub(super) fn check_rejection(
        &self,
        ledger: &Ledger,
        created: &Created,
        id: JobId,
        key: Option<&str>,
        along: &[JobId],
    ) -> Check {
        let Some(key) = key.filter(|_| created.existing && created.id != id) else {
            return Ok(());
        };
        self.marks.hit(Mark::UniqueRejected);
        let Some(holder) = ledger.jobs.get(&created.id) else {
            return require(Invariant::S20, along.contains(&created.id), || {
                format!("job {id} was rejected for job {}, which is not there", created.id)
            });
        };
        let Claim { job, attempt, .. } = Claim::new(created.id, holder.standing.attempt);
        if lock(&self.effects).run(job, attempt).is_some_and(Run::is_done) {
            self.marks.hit(Mark::UniqueHeldByEnding);
        }
        let holds = ledger.ties.may_hold(key, created.id, holder);
        require(Invariant::S20, holds, || {
            let state = holder.standing.state;
            format!("job {id} was rejected for job {job}, which is {state} and holds no `{key}`")
        })
    }

    pub(super) fn check_finishes(
        &self,
        ledger: &Ledger,
        request: &CycleRequest,
        foreseen: &[(bool, bool, bool)],
        cycle: &Cycle,
    ) -> Check {
        for ((finish, &foreseen), &verdict) in
            request.finished.iter().zip(foreseen).zip(&cycle.verdicts)
        {
            ledger.judge(finish, foreseen, verdict)?;
            let Claim { job, attempt, .. } = finish.claim;
            match verdict {
                Verdict::Fenced => self.marks.hit(Mark::FinishFenced),
                Verdict::Already => self.marks.hit(Mark::FinishAlready),
                _ => {}
            }
            if verdict == Verdict::Applied && matches!(finish.outcome, Outcome::Succeeded { .. }) {
                let done = lock(&self.effects).run(job, attempt).is_some_and(Run::is_done);
                require(Invariant::S3, done, || {
                    format!(
                        "job {job} succeeded by attempt {attempt}, whose handler has not returned"
                    )
                })?;
            }
        }
        Ok(())
    }

    /// S5, S11: what a worker is given is what the ledger says it now holds.
    pub(super) fn check_grants(
        &self,
        ledger: &Ledger,
        request: &CycleRequest,
        cycle: &Cycle,
    ) -> Check {
        let mut seen = BTreeSet::new();
        for job in &cycle.claimed {
            let id = job.claim.job;
            let held = ledger.holds(&request.server, &job.claim) && seen.insert(id);
            require(Invariant::S5, held, || {
                format!(
                    "job {id} was handed out, attempt {}, and is not held so",
                    job.claim.attempt
                )
            })?;
            let Some(entry) = ledger.jobs.get(&id) else { continue };
            let (failures, recoveries) = (entry.standing.failures, entry.standing.recoveries);
            require(
                Invariant::S11,
                (failures, recoveries) == (job.failures, job.recoveries),
                || {
                    format!(
                        "job {id} was handed out with {} failures; it has {failures}",
                        job.failures
                    )
                },
            )?;
        }
        Ok(())
    }

    pub(super) fn mark(&self, moved: &crate::ledger::Moved, deed: Deed) {
        match moved.cause {
            Cause::Poisoned => self.marks.hit(Mark::Poisoned),
            Cause::Failed if moved.from == StateName::Enqueued => self.marks.hit(Mark::Unhandled),
            Cause::Failed => self.marks.hit(Mark::RetriesSpent),
            Cause::Snoozed => self.marks.hit(Mark::Snoozed),
            Cause::Deleted if moved.from == StateName::Processing => {
                self.marks.hit(Mark::DeletedRunning);
            }
            Cause::Rescheduled if deed == Deed::Create => self.marks.hit(Mark::UniqueDebounced),
            Cause::Deleted if is_replaced(moved) => self.marks.hit(Mark::UniqueReplaced),
            Cause::Requeued if moved.from.is_final() => self.marks.hit(Mark::RequeuedFinal),
            Cause::Released => {
                let begun = lock(&self.effects).run(moved.job, moved.attempt).is_some();
                let mark = if begun { Mark::ReleasedRunning } else { Mark::ReleasedWaiting };
                self.marks.hit(mark);
            }
            _ => {}
        }
    }
}

fn is_replaced(moved: &crate::ledger::Moved) -> bool {
    moved.reason.as_deref().is_some_and(|reason| reason.starts_with("replaced by job"))
}

/// S21: a heartbeat and a verification name the lost claims, each with what became of its job.
pub(super) fn s21_lost_claims_are_told(
    ledger: &Ledger,
    server: &ServerId,
    held: &[Claim],
    lost: &[Lost],
) -> Check {
    for claim in held {
        let told = lost.iter().find(|lost| lost.claim == *claim).map(|lost| lost.reason);
        let right = match ledger.jobs.get(&claim.job) {
            None => Some(LostReason::Missing),
            Some(_) if ledger.holds(server, claim) => None,
            Some(entry) if entry.standing.state == StateName::Deleted => Some(LostReason::Deleted),
            Some(_) => Some(LostReason::Taken),
        };
        require(Invariant::S21, told == right, || {
            format!(
                "{server} was told {told:?} of its attempt {} of job {}: {right:?}",
                claim.attempt, claim.job
            )
        })?;
    }
    Ok(())
}
