//! Times as people read them: `2026-11-21T08:00:01Z`.

use portfire_core::Timestamp;

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
    fn instants_are_shown_to_the_second() {
        let at: Timestamp = "2026-11-21T08:00:01.999999Z".parse().unwrap();
        assert_eq!(seconds(at), "2026-11-21T08:00:01Z");
    }
}
