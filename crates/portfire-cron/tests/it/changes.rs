//! What a change of the clock does to occurrences: the examples of Cronos' README, and rarer changes.

use jiff::Timestamp;
use portfire_cron::{CronExpression, Zone};

/// The next occurrences after an instant, as the clock of the zone shows them.
fn next(text: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let (cron, zone) = (CronExpression::parse(text).unwrap(), Zone::parse(zone).unwrap());
    let from: Timestamp = from.parse().unwrap();
    cron.occurrences(from.as_microsecond(), &zone).take(count).map(|at| zone.rfc3339(at)).collect()
}

#[test]
fn a_fixed_time_in_a_gap_runs_when_the_gap_ends() {
    let found = next("30 2 * * *", "America/New_York", "2016-03-12T12:00:00Z", 2);
    assert_eq!(found, ["2016-03-13T03:00:00-04:00", "2016-03-14T02:30:00-04:00"]);
}

#[test]
fn an_interval_in_a_gap_runs_once_when_the_gap_ends() {
    let found = next("*/20 2,3 * * *", "America/New_York", "2016-03-13T06:50:00Z", 3);
    let expected =
        ["2016-03-13T03:00:00-04:00", "2016-03-13T03:20:00-04:00", "2016-03-13T03:40:00-04:00"];
    assert_eq!(found, expected);
}

#[test]
fn a_fixed_time_in_an_overlap_runs_in_the_first_pass_only() {
    let found = next("30 1 * * *", "America/New_York", "2016-11-06T04:59:59Z", 2);
    assert_eq!(found, ["2016-11-06T01:30:00-04:00", "2016-11-07T01:30:00-05:00"]);
    let found = next("0 0,45 1,2 * * *", "America/New_York", "2016-11-06T05:30:00Z", 3);
    let expected =
        ["2016-11-06T01:45:00-04:00", "2016-11-06T02:00:00-05:00", "2016-11-06T02:45:00-05:00"];
    assert_eq!(found, expected);
}

#[test]
fn an_interval_in_an_overlap_runs_in_both_passes() {
    let found = next("30 * * * *", "America/New_York", "2016-11-06T04:59:59Z", 3);
    let expected =
        ["2016-11-06T01:30:00-04:00", "2016-11-06T01:30:00-05:00", "2016-11-06T02:30:00-05:00"];
    assert_eq!(found, expected);
}

#[test]
fn asked_within_the_second_pass_a_fixed_time_is_past() {
    let found = next("45 1 * * *", "America/New_York", "2016-11-06T06:15:00Z", 1);
    assert_eq!(found, ["2016-11-07T01:45:00-05:00"]);
    let found = next("45 * * * *", "America/New_York", "2016-11-06T06:15:00Z", 1);
    assert_eq!(found, ["2016-11-06T01:45:00-05:00"]);
}

#[test]
fn half_an_hour_is_a_change_too() {
    let found = next("15 2 * * *", "Australia/Lord_Howe", "2017-09-30T12:00:00Z", 1);
    assert_eq!(found, ["2017-10-01T02:30:00+11:00"]);
    let found = next("*/15 1 * * *", "Australia/Lord_Howe", "2017-04-01T14:20:00Z", 4);
    let expected = [
        "2017-04-02T01:30:00+11:00",
        "2017-04-02T01:45:00+11:00",
        "2017-04-02T01:30:00+10:30",
        "2017-04-02T01:45:00+10:30",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_day_without_its_midnight_begins_with_the_gap() {
    let found = next("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", 2);
    assert_eq!(found, ["2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"]);
    // And the day in which 23:00 comes twice.
    let found = next("30 23 * * *", "America/Sao_Paulo", "2018-02-17T12:00:00Z", 2);
    assert_eq!(found, ["2018-02-17T23:30:00-02:00", "2018-02-18T23:30:00-03:00"]);
}

#[test]
fn a_day_that_a_zone_left_out_runs_when_it_is_over() {
    let found = next("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3);
    let expected =
        ["2011-12-29T12:00:00-10:00", "2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"];
    assert_eq!(found, expected);
}

#[test]
fn rules_reach_as_far_as_the_calendar() {
    let found = next("30 2 31 3 SUN", "Europe/Amsterdam", "2900-01-01T00:00:00Z", 1);
    assert_eq!(found, ["2909-03-31T03:00:00+02:00"]);
    let found = next("30 2 * 10 SUNL", "Europe/Amsterdam", "9000-01-01T00:00:00Z", 1);
    assert_eq!(found, ["9000-10-26T02:30:00+02:00"]);
}

#[test]
fn a_start_counts_when_it_is_asked_to() {
    let (cron, utc) = (CronExpression::parse("0 8 * * *").unwrap(), Zone::utc());
    let eight: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
    let (eight, day) = (eight.as_microsecond(), 86_400_000_000);
    assert_eq!(cron.next_from(eight, &utc), Some(eight));
    assert_eq!(cron.next_after(eight, &utc), Some(eight + day));
    assert_eq!(cron.next_from(eight + 1, &utc), Some(eight + day));
    assert_eq!(cron.next_after(eight - 1, &utc), Some(eight));
    assert_eq!(cron.next_from(eight - 1, &utc), Some(eight));
}

#[test]
fn names_of_zones_are_found_and_slips_are_answered() {
    for name in ["Europe/Amsterdam", "europe/amsterdam", " Europe/Amsterdam "] {
        let zone = Zone::parse(name).unwrap();
        assert_eq!(zone.name(), "Europe/Amsterdam");
        assert_eq!(zone, "Europe/Amsterdam".parse().unwrap());
        assert_eq!(zone.to_string(), "Europe/Amsterdam");
    }
    for name in ["UTC", "utc"] {
        assert_eq!(Zone::parse(name).unwrap(), Zone::utc());
    }
    assert_eq!(Zone::parse("Etc/UTC").unwrap().offset_at(0), 0);
    let refused = |name: &str| Zone::parse(name).unwrap_err().to_string();
    assert_eq!(
        refused("Amsterdam"),
        "`Amsterdam` is not a time zone; did you mean `Europe/Amsterdam`?"
    );
    assert_eq!(
        refused("new york"),
        "`new york` is not a time zone; did you mean `America/New_York`?"
    );
    assert_eq!(
        refused("Europe/Amsterdm"),
        "`Europe/Amsterdm` is not a time zone; did you mean `Europe/Amsterdam`?"
    );
    for name in ["", "Mars/Olympus_Mons", "W. Europe Standard Time", "+02:00", "../../etc/passwd"] {
        let message = refused(name);
        assert!(
            message.ends_with("write an IANA name, such as `Europe/Amsterdam` or `UTC`"),
            "{message}"
        );
    }
    let long = refused(&"Europe/".repeat(10_000));
    assert!(long.len() < 200, "{long}");
    assert!(!refused("a\0b\u{1b}[31m").contains('\u{1b}'));
}
