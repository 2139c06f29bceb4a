//! From bytes to text: byte order marks, UTF-8, UTF-16 and what an XML declaration announces.

use std::borrow::Cow;

use super::{FileError, Lines};

const UTF8_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The bytes as UTF-8 as far as a byte order mark tells what they are; else as they came.
pub(super) fn utf8_if_marked(bytes: &[u8]) -> Result<Cow<'_, [u8]>, FileError> {
    match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => Ok(Cow::Borrowed(rest)),
        [0xFF, 0xFE, rest @ ..] => Ok(Cow::Owned(utf16(rest, u16::from_le_bytes)?.into_bytes())),
        [0xFE, 0xFF, rest @ ..] => Ok(Cow::Owned(utf16(rest, u16::from_be_bytes)?.into_bytes())),
        _ => Ok(Cow::Borrowed(bytes)),
    }
}

/// The text of a file that must be UTF-8, or UTF-16 with a byte order mark.
pub(super) fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, FileError> {
    match utf8_if_marked(bytes)? {
        Cow::Borrowed(bytes) => utf8(bytes).map(Cow::Borrowed),
        Cow::Owned(bytes) => utf8(&bytes).map(|text| Cow::Owned(text.to_owned())),
    }
}

/// The same for XML, which may announce another encoding in its first line.
pub(super) fn decode_xml(bytes: &[u8]) -> Result<Cow<'_, str>, FileError> {
    let marked =
        bytes.starts_with(UTF8_MARK) || matches!(bytes, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]);
    let announced = if marked { None } else { announced_encoding(bytes) };
    match announced.as_deref() {
        None | Some("utf-8" | "utf8" | "us-ascii" | "ascii") => decode(bytes),
        // Every byte of Latin-1 is the character with its number.
        Some("iso-8859-1" | "latin1") => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Some(other) => {
            let reason = format!("the encoding `{other}` is not read; save the file as UTF-8");
            Err(FileError::new(1, reason))
        }
    }
}

/// The encoding in `<?xml … encoding="…"?>`, in lower case.
fn announced_encoding(bytes: &[u8]) -> Option<String> {
    let head = &bytes[..bytes.len().min(200)];
    let head: String = head.iter().map(|byte| char::from(*byte)).collect();
    let declaration = head.strip_prefix("<?xml")?.split("?>").next()?;
    let value = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| *c == '"' || *c == '\'')?;
    Some(value[1..].split(quote).next()?.to_ascii_lowercase())
}

fn utf8(bytes: &[u8]) -> Result<&str, FileError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let line = Lines::new(bytes).line_of(at);
        FileError::new(line, format!("not UTF-8 at byte {at} of the file"))
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, FileError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    let text = String::from_utf16(&units).ok().filter(|_| rest.is_empty());
    text.ok_or_else(|| FileError::new(1, "it begins as UTF-16, but is not UTF-16 throughout"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_taken_off_and_utf_16_is_read() {
        assert_eq!(decode(b"\xEF\xBB\xBFh\xC3\xA9").unwrap(), "hé");
        let little: Vec<u8> = "\u{FEFF}hé🎂".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = "\u{FEFF}hé🎂".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(decode(&little).unwrap(), "hé🎂");
        assert_eq!(decode(&big).unwrap(), "hé🎂");
        assert!(decode(&little[..little.len() - 1]).is_err());
    }

    #[test]
    fn a_byte_that_is_not_utf_8_is_told_with_its_line() {
        let error = decode(b"one\ntwo \xE9\n").unwrap_err();
        assert_eq!(error.to_string(), "2: not UTF-8 at byte 8 of the file");
    }

    #[test]
    fn an_xml_declaration_may_announce_latin_1() {
        let text = decode_xml(b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xE9</a>").unwrap();
        assert!(text.ends_with("<a>é</a>"));
        let error = decode_xml(b"<?xml version=\"1.0\" encoding=\"Shift_JIS\"?><a/>").unwrap_err();
        assert!(error.reason.contains("`shift_jis`"), "{error}");
    }
}
