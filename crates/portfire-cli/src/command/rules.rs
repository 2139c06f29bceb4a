//! The command lines of recurring jobs, batches, queues and limits.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use portfire_core::{
    BatchId, BatchState, KindName, LimitName, LimitRule, LimitTarget, QueueName, Rate, RecurringId,
    Timestamp, Window, duration,
};

/// `portfire recurring`; without a further word it lists.
#[derive(Debug, Args)]
pub struct RecurringArgs {
    /// What to do with recurring jobs.
    #[command(subcommand)]
    pub command: Option<RecurringCommand>,
    /// Which to list when no further word is given.
    #[command(flatten)]
    pub list: RecurringListArgs,
}

/// What can be done with recurring jobs.
#[derive(Debug, Subcommand)]
pub enum RecurringCommand {
    /// Lists recurring jobs with their next instants, by id.
    List(RecurringListArgs),
    /// Shows everything about a recurring job, with its last runs.
    Show {
        /// The recurring job.
        id: RecurringId,
        /// How many runs to show.
        #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(0..=200))]
        runs: u32,
    },
    /// Runs it now, once. Its schedule does not move.
    Trigger {
        /// The recurring job.
        id: RecurringId,
    },
    /// Stops its schedule. What the pause covers is not made up for.
    Pause {
        /// The recurring job.
        id: RecurringId,
        /// When it goes on by itself, such as 2026-11-21T08:00:00Z. Default: when it is resumed.
        #[arg(long, value_name = "INSTANT", conflicts_with = "for_")]
        until: Option<Timestamp>,
        /// After how long it goes on by itself, such as 2h.
        #[arg(long = "for", id = "for_", value_name = "DURATION", value_parser = duration::parse)]
        for_: Option<Duration>,
    },
    /// Goes on with its schedule, also when errors have disabled it.
    Resume {
        /// The recurring job.
        id: RecurringId,
    },
    /// Removes it with the memory of its runs. Jobs that it has fired stay.
    Remove {
        /// The recurring job.
        id: RecurringId,
    },
}

/// Which recurring jobs to list.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct RecurringListArgs {
    /// Only those of this application.
    #[arg(long)]
    pub app: Option<String>,
    /// Most to list. Default: 50.
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: Option<u32>,
    /// Go on after a page, with the text that stood at its end.
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
}

/// `portfire batches`; without a further word it lists.
#[derive(Debug, Args)]
pub struct BatchesArgs {
    /// What to do with batches.
    #[command(subcommand)]
    pub command: Option<BatchesCommand>,
    /// Which to list when no further word is given.
    #[command(flatten)]
    pub list: BatchListArgs,
}

/// What can be done with batches.
#[derive(Debug, Subcommand)]
pub enum BatchesCommand {
    /// Lists batches, the newest first.
    List(BatchListArgs),
    /// Shows everything about a batch, and what waits for its end. Its members: `jobs list --batch ID`.
    Show {
        /// The batch.
        id: BatchId,
    },
    /// Cancels a batch and those in it: its members are deleted, running ones are told to stop.
    Cancel {
        /// The batch.
        id: BatchId,
        /// Why; shown in the members' histories.
        #[arg(long, default_value = "cancelled on the command line")]
        reason: String,
    },
}

/// Which batches to list.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct BatchListArgs {
    /// Only batches in this state.
    #[arg(long, value_parser = batch_state)]
    pub state: Option<BatchState>,
    /// Only batches in this batch.
    #[arg(long, value_name = "ID")]
    pub parent: Option<BatchId>,
    /// Most to list. Default: 50.
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: Option<u32>,
    /// Go on after a page, with the text that stood at its end.
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
}

fn batch_state(text: &str) -> Result<BatchState, String> {
    BatchState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let names: Vec<&str> = BatchState::ALL.iter().map(|state| state.as_str()).collect();
        format!("`{text}` is not a state of a batch: expected {}", names.join(", "))
    })
}

/// `portfire queues`; without a further word it lists.
#[derive(Debug, Args)]
pub struct QueuesArgs {
    /// What to do with queues.
    #[command(subcommand)]
    pub command: Option<QueuesCommand>,
}

/// What can be done with queues.
#[derive(Debug, Subcommand)]
pub enum QueuesCommand {
    /// Lists queues, by name.
    List,
    /// Stops giving out a queue's jobs. It still takes them, and what runs, runs on.
    Pause {
        /// The queue.
        name: QueueName,
    },
    /// Gives out a queue's jobs again.
    Resume {
        /// The queue.
        name: QueueName,
    },
}

/// `portfire limits`; without a further word it lists.
#[derive(Debug, Args)]
pub struct LimitsArgs {
    /// What to do with limits.
    #[command(subcommand)]
    pub command: Option<LimitsCommand>,
}

/// What can be done with limits.
#[derive(Debug, Subcommand)]
pub enum LimitsCommand {
    /// Lists the limits that have a rule, and what their keys are at.
    List,
    /// Sets a limit, at once. It holds until it is set again, whatever code declares.
    Set {
        /// What it is for: a limit's NAME, `queue:NAME` or `kind:NAME`.
        #[arg(value_parser = target)]
        target: LimitTarget,
        /// What it allows.
        #[command(flatten)]
        rule: RuleArgs,
    },
    /// Takes back what was set: what code declares counts again.
    Unset {
        /// What it is for: a limit's NAME, `queue:NAME` or `kind:NAME`.
        #[arg(value_parser = target)]
        target: LimitTarget,
    },
}

/// What a limit allows.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct RuleArgs {
    /// Jobs that run at a time.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub concurrency: Option<u32>,
    /// Starts in a time, such as 100/1m.
    #[arg(long, value_name = "COUNT/TIME", value_parser = rate)]
    pub rate: Option<(u32, Duration)>,
    /// How the windows of the rate lie.
    #[arg(long, value_enum, default_value_t = WindowArg::Sliding, requires = "rate")]
    pub window: WindowArg,
}

impl RuleArgs {
    /// The rule.
    pub fn rule(&self) -> LimitRule {
        let window = match self.window {
            WindowArg::Sliding => Window::Sliding,
            WindowArg::Fixed => Window::Fixed,
        };
        let rate = self.rate.map(|(count, per)| Rate { count, per, window });
        LimitRule { concurrency: self.concurrency, rate }
    }
}

/// How the windows of a rate lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WindowArg {
    /// Any window of this length has at most the count.
    Sliding,
    /// One after another, aligned to 1970.
    Fixed,
}

fn target(text: &str) -> Result<LimitTarget, String> {
    let shown = |error: portfire_core::InvalidJob| error.to_string();
    match text.split_once(':') {
        None => LimitName::new(text).map(LimitTarget::Named).map_err(shown),
        Some(("queue", name)) => QueueName::try_from(name).map(LimitTarget::Queue).map_err(shown),
        Some(("kind", name)) => KindName::try_from(name).map(LimitTarget::Kind).map_err(shown),
        Some(_) => {
            Err(format!("`{text}` is no limit: write its NAME, or `queue:NAME` or `kind:NAME`"))
        }
    }
}

fn rate(text: &str) -> Result<(u32, Duration), String> {
    let refuse = || {
        format!(
            "`{text}` is not a rate: write a count, a slash and a time, such as `100/1m` or `5/s`"
        )
    };
    let (count, per) = text.split_once('/').ok_or_else(refuse)?;
    let count = count.trim().parse().map_err(|_| refuse())?;
    // `5/s` is what people write for `5/1s`.
    let per = match per.trim() {
        unit if unit.starts_with(|c: char| c.is_ascii_alphabetic()) => format!("1{unit}"),
        time => time.to_owned(),
    };
    Ok((count, duration::parse(&per).map_err(|error| error.to_string())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_in_a_time() {
        assert_eq!(rate("100/1m"), Ok((100, Duration::from_secs(60))));
        assert_eq!(rate("5/s"), Ok((5, Duration::from_secs(1))));
        for (text, said) in [("100", "a slash"), ("x/1m", "a slash"), ("1/fortnight", "not a unit")]
        {
            assert!(rate(text).unwrap_err().contains(said), "{text}");
        }
    }

    #[test]
    fn a_limit_is_for_a_name_a_queue_or_a_kind() {
        let name = |text| LimitName::new(text).unwrap();
        assert_eq!(target("smtp"), Ok(LimitTarget::Named(name("smtp"))));
        assert_eq!(target("queue:mail"), Ok(LimitTarget::Queue("mail".parse().unwrap())));
        assert_eq!(target("kind:a:b"), Ok(LimitTarget::Kind("a:b".parse().unwrap())));
        for text in ["job:1", "queue:A B", "kind:", "", "a b"] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
