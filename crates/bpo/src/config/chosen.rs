//! The chosen answers of the pairs, and the ground truth that they are compared with.

use std::fmt;
use std::path::PathBuf;

use bpo_eval::{ObjectTable, Truth, TruthFiles};
use serde::{Deserialize, Serialize};

use super::JudgeSection;
use super::RunConfig;
use super::affects::Affects;
use super::validate::check;
use crate::error::BpoError;

/// The key of [`ChosenAnswer`] in the settings.
pub(crate) const CHOSEN: &str = "chosen";

/// The answer of a sample that is the chosen one of its pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ChosenAnswer {
    /// The annotated answer, as in BPO.
    #[default]
    Annotated,
    /// The model's own answer about the image as it is, as in SeVa (Zhu et al., arXiv 2404.10501). The
    /// weaken stage asks for it too. The data needs no annotated answers, and no errors are injected.
    Own,
    /// The model's own answer if it names objects and all of them are in the image, and else the
    /// annotated one. An own answer that names another object is a rejected one. The rule is ours,
    /// with the objects of CHAIR (Rohrbach et al., arXiv 1809.02156).
    Revised,
    /// Every answer of the model that a judge gave a higher score than another one, as in LLaVA-Hound
    /// (Zhang et al., arXiv 2404.01258) and RLAIF-V (Yu et al., arXiv 2405.17220). No errors are injected.
    Judged,
}

impl ChosenAnswer {
    /// All values.
    pub const ALL: [Self; 4] = [Self::Annotated, Self::Own, Self::Revised, Self::Judged];

    /// Returns the name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Annotated => "annotated",
            Self::Own => "own",
            Self::Revised => "revised",
            Self::Judged => "judged",
        }
    }

    /// Returns whether the weaken stage asks the model for its own answer about each image.
    pub fn has_own(self) -> bool {
        self != Self::Annotated
    }

    /// Returns whether the annotated answers make pairs, so that errors are injected into them.
    pub fn has_annotated(self) -> bool {
        matches!(self, Self::Annotated | Self::Revised)
    }

    /// Returns whether this is the default.
    pub(super) fn is_annotated(&self) -> bool {
        *self == Self::Annotated
    }
}

impl fmt::Display for ChosenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `[truth]`: the objects in the images, for [`ChosenAnswer::Revised`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TruthSection {
    /// Objects of each image, `{"image", "objects"}`, as JSON lines or a JSON array. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// COCO annotations: instances and, with `objects`, captions. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub coco: Vec<PathBuf>,
    /// Objects and their synonyms, an object per line, as CHAIR's `synonyms.txt`. Default: the names
    /// in the ground truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<PathBuf>,
}

impl TruthSection {
    /// The stages whose results each key affects. All are inputs, compared by content.
    pub(super) const AFFECTS: Affects = &[("path", &[]), ("coco", &[]), ("objects", &[])];

    /// Iterates over the files, each with its key.
    pub(crate) fn files(&self) -> impl Iterator<Item = (String, &PathBuf)> {
        let coco = self.coco.iter().enumerate().map(|(i, path)| (format!("truth.coco[{i}]"), path));
        let path = self.path.iter().map(|path| ("truth.path".to_owned(), path));
        let objects = self.objects.iter().map(|path| ("truth.objects".to_owned(), path));
        path.chain(coco).chain(objects)
    }

    /// Iterates over the paths of the files.
    pub(super) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.path.iter_mut().chain(&mut self.coco).chain(&mut self.objects)
    }

    /// Reads the files.
    ///
    /// # Errors
    /// Returns [`BpoError::Setting`] if neither `path` nor `coco` is set, or an error if a file cannot be
    /// read, or the table has none of the objects.
    pub(crate) fn read(&self) -> Result<(ObjectTable, Truth), BpoError> {
        let has_images = self.path.is_some() || !self.coco.is_empty();
        let expected = "set (--truth), or `truth.coco` (--coco), or `judge.accept_from` (--accept-from), with `chosen = \"revised\"`";
        check("truth.path", has_images, expected, "left out".to_owned())?;
        let (path, coco, objects) = (self.path.clone(), self.coco.clone(), self.objects.clone());
        let (table, truth) = TruthFiles { truth: path, coco, objects, as_published: false }.read()?;
        truth.check(&table)?;
        Ok((table, truth))
    }

    /// Returns whether no file is set.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Checks that the other settings agree with the chosen answers.
///
/// # Errors
/// Returns [`BpoError::Conflict`] for a ground truth, a judge or a model that rewrites answers if it is not
/// used, for contrasts without annotated answers, and for the start of an annotated answer in front of an
/// own one, or [`BpoError::Setting`] for a
/// number of answers that makes no pairs.
pub(super) fn validate(config: &RunConfig) -> Result<(), BpoError> {
    let RunConfig { chosen, truth, weaken, judge, .. } = config;
    let chosen = *chosen;
    let conflict = |key: String, reason| {
        Err(BpoError::Conflict { key: key.into(), with: format!("`chosen = \"{chosen}\"`"), reason })
    };
    if chosen != ChosenAnswer::Revised
        && let Some((key, _)) = truth.files().next()
    {
        return conflict(key, "the ground truth is for `chosen = \"revised\"` (--chosen)");
    }
    if judge.accept_from.is_some() {
        if chosen != ChosenAnswer::Revised {
            return conflict("judge.accept_from".to_owned(), "it is for `chosen = \"revised\"` (--chosen)");
        }
        if let Some((key, _)) = truth.files().next() {
            let reason = "own answers are compared with the ground truth or by the judge";
            return Err(BpoError::Conflict {
                key: key.into(),
                with: "`judge.accept_from`".to_owned(),
                reason,
            });
        }
    }
    if !config.pair.contrast.is_none() && !chosen.has_annotated() {
        let reason =
            "the answer for other images is an annotated one, and annotated answers are not used then";
        return conflict("pair.contrast".to_owned(), reason);
    }
    if !config.judges() && *judge != JudgeSection::default() {
        let key = if judge.server.is_some() { "judge.server" } else { "judge" };
        let reason = "a judge is for `chosen = \"judged\"`, and for \"revised\" with `judge.accept_from`";
        return conflict(key.to_owned(), reason);
    }
    let own = weaken.own_samples;
    if own != 1 && !matches!(chosen, ChosenAnswer::Judged | ChosenAnswer::Revised) {
        return conflict("weaken.own_samples".to_owned(), "it is for \"judged\" and \"revised\"");
    }
    let expected = "above 0 with several `weaken.own_samples`, which would be equal";
    check("weaken.temperature", own == 1 || weaken.temperature > 0.0, expected, "0".to_owned())?;
    let (least, expected) = match chosen {
        ChosenAnswer::Judged => {
            (2, "larger, or `weaken.own_samples` (--own-samples): a pair needs two answers about an image")
        }
        ChosenAnswer::Revised => (1, "at least 1 together with `weaken.own_samples`"),
        ChosenAnswer::Annotated | ChosenAnswer::Own => (2, "at least 1"),
    };
    let answers = weaken.variants().saturating_add(own);
    check("weaken.samples", answers >= least, expected, weaken.samples.to_string())?;
    if !chosen.has_annotated() && config.inject.has_llm() {
        let section = &config.inject;
        let key = match () {
            () if section.server.is_some() => "inject.server",
            () if section.with_model => "inject.with_model",
            () => "inject.model",
        };
        return conflict(key.to_owned(), "no annotated answers are rewritten then");
    }
    for (key, is_set) in [
        ("weaken.prefix_fraction", weaken.prefix_fraction > 0.0),
        ("weaken.cut_sentences", weaken.cut_sentences > 0),
    ] {
        if chosen.has_own() && is_set {
            return conflict(key.to_owned(), "own answers do not continue the annotated ones");
        }
    }
    Ok(())
}
