//! CSV: one header line, then a record a line. Fields may be quoted and hold commas and line breaks;
//! lines end in LF or CRLF; the separator is the comma, the semicolon or the tab, as the header has it.

use super::{Fields, FileError, Lines, Record, column};

pub(super) fn read(bytes: &[u8]) -> Result<Vec<Record>, FileError> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator(bytes))
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes);
    let mut lines = Lines::new(bytes);
    let mut header: Option<Vec<Option<&'static str>>> = None;
    let mut records = Vec::new();
    let mut record = csv::ByteRecord::new();
    loop {
        let more = reader.read_byte_record(&mut record);
        let more = more.map_err(|error| FileError::new(lines.line, error.to_string()))?;
        if !more {
            break;
        }
        let start = start_of(&record, bytes);
        let line = lines.line_of(start);
        match &header {
            None => header = Some(read_header(&record, line)?),
            Some(columns) => records.push(read_row(&record, columns, line)),
        }
        if reader.position().byte() as usize >= bytes.len() {
            check_closed(&bytes[start..], &record, line)?;
        }
    }
    match header {
        Some(_) => Ok(records),
        None => Err(FileError::new(1, "the file is empty; expected a line with the column names")),
    }
}

/// The separator that occurs in the header line; most files have commas.
fn separator(bytes: &[u8]) -> u8 {
    let header = bytes.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    let header = header.unwrap_or_default();
    let count = |separator: u8| header.iter().filter(|byte| **byte == separator).count();
    // `max_by_key` takes the last of equals, so the comma stands last.
    [b'\t', b';', b','].into_iter().max_by_key(|separator| count(*separator)).unwrap_or(b',')
}

/// Where a record begins. The reader still stands on the line break before it, and on blank lines.
fn start_of(record: &csv::ByteRecord, bytes: &[u8]) -> usize {
    let from = record.position().map_or(0, |position| position.byte() as usize).min(bytes.len());
    let breaks = bytes[from..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    from + breaks
}

fn read_header(
    record: &csv::ByteRecord,
    line: u64,
) -> Result<Vec<Option<&'static str>>, FileError> {
    let names: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
    let columns: Vec<_> = names.iter().map(|name| column(name)).collect();
    if !columns.iter().flatten().any(|known| ["customer_id", "order_id"].contains(known)) {
        let found = names.join(", ");
        let found: String = found.chars().take(200).collect();
        let reason = format!("no column `customer_id` or `order_id` in the header: {found}");
        return Err(FileError::new(line, reason));
    }
    for (at, known) in columns.iter().enumerate() {
        if let Some(known) = known.filter(|known| columns[..at].contains(&Some(known))) {
            return Err(FileError::new(line, format!("the column `{known}` stands there twice")));
        }
    }
    Ok(columns)
}

fn read_row(record: &csv::ByteRecord, columns: &[Option<&'static str>], line: u64) -> Record {
    if record.len() != columns.len() {
        let (found, expected) = (record.len(), columns.len());
        return Record::defect(line, format!("{found} fields, and the header names {expected}"));
    }
    let mut fields = Fields::new();
    for (name, value) in columns.iter().zip(record) {
        let Some(name) = name else { continue };
        match std::str::from_utf8(value) {
            Ok(value) => fields.insert((*name).to_owned(), value.into()),
            Err(_) => return Record::defect(line, format!("`{name}` is not UTF-8")),
        };
    }
    Record::fields(line, fields)
}

/// A quote that is never closed swallows the rest of the file into one field. That must not pass as
/// one bad row: the rows behind it would be lost in silence.
fn check_closed(last: &[u8], record: &csv::ByteRecord, line: u64) -> Result<(), FileError> {
    let quotes = last.iter().filter(|byte| **byte == b'"').count();
    let swallowed = record.iter().next_back().is_some_and(|field| field.contains(&b'\n'));
    if quotes % 2 == 1 && swallowed {
        return Err(FileError::new(line, "a quote is opened in this record and never closed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::fields;
    use super::super::{FileError, Record, Row};
    use super::read;

    fn lines(records: &[Record]) -> Vec<u64> {
        records.iter().map(|record| record.line).collect()
    }

    fn read_text(text: &str) -> Result<Vec<Record>, FileError> {
        read(text.as_bytes())
    }

    #[test]
    fn quoted_commas_quotes_and_line_breaks_belong_to_the_field() {
        let text = "email,customer_id,name\r\na@b.c,C-1,\"Bakker, \"\"Bo\"\"\r\nand sons\"\r\n\r\nd@e.f,C-2,Zoé\r\n";
        let records = read_text(text).unwrap();
        let first = fields(&[
            ("customer_id", "C-1"),
            ("email", "a@b.c"),
            ("name", "Bakker, \"Bo\"\r\nand sons"),
        ]);
        assert_eq!(records[0].row, Row::Fields(first));
        assert_eq!(lines(&records), [2, 5]);
    }

    #[test]
    fn a_row_with_too_few_or_too_many_fields_is_a_defect_of_that_row() {
        let records = read_text("customer_id,name\nC-1\nC-2,Bo,x\nC-3,Jo\n").unwrap();
        assert_eq!(records[0].row, Row::Defect("1 fields, and the header names 2".into()));
        assert!(matches!(&records[1].row, Row::Defect(_)));
        assert!(matches!(&records[2].row, Row::Fields(_)));
        assert_eq!(lines(&records), [2, 3, 4]);
    }

    #[test]
    fn other_separators_and_unknown_columns_are_fine() {
        let records = read_text("colour;Customer ID;name\nred;C-1;a, b\n").unwrap();
        let expected = fields(&[("customer_id", "C-1"), ("name", "a, b")]);
        assert_eq!(records[0].row, Row::Fields(expected));
    }

    #[test]
    fn a_header_without_a_key_is_refused() {
        let error = read_text("first,last\na,b\n").unwrap_err();
        assert!(error.to_string().starts_with("1: no column `customer_id`"), "{error}");
        assert!(read_text("customer_id,Customer-ID\n").is_err());
        assert!(read_text("").is_err());
        assert_eq!(read_text("customer_id\n").unwrap(), []);
    }

    #[test]
    fn a_quote_that_is_never_closed_is_told_with_its_line() {
        let error = read_text("customer_id,name\nC-1,a\nC-2,\"b\nC-3,c\nC-4,d\n").unwrap_err();
        assert_eq!(error.to_string(), "3: a quote is opened in this record and never closed");
        // A quote in the middle of a field is only a character.
        assert_eq!(read_text("customer_id,name\nC-1,5\" disk\n").unwrap().len(), 1);
    }

    #[test]
    fn a_field_that_is_not_utf_8_is_a_defect_of_that_row() {
        let records = read(b"customer_id,name\nC-1,caf\xE9\nC-2,Bo\n").unwrap();
        assert_eq!(records[0].row, Row::Defect("`name` is not UTF-8".into()));
        assert!(matches!(&records[1].row, Row::Fields(_)));
    }
}
