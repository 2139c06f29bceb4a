//! What must hold whatever goes wrong: one small function for each rule.
//!
//! | rule | what it means here | looked at |
//! |---|---|---|
//! | S1 no loss | a job whose create was answered, or that was ever seen, is stored until it is cleaned | every answer, the end |
//! | S2 no phantom | what is stored is what a client asked for, whole: body, queue, rank, first state | every create |
//! | S3 no success without work | `succeeded` by attempt *e* only after the handler of *e* returned | every finish |
//! | S4 at least once | an attempt begins at most once; a succeeded job has a complete run, and without a fault exactly one | every beginning, the end |
//! | S5 lease exclusivity | a held job is taken from its server only by its finish, its retirement, an explicit delete, or after its lease has lapsed in storage time; no job is handed out while held | every claim and rescue |
//! | S6 fencing | a finish is applied exactly when its server is alive and holds the job under that attempt; a refused one changes nothing; the dead stay dead | every cycle, heartbeat, announce |
//! | S7 bounded overlap | a handler that heeds its token ends soon after its claim is lost, also in a zombie | while handlers run |
//! | S8 recovery bound | after the faults have stopped, a dead server's jobs are taken back within lease + 1.5 rescue intervals | after the faults |
//! | S9 linear history | revisions 1..n, times never falling, legal edges only, the last entry is the state | every transition |
//! | S10 final is final | only an explicit requeue or reschedule leaves a final state | every transition |
//! | S11 exact retries | failures, recoveries and attempts are what the history adds up to, and a handler that fails n times is failed n times | every transition |
//! | S12 poison bound | a crash is blamed on a job only when its server held no other; no run survives more of those than the limit, beyond it the job is failed; a job that kills no process never is | every rescue |
//! | S13 recurring | a plan is applied at its revision alone; it fires what is due by counting, moves on to the first instant ahead, and no instant has two jobs | every firing |
//! | S14 continuations | a job that waits leaves `awaiting` once, as the first ends of what it waits for decide, and no later than the next promotion | every call |
//! | S15 batches | the numbers of a batch are a recount of its members; it starts, ends and is cancelled as they say | every call |
//! | S16 not early | no job is promoted or claimed before its instant in storage time | every promotion and claim |
//! | S17 counters add up | the counters equal a recount | often, the end |
//! | S18 expiry | cleaned are final jobs whose retention has ended, and nothing else | every cleaning |
//! | S20 limits and keys | no claim lets more jobs of a key run than its limit; a unique key has one holder, and a rejected job names one that holds it | every call |
//! | S21 delete while running | the holder loses the job at once, its finish is fenced, its token fires in time | every change, while handlers run |
//! | S22 orderly stop | a server that has stopped holds nothing, gave back at no cost, and took no longer than it may | every stop |
//! | S23 claim order | a claim takes from the named queues only, never from a paused one, and no more than it asked for | every claim |
//! | S25 unknown outcomes | a cycle that is repeated is answered with what its first time claimed and its server still holds | every repeat |
//! | S27 kinds | a server is given jobs of its kinds alone, and a job is failed for want of a handler only when no live server has one | every claim, every failure |
//! | L1 everything ends | once the faults stop, every job becomes final within a bound | after the faults |
//! | L2 promptness | without a fault, a job starts at once when its server has nothing else to do, and a delayed job is promoted when its instant comes | beginnings and promotions of calm seeds |
//! | P1 no panic | nothing of the shipped code panics | every step |

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use portfire_core::{
    Cause, Claim, ClaimedJob, Finish, HistoryEntry, JobId, KindName, Loss, Outcome, QueueName,
    ServerId, Standing, StateName, Timestamp, Verdict,
};

use crate::handlers::Kind;

/// A rule of the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Invariant {
    /// No loss.
    S1,
    /// No phantom and no half job.
    S2,
    /// No success without work.
    S3,
    /// At least once; once without faults.
    S4,
    /// Lease exclusivity.
    S5,
    /// Fencing.
    S6,
    /// Bounded overlap of a zombie.
    S7,
    /// Bounded recovery.
    S8,
    /// Linear history.
    S9,
    /// Final is final.
    S10,
    /// Exact retries.
    S11,
    /// Poison is bounded.
    S12,
    /// Recurring jobs.
    S13,
    /// Continuations.
    S14,
    /// Batches.
    S15,
    /// Not early.
    S16,
    /// Counters add up.
    S17,
    /// Expiry takes the expired alone.
    S18,
    /// Limits and unique keys.
    S20,
    /// Delete while running.
    S21,
    /// Orderly stop.
    S22,
    /// Claim order.
    S23,
    /// Servers are given what they have handlers of.
    S27,
    /// Unknown outcomes can be repeated.
    S25,
    /// Everything ends.
    L1,
    /// Prompt without faults.
    L2,
    /// No panic.
    P1,
}

impl Invariant {
    /// The rule in a few words.
    pub const fn name(self) -> &'static str {
        match self {
            Invariant::S1 => "S1 no loss",
            Invariant::S2 => "S2 no phantom",
            Invariant::S3 => "S3 no success without work",
            Invariant::S4 => "S4 at least once, once without faults",
            Invariant::S5 => "S5 lease exclusivity",
            Invariant::S6 => "S6 fencing",
            Invariant::S7 => "S7 bounded overlap",
            Invariant::S8 => "S8 recovery bound",
            Invariant::S9 => "S9 linear history",
            Invariant::S10 => "S10 final is final",
            Invariant::S11 => "S11 exact retries",
            Invariant::S12 => "S12 poison bound",
            Invariant::S13 => "S13 recurring exactly once",
            Invariant::S14 => "S14 continuations",
            Invariant::S15 => "S15 batches",
            Invariant::S16 => "S16 not early",
            Invariant::S17 => "S17 counters add up",
            Invariant::S18 => "S18 expiry",
            Invariant::S20 => "S20 limits and unique keys",
            Invariant::S21 => "S21 delete while running",
            Invariant::S22 => "S22 orderly stop",
            Invariant::S23 => "S23 claim order",
            Invariant::S25 => "S25 unknown outcomes",
            Invariant::S27 => "S27 kinds",
            Invariant::L1 => "L1 everything ends",
            Invariant::L2 => "L2 promptness",
            Invariant::P1 => "P1 no panic",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A rule that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub invariant: Invariant,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

/// Whether a rule holds.
pub(crate) type Check = Result<(), Violation>;

/// The rule holds when `holds`; else `detail` says what was seen.
pub(crate) fn require(invariant: Invariant, holds: bool, detail: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// Which call moved a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Create,
    Retire,
    Cycle,
    Rescue,
    Promote,
    Change,
    /// A batch was sealed or cancelled.
    Batch,
    /// Recurring jobs were fired.
    Fire,
    /// A recurring job was changed, or a run of it asked for.
    Recurring,
    /// What is old was removed. To those who wait for a failed job the end of its retention is its deletion.
    Clean,
    /// Any other: it may move nothing.
    Other,
}

impl Deed {
    /// The call that may move a job for this cause.
    fn of(cause: Cause) -> &'static [Deed] {
        match cause {
            Cause::Created => &[Deed::Create, Deed::Fire, Deed::Recurring],
            Cause::Promoted => &[Deed::Promote],
            Cause::Released => &[Deed::Cycle, Deed::Retire],
            Cause::Rescued | Cause::Poisoned => &[Deed::Rescue],
            Cause::Requeued => &[Deed::Change],
            // The holder of a unique key may be told to wait anew.
            Cause::Rescheduled => &[Deed::Change, Deed::Create],
            // What one call ends releases others, or dooms them.
            Cause::Deleted | Cause::Continued => &[
                Deed::Change,
                Deed::Create,
                Deed::Cycle,
                Deed::Promote,
                Deed::Rescue,
                Deed::Retire,
                Deed::Batch,
                Deed::Fire,
                Deed::Clean,
            ],
            // By its handler, or because no server has one.
            Cause::Failed => &[Deed::Cycle, Deed::Rescue],
            _ => &[Deed::Cycle],
        }
    }
}

/// S9: one more revision, at no earlier a time, along a legal edge, for a cause that this call has.
pub(crate) fn s9_history_goes_on(
    job: JobId,
    before: (&Standing, Timestamp),
    entry: &HistoryEntry,
    deed: Deed,
) -> Check {
    let (standing, at) = before;
    // Several moves of the instant in one call are one entry.
    let folded = entry.folded.is_some() && entry.cause == Cause::Rescheduled;
    let follows =
        entry.revision == standing.revision + 1 || (folded && entry.revision > standing.revision);
    require(Invariant::S9, follows, || {
        format!("job {job}: revision {} follows {}", entry.revision, standing.revision)
    })?;
    require(Invariant::S9, entry.at >= at, || {
        format!("job {job}: revision {} at {} is before {at}", entry.revision, entry.at)
    })?;
    require(Invariant::S9, edge_is_legal(standing.state, entry.cause, entry.state), || {
        format!("job {job}: {} → {} ({}) is no edge", standing.state, entry.state, entry.cause)
    })?;
    require(Invariant::S9, Deed::of(entry.cause).contains(&deed), || {
        format!("job {job}: was {} by {deed:?}", entry.cause)
    })
}

/// The edges of the state machine, written down a second time.
fn edge_is_legal(from: StateName, cause: Cause, to: StateName) -> bool {
    use StateName::{Awaiting, Deleted, Enqueued, Failed, Processing, Scheduled};
    match cause {
        Cause::Created => false,
        Cause::Continued => from == Awaiting && matches!(to, Enqueued | Scheduled),
        Cause::Promoted => (from, to) == (Scheduled, Enqueued),
        Cause::Claimed => (from, to) == (Enqueued, Processing),
        Cause::Succeeded => (from, to) == (Processing, StateName::Succeeded),
        Cause::Retried | Cause::Snoozed | Cause::Parked => (from, to) == (Processing, Scheduled),
        Cause::Released | Cause::Rescued => (from, to) == (Processing, Enqueued),
        Cause::Poisoned => (from, to) == (Processing, Failed),
        // By its handler, or because no server has one.
        Cause::Failed => matches!(from, Processing | Enqueued) && to == Failed,
        Cause::Discarded => (from, to) == (Processing, Deleted),
        Cause::Requeued => {
            to == Enqueued && (from.is_final() || matches!(from, Scheduled | Awaiting))
        }
        Cause::Deleted => to == Deleted && from != Deleted,
        Cause::Rescheduled => to == Scheduled && from != Processing,
        _ => false,
    }
}

/// S10: only an explicit change leaves a final state.
pub(crate) fn s10_final_is_final(job: JobId, from: StateName, cause: Cause) -> Check {
    let explicit = matches!(cause, Cause::Requeued | Cause::Rescheduled | Cause::Deleted);
    require(Invariant::S10, !from.is_final() || explicit, || {
        format!("job {job} left {from}: {cause}")
    })
}

/// S11: the counters a job has after an entry of its history.
pub(crate) fn s11_counted(before: &Standing, entry: &HistoryEntry) -> Standing {
    let mut after = Standing { state: entry.state, revision: entry.revision, ..*before };
    match entry.cause {
        Cause::Claimed => after.attempt += 1,
        // What is failed for want of a handler has not been tried.
        Cause::Failed if before.state == StateName::Enqueued => {}
        Cause::Retried | Cause::Failed => after.failures += 1,
        Cause::Discarded if entry.error.is_some() => after.failures += 1,
        Cause::Requeued | Cause::Rescheduled if before.state.is_final() => {
            (after.failures, after.recoveries, after.crashes) = (0, 0, 0);
        }
        _ => {}
    }
    match entry.cause {
        Cause::Rescued | Cause::Poisoned if !is_for(entry, Loss::Lapsed) => after.crashes += 1,
        Cause::Failed if before.state == StateName::Enqueued => {}
        Cause::Succeeded | Cause::Failed | Cause::Discarded | Cause::Retried | Cause::Snoozed => {
            after.crashes = 0
        }
        _ => {}
    }
    if entry.cause == Cause::Rescued && is_for(entry, Loss::CrashedAlone) {
        after.recoveries += 1;
    }
    after
}

/// Whether an entry says that the server was lost so.
fn is_for(entry: &HistoryEntry, loss: Loss) -> bool {
    entry.reason.as_deref() == Some(loss.reason())
}

/// S11: what is stored is what the history adds up to.
pub(crate) fn s11_counters_follow_history(
    job: JobId,
    counted: &Standing,
    stored: &Standing,
) -> Check {
    require(Invariant::S11, counted == stored, || {
        format!("job {job}: the history adds up to {counted:?}, stored is {stored:?}")
    })
}

/// S11: a handler that fails n times and then succeeds, or fails for good, ends just so.
pub(crate) fn s11_ends_as_its_handler_does(
    job: JobId,
    expected: (Cause, u32),
    found: (Cause, u32),
) -> Check {
    require(Invariant::S11, expected == found, || {
        let ((want, failures), (cause, counted)) = (expected, found);
        format!(
            "job {job} was {cause} with {counted} failures; its handler makes it {want} with {failures}"
        )
    })
}

/// S12: within a run, no more crashes of its own are survived than the limit, and poison comes right at it.
pub(crate) fn s12_poison_is_bounded(
    job: JobId,
    entry: &HistoryEntry,
    before: &Standing,
    limit: u32,
) -> Check {
    let cause = entry.cause;
    let right = match cause {
        Cause::Rescued if is_for(entry, Loss::CrashedAlone) => before.recoveries < limit,
        Cause::Poisoned => before.recoveries == limit,
        _ => true,
    };
    require(Invariant::S12, right, || {
        format!("job {job} was {cause} after {} recoveries of {limit}", before.recoveries)
    })
}

/// S12: a crash is blamed on a job only when its server held no other.
pub(crate) fn s12_one_alone_is_blamed(
    job: JobId,
    entry: &HistoryEntry,
    crashed_with: Option<usize>,
) -> Check {
    let blamed = entry.cause == Cause::Poisoned || is_for(entry, Loss::CrashedAlone);
    require(Invariant::S12, !blamed || crashed_with == Some(1), || {
        format!("job {job} was blamed for a crash of a server that held {crashed_with:?} jobs")
    })
}

/// S12: a job that kills no process is never failed as poison.
pub(crate) fn s12_no_other_is_poison(job: JobId, cause: Cause, kind: Option<Kind>) -> Check {
    let innocent = kind.is_some_and(|kind| !kind.kills());
    require(Invariant::S12, cause != Cause::Poisoned || !innocent, || {
        format!("job {job} kills no process, and was failed as poison")
    })
}

/// S5: a rescuer takes a job only from a server whose lease has lapsed.
pub(crate) fn s5_the_living_keep_their_jobs(
    job: JobId,
    holder: &ServerId,
    lease_until: Timestamp,
    now: Timestamp,
) -> Check {
    require(Invariant::S5, lease_until <= now, || {
        format!("job {job} was taken from {holder} at {now}, whose lease runs until {lease_until}")
    })
}

/// S16: the instant a job waits for has come.
pub(crate) fn s16_not_early(
    job: JobId,
    cause: Cause,
    not_before: Option<Timestamp>,
    now: Timestamp,
) -> Check {
    let waits = matches!(cause, Cause::Promoted | Cause::Claimed);
    require(Invariant::S16, !waits || not_before.is_none_or(|at| at <= now), || {
        format!("job {job} was {cause} at {now}; it waits for {not_before:?}")
    })
}

/// S6: the verdict of a finish follows from who holds the job.
///
/// `held`: the finishing server holds it under that attempt. `ended`: the last that happened to the
/// job was the finish of this very attempt by this server.
pub(crate) fn s6_the_holder_alone_finishes(
    finish: &Finish,
    stored: bool,
    held: bool,
    ended: bool,
    verdict: Verdict,
) -> Check {
    let right = match (stored, held, ended) {
        (false, _, _) => Verdict::Missing,
        (true, true, _) => Verdict::Applied,
        (true, false, true) => Verdict::Already,
        (true, false, false) => Verdict::Fenced,
    };
    require(Invariant::S6, verdict == right, || {
        let claim = finish.claim;
        format!(
            "the finish of attempt {} of job {} was {verdict:?}, not {right:?}",
            claim.attempt, claim.job
        )
    })
}

/// S6: what an outcome makes of a job.
pub(crate) fn cause_of(outcome: &Outcome) -> Option<Cause> {
    Some(match outcome {
        Outcome::Succeeded { .. } => Cause::Succeeded,
        Outcome::Retry { .. } => Cause::Retried,
        Outcome::Failed { .. } => Cause::Failed,
        Outcome::Snoozed { .. } => Cause::Snoozed,
        Outcome::Parked { .. } => Cause::Parked,
        Outcome::Released => Cause::Released,
        Outcome::Discarded { .. } => Cause::Discarded,
        _ => return None,
    })
}

/// S6, S22: an applied finish is written as what it was: a release as a release, a failure as a failure.
pub(crate) fn s6_a_finish_is_what_it_says(job: JobId, said: Cause, written: Cause) -> Check {
    let rule = if said == Cause::Released { Invariant::S22 } else { Invariant::S6 };
    require(rule, said == written, || format!("job {job}: {said} was written as {written}"))
}

/// S6: a server that is dead is refused.
pub(crate) fn s6_the_dead_stay_dead(server: &ServerId, dead: bool, accepted: bool) -> Check {
    require(Invariant::S6, dead != accepted, || {
        let (is, was) = (if dead { "dead" } else { "alive" }, if accepted { "not " } else { "" });
        format!("server {server} is {is} and was {was}refused")
    })
}

/// S23: a claim is within its wish.
pub(crate) fn s23_a_claim_is_within_its_wish(
    queue: &QueueName,
    wanted: &[QueueName],
    paused: bool,
    claimed: usize,
    max: u32,
) -> Check {
    require(Invariant::S23, wanted.contains(queue), || format!("{queue} is not in {wanted:?}"))?;
    require(Invariant::S23, !paused, || format!("a job of the paused queue {queue} was claimed"))?;
    require(Invariant::S23, claimed <= max as usize, || format!("{claimed} jobs, {max} wanted"))
}

/// S27: a server is given jobs of the kinds that it states.
pub(crate) fn s27_a_server_has_the_kind(job: JobId, kind: &str, stated: &[KindName]) -> Check {
    let has = stated.is_empty() || stated.iter().any(|known| known.as_str() == kind);
    require(Invariant::S27, has, || format!("job {job} of kind {kind} was given to {stated:?}"))
}

/// S27: a job is failed for want of a handler when no live server has one.
pub(crate) fn s27_nobody_has_the_kind(job: JobId, kind: &str, having: Option<&ServerId>) -> Check {
    require(Invariant::S27, having.is_none(), || {
        format!("job {job} of kind {kind} was failed for want of a handler; {having:?} has one")
    })
}

/// S25: a repeated cycle is answered with what it claimed the first time.
pub(crate) fn s25_a_repeat_answers_the_first_claim(
    before: &[Claim],
    claimed: &[ClaimedJob],
) -> Check {
    let answered: BTreeSet<(JobId, u32)> =
        claimed.iter().map(|job| (job.claim.job, job.claim.attempt)).collect();
    let claims: BTreeSet<(JobId, u32)> =
        before.iter().map(|claim| (claim.job, claim.attempt)).collect();
    require(Invariant::S25, claims == answered, || {
        format!("a cycle had claimed {claims:?}; its repeat was answered with {answered:?}")
    })
}

/// S18: cleaned are final jobs whose retention has ended.
pub(crate) fn s18_only_the_expired_go(
    job: JobId,
    state: StateName,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Check {
    let expired = state.is_final() && expires_at.is_some_and(|at| at <= now);
    require(Invariant::S18, expired, || {
        format!("job {job} is gone at {now}: it was {state} and expires at {expires_at:?}")
    })
}

/// S7, S21: a handler that heeds its token has ended within `bound` after its claim was lost.
pub(crate) fn s7_a_zombie_stops(
    job: JobId,
    attempt: u32,
    deleted: bool,
    overtime: Duration,
    bound: Duration,
) -> Check {
    let rule = if deleted { Invariant::S21 } else { Invariant::S7 };
    require(rule, overtime <= bound, || {
        format!(
            "attempt {attempt} of job {job} runs {overtime:?} after it lost its claim; {bound:?} is the bound"
        )
    })
}

/// L2: without a fault nothing waits that need not.
pub(crate) fn l2_nothing_waits_for_nothing(
    job: JobId,
    what: &str,
    waited: Duration,
    bound: Duration,
) -> Check {
    require(Invariant::L2, waited <= bound, || {
        format!("job {job} was {what} after {waited:?}, without a reason; {bound:?} is the bound")
    })
}

/// S22: a server that stopped in good order took no longer than it may.
pub(crate) fn s22_a_stop_is_in_time(
    domain: impl fmt::Display,
    took: Duration,
    bound: Duration,
) -> Check {
    require(Invariant::S22, took <= bound, || {
        format!("the server of {domain} took {took:?} to stop; {bound:?} is the bound")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use portfire_core::{Event, Retention, transition};

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    fn standing(state: StateName) -> Standing {
        Standing { state, revision: 4, attempt: 2, failures: 1, recoveries: 1, crashes: 0 }
    }

    fn job() -> JobId {
        JobId::from_bytes([7; 16])
    }

    /// The edges here were written down apart from the state machine; both must agree.
    #[test]
    fn the_edges_are_those_of_the_state_machine() {
        let wait = Duration::from_secs(1);
        let events = [
            Event::Promote,
            Event::Claim,
            Event::Succeed,
            Event::Retry(wait),
            Event::Snooze(wait),
            Event::Park(wait),
            Event::Release,
            Event::Fail,
            Event::Discard { failed: true },
            Event::Rescue { loss: Loss::Lapsed, recoveries_max: 1 },
            Event::Rescue { loss: Loss::Crashed, recoveries_max: 1 },
            Event::Rescue { loss: Loss::CrashedAlone, recoveries_max: 3 },
            Event::Rescue { loss: Loss::CrashedAlone, recoveries_max: 1 },
            Event::Unhandled,
            Event::Requeue,
            Event::Delete,
            Event::Reschedule(NOW),
            Event::Continue(None),
            Event::Continue(Some(NOW)),
        ];
        for from in StateName::ALL {
            for event in events {
                let made = transition::next(&standing(from), event, NOW, &Retention::default());
                let Ok(made) = made else { continue };
                assert!(edge_is_legal(from, made.cause, made.to.state), "{from} {event:?}");
                let error = matches!(event, Event::Discard { failed: true })
                    .then(|| portfire_core::ErrorRecord::new("E", "broken"));
                let mut entry = entry(made.to.revision, made.to.state, made.cause, error);
                if let Event::Rescue { loss, .. } = event {
                    entry.reason = Some(loss.reason().to_owned());
                }
                assert_eq!(s11_counted(&standing(from), &entry), made.to, "{from} {event:?}");
            }
        }
    }

    fn entry(
        revision: u32,
        state: StateName,
        cause: Cause,
        error: Option<portfire_core::ErrorRecord>,
    ) -> HistoryEntry {
        let (server, attempt, run_at, reason) = (None, None, None, None);
        HistoryEntry {
            revision,
            state,
            at: NOW,
            cause,
            server,
            attempt,
            run_at,
            error,
            reason,
            folded: None,
        }
    }

    #[test]
    fn a_gap_an_early_time_and_a_wrong_call_are_found() {
        let before = standing(StateName::Enqueued);
        let claimed = |revision| entry(revision, StateName::Processing, Cause::Claimed, None);
        let check = |entry: &HistoryEntry, at, deed| {
            s9_history_goes_on(job(), (&before, at), entry, deed).is_ok()
        };
        assert!(check(&claimed(5), NOW, Deed::Cycle));
        assert!(!check(&claimed(6), NOW, Deed::Cycle));
        assert!(!check(&claimed(5), NOW.saturating_add(Duration::from_secs(1)), Deed::Cycle));
        assert!(!check(&claimed(5), NOW, Deed::Promote));
        let jump = entry(5, StateName::Succeeded, Cause::Succeeded, None);
        assert!(!check(&jump, NOW, Deed::Cycle));
    }

    #[test]
    fn verdicts_follow_from_who_holds_the_job() {
        let finish = Finish {
            claim: Claim::new(job(), 1),
            outcome: Outcome::Released,
            duration: Duration::ZERO,
        };
        let check = |stored, held, ended, verdict| {
            s6_the_holder_alone_finishes(&finish, stored, held, ended, verdict).is_ok()
        };
        assert!(check(true, true, false, Verdict::Applied));
        assert!(!check(true, false, false, Verdict::Applied));
        assert!(check(true, false, true, Verdict::Already));
        assert!(!check(true, false, false, Verdict::Already));
        assert!(!check(true, true, false, Verdict::Fenced));
        assert!(check(false, false, false, Verdict::Missing));
    }

    #[test]
    fn bounds_are_sharp() {
        let later = NOW.saturating_add(Duration::from_micros(1));
        let server = ServerId::new("s");
        assert!(s5_the_living_keep_their_jobs(job(), &server, NOW, NOW).is_ok());
        assert!(s5_the_living_keep_their_jobs(job(), &server, later, NOW).is_err());
        assert!(s16_not_early(job(), Cause::Claimed, Some(NOW), NOW).is_ok());
        assert!(s16_not_early(job(), Cause::Claimed, Some(later), NOW).is_err());
        assert!(s18_only_the_expired_go(job(), StateName::Failed, Some(NOW), NOW).is_ok());
        assert!(s18_only_the_expired_go(job(), StateName::Failed, None, NOW).is_err());
        assert!(s18_only_the_expired_go(job(), StateName::Enqueued, Some(NOW), NOW).is_err());
        let before = standing(StateName::Processing);
        let alone = |cause, state| {
            let reason = Some(Loss::CrashedAlone.reason().to_owned());
            HistoryEntry { reason, ..entry(5, state, cause, None) }
        };
        let rescued = alone(Cause::Rescued, StateName::Enqueued);
        let poisoned = alone(Cause::Poisoned, StateName::Failed);
        assert!(s12_poison_is_bounded(job(), &rescued, &before, 2).is_ok());
        assert!(s12_poison_is_bounded(job(), &rescued, &before, 1).is_err());
        assert!(s12_poison_is_bounded(job(), &poisoned, &before, 1).is_ok());
        assert!(s12_poison_is_bounded(job(), &poisoned, &before, 2).is_err());
        assert!(s12_no_other_is_poison(job(), Cause::Poisoned, Some(Kind::Poison)).is_ok());
        assert!(s12_no_other_is_poison(job(), Cause::Poisoned, Some(Kind::Overlong)).is_err());
        assert!(s12_one_alone_is_blamed(job(), &rescued, Some(1)).is_ok());
        assert!(s12_one_alone_is_blamed(job(), &rescued, Some(2)).is_err());
        assert!(s12_one_alone_is_blamed(job(), &poisoned, Some(2)).is_err());
        assert!(s10_final_is_final(job(), StateName::Deleted, Cause::Claimed).is_err());
        let queues = [QueueName::DEFAULT];
        assert!(s23_a_claim_is_within_its_wish(&queues[0], &queues, false, 2, 2).is_ok());
        assert!(s23_a_claim_is_within_its_wish(&queues[0], &queues, false, 3, 2).is_err());
        assert!(s23_a_claim_is_within_its_wish(&queues[0], &queues, true, 1, 2).is_err());
        assert!(s23_a_claim_is_within_its_wish(&queues[0], &[], false, 1, 2).is_err());
    }
}
