//! Texts and instants that nobody should give.

use portfire_cron::{CronErrorKind, CronExpression, CronFormat, Zone};

use crate::random::{Random, expression};

/// Pieces that come close to a text.
const PIECES: [&str; 40] = [
    "*",
    "?",
    "-",
    ",",
    "/",
    "#",
    "L",
    "W",
    "H",
    "l",
    "w",
    "h",
    "0",
    "1",
    "5",
    "7",
    "9",
    "23",
    "31",
    "59",
    "60",
    "99",
    "100",
    "SUN",
    "mon",
    "FRI",
    "DEC",
    "jan",
    "@",
    "@daily",
    "@every_second",
    " ",
    " ",
    " ",
    " ",
    "\t",
    "\0",
    "é",
    "日",
    "\u{1F600}",
];

fn zone(name: &str) -> Zone {
    Zone::parse(name).unwrap()
}

/// Reads a text in a format and with a seed that its length chooses.
fn check(text: &str) {
    let formats = [CronFormat::Any, CronFormat::Minutes, CronFormat::Seconds, CronFormat::Any];
    let (format, seed) = (formats[text.len() % 4], [None, Some("seed")][text.len() / 4 % 2]);
    match CronExpression::read(text, format, seed) {
        Ok(cron) => {
            let again = CronExpression::read(cron.as_str(), format, seed).unwrap();
            assert_eq!(again, cron, "{text:?}");
            assert_eq!(again.as_str(), cron.as_str());
            assert!(!cron.describe().is_empty());
            let next = cron.next_after(0, &Zone::utc());
            assert!(next.is_none_or(|at| at > 0), "{text:?}");
        }
        Err(error) => {
            let span = error.span();
            assert!(error.text().get(span.clone()).is_some(), "{text:?}: {span:?}");
            assert!(text.starts_with(error.text()), "{text:?}");
            assert_eq!(error.to_string().lines().count(), 1, "{text:?}");
            let rendered = error.render();
            let lines: Vec<&str> = rendered.split('\n').collect();
            if error.kind() == CronErrorKind::Empty {
                assert_eq!(rendered, error.to_string());
                return;
            }
            assert_eq!(lines.len(), 3, "{rendered}");
            let carets = lines[2].trim_start();
            assert!(!carets.is_empty() && carets.chars().all(|c| c == '^'), "{rendered}");
            assert!(!rendered.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
            assert!(lines.iter().all(|line| line.chars().count() < 260), "{rendered}");
        }
    }
}

#[test]
fn no_random_text_causes_a_panic() {
    let mut random = Random::new(7);
    for _ in 0..150_000 {
        let length = random.between(0, 24);
        let text: String = (0..length).map(|_| random.pick(&PIECES)).collect();
        check(&text);
    }
}

#[test]
fn no_change_of_a_good_text_causes_a_panic() {
    let mut random = Random::new(8);
    for _ in 0..20_000 {
        let (mut text, _) = expression(&mut random);
        for _ in 0..random.between(1, 3) {
            let at = random.between(0, text.chars().count() as u64) as usize;
            let begin: String = text.chars().take(at).collect();
            let end: String = text.chars().skip(at + usize::from(random.one_in(2))).collect();
            text = format!("{begin}{}{end}", random.pick(&PIECES));
        }
        check(&text);
    }
}

#[test]
fn no_random_bytes_cause_a_panic() {
    let mut random = Random::new(9);
    for _ in 0..30_000 {
        let length = random.between(0, 40);
        let text: String = (0..length)
            .filter_map(|_| char::from_u32(random.between(0, 0x2_FFFF) as u32))
            .collect();
        check(&text);
    }
}

#[test]
fn long_texts_are_refused_by_their_length() {
    for text in ["*".repeat(10_000), "1,".repeat(600) + "1 * * * *", "é".repeat(5_000)] {
        check(&text);
        let error = CronExpression::parse(&text).unwrap_err();
        assert_eq!(error.kind().as_str(), "too_long");
        assert!(error.to_string().contains("at most 1024 are allowed"), "{error}");
        assert!(error.text().len() <= 120, "the text is not kept whole");
    }
    let longest =
        |last: u8| (0..=last).map(|value| value.to_string()).collect::<Vec<_>>().join(",");
    let long = format!("{} {} {} * * *", longest(59), longest(59), longest(23));
    assert_eq!(CronExpression::parse(&long).unwrap().describe(), "every second");
}

#[test]
fn instants_beyond_the_calendar_are_answered() {
    let texts = ["* * * * *", "* * * * * *", "0 8 * * MON-FRI", "0 0 29 2 *", "0 0 31 2 *"];
    let zones = ["UTC", "Europe/Amsterdam", "Pacific/Kiritimati", "Pacific/Niue"];
    for zone in zones.map(|name| Zone::parse(name).unwrap()) {
        for cron in texts.map(|text| CronExpression::parse(text).unwrap()) {
            let first = cron.next_after(i64::MIN, &zone);
            assert_eq!(first.is_some(), cron.is_reachable());
            assert_eq!(cron.next_from(i64::MIN, &zone), first);
            assert_eq!(cron.next_after(i64::MAX, &zone), None);
            assert_eq!(cron.next_from(i64::MAX, &zone), None);
            for from in [-62_135_596_800_000_000, 253_402_207_199_000_000, 253_402_300_799_000_000]
            {
                for from in from - 2..from + 3 {
                    let _ = (cron.next_after(from, &zone), cron.next_from(from, &zone));
                }
            }
        }
    }
}

#[test]
fn the_calendar_has_a_first_and_a_last_second() {
    let cron = CronExpression::parse("* * * * * *").unwrap();
    let utc = Zone::utc();
    let (first, last) = (-62_135_596_800_000_000, 253_402_300_799_000_000);
    assert_eq!(cron.next_after(i64::MIN, &utc), Some(first));
    assert_eq!(cron.next_from(first, &utc), Some(first));
    assert_eq!(cron.next_after(first, &utc), Some(first + 1_000_000));
    assert_eq!(cron.next_after(last - 1, &utc), Some(last));
    assert_eq!(cron.next_after(last, &utc), None);
    assert_eq!(utc.rfc3339(i64::MIN), "0001-01-01T00:00:00Z");
    assert_eq!(utc.rfc3339(last), "9999-12-31T23:59:59Z");
    // Where the clock is ahead, it is the clock that ends; where it is behind, the calendar does.
    let (ahead, behind) = (zone("Pacific/Kiritimati"), zone("Pacific/Niue"));
    let ends = cron.occurrences(last - 15 * 3_600_000_000, &ahead).last().unwrap();
    assert_eq!(ahead.rfc3339(ends), "9999-12-31T23:59:59+14:00");
    assert_eq!(ahead.rfc3339(last), "9999-12-31T23:59:59.999999+14:00");
    assert_eq!(
        behind.rfc3339(cron.next_after(last - 1, &behind).unwrap()),
        "9999-12-31T12:59:59-11:00"
    );
    let begins = cron.next_after(i64::MIN, &behind).unwrap();
    assert!(begins > first && behind.rfc3339(begins).starts_with("0001-01-01T00:00:00-"));
    assert_eq!(cron.next_after(i64::MIN, &zone("Asia/Tokyo")), Some(first));
}
