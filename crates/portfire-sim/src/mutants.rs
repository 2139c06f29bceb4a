//! Planted faults: designs that look right and are not, many of them shipped by other systems. Each
//! is a small change of behaviour around the storage or the runtime; the code under test stays as it
//! is. The simulator must find every one of them: otherwise it would not find the next real one.

use std::fmt;
use std::str::FromStr;

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A planted fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Mutant {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Mutant {
            /// All planted faults.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$variant,)+];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Mutant::$variant => $name,)+
                }
            }
        }
    };
}

mutants! {
    /// A finish is applied to whoever holds the job now (Hangfire, River).
    FinishIgnoresAttempt = "finish-ignores-attempt",
    /// A finish is applied by the job's id, whatever state it is in (Oban, Graphile Worker).
    FinishIgnoresState = "finish-ignores-state",
    /// A job that was deleted while it ran can still be finished.
    DeleteDoesNotFence = "delete-does-not-fence",
    /// A rescuer compares leases with its own clock, which is ahead.
    RescueByLocalClock = "rescue-by-local-clock",
    /// A rescuer reads which leases have lapsed, and takes the jobs in a second step.
    RescueInTwoSteps = "rescue-in-two-steps",
    /// A promoter compares instants with its own clock, which is ahead.
    PromoteByLocalClock = "promote-by-local-clock",
    /// A create stores the job and puts it into its queue in a second step (Hangfire).
    CreateInTwoSteps = "create-in-two-steps",
    /// A create of many jobs commits one after the other.
    CreateOneByOne = "create-one-by-one",
    /// A create whose id is taken makes another job.
    CreateTwiceOnRepeat = "create-twice-on-repeat",
    /// A create is answered before it is durable.
    AckBeforeDurable = "ack-before-durable",
    /// The count of failures is written before the state, in a step of its own (Hangfire).
    RetryCountedApart = "retry-counted-apart",
    /// A released job leaves its queue.
    ReleaseLosesJob = "release-loses-job",
    /// A repeated cycle claims other jobs than the first time.
    ClaimTwiceOnRepeat = "claim-twice-on-repeat",
    /// The heartbeat of a server that was declared dead is accepted.
    HeartbeatRevivesDead = "heartbeat-revives-dead",
    /// A cleaner reads which jobs have expired, and removes them in a second step.
    CleanWithoutRecheck = "clean-without-recheck",
    /// Crashes are not counted: a poisonous job runs for ever.
    PoisonNeverCounted = "poison-never-counted",
    /// A crash is blamed on one job, whatever its server held besides.
    CrashBlamesOneOfMany = "crash-blames-one-of-many",
    /// A server that stops forgets the jobs it had fetched.
    ShutdownDropsPrefetched = "shutdown-drops-prefetched",
    /// A server is never told which of its claims are lost.
    LostClaimsUnreported = "lost-claims-unreported",
    /// A server's clock stands while it is paused, so it does not see its lease run out.
    NoSelfFence = "no-self-fence",
    /// A paused queue gives out jobs.
    PausedQueueGives = "paused-queue-gives",
    /// A fenced finish is counted as a success.
    FencedFinishCounted = "fenced-finish-counted",
    /// A continuation is linked to a parent that was read before, in a step of its own (Hangfire).
    ContinuationInTwoSteps = "continuation-in-two-steps",
    /// Those who waited for a job are released again when it is requeued and ends again.
    ReleaseAgain = "release-again",
    /// A failure deletes those who wait for success, as if nobody could requeue what has failed.
    FailureEndsAll = "failure-ends-all",
    /// A cleaning removes a failed parent without a word to those who wait for its success.
    CleanForgetsWaiters = "clean-forgets-waiters",
    /// A server reads whether its finish was a batch's last, and fires the callback in a second step.
    BatchReadThenFire = "batch-read-then-fire",
    /// A batch takes members after its callbacks have gone out.
    BatchAddAfterDone = "batch-add-after-done",
    /// A claim counts who runs under a limit before it takes several jobs.
    LimitWithoutOwn = "limit-without-own",
    /// A unique key is free as soon as its job runs.
    UniqueFreedEarly = "unique-freed-early",
    /// A server is given jobs of kinds that it has no handler of (Hangfire).
    KindsIgnored = "kinds-ignored",
    /// A plan is applied whatever has become of its recurring job since it was made.
    FireWithoutCompare = "fire-without-compare",
    /// A recurring job is moved on first, and its runs are created in a second step.
    FireInTwoSteps = "fire-in-two-steps",
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no mutant's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMutant {
    name: String,
}

impl fmt::Display for UnknownMutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        write!(f, "`{}` is not a mutant: expected one of {}", self.name, names.join(", "))
    }
}

impl std::error::Error for UnknownMutant {}

impl FromStr for Mutant {
    type Err = UnknownMutant;

    fn from_str(name: &str) -> Result<Mutant, UnknownMutant> {
        let found = Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name);
        found.ok_or_else(|| UnknownMutant { name: name.to_owned() })
    }
}
