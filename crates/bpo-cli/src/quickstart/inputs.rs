//! The inputs of a quickstart, recorded in its directory and compared before anything is written
//! into it.

use std::path::Path;

use bpo::pairs::Fingerprint;
use bpo::{BpoError, RunDir, bind_dir};
use bpo_world::{Example, QuestionMix, Split};
use serde::Serialize;

use super::recipe::Size;

/// Everything that determines the images and the base model of a quickstart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inputs {
    /// Seed of the run. The evaluation images are the same for all seeds.
    pub seed: u64,
    /// Number of training images, which the preference data is about.
    pub training_images: u64,
    /// Number of images in each evaluation split.
    pub images_of_each_split: u64,
    #[serde(rename = "evaluated")]
    splits: [String; 2],
    /// Fingerprint of the base model.
    base: Fingerprint,
    /// Fingerprint of some of the images and texts. Another version of the data set generator has
    /// another one.
    world: Fingerprint,
}

impl Inputs {
    /// The inputs of a run.
    pub fn new(seed: u64, size: Size, splits: [&str; 2], base: Fingerprint) -> Self {
        let (splits, world) = (splits.map(str::to_owned), world(seed));
        Self { world, seed, training_images: size.train, images_of_each_split: size.evaluation, splits, base }
    }

    /// Whether the evaluation splits are the validation splits.
    pub fn is_validation(&self) -> bool {
        self.splits.iter().any(|split| split == Split::Validation.name())
    }

    /// The numbers of images.
    pub fn size(&self) -> Size {
        Size { train: self.training_images, evaluation: self.images_of_each_split }
    }

    /// Locks the directory and records these inputs in its `quickstart.json`, or compares them with
    /// those recorded.
    ///
    /// # Errors
    /// Returns [`BpoError::Locked`] if another process uses the directory, [`BpoError::Changed`] if
    /// other inputs are recorded, or an error if the file cannot be written.
    pub fn open_dir(&self, out: &Path) -> Result<RunDir, BpoError> {
        let dir = RunDir::open(out)?;
        let texts = [
            ("seed", self.seed.to_string()),
            ("images to train on", self.training_images.to_string()),
            ("images of each split", self.images_of_each_split.to_string()),
            ("splits", self.splits.join(" and ")),
        ];
        let settings = texts.into_iter().map(|(key, text)| (key.to_owned(), text)).collect();
        let inputs = [("base model", &self.base), ("generated images and texts", &self.world)];
        let inputs = inputs.into_iter().map(|(key, print)| (key.to_owned(), print.clone())).collect();
        bind_dir(&dir, "quickstart.json", settings, inputs)?;
        Ok(dir)
    }
}

fn world(seed: u64) -> Fingerprint {
    let examples = (0..16).map(|index| Example::new(Split::Train, index, seed, &QuestionMix::default()));
    let bytes = examples.flat_map(|Example { scene, qa, .. }| {
        [qa.prompt.into_bytes(), qa.answer.into_bytes(), scene.draw().into_raw()].concat()
    });
    Fingerprint::of(bytes.collect::<Vec<u8>>())
}
