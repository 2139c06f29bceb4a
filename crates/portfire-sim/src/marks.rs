//! Coverage marks: rare situations that a run over many seeds must have met. A simulator that never
//! meets them proves nothing, so a run that misses one fails.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! marks {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A rare situation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Mark {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Mark {
            /// All marks.
            pub const ALL: &'static [Mark] = &[$(Mark::$variant,)+];

            /// Its name, as printed.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Mark::$variant => $name,)+
                }
            }
        }
    };
}

marks! {
    /// A finish came too late and changed nothing.
    FinishFenced = "finish_fenced",
    /// A finish was repeated after an unknown outcome and had been applied.
    FinishAlready = "finish_already_applied",
    /// A server that had been declared dead tried to finish or claim.
    ZombieCycle = "zombie_cycle_refused",
    /// A server learned from its heartbeat that it was declared dead.
    ZombieHeartbeat = "zombie_heartbeat_refused",
    /// A handler went on beside a later attempt of its job.
    ZombieOverlap = "zombie_ran_beside_its_successor",
    /// A worker stopped by itself because its lease had run out.
    SelfFenced = "worker_fenced_itself",
    /// A create was repeated after an unknown outcome and had been applied.
    CreateRepeated = "create_repeated",
    /// A cycle was repeated and was given the jobs of the first time.
    ClaimRepeated = "claim_repeated",
    /// A cycle was repeated whose first time had been applied and had claimed nothing that is left.
    CycleRepeated = "cycle_repeated_for_nothing",
    /// A copy of a cycle arrived after a later copy of it.
    CycleOvertaken = "cycle_overtaken",
    /// A call was applied and its answer was lost.
    OutcomeUnknown = "applied_but_answer_lost",
    /// A server's call was never answered.
    NeverAnswered = "never_answered",
    /// The storage had no room.
    StorageFull = "storage_full",
    /// A call was applied after its caller had given up, or had crashed.
    AppliedLate = "applied_after_the_caller_gave_up",
    /// A server was declared dead by another.
    DeclaredDead = "server_declared_dead",
    /// A rescuer set out for a dead server's jobs and another was faster.
    RescueRaceLost = "rescue_race_lost",
    /// A promoter set out for a due job and another was faster.
    PromoteRaceLost = "promote_race_lost",
    /// Two processes were down at a time.
    DoubleCrash = "double_crash",
    /// A process crashed before its server had started.
    CrashAtStart = "crash_while_starting",
    /// A process crashed while it stopped in good order.
    CrashAtStop = "crash_while_stopping",
    /// A client crashed between sending a create and its answer.
    ClientCrash = "client_crash_in_create",
    /// A process was paused beyond its lease and went on.
    PausedBeyondLease = "paused_beyond_lease",
    /// A server announced itself anew after it had been declared dead.
    Reborn = "server_announced_anew",
    /// A job was given up because its servers died.
    Poisoned = "poisoned",
    /// A job's retries were spent.
    RetriesSpent = "retries_spent",
    /// A job was deleted while its handler ran.
    DeletedRunning = "deleted_while_running",
    /// A job that had ended was run again.
    RequeuedFinal = "final_job_requeued",
    /// A job was given back at a shutdown after its handler had begun.
    ReleasedRunning = "running_job_released",
    /// A job was given back at a shutdown before its handler had begun.
    ReleasedWaiting = "prefetched_job_released",
    /// A handler that ignores its token ran past it.
    TokenIgnored = "cancellation_ignored",
    /// A handler panicked.
    Panicked = "handler_panicked",
    /// An attempt ran into its timeout.
    TimedOut = "attempt_timed_out",
    /// A job asked to run later.
    Snoozed = "snoozed",
    /// A job was failed because no server had a handler of its kind.
    Unhandled = "failed_for_want_of_a_handler",
    /// A handler's process crashed under a thread that blocks.
    CrashWhileBlocking = "crash_under_a_blocking_handler",
    /// A handler enqueued another job, and did so again in its next attempt.
    ChildRepeated = "child_enqueued_again",
    /// The storage's clock stepped back.
    ClockBack = "storage_clock_stepped_back",
    /// The storage could not be reached for a while and then could.
    Outage = "outage_survived",
    /// A claim passed over a paused queue that had jobs.
    PausedQueue = "paused_queue_passed_over",
    /// A job began at once in servers that had nothing else to do.
    Prompt = "idle_server_began_at_once",
    /// A job was cleaned after its retention while others ran.
    Cleaned = "cleaned",
    /// A cleaner set out for an expired job that was requeued before it arrived.
    CleanRaceLost = "clean_race_lost",
    /// A continuation was stored in the moment in which its parent ended.
    ParentJustEnded = "parent_just_ended",
    /// A continuation was stored whose parent had ended.
    ParentHadEnded = "parent_had_ended",
    /// A parent that had released its continuations was run again.
    ParentRequeued = "parent_requeued",
    /// A job ran whose parent had failed, was requeued, and succeeded.
    FailedParentRepaired = "failed_parent_repaired",
    /// A batch that had failed succeeded, and somebody waited for that.
    FailedBatchRepaired = "failed_batch_repaired",
    /// A job was deleted because the retention of its failed parent had ended.
    FailedParentCleaned = "failed_parent_cleaned",
    /// A failed batch failed for good, and somebody waited for its success.
    FailedForGood = "failed_batch_failed_for_good",
    /// A rescue ended a job that others waited for.
    ReleasedByRescue = "released_by_a_rescue",
    /// A job was deleted because what it waited for ended otherwise.
    Unmet = "condition_unmet",
    /// What a job was to wait for or belong to was gone or had ended for good.
    TieRefused = "tie_refused",
    /// The last members of a batch ended in one call.
    LastTwoMembers = "last_members_in_one_cycle",
    /// A member of a batch was run again.
    BatchReopened = "batch_reopened",
    /// The client of an open batch crashed.
    BatchAbandoned = "open_batch_abandoned",
    /// A batch was cancelled while members of it ran.
    BatchCancelled = "running_batch_cancelled",
    /// A plan came too late: another server had fired, or a client had changed the schedule.
    StalePlan = "stale_plan",
    /// An occurrence was passed over because the run before had not ended.
    OccurrenceSkipped = "occurrence_skipped",
    /// Several missed occurrences were fired in one call.
    OccurrencesMadeUp = "occurrences_made_up",
    /// A slot of a limit was freed by a rescue.
    SlotFreedByRescue = "slot_freed_by_a_rescue",
    /// A job was rejected because another held its unique key.
    UniqueRejected = "unique_rejected",
    /// A job was rejected for one whose finish was under way.
    UniqueHeldByEnding = "unique_held_by_one_that_ends",
    /// A job took the unique key of another, which was deleted.
    UniqueReplaced = "unique_replaced",
    /// A job waits anew because another wanted its unique key.
    UniqueDebounced = "unique_debounced",
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How often each mark was hit.
#[derive(Debug)]
pub struct Marks {
    hits: Vec<AtomicU64>,
}

impl Default for Marks {
    fn default() -> Marks {
        Marks { hits: Mark::ALL.iter().map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Marks {
    /// Counts a hit.
    pub(crate) fn hit(&self, mark: Mark) {
        self.hits[mark as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often a mark was hit.
    pub fn hits(&self, mark: Mark) -> u64 {
        self.hits[mark as usize].load(Ordering::Relaxed)
    }

    /// Adds what another run hit.
    pub fn add(&self, other: &Marks) {
        for (sum, hits) in self.hits.iter().zip(&other.hits) {
            sum.fetch_add(hits.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The marks that were never hit.
    pub fn missing(&self) -> Vec<Mark> {
        Mark::ALL.iter().copied().filter(|&mark| self.hits(mark) == 0).collect()
    }
}
