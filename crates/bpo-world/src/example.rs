//! Splits and their examples.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scene::Scene;
use crate::statistics::Statistics;
use crate::text::{QuestionAnswer, Topic, presence_kinds};

/// A split of the data. No two splits share a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The usual world, to train the base model.
    Base,
    /// The usual world, to make preference data.
    Train,
    /// The usual world, to choose settings.
    Validation,
    /// The counterfactual world, to choose settings.
    ValidationCounter,
    /// The usual world, for the final evaluation.
    HeldOut,
    /// The counterfactual world, for the final evaluation.
    Counter,
}

impl Split {
    /// All splits.
    pub const ALL: [Self; 6] =
        [Self::Base, Self::Train, Self::Validation, Self::ValidationCounter, Self::HeldOut, Self::Counter];

    /// The name in file names and ids.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Train => "train",
            Self::Validation => "validation",
            Self::ValidationCounter => "validation-counter",
            Self::HeldOut => "held-out",
            Self::Counter => "counter",
        }
    }

    fn statistics(self) -> Statistics {
        match self {
            Self::Base | Self::Train | Self::Validation | Self::HeldOut => Statistics::usual(),
            Self::ValidationCounter | Self::Counter => Statistics::counter(),
        }
    }
}

/// Shares of the question types. The rest are requests for a description.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct QuestionMix {
    /// Share of questions whether the image shows an object.
    pub presence: f64,
    /// Share of questions about a colour.
    pub colour: f64,
    /// Share of questions about a number of objects.
    pub count: f64,
}

impl QuestionMix {
    /// A mix with these shares, each from 0 to 1.
    pub fn new(presence: f64, colour: f64, count: f64) -> Self {
        Self { presence, colour, count }
    }

    /// Requests for a description only.
    pub fn descriptions() -> Self {
        Self::new(0.0, 0.0, 0.0)
    }
}

impl Default for QuestionMix {
    /// 80 % descriptions, 12 % presence, 4 % colours, 4 % numbers.
    fn default() -> Self {
        Self::new(0.12, 0.04, 0.04)
    }
}

/// A scene with a question and its annotated answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The id, unique among all splits with the same seed: `train-000042`.
    pub id: String,
    /// The scene.
    pub scene: Scene,
    /// The question and its answer.
    pub qa: QuestionAnswer,
}

impl Example {
    /// The example with this index in a split. The same arguments give the same example.
    pub fn new(split: Split, index: u64, seed: u64, mix: &QuestionMix) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Every example of every split has its own random stream.
        rng.set_stream(((split as u64) << 48) | index);
        let scene = Scene::sample(&split.statistics(), rng.random());
        let topic = topic(&scene, mix, &mut rng);
        let qa = QuestionAnswer::about(&scene, topic, rng.random());
        Self { id: format!("{}-{index:06}", split.name()), scene, qa }
    }

    /// File name of the picture in the folder of images.
    pub fn image(&self) -> String {
        format!("{}.png", self.id)
    }
}

fn topic(scene: &Scene, mix: &QuestionMix, rng: &mut ChaCha8Rng) -> Topic {
    let groups = scene.groups();
    let mut draw = rng.random::<f64>();
    let mut below = |share: f64| {
        draw -= share;
        draw < 0.0
    };
    let (presence, colour, count) = (below(mix.presence), below(mix.colour), below(mix.count));
    let some = groups[rng.random_range(0..groups.len())].kind;
    if presence {
        let kinds = presence_kinds(scene, 1, rng.random());
        kinds.first().copied().map_or(Topic::Description, Topic::Presence)
    } else if colour {
        Topic::Colour(some)
    } else if count {
        Topic::Count(some)
    } else {
        Topic::Description
    }
}
