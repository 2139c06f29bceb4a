//! Three years of recurring jobs, through every change of the clock in twelve zones: stored, due, planned
//! and fired in virtual time, and compared with what a look at every quarter of an hour says.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp as Instant;
use jiff::tz::TimeZone;
use portfire_core::client::block_on;
use portfire_core::recurring::plan;
use portfire_core::{
    Fired, JobId, Json, KindName, ManualClock, MemoryStorage, NewRecurring, RecurringChange,
    RecurringId, Schedule, Storage, Timestamp,
};

/// Both hemispheres, half hours, quarters, a change at midnight, one of two hours, zones without any.
const ZONES: [&str; 12] = [
    "UTC",
    "Europe/Amsterdam",
    "Europe/Dublin",
    "America/New_York",
    "America/St_Johns",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Pacific/Chatham",
];

const QUARTER: i64 = 15 * 60;

#[test]
fn three_years_of_recurring_jobs_fire_as_a_look_at_every_quarter_of_an_hour_says() {
    let start: Instant = "2025-01-01T12:00:00Z".parse().unwrap();
    let end: Instant = "2028-01-01T12:00:00Z".parse().unwrap();
    for name in ZONES {
        let zone = TimeZone::get(name).unwrap();
        let wall = Wall::of(&zone, start, end);
        // Times that lie in gaps and overlaps: each hour of the night, one early in the morning, midnight.
        let schedules = [
            ("0 22-5 * * *", wall.hours(start, end)),
            ("30 2 * * *", wall.days((2, 30), start, end)),
            ("0 0 * * *", wall.days((0, 0), start, end)),
        ];
        let fired = walk(name, schedules.each_ref().map(|(text, _)| *text), start, end);
        for ((text, expected), fired) in schedules.iter().zip(fired) {
            let first_wrong =
                expected.iter().zip(&fired).find(|(expected, fired)| expected != fired);
            assert!(
                expected.len() == fired.len() && first_wrong.is_none(),
                "{text} in {name}: {} instants, {} expected, first other {first_wrong:?}",
                fired.len(),
                expected.len()
            );
        }
    }
}

/// What is fired for each text until the end, by whoever looks at each instant at which something is due.
fn walk(zone: &str, texts: [&str; 3], start: Instant, end: Instant) -> [Vec<i64>; 3] {
    let clock = Arc::new(ManualClock::default());
    clock.set(Timestamp::from_micros(start.as_microsecond()));
    let storage = MemoryStorage::with_clock(Arc::clone(&clock) as _);
    for text in texts {
        let schedule = Schedule::Cron { text: text.to_owned(), zone: zone.to_owned() };
        let id = RecurringId::new(text).unwrap();
        let new = NewRecurring::new(id, schedule, KindName::stored("k"), Json::empty());
        block_on(storage.change_recurring(RecurringChange::Upsert(Box::new(new)))).unwrap();
    }
    let mut planned: [Vec<i64>; 3] = Default::default();
    loop {
        let due = block_on(storage.due_recurring(10)).unwrap();
        if due.due.is_empty() {
            let now = due.now.saturating_add(due.next_in.unwrap_or(Duration::MAX));
            if now > Timestamp::from_micros(end.as_microsecond()) {
                return planned;
            }
            clock.set(now);
            continue;
        }
        let plans: Vec<_> = due.due.iter().map(|record| plan(record, due.now)).collect();
        let fired = block_on(storage.fire(plans)).unwrap();
        for (record, fired) in due.due.iter().zip(fired) {
            let id = &record.definition.id;
            let at = texts.iter().position(|text| *text == id.as_str()).unwrap();
            let instant = record.next_at.unwrap();
            // One job, of that instant, and never one that was there already.
            let job = JobId::of_occurrence(id, instant);
            assert_eq!(fired, Fired::Applied { jobs: vec![job] });
            planned[at].push(instant.as_micros() / 1_000_000);
        }
    }
}

/// What a clock on the wall shows at every quarter of an hour, in seconds.
struct Wall {
    first: i64,
    shows: Vec<i64>,
}

impl Wall {
    /// With three days more at both ends.
    fn of(zone: &TimeZone, start: Instant, end: Instant) -> Wall {
        let first = start.as_second() - 3 * 86_400;
        let quarters = (first..=end.as_second() + 3 * 86_400).step_by(QUARTER as usize);
        let shows = |second: i64| {
            second + i64::from(zone.to_offset(Instant::from_second(second).unwrap()).seconds())
        };
        Wall { first, shows: quarters.map(shows).collect() }
    }

    fn second(&self, at: usize) -> i64 {
        self.first + at as i64 * QUARTER
    }

    /// Every instant after `start` at which it shows a full hour from ten in the evening to five in the
    /// morning; where a change of the clock leaves one out, the first instant after the change.
    fn hours(&self, start: Instant, end: Instant) -> Vec<i64> {
        let shown = self.shows.windows(2).enumerate();
        let counts = shown.filter(|(_, pair)| {
            let full = pair[1] - pair[1].rem_euclid(3_600);
            let is_night = !(6..22).contains(&(full.rem_euclid(86_400) / 3_600));
            is_night && (full == pair[1] || (pair[1] - pair[0] > QUARTER && full > pair[0]))
        });
        let seconds = counts.map(|(at, _)| self.second(at + 1));
        seconds.filter(|at| (start.as_second() + 1..=end.as_second()).contains(at)).collect()
    }

    /// The first instant of each day at which it shows the time; when it never does, the first one at
    /// which it shows a later time.
    fn days(&self, (hour, minute): (i64, i64), start: Instant, end: Instant) -> Vec<i64> {
        let time = hour * 3_600 + minute * 60;
        let mut instants = Vec::new();
        let days = self.shows[0].div_euclid(86_400) + 1..self.shows[self.shows.len() - 1] / 86_400;
        for wanted in days.map(|day| day * 86_400 + time) {
            // No zone is further than 15 hours from UTC.
            let from = usize::try_from((wanted - 15 * 3_600 - self.first) / QUARTER).unwrap_or(0);
            let around = &self.shows[from..self.shows.len().min(from + 33 * 4)];
            let exact = around.iter().position(|shows| *shows == wanted);
            let found = exact.or_else(|| around.iter().position(|shows| *shows > wanted));
            instants.extend(found.map(|at| self.second(from + at)));
        }
        instants.retain(|at| (start.as_second() + 1..=end.as_second()).contains(at));
        instants
    }
}
