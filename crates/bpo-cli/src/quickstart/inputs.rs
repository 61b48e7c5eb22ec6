//! The inputs of a quickstart, recorded in its directory and compared before anything is written
//! into it.

use std::path::{Path, PathBuf};

use bpo::pairs::files::read_bytes;
use bpo::pairs::{Fingerprint, Limits};
use bpo::{BpoError, Change, RunDir};
use bpo_world::{Example, QuestionMix, Split};
use serde::{Deserialize, Serialize};

use super::files::write_json;
use super::recipe::Size;

/// Everything that determines the images and the base model of a quickstart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    base: String,
    /// Fingerprint of some of the images and texts. Another version of the data set generator has
    /// another one.
    world: String,
}

impl Inputs {
    /// The inputs of a run.
    pub fn new(seed: u64, size: Size, splits: [&str; 2], base: String) -> Self {
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
        let path = out.join("quickstart.json");
        match Self::read(&path)? {
            Some(recorded) if recorded != *self => Err(BpoError::Changed {
                path: out.to_owned(),
                settings: self.changes(&recorded),
                inputs: Vec::new(),
            }),
            Some(_) => Ok(dir),
            None => {
                write_json(&path, self)?;
                Ok(dir)
            }
        }
    }

    fn read(path: &Path) -> Result<Option<Self>, BpoError> {
        match read_bytes(path, Limits::DEFAULT.settings_bytes) {
            Ok(bytes) => {
                let json = |source| BpoError::Json { path: PathBuf::from(path), source };
                Ok(Some(serde_json::from_slice(&bytes).map_err(json)?))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn changes(&self, old: &Self) -> Vec<Change> {
        let change = |key: &str, old: String, new: String| {
            (old != new).then(|| Change { key: key.to_owned(), old: Some(old), new: Some(new) })
        };
        let of = |inputs: &Self| inputs.splits.join(" and ");
        let changes = [
            change("seed", old.seed.to_string(), self.seed.to_string()),
            change("images to train on", old.training_images.to_string(), self.training_images.to_string()),
            change(
                "images of each split",
                old.images_of_each_split.to_string(),
                self.images_of_each_split.to_string(),
            ),
            change("splits", of(old), of(self)),
            change("base model", old.base.clone(), self.base.clone()),
            change("world", old.world.clone(), self.world.clone()),
        ];
        changes.into_iter().flatten().collect()
    }
}

fn world(seed: u64) -> String {
    let examples = (0..16).map(|index| Example::new(Split::Train, index, seed, &QuestionMix::default()));
    let bytes = examples.flat_map(|Example { scene, qa, .. }| {
        [qa.prompt.into_bytes(), qa.answer.into_bytes(), scene.draw().into_raw()].concat()
    });
    Fingerprint::of(bytes.collect::<Vec<u8>>()).to_string()
}
