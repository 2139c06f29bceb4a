//! What an expression means, worked out by trying everything: every day, every second of a day, every
//! offset of a zone. Slow and simple; it shares nothing with the crate but the time zone database.

use std::collections::BTreeSet;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// An expression as lists.
#[derive(Clone, Debug)]
pub(crate) struct Meaning {
    pub(crate) seconds: Vec<u64>,
    pub(crate) minutes: Vec<u64>,
    pub(crate) hours: Vec<u64>,
    pub(crate) day: Day,
    pub(crate) months: Vec<u64>,
    pub(crate) weekdays: Weekdays,
    pub(crate) interval: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Day {
    Listed(Vec<u64>),
    Last { before: u64, nearest_weekday: bool },
    NearestWeekday(u64),
}

/// Sunday is 0.
#[derive(Clone, Debug)]
pub(crate) enum Weekdays {
    Listed(Vec<u64>),
    Last(u64),
    Nth(u64, u64),
}

impl Meaning {
    fn matches_date(&self, date: Date) -> bool {
        if !self.months.contains(&(date.month() as u64)) {
            return false;
        }
        let day = date.day() as u64;
        let in_month = match self.day {
            Day::Listed(ref days) => days.contains(&day),
            Day::Last { before, nearest_weekday } => {
                let last = date.last_of_month().day() as u64;
                match last.checked_sub(before).filter(|day| *day > 0) {
                    Some(wanted) if nearest_weekday => is_nearest_weekday(date, wanted),
                    wanted => wanted == Some(day),
                }
            }
            Day::NearestWeekday(wanted) => is_nearest_weekday(date, wanted),
        };
        let weekday = date.weekday().to_sunday_zero_offset() as u64;
        let in_week = match self.weekdays {
            Weekdays::Listed(ref days) => days.contains(&weekday),
            Weekdays::Last(wanted) => {
                weekday == wanted && (date + 7.days()).month() != date.month()
            }
            Weekdays::Nth(wanted, nth) => {
                let weeks_before = (1..5).filter(|weeks| date.day() > weeks * 7);
                weekday == wanted && weeks_before.count() as u64 + 1 == nth
            }
        };
        in_month && in_week
    }

    /// The matching seconds of a day.
    pub(crate) fn times(&self) -> Vec<i64> {
        let hours = (0..24).filter(|hour| self.hours.contains(hour));
        let minutes = |hour| (0..60).map(move |minute| (hour, minute));
        let minutes = hours.flat_map(minutes).filter(|(_, minute)| self.minutes.contains(minute));
        let seconds: Vec<u64> = (0..60).filter(|second| self.seconds.contains(second)).collect();
        let times = minutes.flat_map(|(hour, minute)| {
            seconds.iter().map(move |second| (hour * 3_600 + minute * 60 + second) as i64)
        });
        times.collect()
    }

    /// The occurrences of the days from `first` to `last`, which a zone's clock shows.
    pub(crate) fn occurrences(&self, zone: &Offsets, first: Date, last: Date) -> BTreeSet<i64> {
        let times = self.times();
        let mut found = BTreeSet::new();
        for date in first.series(1.day()).take_while(|date| *date <= last) {
            if self.matches_date(date) {
                for time in &times {
                    self.add_instants(zone, midnight(date) + time, &mut found);
                }
            }
        }
        found
    }

    /// The instants of a local time: when the clock shows it, or when it jumped over it.
    fn add_instants(&self, zone: &Offsets, local: i64, found: &mut BTreeSet<i64>) {
        let mut shown = zone.instants(local).into_iter();
        match shown.next() {
            None => drop(found.insert(zone.end_of_gap(local))),
            Some(first) => {
                found.insert(first);
                if self.interval {
                    found.extend(shown);
                }
            }
        }
    }

    /// The first occurrence after an instant, up to the end of a day.
    pub(crate) fn first_after(&self, zone: &Offsets, start: i64, last: Date) -> Option<i64> {
        // No change of the zones here is longer than two hours, so that local times further apart
        // stand for instants in the same order.
        let changes = &zone.changes;
        let near = changes.iter().any(|change| (change - start).abs() < 86_400);
        let slack = if near { 9_000 } else { 0 };
        let from = start + zone.at(start) - slack;
        let day = Date::new(1970, 1, 1).unwrap() + from.div_euclid(86_400).days();
        let times = self.times();
        let mut found: BTreeSet<i64> = BTreeSet::new();
        let mut enough = i64::MAX;
        for date in day.series(1.day()).take_while(|date| *date <= last) {
            if midnight(date) > enough {
                break;
            }
            if !self.matches_date(date) {
                continue;
            }
            let midnight = midnight(date);
            for local in times.iter().map(|time| midnight + time) {
                if local < from {
                    continue;
                }
                if local > enough {
                    break;
                }
                let mut instants = BTreeSet::new();
                self.add_instants(zone, local, &mut instants);
                found.extend(instants.into_iter().filter(|at| *at > start));
                if enough == i64::MAX && !found.is_empty() {
                    enough = local + 9_000;
                    let change = changes.iter().any(|change| (change - local).abs() < 2 * 86_400);
                    if !near && !change {
                        return found.first().copied();
                    }
                }
            }
        }
        found.first().copied()
    }

    /// Whether the clock shows a matching time at an instant, for the first time or of an interval.
    pub(crate) fn matches_instant(&self, zone: &Offsets, at: i64) -> bool {
        let local = at + zone.at(at);
        let date = Date::new(1970, 1, 1).unwrap() + local.div_euclid(86_400).days();
        let time = local.rem_euclid(86_400) as u64;
        self.matches_date(date)
            && self.hours.contains(&(time / 3_600))
            && self.minutes.contains(&(time / 60 % 60))
            && self.seconds.contains(&(time % 60))
            && (self.interval || zone.instants(local).first() == Some(&at))
    }
}

/// Whether a date is the weekday nearest to a day of its month.
fn is_nearest_weekday(date: Date, wanted: u64) -> bool {
    let Ok(wanted) = date.with().day(wanted as i8).build() else {
        return false;
    };
    let free = |date: &Date| matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
    let near = [0, -1, 1, -2, 2].map(|days| wanted + days.days());
    near.into_iter().find(|near| near.month() == date.month() && !free(near)) == Some(date)
}

/// Local midnight as seconds since 1970 on the same clock.
pub(crate) fn midnight(date: Date) -> i64 {
    date.to_datetime(jiff::civil::Time::midnight())
        .to_zoned(TimeZone::UTC)
        .unwrap()
        .timestamp()
        .as_second()
}

/// The offsets of a zone, looked up every quarter of an hour.
pub(crate) struct Offsets {
    begin: i64,
    every_quarter: Vec<i64>,
    distinct: BTreeSet<i64>,
    /// The instants at which the offset changes.
    pub(crate) changes: Vec<i64>,
}

const QUARTER: i64 = 900;

impl Offsets {
    pub(crate) fn of(zone: &str, first: Date, last: Date) -> Offsets {
        let rules = TimeZone::get(zone).unwrap();
        let begin = midnight(first) - 2 * 86_400;
        let end = midnight(last) + 3 * 86_400;
        let every_quarter: Vec<i64> = (begin..end)
            .step_by(QUARTER as usize)
            .map(|at| i64::from(rules.to_offset(Timestamp::from_second(at).unwrap()).seconds()))
            .collect();
        let distinct = every_quarter.iter().copied().collect();
        let pairs = every_quarter.windows(2).enumerate();
        let changes = pairs
            .filter(|(_, pair)| pair[0] != pair[1])
            .map(|(index, _)| begin + (index as i64 + 1) * QUARTER)
            .collect();
        Offsets { begin, every_quarter, distinct, changes }
    }

    pub(crate) fn at(&self, at: i64) -> i64 {
        self.every_quarter[((at - self.begin) / QUARTER) as usize]
    }

    /// The instants at which the clock shows a local time, in their order.
    pub(crate) fn instants(&self, local: i64) -> Vec<i64> {
        let candidates = self.distinct.iter().rev().map(|offset| (local - offset, *offset));
        candidates.filter(|(at, offset)| self.at(*at) == *offset).map(|(at, _)| at).collect()
    }

    /// The first instant at which the clock is past a local time.
    fn end_of_gap(&self, local: i64) -> i64 {
        let from = (local - 30 * 3_600).div_euclid(QUARTER) * QUARTER;
        (from..).step_by(QUARTER as usize).find(|at| at + self.at(*at) > local).unwrap()
    }
}
