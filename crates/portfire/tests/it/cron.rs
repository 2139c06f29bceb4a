//! `cron!`: texts that are checked while the program is compiled.

use portfire::cron::{CronExpression, Zone};
use portfire::prelude::*;

const NIGHTLY: CronExpression = cron!("0  3 * * mon-fri");
static SEEDED: CronExpression = cron!("H H * * *", seed = "daily-report",);

#[test]
fn a_checked_text_is_the_same_as_a_parsed_one() {
    let checked = [
        NIGHTLY,
        cron!("*/10 12-20 1-15 DEC-FEB TUE#2"),
        cron!("30 0 0 L-3W * ?"),
        cron!("0 0 15W * *"),
        cron!("0 0 * * 5L"),
        cron!("0 0 * * FRI#2"),
        cron!("@every_second"),
        cron!("59 59 23 31 12 7", crate = portfire),
    ];
    for cron in checked {
        let parsed = CronExpression::parse(cron.as_str()).unwrap();
        assert_eq!(cron, parsed);
        assert_eq!(cron.describe(), parsed.describe());
        let (from, zone) = (1_795_248_000_000_000, Zone::parse("Europe/Amsterdam").unwrap());
        assert!(cron.next_after(from, &zone).is_some());
        assert_eq!(cron.next_after(from, &zone), parsed.next_after(from, &zone));
    }
    assert_eq!(NIGHTLY.as_str(), "0 3 * * MON-FRI");
}

#[test]
fn a_seed_chooses_as_it_does_at_run_time() {
    let parsed = CronExpression::parse_seeded("H H * * *", "daily-report").unwrap();
    assert_eq!(SEEDED, parsed);
    assert_eq!(SEEDED.as_str(), "15 18 * * *");
}
