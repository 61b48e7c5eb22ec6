//! The images: the training split and the two evaluation splits.

use std::path::Path;

use bpo::eval::{PopeNegatives, PopeQuestion, Truth, pope_questions};
use bpo::pairs::files::FileError;
use bpo::{BpoError, Question};
use bpo_world::{Example, QuestionMix, Split, SplitFiles, WorldError, write_split};

use super::recipe::Size;

/// Seed of the evaluation images, which are the same for all seeds of a run.
const EVALUATION_SEED: u64 = 1;
/// Number of yes-or-no questions about objects in the image, and of those about absent objects, for
/// each image.
const PRESENCE_PER_IMAGE: usize = 2;

/// All data of a run, written to disk.
#[derive(Debug)]
pub struct Splits {
    /// The training data in LLaVA's format.
    pub train: SplitFiles,
    /// The objects of each training image.
    pub train_truth: Truth,
    /// The counterfactual split, then the usual one. No image is in the training split.
    pub evaluation: [Evaluated; 2],
}

/// An evaluation split.
#[derive(Debug)]
pub struct Evaluated {
    /// The name in files.
    pub name: &'static str,
    /// The objects of each image.
    pub truth: Truth,
    /// For each image, the question for a description.
    pub descriptions: Vec<Question>,
    /// Yes-or-no questions about objects in the image, and about absent objects that usually occur
    /// with them.
    pub presence: Vec<PopeQuestion>,
}

impl Splits {
    /// Draws and writes all images and their texts. `evaluated` has a counterfactual split and a
    /// usual one.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub fn write(dir: &Path, size: Size, seed: u64, evaluated: [Split; 2]) -> Result<Self, BpoError> {
        let train =
            write_split(dir, Split::Train, size.train, seed, &QuestionMix::default()).map_err(world)?;
        let train_truth = Truth::from_file(&train.truth)?;
        let statistics = usual_statistics();
        let write = |split| Evaluated::write(dir, split, size.evaluation, &statistics);
        let [counter, usual] = evaluated;
        let evaluation = [write(counter)?, write(usual)?];
        Ok(Self { train, train_truth, evaluation })
    }
}

impl Evaluated {
    fn write(dir: &Path, split: Split, count: u64, statistics: &Truth) -> Result<Self, BpoError> {
        let mix = QuestionMix::descriptions();
        let files = write_split(dir, split, count, EVALUATION_SEED, &mix).map_err(world)?;
        let truth = Truth::from_file(&files.truth)?;
        let description = |index| {
            let example = Example::new(split, index, EVALUATION_SEED, &mix);
            Question::new(example.image(), example.qa.prompt)
        };
        let descriptions = (0..count).map(description).collect();
        let presence = pope_questions(
            &truth,
            statistics,
            PopeNegatives::Adversarial,
            PRESENCE_PER_IMAGE,
            EVALUATION_SEED,
        );
        Ok(Self { name: split.name(), truth, descriptions, presence })
    }
}

/// Co-occurrence statistics of usual images, independent of the run's training images.
fn usual_statistics() -> Truth {
    let mut truth = Truth::default();
    for index in 0..1000 {
        let example = Example::new(Split::Base, index, EVALUATION_SEED, &QuestionMix::descriptions());
        let kinds = example.scene.groups().into_iter().map(|group| group.kind.name().to_owned());
        truth.add(&example.image(), kinds);
    }
    truth
}

fn world(error: WorldError) -> BpoError {
    let (path, source) = match error {
        WorldError::File(FileError::Io { path, source, .. }) => (path, source),
        WorldError::Encode { path, source } => (path, std::io::Error::other(source)),
        other => ("the images".into(), std::io::Error::other(other)),
    };
    BpoError::Io { action: "write", path, source }
}
