//! How long reading a text takes, and finding the next occurrence.
//!
//! `cargo run --release -p portfire-cron --example speed`

#![expect(clippy::print_stdout, reason = "a program prints its answer")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use portfire_cron::{CronExpression, Zone};

/// 2026-11-21T08:00:00Z.
const FROM: i64 = 1_795_248_000_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:44} {:>12}", "", "each");
    for text in ["* * * * *", "0 8 * * MON-FRI", "*/10 12-20 1-15 DEC-FEB TUE#2"] {
        report(&format!("parse {text}"), || {
            let _ = black_box(CronExpression::parse(black_box(text)));
        });
    }
    report("parse, refused: 0 24 * * *", || {
        let _ = black_box(CronExpression::parse(black_box("0 24 * * *")));
    });
    for name in ["UTC", "Europe/Amsterdam", "Australia/Lord_Howe"] {
        report(&format!("zone {name}"), || {
            let _ = black_box(Zone::parse(black_box(name)));
        });
    }
    for zone in [Zone::utc(), Zone::parse("Europe/Amsterdam")?] {
        for text in [
            "* * * * *",
            "0 8 * * MON-FRI",
            "*/10 12-20 1-15 DEC-FEB TUE#2",
            "0 3 L * *",
            "0 0 29 2 MON",
            "0 0 31 2 *",
            "0 0 7 * SUN#2",
        ] {
            let cron = CronExpression::parse(text)?;
            // Spread over a year, so that nothing is asked twice in a row.
            let mut from = FROM;
            report(&format!("next {text}, {zone}"), || {
                from += 31_536_000_000 * 7;
                if from > FROM + 31_536_000_000_000 {
                    from = FROM;
                }
                let _ = black_box(cron.next_after(black_box(from), &zone));
            });
        }
    }
    Ok(())
}

/// Prints the least mean of five runs.
fn report(what: &str, mut call: impl FnMut()) {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let begin = Instant::now();
        let mut rounds = 0;
        while begin.elapsed() < Duration::from_millis(40) {
            for _ in 0..100 {
                call();
            }
            rounds += 100;
        }
        least = least.min(begin.elapsed() / rounds);
    }
    println!("{what:44} {:>9} ns", least.as_nanos());
}
