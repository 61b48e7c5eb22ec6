//! The pictures: what is trained on, and the two splits that are evaluated on.

use std::path::Path;

use bpo::eval::Truth;
use bpo::eval::pope::{Negatives, PopeQuestion, questions};
use bpo::{BpoError, Question};
use bpo_world::dataset::{Files, Mix, write};
use bpo_world::{Example, Split, WorldError};

use super::recipe::Size;

/// Seed of the pictures that are evaluated on: the same ones whatever the run's seed.
const EVALUATION_SEED: u64 = 1;
/// Objects that are there, and that are not, which are asked for in each picture.
const PRESENCE_PER_IMAGE: usize = 2;

/// All data of a run, on disk.
#[derive(Debug)]
pub struct Splits {
    /// In LLaVA's format.
    pub train: Files,
    /// What the training images show.
    pub train_truth: Truth,
    /// Pictures where nothing is as usual, then pictures as those of training, none of them seen before.
    pub evaluation: [Evaluated; 2],
}

/// A split that is evaluated on.
#[derive(Debug)]
pub struct Evaluated {
    /// Its name in files.
    pub name: &'static str,
    /// What its images show.
    pub truth: Truth,
    /// A question for a description of each image.
    pub descriptions: Vec<Question>,
    /// Whether there is something: what is there, and what usually is where it is not.
    pub presence: Vec<PopeQuestion>,
}

impl Splits {
    /// Draws and writes all of it; `evaluated` are one of the counter-world and one of the usual one.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(dir: &Path, size: Size, seed: u64, evaluated: [Split; 2]) -> Result<Self, BpoError> {
        let train = write(dir, Split::Train, size.train, seed, &Mix::default()).map_err(world)?;
        let train_truth = Truth::from_file(&train.truth)?;
        let statistics = usual();
        let write = |split| Evaluated::write(dir, split, size.evaluation, &statistics);
        let [counter, usual] = evaluated;
        let evaluation = [write(counter)?, write(usual)?];
        Ok(Self { train, train_truth, evaluation })
    }
}

impl Evaluated {
    fn write(dir: &Path, split: Split, count: u64, statistics: &Truth) -> Result<Self, BpoError> {
        let mix = Mix::descriptions();
        let files = write(dir, split, count, EVALUATION_SEED, &mix).map_err(world)?;
        let truth = Truth::from_file(&files.truth)?;
        let description = |index| {
            let example = Example::new(split, index, EVALUATION_SEED, &mix);
            Question::new(example.image(), example.turn.prompt)
        };
        let descriptions = (0..count).map(description).collect();
        let presence =
            questions(&truth, statistics, Negatives::Adversarial, PRESENCE_PER_IMAGE, EVALUATION_SEED);
        Ok(Self { name: split.name(), truth, descriptions, presence })
    }
}

/// What usually goes together, whatever a run trains on.
fn usual() -> Truth {
    let mut truth = Truth::default();
    for index in 0..1000 {
        let example = Example::new(Split::Base, index, EVALUATION_SEED, &Mix::descriptions());
        let kinds = example.scene.groups().into_iter().map(|group| group.kind.name().to_owned());
        truth.add(&example.image(), kinds);
    }
    truth
}

fn world(error: WorldError) -> BpoError {
    let (path, source) = match error {
        WorldError::Write { path, source } => (path, source),
        WorldError::Encode { path, source } => (path, std::io::Error::other(source)),
        other => ("the world".into(), std::io::Error::other(other)),
    };
    BpoError::Io { action: "write", path, source }
}
