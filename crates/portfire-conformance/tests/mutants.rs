//! The suite can fail: each of these storages is wrong in one place, and the cases named beside the
//! fault find it.

#[path = "mutants/faulty.rs"]
mod faulty;

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use std::time::Duration;

use faulty::{Fault, FaultyStorage};
use portfire_conformance::list::{self, Case};
use portfire_conformance::{Fixtures, ManualFixture};
use portfire_core::{ManualClock, MemoryStorage};

thread_local! {
    /// Whether a panic on this thread is one that a fault is expected to cause.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

fn fixtures(fault: Option<Fault>) -> Fixtures {
    Fixtures::new(move || async move {
        let clock = Arc::new(ManualClock::default());
        let storage = MemoryStorage::with_clock(clock.clone());
        match fault {
            Some(fault) => {
                let faulty = FaultyStorage::new(storage, fault, clock.clone());
                // A hint that this process makes for itself is there at once or never.
                ManualFixture::new(Arc::new(faulty), clock).hint_max(Duration::from_millis(50))
            }
            None => ManualFixture::new(Arc::new(storage), clock),
        }
    })
}

fn case(name: &str) -> &'static Case {
    list::all().find(|case| case.name == name).unwrap_or_else(|| panic!("no case is named {name}"))
}

/// What a case says against a storage; `None` when it passes.
fn objection(case: &Case, fault: Option<Fault>) -> Option<String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !EXPECTED.get() {
                loud(panic);
            }
        }));
    });
    EXPECTED.set(true);
    let played = catch_unwind(AssertUnwindSafe(|| {
        portfire_conformance::run(fixtures(fault), case.run);
    }));
    EXPECTED.set(false);
    played.err().map(said)
}

fn said(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or("a panic").to_owned(),
    }
}

/// Asserts that every one of these cases objects to the fault, and to its absence none.
fn found_by(fault: Fault, cases: &[&str]) {
    for name in cases {
        let case = case(name);
        assert_eq!(objection(case, None), None, "{name} objects to the reference");
        assert!(objection(case, Some(fault)).is_some(), "{name} does not find {fault:?}");
    }
}

macro_rules! mutants {
    ($($name:ident: $fault:ident by [$($case:ident),+ $(,)?];)*) => {
        $(
            #[test]
            fn $name() {
                found_by(Fault::$fault, &[$(stringify!($case)),+]);
            }
        )*

        #[test]
        fn every_fault_is_planted() {
            let planted = [$(Fault::$fault),*];
            for fault in Fault::ALL {
                assert!(planted.contains(fault), "{fault:?} is looked for by no case");
            }
        }
    };
}

mutants! {
    finish_ignores_the_attempt: FinishIgnoresAttempt by [
        finish_wrong_attempt_fenced, finish_future_attempt_fenced, release_wrong_attempt_fenced,
    ];
    finish_ignores_the_server: FinishIgnoresServer by [
        finish_by_other_server_fenced, fenced_finish_keeps_the_holder,
    ];
    repeated_finish_is_fenced: RepeatedFinishIsFenced by [
        finish_twice_same_attempt_idempotent, cycle_repeat_of_finishes_is_already,
        connection_lost_after_commit_unknown_retry_ok,
    ];
    fenced_finish_counts: FencedFinishCounts by [
        fenced_finish_changes_no_counter, cancel_delete_fences_finish,
    ];
    retry_counts_no_failure: RetryCountsNoFailure by [
        retry_exact_count, retry_count_survives_crash_before_finish, history_of_a_retry,
    ];
    release_loses_the_place: ReleaseLosesPlace by [claim_released_keeps_place];
    create_is_not_idempotent: CreateIsNotIdempotent by [
        enqueue_same_id_twice_is_idempotent, enqueue_repeat_after_success_changes_nothing,
        enqueue_same_id_other_payload_conflicts,
    ];
    create_is_half: CreateIsHalf by [
        enqueue_many_all_or_nothing, enqueue_conflict_stores_nothing,
        schedule_beyond_9999_rejected,
    ];
    claim_rewrites_args: ClaimRewritesArgs by [enqueue_payload_bytes_are_kept];
    claims_too_many: ClaimsTooMany by [
        claim_batch_n, claim_batch_never_exceeds_n, claim_zero_claims_nothing,
    ];
    claim_sorts_queues: ClaimSortsQueues by [
        claim_queue_order_is_the_callers, claim_batch_in_order,
    ];
    claim_ignores_pause: ClaimIgnoresPause by [
        claim_skips_paused_queue, queue_pause_resume, queue_drain,
    ];
    kinds_are_ignored: KindsIgnored by [
        kinds_each_server_gets_its_own, kinds_of_others_hold_nobody_up, kinds_aside_are_explained,
    ];
    unhandled_wait_for_ever: UnhandledWait by [
        kinds_unhandled_fail_after_the_grace, kinds_grace_is_every_jobs_own,
    ];
    repeat_claims_anew: RepeatClaimsAnew by [
        cycle_repeat_answers_the_same_claim, cycle_repeat_claims_nothing_anew,
        drop_future_then_repeat_cycle,
    ];
    heartbeat_revives_the_dead: HeartbeatRevivesDead by [
        server_declared_dead_cannot_renew, retire_is_for_ever, heartbeat_after_reclaim_lost,
    ];
    verify_renews: VerifyRenews by [verify_does_not_renew];
    rescue_counts_no_recovery: RescueCountsNoRecovery by [
        rescue_counts_recovery, rescue_poison_after_limit_fails,
        claim_tells_failures_and_recoveries,
    ];
    rescue_never_poisons: RescueNeverPoisons by [
        rescue_poison_after_limit_fails, rescue_poison_limit_is_the_requests, history_of_a_poison,
    ];
    rescue_kills_the_living: RescueKillsLive by [
        rescue_spares_live, rescue_goes_by_each_servers_lease, server_live_not_removed,
    ];
    promotes_early: PromotesEarly by [
        schedule_not_early, retry_backoff_at_least, schedule_reschedule,
    ];
    promote_ignores_max: PromoteIgnoresMax by [promote_max_is_kept, promote_zero_promotes_nothing];
    change_ignores_expectation: ChangeIgnoresExpectation by [
        change_unexpected_state, transition_expected_revision_cas, transition_concurrent_one_wins,
        change_repeat_by_revision_is_harmless,
    ];
    delete_spares_what_runs: DeleteSparesRunning by [
        cancel_delete_fences_finish, finish_after_delete_fenced, heartbeat_reports_delete,
    ];
    clean_ignores_a_requeue: CleanIgnoresRequeue by [
        expire_requeue_race, requeue_clears_expiry,
    ];
    clean_ignores_max: CleanIgnoresMax by [expire_batch_limit];
    counters_miss_deletions: CountersMissDeletions by [
        counter_follows_a_deletion, delete_enqueued, counter_equals_recount,
    ];
    statistics_miss_failures: StatisticsMissFailures by [
        stats_hourly_daily_buckets, stats_count_each_outcome, stats_add_up_to_the_totals,
    ];
    history_has_a_gap: HistoryHasAGap by [
        history_contiguous, history_of_success, history_matches_current,
    ];
    pages_go_by_number: PagesGoByNumber by [
        list_paging_stable_under_moves, list_paging_stable_under_claims,
        list_paging_stable_under_insert,
    ];
    wakes_nobody: WakesNobody by [
        enqueue_wakes_idle_worker, release_wakes_idle_worker, rescue_wakes_idle_worker,
        requeue_wakes_idle_worker, promote_wakes_idle_worker, retire_wakes_idle_worker,
        schedule_wakes_the_promoter, cancel_running_signals, pause_and_resume_are_heard,
        every_listener_hears, continue_wakes_idle_worker, release_left_over_wakes_the_promoter,
        batch_cancel_wakes_the_promoter, batch_cancel_is_heard, limit_raised_live,
        lock_waiter_woken, recurring_change_wakes_the_scheduler, recurring_fire_wakes_idle_worker,
    ];
    time_goes_back: TimeGoesBack by [storage_time_never_goes_back];
    releases_before_the_end: ReleasesBeforeTheEnd by [
        continue_fenced_parent_does_not_fire, fenced_finish_fires_no_continuation,
        continue_waits_for_the_last_attempt,
    ];
    loses_a_link: LosesALink by [continue_diamond_all_parents, continue_ties_are_kept];
    releases_again: ReleasesAgain by [
        continue_fires_once_after_requeue, continue_deleted_stays_deleted_after_requeue,
    ];
    calls_back_twice: CallsBackTwice by [batch_requeue_member_does_not_refire];
    never_calls_back: NeverCallsBack by [
        batch_callback_once, batch_last_two_concurrent_200_rounds, batch_add_from_member,
    ];
    releases_all_at_once: ReleasesAllAtOnce by [
        continue_5000_children_outbox, release_of_a_long_cascade_in_pieces,
    ];
    delays_from_creation: DelaysFromCreation by [continue_scheduled_next_state];
    passes_nothing: PassesNothing by [
        continue_result_passed, continue_error_passed, continue_batch_state_passed,
    ];
    counts_members_twice: CountsMembersTwice by [
        batch_progress_numbers, batch_nested, batch_progress_exact_under_concurrency,
    ];
    starts_open_batches: StartsOpenBatches by [
        batch_open_starts_with_its_seal, batch_open_does_not_end,
    ];
    forgets_nesting: ForgetsNesting by [batch_nested, batch_cancel_nested, batch_missing_is_refused];
    takes_members_after_the_end: TakesMembersAfterTheEnd by [batch_add_after_complete_rejected];
    cancels_late: CancelsLate by [batch_cancel_at_claim, batch_cancelled_takes_no_member];
    keeps_key_after_deletion: KeepsKeyAfterDeletion by [
        unique_freed_on_deletion, unique_never_leaks,
    ];
    keeps_key_after_the_end: KeepsKeyAfterTheEnd by [unique_freed_on_final, unique_never_leaks];
    loses_key_at_the_claim: LosesKeyAtTheClaim by [
        unique_freed_on_final, unique_kept_until_the_last_attempt,
    ];
    replaces_nothing: ReplacesNothing by [unique_replace, unique_replace_of_an_ended_holder];
    limit_off_by_one: LimitOffByOne by [
        limit_k_respected, limit_of_a_queue, limit_of_several_keys, limits_are_listed,
    ];
    leaks_slot_at_rescue: LeaksSlotAtRescue by [limit_slot_freed_on_crash];
    leaks_slot_at_deletion: LeaksSlotAtDeletion by [limit_slot_not_leaked_on_delete];
    line_ignores_rank: LineIgnoresRank by [limit_waiters_keep_their_order];
    mixes_partitions: MixesPartitions by [
        limit_partitions_are_apart, limit_partitions_take_turns, rate_of_partitions,
    ];
    forgets_the_rate: ForgetsTheRate by [
        rate_limit_window, rate_fixed_window, rate_is_not_freed_by_an_end,
    ];
    code_overrides_limits: CodeOverridesLimits by [limit_declared_by_code];
    ignores_aging: IgnoresAging by [claim_aging_before_priority];
    fires_stale_plans: FiresStalePlans by [
        recurring_cas_stale_next_noop, recurring_update_while_firing, repeat_of_a_fire,
    ];
    fire_moves_twice: FireMovesTwice by [
        recurring_misfire_coalesce_one, recurring_dst_overlap_interval_both,
        recurring_interval_keeps_its_anchor,
    ];
    misfires_only_one: MisfiresOnlyOne by [
        recurring_misfire_strict_all, recurring_misfire_all_in_pieces,
    ];
    overlaps_always: OverlapsAlways by [
        recurring_overlap_skip, recurring_overlap_queue_one, recurring_overlap_cancel_previous,
    ];
    trigger_is_a_change: TriggerIsAChange by [recurring_trigger_now_keeps_next];
    upsert_begins_anew: UpsertBeginsAnew by [
        recurring_upsert_unchanged, recurring_update_keeps_last, recurring_upsert_keeps_the_pause,
    ];
    apps_share_names: AppsShareNames by [recurring_belongs_to_its_application];
    prunes_too_much: PrunesTooMuch by [recurring_prune];
    repeats_fences: RepeatsFences by [lock_fence_monotonic, lock_acquire_release];
    locks_for_ever: LocksForEver by [lock_expires, lock_timeout, lock_renew_after_loss_fails];
    releases_any_lock: ReleasesAnyLock by [lock_release_by_other_noop];
    notes_unfenced: NotesUnfenced by [notes_fenced];
    notes_twice: NotesTwice by [notes_piece_once, notes_of_a_repeated_cycle];
}
