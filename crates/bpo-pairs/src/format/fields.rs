//! The keys of one record, and what is said of a value that is not as expected.

use std::fmt;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::ids::Id;
use crate::limits::Limits;
use crate::skipped::{Flaw, SkipReason};

/// Longest part of a value that a message shows, in characters.
const SHOWN: usize = 60;
/// What [`turns`] expects.
pub(super) const TURNS: &str = "a list of turns";

/// A record as its file has it, of whatever form.
///
/// Only broken syntax fails to be read: what else is wrong is a flaw of this record alone.
#[derive(Debug)]
pub(super) struct JsonRecord(Result<Fields, Flaw>);

impl JsonRecord {
    /// The id of the record, if it has one, and what `read` makes of the other keys.
    pub(super) fn read<T>(
        self,
        read: impl FnOnce(Fields) -> Result<T, Flaw>,
    ) -> (Option<Id>, Result<T, Flaw>) {
        self.read_named(|fields, _| read(fields))
    }

    /// The same; `read` gets to know whether there is an id.
    pub(super) fn read_named<T>(
        self,
        read: impl FnOnce(Fields, bool) -> Result<T, Flaw>,
    ) -> (Option<Id>, Result<T, Flaw>) {
        let read = |mut fields: Fields| match fields.id("id") {
            Ok(id) => {
                let read = read(fields, id.is_some());
                (id, read)
            }
            Err(flaw) => (None, Err(flaw)),
        };
        self.0.map_or_else(|flaw| (None, Err(flaw)), read)
    }

    /// The keys of the record.
    #[cfg(test)]
    pub(super) fn into_fields(self) -> Result<Fields, Flaw> {
        self.0
    }
}

/// The keys of an object that are not read yet.
#[derive(Debug, Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Takes a value out; `null` is a value, too.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key)
    }

    /// Takes a value out, unless it is missing or `null`.
    pub(super) fn take_some(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    /// Whether a key is there, with a value that is not `null`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|value| !value.is_null())
    }

    /// The first key that is not read yet.
    pub(super) fn first_left(&self) -> Option<(&String, &Value)> {
        self.0.iter().next()
    }

    /// The id under a key, if there is one.
    pub(super) fn id(&mut self, key: &str) -> Result<Option<Id>, Flaw> {
        match self.take_some(key) {
            None => Ok(None),
            Some(Value::String(id)) => Ok(Some(Id(id))),
            Some(Value::Number(id)) if id.is_i64() || id.is_u64() => Ok(Some(Id(id.to_string()))),
            found => Err(wrong(key, "text or an integer", found.as_ref())),
        }
    }

    /// A text that must be there; `at` is where the object is, ending in a dot, or nothing for the record itself.
    pub(super) fn text(&mut self, at: &str, key: &str) -> Result<String, Flaw> {
        text(&format!("{at}{key}"), self.take(key))
    }

    /// A text that may be missing or `null`.
    pub(super) fn optional_text(&mut self, key: &str) -> Result<Option<String>, Flaw> {
        self.take_some(key).map(|value| text(key, Some(value))).transpose()
    }

    /// A finite number that may be missing or `null`.
    pub(super) fn optional_number(&mut self, key: &str) -> Result<Option<f64>, Flaw> {
        self.take_some(key).map(|value| number(key, Some(value))).transpose()
    }
}

/// The keys of an object.
pub(super) fn object(key: &str, value: Option<Value>) -> Result<Fields, Flaw> {
    match value {
        Some(Value::Object(map)) => Ok(Fields(map)),
        found => Err(wrong(key, "an object", found.as_ref())),
    }
}

/// The items of a list of turns, of which each has `messages` of two sides or one.
pub(super) fn turns(key: &str, messages: usize, value: Option<Value>) -> Result<Vec<Value>, Flaw> {
    let items = list(key, TURNS, value)?;
    Limits::check(format!("{key} (turns)"), items.len() / messages, Limits::DEFAULT.turns)?;
    Ok(items)
}

/// The items of a list.
pub(super) fn list(key: &str, expected: &str, value: Option<Value>) -> Result<Vec<Value>, Flaw> {
    match value {
        Some(Value::Array(items)) => Ok(items),
        found => Err(wrong(key, expected, found.as_ref())),
    }
}

/// A text.
pub(super) fn text(key: &str, value: Option<Value>) -> Result<String, Flaw> {
    match value {
        Some(Value::String(text)) => {
            Limits::check(format!("{key} (bytes)"), text.len(), Limits::DEFAULT.text_bytes)?;
            Ok(text)
        }
        found => Err(wrong(key, "text", found.as_ref())),
    }
}

/// A finite number.
pub(super) fn number(key: &str, value: Option<Value>) -> Result<f64, Flaw> {
    match value.as_ref().and_then(Value::as_f64).filter(|number| number.is_finite()) {
        Some(number) => Ok(number),
        None => Err(wrong(key, "a number", value.as_ref())),
    }
}

/// The flaw of a key whose value is not `expected`; `None` is a key that is missing.
pub(super) fn wrong(key: &str, expected: &str, found: Option<&Value>) -> Flaw {
    Flaw::new(SkipReason::Malformed, format_args!("`{key}`: expected {expected}, found {}", describe(found)))
}

/// A value in a few words.
pub(super) fn describe(value: Option<&Value>) -> String {
    match value {
        None => "no such key".to_owned(),
        Some(Value::String(text)) => quoted(text),
        Some(Value::Array(items)) => format!("a list of {}", items.len()),
        Some(Value::Object(map)) => match map.keys().next() {
            Some(key) => format!("an object with {}", quoted(key)),
            None => "an empty object".to_owned(),
        },
        Some(other) => other.to_string(),
    }
}

/// The beginning of a text, with quotes and escapes.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

impl<'de> Deserialize<'de> for JsonRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RecordVisitor)
    }
}

struct RecordVisitor;

impl RecordVisitor {
    fn no_object<E>(value: impl Into<Value>) -> Result<JsonRecord, E> {
        let found = describe(Some(&value.into()));
        Ok(JsonRecord(Err(Flaw::new(
            SkipReason::Malformed,
            format_args!("expected an object, found {found}"),
        ))))
    }
}

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = JsonRecord;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<JsonRecord, A::Error> {
        let (mut fields, mut repeated) = (Map::new(), None);
        while let Some(key) = entries.next_key::<String>()? {
            let value: Value = entries.next_value()?;
            if fields.contains_key(&key) {
                repeated = repeated.or(Some(key));
            } else {
                fields.insert(key, value);
            }
        }
        Ok(JsonRecord(match repeated {
            None => Ok(Fields(fields)),
            Some(key) => {
                Err(Flaw::new(SkipReason::Malformed, format_args!("the key {} is there twice", quoted(&key))))
            }
        }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<JsonRecord, A::Error> {
        Self::no_object(Value::deserialize(SeqAccessDeserializer::new(items))?)
    }

    fn visit_unit<E: Error>(self) -> Result<JsonRecord, E> {
        Self::no_object(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<JsonRecord, E> {
        Self::no_object(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<JsonRecord, E> {
        Self::no_object(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<JsonRecord, E> {
        Self::no_object(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<JsonRecord, E> {
        Self::no_object(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<JsonRecord, E> {
        Self::no_object(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Result<Fields, String> {
        let record: JsonRecord = serde_json::from_str(json).unwrap();
        record.into_fields().map_err(|flaw| flaw.detail)
    }

    #[test]
    fn a_record_of_any_form_is_read() {
        let mut some = fields(r#"{"id": 3, "text": "a", "null": null}"#).unwrap();
        assert_eq!(some.id("id").unwrap().unwrap().0, "3");
        assert_eq!(some.text("", "text").unwrap(), "a");
        assert_eq!(some.optional_text("null").unwrap(), None);
        for (json, found) in
            [("null", "null"), ("[1, {}]", "a list of 2"), ("1.5", "1.5"), ("\"a\\n\"", r#""a\n""#)]
        {
            let detail = fields(json).unwrap_err();
            assert!(detail.ends_with(&format!("expected an object, found {found}")), "{detail}");
        }
        assert!(fields(r#"{"a": 1, "a": 2}"#).unwrap_err().contains("the key \"a\" is there twice"));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key() {
        let mut some = fields(r#"{"id": [1], "beta": "x", "text": {"b": 1}}"#).unwrap();
        let detail = |result: Result<(), Flaw>| result.unwrap_err().detail;
        assert!(
            detail(some.id("id").map(drop)).ends_with("`id`: expected text or an integer, found a list of 1")
        );
        assert!(
            detail(some.optional_number("beta").map(drop))
                .ends_with("`beta`: expected a number, found \"x\"")
        );
        assert!(
            detail(some.text("", "text").map(drop))
                .ends_with("`text`: expected text, found an object with \"b\"")
        );
        assert!(
            detail(some.text("a[0].", "no").map(drop)).contains("`a[0].no`: expected text, found no such")
        );
        assert!(quoted(&"é".repeat(70)).ends_with("\"..."));
    }
}
