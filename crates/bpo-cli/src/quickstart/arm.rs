//! What is trained and compared.

use std::path::{Path, PathBuf};

use bpo::burn::tensor::Device;
use bpo::dpo::loss::Loss;
use bpo::pairs::{CompletionKind, PreferencePair};
use bpo::stages::hold_training;
use bpo::{BpoError, ImageRoot, LocalBackend, PipelineBackend, RunConfig, RunDir};
use serde::Serialize;

use crate::progress;

/// A way of training from the same annotated answers, for the same number of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// The control: the chosen answers are made likelier, and there are no rejected ones.
    Sft,
    /// Preference against answers about weakened images alone.
    Weakened,
    /// Preference against answers with injected errors alone.
    Injected,
    /// Both, with the authors' loss.
    AuthorsLoss,
    /// Both, with a term on the likelihood of the chosen answers.
    Bpo,
}

impl Arm {
    /// Its name, as files have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Weakened => "weakened",
            Self::Injected => "injected",
            Self::AuthorsLoss => "authors_loss",
            Self::Bpo => "bpo",
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sft => "SFT control",
            Self::Weakened => "weakened only",
            Self::Injected => "injected only",
            Self::AuthorsLoss => "BPO, authors' loss",
            Self::Bpo => "BPO",
        }
    }

    /// The settings of its training.
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

    /// What it is trained on.
    pub fn pairs(self, all: &[PreferencePair]) -> Vec<PreferencePair> {
        let of = |kind: CompletionKind| all.iter().filter(|pair| pair.kind == kind).cloned().collect();
        match self {
            Self::Weakened => of(CompletionKind::ImageWeakened),
            Self::Injected => of(CompletionKind::ErrorInjected),
            Self::Sft | Self::AuthorsLoss | Self::Bpo => all.to_vec(),
        }
    }

    /// Trains, or goes on, in a directory of its own; gives that of the adapter.
    ///
    /// # Errors
    /// If training fails, or the directory is of other settings.
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
        hold_training(&config, &dir)?;
        if !dir.has_adapter() {
            progress::tell(&format!("{}:", self.title()));
            let images = ImageRoot::new(config.images_path()?)?;
            let mut parts = LocalBackend::new(config, device.clone(), None);
            parts.train(&self.pairs(pairs), &images, &dir, &mut *progress::new())?;
        }
        Ok(dir.adapter())
    }
}
