//! Splits of the world, in memory and as files that any tool for LLaVA data reads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::kind::{Kind, Place};
use crate::scene::{Group, Scene, Statistics};
use crate::text::{Topic, Turn, presence_kinds};

/// A part of the world that shares no scene with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The usual world, for the base model.
    Base,
    /// The usual world, for preference data.
    Train,
    /// The usual world, for choosing settings.
    Validation,
    /// The broken world, for choosing settings.
    ValidationCounter,
    /// The usual world, for the result.
    HeldOut,
    /// The broken world, for the result.
    Counter,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Base, Self::Train, Self::Validation, Self::ValidationCounter, Self::HeldOut, Self::Counter];

    /// Its name in files.
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

/// How often what is asked; the rest are descriptions.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Mix {
    /// Questions whether there is something.
    pub presence: f64,
    /// Questions for a colour.
    pub colour: f64,
    /// Questions for a number.
    pub count: f64,
}

impl Mix {
    /// Shares of the three kinds of question.
    pub fn new(presence: f64, colour: f64, count: f64) -> Self {
        Self { presence, colour, count }
    }

    /// Descriptions alone.
    pub fn descriptions() -> Self {
        Self::new(0.0, 0.0, 0.0)
    }
}

impl Default for Mix {
    /// 80 % descriptions, 12 % presence, 4 % colour, 4 % number.
    fn default() -> Self {
        Self::new(0.12, 0.04, 0.04)
    }
}

/// A scene and one turn about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Unlike that of every other example of all splits with the same seed.
    pub id: String,
    /// What there is to see.
    pub scene: Scene,
    /// What is said about it.
    pub turn: Turn,
}

impl Example {
    /// The example number `index` of a split: always the same one for the same seed and mix.
    pub fn new(split: Split, index: u64, seed: u64, mix: &Mix) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // a stream for each example of each split
        rng.set_stream(((split as u64) << 48) | index);
        let scene = Scene::sample(&split.statistics(), rng.random());
        let topic = topic(&scene, mix, &mut rng);
        let turn = Turn::about(&scene, topic, rng.random());
        Self { id: format!("{}-{index:06}", split.name()), scene, turn }
    }

    /// Name of the image file below the folder of images.
    pub fn image(&self) -> String {
        format!("{}.png", self.id)
    }
}

fn topic(scene: &Scene, mix: &Mix, rng: &mut ChaCha8Rng) -> Topic {
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

/// Why a split could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// A file or folder could not be made.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A picture could not be encoded.
    #[error("cannot write {}", path.display())]
    Encode {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: image::ImageError,
    },
}

/// Where the files of a split are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Files {
    /// Questions and annotated answers in LLaVA's visual-instruction format.
    pub data: PathBuf,
    /// What each image shows, one object a line.
    pub truth: PathBuf,
    /// The folder of the images.
    pub images: PathBuf,
}

#[derive(Serialize)]
struct LlavaRecord<'a> {
    id: &'a str,
    image: String,
    conversations: [Message<'a>; 2],
}

#[derive(Serialize)]
struct Message<'a> {
    from: &'static str,
    value: std::borrow::Cow<'a, str>,
}

/// What an image shows, as a line of the truth file.
#[derive(Serialize)]
struct Truth {
    image: String,
    place: Place,
    objects: Vec<Kind>,
    things: Vec<Group>,
}

/// Writes the first `count` examples of a split: `SPLIT.json`, `SPLIT.truth.jsonl` and PNG files under `images/`.
///
/// Each file is written beside its place and renamed, the two lists after all images.
///
/// # Errors
/// [`WorldError`] for the first file that cannot be written.
pub fn write(dir: &Path, split: Split, count: u64, seed: u64, mix: &Mix) -> Result<Files, WorldError> {
    let images = dir.join("images");
    fs::create_dir_all(&images).map_err(|source| WorldError::Write { path: images.clone(), source })?;
    let examples: Vec<Example> = (0..count).map(|index| Example::new(split, index, seed, mix)).collect();
    for example in &examples {
        let path = images.join(example.image());
        let mut bytes = Vec::new();
        example
            .scene
            .draw()
            .write_to(&mut io::Cursor::new(&mut bytes), image::ImageFormat::Png)
            .map_err(|source| WorldError::Encode { path: path.clone(), source })?;
        write_atomically(&path, &bytes)?;
    }
    let files = Files {
        data: dir.join(format!("{}.json", split.name())),
        truth: dir.join(format!("{}.truth.jsonl", split.name())),
        images,
    };
    let records: Vec<_> = examples.iter().map(record).collect();
    write_atomically(&files.data, &json(&records))?;
    let lines: Vec<u8> =
        examples.iter().flat_map(|example| [json(&truth(example)), b"\n".to_vec()]).flatten().collect();
    write_atomically(&files.truth, &lines)?;
    Ok(files)
}

fn record(example: &Example) -> LlavaRecord<'_> {
    let Turn { prompt, answer, .. } = &example.turn;
    let question = Message { from: "human", value: format!("<image>\n{prompt}").into() };
    let conversations = [question, Message { from: "gpt", value: answer.into() }];
    LlavaRecord { id: &example.id, image: example.image(), conversations }
}

fn truth(example: &Example) -> Truth {
    let things = example.scene.groups();
    let objects = things.iter().map(|group| group.kind).collect();
    Truth { image: example.image(), place: example.scene.place, objects, things }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers are always JSON")
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WorldError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|source| WorldError::Write { path: path.into(), source })
}
