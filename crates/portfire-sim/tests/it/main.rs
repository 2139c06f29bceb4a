//! The simulator on the shipped code: seeds pass, runs replay, planted faults are found.

use portfire_sim::{Mutant, Options, simulate};

/// Seeds within which every planted fault must be found.
const MUTANT_SEEDS: u64 = 2_000;

fn passes(from: u64, seeds: u64) {
    for seed in from..from + seeds {
        let report = simulate(seed, Options::default());
        if let Some(violation) = report.violation {
            panic!("seed {seed} breaks {violation}; replay: cargo xtask sim --seed {seed}");
        }
    }
}

// Four tests rather than one, so that they run beside each other.

#[test]
fn no_rule_is_broken_by_the_first_hundred_seeds() {
    passes(1, 100);
}

#[test]
fn no_rule_is_broken_by_the_second_hundred_seeds() {
    passes(101, 100);
}

#[test]
fn no_rule_is_broken_by_the_third_hundred_seeds() {
    passes(201, 100);
}

#[test]
fn no_rule_is_broken_by_a_hundred_seeds_far_away() {
    passes(u64::MAX - 1_000, 100);
}

#[test]
fn a_seed_replays_exactly() {
    let hashes = |seed| {
        let plain = simulate(seed, Options::default());
        let traced = simulate(seed, Options { traced: true, ..Options::default() });
        assert_eq!((plain.hash, plain.steps), (traced.hash, traced.steps), "seed {seed}");
        assert!(plain.lines.is_empty() && !traced.lines.is_empty());
        plain.hash
    };
    let all: std::collections::BTreeSet<u64> = (1..=25).map(hashes).collect();
    assert_eq!(all.len(), 25, "different seeds give different runs");
}

#[test]
fn a_failing_seed_fails_again_in_the_same_way() {
    let options = Options { mutant: Some(Mutant::FinishIgnoresState), traced: false };
    let failed = (1..=MUTANT_SEEDS).map(|seed| simulate(seed, options));
    let first = failed.into_iter().find(|report| report.violation.is_some()).expect("found");
    let again = simulate(first.seed, Options { traced: true, ..options });
    assert_eq!(again.violation, first.violation);
    assert_eq!(again.hash, first.hash);
}

macro_rules! found {
    ($($test:ident = $mutant:ident;)+) => {
        $(#[test]
        fn $test() {
            let options = Options { mutant: Some(Mutant::$mutant), traced: false };
            let found = |&seed: &u64| simulate(seed, options).violation.is_some();
            assert!((1..=MUTANT_SEEDS).any(|seed| found(&seed)), "not found in {MUTANT_SEEDS} seeds");
        })+

        #[test]
        fn every_mutant_has_its_test() {
            let tested = [$(Mutant::$mutant,)+];
            assert!(Mutant::ALL.iter().all(|mutant| tested.contains(mutant)));
        }
    };
}

found! {
    a_finish_that_ignores_the_attempt_is_found = FinishIgnoresAttempt;
    a_finish_that_ignores_the_state_is_found = FinishIgnoresState;
    a_delete_that_does_not_fence_is_found = DeleteDoesNotFence;
    a_rescue_by_a_local_clock_is_found = RescueByLocalClock;
    a_rescue_in_two_steps_is_found = RescueInTwoSteps;
    a_promotion_by_a_local_clock_is_found = PromoteByLocalClock;
    a_create_in_two_steps_is_found = CreateInTwoSteps;
    a_create_one_by_one_is_found = CreateOneByOne;
    a_create_that_is_done_twice_is_found = CreateTwiceOnRepeat;
    an_answer_before_the_commit_is_found = AckBeforeDurable;
    a_retry_that_is_counted_apart_is_found = RetryCountedApart;
    a_release_that_loses_its_job_is_found = ReleaseLosesJob;
    a_claim_that_is_made_twice_is_found = ClaimTwiceOnRepeat;
    a_heartbeat_that_revives_the_dead_is_found = HeartbeatRevivesDead;
    a_cleaner_that_does_not_look_again_is_found = CleanWithoutRecheck;
    poison_that_is_not_counted_is_found = PoisonNeverCounted;
    a_crash_that_is_blamed_on_one_of_many_is_found = CrashBlamesOneOfMany;
    a_shutdown_that_forgets_its_jobs_is_found = ShutdownDropsPrefetched;
    lost_claims_that_are_not_told_are_found = LostClaimsUnreported;
    a_server_that_does_not_fence_itself_is_found = NoSelfFence;
    a_paused_queue_that_gives_jobs_is_found = PausedQueueGives;
    a_fenced_finish_that_is_counted_is_found = FencedFinishCounted;
    a_continuation_that_is_linked_late_is_found = ContinuationInTwoSteps;
    a_second_release_is_found = ReleaseAgain;
    a_failure_that_ends_all_is_found = FailureEndsAll;
    a_cleaning_that_forgets_who_waits_is_found = CleanForgetsWaiters;
    a_callback_that_is_fired_apart_is_found = BatchReadThenFire;
    a_member_of_an_ended_batch_is_found = BatchAddAfterDone;
    a_limit_that_forgets_its_own_claim_is_found = LimitWithoutOwn;
    a_unique_key_that_is_free_early_is_found = UniqueFreedEarly;
    kinds_that_are_ignored_are_found = KindsIgnored;
    a_plan_that_is_not_compared_is_found = FireWithoutCompare;
    a_firing_in_two_steps_is_found = FireInTwoSteps;
}
