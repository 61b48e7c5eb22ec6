//! The trainings that are compared.

use std::path::{Path, PathBuf};

use bpo::burn::tensor::Device;
use bpo::dpo::loss::Loss;
use bpo::pairs::{CompletionKind, PreferencePair};
use bpo::{
    BpoError, ImageRoot, Inputs, LocalBackend, PipelineBackend, RunConfig, RunDir, RunStatus, Stage,
    StageLedger,
};
use serde::Serialize;

use crate::progress;
use crate::terminal::print_line;

/// A training from the same annotated answers, for the same number of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Control: supervised fine-tuning on the chosen answers, without rejected ones.
    Sft,
    /// Preference over answers about weakened images only.
    Weakened,
    /// Preference over answers with injected errors only.
    Injected,
    /// Both kinds of rejected answers, with the authors' loss.
    AuthorsLoss,
    /// Both kinds of rejected answers, with an additional SFT term on the chosen answers.
    Bpo,
}

impl Variant {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Weakened => "weakened",
            Self::Injected => "injected",
            Self::AuthorsLoss => "authors_loss",
            Self::Bpo => "bpo",
        }
    }

    /// The title in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sft => "SFT control",
            Self::Weakened => "weakened only",
            Self::Injected => "injected only",
            Self::AuthorsLoss => "BPO, authors' loss",
            Self::Bpo => "BPO",
        }
    }

    /// The settings of the training.
    pub fn config(self, config: &RunConfig, steps: usize) -> RunConfig {
        let mut config = config.clone();
        let loss = match self {
            Self::Sft => Loss::Sft,
            Self::AuthorsLoss => Loss::default(),
            Self::Weakened | Self::Injected | Self::Bpo => config.train.loss.clone(),
        };
        config.train = config.train.with_loss(loss).with_max_steps(Some(steps));
        config
    }

    /// The pairs of the training.
    pub fn pairs(self, all: &[PreferencePair]) -> Vec<PreferencePair> {
        let of = |kind: CompletionKind| all.iter().filter(|pair| pair.kind == kind).cloned().collect();
        match self {
            Self::Weakened => of(CompletionKind::ImageWeakened),
            Self::Injected => of(CompletionKind::ErrorInjected),
            Self::Sft | Self::AuthorsLoss | Self::Bpo => all.to_vec(),
        }
    }

    /// Trains in a separate directory, or resumes training in it. Returns the directory of the
    /// adapter.
    ///
    /// # Errors
    /// Returns an error if training fails, or the directory has other settings.
    pub fn train(
        self,
        config: &RunConfig,
        pairs: &[PreferencePair],
        steps: usize,
        dir: &Path,
        device: &Device,
    ) -> Result<PathBuf, BpoError> {
        let config = self.config(config, steps).with_absolute_paths()?;
        let dir = RunDir::open(dir)?;
        let (images, pairs) = (ImageRoot::new(config.images_path()?)?, self.pairs(pairs));
        let names = pairs.iter().flat_map(|pair| pair.images.iter().map(String::as_str));
        let inputs = Inputs::read(&[Stage::Train], &config, None)?.with_images(images.fingerprint(names));
        let mut ledger = StageLedger::open_training(&config, &inputs, &dir)?;
        if !ledger.is_finished(Stage::Train) {
            print_line(&format!("{}:", self.title()));
            let mut backend = LocalBackend::new(config.clone(), device.clone(), None);
            let (status, outcome) = backend.train(pairs, &images, &dir, &mut *progress::new())?;
            if status == RunStatus::Finished {
                ledger.finish_training(&config, &dir, &outcome.summary)?;
            }
        }
        Ok(dir.adapter())
    }
}
