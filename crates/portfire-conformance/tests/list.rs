//! The list of names is whole: every case of every file stands in it, in its group, with its sentence.

use std::collections::BTreeSet;
use std::path::Path;

use portfire_conformance::list;

/// Group, name and the line above each case that is written in the files.
fn written() -> Vec<(String, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cases");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the cases are there") {
        let path = entry.expect("a file").path();
        let group = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a text");
        let mut above = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("pub async fn ") {
                let name = rest.split('(').next().unwrap_or_default();
                found.push((group.clone(), name.to_owned(), above.clone()));
            }
            above = line.to_owned();
        }
    }
    found
}

#[test]
fn every_case_that_is_written_is_listed() {
    let written: BTreeSet<_> =
        written().into_iter().map(|(group, name, _)| (group, name)).collect();
    let listed: BTreeSet<_> =
        list::all().map(|case| (case.group.to_owned(), case.name.to_owned())).collect();
    assert_eq!(listed, written);
}

#[test]
fn every_case_says_which_sentence_it_holds() {
    for (group, name, above) in written() {
        assert!(above.starts_with("/// "), "{group}::{name} has no sentence");
    }
}

#[test]
fn every_group_has_its_cases_under_one_capability() {
    let groups: BTreeSet<_> = list::all().map(|case| (case.group, case.needs)).collect();
    let names: BTreeSet<_> = groups.iter().map(|(group, _)| group).collect();
    assert_eq!(groups.len(), names.len(), "{groups:?}");
}

/// What the project was planned to hold about recurring jobs, continuations, batches, keys, limits and locks.
const CATALOGUE: &[&str] = &[
    // recurring
    "recurring_add",
    "recurring_update_keeps_last",
    "recurring_remove_stops",
    "recurring_fires_once_8_schedulers",
    "recurring_unique_occurrence_key",
    "recurring_crash_between_is_atomic",
    "recurring_cas_stale_next_noop",
    "recurring_update_while_firing",
    "recurring_trigger_now_keeps_next",
    "recurring_trigger_now_twice_two_jobs",
    "recurring_misfire_coalesce_one",
    "recurring_misfire_strict_all",
    "recurring_misfire_skip_none",
    "recurring_disabled_not_fired",
    "recurring_paused_resume",
    "recurring_dst_gap_fixed_time_after_gap",
    "recurring_dst_overlap_fixed_once",
    "recurring_dst_overlap_interval_both",
    "recurring_half_hour_dst_lord_howe",
    "recurring_zone_change_recomputes",
    "recurring_invalid_cron_rejected",
    "recurring_unreachable_feb30_next_none",
    "recurring_load_error_disabled_with_reason",
    "recurring_last_job_id_recorded",
    // continuations
    "continue_on_success",
    "continue_not_on_failure_deleted",
    "continue_on_any_final",
    "continue_on_failed_only",
    "continue_on_deleted",
    "continue_added_after_final_runs_now",
    "continue_added_while_finishing_1000_rounds_never_stuck",
    "continue_parent_missing_error",
    "continue_many_children",
    "continue_5000_children_outbox",
    "continue_chain_10",
    "continue_diamond_all_parents",
    "continue_fires_once_after_requeue",
    "continue_result_passed",
    "continue_child_deleted_before_parent",
    "continue_parent_not_expired_while_waiting",
    "continue_fenced_parent_does_not_fire",
    "continue_scheduled_next_state",
    // batches
    "batch_atomic_create",
    "batch_callback_once",
    "batch_last_two_concurrent_200_rounds",
    "batch_empty_completes",
    "batch_member_fails_final_counts",
    "batch_on_success_vs_on_complete",
    "batch_add_from_member",
    "batch_add_after_complete_rejected",
    "batch_cancel_all",
    "batch_nested",
    "batch_continuation_of_batch",
    "batch_progress_numbers",
    "batch_requeue_member_does_not_refire",
    "batch_expires_with_members",
    // unique/limits/locks
    "unique_reject",
    "unique_replace",
    "unique_window",
    "unique_freed_on_final",
    "unique_100_concurrent_one",
    "limit_k_respected",
    "limit_slot_freed_on_crash",
    "limit_slot_not_leaked_on_delete",
    "rate_limit_window",
    "lock_acquire_release",
    "lock_exclusive_64_threads",
    "lock_timeout",
    "lock_expires",
    "lock_fence_monotonic",
    "lock_release_by_other_noop",
    "lock_renew_after_loss_fails",
    "lock_waiter_woken",
    "lock_names_with_odd_chars",
];

#[test]
fn every_name_of_the_catalogue_has_its_case() {
    let listed: BTreeSet<_> = list::all().map(|case| case.name).collect();
    let missing: Vec<_> = CATALOGUE.iter().filter(|name| !listed.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
