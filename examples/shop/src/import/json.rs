//! JSON: an array of records, an object that holds such arrays (`{"orders": […]}`), or a single
//! record; also several of these one after the other, as in JSON Lines.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Fields, FileError, Lines, Record, column};

/// The members of an object, not yet decoded. They borrow from the text, which tells their line.
type Members<'a> = BTreeMap<String, &'a RawValue>;

pub(super) fn read(text: &str) -> Result<Vec<Record>, FileError> {
    let mut records = Vec::new();
    let mut empty = true;
    let mut lines = Lines::new(text.as_bytes());
    let mut line_of = |value: &RawValue| {
        // Where a value stands is where its slice begins within the text.
        lines.line_of(value.get().as_ptr().addr() - text.as_ptr().addr())
    };
    // The whole file is checked before anything of it is used.
    let documents = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let documents: Vec<_> = documents.collect::<Result<_, _>>().map_err(refuse)?;
    for document in documents {
        empty = false;
        let line = line_of(document);
        for record in records_of(document, line)? {
            let line = line_of(record);
            records.push(read_record(record, line));
        }
    }
    if empty {
        return Err(FileError::new(1, "the file is empty; expected an array of records"));
    }
    Ok(records)
}

fn refuse(error: serde_json::Error) -> FileError {
    let line = error.line() as u64;
    FileError::new(line, error.to_string())
}

/// The records of a document, in the order in which they stand.
fn records_of(document: &RawValue, line: u64) -> Result<Vec<&RawValue>, FileError> {
    if let Ok(list) = decode::<Vec<&RawValue>>(document) {
        return Ok(list);
    }
    let nothing = || FileError::new(line, "expected an array of records");
    let members: Members<'_> = decode(document).map_err(|_| nothing())?;
    if members.keys().any(|key| matches!(column(key), Some("customer_id" | "order_id"))) {
        return Ok(vec![document]);
    }
    let lists = members.values().filter_map(|member| decode::<Vec<&RawValue>>(member).ok());
    let mut lists: Vec<_> = lists.collect();
    if lists.is_empty() {
        return Err(nothing());
    }
    lists.sort_by_key(|list| list.first().map(|first| first.get().as_ptr().addr()));
    Ok(lists.concat())
}

fn read_record(record: &RawValue, line: u64) -> Record {
    match read_fields(record) {
        Ok(fields) => Record::fields(line, fields),
        Err(reason) => Record::defect(line, reason),
    }
}

/// Decodes the known members only: an extra one may hold anything.
fn read_fields(record: &RawValue) -> Result<Fields, String> {
    let members: Members<'_> = decode(record).map_err(|_| {
        let excerpt: String = record.get().chars().take(60).collect();
        format!("expected an object with columns, found {excerpt}")
    })?;
    let mut fields = Fields::new();
    for (key, value) in members {
        let Some(name) = column(&key) else { continue };
        let value = match name {
            "items" => Value::Array(read_items(value)?),
            _ => decode(value).map_err(|error| format!("`{name}` cannot be read: {error}"))?,
        };
        fields.insert(name.to_owned(), value);
    }
    Ok(fields)
}

fn read_items(items: &RawValue) -> Result<Vec<Value>, String> {
    let items: Vec<&RawValue> = decode(items).map_err(|_| "`items` is not a list".to_owned())?;
    let item = |item: &RawValue| Ok(Value::Object(read_fields(item)?.into_iter().collect()));
    items.into_iter().map(item).collect()
}

fn decode<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Result<T, serde_json::Error> {
    serde_json::from_str(value.get())
}

#[cfg(test)]
mod tests {
    use super::super::tests::fields;
    use super::super::{Record, Row};
    use super::read;

    fn lines(records: &[Record]) -> Vec<u64> {
        records.iter().map(|record| record.line).collect()
    }

    #[test]
    fn an_array_a_wrapped_array_and_json_lines_say_the_same() {
        let expected = [
            Row::Fields(fields(&[("customer_id", "C-1")])),
            Row::Fields(fields(&[("customer_id", "C-2")])),
        ];
        let array = r#"[{"customer_id":"C-1"},{"customer_id":"C-2"}]"#;
        let wrapped =
            r#"{"exported":"today","customers":[{"customer_id":"C-1"},{"customer_id":"C-2"}]}"#;
        let rows = "{\"customer_id\":\"C-1\"}\n{\"customer_id\":\"C-2\"}\n";
        for text in [array, wrapped, rows] {
            let records = read(text).unwrap();
            let found: Vec<_> = records.into_iter().map(|record| record.row).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn records_know_their_lines() {
        let text = "{\n\"orders\": [\n {\"order_id\":\"1\"}, {\"order_id\":\"2\"},\n\n {\"order_id\":\n\"3\"} ],\n\"customers\":[{}]}";
        assert_eq!(lines(&read(text).unwrap()), [3, 3, 5, 7]);
    }

    #[test]
    fn something_that_is_no_record_is_a_defect_and_the_rest_goes_on() {
        let text = r#"["Grüße", {"order_id":"1","items":7}, {"order_id":"2","junk":[[1e999]]}]"#;
        let records = read(text).unwrap();
        let defect = |at: usize| match &records[at].row {
            Row::Defect(reason) => reason.clone(),
            Row::Fields(fields) => panic!("{fields:?}"),
        };
        assert_eq!(defect(0), "expected an object with columns, found \"Grüße\"");
        assert_eq!(defect(1), "`items` is not a list");
        assert_eq!(records[2].row, Row::Fields(fields(&[("order_id", "2")])));
    }

    #[test]
    fn a_file_that_is_not_well_formed_is_refused_with_its_line() {
        let error = read("[{\"order_id\":\"1\"},\n {\"order_id\":\n").unwrap_err();
        assert_eq!(error.line, 3, "{error}");
        assert_eq!(read("[]\n]").unwrap_err().line, 2);
        assert!(read("  \n").is_err());
        assert!(read("42").is_err());
        assert!(read("{\"a\":1}").is_err());
        assert_eq!(read("[]").unwrap(), []);
    }
}
