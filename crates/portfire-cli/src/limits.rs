//! `portfire limits`: what is limited, what the limits are at, and setting them while jobs run.

use std::io::Write;

use portfire_core::{
    KeyRecord, LimitRecord, LimitRule, LimitTarget, Rate, Storage, Timestamp, Window,
};
use portfire_cron::duration;
use serde::Serialize;

use crate::answer;
use crate::command::LimitsCommand;
use crate::escape;
use crate::failure::Failure;
use crate::table::Table;
use crate::time::seconds;

pub(crate) async fn run(
    command: LimitsCommand,
    storage: &dyn Storage,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    match command {
        LimitsCommand::List => list(storage, json, out).await,
        LimitsCommand::Set { target, rule } => {
            let rule = rule.rule();
            // A mistake in the rule is one of the command line, and says so by its exit code.
            rule.validate(&name(&target))?;
            set(storage, target, Some(rule), json, out).await
        }
        LimitsCommand::Unset { target } => set(storage, target, None, json, out).await,
    }
}

/// A limit with what its keys are at.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    limit: LimitRecord,
    /// Those that have running or waiting jobs; of limits that jobs name.
    keys: Vec<KeyRecord>,
}

async fn list(storage: &dyn Storage, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut limits = Vec::new();
    for limit in storage.limits().await? {
        let keys = match &limit.target {
            LimitTarget::Named(name) => storage.limit_keys(name.clone()).await?,
            _ => Vec::new(),
        };
        limits.push(Shown { limit, keys });
    }
    if json {
        return answer::json(&limits, out);
    }
    if limits.is_empty() {
        writeln!(out, "No limits.")?;
        return Ok(());
    }
    let mut table =
        Table::new(["LIMIT", "AT A TIME", "RATE", "BY", "KEY", "RUNNING", "WAITING", "NEXT START"]);
    for Shown { limit, keys } in &limits {
        let own = |first: bool, cell: String| if first { cell } else { String::new() };
        let row = |first: bool, key: Option<&KeyRecord>| {
            let at = |at: Timestamp| seconds(at);
            [
                own(first, name(&limit.target)),
                own(first, limit.rule.concurrency.map_or(String::new(), |jobs| jobs.to_string())),
                own(first, limit.rule.rate.as_ref().map_or(String::new(), rate)),
                own(first, if limit.set { "hand".into() } else { "code".into() }),
                key.map_or(String::new(), |key| key.key.clone()),
                key.map_or(String::new(), |key| key.running.to_string()),
                key.map_or(String::new(), |key| key.waiting.to_string()),
                key.and_then(|key| key.next_at).map_or(String::new(), at),
            ]
        };
        if keys.is_empty() {
            table.row(row(true, None));
        }
        for (index, key) in keys.iter().enumerate() {
            table.row(row(index == 0, Some(key)));
        }
    }
    Ok(table.write(out)?)
}

/// What was set, for programs.
#[derive(Serialize)]
struct Set {
    target: LimitTarget,
    /// Null when what was set was taken back.
    rule: Option<LimitRule>,
}

async fn set(
    storage: &dyn Storage,
    target: LimitTarget,
    rule: Option<LimitRule>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    storage.set_limit(target.clone(), rule).await?;
    if json {
        return answer::json(&Set { target, rule }, out);
    }
    let sentence = match rule {
        Some(rule) => format!("{}: {}", name(&target), sentence(&rule)),
        None => format!("{}: what code declares counts", name(&target)),
    };
    writeln!(out, "{}", escape::plain(&sentence))?;
    Ok(())
}

/// A target as it is typed.
fn name(target: &LimitTarget) -> String {
    match target {
        LimitTarget::Named(name) => name.to_string(),
        LimitTarget::Queue(queue) => format!("queue:{queue}"),
        LimitTarget::Kind(kind) => format!("kind:{kind}"),
    }
}

/// A rule in words.
pub(crate) fn sentence(rule: &LimitRule) -> String {
    let concurrency = rule.concurrency.map(|jobs| format!("{jobs} at a time"));
    let rate = rule.rate.as_ref().map(rate);
    [concurrency, rate].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn rate(rate: &Rate) -> String {
    let window = match rate.window {
        Window::Sliding => "",
        Window::Fixed => " fixed",
    };
    format!("{}/{}{window}", rate.count, duration::words(rate.per))
}
