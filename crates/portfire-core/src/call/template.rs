//! Texts made from the arguments of a call, such as `tenant:{tenant_id}`, and the canonical form of
//! arguments that keys are hashed from.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use crate::job::{InvalidJob, Json, KindName};

/// The arguments of a call by name, taken apart when they are first asked for.
pub(super) struct Args<'a> {
    pub(super) kind: &'a KindName,
    json: &'a Json,
    values: OnceCell<BTreeMap<String, Value>>,
}

impl<'a> Args<'a> {
    pub(super) fn new(kind: &'a KindName, json: &'a Json) -> Args<'a> {
        Args { kind, json, values: OnceCell::new() }
    }

    /// A hash of all arguments.
    pub(super) fn digest(&self) -> String {
        self.digest_of(self.values().iter())
    }

    /// A hash of some arguments.
    pub(super) fn digest_of_fields(&self, fields: &[String]) -> Result<String, InvalidJob> {
        let chosen: Result<BTreeMap<&String, &Value>, InvalidJob> =
            fields.iter().map(|field| Ok((field, self.find(field)?))).collect();
        Ok(self.digest_of(chosen?.into_iter()))
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
                push_value(self.find(name.trim())?, &mut text);
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

    fn find(&self, name: &str) -> Result<&Value, InvalidJob> {
        self.values().get(name).ok_or_else(|| {
            let known: Vec<&str> = self.values().keys().map(String::as_str).collect();
            let known = if known.is_empty() { "it has none".into() } else { known.join(", ") };
            let reason = format!("it has no argument `{name}`: expected one of {known}");
            InvalidJob::Argument { kind: self.kind.clone(), reason }
        })
    }

    /// Without the version of the arguments, which is no argument.
    fn values(&self) -> &BTreeMap<String, Value> {
        self.values.get_or_init(|| {
            let mut values: BTreeMap<String, Value> = self.json.decode().unwrap_or_default();
            values.retain(|name, _| !name.starts_with('$'));
            values
        })
    }

    fn digest_of<'v>(&self, values: impl Iterator<Item = (&'v String, &'v Value)>) -> String {
        let mut text = String::new();
        push_object(values.map(|(name, value)| (name.as_str(), value)).collect(), &mut text);
        // An id from a name is a hash, and 122 bits of one are plenty.
        Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).simple().to_string()
    }
}

/// A value as people read it: texts without quotes.
fn push_value(value: &Value, text: &mut String) {
    match value {
        Value::String(value) => text.push_str(value),
        value => push_canonical(value, text),
    }
}

/// JSON with the keys of objects in order, whatever map they came from.
fn push_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(object) => {
            push_object(object.iter().map(|(name, value)| (name.as_str(), value)).collect(), text);
        }
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                push_canonical(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn push_object(mut fields: Vec<(&str, &Value)>, text: &mut String) {
    fields.sort_by_key(|(name, _)| *name);
    text.push('{');
    for (at, (name, value)) in fields.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&Value::from(name).to_string());
        text.push(':');
        push_canonical(value, text);
    }
    text.push('}');
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
        let digest = |json| with(json, |args| args.digest());
        let one = digest(r#"{"a":1,"b":{"x":[1,null],"y":"é"}}"#);
        assert_eq!(one, digest(r#"{"$version":3,"b":{"y":"é","x":[1,null]},"a":1}"#));
        for other in [r#"{"a":1}"#, r#"{"a":1,"b":{"x":[null,1],"y":"é"}}"#, r#"{"a":"1"}"#] {
            assert_ne!(one, digest(other), "{other}");
        }
        assert_eq!(digest(""), digest("{}"), "what is no object has no arguments");
    }

    #[test]
    fn a_digest_of_fields_looks_at_them_alone() {
        let fields = ["a".to_owned()];
        let digest = |json| with(json, |args| args.digest_of_fields(&fields));
        assert_eq!(digest(r#"{"a":1,"b":2}"#), digest(r#"{"b":3,"a":1}"#));
        assert_ne!(digest(r#"{"a":1}"#), digest(r#"{"a":2}"#));
        assert!(digest("{}").unwrap_err().to_string().contains("it has none"));
    }
}
