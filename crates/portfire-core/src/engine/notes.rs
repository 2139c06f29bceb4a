//! What running jobs say: which lines, bars, tags and metadata of it are kept.
//!
//! What is over a bound is dropped, silently: a job never fails by what it says. The bounds are in
//! [`notes`](crate::notes) and [`job`](crate::job).

use std::fmt;
use std::str::FromStr;

use crate::job::{Json, TAG_BYTES_MAX, TAGS_MAX};
use crate::notes::{
    BAR_BYTES_MAX, BARS_MAX, LINE_BYTES_MAX, LOG_BYTES_MAX, NOTED_KEYS_MAX, NOTED_VALUE_BYTES_MAX,
    Progress,
};

/// The part of a line that is kept: up to [`LINE_BYTES_MAX`], and to the end of a character.
pub fn cut(line: &str) -> &str {
    if line.len() <= LINE_BYTES_MAX {
        return line;
    }
    let border = (0..=LINE_BYTES_MAX).rev().find(|&at| line.is_char_boundary(at));
    &line[..border.unwrap_or(0)]
}

/// Takes a line into the log of an attempt that has used so many bytes, and counts it there. `None` when it
/// would bring the attempt over its bound; a shorter one may still fit.
pub fn take_line<'a>(used: &mut usize, line: &'a str) -> Option<&'a str> {
    let line = cut(line);
    let with = used.saturating_add(line.len());
    if with > LOG_BYTES_MAX {
        return None;
    }
    *used = with;
    Some(line)
}

/// Moves a bar, or adds it while there is room for more.
pub fn take_bar(bars: &mut Vec<Progress>, moved: Progress) {
    let moved = Progress { done: moved.done.min(moved.total), ..moved };
    match bars.iter().position(|bar| bar.bar == moved.bar) {
        Some(place) => bars[place] = moved,
        None if bars.len() < BARS_MAX && is_name(&moved.bar, BAR_BYTES_MAX) => bars.push(moved),
        None => {}
    }
}

/// Adds a tag to those that a job has added, unless its call or itself has it already.
pub fn take_tag(tags: &mut Vec<String>, of_call: &[String], tag: String) {
    let is_new = !of_call.contains(&tag) && !tags.contains(&tag);
    if is_new && of_call.len() + tags.len() < TAGS_MAX && is_name(&tag, TAG_BYTES_MAX) {
        tags.push(tag);
    }
}

/// Whether a value of metadata is kept, of a job that has set so many keys, perhaps with this one among them.
pub fn takes_metadata(keys: usize, is_known: bool, value: &Json) -> bool {
    value.as_str().len() <= NOTED_VALUE_BYTES_MAX && (is_known || keys < NOTED_KEYS_MAX)
}

fn is_name(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len())
}

/// A line's place in the log of a job; its text is the cursor of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinePlace {
    /// The attempt.
    pub attempt: u32,
    /// The piece among those of its attempt.
    pub piece: u32,
    /// The line among those of its piece, from 0.
    pub line: usize,
}

impl fmt::Display for LinePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.attempt, self.piece, self.line)
    }
}

/// The text is no place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

impl FromStr for LinePlace {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<LinePlace, NoPlace> {
        let parse = || {
            let mut parts = text.split('.');
            let (attempt, piece) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let line = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(LinePlace { attempt, piece, line })
        };
        parse().ok_or(NoPlace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(name: &str, done: u64, total: u64) -> Progress {
        Progress { bar: name.to_owned(), done, total }
    }

    #[test]
    fn an_overlong_line_is_cut_at_the_end_of_a_character() {
        let long = format!("{}é", "x".repeat(LINE_BYTES_MAX - 1));
        assert_eq!(cut(&long).len(), LINE_BYTES_MAX - 1);
        assert_eq!(cut(&long[..LINE_BYTES_MAX - 1]).len(), LINE_BYTES_MAX - 1);
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn a_log_takes_what_fits_line_by_line() {
        let mut used = LOG_BYTES_MAX - 3;
        assert_eq!(take_line(&mut used, "four"), None);
        assert_eq!(take_line(&mut used, "two"), Some("two"));
        assert_eq!(
            (used, take_line(&mut used, "x"), take_line(&mut used, "")),
            (LOG_BYTES_MAX, None, Some(""))
        );
    }

    #[test]
    fn a_bar_moves_and_never_over_its_total() {
        let mut bars = Vec::new();
        take_bar(&mut bars, bar("a", 9, 5));
        take_bar(&mut bars, bar("b", 1, 2));
        take_bar(&mut bars, bar("a", 2, 6));
        take_bar(&mut bars, bar("", 1, 1));
        take_bar(&mut bars, bar(&"x".repeat(BAR_BYTES_MAX + 1), 1, 1));
        assert_eq!(bars, [bar("a", 2, 6), bar("b", 1, 2)]);
        (0..BARS_MAX).for_each(|number| take_bar(&mut bars, bar(&format!("n{number}"), 0, 1)));
        assert_eq!(bars.len(), BARS_MAX);
        take_bar(&mut bars, bar("b", 2, 2));
        assert_eq!(bars[1], bar("b", 2, 2));
    }

    #[test]
    fn tags_are_new_and_few() {
        let of_call: Vec<String> = (0..TAGS_MAX - 2).map(|number| format!("c{number}")).collect();
        let mut tags = Vec::new();
        let long = "x".repeat(TAG_BYTES_MAX + 1);
        for tag in ["c0", "", &long, "a", "a", "b", "over"] {
            take_tag(&mut tags, &of_call, tag.to_owned());
        }
        assert_eq!(tags, ["a", "b"]);
    }

    #[test]
    fn metadata_has_a_bound_of_keys_and_of_bytes() {
        let largest = Json::encode(&"x".repeat(NOTED_VALUE_BYTES_MAX - 2)).unwrap();
        let larger = Json::encode(&"x".repeat(NOTED_VALUE_BYTES_MAX - 1)).unwrap();
        let table = [
            (0, false, &largest, true),
            (0, false, &larger, false),
            (3, true, &larger, false),
            (NOTED_KEYS_MAX - 1, false, &largest, true),
            (NOTED_KEYS_MAX, false, &largest, false),
            (NOTED_KEYS_MAX, true, &largest, true),
        ];
        for (keys, is_known, value, expected) in table {
            assert_eq!(takes_metadata(keys, is_known, value), expected, "{keys} keys, {is_known}");
        }
    }

    #[test]
    fn a_place_in_a_log_is_read_back() {
        let place = LinePlace { attempt: 3, piece: 0, line: 17 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", "1.2", "1.2.3.4", "a.1.2", "1.2.-3"] {
            assert_eq!(text.parse::<LinePlace>(), Err(NoPlace), "{text}");
        }
    }
}
