//! JSON objects whose keys are ids.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::error::EvalError;
use crate::truth::open;

/// The values of a JSON object with their keys, in the order of the file.
pub(crate) struct Named<T>(pub Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose keys are ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Named(pairs))
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

/// Reads a file that is one JSON object. `malformed` makes the error of a file with another content.
///
/// # Errors
/// Returns [`EvalError::Read`] or [`EvalError::File`] for a file that cannot be read, the error of
/// `malformed`, or [`EvalError::Repeated`] for a repeated key.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(
    path: &Path,
    malformed: impl FnOnce(serde_json::Error) -> EvalError,
) -> Result<Vec<(String, T)>, EvalError> {
    let named = serde_json::from_reader(open(path)?);
    let Named(pairs) = named.map_err(|source: serde_json::Error| match source.is_io() {
        true => unread(path, source),
        false => malformed(source),
    })?;
    without_repetition(path, pairs)
}

/// Reads a file if it is one JSON object. Returns `None` for an array and for several values.
///
/// # Errors
/// Returns the errors of [`read`], and [`EvalError::Json`] if the first value is malformed.
pub(crate) fn read_if_one<T: for<'de> Deserialize<'de>>(
    path: &Path,
) -> Result<Option<Vec<(String, T)>>, EvalError> {
    let mut values = serde_json::Deserializer::from_reader(open(path)?).into_iter::<Named<T>>();
    match (values.next(), values.next()) {
        (Some(Ok(Named(pairs))), None) => without_repetition(path, pairs).map(Some),
        (Some(Err(source)), _) if source.is_io() => Err(unread(path, source)),
        // a byte order mark, which the reader of records removes, is an error at the start
        (Some(Err(source)), _) if !source.is_data() && (source.line(), source.column()) > (1, 1) => {
            Err(EvalError::Json { path: path.into(), source })
        }
        _ => Ok(None),
    }
}

fn unread(path: &Path, source: serde_json::Error) -> EvalError {
    EvalError::Read { path: path.into(), source: source.into() }
}

fn without_repetition<T>(path: &Path, pairs: Vec<(String, T)>) -> Result<Vec<(String, T)>, EvalError> {
    let mut seen = HashSet::new();
    match pairs.iter().position(|(id, _)| !seen.insert(id.as_str())) {
        Some(place) => {
            Err(EvalError::Repeated { path: path.into(), record: place + 1, id: pairs[place].0.clone() })
        }
        None => Ok(pairs),
    }
}
