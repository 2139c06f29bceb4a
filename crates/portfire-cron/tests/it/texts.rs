//! Texts that are read: their forms, and what is the same.

use std::collections::HashSet;

use portfire_cron::{CronExpression, Weekday, Zone};

fn parse(text: &str) -> CronExpression {
    CronExpression::parse(text).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn what_means_the_same_is_equal() {
    let same = [
        ("* * * * *", "0/2,1/2 * * * *"),
        ("* * * * *", "50-49 * * * *"),
        ("* * * * *", "* 0/3,2/3,1/3 * * *"),
        ("* * * * *", "* * 5-4 * *"),
        ("* * * * *", "* * * 12-11 *"),
        ("* * * * *", "* * * * SUN/2,MON/2"),
        ("* * * * *", "* * * * MON-SUN"),
        ("* * * * *", "0 * * * * *"),
        ("* * * * 0", "* * * * 7"),
        ("* * * * 0L", "* * * * 7L"),
        ("* * * * 5-2", "* * * * 0-2,5-7"),
        ("50-15 * * * *", "0-15,50-59 * * * *"),
        ("* 10,22-3/2 * * *", "* 0,2,10,22 * * *"),
        ("* * 10,29-3/2 * *", "* * 2,10,29,31 * *"),
        ("* * * 10,11-3/2 *", "* * * 1,3,10,11 *"),
        ("* * * * 3,6-2/3", "* * * * 2,3,6"),
        ("* * * * 7-3/2", "* * * * 0-3/2"),
        ("* * L-0W * *", "* * LW * *"),
        ("* * 05 * fri", "* * 5 * FRI"),
        ("? ? ? ? ?", "* * * * *"),
        ("?/5 * * * *", "*/5 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@MIDNIGHT", "@daily"),
        ("@hourly", "0 * * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "@yearly"),
        ("@every_minute", "* * * * *"),
        ("@every_second", "* * * * * *"),
    ];
    for (left, right) in same {
        assert_eq!(parse(left), parse(right), "{left} and {right}");
        assert_eq!(HashSet::from([parse(left), parse(right)]).len(), 1, "{left} and {right}");
    }
    let other = [
        ("1 1 1 1 1", "2 1 1 1 1"),
        ("* * 31 1 *", "* * L 1 *"),
        ("* * L * *", "* * LW * *"),
        ("* * LW * *", "* * L-1W * *"),
        ("* * * * 0", "* * * * 0L"),
        ("* * * * 0#1", "* * * * 0#2"),
        // Times of their own do not run twice when the clock goes back; a range does.
        ("0 1,2,3 * * *", "0 1-3 * * *"),
    ];
    for (left, right) in other {
        assert_ne!(parse(left), parse(right), "{left} and {right}");
    }
}

#[test]
fn the_text_is_kept_with_single_blanks_and_capital_letters() {
    for (text, normal) in [
        ("  0\t8  *   * mon-Fri ", "0 8 * * MON-FRI"),
        ("0 0 l-3w jan ?", "0 0 L-3W JAN ?"),
        (" @Daily ", "@daily"),
    ] {
        let cron = parse(text);
        assert_eq!((cron.as_str(), cron.to_string().as_str()), (normal, normal));
        assert_eq!(format!("{cron:?}"), format!("CronExpression({normal:?})"));
        assert_eq!(normal.parse::<CronExpression>().unwrap(), cron);
    }
}

#[test]
fn intervals_are_told_from_fixed_times() {
    for text in
        ["* 8 * * *", "0 */2 * * *", "0 8-10 * * *", "5/15 8 * * *", "0 0 1-1 * * *", "0 ? * * *"]
    {
        assert!(parse(text).is_interval(), "{text}");
    }
    for text in ["0 8 * * *", "0,30 8,12 * * *", "0 8 1-5 */2 MON-FRI", "15 0 8 L * *"] {
        assert!(!parse(text).is_interval(), "{text}");
    }
}

#[test]
fn the_helpers_are_those_of_hangfire() {
    let text = |cron: Result<CronExpression, _>| cron.map(|cron: CronExpression| cron.to_string());
    assert_eq!(CronExpression::minutely().as_str(), "* * * * *");
    assert_eq!(CronExpression::minutely(), parse("* * * * *"));
    assert_eq!(text(CronExpression::hourly(5)).unwrap(), "5 * * * *");
    assert_eq!(text(CronExpression::daily(8, 30)).unwrap(), "30 8 * * *");
    assert_eq!(text(CronExpression::weekly(Weekday::Monday, 8, 30)).unwrap(), "30 8 * * 1");
    assert_eq!(text(CronExpression::monthly(15, 8, 30)).unwrap(), "30 8 15 * *");
    assert_eq!(text(CronExpression::yearly(12, 24, 8, 30)).unwrap(), "30 8 24 12 *");
    assert_eq!(CronExpression::never().as_str(), "0 0 31 2 *");
    assert_eq!(CronExpression::never(), parse("0 0 31 2 *"));
    assert_eq!(CronExpression::never().next_after(0, &Zone::utc()), None);
    let refused = |cron: Result<CronExpression, _>| text(cron).unwrap_err().to_string();
    assert!(refused(CronExpression::hourly(60)).starts_with("minute: `60`"));
    assert!(refused(CronExpression::daily(24, 0)).starts_with("hour: `24`"));
    assert!(refused(CronExpression::weekly(Weekday::Sunday, 8, 255)).starts_with("minute: `255`"));
    assert!(refused(CronExpression::monthly(0, 8, 0)).starts_with("day of month: `0`"));
    assert!(refused(CronExpression::yearly(13, 1, 8, 0)).starts_with("month: `13`"));
}

#[test]
fn a_seed_chooses_the_same_values_for_ever() {
    let described = |text, seed| CronExpression::parse_seeded(text, seed).unwrap().describe();
    assert_eq!(described("H H * * *", "daily-report"), "every day at 18:15");
    assert_eq!(described("H H * * *", "nightly-clean"), "every day at 20:41");
    assert_eq!(described("H/15 * * * *", "daily-report"), "every 15 minutes from minute 3");
    // A change of one field moves no other one.
    assert_eq!(described("H 9 * * MON", "daily-report"), "every Monday at 09:15");
    // The text has the chosen values, and needs the seed no more.
    for (text, chosen) in [
        ("h H * * *", "15 18 * * *"),
        ("H/15 8 H/9 * H/2", "3/15 8 1-28/9 * 1-6/2"),
        ("H H/6 H H/5 H * ", "51 1/6 18 1-28/5 12 *"),
    ] {
        let cron = CronExpression::parse_seeded(text, "daily-report").unwrap();
        assert_eq!(cron.as_str(), chosen);
        assert_eq!(parse(chosen), cron, "{text}");
    }
    // Without an `H` a seed changes nothing.
    for text in ["@daily", "0 8 * * *"] {
        assert_eq!(CronExpression::parse_seeded(text, "any").unwrap(), parse(text));
    }
}

#[test]
fn seeds_stay_within_every_month_and_spread() {
    let utc = Zone::utc();
    let mut first_minutes = HashSet::new();
    for index in 0..500 {
        let seed = format!("job-{index}");
        let monthly = CronExpression::parse_seeded("H H H H * *", &seed).unwrap();
        // Once in each month of 2026.
        let year = monthly.occurrences(1_767_225_599_000_000, &utc);
        let year = year.take_while(|at| *at < 1_798_761_600_000_000);
        assert_eq!(year.count(), 12, "{}", monthly.describe());
        let weekly = CronExpression::parse_seeded("0 0 * * H", &seed).unwrap();
        assert!(weekly.describe().starts_with("every "), "{}", weekly.describe());
        let step = CronExpression::parse_seeded("H/7 * H/28 * H/7", &seed).unwrap();
        assert!(step.is_reachable() && step.is_interval());
        let hourly = CronExpression::parse_seeded("H * * * *", &seed).unwrap();
        first_minutes.insert(hourly.next_after(0, &utc));
    }
    assert_eq!(first_minutes.len(), 60, "every minute is chosen for some");
}
