//! The faults by name.

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident,)*) => {
        /// What is wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            $($(#[$doc])* $fault,)*
        }

        impl Fault {
            /// All of them.
            pub(crate) const ALL: &[Fault] = &[$(Fault::$fault),*];
        }
    };
}

faults! {
    /// A finish is applied under any attempt.
    FinishIgnoresAttempt,
    /// A finish is applied for any server.
    FinishIgnoresServer,
    /// A finish that was applied before is fenced.
    RepeatedFinishIsFenced,
    /// A finish that was fenced is counted.
    FencedFinishCounts,
    /// A retry counts no failure.
    RetryCountsNoFailure,
    /// A released job goes to the end of its queue.
    ReleaseLosesPlace,
    /// A create that is repeated stores another job.
    CreateIsNotIdempotent,
    /// A call that is refused stores what it can.
    CreateIsHalf,
    /// The args of a claimed job are spelt anew.
    ClaimRewritesArgs,
    /// A claim takes one more than asked.
    ClaimsTooMany,
    /// A claim goes through the queues by name.
    ClaimSortsQueues,
    /// A claim takes jobs of paused queues.
    ClaimIgnoresPause,
    /// A cycle that is repeated claims anew.
    RepeatClaimsAnew,
    /// A heartbeat of a dead server is answered.
    HeartbeatRevivesDead,
    /// Asking what is lost renews the lease.
    VerifyRenews,
    /// Servers are given jobs of every kind.
    KindsIgnored,
    /// A job whose kind is missing is never failed.
    UnhandledWait,
    /// A rescue counts no recovery.
    RescueCountsNoRecovery,
    /// A rescue never gives a job up.
    RescueNeverPoisons,
    /// A rescue takes jobs of servers that live.
    RescueKillsLive,
    /// A job is promoted half a minute early.
    PromotesEarly,
    /// A promotion moves all that is due, whatever was asked.
    PromoteIgnoresMax,
    /// A change does not look at what is expected.
    ChangeIgnoresExpectation,
    /// A job that runs cannot be deleted.
    DeleteSparesRunning,
    /// A cleaning removes jobs that had expired and were asked for again.
    CleanIgnoresRequeue,
    /// A cleaning removes all that has expired, whatever was asked.
    CleanIgnoresMax,
    /// A deletion moves no counter.
    CountersMissDeletions,
    /// Statistics know no failures.
    StatisticsMissFailures,
    /// The second line of a history is lost.
    HistoryHasAGap,
    /// Pages go on by number, not after the last job.
    PagesGoByNumber,
    /// Nobody hears of anything.
    WakesNobody,
    /// Time is what the host's clock says.
    TimeGoesBack,
    /// Children are released before it is certain that their parent has ended.
    ReleasesBeforeTheEnd,
    /// Of several things to wait for the last is lost.
    LosesALink,
    /// A parent that ends again brings back what it released before.
    ReleasesAgain,
    /// A batch that ends again calls back again.
    CallsBackTwice,
    /// What waits for a batch never runs.
    NeverCallsBack,
    /// All children are released in one call, however many there are.
    ReleasesAllAtOnce,
    /// The delay of a continuation counts from its creation.
    DelaysFromCreation,
    /// Nothing is passed from parents to children.
    PassesNothing,
    /// Members that succeeded are counted twice.
    CountsMembersTwice,
    /// An open batch starts at once.
    StartsOpenBatches,
    /// A nested batch is no member.
    ForgetsNesting,
    /// A batch that has ended takes members, which it does not know.
    TakesMembersAfterTheEnd,
    /// A cancellation comes about with the next promotion.
    CancelsLate,
    /// A job that was deleted keeps its unique key.
    KeepsKeyAfterDeletion,
    /// A job that has ended keeps its unique key.
    KeepsKeyAfterTheEnd,
    /// A job that runs holds its unique key no longer.
    LosesKeyAtTheClaim,
    /// A job that is to replace another is rejected.
    ReplacesNothing,
    /// A limit lets one job too many run.
    LimitOffByOne,
    /// The slots of a server that died stay taken.
    LeaksSlotAtRescue,
    /// The slot of a job that is deleted while it runs stays taken.
    LeaksSlotAtDeletion,
    /// Those who wait for a slot come by creation alone.
    LineIgnoresRank,
    /// All partitions of a limit are one.
    MixesPartitions,
    /// A limit knows no rate.
    ForgetsTheRate,
    /// What code declares wins over what someone has set.
    CodeOverridesLimits,
    /// A claim does not look at how long a job has waited.
    IgnoresAging,
    /// A plan is applied at any revision.
    FiresStalePlans,
    /// A plan that is applied moves on by two instants.
    FireMovesTwice,
    /// Of missed occurrences that are all to run the first alone runs.
    MisfiresOnlyOne,
    /// Runs overlap, whatever was asked.
    OverlapsAlways,
    /// A run by hand counts as a change of the schedule.
    TriggerIsAChange,
    /// An upsert of what is stored begins anew.
    UpsertBeginsAnew,
    /// A definition belongs to whoever wrote it last.
    AppsShareNames,
    /// A prune takes what was made by hand as well.
    PrunesTooMuch,
    /// A lock has the same fence again and again.
    RepeatsFences,
    /// A lock does not lapse.
    LocksForEver,
    /// A lock is given back under any fence.
    ReleasesAnyLock,
    /// Notes of any attempt and any server are taken down.
    NotesUnfenced,
    /// Notes that are sent again are taken down again.
    NotesTwice,
}
