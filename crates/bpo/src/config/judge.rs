//! The settings of the judge, which scores answers.

use std::fmt;
use std::path::PathBuf;

use bpo_inject::PromptTexts;
#[cfg(feature = "server")]
use bpo_server::OpenAiConfig;
use serde::{Deserialize, Serialize};

use super::affects::Affects;
use super::validate::check;
use super::{ChosenAnswer, RunConfig, SentImages, check_temperature, check_top_p};
use crate::error::BpoError;
use crate::judge::PROMPTS;
use crate::stage::Stage;

/// How the judge scores an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JudgeMethod {
    /// The judge gives the whole answer a score on a scale, as in LLaVA-Hound (Zhang et al.,
    /// arXiv 2404.01258).
    #[default]
    Score,
    /// The judge lists the claims of the answer and decides on each alone. The score is the number of
    /// wrong claims with a minus sign, as in RLAIF-V (Yu et al., arXiv 2405.17220).
    Claims,
}

impl JudgeMethod {
    /// All values.
    pub const ALL: [Self; 2] = [Self::Score, Self::Claims];

    /// Returns the name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::Claims => "claims",
        }
    }

    /// Returns the names of the prompts.
    pub(crate) fn prompts(self) -> &'static [&'static str] {
        match self {
            Self::Score => &["score"],
            Self::Claims => &["claims", "claim"],
        }
    }
}

impl fmt::Display for JudgeMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `[judge]`: scores of answers by a model, for [`ChosenAnswer::Judged`] and, with `accept_from`, for
/// [`ChosenAnswer::Revised`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct JudgeSection {
    /// How an answer is scored. Default: `score` (ours).
    pub method: JudgeMethod,
    /// Whether the judge sees the images. Default: false, as in LLaVA-Hound.
    pub images: bool,
    /// Whether the judge reads the annotated answer. Default: true, as in LLaVA-Hound.
    pub annotation: bool,
    /// Lowest score of the method `score`. Default: 1 (LLaVA-Hound).
    pub lowest: f64,
    /// Highest score of the method `score`. Default: 5 (LLaVA-Hound).
    pub highest: f64,
    /// Score from which an own answer is right, for `chosen = "revised"` without a ground truth.
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_from: Option<f64>,
    /// Directory with prompts, or one prompt file: `score.j2`, `claims.j2` or `claim.j2`, Jinja
    /// templates in place of the built-in ones. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PathBuf>,
    /// Sampling temperature. Default: 0 (ours), so that a judgment can be repeated.
    pub temperature: f64,
    /// Nucleus sampling: probability mass of the tokens to sample from. Default: 1 (ours).
    pub top_p: f64,
    /// Maximum length of a reply, in tokens. Default: 1024 (ours).
    pub max_new_tokens: usize,
    /// Number of answers judged at the same time by a local model. Default: 8 (ours).
    pub batch_size: usize,
    /// OpenAI-compatible server with the judge. Default: none, the model of the run judges.
    #[cfg(feature = "server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<OpenAiConfig>,
    /// OpenAI-compatible server. A build without the feature `server` keeps the table unchanged and
    /// cannot use the server.
    #[cfg(not(feature = "server"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<toml::Table>,
    /// How images are sent to the server.
    pub server_images: SentImages,
}

impl Default for JudgeSection {
    fn default() -> Self {
        Self {
            method: JudgeMethod::default(),
            images: false,
            annotation: true,
            lowest: 1.0,
            highest: 5.0,
            accept_from: None,
            prompts: None,
            temperature: 0.0,
            top_p: 1.0,
            max_new_tokens: 1024,
            batch_size: 8,
            server: None,
            server_images: SentImages::default(),
        }
    }
}

impl JudgeSection {
    /// The stages whose results each key affects.
    pub(super) const AFFECTS: Affects = &[
        ("method", &[Stage::Judge]),
        ("images", &[Stage::Judge]),
        ("annotation", &[Stage::Judge]),
        ("lowest", &[Stage::Judge]),
        ("highest", &[Stage::Judge]),
        ("accept_from", &[Stage::Pair]),
        // an input, compared by content
        ("prompts", &[]),
        ("temperature", &[Stage::Judge]),
        ("top_p", &[Stage::Judge]),
        ("max_new_tokens", &[Stage::Judge]),
        ("batch_size", &[Stage::Judge]),
        ("server", &[Stage::Judge]),
        ("server_images", &[Stage::Judge]),
    ];

    /// Returns the texts of the prompts, those of files in place of built-in ones.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or is no prompt.
    pub(crate) fn texts(&self) -> Result<PromptTexts, BpoError> {
        let mut texts = PromptTexts::new(&PROMPTS);
        if let Some(path) = &self.prompts {
            texts.read(path)?;
        }
        Ok(texts)
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Returns [`BpoError::Setting`] for the first invalid value.
    pub(super) fn validate(&self) -> Result<(), BpoError> {
        let compares = self.images || self.annotation;
        let expected = "true, or `judge.images` must be: the judge compares answers with one of them";
        check("judge.annotation", compares, expected, self.annotation.to_string())?;
        let is_scale = self.lowest.is_finite() && self.highest.is_finite() && self.lowest < self.highest;
        check("judge.highest", is_scale, "a number above `judge.lowest`", self.highest.to_string())?;
        if self.method == JudgeMethod::Claims {
            let is_default = (self.lowest, self.highest) == (1.0, 5.0);
            let expected = "left out with `judge.method = \"claims\"`, which has no scale";
            check("judge.highest", is_default, expected, format!("{} to {}", self.lowest, self.highest))?;
        }
        if let Some(score) = self.accept_from {
            let (is_usable, expected) = match self.method {
                JudgeMethod::Score => (
                    (self.lowest..=self.highest).contains(&score),
                    "from `judge.lowest` to `judge.highest`; `judge.method = \"claims\"` in the settings file has scores of 0 and below",
                ),
                JudgeMethod::Claims => {
                    (score <= 0.0, "0 or below: the number of wrong claims, with a minus sign")
                }
            };
            check("judge.accept_from", is_usable, expected, score.to_string())?;
        }
        check_temperature("judge.temperature", self.temperature)?;
        check_top_p("judge.top_p", self.top_p)
    }
}

impl RunConfig {
    /// Returns whether answers are scored by a judge before pairs are made of them.
    pub fn judges(&self) -> bool {
        match self.chosen {
            ChosenAnswer::Judged => true,
            ChosenAnswer::Revised => self.judge.accept_from.is_some(),
            ChosenAnswer::Annotated | ChosenAnswer::Own => false,
        }
    }

    /// Returns whether the data needs annotated answers: for pairs, or for the judge.
    pub(crate) fn needs_annotations(&self) -> bool {
        self.chosen.has_annotated() || self.judges() && self.judge.annotation
    }
}
