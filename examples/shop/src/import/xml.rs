//! XML: a root element with one element a record. A column is an attribute or a child element of its
//! record, whichever; `items` holds one element an item. Prefixes of namespaces are ignored.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;
use serde_json::Value;

use super::{Fields, FileError, Lines, Record, column};

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 64;

/// An element with what it holds. Small trees: what is not a known column is dropped on the way.
struct Element {
    name: String,
    line: u64,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    text: String,
}

pub(super) fn read(text: &str) -> Result<Vec<Record>, FileError> {
    let root = read_tree(text)?;
    // A file with a single record may have it as its root.
    let is_record = |element: &Element| {
        let names = element.attributes.iter().map(|(name, _)| name);
        let mut names = names.chain(element.children.iter().map(|child| &child.name));
        names.any(|name| matches!(column(name), Some("customer_id" | "order_id")))
    };
    if is_record(&root) {
        return Ok(vec![read_record(&root)]);
    }
    Ok(root.children.iter().map(read_record).collect())
}

fn read_record(element: &Element) -> Record {
    match read_fields(element) {
        Ok(fields) => Record::fields(element.line, fields),
        Err(reason) => Record::defect(element.line, reason),
    }
}

fn read_fields(element: &Element) -> Result<Fields, String> {
    let mut fields = Fields::new();
    let mut put = |name: &str, value: Value| match fields.insert(name.to_owned(), value) {
        Some(_) => Err(format!("`{name}` stands there twice")),
        None => Ok(()),
    };
    for (name, text) in &element.attributes {
        if let Some(name) = column(name) {
            put(name, text.trim().into())?;
        }
    }
    for child in &element.children {
        match column(&child.name) {
            Some("items") => put("items", Value::Array(read_items(child)?))?,
            Some(name) => put(name, child.text.trim().into())?,
            None => {}
        }
    }
    Ok(fields)
}

fn read_items(items: &Element) -> Result<Vec<Value>, String> {
    let item = |item: &Element| Ok(Value::Object(read_fields(item)?.into_iter().collect()));
    items.children.iter().map(item).collect()
}

/// Reads the whole document, so that it is known to be well-formed before anything of it is used.
fn read_tree(text: &str) -> Result<Element, FileError> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut lines = Lines::new(text.as_bytes());
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    loop {
        // White space between two elements belongs to neither line.
        let at = reader.buffer_position() as usize;
        let blank = text[at..].len() - text[at..].trim_start().len();
        let line = lines.line_of(at + blank);
        let event = reader.read_event().map_err(|error| {
            let at = usize::try_from(reader.error_position()).unwrap_or(usize::MAX);
            FileError::new(lines.line_of(at), error.to_string())
        })?;
        let refuse = |reason: String| FileError::new(line, reason);
        match event {
            Event::Start(tag) if open.is_empty() && root.is_some() => {
                return Err(refuse(format!("a second root element <{}>", tag.name().as_ref())));
            }
            Event::Start(_) if open.len() == DEPTH_MAX => {
                return Err(refuse(format!("elements nested deeper than {DEPTH_MAX}")));
            }
            Event::Start(tag) => open.push(start(&tag, line).map_err(refuse)?),
            Event::End(_) => {
                // The reader has checked that the tags match.
                let Some(element) = open.pop() else { continue };
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => root = Some(element),
                }
            }
            Event::Text(part) => put_text(&mut open, &part.xml10_content()).map_err(refuse)?,
            Event::CData(part) => put_text(&mut open, &part.xml10_content()).map_err(refuse)?,
            Event::GeneralRef(entity) => {
                put_text(&mut open, &resolve(&entity).map_err(refuse)?).map_err(refuse)?;
            }
            Event::Eof => break,
            Event::Empty(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_) => {}
        }
    }
    if let Some(element) = open.last() {
        let reason = format!("the element <{}> is never closed", element.name);
        return Err(FileError::new(element.line, reason));
    }
    root.ok_or_else(|| FileError::new(lines.line, "no root element; expected records in one"))
}

fn start(tag: &BytesStart<'_>, line: u64) -> Result<Element, String> {
    let mut attributes = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let name = attribute.key.local_name().as_ref().to_owned();
        let value = attribute.normalized_value(XmlVersion::Implicit1_0);
        let value = value.map_err(|error| format!("the attribute `{name}`: {error}"))?;
        attributes.push((name, value.into_owned()));
    }
    let name = tag.local_name().as_ref().to_owned();
    Ok(Element { name, line, attributes, children: Vec::new(), text: String::new() })
}

fn put_text(open: &mut [Element], text: &str) -> Result<(), String> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err("text outside of the root element".to_owned()),
    }
    Ok(())
}

fn resolve(entity: &BytesRef<'_>) -> Result<String, String> {
    if let Some(character) = entity.resolve_char_ref().map_err(|error| error.to_string())? {
        return Ok(character.to_string());
    }
    let name = entity.xml10_content();
    let known = quick_xml::escape::resolve_predefined_entity(&name);
    known.map(str::to_owned).ok_or_else(|| format!("the entity &{name}; is not defined"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::fields;
    use super::super::{Record, Row};
    use super::read;

    fn lines(records: &[Record]) -> Vec<u64> {
        records.iter().map(|record| record.line).collect()
    }

    #[test]
    fn columns_are_attributes_or_elements() {
        let text = "<?xml version=\"1.0\"?>\n<!-- export -->\n<orders xmlns:s=\"urn:s\">\n\
            <s:order order_id=\"1&amp;2\"><name>Zo&#233; &lt;x&gt;</name><extra><name>no</name></extra>\n\
            <email><![CDATA[a@b.c]]></email>\n<items><item sku=\"T\"><quantity> 2 </quantity></item><item/></items></s:order>\n\
            <order/></orders>\n";
        let records = read(text).unwrap();
        assert_eq!(lines(&records), [4, 7]);
        let mut expected = fields(&[("order_id", "1&2"), ("name", "Zoé <x>"), ("email", "a@b.c")]);
        expected.insert("items".into(), json!([{"sku": "T", "quantity": "2"}, {}]));
        assert_eq!(records[0].row, Row::Fields(expected));
        assert_eq!(records[1].row, Row::Fields(fields(&[])));
    }

    #[test]
    fn a_column_that_stands_twice_is_a_defect_of_that_record() {
        let records = read("<l><o order_id='1'><order_id>2</order_id></o><o order_id='3'/></l>");
        let records = records.unwrap();
        assert_eq!(records[0].row, Row::Defect("`order_id` stands there twice".into()));
        assert_eq!(records[1].row, Row::Fields(fields(&[("order_id", "3")])));
    }

    #[test]
    fn a_single_record_may_be_the_root() {
        let records = read("<order order_id='7'><name>Bo</name></order>").unwrap();
        assert_eq!(records[0].row, Row::Fields(fields(&[("order_id", "7"), ("name", "Bo")])));
    }

    #[test]
    fn a_file_that_is_not_well_formed_is_refused_with_its_line() {
        let broken = [
            ("<a>\n<b>\n</a>", 3),
            ("<a>\n<b>x</b>", 1),
            ("<a>\n<b x='1' x='2'/></a>", 2),
            ("<a>\n&nope;</a>", 2),
            ("<a/>\n<b/>", 2),
            ("<a/>\nmore", 2),
            ("<a>\n<b x='1>\n</a>", 2),
            ("", 1),
        ];
        for (text, line) in broken {
            let error = read(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
        }
        let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
        assert!(read(&deep).is_err());
    }
}
