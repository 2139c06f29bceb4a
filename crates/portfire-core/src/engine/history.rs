//! Histories: which entries that say the same in a row are folded into one.
//!
//! A job that is debounced every second, or asks again and again to run later, would have a history without a bound.
//! So an entry that repeats the one before it takes its place, and tells how often and since when. Folded are moves of
//! the instant (nothing lies between them), snoozes and parks (between them lie a promotion and a claim, which go too).
//! Nothing that went wrong is folded: retries are bounded, and each has its error.

use crate::state::Cause;

/// What lies between two entries of this cause that are folded; `None` when they never are.
pub fn folds_over(cause: Cause) -> Option<&'static [Cause]> {
    match cause {
        Cause::Rescheduled => Some(&[]),
        Cause::Snoozed | Cause::Parked => Some(&[Cause::Promoted, Cause::Claimed]),
        _ => None,
    }
}
