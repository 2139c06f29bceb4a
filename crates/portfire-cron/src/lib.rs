//! Cron texts: read and checked, put into words, and their next occurrence in a time zone; and
//! [durations](duration) as text.
//!
//! ```
//! use portfire_cron::{CronExpression, Zone};
//!
//! let cron = CronExpression::parse("30 3 L * *")?;
//! assert_eq!(cron.describe(), "at 03:30 on the last day of the month");
//!
//! let zone = Zone::parse("Europe/Amsterdam")?;
//! let now = 1_795_248_000_000_000; // microseconds since the Unix epoch: 2026-11-21T08:00:00Z
//! let next = cron.occurrences(now, &zone).take(2).map(|at| zone.rfc3339(at));
//! assert_eq!(next.collect::<Vec<_>>(), ["2026-11-30T03:30:00+01:00", "2026-12-31T03:30:00+01:00"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The text
//! Five fields, or six with the second first, between blanks or tabs; capital and small letters are the
//! same.
//!
//! | field | values | besides `*` `?` `,` `-` `/` `H` |
//! |---|---|---|
//! | second | 0 to 59 | |
//! | minute | 0 to 59 | |
//! | hour | 0 to 23 | |
//! | day of month | 1 to 31 | `L` `L-n` `LW` `L-nW` `nW` |
//! | month | 1 to 12, `JAN` to `DEC` | |
//! | day of week | 0 to 7 (0 and 7 are Sunday), `SUN` to `SAT` | `nL` `n#k` |
//!
//! - `*`, and `?` just so, is every value. `*/15` is every 15th from the first on, within the field: `*/40`
//!   of minutes is 0 and 40.
//! - `8-17` is a range, and `22-1` one around the end: 22, 23, 0, 1. `8-17/3` and `5/15` have steps.
//! - `L` is the last day of the month, `L-3` the day three days before it.
//! - `15W` is the weekday, Monday to Friday, nearest to the 15th within the month; `LW` the last one.
//! - `5L` and `FRIL` are the last Friday of the month, `5#2` and `FRI#2` the second.
//! - `H` is a value that a seed chooses: [`CronExpression::parse_seeded`].
//! - A day must be in **both** fields of days: `0 0 13 * FRI` is Friday the 13th.
//! - Macros: `@every_second` `@every_minute` `@hourly` `@daily` `@midnight` `@weekly` (on Sunday) `@monthly`
//!   `@yearly` `@annually`.
//!
//! # When the clock changes
//! - **The clock jumps forward:** what falls into the gap runs at the first instant after it, once.
//! - **The clock goes back:** a fixed time, such as `30 1 * * *`, runs in the first pass only. An
//!   expression of *intervals*, with `*`, a range or a step in the second, minute or hour, runs in both:
//!   `*/30 * * * *` does not pause for an hour.
//!
//! Half an hour is a change like any other, and so is a day that a zone leaves out.
//!
//! # Bounds
//! Occurrences are whole seconds of the years 1 to 9999. An expression that no day matches, such as
//! `0 0 31 2 *`, has none, and that is found out at once: no question takes longer than the months of some
//! forty years. A text has at most [`MAX_LENGTH`] bytes.
//!
//! # Where the rules come from
//! They are those of [Cronos](https://github.com/HangfireIO/Cronos), by which Hangfire schedules, as its
//! README and its tests say them; a part of these tests is among ours. There are three differences. `H`
//! takes a text as its seed, and leaves macros alone. A range that begins with Sunday written 7 means the
//! same as one from 0. The step of `H` in the day of week is counted within seven days.
//!
//! # Features
//! | feature | default | what it costs |
//! |---|---|---|
//! | `zones` | yes | occurrences and time zones; compiles jiff and a time zone database |

#[cfg(feature = "zones")]
mod calendar;
mod describe;
pub mod duration;
mod error;
mod expression;
mod field;
mod nearest;
#[cfg(feature = "zones")]
mod occurrence;
mod parse;
mod reader;
mod schedule;
#[cfg(feature = "zones")]
mod search;
mod seed;
mod shape;
#[cfg(feature = "zones")]
mod zone;

pub use error::{CronError, CronErrorKind};
pub use expression::CronExpression;
pub use field::{Field, Weekday};
#[cfg(feature = "zones")]
pub use occurrence::Occurrences;
pub use parse::{CronFormat, MAX_LENGTH};
#[cfg(feature = "zones")]
pub use zone::{UnknownZone, Zone};
