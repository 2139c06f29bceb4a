//! The words of `portfire cron`.

use clap::{Args, Subcommand};

/// `portfire cron`.
#[derive(Debug, Args)]
pub struct CronArgs {
    /// What to do with a cron text.
    #[command(subcommand)]
    pub command: CronCommand,
}

/// What can be done with a cron text.
#[derive(Debug, Subcommand)]
pub enum CronCommand {
    /// Lists the next occurrences of a cron text: as the clock of a time zone shows them, and in UTC.
    Next {
        /// The text and where it is asked.
        #[command(flatten)]
        asked: CronTextArgs,
        /// The start itself counts, when it matches.
        #[arg(long)]
        inclusive: bool,
        /// Most occurrences to list.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 5, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        count: u32,
    },
    /// Puts a cron text into words, field by field, with its next five occurrences.
    Explain {
        /// The text and where it is asked.
        #[command(flatten)]
        asked: CronTextArgs,
    },
}

/// A cron text, its time zone and a start.
#[derive(Debug, Args)]
pub struct CronTextArgs {
    /// Five fields (minute, hour, day of month, month, day of week), or six with the second first, or a
    /// macro such as `@daily`; in quotes.
    #[arg(allow_hyphen_values = true)]
    pub expression: String,
    /// The time zone, such as Europe/Amsterdam.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub tz: String,
    /// The start: an instant such as 2026-11-21T08:00:00+01:00, or a local time of the zone such as
    /// 2026-11-21T08:00. Default: now.
    #[arg(long, value_name = "INSTANT")]
    pub from: Option<String>,
    /// The text must have six fields, the second first.
    #[arg(long)]
    pub seconds: bool,
    /// What `H` in the text is chosen by, such as the name of the job.
    #[arg(long, value_name = "TEXT")]
    pub seed: Option<String>,
}
