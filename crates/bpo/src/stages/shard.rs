//! Shards: parts of a stage that several processes work on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Shard `i/n` of a stage, from `1/n` to `n/n`.
///
/// It has the batches whose index, counted from 0, is `i - 1` modulo `n`. So batches have the same
/// items as in a stage that is not split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: usize,
    count: usize,
}

/// The text is not the name of a shard.
#[derive(Debug, thiserror::Error)]
#[error("expected I/N with I from 1 to N, such as 2/3, not {found:?}")]
pub struct ShardError {
    found: String,
}

impl Shard {
    /// Returns all shards of the stage that this one belongs to, in order.
    pub(crate) fn all(self) -> impl Iterator<Item = Self> {
        (0..self.count).map(move |index| Self { index, count: self.count })
    }

    /// Returns whether the shard has the batch with this index, counted from 0.
    pub(super) fn has_batch(self, batch: usize) -> bool {
        batch % self.count == self.index
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let numbers = text.split_once('/').and_then(|(index, count)| {
            let (index, count): (usize, usize) = (index.trim().parse().ok()?, count.trim().parse().ok()?);
            (1..=count).contains(&index).then(|| Self { index: index - 1, count })
        });
        numbers.ok_or_else(|| ShardError { found: text.to_owned() })
    }
}

impl TryFrom<String> for Shard {
    type Error = ShardError;

    fn try_from(text: String) -> Result<Self, ShardError> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_each_batch_once() {
        let shards: Vec<Shard> = (1..=3).map(|index| format!("{index}/3").parse().unwrap()).collect();
        for batch in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.has_batch(batch)).count(), 1, "{batch}");
        }
        assert_eq!(shards[1].to_string(), "2/3");
        for text in ["0/3", "4/3", "1/0", "1", "a/b", "-1/2", ""] {
            assert!(text.parse::<Shard>().unwrap_err().to_string().contains("I/N"), "{text}");
        }
    }
}
