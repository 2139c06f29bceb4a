//! Times as people write and read them: `90s`, `1h30m`, `2026-11-21T08:00:01Z`.

use std::time::Duration;

use portfire_core::Timestamp;

/// The units of durations, the largest first, in milliseconds.
const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A duration as [`parse`](portfire_core::duration::parse) reads it; what is shorter than a millisecond is left out.
pub(crate) fn words(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in UNITS {
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// An instant without its fraction of a second.
pub(crate) fn seconds(at: Timestamp) -> String {
    Timestamp::from_micros(at.as_micros() - at.as_micros() % 1_000_000)
        .to_string()
        .replace(".000000", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["10m", "1h30m", "1d2h", "500ms", "0s", "2w", "1w1d1h1m1s1ms"] {
            assert_eq!(words(portfire_core::duration::parse(text).unwrap()), text);
        }
        assert_eq!(words(Duration::from_micros(1_999)), "1ms");
    }

    #[test]
    fn instants_are_shown_to_the_second() {
        let at: Timestamp = "2026-11-21T08:00:01.999999Z".parse().unwrap();
        assert_eq!(seconds(at), "2026-11-21T08:00:01Z");
    }
}
