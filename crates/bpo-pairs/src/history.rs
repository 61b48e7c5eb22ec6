//! The earlier turns of a conversation, shared between its samples.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sft::Turn;

/// The turns before a question, oldest first.
///
/// A history is the start of a list of turns that it shares with its clones and with the histories
/// of [`prefix`](Self::prefix), so the samples of one conversation hold each turn once. It
/// dereferences to `[Turn]`, compares by the turns, and is a list of turns in files.
///
/// ```
/// use bpo_pairs::{History, Turn};
///
/// let turns = History::from(vec![Turn::new("What is it?", "A cat."), Turn::new("Where?", "Here.")]);
/// let first = turns.prefix(1);
/// assert_eq!(first, History::from(vec![Turn::new("What is it?", "A cat.")]));
/// assert!(std::ptr::eq(&first[0], &turns[0]));
/// ```
#[derive(Clone, Default)]
pub struct History {
    turns: Arc<[Turn]>,
    len: usize,
}

impl History {
    /// Returns the first `len` turns, or all turns if there are fewer. No turn is copied.
    #[must_use]
    pub fn prefix(&self, len: usize) -> Self {
        Self { turns: Arc::clone(&self.turns), len: len.min(self.len) }
    }
}

impl Deref for History {
    type Target = [Turn];

    fn deref(&self) -> &[Turn] {
        &self.turns[..self.len]
    }
}

impl From<Vec<Turn>> for History {
    fn from(turns: Vec<Turn>) -> Self {
        // without turns, which is common, there is nothing to allocate
        if turns.is_empty() {
            return Self::default();
        }
        Self { len: turns.len(), turns: turns.into() }
    }
}

impl FromIterator<Turn> for History {
    fn from_iter<I: IntoIterator<Item = Turn>>(turns: I) -> Self {
        turns.into_iter().collect::<Vec<_>>().into()
    }
}

impl<'a> IntoIterator for &'a History {
    type Item = &'a Turn;
    type IntoIter = std::slice::Iter<'a, Turn>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for History {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for History {}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self[..].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for History {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}
