//! Three years of recurring expressions in many zones, and random ones, against the oracle.

use std::collections::BTreeSet;

use jiff::civil::{Date, date};
use portfire_cron::{CronExpression, Zone};

use crate::oracle::{Day, Meaning, Offsets, Weekdays, midnight};
use crate::random::{Random, expression};

/// Both hemispheres; changes by an hour, by half an hour and by two; at midnight and in the afternoon
/// of the day before; twice a year for a month; odd offsets, and none at all.
const ZONES: [&str; 14] = [
    "Europe/Amsterdam",
    "Europe/Dublin",
    "America/New_York",
    "America/Havana",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/Nuuk",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
];
const FIRST: Date = date(2025, 1, 1);
const LAST: Date = date(2027, 12, 31);

fn meaning(minutes: &[u64], hours: &[u64], interval: bool) -> Meaning {
    Meaning {
        seconds: vec![0],
        minutes: minutes.to_vec(),
        hours: hours.to_vec(),
        day: Day::Listed((1..=31).collect()),
        months: (1..=12).collect(),
        weekdays: Weekdays::Listed((0..=6).collect()),
        interval,
    }
}

/// Expressions that run some times a day.
fn recurring() -> Vec<(&'static str, Meaning)> {
    let all_hours: Vec<u64> = (0..24).collect();
    let odd: Vec<u64> = (1..24).step_by(2).collect();
    let workdays = Weekdays::Listed((1..=5).collect());
    vec![
        ("0 8 * * MON-FRI", Meaning { weekdays: workdays, ..meaning(&[0], &[8], false) }),
        ("0 0 * * *", meaning(&[0], &[0], false)),
        ("30 0,1,2,3 * * *", meaning(&[30], &[0, 1, 2, 3], false)),
        ("15 0,23 * * *", meaning(&[15], &[0, 23], false)),
        ("45 1-3 * * *", meaning(&[45], &[1, 2, 3], true)),
        ("0,30 1/2 * * *", meaning(&[0, 30], &odd, true)),
        ("0 * * * *", meaning(&[0], &all_hours, true)),
        (
            "30 2 * * SUN#5",
            Meaning { weekdays: Weekdays::Nth(0, 5), ..meaning(&[30], &[2], false) },
        ),
        ("30 1 * * 0L", Meaning { weekdays: Weekdays::Last(0), ..meaning(&[30], &[1], false) }),
        (
            "30 23 LW * *",
            Meaning {
                day: Day::Last { before: 0, nearest_weekday: true },
                ..meaning(&[30], &[23], false)
            },
        ),
    ]
}

/// Seconds of the occurrences between two instants, asked for one after the other.
fn asked(cron: &CronExpression, zone: &Zone, from: i64, until: i64) -> BTreeSet<i64> {
    let after = (from - 1) * 1_000_000;
    let seconds = cron.occurrences(after, zone).map(|at| at / 1_000_000);
    seconds.take_while(|at| *at < until).collect()
}

#[test]
fn three_years_in_many_zones_are_those_of_the_oracle() {
    for name in ZONES {
        let (zone, offsets) = (Zone::parse(name).unwrap(), Offsets::of(name, FIRST, LAST));
        for (text, meaning) in recurring() {
            let cron = CronExpression::parse(text).unwrap();
            // Days at either end are left out: their neighbours would count, too.
            let (from, until) = (midnight(FIRST) + 2 * 86_400, midnight(LAST) - 86_400);
            let mut expected = meaning.occurrences(&offsets, FIRST, LAST);
            expected.retain(|at| (from..until).contains(at));
            assert!(expected.len() >= 12, "{text} in {name}");
            let found = asked(&cron, &zone, from, until);
            let wrong: Vec<_> = found.symmetric_difference(&expected).take(3).collect();
            assert!(wrong.is_empty(), "{text} in {name}: {wrong:?}");
        }
    }
}

#[test]
fn frequent_expressions_pass_every_change_of_the_clock_as_the_oracle_does() {
    let all_minutes: Vec<u64> = (0..60).collect();
    let all_hours: Vec<u64> = (0..24).collect();
    let quarters = [0, 15, 30, 45];
    let in_hours = meaning(&all_minutes, &[1, 2], true);
    let seconds = Meaning { seconds: vec![0, 59], ..meaning(&quarters, &all_hours, true) };
    let dense = [
        ("* * * * *", meaning(&all_minutes, &all_hours, true)),
        ("*/15 * * * *", meaning(&quarters, &all_hours, true)),
        ("* 1,2 * * *", in_hours),
        ("0,59 */15 * * * *", seconds),
    ];
    let mut changes = 0;
    for name in ZONES {
        let (zone, offsets) = (Zone::parse(name).unwrap(), Offsets::of(name, FIRST, LAST));
        for change in offsets.changes.iter().copied() {
            changes += 1;
            let day = date(1970, 1, 1) + jiff::ToSpan::days(change.div_euclid(86_400));
            if day <= FIRST || day >= LAST {
                continue;
            }
            let around = jiff::ToSpan::days(2);
            let (from, until) = (change - 5 * 3_600, change + 5 * 3_600);
            for (text, meaning) in &dense {
                let cron = CronExpression::parse(text).unwrap();
                let mut expected = meaning.occurrences(&offsets, day - around, day + around);
                expected.retain(|at| (from..until).contains(at));
                assert_eq!(asked(&cron, &zone, from, until), expected, "{text} in {name}");
            }
        }
    }
    assert!(changes >= 60, "the zones change {changes} times");
}

#[test]
fn random_expressions_are_those_of_the_oracle() {
    let mut random = Random::new(0x5EED);
    let zones: Vec<(Zone, Offsets)> = ZONES
        .into_iter()
        .map(|name| (Zone::parse(name).unwrap(), Offsets::of(name, FIRST, LAST)))
        .collect();
    let (mut found, mut none) = (0, 0);
    for round in 0..2_000 {
        let (text, meaning) = expression(&mut random);
        let cron = CronExpression::parse(&text).unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(cron.is_interval(), meaning.interval, "{text}");
        let (zone, offsets) = &zones[random.between(0, zones.len() as u64 - 1) as usize];
        // Half of the questions are asked near a change of the clock.
        let changes = &offsets.changes;
        let start = if round % 2 == 0 && !changes.is_empty() {
            let change = changes[random.between(0, changes.len() as u64 - 1) as usize];
            (change - 7_200 + random.between(0, 14_400) as i64).max(midnight(FIRST) + 172_800)
        } else {
            midnight(FIRST) + 172_800 + random.between(0, 600 * 86_400) as i64
        };
        let next = cron.next_after(start * 1_000_000, zone).map(|at| at / 1_000_000);
        let known = meaning.first_after(offsets, start, LAST - jiff::ToSpan::days(2));
        match known {
            Some(_) => assert_eq!(next, known, "{text} in {zone} after {start}"),
            None => {
                let later = |at| at >= midnight(LAST) - 2 * 86_400;
                assert!(next.is_none_or(later), "{text} in {zone} after {start}: {next:?}");
            }
        }
        found += usize::from(known.is_some());
        none += usize::from(next.is_none());
        assert_eq!(cron.is_reachable(), next.is_some(), "{text}");

        let at_start = meaning.matches_instant(offsets, start);
        let inclusive = cron.next_from(start * 1_000_000, zone).map(|at| at / 1_000_000);
        let expected = if at_start { Some(start) } else { next };
        assert_eq!(inclusive, expected, "{text} in {zone} from {start}");
        if let Some(next) = known.filter(|next| meaning.matches_instant(offsets, *next)) {
            let itself = cron.next_from(next * 1_000_000, zone);
            assert_eq!(itself, Some(next * 1_000_000), "{text} in {zone} from {next}");
        }
    }
    assert!(found > 1_000 && none > 50, "found {found}, unreachable {none}");
}
