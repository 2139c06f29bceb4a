//! The next local time of an expression: month by month, and within a month by its set of days. No
//! search is longer than the months of some forty years.

use crate::calendar::{civil_from_days, days_from_civil, weekday};
use crate::schedule::{Schedule, days_in_month};

/// Seconds of a day.
const DAY: i64 = 86_400;
/// The last year that is searched.
const LAST_YEAR: i64 = 9_999;

impl Schedule {
    /// The first local time at or after `at` that matches; both in seconds since 1970-01-01T00:00:00
    /// on the same wall clock. `None` when there is none before the year 10000.
    pub(crate) fn next_local(&self, at: i64) -> Option<i64> {
        let earliest = const { days_from_civil(1, 1, 1) * DAY };
        let at = at.max(earliest);
        let (today, time) = (at.div_euclid(DAY), at.rem_euclid(DAY) as u32);
        let (year, month, day) = civil_from_days(today);
        if year > LAST_YEAR {
            return None;
        }
        if self.months & (1 << month) != 0 {
            let first = today - i64::from(day - 1);
            let mut days = self.days_of(days_in_month(year, month), weekday(first)) & (!0 << day);
            if days & (1 << day) != 0 {
                if let Some(time) = self.time_from(time) {
                    return Some(today * DAY + i64::from(time));
                }
                days &= !(1 << day);
            }
            if days != 0 {
                let date = today + i64::from(days.trailing_zeros()) - i64::from(day);
                return Some(date * DAY + i64::from(self.first_time()));
            }
        }
        let date = self.date_after_month(year, month)?;
        Some(date * DAY + i64::from(self.first_time()))
    }

    /// The first matching day after a month.
    fn date_after_month(&self, from_year: i64, mut month: u32) -> Option<i64> {
        let mut year = from_year;
        loop {
            let later = u32::from(self.months) & (!0 << (month + 1));
            if later == 0 {
                year += 1;
                month = u32::from(self.months).trailing_zeros();
                // What did not occur for a year may not exist at all. What exists is at most 40 years away.
                if year > LAST_YEAR || year == from_year + 2 && !self.is_reachable() {
                    return None;
                }
            } else {
                month = later.trailing_zeros();
            }
            let first = days_from_civil(year, month, 1);
            let days = self.days_of(days_in_month(year, month), weekday(first));
            if days != 0 {
                return Some(first + i64::from(days.trailing_zeros()) - 1);
            }
        }
    }

    /// The first matching time of a day at or after a time of it, in seconds.
    fn time_from(&self, time: u32) -> Option<u32> {
        let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
        if self.hours & (1 << hour) != 0 {
            if self.minutes & (1 << minute) != 0 {
                let seconds = self.seconds & (!0 << second);
                if seconds != 0 {
                    return Some(hour * 3_600 + minute * 60 + seconds.trailing_zeros());
                }
            }
            let minutes = self.minutes & (!0 << (minute + 1));
            if minutes != 0 {
                let minute = minutes.trailing_zeros();
                return Some(hour * 3_600 + minute * 60 + self.seconds.trailing_zeros());
            }
        }
        let hours = self.hours & (!0 << (hour + 1));
        if hours == 0 {
            return None;
        }
        let of_hour = self.minutes.trailing_zeros() * 60 + self.seconds.trailing_zeros();
        Some(hours.trailing_zeros() * 3_600 + of_hour)
    }

    /// The first matching time of a day, in seconds.
    fn first_time(&self) -> u32 {
        self.hours.trailing_zeros() * 3_600
            + self.minutes.trailing_zeros() * 60
            + self.seconds.trailing_zeros()
    }
}
