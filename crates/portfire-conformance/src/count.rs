//! The count of the cases that apply to a storage.

use std::collections::BTreeSet;
use std::io::Write;

use crate::list::{Case, all};

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
