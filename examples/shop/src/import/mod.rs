//! Reads files of customers and orders: from bytes to [`Record`]s that know where they stood.
//!
//! Three formats, one result. What a record *means* is decided later, in its own job (`model.rs`),
//! so that one bad row fails alone. Only a file that is not well-formed is refused as a whole.
//! The columns are described in `data/README.md`.

mod csv;
mod json;
mod text;
mod xml;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Largest file that is read, in bytes. A file is parsed in memory before any of its rows is
/// enqueued, so that a broken end leaves nothing behind.
pub const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Largest record that is passed to a job, in bytes of JSON. Job arguments are no place for more.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

/// The columns that mean something. Others are ignored, so that exports need no preparation.
const COLUMNS: [&str; 17] = [
    "customer_id",
    "order_id",
    "name",
    "email",
    "address",
    "language",
    "country",
    "signed_up_on",
    "renews_on",
    "deleted_on",
    "ordered_on",
    "currency",
    "items",
    "sku",
    "title",
    "quantity",
    "unit_price",
];

/// The known columns of a record, by name. Values are text or numbers; `items` is a list of the same.
pub type Fields = BTreeMap<String, Value>;

/// One record of a file, with the line where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its first line, from 1.
    pub line: u64,
    /// What stood there.
    pub row: Row,
}

/// What stood in a record, before anybody looked whether it makes sense.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    /// Columns.
    Fields(Fields),
    /// Something that is no record, and why.
    Defect(String),
}

/// Why a file cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The line where it ceases to be well-formed, from 1.
    pub line: u64,
    /// What is wrong there.
    pub reason: String,
}

impl FileError {
    fn new(line: u64, reason: impl Into<String>) -> FileError {
        FileError { line, reason: printable(&reason.into()) }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.reason)
    }
}

impl std::error::Error for FileError {}

/// The formats by file extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv,
    Json,
    Xml,
}

impl Format {
    fn of(path: &Path) -> Option<Format> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "csv" | "tsv" => Some(Format::Csv),
            "json" | "jsonl" | "ndjson" => Some(Format::Json),
            "xml" => Some(Format::Xml),
            _ => None,
        }
    }
}

/// The files of a folder that can be imported, by name. Hidden files and other formats are left out.
///
/// # Errors
/// When the folder cannot be listed.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.is_file() && Format::of(&path).is_some() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads the records of a file; `name` tells the format by its extension.
///
/// # Errors
/// [`FileError`] when the file is not well-formed: then none of its records is to be used.
pub fn read(name: &Path, bytes: &[u8]) -> Result<Vec<Record>, FileError> {
    let records = match Format::of(name) {
        Some(Format::Csv) => csv::read(&text::utf8_if_marked(bytes)?)?,
        Some(Format::Json) => json::read(&text::decode(bytes)?)?,
        Some(Format::Xml) => xml::read(&text::decode_xml(bytes)?)?,
        None => return Err(FileError::new(1, "expected a file named .csv, .json or .xml")),
    };
    Ok(records.into_iter().map(Record::bounded).collect())
}

impl Record {
    fn fields(line: u64, fields: Fields) -> Record {
        Record { line, row: Row::Fields(fields) }
    }

    fn defect(line: u64, reason: impl Into<String>) -> Record {
        Record { line, row: Row::Defect(printable(&reason.into())) }
    }

    /// A record too large for a job's arguments becomes a defect of its own, not of the whole file.
    fn bounded(self) -> Record {
        let size = serde_json::to_string(&self.row).map_or(usize::MAX, |json| json.len());
        if size <= RECORD_BYTES_MAX {
            return self;
        }
        let reason =
            format!("the record has {size} bytes and at most {RECORD_BYTES_MAX} are taken");
        Record::defect(self.line, reason)
    }
}

/// A text that may quote a file, without what would steer the terminal it is shown on.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The known column that a header, key or element names: `Customer ID` is `customer_id`.
fn column(name: &str) -> Option<&'static str> {
    let plain = |c: char| if c == ' ' || c == '-' { '_' } else { c.to_ascii_lowercase() };
    let name: String = name.trim().chars().map(plain).collect();
    COLUMNS.into_iter().find(|column| *column == name)
}

/// Tells lines of byte offsets, which must not fall.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(bytes: &'a [u8]) -> Lines<'a> {
        Lines { bytes, at: 0, line: 1 }
    }

    fn line_of(&mut self, offset: usize) -> u64 {
        let offset = offset.clamp(self.at, self.bytes.len());
        let breaks = self.bytes[self.at..offset].iter().filter(|byte| **byte == b'\n').count();
        self.line += breaks as u64;
        self.at = offset;
        self.line
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a record of these columns looks like.
    pub(crate) fn fields(columns: &[(&str, &str)]) -> Fields {
        columns.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
    }

    #[test]
    fn column_names_are_read_as_people_write_them() {
        assert_eq!(column(" Customer ID "), Some("customer_id"));
        assert_eq!(column("unit-price"), Some("unit_price"));
        assert_eq!(column("favourite colour"), None);
    }

    #[test]
    fn what_is_quoted_from_a_file_does_not_steer_the_terminal() {
        let error = read(Path::new("a.csv"), b"a\x1b[2J,\x00\n").unwrap_err();
        assert!(error.reason.ends_with("a\u{fffd}[2J, \u{fffd}"), "{error}");
    }

    #[test]
    fn an_overlong_record_is_a_defect_and_not_the_end_of_the_file() {
        let long = "x".repeat(RECORD_BYTES_MAX);
        let text = format!("customer_id,name\nC-1,{long}\nC-2,short\n");
        let records = read(Path::new("a.csv"), text.as_bytes()).unwrap();
        assert!(matches!(&records[0].row, Row::Defect(reason) if reason.contains("at most")));
        assert_eq!(
            records[1].row,
            Row::Fields(fields(&[("customer_id", "C-2"), ("name", "short")]))
        );
    }

    #[test]
    fn files_of_other_formats_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.XML", "a.csv", "README.md", "._a.csv", "c.json"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> = files(folder.path()).unwrap();
        let names: Vec<_> = names.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["a.csv", "b.XML", "c.json"]);
    }
}
