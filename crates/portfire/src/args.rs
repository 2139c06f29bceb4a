//! The arguments of a call on their way into storage and back: a JSON object by parameter name.
//!
//! `#[job]` writes one [`Field`] for each parameter that callers pass. A field is checked in one
//! place, its constructor, so that a type that cannot be stored is one error at the parameter. The
//! call side writes from references; the run side reads owned values and lends them.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portfire_core::{InvalidJob, JobError, Json};
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The key under which the version of the arguments stands, unless it is 1. No parameter can have it.
const VERSION_KEY: &str = "$version";

/// The wait for a newer program that can read the arguments.
const NEWER_WAIT: Duration = Duration::from_secs(60);

/// A type whose values can be stored and read back. Implemented for all that serde knows both ways.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a job",
    label = "not both `Serialize` and `DeserializeOwned`",
    note = "arguments are stored as JSON: derive `serde::Serialize` and `serde::Deserialize` for `{Self}`",
    note = "what the server supplies is marked `#[inject]` or `#[parent]`, or has the type `JobContext`, `CancellationToken` or `Tick`"
)]
pub trait Arg: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Arg for T {}

/// A parameter: written from a `B` at the call, read as an `O` at the run.
pub struct Field<B: ?Sized, O> {
    name: &'static str,
    aliases: &'static [&'static str],
    missing: Option<fn() -> O>,
    write: fn(&B, &mut Vec<u8>) -> serde_json::Result<()>,
    read: fn(&RawValue) -> Result<O, Misfit>,
}

/// A stored value that does not fit its parameter.
pub(crate) struct Misfit {
    /// Where in the value; empty for the value itself.
    pub(crate) path: String,
    pub(crate) reason: String,
}

// The bounds stand at the functions and not at the impl blocks: a type that does not meet them is then
// an unmet bound, with the words of `Arg`, and not a function that does not exist.

impl<T> Field<T, T> {
    /// A parameter by value, or a reference to a sized one.
    pub const fn value(name: &'static str) -> Field<T, T>
    where
        T: Arg,
    {
        Field { name, aliases: &[], missing: None, write: write_json::<T>, read: read_json::<T> }
    }
}

impl Field<str, String> {
    /// A `&str`.
    pub const fn text(name: &'static str) -> Field<str, String> {
        Field { name, aliases: &[], missing: None, write: write_json, read: read_json }
    }
}

impl<T> Field<[T], Vec<T>> {
    /// A `&[T]`.
    pub const fn list(name: &'static str) -> Field<[T], Vec<T>>
    where
        T: Arg,
    {
        Field { name, aliases: &[], missing: None, write: write_json, read: read_json }
    }
}

impl Field<Path, PathBuf> {
    /// A `&Path`.
    pub const fn path(name: &'static str) -> Field<Path, PathBuf> {
        Field { name, aliases: &[], missing: None, write: write_json, read: read_json }
    }
}

impl<B: ?Sized, O> Field<B, O> {
    /// The same, found under these keys too.
    pub const fn aliases(self, aliases: &'static [&'static str]) -> Field<B, O> {
        Field { aliases, ..self }
    }

    /// The same, made by `missing` when the stored object lacks it.
    pub const fn or(self, missing: fn() -> O) -> Field<B, O> {
        Field { missing: Some(missing), ..self }
    }

    /// Adds the parameter to the arguments of a call.
    pub fn write(&self, args: &mut ArgsWriter, value: &B) {
        args.put(self.name, |text| (self.write)(value, text));
    }

    /// As [`write`](Self::write), for an `Option<&B>`.
    pub fn write_option(&self, args: &mut ArgsWriter, value: Option<&B>) {
        match value {
            Some(value) => self.write(args, value),
            None => args.put(self.name, |text| write_json(&(), text)),
        }
    }

    /// Reads the parameter.
    ///
    /// # Errors
    /// A permanent [`JobError`] of class `undecodable_args` that names the place in the JSON.
    pub fn read(&self, args: &ArgsReader<'_>) -> Result<O, JobError> {
        match (args.find(self), self.missing) {
            (Some(raw), _) => self.read_raw(raw),
            (None, Some(missing)) => Ok(missing()),
            (None, None) => Err(undecodable(format_args!("`{}` is missing", self.name))),
        }
    }

    /// As [`read`](Self::read), for an `Option<&B>`: a missing key and `null` are `None`.
    ///
    /// # Errors
    /// As there.
    pub fn read_option(&self, args: &ArgsReader<'_>) -> Result<Option<O>, JobError> {
        match args.find(self) {
            None => Ok(None),
            Some(raw) if raw.get() == "null" => Ok(None),
            Some(raw) => self.read_raw(raw).map(Some),
        }
    }

    fn read_raw(&self, raw: &RawValue) -> Result<O, JobError> {
        (self.read)(raw).map_err(|Misfit { path, reason }| {
            let name = self.name;
            match path.chars().next() {
                None => undecodable(format_args!("at `{name}`: {reason}")),
                Some('[') => undecodable(format_args!("at `{name}{path}`: {reason}")),
                Some(_) => undecodable(format_args!("at `{name}.{path}`: {reason}")),
            }
        })
    }
}

impl<B: ?Sized, O> fmt::Debug for Field<B, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Field").field("name", &self.name).finish_non_exhaustive()
    }
}

fn write_json<T: Serialize + ?Sized>(value: &T, text: &mut Vec<u8>) -> serde_json::Result<()> {
    serde_json::to_writer(text, value)
}

fn read_json<T: DeserializeOwned>(raw: &RawValue) -> Result<T, Misfit> {
    read_text(raw.get())
}

/// Reads a JSON text, or says where it does not fit and why.
pub(crate) fn read_text<T: DeserializeOwned>(text: &str) -> Result<T, Misfit> {
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().iter().next().map(|_| error.path().to_string());
        let reason = error.inner().to_string();
        // The line and column count from the value, which nobody sees apart; the path says it better.
        let end = reason.rfind(" at line ").unwrap_or(reason.len());
        Misfit { path: path.unwrap_or_default(), reason: in_short(&reason[..end]) }
    })
}

/// A reason without the middle when it is long: what was found is in it whole, and what was expected stands
/// at the end.
fn in_short(reason: &str) -> String {
    const KEPT: usize = 120;
    let border = |(at, _)| at;
    let begin = reason.char_indices().map(border).nth(KEPT).unwrap_or(reason.len());
    let end = reason.char_indices().rev().map(border).nth(KEPT - 1).unwrap_or(0);
    if begin >= end {
        return reason.to_owned();
    }
    format!("{}…{}", &reason[..begin], &reason[end..])
}

fn undecodable(what: fmt::Arguments<'_>) -> JobError {
    let message = format!("the stored arguments do not fit, {what}");
    JobError::permanent(message).with_class("undecodable_args")
}

/// The JSON object of a call in the making.
#[derive(Debug)]
pub struct ArgsWriter {
    text: Vec<u8>,
    mistake: Option<InvalidJob>,
}

impl ArgsWriter {
    /// An object of this version without any parameter.
    pub fn new(version: u32) -> ArgsWriter {
        let mut args = ArgsWriter { text: Vec::with_capacity(64), mistake: None };
        if version > 1 {
            args.put(VERSION_KEY, |text| write_json(&version, text));
        }
        args
    }

    /// The object.
    ///
    /// # Errors
    /// [`InvalidJob::Encode`] when a value refused, with the name of its parameter.
    pub fn finish(mut self) -> Result<Json, InvalidJob> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        if self.text.is_empty() {
            self.text.push(b'{');
        }
        self.text.push(b'}');
        let text = String::from_utf8(self.text)
            .map_err(|error| InvalidJob::Encode { reason: error.to_string() })?;
        Ok(Json::stored(text))
    }

    fn put(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>) {
        self.text.push(if self.text.is_empty() { b'{' } else { b',' });
        // Names are identifiers of the source, so nothing in them needs an escape.
        self.text.push(b'"');
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
        if let Err(error) = write(&mut self.text) {
            let reason = format!("parameter `{name}`: {error}");
            self.mistake.get_or_insert(InvalidJob::Encode { reason });
        }
    }
}

/// A stored JSON object, taken apart by key.
#[derive(Debug)]
pub struct ArgsReader<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> ArgsReader<'a> {
    fn parse(args: &'a Json) -> Result<ArgsReader<'a>, JobError> {
        let mut json = serde_json::Deserializer::from_str(args.as_str());
        let fields = json.deserialize_map(Fields);
        let fields = fields.map_err(|error| undecodable(format_args!("as a whole: {error}")))?;
        Ok(ArgsReader { fields })
    }

    fn find<B: ?Sized, O>(&self, field: &Field<B, O>) -> Option<&'a RawValue> {
        let under = |name: &str| self.get(name);
        under(field.name).or_else(|| field.aliases.iter().find_map(|alias| under(alias)))
    }

    /// Of a key that occurs twice the last one counts, as in most readers of JSON.
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.iter().rev().find(|(key, _)| key == name).map(|(_, raw)| *raw)
    }

    fn version(&self) -> Result<u32, JobError> {
        let Some(raw) = self.get(VERSION_KEY) else { return Ok(1) };
        let version = raw.get().parse().ok().filter(|version| *version >= 1);
        version.ok_or_else(|| {
            undecodable(format_args!("at `{VERSION_KEY}`: `{}` is no version", raw.get()))
        })
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object by parameter name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            fields.push((key, map.next_value()?));
        }
        Ok(fields)
    }
}

/// A key, borrowed unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// What changes stored arguments of an older version into those of the present one.
pub type Migrate = fn(u32, Value) -> Result<Value, String>;

/// What a function named by `migrate` returns: the new value, or why there is none.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a migration",
    note = "a migration is `fn(from: u32, args: serde_json::Value) -> serde_json::Value`, or returns a `Result` of it"
)]
pub trait Migrated {
    /// The new value, or why there is none.
    ///
    /// # Errors
    /// The text of the migration's error.
    fn into_result(self) -> Result<Value, String>;
}

impl Migrated for Value {
    fn into_result(self) -> Result<Value, String> {
        Ok(self)
    }
}

impl<E: fmt::Display> Migrated for Result<Value, E> {
    fn into_result(self) -> Result<Value, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Reads stored arguments, after changing those of an older version.
///
/// # Errors
/// A permanent [`JobError`] of class `undecodable_args`. Arguments of a newer version are no such
/// error: in a rolling deploy a newer program is about to come, so the job is
/// [parked](JobError::elsewhere) for it, at no cost.
pub fn decode<T>(
    args: &Json,
    version: u32,
    migrate: Option<Migrate>,
    read: impl FnOnce(&ArgsReader<'_>) -> Result<T, JobError>,
) -> Result<T, JobError> {
    let stored = ArgsReader::parse(args)?;
    let from = stored.version()?;
    match migrate {
        _ if from == version => read(&stored),
        _ if from > version => Err(newer(from, version)),
        Some(migrate) => {
            let args = upgrade(args, from, version, migrate)?;
            read(&ArgsReader::parse(&args)?)
        }
        None => read(&stored),
    }
}

fn newer(from: u32, version: u32) -> JobError {
    let message = format!(
        "the stored arguments are of version {from}, and this program knows versions up to {version}: a newer program has to run the job"
    );
    JobError::elsewhere(NEWER_WAIT, message).with_class("newer_args")
}

fn upgrade(args: &Json, from: u32, to: u32, migrate: Migrate) -> Result<Json, JobError> {
    let refuse = |reason: String| {
        undecodable(format_args!("in the migration from version {from} to {to}: {reason}"))
    };
    let mut value: Value = args.decode().map_err(|error| refuse(error.to_string()))?;
    if let Value::Object(fields) = &mut value {
        fields.remove(VERSION_KEY);
    }
    let value = migrate(from, value).map_err(refuse)?;
    Json::encode(&value).map_err(|error| refuse(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Field<u64, u64> = Field::<u64, u64>::value("id");
    const LANG: Field<str, String> = Field::text("lang").aliases(&["language"]);
    const TAGS: Field<[String], Vec<String>> =
        Field::<[String], Vec<String>>::list("tags").or(Vec::new);

    fn read(args: &str) -> Result<(u64, String, Vec<String>), JobError> {
        decode(&Json::stored(args), 1, None, |fields| {
            Ok((ID.read(fields)?, LANG.read(fields)?, TAGS.read(fields)?))
        })
    }

    fn refusal(args: &str) -> String {
        let error = read(args).unwrap_err();
        assert_eq!(error.record().class, "undecodable_args");
        assert_eq!(*error.steer(), portfire_core::job_error::Steer::Permanent);
        error.to_string()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut args = ArgsWriter::new(1);
        ID.write(&mut args, &7);
        LANG.write(&mut args, "a \"quoted\" \0 é");
        TAGS.write(&mut args, &["x".to_owned()]);
        let json = args.finish().unwrap();
        assert_eq!(json.as_str(), r#"{"id":7,"lang":"a \"quoted\" \u0000 é","tags":["x"]}"#);
        let back = read(json.as_str()).unwrap();
        assert_eq!(back, (7, "a \"quoted\" \0 é".to_owned(), vec!["x".to_owned()]));
    }

    #[test]
    fn no_parameters_are_the_empty_object() {
        assert_eq!(ArgsWriter::new(1).finish(), Ok(Json::empty()));
        assert_eq!(ArgsWriter::new(3).finish(), Ok(Json::stored(r#"{"$version":3}"#)));
    }

    #[test]
    fn order_unknown_keys_aliases_and_defaults_do_not_matter() {
        let back = read(r#"{ "new": [1], "langu\u0061ge": "nl", "id": 1 }"#).unwrap();
        assert_eq!(back, (1, "nl".to_owned(), Vec::new()));
        assert_eq!(read(r#"{"id":1,"lang":"a","id":2}"#).unwrap().0, 2);
    }

    #[test]
    fn a_misfit_names_its_place_and_what_was_expected() {
        assert!(refusal(r#"{"lang":"nl"}"#).ends_with("`id` is missing"));
        let wrong = refusal(r#"{"id":"x","lang":"nl"}"#);
        assert!(wrong.ends_with(r#"at `id`: invalid type: string "x", expected u64"#), "{wrong}");
        let deep = refusal(r#"{"id":1,"lang":"nl","tags":["a",7]}"#);
        assert!(deep.contains("at `tags[1]`: invalid type: integer `7`"), "{deep}");
        assert!(refusal("[1]").contains("expected an object by parameter name"));
        assert!(refusal("{").contains("EOF"));
        assert!(refusal(r#"{"$version":"x"}"#).contains(r#"at `$version`: `"x"` is no version"#));
    }

    #[test]
    fn a_value_that_cannot_be_json_is_named() {
        const PRICES: Field<std::collections::BTreeMap<(u8, u8), u8>, ()> = Field {
            name: "prices",
            aliases: &[],
            missing: None,
            write: write_json,
            read: read_json,
        };
        let mut args = ArgsWriter::new(1);
        PRICES.write(&mut args, &[((1, 2), 3)].into());
        let refused = args.finish().unwrap_err().to_string();
        assert!(refused.contains("parameter `prices`: key must be a string"), "{refused}");
    }

    #[test]
    fn older_arguments_are_migrated_once() {
        let migrate: Migrate = |from, mut args| {
            assert_eq!((from, args.get(VERSION_KEY)), (1, None));
            args["id"] = args["number"].take();
            Ok(args)
        };
        let read = |json: &str| decode(&Json::stored(json), 2, Some(migrate), |f| ID.read(f));
        assert_eq!(read(r#"{"number":5}"#).unwrap(), 5);
        assert_eq!(read(r#"{"$version":2,"id":6}"#).unwrap(), 6);
        let refuse: Migrate = |_, _| Err("no number".into());
        let refused = decode(&Json::empty(), 2, Some(refuse), |f| ID.read(f)).unwrap_err();
        assert!(refused.to_string().ends_with("from version 1 to 2: no number"), "{refused}");
    }

    #[test]
    fn newer_arguments_wait_for_a_newer_program() {
        let error = read(r#"{"$version":9}"#).unwrap_err();
        assert_eq!(*error.steer(), portfire_core::job_error::Steer::Elsewhere(NEWER_WAIT));
        assert!(error.to_string().contains("version 9"), "{error}");
    }
}
