//! What ties jobs to others, in words: dependencies, continuations, unique keys, limits.

use std::io::Write;

use portfire_core::{Conflict, Continuation, Dependency, Occurrence, Ties, UniqueScope};
use portfire_cron::duration;

use crate::failure::Failure;
use crate::table::Table;
use crate::time::seconds;

/// What is waited for, or was.
pub(crate) fn dependencies(after: &[Dependency]) -> String {
    let one = |dependency: &Dependency| {
        let pass = if dependency.pass { ", with its result" } else { "" };
        format!("{} of {}{pass}", dependency.after.as_str(), dependency.on)
    };
    after.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The unique key, or nothing.
pub(crate) fn unique(ties: &Ties) -> String {
    let Some(unique) = &ties.unique else { return String::new() };
    let scope = match unique.scope {
        UniqueScope::UntilStarted => "until it starts".to_owned(),
        UniqueScope::UntilFinished => "until it ends".to_owned(),
        UniqueScope::Within(time) => format!("for {}", duration::words(time)),
    };
    let conflict = match unique.conflict {
        Conflict::Reject => "others are rejected",
        Conflict::Replace => "a later one replaces it",
        Conflict::Debounce => "a later one delays it",
        Conflict::DebounceAtMost(_) => "a later one delays it, up to a bound",
    };
    format!("{} {scope}, {conflict}", unique.key)
}

/// The limits, or nothing.
pub(crate) fn limits(ties: &Ties) -> String {
    let one = |limit: &portfire_core::LimitUse| match &limit.declared {
        Some(rule) => format!("{} (declared: {})", limit.key(), crate::limits::sentence(rule)),
        None => limit.key(),
    };
    ties.limits.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The run that a job is, or nothing.
pub(crate) fn occurrence(occurrence: Option<&Occurrence>) -> String {
    occurrence.map_or(String::new(), |occurrence| {
        let by_hand = if occurrence.triggered { ", by hand" } else { "" };
        format!("{}, planned for {}{by_hand}", occurrence.recurring, seconds(occurrence.planned_at))
    })
}

/// A table of what waits or waited for an end; nothing when nothing does.
pub(crate) fn show_continuations(
    continuations: &[Continuation],
    max: u32,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if continuations.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let mut table = Table::new(["CONTINUATION", "AFTER", "STATE"]);
    for continuation in continuations {
        table.row([
            continuation.job.to_string(),
            continuation.after.as_str().to_owned(),
            continuation.state.to_string(),
        ]);
    }
    table.write(out)?;
    if continuations.len() as u64 >= u64::from(max) {
        writeln!(out, "(the first {max})")?;
    }
    Ok(())
}
