//! Typed access to the keys of one record, with descriptions of wrong values.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::Deserializer;

use super::value::Value;
use crate::ids::Id;
use crate::limits::Limits;
use crate::skipped::{SkipCause, SkipReason};

/// Maximum number of characters of a value in a message.
const SHOWN: usize = 60;
/// Number of keys above which a set finds a repeated one.
const KEYS: usize = 16;
/// The description of a list of turns in messages.
pub(super) const TURNS: &str = "a list of turns";

/// A JSON value that should be a record.
///
/// Deserialization fails only for invalid JSON. A value that is not an object, and an object with a
/// repeated key, is an error of this record alone.
#[derive(Debug)]
pub(super) struct JsonRecord(Result<Fields, SkipCause>);

impl JsonRecord {
    /// Creates a record from the values of a row, or from the reason why it cannot be used.
    #[cfg(feature = "parquet")]
    pub(super) fn new(fields: Result<Fields, SkipCause>) -> Self {
        Self(fields)
    }

    /// Returns the keys of the record, if it is an object.
    pub(super) fn fields(&self) -> Option<&Fields> {
        self.0.as_ref().ok()
    }

    /// Returns the id of the record, if it has one, and the result of `read` for the other keys.
    pub(super) fn read<T>(
        self,
        read: impl FnOnce(Fields) -> Result<T, SkipCause>,
    ) -> (Option<Id>, Result<T, SkipCause>) {
        self.read_named(|fields, _| read(fields))
    }

    /// Does the same as [`read`](Self::read), and passes to `read` whether the record has an id.
    pub(super) fn read_named<T>(
        self,
        read: impl FnOnce(Fields, bool) -> Result<T, SkipCause>,
    ) -> (Option<Id>, Result<T, SkipCause>) {
        let read = |mut fields: Fields| match fields.id("id") {
            Ok(id) => {
                let read = read(fields, id.is_some());
                (id, read)
            }
            Err(cause) => (None, Err(cause)),
        };
        self.0.map_or_else(|cause| (None, Err(cause)), read)
    }

    /// Returns the keys of the record.
    #[cfg(test)]
    pub(super) fn into_fields(self) -> Result<Fields, SkipCause> {
        self.0
    }
}

/// The keys of an object that have not been taken, in the order of the file.
///
/// Objects have few keys, so that looking through all of them takes less time than a map.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(String, Value)>);

impl FromIterator<(String, Value)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> Self {
        Self(Vec::from_iter(fields))
    }
}

impl IntoIterator for Fields {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl PartialEq for Fields {
    /// Compares without regard to the order of the keys.
    fn eq(&self, other: &Self) -> bool {
        let [one, other] = [self, other].map(|fields| {
            let mut sorted: Vec<_> = fields.0.iter().collect();
            sorted.sort_by_key(|(key, _)| key);
            sorted
        });
        one == other
    }
}

impl Fields {
    /// Adds a key, which may be there already.
    pub(super) fn push(&mut self, key: String, value: Value) {
        self.0.push((key, value));
    }

    /// Checks that no key is repeated. `at` comes before the message.
    pub(super) fn unrepeated(self, at: impl fmt::Display) -> Result<Self, SkipCause> {
        match repeated(&self.0) {
            None => Ok(self),
            Some(key) => Err(SkipCause::new(
                SkipReason::Malformed,
                format_args!("{at}the key {} is repeated", quoted(key)),
            )),
        }
    }

    /// Sets the value of a key.
    pub(super) fn put(&mut self, key: &str, value: Value) {
        match self.position(key) {
            Some(at) => self.0[at].1 = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Takes a value, which may be `null`.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.position(key).map(|at| self.0.remove(at).1)
    }

    /// Takes a value, or returns `None` if it is missing or `null`.
    pub(super) fn take_some(&mut self, key: &str) -> Option<Value> {
        self.take(key).filter(|value| !value.is_null())
    }

    /// Returns whether a key has a value other than `null`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !value.is_null())
    }

    /// Returns the value of a key, which may be `null`.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.position(key).map(|at| &self.0[at].1)
    }

    /// Returns the keys that have not been taken.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// Returns the first key that has not been taken.
    pub(super) fn first_left(&self) -> Option<&(String, Value)> {
        self.0.first()
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == key)
    }

    /// Takes an id, if there is one.
    pub(super) fn id(&mut self, key: &str) -> Result<Option<Id>, SkipCause> {
        match self.take_some(key) {
            None => Ok(None),
            Some(Value::String(id)) => Ok(Some(Id(id))),
            Some(Value::Number(id)) if id.is_i64() || id.is_u64() => Ok(Some(Id(id.to_string()))),
            found => Err(wrong(key, "text or an integer", found.as_ref())),
        }
    }

    /// Takes a required text. `at` is the path of the object with a trailing dot, or empty for the
    /// record itself.
    pub(super) fn text(&mut self, at: impl fmt::Display, key: &str) -> Result<String, SkipCause> {
        text(format_args!("{at}{key}"), self.take(key))
    }

    /// Takes an optional text.
    pub(super) fn optional_text(&mut self, key: &str) -> Result<Option<String>, SkipCause> {
        self.take_some(key).map(|value| text(key, Some(value))).transpose()
    }

    /// Takes an optional finite number.
    pub(super) fn optional_number(&mut self, key: &str) -> Result<Option<f64>, SkipCause> {
        self.take_some(key).map(|value| number(key, Some(value))).transpose()
    }
}

/// Converts a value that must be an object.
pub(super) fn object(key: impl fmt::Display, value: Option<Value>) -> Result<Fields, SkipCause> {
    match value {
        Some(Value::Object(fields)) => fields.unrepeated(format_args!("`{key}`: ")),
        found => Err(wrong(key, "an object", found.as_ref())),
    }
}

/// Converts a value that must be a list of at most [`Limits::turns`] turns. `messages` is the
/// number of list items per turn.
pub(super) fn turns(key: &str, messages: usize, value: Option<Value>) -> Result<Vec<Value>, SkipCause> {
    let items = list(key, TURNS, value)?;
    Limits::check(format_args!("{key} (turns)"), items.len() / messages, Limits::DEFAULT.turns)?;
    Ok(items)
}

/// Converts a value that must be a list.
pub(super) fn list(
    key: impl fmt::Display,
    expected: &str,
    value: Option<Value>,
) -> Result<Vec<Value>, SkipCause> {
    match value {
        Some(Value::Array(items)) => Ok(items),
        found => Err(wrong(key, expected, found.as_ref())),
    }
}

/// Converts a value that must be text of at most [`Limits::text_bytes`] bytes.
pub(super) fn text(key: impl fmt::Display, value: Option<Value>) -> Result<String, SkipCause> {
    match value {
        Some(Value::String(text)) => {
            Limits::check(format_args!("{key} (bytes)"), text.len(), Limits::DEFAULT.text_bytes)?;
            Ok(text)
        }
        found => Err(wrong(key, "text", found.as_ref())),
    }
}

/// Converts a value that must be a finite number.
pub(super) fn number(key: impl fmt::Display, value: Option<Value>) -> Result<f64, SkipCause> {
    match value.as_ref().and_then(Value::as_f64).filter(|number| number.is_finite()) {
        Some(number) => Ok(number),
        None => Err(wrong(key, "a number", value.as_ref())),
    }
}

/// Returns the error for a key whose value is not `expected`. `None` stands for a missing key.
pub(super) fn wrong(key: impl fmt::Display, expected: &str, found: Option<&Value>) -> SkipCause {
    SkipCause::new(
        SkipReason::Malformed,
        format_args!("`{key}`: expected {expected}, found {}", describe(found)),
    )
}

/// Describes a value briefly.
pub(super) fn describe(value: Option<&Value>) -> String {
    match value {
        None => "no such key".to_owned(),
        Some(Value::String(text)) => quoted(text),
        Some(Value::Array(items)) => format!("a list of {}", items.len()),
        Some(Value::Object(fields)) => match fields.keys().next() {
            Some(key) => format!("an object with {}", quoted(key)),
            None => "an empty object".to_owned(),
        },
        Some(Value::Null) => "null".to_owned(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Number(number)) => number.to_string(),
    }
}

/// Returns the start of a text, quoted and escaped.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Returns the first key that an earlier one equals.
fn repeated(fields: &[(String, Value)]) -> Option<&str> {
    let mut keys = fields.iter().map(|(key, _)| key.as_str()).enumerate();
    if fields.len() <= KEYS {
        return keys
            .find(|(at, key)| fields[..*at].iter().any(|(known, _)| known == key))
            .map(|(_, key)| key);
    }
    let mut known = HashSet::with_capacity(fields.len());
    keys.find(|(_, key)| !known.insert(*key)).map(|(_, key)| key)
}

impl<'de> Deserialize<'de> for JsonRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Value::deserialize(deserializer)? {
            Value::Object(fields) => fields.unrepeated(""),
            other => Err(SkipCause::new(
                SkipReason::Malformed,
                format_args!("expected an object, found {}", describe(Some(&other))),
            )),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Result<Fields, String> {
        let record: JsonRecord = serde_json::from_str(json).unwrap();
        record.into_fields().map_err(|cause| cause.detail)
    }

    #[test]
    fn records_of_any_form_are_read() {
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
        assert!(fields(r#"{"a": 1, "a": 2}"#).unwrap_err().contains("the key \"a\" is repeated"));
    }

    #[test]
    fn the_first_repeated_key_is_named_among_any_number() {
        for count in [2, KEYS - 1, KEYS, KEYS + 1, 1000] {
            let keys: Vec<_> = (0..count).map(|key| format!("\"{key}\": {key}")).collect();
            let all = keys.join(", ");
            let read = fields(&format!("{{{all}}}")).unwrap();
            assert_eq!(
                read.keys().collect::<Vec<_>>(),
                (0..count).map(|key| key.to_string()).collect::<Vec<_>>()
            );
            let detail = fields(&format!("{{{all}, \"1\": 0, \"0\": 0}}")).unwrap_err();
            assert!(detail.ends_with("the key \"1\" is repeated"), "{count}: {detail}");
        }
    }

    #[test]
    fn a_repeated_key_of_an_inner_object_is_named() {
        let mut some = fields(r#"{"a": {"b": 1, "c": 2, "b": 3}}"#).unwrap();
        let detail = object("a", some.take("a")).unwrap_err().detail;
        assert!(detail.ends_with("`a`: the key \"b\" is repeated"), "{detail}");
    }

    #[test]
    fn objects_are_equal_in_any_order_of_their_keys() {
        let value = |json| serde_json::from_str::<Value>(json).unwrap();
        let one = value(r#"[{"a": 1, "b": [{"c": null, "d": true}]}]"#);
        assert_eq!(one, value(r#"[{"b": [{"d": true, "c": null}], "a": 1}]"#));
        for other in [r#"[{"a": 1}]"#, r#"[{"a": 1, "b": [{"c": null, "d": false}]}]"#] {
            assert_ne!(one, value(other), "{other}");
        }
        let other: serde_json::Value = one.clone().into();
        assert_eq!(one, other.into());
    }

    #[test]
    fn wrong_value_is_named_with_its_key() {
        let mut some = fields(r#"{"id": [1], "beta": "x", "text": {"b": 1}}"#).unwrap();
        let detail = |result: Result<(), SkipCause>| result.unwrap_err().detail;
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
