//! What an expression means: sets of seconds, minutes, hours, days and months.

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

    /// Whether there is a matching day at all. A month may begin on any day of the week, and its
    /// length is that of a leap year or of another one: no more is to be tried.
    pub(crate) fn is_reachable(&self) -> bool {
        (1..=12).filter(|month| self.months & (1 << month) != 0).any(|month| {
            let lengths = [days_in_month(2_000, month), days_in_month(2_001, month)];
            lengths.into_iter().any(|last| (0..7).any(|day| self.days_of(last, day) != 0))
        })
    }

    /// The matching days of a month of `last` days that begins on a day of the week; bit 1 is its first.
    pub(crate) fn days_of(&self, last: u32, starts_on: u32) -> u32 {
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
}

/// How many days a month has.
pub(crate) const fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
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
