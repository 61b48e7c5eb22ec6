//! Splits as files in the formats of LLaVA data.

use std::borrow::Cow;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use bpo_pairs::files::{FileError, write_bytes};
use serde::Serialize;

use crate::example::{Example, QuestionMix, Split};
use crate::kind::{Kind, Place};
use crate::scene::Group;
use crate::text::QuestionAnswer;

/// Errors of [`write_split`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// A file or folder could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A picture could not be encoded as PNG.
    #[error("cannot encode {}", bpo_pairs::UntrustedPath(path))]
    Encode {
        /// The file.
        path: PathBuf,
        /// The error of the encoder.
        source: image::ImageError,
    },
}

/// Paths of the files of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SplitFiles {
    /// Questions and annotated answers in LLaVA's visual-instruction format.
    pub data: PathBuf,
    /// The objects of each image, one JSON object per line.
    pub truth: PathBuf,
    /// The folder of images.
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
    value: Cow<'a, str>,
}

/// A line of the ground-truth file.
#[derive(Serialize)]
struct TruthLine {
    image: String,
    place: Place,
    objects: Vec<Kind>,
    things: Vec<Group>,
}

/// Writes the first `count` examples of a split to a folder: `SPLIT.json`, `SPLIT.truth.jsonl` and
/// PNG files in `images/`.
///
/// The two lists are written after all images. An interrupted call leaves no incomplete file.
///
/// # Errors
/// Returns the error of the first file that cannot be written.
pub fn write_split(
    dir: &Path,
    split: Split,
    count: u64,
    seed: u64,
    mix: &QuestionMix,
) -> Result<SplitFiles, WorldError> {
    let images = dir.join("images");
    fs::create_dir_all(&images).map_err(FileError::io("create the folder", &images))?;
    let examples: Vec<Example> = (0..count).map(|index| Example::new(split, index, seed, mix)).collect();
    for example in &examples {
        let path = images.join(example.image());
        let mut bytes = Vec::new();
        example
            .scene
            .draw()
            .write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png)
            .map_err(|source| WorldError::Encode { path: path.clone(), source })?;
        write_bytes(&path, &bytes)?;
    }
    let files = SplitFiles {
        data: dir.join(format!("{}.json", split.name())),
        truth: dir.join(format!("{}.truth.jsonl", split.name())),
        images,
    };
    let records: Vec<_> = examples.iter().map(record).collect();
    write_bytes(&files.data, &json(&records))?;
    let lines: Vec<u8> =
        examples.iter().flat_map(|example| [json(&truth(example)), b"\n".to_vec()]).flatten().collect();
    write_bytes(&files.truth, &lines)?;
    Ok(files)
}

fn record(example: &Example) -> LlavaRecord<'_> {
    let QuestionAnswer { prompt, answer, .. } = &example.qa;
    let question = Message { from: "human", value: format!("<image>\n{prompt}").into() };
    let conversations = [question, Message { from: "gpt", value: answer.into() }];
    LlavaRecord { id: &example.id, image: example.image(), conversations }
}

fn truth(example: &Example) -> TruthLine {
    let things = example.scene.groups();
    let objects = things.iter().map(|group| group.kind).collect();
    TruthLine { image: example.image(), place: example.scene.place, objects, things }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers are always JSON")
}
