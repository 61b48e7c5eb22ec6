//! What a quickstart's directory was begun with: looked at before anything is written into it.

use std::path::{Path, PathBuf};

use bpo::pairs::Fingerprint;
use bpo::{BpoError, Change, RunDir};
use bpo_world::{Example, Mix, Split};
use serde::{Deserialize, Serialize};

use super::files::write_json;
use super::recipe::Size;

/// What decides about the pictures and the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// Of the run; the pictures that are evaluated on are the same for all.
    pub seed: u64,
    /// Pictures that preference data is made of.
    pub training_images: u64,
    /// Pictures of each split that models are asked about.
    pub images_of_each_split: u64,
    #[serde(rename = "evaluated")]
    splits: [String; 2],
    /// Fingerprint of the base model.
    base: String,
    /// Fingerprint of some of the pictures and texts, which another version of the world makes others.
    world: String,
}

impl Begun {
    /// Of a run.
    pub fn new(seed: u64, size: Size, splits: [&str; 2], base: String) -> Self {
        let (splits, world) = (splits.map(str::to_owned), world(seed));
        Self { world, seed, training_images: size.train, images_of_each_split: size.evaluation, splits, base }
    }

    /// Whether the splits are those for choosing settings.
    pub fn is_validation(&self) -> bool {
        self.splits.iter().any(|split| split == Split::Validation.name())
    }

    /// How much of the whole it is.
    pub fn size(&self) -> Size {
        Size { train: self.training_images, evaluation: self.images_of_each_split }
    }

    /// Takes a directory for this run alone, and keeps in it what it was begun with.
    ///
    /// # Errors
    /// [`BpoError::Locked`]; [`BpoError::ConfigChanged`] if it was begun with something else; if it cannot be written.
    pub fn hold(&self, out: &Path) -> Result<RunDir, BpoError> {
        let dir = RunDir::open(out)?;
        let path = out.join("quickstart.json");
        match Self::read(&path)? {
            Some(then) if then != *self => {
                Err(BpoError::ConfigChanged { path: out.to_owned(), changes: self.changes(&then) })
            }
            Some(_) => Ok(dir),
            None => {
                write_json(&path, self)?;
                Ok(dir)
            }
        }
    }

    fn read(path: &Path) -> Result<Option<Self>, BpoError> {
        match std::fs::read(path) {
            Ok(bytes) => {
                let json = |source| BpoError::Json { path: PathBuf::from(path), source };
                Ok(Some(serde_json::from_slice(&bytes).map_err(json)?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BpoError::Io { action: "read", path: path.to_owned(), source }),
        }
    }

    fn changes(&self, then: &Self) -> Vec<Change> {
        let change = |key: &str, then: String, now: String| {
            (then != now).then(|| Change { key: key.to_owned(), then: Some(then), now: Some(now) })
        };
        let of = |begun: &Self| begun.splits.join(" and ");
        let changes = [
            change("seed", then.seed.to_string(), self.seed.to_string()),
            change("images to train on", then.training_images.to_string(), self.training_images.to_string()),
            change(
                "images of each split",
                then.images_of_each_split.to_string(),
                self.images_of_each_split.to_string(),
            ),
            change("splits", of(then), of(self)),
            change("base model", then.base.clone(), self.base.clone()),
            change("world", then.world.clone(), self.world.clone()),
        ];
        changes.into_iter().flatten().collect()
    }
}

fn world(seed: u64) -> String {
    let examples = (0..16).map(|index| Example::new(Split::Train, index, seed, &Mix::default()));
    let bytes = examples.flat_map(|Example { scene, turn, .. }| {
        [turn.prompt.into_bytes(), turn.answer.into_bytes(), scene.draw().into_raw()].concat()
    });
    Fingerprint::of(bytes.collect::<Vec<u8>>()).to_string()
}
