//! The facts of Cronos: `tests/data/cron-vectors.jsonl`, taken from the tests of HangfireIO/Cronos
//! (MIT licence).

use jiff::Timestamp;
use portfire_cron::{CronExpression, CronFormat, Zone};
use serde_json::Value;

const VECTORS: &str = include_str!("../data/cron-vectors.jsonl");

fn vectors(kind: &str) -> Vec<Value> {
    let rows = VECTORS.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["kind"] == kind).collect()
}

fn text(row: &Value) -> (&str, CronFormat) {
    let seconds = row["seconds"].as_bool().unwrap();
    (row["expr"].as_str().unwrap(), if seconds { CronFormat::Seconds } else { CronFormat::Minutes })
}

#[test]
fn every_occurrence_is_that_of_cronos() {
    let rows = vectors("next");
    assert_eq!(rows.len(), 285);
    for row in &rows {
        let (text, format) = text(row);
        let cron = CronExpression::parse_format(text, format).unwrap();
        assert_eq!(CronExpression::parse(text).unwrap(), cron, "read in any format: {row}");
        let zone = Zone::parse(row["zone"].as_str().unwrap()).unwrap();
        let from: Timestamp = row["from"].as_str().unwrap().parse().unwrap();
        // Some instants are finer than a microsecond: then the microsecond itself is past.
        let whole = from.as_nanosecond() % 1_000 == 0;
        let micros = from.as_nanosecond().div_euclid(1_000) as i64;
        let inclusive = row["inclusive"].as_bool().unwrap() && whole;
        let next =
            if inclusive { cron.next_from(micros, &zone) } else { cron.next_after(micros, &zone) };
        let expected = row["expect"].as_str().map(|at| at.parse::<Timestamp>().unwrap());
        assert_eq!(next.map(|at| Timestamp::from_microsecond(at).unwrap()), expected, "{row}");
    }
}

#[test]
fn every_text_that_cronos_refuses_is_refused_with_its_field() {
    let rows = vectors("bad");
    assert_eq!(rows.len(), 79);
    for row in &rows {
        let (text, format) = text(row);
        let error = CronExpression::parse_format(text, format).unwrap_err();
        if !text.contains('@') {
            let field = error.field().unwrap_or_else(|| panic!("{row}: {error}"));
            assert!(error.to_string().starts_with(field.name()), "{row}: {error}");
        }
        assert!(CronExpression::parse(text).is_err() || text.split(' ').count() == 5, "{row}");
    }
}
