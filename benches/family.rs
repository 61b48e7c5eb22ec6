//! Training steps on the checkpoint of any family. bpo and TRL read the same checkpoint, photographs
//! and texts.

use std::path::{Path, PathBuf};

use bpo::burn::tensor::Device;
use bpo::distort::{ImageLimits, load_rgb};
use bpo::dpo::{Collate, PromptGroup};
use bpo::model::{LoraConfig, ModelError, Processor, ScoreBatch, Vlm, VlmCollator, save_adapter};
use bpo_benches::published;
use bpo_benches::shape::{Preset, StepCost};
use serde_json::json;

use super::{Task, Work, photographs};

impl Task {
    /// Prepares the comparison on a checkpoint: that of `--checkpoint`, or one of random weights with
    /// the dimensions of the preset.
    pub(super) fn checkpoint_work(&self) -> Work {
        let kept = tempfile::tempdir().expect("a directory");
        let dir = self.checkpoint.clone().unwrap_or_else(|| {
            let dir = kept.path().join("checkpoint");
            std::fs::create_dir(&dir).expect("a directory");
            published::write(self.arguments.preset, self.splitting, &dir);
            dir
        });
        let adapter = kept.path().join("adapter");
        let pairs = kept.path().join("pairs.jsonl");
        let lines: String = (0..self.pairs).map(|group| self.line(group) + "\n").collect();
        std::fs::write(&pairs, lines).expect("written");

        let model = self.load(&dir, &Device::flex());
        save_adapter(&model, &LoraConfig::default(), "base", &adapter).expect("written");
        let batch = self.collator(&dir, &model).collate(&self.groups()).expect("the batch fits the model");
        let longest = batch.lengths().max().unwrap_or(0);
        let path = |path: &Path| path.display().to_string();
        Work {
            title: match (&self.checkpoint, self.arguments.preset) {
                (Some(dir), _) => path(dir),
                (None, Preset::Qwen25Vl) => {
                    "Qwen2.5-VL-3B with 2 vision layers and 2 of the language model".to_owned()
                }
                (None, preset) => format!("{preset:?}"),
            },
            tokens: self.tokens(&batch),
            cost: StepCost::of_batch(model.config(), &batch, LoraConfig::default().r),
            own: vec!["--checkpoint".to_owned(), path(&dir)],
            script: "dpo_checkpoint.py",
            peer: vec![path(&dir), path(&pairs), path(&adapter), longest.to_string()],
            _kept: kept,
        }
    }

    /// Loads a checkpoint with fresh adapters.
    pub(super) fn load(&self, dir: &Path, device: &Device) -> Vlm {
        Vlm::from_pretrained(dir, &self.arguments.options(), device)
            .and_then(|model| model.with_lora(&LoraConfig::default(), 0))
            .expect("a supported checkpoint")
    }

    /// Returns the collator of a checkpoint, for photographs by their numbers.
    pub(super) fn collator(
        &self,
        dir: &Path,
        model: &Vlm,
    ) -> impl Collate<Batch = ScoreBatch, Error = ModelError> + Send + use<> {
        let processor = Processor::from_dir(dir, model.config()).expect("the files of a processor");
        let photos = photographs();
        VlmCollator::new(processor, model, move |name: &str| {
            Ok(load_rgb(photo(&photos, name), &ImageLimits::default())?)
        })
    }

    /// The groups of a step.
    fn groups(&self) -> Vec<PromptGroup> {
        let group = |group: usize| {
            let pairs: Vec<_> = (0..self.rejected).map(|rejected| self.pair(group, rejected)).collect();
            let chosen = pairs[0].chosen.clone();
            PromptGroup {
                images: pairs[0].images.clone(),
                weakened: None,
                system: None,
                history: Default::default(),
                prompt: pairs[0].prompt.clone(),
                completions: std::iter::once(chosen)
                    .chain(pairs.into_iter().map(|pair| pair.rejected))
                    .collect(),
            }
        };
        (0..self.pairs).map(group).collect()
    }

    /// The first pair of a group, as a line for the peer.
    fn line(&self, group: usize) -> String {
        let pair = self.pair(group, 0);
        let photo = photo(&photographs(), &pair.images[0]).display().to_string();
        json!({ "image": photo, "prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected })
            .to_string()
    }

    /// Describes the sizes of a step.
    fn tokens(&self, batch: &ScoreBatch) -> String {
        let shape = batch.shape();
        let answer = batch.completion_tokens() / batch.len();
        let prompts = batch.lengths().sum::<usize>() / batch.len() - answer;
        let image = shape.image_tokens / shape.images;
        format!(
            "{} pairs, {} tiles, {image} image + {} text + {answer} answer tokens",
            self.pairs,
            shape.tiles,
            prompts - image
        )
    }
}

/// Returns the photograph with a number. Numbers beyond the last begin again.
pub(super) fn photo<'a>(photos: &'a [PathBuf], number: &str) -> &'a Path {
    &photos[number.parse::<usize>().expect("a number") % photos.len()]
}
