//! Cron texts: read, checked, put into words, and their next occurrence in a time zone.

mod calendar;
mod describe;
mod error;
mod expression;
mod field;
mod nearest;
#[cfg(feature = "zones")]
mod occurrence;
mod parse;
mod schedule;
mod seed;
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
