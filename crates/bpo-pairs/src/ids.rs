//! Ids of records, made unique where the data repeats or omits them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

/// The id of a record: text or an integer in the data, always written as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Id(pub String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id: text or an integer")
            }

            fn visit_str<E: Error>(self, id: &str) -> Result<Id, E> {
                Ok(Id(id.to_owned()))
            }

            fn visit_i64<E: Error>(self, id: i64) -> Result<Id, E> {
                Ok(Id(id.to_string()))
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Id, E> {
                Ok(Id(id.to_string()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// Returns `id`, or `index` (the position of the record in its file, from 0) if `id` is missing or
/// empty.
pub(crate) fn id_or_index(id: Option<Id>, index: usize) -> String {
    id.filter(|id| !id.0.is_empty()).map_or_else(|| index.to_string(), |id| id.0)
}

/// Makes ids unique by numbering: the second `cat` becomes `cat~2`.
#[derive(Debug, Default)]
pub(crate) struct UniqueIds {
    /// Hashes of the ids. If two ids had the same one, the second would get a number.
    taken: HashSet<u64>,
    /// The next number to try for each repeated id. Without it, equal ids would take quadratic
    /// time.
    next: HashMap<String, usize>,
}

impl UniqueIds {
    /// Returns the id of a record that makes one sample, pair or record.
    pub(crate) fn claim_one(&mut self, id: &str) -> String {
        self.claim(id, 1).pop().unwrap_or_default()
    }

    /// Returns the ids of the `parts` samples of one conversation: `{id}` for one part, `{id}#{k}`
    /// for several.
    pub(crate) fn claim(&mut self, id: &str, parts: usize) -> Vec<String> {
        let mut number = self.next.get(id).copied().unwrap_or(1);
        loop {
            let base = if number == 1 { id.to_owned() } else { format!("{id}~{number}") };
            number += 1;
            let mut hashes = vec![hash(&base)];
            let ids = part_ids(base, parts);
            if parts > 1 {
                hashes.extend(ids.iter().map(|id| hash(id)));
            }
            if !hashes.iter().any(|hash| self.taken.contains(hash)) {
                if number > 2 {
                    self.next.insert(id.to_owned(), number);
                }
                self.taken.extend(hashes);
                return ids;
            }
        }
    }
}

/// Returns the same hash in every process, so that the same data have the same ids.
fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

fn part_ids(base: String, parts: usize) -> Vec<String> {
    if parts <= 1 { vec![base] } else { (0..parts).map(|k| format!("{base}#{k}")).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_ids_are_numbered() {
        let mut ids = UniqueIds::default();
        assert_eq!(ids.claim("a", 1), ["a"]);
        assert_eq!(ids.claim("a~2", 1), ["a~2"]);
        assert_eq!(ids.claim("a", 1), ["a~3"]);
        assert_eq!(ids.claim("b", 2), ["b#0", "b#1"]);
        assert_eq!(ids.claim("b#1", 1), ["b#1~2"]);
        assert_eq!(ids.claim("b", 2), ["b~2#0", "b~2#1"]);
        assert_eq!(ids.claim("c#0", 1), ["c#0"]);
        assert_eq!(ids.claim("c", 2), ["c~2#0", "c~2#1"]);
    }

    #[test]
    fn ids_are_text_or_integers() {
        let id = |json| serde_json::from_str::<Id>(json);
        assert_eq!(id("\"7\"").unwrap(), id("7").unwrap());
        assert_eq!(id("-3").unwrap().0, "-3");
        assert_eq!(id_or_index(Some(id("\"\"").unwrap()), 4), "4");
        assert!(id("1.5").unwrap_err().to_string().contains("text or an integer"));
    }
}
