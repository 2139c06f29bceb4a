//! Texts made from the arguments of a call, such as `tenant:{tenant_id}`, and the canonical form of
//! arguments that keys are hashed from.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::job::{InvalidJob, Json, KindName};

/// Arguments that are nested deeper could not be decoded for the handler either.
const DEPTH_MAX: usize = 127;

/// The arguments of a call by name, taken apart when they are first asked for.
///
/// They are kept as they are written: a number of 128 bits, or a fraction, is not rounded on its way
/// into a key.
pub(super) struct Args<'a> {
    pub(super) kind: &'a KindName,
    json: &'a Json,
    values: OnceCell<BTreeMap<String, &'a RawValue>>,
}

impl<'a> Args<'a> {
    pub(super) fn new(kind: &'a KindName, json: &'a Json) -> Args<'a> {
        Args { kind, json, values: OnceCell::new() }
    }

    /// A hash of all arguments.
    pub(super) fn digest(&self) -> Result<String, InvalidJob> {
        if !self.json.as_str().trim_start().starts_with('{') {
            let mut text = String::new();
            self.push(self.json.as_str(), &mut text)?;
            return Ok(hash(&text));
        }
        self.digest_of(self.values().iter().map(|(name, value)| (name.as_str(), *value)))
    }

    /// A hash of some arguments.
    pub(super) fn digest_of_fields(&self, fields: &[String]) -> Result<String, InvalidJob> {
        let chosen: Result<BTreeMap<&str, &RawValue>, InvalidJob> =
            fields.iter().map(|field| Ok((field.as_str(), self.find(field)?))).collect();
        self.digest_of(chosen?.into_iter())
    }

    /// Puts arguments in the place of their names in braces; `{{` and `}}` are braces.
    pub(super) fn fill(&self, template: &str) -> Result<String, InvalidJob> {
        let mut text = String::with_capacity(template.len() + 16);
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            text.push_str(before);
            if let Some(tail) = brace.strip_prefix("{{") {
                text.push('{');
                rest = tail;
            } else if let Some(tail) = brace.strip_prefix("}}") {
                text.push('}');
                rest = tail;
            } else if let Some((name, tail)) =
                brace.strip_prefix('{').and_then(|inner| inner.split_once('}'))
            {
                self.push_readable(self.find(name.trim())?, &mut text)?;
                rest = tail;
            } else {
                return Err(InvalidJob::Argument {
                    kind: self.kind.clone(),
                    reason: format!("`{template}` has a brace without its other half"),
                });
            }
        }
        text.push_str(rest);
        Ok(text)
    }

    fn find(&self, name: &str) -> Result<&'a RawValue, InvalidJob> {
        self.values().get(name).copied().ok_or_else(|| {
            let known: Vec<&str> = self.values().keys().map(String::as_str).collect();
            let known = if known.is_empty() { "it has none".into() } else { known.join(", ") };
            let reason = format!("it has no argument `{name}`: expected one of {known}");
            InvalidJob::Argument { kind: self.kind.clone(), reason }
        })
    }

    /// Without the version of the arguments, which is no argument.
    fn values(&self) -> &BTreeMap<String, &'a RawValue> {
        self.values.get_or_init(|| {
            let decoded = serde_json::from_str(self.json.as_str());
            let mut values: BTreeMap<String, &'a RawValue> = decoded.unwrap_or_default();
            values.retain(|name, _| !name.starts_with('$'));
            values
        })
    }

    fn digest_of<'v>(
        &self,
        values: impl Iterator<Item = (&'v str, &'v RawValue)>,
    ) -> Result<String, InvalidJob> {
        let mut text = String::new();
        for (name, value) in values {
            text.push(if text.is_empty() { '{' } else { ',' });
            text.push_str(&Value::from(name).to_string());
            text.push(':');
            self.push(value.get(), &mut text)?;
        }
        text.push_str(if text.is_empty() { "{}" } else { "}" });
        Ok(hash(&text))
    }

    /// A value as people read it: texts without quotes.
    fn push_readable(&self, value: &RawValue, text: &mut String) -> Result<(), InvalidJob> {
        match serde_json::from_str::<String>(value.get()) {
            Ok(value) => text.push_str(&value),
            Err(_) => self.push(value.get(), text)?,
        }
        Ok(())
    }

    fn push(&self, json: &str, text: &mut String) -> Result<(), InvalidJob> {
        push_canonical(json, DEPTH_MAX, text).map_err(|error| {
            let reason = match error {
                Some(error) => error.to_string(),
                None => format!("arguments that make a key are at most {DEPTH_MAX} levels deep"),
            };
            InvalidJob::Argument { kind: self.kind.clone(), reason }
        })
    }
}

fn hash(text: &str) -> String {
    // An id from a name is a hash, and 122 bits of one are plenty.
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).simple().to_string()
}

/// JSON with the keys of objects in order, whatever map they came from, and texts in one spelling. An error
/// without a reason is of what stands too deep.
fn push_canonical(
    json: &str,
    depth: usize,
    text: &mut String,
) -> Result<(), Option<serde_json::Error>> {
    let json = json.trim();
    match json.as_bytes().first() {
        Some(b'{' | b'[') if depth == 0 => return Err(None),
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(json)?;
            text.push('{');
            for (at, (name, value)) in fields.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name).to_string());
                text.push(':');
                push_canonical(value.get(), depth - 1, text)?;
            }
            text.push('}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json)?;
            text.push('[');
            for (at, item) in items.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                push_canonical(item.get(), depth - 1, text)?;
            }
            text.push(']');
        }
        Some(b'"') => text.push_str(&serde_json::from_str::<Value>(json)?.to_string()),
        _ => text.push_str(json),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(json: &str, look: impl FnOnce(&Args<'_>) -> T) -> T {
        let (kind, json) = (KindName::stored("bill"), Json::stored(json));
        look(&Args::new(&kind, &json))
    }

    #[test]
    fn names_in_braces_are_arguments() {
        let fill = |template| with(r#"{"n":7,"who":"a:b","on":true}"#, |args| args.fill(template));
        assert_eq!(fill("t:{n}/{ who }-{on}").unwrap(), "t:7/a:b-true");
        assert_eq!(fill("{{n}}").unwrap(), "{n}");
        assert_eq!(fill("").unwrap(), "");
        assert!(fill("{n").unwrap_err().to_string().contains("a brace without its other half"));
        assert!(fill("n}").unwrap_err().to_string().contains("a brace without its other half"));
        let unknown = fill("{m}").unwrap_err().to_string();
        assert!(unknown.contains("no argument `m`: expected one of n, on, who"), "{unknown}");
    }

    #[test]
    fn a_digest_is_of_values_and_not_of_their_order() {
        let digest = |json| with(json, |args| args.digest().unwrap());
        let one = digest(r#"{"a":1,"b":{"x":[1,null],"y":"é"}}"#);
        assert_eq!(one, digest(r#"{"$version":3,"b":{"y":"é","x":[1,null]},"a":1}"#));
        for other in [r#"{"a":1}"#, r#"{"a":1,"b":{"x":[null,1],"y":"é"}}"#, r#"{"a":"1"}"#] {
            assert_ne!(one, digest(other), "{other}");
        }
        assert_ne!(digest("[1]"), digest("[2]"), "what is no object is its own argument");
        assert_ne!(digest("[]"), digest("{}"));
    }

    #[test]
    fn a_digest_rounds_no_number_and_knows_one_spelling_of_a_text() {
        let digest = |json: &str| with(json, |args| args.digest().unwrap());
        let big = |last| format!(r#"{{"n":3402823669209384634633746074317682114{last}}}"#);
        assert_ne!(digest(&big(54)), digest(&big(55)));
        assert_ne!(digest(r#"{"n":0.1}"#), digest(r#"{"n":0.10000000000000002}"#));
        assert_eq!(digest(r#"{"s":"\u00e9\/"}"#), digest(r#" { "s" : "é/" } "#));
        let filled = with(&big(54), |args| args.fill("{n}")).unwrap();
        assert_eq!(filled, "340282366920938463463374607431768211454");
    }

    #[test]
    fn arguments_without_bottom_are_refused() {
        let nested =
            |depth: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let digest = |json: &str| with(json, |args| args.digest());
        assert_ne!(digest(&nested(126)).unwrap(), digest(&nested(127)).unwrap());
        let error = digest(&nested(100_000)).unwrap_err().to_string();
        assert!(error.contains("at most 127 levels deep"), "{error}");
    }

    #[test]
    fn a_digest_of_fields_looks_at_them_alone() {
        let fields = ["a".to_owned()];
        let digest = |json| with(json, |args| args.digest_of_fields(&fields));
        assert_eq!(digest(r#"{"a":1,"b":2}"#).unwrap(), digest(r#"{"b":3,"a":1}"#).unwrap());
        assert_ne!(digest(r#"{"a":1}"#).unwrap(), digest(r#"{"a":2}"#).unwrap());
        assert!(digest("{}").unwrap_err().to_string().contains("it has none"));
    }
}
