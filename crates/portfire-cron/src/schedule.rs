//! What an expression means: sets of seconds, minutes, hours, days and months, and the next local
//! time that is in all of them.

use crate::calendar::{civil_from_days, days_from_civil, days_in_month, weekday};

/// Seconds of a day.
const DAY: i64 = 86_400;
/// The last year that is searched.
const LAST_YEAR: i64 = 9_999;
/// The calendar, weekdays included, repeats after so many years: what does not occur in them never does.
const CYCLE_YEARS: i64 = 400;

/// A `*`, range or step stands in the second, minute or hour.
pub(crate) const INTERVAL: u8 = 1;
/// `L` in the day of month.
pub(crate) const LAST_DAY: u8 = 2;
/// `W` in the day of month.
pub(crate) const NEAREST_WEEKDAY: u8 = 4;
/// `L` in the day of week.
pub(crate) const LAST_WEEKDAY: u8 = 8;
/// `#` in the day of week.
pub(crate) const NTH_WEEKDAY: u8 = 16;

/// The sets. Bit n stands for the value n.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Schedule {
    pub(crate) seconds: u64,
    pub(crate) minutes: u64,
    pub(crate) hours: u32,
    pub(crate) days: u32,
    pub(crate) months: u16,
    /// Sunday is bit 0 only.
    pub(crate) weekdays: u8,
    /// The n of `#n`.
    pub(crate) nth: u8,
    /// The n of `L-n`.
    pub(crate) before_last: u8,
    pub(crate) flags: u8,
}

impl Schedule {
    pub(crate) const EMPTY: Schedule = Schedule {
        seconds: 0,
        minutes: 0,
        hours: 0,
        days: 0,
        months: 0,
        weekdays: 0,
        nth: 0,
        before_last: 0,
        flags: 0,
    };

    /// `* * * * *`.
    pub(crate) const MINUTELY: Schedule = Schedule {
        seconds: 1,
        minutes: (1 << 60) - 1,
        hours: (1 << 24) - 1,
        days: !1,
        months: 0x1FFE,
        weekdays: 0x7F,
        flags: INTERVAL,
        ..Schedule::EMPTY
    };

    /// `0 0 31 2 *`.
    pub(crate) const NEVER: Schedule = Schedule {
        minutes: 1,
        hours: 1,
        days: 1 << 31,
        months: 1 << 2,
        flags: 0,
        ..Schedule::MINUTELY
    };

    pub(crate) const fn from_parts(sets: [u64; 6], rules: [u8; 3]) -> Schedule {
        let [seconds, minutes, hours, days, months, weekdays] = sets;
        let [nth, before_last, flags] = rules;
        Schedule {
            seconds,
            minutes,
            hours: hours as u32,
            days: days as u32,
            months: months as u16,
            weekdays: weekdays as u8,
            nth,
            before_last,
            flags,
        }
    }

    pub(crate) const fn parts(&self) -> ([u64; 6], [u8; 3]) {
        let (days, months) = (self.days as u64, self.months as u64);
        let sets =
            [self.seconds, self.minutes, self.hours as u64, days, months, self.weekdays as u64];
        (sets, [self.nth, self.before_last, self.flags])
    }

    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

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
            let mut days = self.days_of(year, month, today - i64::from(day - 1)) & (!0 << day);
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
    fn date_after_month(&self, from_year: i64, from_month: u32) -> Option<i64> {
        let (mut year, mut month) = (from_year, from_month);
        loop {
            let later = u32::from(self.months) & (!0 << (month + 1));
            if later == 0 {
                year += 1;
                month = u32::from(self.months).trailing_zeros();
                if year > LAST_YEAR {
                    return None;
                }
            } else {
                month = later.trailing_zeros();
            }
            let first = days_from_civil(year, month, 1);
            let days = self.days_of(year, month, first);
            if days != 0 {
                return Some(first + i64::from(days.trailing_zeros()) - 1);
            }
            if (year, month) >= (from_year + CYCLE_YEARS, from_month) {
                return None;
            }
        }
    }

    /// The matching days of a month; bit 1 is its first day, whose number is `first`.
    fn days_of(&self, year: i64, month: u32, first: i64) -> u32 {
        let last = days_in_month(year, month);
        let starts_on = weekday(first);
        let mut days = if self.has(LAST_DAY) {
            match last.checked_sub(u32::from(self.before_last)) {
                None | Some(0) => return 0,
                Some(day) => 1 << day,
            }
        } else {
            self.days & up_to(last)
        };
        if self.has(NEAREST_WEEKDAY) && days != 0 {
            days = 1 << nearest_weekday(days.trailing_zeros(), last, starts_on);
        }
        if self.has(LAST_WEEKDAY) {
            days &= !up_to(last - 7);
        }
        if self.has(NTH_WEEKDAY) {
            let n = u32::from(self.nth);
            days &= (0x7F << 1) << (7 * (n - 1));
        }
        if self.weekdays != 0x7F {
            // The week over and over; shifted so that bit 1 is the month's first day.
            let weeks = u64::from(self.weekdays) * 0x0102_0408_1020_4081;
            days &= ((weeks >> starts_on) << 1) as u32;
        }
        days
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

/// The days from the first of a month to `last`.
const fn up_to(last: u32) -> u32 {
    ((2u64 << last) - 2) as u32
}

/// The weekday nearest to a day, within its month.
fn nearest_weekday(day: u32, last: u32, starts_on: u32) -> u32 {
    match (starts_on + day - 1) % 7 {
        0 if day == last => day - 2,
        0 => day + 1,
        6 if day == 1 => day + 2,
        6 => day - 1,
        _ => day,
    }
}
