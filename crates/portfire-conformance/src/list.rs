//! The names of all cases, once: [`suite!`](crate::suite) makes tests of them, and [`all`] a list.
//!
//! A test holds this list against the files, so that no case is forgotten.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;

use crate::stage::Stage;

/// Hands the cases that every storage is asked (`always`), or those of one capability, to a macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __cases {
    (always, $then:ident $($context:tt)*) => {
        $crate::$then! { $($context)*
            enqueue {
                enqueue_returns_id,
                enqueue_persists_payload,
                enqueue_is_atomic_row_history_queue,
                enqueue_same_id_twice_is_idempotent,
                enqueue_same_id_twice_in_one_call,
                enqueue_same_id_other_payload_conflicts,
                enqueue_same_id_other_kind_conflicts,
                enqueue_same_id_conflict_in_one_call,
                enqueue_conflict_stores_nothing,
                enqueue_repeat_after_success_changes_nothing,
                enqueue_repeat_with_other_options_changes_nothing,
                enqueue_many_all_or_nothing,
                enqueue_many_1000,
                enqueue_many_empty,
                enqueue_batch_max_is_taken,
                enqueue_over_batch_max_rejected,
                enqueue_unknown_queue_created,
                enqueue_rejects_bad_queue_name,
                enqueue_payload_unicode,
                enqueue_payload_nul_bytes,
                enqueue_payload_bytes_are_kept,
                enqueue_payload_1mib,
                enqueue_payload_over_limit_rejected,
                enqueue_payload_deep_json,
                enqueue_many_params,
                enqueue_created_at_is_storage_time,
                enqueue_priority_stored,
                enqueue_options_kept,
                enqueue_options_over_bounds_rejected,
                enqueue_wakes_idle_worker,
                enqueue_concurrent_100x100_no_loss,
                enqueue_same_id_concurrent_one,
            }
            claim {
                claim_empty_returns_none,
                claim_marks_processing,
                claim_increments_attempt,
                claim_sets_owner,
                claim_gives_the_whole_job,
                claim_tells_failures_and_recoveries,
                claim_fifo_within_queue,
                claim_order_stable_same_timestamp,
                claim_order_is_arrival_not_id,
                claim_respects_priority,
                claim_queue_order_strict,
                claim_queue_order_is_the_callers,
                claim_only_listed_queues,
                claim_queues_of_the_request_count,
                claim_unknown_queue_is_empty,
                claim_without_queues_is_empty,
                claim_queue_named_twice_gives_once,
                claim_batch_n,
                claim_batch_in_order,
                claim_batch_never_exceeds_n,
                claim_zero_claims_nothing,
                claim_over_batch_max_is_cut,
                claim_fills_up_from_the_next_queue,
                claim_skips_paused_queue,
                claim_skips_scheduled_future,
                claim_skips_deleted,
                claim_skips_awaiting,
                claim_two_workers_never_same_job,
                claim_32_workers_10k_jobs_each_once,
                claim_released_keeps_place,
                claim_rescued_keeps_place,
                claim_released_keeps_rank,
                claim_requeued_goes_to_end,
                claim_retried_goes_to_end,
                claim_after_release_new_attempt,
                claim_server_unregistered_rejected,
                claim_may_exceed_the_workers_of_its_server,
                release_wakes_idle_worker,
            }
            cycle {
                cycle_repeat_answers_the_same_claim,
                cycle_repeat_claims_nothing_anew,
                cycle_repeat_of_an_empty_claim_hides_nothing,
                cycle_repeat_never_applied_claims,
                cycle_repeat_leaves_out_what_is_no_longer_held,
                cycle_repeat_after_all_was_lost_hides_nothing,
                cycle_repeat_of_an_earlier_key,
                cycle_keys_are_per_server,
                cycle_repeat_of_finishes_is_already,
                cycle_repeat_never_applied_finishes,
                cycle_finishes_before_it_claims,
                cycle_verdicts_come_in_order,
                cycle_without_wish_claims_nothing,
                cycle_of_dead_server_applies_nothing,
                cycle_of_a_thousand,
                cycle_repeat_looks_at_no_pause,
            }
            finish {
                finish_ok,
                finish_twice_same_attempt_idempotent,
                finish_twice_in_one_call,
                finish_other_outcome_overwrites_nothing,
                finish_wrong_attempt_fenced,
                finish_future_attempt_fenced,
                finish_of_unclaimed_job_fenced,
                finish_by_other_server_fenced,
                finish_after_reclaim_fenced,
                finish_after_delete_fenced,
                finish_after_release_fenced,
                finish_repeat_after_requeue_fenced,
                finish_repeat_after_promotion_fenced,
                finish_repeat_after_reschedule_fenced,
                finish_unknown_job_missing,
                finish_of_cleaned_job_missing,
                fenced_finish_leaves_no_history,
                fenced_finish_changes_no_counter,
                fenced_finish_fires_no_continuation,
                fenced_finish_keeps_the_holder,
                finish_locator_is_no_right,
                finish_keeps_result_and_duration,
                finish_keeps_the_error,
                finish_keeps_what_is_long,
                finish_discarded_keeps_reason,
                snooze_keeps_failures,
                park_keeps_failures,
                release_requeues_now,
                release_wrong_attempt_fenced,
                finish_concurrent_one_applied,
            }
            lease {
                heartbeat_extends,
                heartbeat_loses_nothing_that_is_held,
                heartbeat_batch_mixed_verdicts,
                heartbeat_wrong_attempt_lost,
                heartbeat_missing_job_lost,
                heartbeat_after_expiry_unclaimed_revives,
                heartbeat_after_reclaim_lost,
                heartbeat_reports_delete,
                heartbeat_unannounced_rejected,
                verify_tells_as_a_heartbeat,
                verify_locator_is_no_right,
                heartbeat_of_a_thousand,
                verify_does_not_renew,
                rescue_requeues_expired,
                rescue_spares_live,
                rescue_goes_by_each_servers_lease,
                rescue_two_rescuers_once,
                rescue_counts_recovery,
                rescue_poison_after_limit_fails,
                rescue_poison_limit_is_the_requests,
                rescue_poison_keeps_others_flowing,
                rescue_poisoned_job_can_be_requeued,
                rescue_uses_storage_clock,
                server_declared_dead_cannot_renew,
                rescue_batch_limit,
                rescue_in_parts_fences_at_once,
                rescue_repeat_changes_nothing,
                rescue_returns_only_what_runs,
                rescue_keeps_failures,
                rescue_declares_idle_servers_dead,
                rescue_of_many_servers,
                rescue_wakes_idle_worker,
                rescue_then_finish_by_the_next,
            }
            suspects {
                crash_of_several_blames_nobody, crash_of_several_poisons_nobody,
                crash_returned_in_parts_blames_nobody, crash_of_two_servers_blames_nobody,
                crash_counts_what_is_held_then, suspect_is_nobody_after_one_crash,
                suspect_is_claimed_alone, suspect_that_ends_makes_room_in_the_same_cycle,
                suspect_held_last_comes_first, suspect_waits_for_a_server_to_be_emptied,
                suspect_has_all_queues_of_a_server_emptied,
                suspect_has_one_server_emptied_at_a_time,
                suspect_on_trial_is_the_only_one_after_a_crash, suspect_is_on_trial_for_its_time,
                suspect_is_cleared_by_an_end, suspect_that_is_released_stays_one,
                suspect_is_listed_and_steered, suspect_is_explained,
                suspect_of_a_paused_queue_waits, suspect_under_a_full_limit_waits,
                suspect_in_a_repeated_cycle, suspect_killer_among_many,
                suspect_that_ends_gives_the_work_hint,
            }
            servers {
                server_register,
                server_register_twice_renews,
                server_heartbeat,
                server_processing_is_counted,
                server_dead_removed,
                server_live_not_removed,
                server_dead_jobs_requeued,
                server_two_with_one_name,
                server_graceful_unregister_releases,
                shutdown_release_keeps_failures,
                retire_is_for_ever,
                retire_twice_changes_nothing,
                retire_unknown_changes_nothing,
                retire_of_dead_changes_nothing,
                retire_spares_others,
                retire_wakes_idle_worker,
                queue_pause_resume,
                queue_paused_takes_jobs,
                queue_drain,
                queue_paused_before_it_exists,
                queue_pause_twice_changes_nothing,
                queue_pause_spares_others,
                queue_paused_is_steered_as_ever,
                queue_name_of_the_longest_kind,
                cancel_running_signals,
                cancel_delete_fences_finish,
                cancel_then_requeue_fences_the_old,
                pause_and_resume_are_heard,
                every_listener_hears,
            }
            history {
                history_starts_at_1,
                history_contiguous,
                history_matches_current,
                history_times_are_those_of_the_transitions,
                history_of_a_missing_job_is_empty,
                history_of_success,
                history_of_a_delayed_job,
                history_of_a_retry,
                history_keeps_each_error,
                history_of_a_snooze,
                history_of_a_park,
                history_of_a_release,
                history_of_a_retirement,
                history_of_a_rescue,
                history_of_a_poison,
                history_of_a_discard,
                history_of_a_delete_while_processing,
                history_of_requeues,
                history_of_reschedules,
            }
            change {
                transition_table_exhaustive_allowed,
                transition_table_exhaustive_denied,
                transition_expected_revision_cas,
                transition_concurrent_one_wins,
                final_not_left_automatically,
                requeue_failed,
                requeue_succeeded,
                requeue_deleted,
                requeue_clears_expiry,
                requeue_starts_new_run_counters,
                requeue_scheduled_keeps_failures,
                requeue_enqueued_unchanged,
                changes_keep_the_body,
                requeue_processing_refused,
                requeue_wakes_idle_worker,
                delete_enqueued,
                delete_scheduled_removes_schedule,
                delete_keeps_reason,
                delete_final_sets_expiry,
                delete_deleted_unchanged,
                reschedule_enqueued,
                reschedule_final_begins_new_run,
                reschedule_past_waits_for_promotion,
                reschedule_processing_refused,
                reschedule_beyond_9999_applies_nothing,
                change_missing,
                change_empty,
                change_each_on_its_own,
                change_same_job_twice_in_one_call,
                change_expected_state,
                change_unexpected_state,
                change_expectation_comes_first,
                change_judged_in_one_order,
                change_repeat_by_revision_is_harmless,
                change_of_a_thousand,
                change_by_the_client,
                change_after_release,
            }
            retry {
                retry_exact_count,
                retry_zero,
                retry_backoff_at_least,
                retry_count_survives_crash_before_finish,
                crash_does_not_consume_retry,
                retry_then_succeed_resets_view,
                retry_exhausted_failed,
                retry_exhausted_delete_option,
                retry_after_hint_respected,
                retry_without_wait_goes_behind,
                retry_absurd_wait_is_cut,
            }
            schedule {
                schedule_not_early,
                schedule_promoted_when_due,
                schedule_in_past_is_now,
                schedule_zero_delay_is_now,
                schedule_instant_is_kept,
                schedule_promote_batch_1000,
                schedule_two_promoters_once,
                schedule_delete_before_due,
                schedule_reschedule,
                schedule_far_future_2999,
                schedule_beyond_9999_rejected,
                schedule_server_clock_ahead_not_early,
                promote_earliest_first,
                promote_max_is_kept,
                promote_tells_the_next,
                promote_goes_to_the_end,
                promote_keeps_priority,
                promote_repeat_changes_nothing,
                promote_zero_promotes_nothing,
                promote_wakes_idle_worker,
                schedule_wakes_the_promoter,
            }
            expiry {
                expire_only_final,
                expire_not_before_its_time,
                expire_failed_kept_by_default,
                expire_removes_all_traces,
                expire_frees_the_id,
                expire_requeue_race,
                expire_requeue_at_once,
                expire_batch_limit,
                clean_repeat_changes_nothing,
                expire_by_the_jobs_own_retention,
                expire_never_when_kept,
                expire_at_once_when_not_kept,
                clean_keeps_the_totals,
                clean_forgets_statistics_after_their_time,
            }
            counters {
                counter_equals_recount,
                counter_fold_concurrent,
                stats_by_state,
                counter_totals_count_transitions,
                counter_by_queue,
                counter_follows_a_deletion,
                stats_hourly_daily_buckets,
                stats_begin_where_asked,
                stats_count_each_outcome,
                stats_add_up_to_the_totals,
            }
            lists {
                job_details_full,
                job_missing_is_none,
                list_lines_equal_details,
                list_everything_newest_first,
                list_scheduled_soonest_first,
                list_enqueued_in_order_of_claims,
                list_final_newest_created_first,
                list_page_size,
                list_ends,
                list_pages_of_any_size_agree,
                list_paging_stable_under_insert,
                list_paging_stable_under_moves,
                list_paging_stable_under_claims,
                list_paging_stable_under_cleaning,
                list_by_queue,
                list_by_kind,
                list_filters_combine,
                search_by_id_prefix,
                search_by_id_prefix_in_a_state,
                search_by_odd_text_finds_nothing,
                list_foreign_cursor_breaks_nothing,
                queues_are_listed_by_name,
                queues_are_listed_when_empty,
                dashboard_reads_do_not_block_claims,
                reads_see_one_moment,
                list_one_of_many,
            }
            faults {
                sql_injection_strings_everywhere,
                kinds_of_every_script,
                namespace_isolation_two_apps,
                drop_future_mid_op_leaves_no_lock,
                drop_future_then_repeat_create,
                drop_future_then_repeat_cycle,
                connection_lost_after_commit_unknown_retry_ok,
                info_says_what_it_is,
                storage_time_moves_with_its_clock,
                history_of_a_long_life,
                everything_at_once,
            }
            batches {
                batch_atomic_create,
                batch_details_full,
                batch_members_are_plain_jobs,
                batch_callback_once,
                batch_last_two_concurrent_200_rounds,
                batch_empty_completes,
                batch_member_fails_final_counts,
                batch_on_success_vs_on_complete,
                batch_add_from_member,
                batch_add_after_complete_rejected,
                batch_nested,
                batch_nested_failure_counts_upwards,
                batch_continuation_of_batch,
                batch_after_several,
                batch_member_with_dependencies,
                batch_member_unmet_is_deleted,
                batch_progress_numbers,
                batch_progress_exact_under_concurrency,
                batch_requeue_member_does_not_refire,
                batch_reopens_upwards,
                batch_delete_of_a_final_member,
                batch_repeat_of_the_create_changes_nothing,
                batch_repeat_after_the_end_changes_nothing,
                batch_missing_is_refused,
                batch_member_cannot_wait_for_its_own_batch,
                batch_bounds,
                batch_depth_is_bounded,
                batches_are_listed,
            }
            circles {
                circle_through_a_batch_is_refused,
                circle_over_several_is_refused,
                circle_of_a_nested_batch_is_refused,
                circle_through_other_batches_is_refused,
                circle_within_a_call_is_refused,
                circle_is_not_seen_where_there_is_none,
                circle_after_a_chain_is_found,
                circle_search_is_bounded,
            }
            continuations {
                continue_on_success,
                continue_not_on_failure_deleted,
                continue_on_any_final,
                continue_on_failed_only,
                continue_on_deleted,
                continue_added_after_final_runs_now,
                continue_added_after_final_otherwise_is_deleted,
                continue_of_a_requeued_parent_waits,
                continue_parent_missing_error,
                continue_order_within_a_call_counts,
                continue_of_a_cleaned_parent_is_refused,
                continue_bounds_of_dependencies,
                continue_many_children,
                continue_chain_10,
                continue_diamond_all_parents,
                continue_diamond_ended_in_one_call,
                continue_diamond_one_unmet_deletes,
                continue_fires_once_after_requeue,
                continue_deleted_stays_deleted_after_requeue,
                continue_waits_for_the_last_attempt,
                continue_of_a_poisoned_parent,
                continue_of_a_returned_parent_waits,
                continue_child_deleted_before_parent,
                continue_child_requeued_before_parent,
                continue_fenced_parent_does_not_fire,
                continue_scheduled_next_state,
                continue_goes_to_its_own_queue_and_rank,
                continuations_are_listed,
                continue_repeat_of_the_create_changes_nothing,
                continue_wakes_idle_worker,
                continue_ties_are_kept,
                continue_waits_for_nothing_else,
                continue_on_a_discard_with_an_error,
                continue_absurd_delay_is_cut,
            }
            explain {
                waiting_only_of_enqueued_jobs,
                waiting_ahead_in_the_queue,
                waiting_counts_up_to_10_000,
                waiting_for_a_limit,
                waiting_tells_ten_holders,
                waiting_is_listed_behind,
                kinds_are_listed,
                kinds_follow_continuations_and_batches,
                server_tells_its_kinds,
                list_by_batch,
                claim_aging_before_priority,
            }
            limits {
                limit_k_respected,
                limit_k_respected_by_8_servers,
                limit_waiters_keep_their_order,
                limit_waiting_is_no_transition,
                limit_slot_freed_by_every_end,
                limit_slot_freed_by_a_release,
                limit_slot_freed_on_crash,
                limit_slot_freed_by_a_retirement,
                limit_slot_not_leaked_on_delete,
                limit_line_is_left_by_hand,
                limit_full_at_entry,
                limit_newcomers_go_behind_the_line,
                limit_partitions_are_apart,
                limit_partitions_take_turns,
                limit_of_several_keys,
                limit_turn_passed_on_by_who_waits_for_another,
                limit_turn_passed_on_by_who_leaves_the_queue,
                limit_paused_queue_takes_no_turn,
                limit_raised_live,
                limit_lowered_live,
                limit_removed_live,
                limit_without_a_rule,
                limit_declared_by_code,
                limit_of_a_kind,
                limit_of_a_queue,
                limit_of_a_queue_across_servers,
                limits_are_listed,
                limit_bounds,
                limit_claim_sorts_a_thousand,
                limit_1000_waiters,
                limit_partitions_of_every_script,
            }
            locks {
                lock_acquire_release,
                lock_exclusive_64_threads,
                lock_timeout,
                lock_expires,
                lock_fence_monotonic,
                lock_release_by_other_noop,
                lock_renew_extends,
                lock_renew_after_loss_fails,
                lock_acquire_again_renews,
                lock_waiter_woken,
                lock_names_with_odd_chars,
                locks_are_listed,
                lock_bounds,
                lock_is_no_job,
            }
            notes {
                notes_are_kept,
                notes_come_before_the_finish,
                notes_fenced,
                notes_fenced_each_on_its_own,
                notes_after_its_own_finish,
                notes_piece_once,
                notes_of_a_repeated_cycle,
                notes_of_several_pieces,
                notes_bars,
                notes_metadata_and_tags,
                notes_caps,
                notes_log_is_bounded,
                notes_long_lines_are_cut,
                notes_log_in_order,
                notes_log_pages,
                notes_log_page_is_bounded,
                notes_go_with_the_job,
                notes_of_a_thousand,
            }
            occurrences {
                recurring_dst_gap_fixed_time_after_gap,
                recurring_dst_overlap_fixed_once,
                recurring_dst_overlap_interval_both,
                recurring_dst_gap_interval,
                recurring_half_hour_dst_lord_howe,
                recurring_missed_over_a_change_of_clocks,
                recurring_zone_change_recomputes,
                recurring_misfire_coalesce_one,
                recurring_misfire_strict_all,
                recurring_misfire_all_in_pieces,
                recurring_misfire_skip_none,
                recurring_misfire_skip_runs_what_is_fresh,
                recurring_overlap_allow,
                recurring_overlap_skip,
                recurring_overlap_queue_one,
                recurring_overlap_cancel_previous,
                recurring_overlap_within_a_plan,
                recurring_overlap_and_triggers,
                recurring_overlap_behind_a_short_trigger,
                recurring_overlap_with_a_requeued_run,
                recurring_overlap_with_several_runs,
                recurring_overlap_outlives_many_passed_over,
                recurring_unique_key_held,
                recurring_runs_and_outcomes,
                recurring_runs_are_kept,
                recurring_plan_moves_on,
            }
            open_batches {
                batch_open_starts_with_its_seal,
                batch_open_does_not_end,
                batch_open_after_a_job,
                batch_seal_twice_changes_nothing,
                batch_nested_starts_with_the_outer_one,
                batch_larger_than_a_call,
                batch_added_while_starting,
                batch_open_too_long_is_cancelled,
                batch_cancel_all,
                batch_cancel_at_claim,
                batch_cancel_nested_at_claim,
                batch_cancel_nested,
                batch_cancel_of_the_inner_alone,
                batch_cancel_of_what_has_nothing_left,
                batch_cancel_before_it_starts,
                batch_unmet_is_cancelled,
                batch_cancelled_takes_no_member,
                batch_cancelled_members_stay_out,
                batch_cancel_lets_a_finish_win,
                batch_cancel_is_heard,
                batch_cancel_wakes_the_promoter,
                batch_cancel_in_pieces,
                batch_cancel_at_claim_in_pieces,
            }
            pass {
                continue_result_passed,
                continue_large_result_passed,
                continue_large_result_for_many,
                continue_large_errors_passed_apart,
                continue_no_result_passed,
                continue_error_passed,
                continue_deletion_passed,
                continue_passes_only_when_asked,
                continue_passes_of_an_ended_parent,
                continue_passed_outlives_the_parent,
                continue_passes_the_first_end,
                continue_batch_state_passed,
                continue_passed_again_by_a_repeat,
            }
            rates {
                rate_limit_window,
                rate_fixed_window,
                rate_tells_when_the_next_may_start,
                rate_counts_starts_not_jobs,
                rate_is_not_freed_by_an_end,
                rate_with_concurrency,
                rate_through_a_rescue,
                rate_of_partitions,
                rate_of_a_queue_and_of_a_kind,
                rate_of_a_queue_tells_when_it_goes_on,
                rate_changed_live,
            }
            recurring {
                recurring_add,
                recurring_job_is_the_definitions,
                recurring_update_keeps_last,
                recurring_upsert_unchanged,
                recurring_changed_schedule_moves,
                recurring_remove_stops,
                recurring_removed_and_stored_anew,
                recurring_fires_once_8_schedulers,
                recurring_unique_occurrence_key,
                recurring_crash_between_is_atomic,
                recurring_cas_stale_next_noop,
                recurring_plans_are_apart,
                recurring_update_while_firing,
                recurring_invalid_cron_rejected,
                recurring_refused_upsert_changes_nothing,
                recurring_unreachable_feb30_next_none,
                recurring_last_job_id_recorded,
                recurring_interval_keeps_its_anchor,
                recurring_start_in_the_past,
                recurring_jitter_delays_the_job,
                recurring_due_in_order,
                recurring_belongs_to_its_application,
                recurring_prune,
                recurring_jobs_are_listed,
                recurring_names_of_every_script,
                recurring_change_wakes_the_scheduler,
                recurring_fire_wakes_idle_worker,
            }
            releases {
                continue_cascade_of_deletions,
                continue_cascade_at_creation,
                continue_cascade_through_a_diamond,
                continue_5000_children_outbox,
                release_goes_on_in_the_order_of_the_ends,
                release_of_a_long_cascade_in_pieces,
                promote_max_bounds_releases_too,
                release_of_an_end_behind_its_own_start,
                release_left_over_wakes_the_promoter,
                release_by_8_promoters_once,
                continue_parent_not_expired_while_waiting,
                release_survives_a_requeue_of_the_parent,
                continue_added_while_finishing_1000_rounds_never_stuck,
                continue_diamond_parents_end_at_once,
            }
            repeats {
                repeat_of_a_dropped_create_with_ties,
                repeat_of_a_finish_releases_once,
                repeat_of_a_batch_change,
                repeat_of_a_recurring_change,
                repeat_of_a_fire,
                repeat_of_a_limit,
                repeat_of_a_lock,
                repeat_of_a_claim_takes_one_slot,
            }
            unique {
                unique_reject,
                unique_rejected_leaves_no_trace,
                unique_within_one_call,
                unique_repeat_of_the_create_changes_nothing,
                unique_replace,
                unique_replace_spares_what_runs,
                unique_replace_of_an_ended_holder,
                unique_window,
                unique_window_counts_from_creation,
                unique_freed_on_final,
                unique_kept_until_the_last_attempt,
                unique_until_started,
                unique_until_started_is_the_first_claim,
                unique_freed_on_deletion,
                unique_window_outlives_the_retention,
                unique_100_concurrent_one,
                unique_debounce_at_most,
                unique_debounce,
                unique_debounce_storm_is_one_move,
                unique_debounce_of_an_enqueued_holder,
                unique_debounce_otherwise_rejects,
                unique_requeue_takes_the_key_again,
                unique_requeue_of_a_deleted_job,
                unique_requeue_of_the_holder,
                unique_keys_are_shared_and_exact,
                unique_bounds,
                unique_refused_call_takes_no_key,
                unique_never_leaks,
                unique_rejected_parent_is_its_holder,
            }
            together {
                together_cancelled_members_leave_the_line,
                together_replaced_member_counts,
                together_refused_requeue_reopens_nothing,
                together_released_into_a_line,
                together_runs_are_jobs_like_others,
                together_cleaning_keeps_terms,
                together_reads_are_bounded,
                together_by_chance_nothing_is_stuck,
            }
            batch_expiry {
                batch_expires_with_members,
                batch_is_kept_for_a_week,
                batch_outlives_its_nested_ones,
                batch_not_cleaned_while_jobs_wait,
                batches_are_cleaned_in_pieces,
            }
            steering {
                recurring_trigger_now_keeps_next,
                recurring_trigger_now_twice_two_jobs,
                recurring_trigger_of_a_paused_one,
                recurring_disabled_not_fired,
                recurring_load_error_disabled_with_reason,
                recurring_fault_is_cleared_by_a_run,
                recurring_paused_resume,
                recurring_pause_until,
                recurring_pause_ends_on_an_instant,
                recurring_upsert_keeps_the_pause,
            }
        }
    };
    (clock, $then:ident $($context:tt)*) => {
        $crate::$then! { $($context)*
            clock {
                storage_time_never_goes_back,
                storage_time_never_stands_still,
                clock_jump_ahead_stops_nothing,
                clock_skew_is_told,
                history_times_monotonic_under_clock_step_back,
                clock_step_back_keeps_leases,
                clock_step_back_keeps_schedules,
                clock_step_back_keeps_expiries,
                clock_step_back_keeps_order,
                clock_step_back_fires_nothing_twice,
                clock_step_back_keeps_terms,
            }
        }
    };
    (reopen, $then:ident $($context:tt)*) => {
        $crate::$then! { $($context)*
            reopen {
                reopen_keeps_jobs_of_every_state,
                reopen_keeps_counters,
                reopen_keeps_pauses,
                reopen_keeps_order,
                storage_restart_workers_continue,
                reopen_keeps_the_dead_dead,
                reopen_goes_on_with_a_rescue,
                reopen_keeps_ids,
                reopen_keeps_instants,
                reopen_keeps_the_fence,
                reopen_keeps_cursors,
                reopen_keeps_continuations,
                reopen_keeps_batches,
                reopen_keeps_unique_keys,
                reopen_keeps_limits,
                reopen_keeps_recurring_jobs,
                reopen_keeps_locks,
                reopen_keeps_notes,
            }
        }
    };
    (second, $then:ident $($context:tt)*) => {
        $crate::$then! { $($context)*
            second {
                second_sees_what_is_committed,
                second_works_what_the_first_creates,
                second_never_claims_the_same_job,
                second_creates_at_once,
                second_fences_the_first,
                second_rescues_once,
                second_promotes_once,
                second_handle_serves_the_same_server,
                second_shares_the_time,
                second_releases_what_the_first_adds,
                second_ends_a_batch_once,
                second_unique_one,
                second_keeps_the_limit,
                second_fires_once,
                second_respects_locks,
                second_goes_on_with_a_release,
            }
        }
    };
    (hints, $then:ident $($context:tt)*) => {
        $crate::$then! { $($context)*
            hints {
                hint_of_a_job_from_elsewhere,
                hint_of_a_cancellation_from_elsewhere,
                hint_of_a_release_from_elsewhere,
                hint_of_a_lock_from_elsewhere,
                hint_of_a_recurring_job_from_elsewhere,
                hint_of_a_continuation_from_elsewhere,
            }
        }
    };
    ($other:ident, $($rest:tt)*) => {
        compile_error!(concat!(
            "`", stringify!($other), "` is not a capability of a storage: ",
            "expected clock, reopen, second or hints"
        ));
    };
}

/// One `#[test]` for each case, in a module for each group.
#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ($($group:ident { $($case:ident,)* })*) => {
        $(
            mod $group {
                $(
                    #[test]
                    fn $case() {
                        let fixtures = super::conformance_fixtures();
                        $crate::run(fixtures, $crate::cases::$group::$case);
                    }
                )*
            }
        )*
    };
}

/// A list of the cases.
#[doc(hidden)]
#[macro_export]
macro_rules! __list {
    ($needs:expr; $($group:ident { $($case:ident,)* })*) => {
        &[
            $($(
                $crate::list::Case {
                    name: stringify!($case),
                    group: stringify!($group),
                    needs: $needs,
                    run: |stage| Box::pin($crate::cases::$group::$case(stage)),
                },
            )*)*
        ]
    };
}

/// A case of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// The group it stands in.
    pub group: &'static str,
    /// The capability without which it does not apply; `None` when every storage is asked.
    pub needs: Option<&'static str>,
    /// Plays it.
    pub run: fn(Stage) -> Pin<Box<dyn Future<Output = ()>>>,
}

const ALWAYS: &[Case] = __cases!(always, __list None;);
const CLOCK: &[Case] = __cases!(clock, __list Some("clock"););
const REOPEN: &[Case] = __cases!(reopen, __list Some("reopen"););
const SECOND: &[Case] = __cases!(second, __list Some("second"););
const HINTS: &[Case] = __cases!(hints, __list Some("hints"););

/// Every case, in the order of the files.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [ALWAYS, CLOCK, REOPEN, SECOND, HINTS].into_iter().flatten()
}

/// Least number of cases that a storage is held to.
pub const CASES_MIN: usize = 600;

/// Counts the cases that apply to a storage with these capabilities, and names those that do not.
///
/// # Panics
/// When fewer than [`CASES_MIN`] apply, or a name stands twice.
pub fn count(capabilities: &[&str]) -> usize {
    let applies = |case: &&Case| case.needs.is_none_or(|needs| capabilities.contains(&needs));
    let applied = all().filter(applies).count();
    let names: BTreeSet<_> = all().map(|case| case.name).collect();
    assert_eq!(names.len(), all().count(), "each case has a name of its own");
    // Not `println!`, which the test harness swallows: what does not apply must be seen.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "portfire-conformance: {applied} cases apply to this storage");
    for case in all().filter(|case| !applies(case)) {
        let needs = case.needs.unwrap_or_default();
        let _ = writeln!(out, "not applicable without `{needs}`: {}::{}", case.group, case.name);
    }
    assert!(applied >= CASES_MIN, "{applied} cases, and at least {CASES_MIN} are promised");
    applied
}
