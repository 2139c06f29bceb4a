//! Suspects: jobs whose servers crash, and how they are given out so that the guilty one is found and no other
//! is blamed.
//!
//! When a server crashes it may have been any of the jobs that it held; a job that kills its process in its first
//! microsecond leaves no other trace than that it was held. So a crash proves something about one job only: when
//! the server held that job and no other. The rules:
//!
//! 1. A crash counts in [`recoveries`](crate::transition::Standing::recoveries), and in the end makes a job poison,
//!    only if its server held no other job, and no other server crashed since the job was claimed (a kill from
//!    outside rarely hits one alone). A lease that lapsed while its process lives is no crash.
//! 2. A crash counts in [`crashes`](crate::transition::Standing::crashes) for each job that was held. The first
//!    costs nothing: the job returns to its old place. From the second on ([`SUSPECT_CRASHES`]) it is a *suspect*,
//!    and stands apart from the other jobs of its queue. The first attempt that comes to an end clears it.
//! 3. A suspect is given only to a server that holds no other jobs than suspects, and that server gets nothing else
//!    while the suspect is on [`trial`]: until it has ended, or has run so long that the trial is over. What was started
//!    anew after a crash holds nothing, so it takes suspects before anything else.
//! 4. When no such server has come within [`PATIENCE`], one that is busy is given nothing until its jobs have ended,
//!    and then the suspect. One server does so at a time; the others go on.
//! 5. For [`QUIET_TIME`] after a crash one suspect at a time is on trial in the whole storage: or else several that
//!    are guilty would hide one another by rule 1.
//! 6. The suspect that was held last comes first, because it is the likeliest to have been the cause. A trial is
//!    twice as long after each crash, so in the end it outlasts also a job that kills its server late.
//!
//! State: one number for each job, one row for each suspect that is held, one for the server that is being emptied.

use std::time::Duration;

/// From so many crashes on a job is given out apart from others. One crash is chance: a deploy, a restart of the host.
pub const SUSPECT_CRASHES: u32 = 2;

/// How long a suspect waits for a server that holds nothing before one that is busy is emptied for it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long a server that is being emptied may be silent before another may be emptied in its stead.
pub const EMPTYING_MAX: Duration = Duration::from_secs(5);

/// How long after a crash one suspect at a time is on trial in the whole storage.
pub const QUIET_TIME: Duration = Duration::from_secs(15);

/// The trial after the first crash of a suspect.
const TRIAL_MIN: Duration = Duration::from_secs(10);

/// The longest trial.
const TRIAL_MAX: Duration = Duration::from_secs(60 * 60);

/// How long a suspect with so many crashes runs before another may run beside it: 10 s, and twice as long after
/// each crash, up to an hour.
pub fn trial(crashes: u32) -> Duration {
    let doublings = crashes.saturating_sub(SUSPECT_CRASHES).min(16);
    (TRIAL_MIN * 2_u32.pow(doublings)).min(TRIAL_MAX)
}

/// What decides whether a claim is given a suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// How long the first suspect has waited that the claim may have; `None` when there is none.
    pub waited: Option<Duration>,
    /// The server holds jobs that are no suspects.
    pub busy: bool,
    /// A suspect of this server is on trial.
    pub on_trial_here: bool,
    /// A suspect is on trial, of this server or another.
    pub on_trial: bool,
    /// This server is being emptied, for a suspect of another pool of it perhaps.
    pub emptied_here: bool,
    /// Another server is being emptied, and was heard of within [`EMPTYING_MAX`].
    pub another_empties: bool,
    /// A server has crashed within [`QUIET_TIME`].
    pub crashed_lately: bool,
}

/// What a claim is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Nothing: a suspect is on trial, and runs alone, or is about to.
    Nothing,
    /// Nothing: the server is being emptied for a suspect.
    Empty,
    /// Jobs that are no suspects.
    Others,
    /// One suspect and nothing else; others if none of those that wait can be had.
    Suspect,
}

impl Suspicion {
    /// What the claim is given.
    pub fn allowance(self) -> Allowance {
        match self {
            Suspicion { on_trial_here: true, busy: false, .. } => Allowance::Nothing,
            Suspicion { waited: None, emptied_here: true, .. } => Allowance::Nothing,
            Suspicion { waited: None, .. } => Allowance::Others,
            Suspicion { busy: false, crashed_lately: true, on_trial: true, .. } => {
                Allowance::Others
            }
            Suspicion { busy: false, .. } => Allowance::Suspect,
            // They are being worked off.
            Suspicion { on_trial: true, .. } | Suspicion { another_empties: true, .. } => {
                Allowance::Others
            }
            Suspicion { waited: Some(waited), .. } if waited < PATIENCE => Allowance::Others,
            Suspicion { .. } => Allowance::Empty,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITING: Suspicion = Suspicion {
        waited: Some(Duration::ZERO),
        busy: false,
        on_trial_here: false,
        on_trial: false,
        emptied_here: false,
        another_empties: false,
        crashed_lately: false,
    };

    #[test]
    fn a_server_that_holds_nothing_takes_a_suspect() {
        for crashed_lately in [false, true] {
            let allowed = Suspicion { crashed_lately, ..WAITING }.allowance();
            assert_eq!(allowed, Allowance::Suspect);
        }
        assert_eq!(Suspicion { waited: None, ..WAITING }.allowance(), Allowance::Others);
    }

    #[test]
    fn one_busy_server_at_a_time_is_emptied_when_no_other_came() {
        let busy = Suspicion { busy: true, ..WAITING };
        assert_eq!(busy.allowance(), Allowance::Others);
        let waited = Suspicion { waited: Some(PATIENCE), ..busy };
        assert_eq!(waited.allowance(), Allowance::Empty);
        assert_eq!(Suspicion { another_empties: true, ..waited }.allowance(), Allowance::Others);
        for busy in [true, false] {
            let other_pool = Suspicion { waited: None, emptied_here: true, busy, ..WAITING };
            assert_eq!(other_pool.allowance(), Allowance::Nothing);
        }
        assert_eq!(Suspicion { on_trial: true, ..waited }.allowance(), Allowance::Others);
    }

    #[test]
    fn one_is_on_trial_at_a_time() {
        let here = Suspicion { on_trial: true, on_trial_here: true, ..WAITING };
        assert_eq!(here.allowance(), Allowance::Nothing, "it runs alone");
        assert_eq!(Suspicion { waited: None, ..here }.allowance(), Allowance::Nothing);
        assert_eq!(Suspicion { busy: true, ..here }.allowance(), Allowance::Others);
        let elsewhere = Suspicion { on_trial: true, ..WAITING };
        assert_eq!(elsewhere.allowance(), Allowance::Suspect);
        let after_a_crash = Suspicion { crashed_lately: true, ..elsewhere };
        assert_eq!(after_a_crash.allowance(), Allowance::Others);
    }

    #[test]
    fn a_trial_is_twice_as_long_after_each_crash() {
        let seconds: Vec<u64> = [2, 3, 4, 10, 11, u32::MAX].map(|n| trial(n).as_secs()).to_vec();
        assert_eq!(seconds, [10, 20, 40, 2_560, 3_600, 3_600]);
    }
}
