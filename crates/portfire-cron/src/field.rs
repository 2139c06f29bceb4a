//! The fields of a cron text: their names, their bounds and the names of their values.

use std::fmt;

/// A field of a cron text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// 0 to 59; the first of six fields, and absent from five.
    Second,
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// 1 to 31.
    DayOfMonth,
    /// 1 to 12, or `JAN` to `DEC`.
    Month,
    /// 0 to 7, or `SUN` to `SAT`; both 0 and 7 are Sunday.
    DayOfWeek,
}

impl Field {
    /// The fields in the order of a text of six.
    pub const ALL: [Field; 6] = [
        Field::Second,
        Field::Minute,
        Field::Hour,
        Field::DayOfMonth,
        Field::Month,
        Field::DayOfWeek,
    ];

    /// The name, in lower case: `second`, `minute`, `hour`, `day of month`, `month`, `day of week`.
    pub const fn name(self) -> &'static str {
        match self {
            Field::Second => "second",
            Field::Minute => "minute",
            Field::Hour => "hour",
            Field::DayOfMonth => "day of month",
            Field::Month => "month",
            Field::DayOfWeek => "day of week",
        }
    }

    /// The smallest value.
    pub const fn first(self) -> u8 {
        match self {
            Field::DayOfMonth | Field::Month => 1,
            _ => 0,
        }
    }

    /// The largest value.
    pub const fn last(self) -> u8 {
        match self {
            Field::Second | Field::Minute => 59,
            Field::Hour => 23,
            Field::DayOfMonth => 31,
            Field::Month => 12,
            Field::DayOfWeek => 7,
        }
    }

    /// The largest value that is not another name of a smaller one: 6 for the day of week.
    pub(crate) const fn last_distinct(self) -> u8 {
        match self {
            Field::DayOfWeek => 6,
            _ => self.last(),
        }
    }

    /// The largest value that `H` picks: no day that a month may lack.
    pub(crate) const fn last_hashed(self) -> u8 {
        match self {
            Field::DayOfMonth => 28,
            _ => self.last_distinct(),
        }
    }

    /// Whether a `*`, a range or a step in it makes an expression one of intervals.
    pub(crate) const fn is_of_time(self) -> bool {
        matches!(self, Field::Second | Field::Minute | Field::Hour)
    }

    /// The three-letter names of values, the first of them that of [`Field::first`].
    pub(crate) const fn value_names(self) -> &'static [&'static str] {
        match self {
            Field::Month => &[
                "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
            ],
            Field::DayOfWeek => &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
            _ => &[],
        }
    }

    /// The value of a name; case does not count.
    pub(crate) fn value_named(self, name: &str) -> Option<u8> {
        let index = self.value_names().iter().position(|known| known.eq_ignore_ascii_case(name))?;
        Some(self.first() + index as u8)
    }

    /// What values may be, in words.
    pub(crate) const fn allowed(self) -> &'static str {
        match self {
            Field::Second | Field::Minute => "a number between 0 and 59",
            Field::Hour => "a number between 0 and 23",
            Field::DayOfMonth => "a number between 1 and 31",
            Field::Month => "a number between 1 and 12, or a name, JAN to DEC",
            Field::DayOfWeek => {
                "a number between 0 and 7 (0 and 7 are Sunday), or a name, SUN to SAT"
            }
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say all")]
pub enum Weekday {
    Sunday,
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
}

impl Weekday {
    /// The number in a cron text: Sunday is 0.
    pub const fn number(self) -> u8 {
        self as u8
    }
}
