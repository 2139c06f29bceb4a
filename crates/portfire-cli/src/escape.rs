//! Stored text on its way to a terminal.
//!
//! Names, arguments and error messages come from whoever enqueued a job. A terminal obeys control
//! characters in them (it can be made to overwrite lines, retitle its window, or answer on its
//! input), so none reaches it: they are written as `\u{1b}` in plain output and as `\u001b` in JSON.

use std::fmt::Write;

/// The text with nothing in it that a terminal obeys, on one line.
pub fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c if is_obeyed(c) => _ = write!(safe, "{}", c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

/// A JSON text with nothing in it that a terminal obeys, on one line, and the same value.
///
/// Valid JSON has raw control characters only between its tokens, where a space says the same.
pub fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_ascii_control() && c != '\u{7f}' => safe.push(' '),
            // All of these have one UTF-16 unit.
            c if is_obeyed(c) => _ = write!(safe, "\\u{:04x}", u32::from(c)),
            c => safe.push(c),
        }
    }
    safe
}

/// Control characters, and those that reorder or break the line.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{feff}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that did harm somewhere: colours, window titles, cursor moves, hyperlinks, bells, device
    /// queries, eight-bit controls, line forgery, and reordered text.
    const CORPUS: [&str; 12] = [
        "\u{1b}[31mred\u{1b}[0m",
        "\u{1b}]0;title\u{7}",
        "\u{1b}[2J\u{1b}[1;1H",
        "\u{1b}]8;;http://example.com\u{1b}\\link\u{1b}]8;;\u{1b}\\",
        "\u{1b}[6n",
        "\u{9b}31m",
        "fine\r\nFAILED fake line",
        "over\rwritten",
        "\u{8}\u{8}\u{7f}",
        "a\u{0}b",
        "user\u{202e}gpj.exe",
        "\u{2066}x\u{2069}\u{2028}y",
    ];

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for text in CORPUS {
            let safe = plain(text);
            assert!(!safe.chars().any(is_obeyed), "{safe:?}");
        }
        assert_eq!(plain("fine\r\nnext \u{1b}[0m"), "fine\\r\\nnext \\u{1b}[0m");
        assert_eq!(plain("naïve – 日本語 🎉"), "naïve – 日本語 🎉");
    }

    #[test]
    fn json_keeps_its_value() {
        for text in CORPUS {
            let encoded = serde_json::to_string(&[text]).unwrap();
            let safe = json(&encoded);
            assert!(!safe.chars().any(is_obeyed), "{safe:?}");
            assert_eq!(serde_json::from_str::<[String; 1]>(&safe).unwrap()[0], text);
        }
        assert_eq!(json("{\r\n\t\"a\": 1}"), "{   \"a\": 1}");
    }
}
