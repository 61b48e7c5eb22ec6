//! A pair whose texts are borrowed.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use crate::history::History;
use crate::provenance::Provenance;
use crate::record::{CompletionKind, PreferencePair};

/// A [`PreferencePair`] that borrows its texts, so that the pairs of a record need no copies. Its keys
/// in files are those of a pair.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PairRef<'a> {
    pub(crate) id: Cow<'a, str>,
    pub(crate) images: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) history: &'a History,
    pub(crate) prompt: &'a str,
    pub(crate) chosen: &'a str,
    pub(crate) rejected: &'a str,
    pub(crate) kind: &'a CompletionKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chosen_kind: Option<&'a CompletionKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provenance: Option<&'a Provenance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) margin: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) beta: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) contrast_images: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) contrast_answer: Option<&'a str>,
}

impl PairRef<'_> {
    /// Copies the texts.
    pub(crate) fn to_pair(&self) -> PreferencePair {
        PreferencePair {
            id: self.id.clone().into_owned(),
            images: self.images.to_vec(),
            system: self.system.map(str::to_owned),
            history: self.history.clone(),
            prompt: self.prompt.to_owned(),
            chosen: self.chosen.to_owned(),
            rejected: self.rejected.to_owned(),
            kind: self.kind.clone(),
            chosen_kind: self.chosen_kind.cloned(),
            provenance: self.provenance.cloned(),
            margin: self.margin,
            beta: self.beta,
            contrast_images: self.contrast_images.to_vec(),
            contrast_answer: self.contrast_answer.map(str::to_owned),
        }
    }
}

impl<'a> From<&'a PreferencePair> for PairRef<'a> {
    fn from(pair: &'a PreferencePair) -> Self {
        Self {
            id: Cow::Borrowed(&pair.id),
            images: &pair.images,
            system: pair.system.as_deref(),
            history: &pair.history,
            prompt: &pair.prompt,
            chosen: &pair.chosen,
            rejected: &pair.rejected,
            kind: &pair.kind,
            chosen_kind: pair.chosen_kind.as_ref(),
            provenance: pair.provenance.as_ref(),
            margin: pair.margin,
            beta: pair.beta,
            contrast_images: &pair.contrast_images,
            contrast_answer: pair.contrast_answer.as_deref(),
        }
    }
}

impl Serialize for PreferencePair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        PairRef::from(self).serialize(serializer)
    }
}
