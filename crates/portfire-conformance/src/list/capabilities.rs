//! The names of the cases that a storage is asked only when it has a capability.

/// Hands the cases of one capability to a macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __cases_of {
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
                reopen_keeps_shelves,
                storage_restart_workers_continue,
                reopen_keeps_the_dead_dead,
                reopen_goes_on_with_a_rescue,
                reopen_keeps_ids,
                reopen_keeps_instants,
                reopen_keeps_the_fence,
                reopen_keeps_cursors,
                reopen_keeps_continuations,
                reopen_keeps_who_waits_for_what_has_failed,
                reopen_keeps_batches,
                reopen_keeps_unique_keys,
                reopen_keeps_limits,
                reopen_keeps_recurring_jobs,
                reopen_keeps_locks,
                reopen_keeps_notes,
                reopen_is_told,
            }
        }
    };
    (second, $then:ident $($context:tt)*) => {
        $crate::$then! { $($context)*
            second {
                second_sees_what_is_committed,
                second_claims_what_the_first_sets_aside,
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
                second_is_told,
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
