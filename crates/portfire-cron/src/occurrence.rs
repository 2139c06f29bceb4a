//! Occurrences in a time zone: what becomes of local times that a change of the clock leaves out or
//! repeats.

use crate::expression::CronExpression;
use crate::zone::{FIRST, LAST, Zone};

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;
/// No offset from UTC is larger: 26 hours.
const LARGEST_OFFSET: i64 = 26 * 3_600;

impl CronExpression {
    /// The first occurrence after an instant; both in microseconds since the Unix epoch.
    ///
    /// `None` when there is none within the years 1 to 9999, by universal time and by the zone's clock.
    pub fn next_after(&self, from_micros: i64, zone: &Zone) -> Option<i64> {
        // Occurrences are whole seconds: none lies within one.
        self.next_second(from_micros.div_euclid(SECOND), true, zone)
    }

    /// The first occurrence at or after an instant; both in microseconds since the Unix epoch.
    ///
    /// The instant at which a gap ends counts by its own local time only: asked from there on, what fell
    /// into the gap is past.
    pub fn next_from(&self, from_micros: i64, zone: &Zone) -> Option<i64> {
        let exclusive = from_micros.rem_euclid(SECOND) != 0;
        self.next_second(from_micros.div_euclid(SECOND), exclusive, zone)
    }

    /// The occurrences after an instant, in their order.
    pub fn occurrences<'c>(&'c self, from_micros: i64, zone: &'c Zone) -> Occurrences<'c> {
        Occurrences { cron: self, zone, after: Some(from_micros) }
    }

    fn next_second(&self, from: i64, exclusive: bool, zone: &Zone) -> Option<i64> {
        if from > LAST {
            return None;
        }
        let found = self.search(from.max(FIRST), exclusive && from >= FIRST, zone)?;
        (found <= LAST).then_some(found * SECOND)
    }

    /// The first occurrence from a second on, which itself counts unless it is excluded.
    fn search(&self, from: i64, exclusive: bool, zone: &Zone) -> Option<i64> {
        let here = zone.stretch(from);
        let mut local = from + here.offset + i64::from(exclusive);
        if !self.is_interval() && here.offset_before > here.offset {
            // The clock went back at the beginning of this stretch: what it shows for the second time
            // is for intervals only.
            local = local.max(here.from + here.offset_before);
        }
        let end = here.until.saturating_add(here.offset);
        let found = self.schedule.next_local(local);
        if let Some(found) = found
            && found < end
        {
            return Some(found - here.offset);
        }
        if self.is_interval() && here.offset_after < here.offset {
            // The clock goes back at the end of this stretch.
            let again = self.schedule.next_local(here.until + here.offset_after);
            if let Some(again) = again
                && again < end
            {
                return Some(again - here.offset_after);
            }
        }
        Some(first_instant(found?, zone))
    }
}

/// The first instant at which the clock shows a local time, or the end of the gap that leaves it out.
fn first_instant(local: i64, zone: &Zone) -> i64 {
    let mut stretch = zone.stretch(local - LARGEST_OFFSET);
    loop {
        if local < stretch.until.saturating_add(stretch.offset) {
            return local - stretch.offset;
        }
        if local < stretch.until + stretch.offset_after {
            return stretch.until;
        }
        stretch = zone.stretch(stretch.until);
    }
}

/// The occurrences of an expression after an instant, made by
/// [`CronExpression::occurrences`]: microseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub struct Occurrences<'c> {
    cron: &'c CronExpression,
    zone: &'c Zone,
    after: Option<i64>,
}

impl Iterator for Occurrences<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        self.after = self.cron.next_after(self.after?, self.zone);
        self.after
    }
}

impl std::iter::FusedIterator for Occurrences<'_> {}
