//! The files of a case, and its checkpoint in each layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpo_distort::{ImageLimits, load_rgb};
use bpo_model::{ImageInput, LoadOptions, Processor, Vlm};
use bpo_pairs::Turn;
use image::RgbImage;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::support::{device, processor, read_json, tensor_floats, tensor_ints};

/// The names of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As in the published checkpoint.
    Published,
    /// As transformers 5 saves it.
    V5,
}

/// A copy of the checkpoint of a case.
pub struct Checkpoint {
    /// Case and layout, for messages.
    pub name: String,
    pub layout: Layout,
    /// The directory of the case.
    pub case: PathBuf,
    golden: Value,
    tensors: Vec<u8>,
    dir: tempfile::TempDir,
}

/// A prompt with its answers.
pub struct Case {
    pub images: Vec<String>,
    pub prompt: String,
    pub history: Vec<Turn>,
    pub prompt_ids: Vec<u32>,
    pub greedy_ids: Vec<u32>,
    pub greedy_text: String,
    pub answers: Vec<Answer>,
}

/// An answer with its ids, those of the prompt included, and its log-probability in nats.
pub struct Answer {
    pub text: String,
    pub ids: Vec<u32>,
    pub logp: f64,
    /// With the adapter of the case, in PEFT.
    pub adapted_logp: f64,
}

/// The directory of all cases.
fn root() -> PathBuf {
    std::env::var_os("BPO_FAMILIES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families"), PathBuf::from)
}

/// Runs a check on each case in each layout.
pub fn each_checkpoint(check: impl Fn(&Checkpoint)) {
    let cases = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = cases.filter(|path| path.join("golden.json").is_file()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no case in {}", root().display());
    for case in cases {
        for layout in [Layout::Published, Layout::V5] {
            check(&Checkpoint::new(&case, layout));
        }
    }
}

/// The prompts of a checkpoint.
pub fn cases(checkpoint: &Checkpoint) -> Vec<Case> {
    let ids = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let turn = |turn: &Value| Turn::new(text(&turn[0]), text(&turn[1]));
    let answer = |answer: &Value| Answer {
        text: text(&answer["text"]),
        ids: ids(&answer["ids"]),
        logp: answer["logp"].as_f64().unwrap(),
        adapted_logp: answer["adapted_logp"].as_f64().unwrap(),
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let case = |case: &Value| Case {
        images: list(&case["images"]).iter().map(text).collect(),
        prompt: text(&case["prompt"]),
        history: list(&case["history"]).iter().map(turn).collect(),
        prompt_ids: ids(&case["prompt_ids"]),
        greedy_ids: ids(&case["greedy_ids"]),
        greedy_text: text(&case["greedy_text"]),
        answers: list(&case["answers"]).iter().map(answer).collect(),
    };
    list(&checkpoint.golden["cases"]).iter().map(case).collect()
}

pub fn load(dir: &Path) -> Vlm {
    Vlm::from_pretrained(dir, &LoadOptions::default(), &device()).unwrap()
}

impl Checkpoint {
    /// Copies the files of a layout.
    pub fn new(case: &Path, layout: Layout) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let copy = |from: &Path| {
            std::fs::copy(from, dir.path().join(from.file_name().unwrap())).unwrap();
        };
        let files = |dir: &str| std::fs::read_dir(case.join(dir)).unwrap().map(|file| file.unwrap().path());
        let published = case.join("published");
        match layout {
            Layout::Published => files("published").for_each(|file| copy(&file)),
            Layout::V5 => {
                copy(&published.join("tokenizer.json"));
                files("v5").for_each(|file| copy(&file));
                let names = read_json(&case.join("v5_names.json"));
                rename(&published.join("model.safetensors"), &dir.path().join("model.safetensors"), &names);
            }
        }
        Self {
            name: format!("{} {layout:?}", case.file_name().unwrap().display()),
            layout,
            case: case.to_owned(),
            golden: read_json(&case.join("golden.json")),
            tensors: std::fs::read(case.join("golden.safetensors")).unwrap(),
            dir,
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn processor(&self) -> Processor {
        processor(self.path())
    }

    /// The photographs that the golden values are of, by name.
    pub fn photos(&self) -> BTreeMap<String, RgbImage> {
        let tensors = SafeTensors::deserialize(&self.tensors).unwrap();
        let names = tensors.names().into_iter().filter_map(|name| name.strip_suffix(".shape"));
        names.map(|name| (name.to_owned(), photo(name))).collect()
    }

    /// Every [`sample`](Self::sample)-th pixel value of a photograph, and the number of all.
    pub fn pixels(&self, photo: &str) -> (Vec<f32>, usize) {
        let (shape, _) = tensor_ints(&self.tensors, &format!("{photo}.shape"));
        let size = shape.iter().product::<i64>() as usize;
        (tensor_floats(&self.tensors, &format!("{photo}.pixels")).0, size)
    }

    pub fn sample(&self) -> usize {
        self.golden["sample"].as_u64().unwrap() as usize
    }

    /// Most tokens of a greedy answer.
    pub fn new_tokens(&self) -> usize {
        let lens = self.golden["cases"].as_array().unwrap().iter();
        lens.map(|case| case["greedy_ids"].as_array().unwrap().len()).max().unwrap()
    }
}

/// A photograph by its name.
pub fn photo(name: &str) -> RgbImage {
    load_rgb(root().join("photos").join(format!("{name}.png")), &ImageLimits::default()).unwrap()
}

/// Copies a file of weights, with other names.
fn rename(from: &Path, to: &Path, names: &Value) {
    let bytes = std::fs::read(from).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let renamed = |name: &str| names[name].as_str().unwrap().to_owned();
    let views: Vec<(String, TensorView<'_>)> =
        file.iter().map(|(name, view)| (renamed(name), view)).collect();
    std::fs::write(to, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The model and the processor of a checkpoint.
pub struct Loaded {
    pub model: Vlm,
    pub processor: Processor,
}

impl Loaded {
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let loaded = Self { model: load(checkpoint.path()), processor: checkpoint.processor() };
        loaded.model.config().check_processor(&loaded.processor).unwrap();
        loaded
    }

    /// The images of a case.
    pub fn images(&self, case: &Case) -> Vec<ImageInput> {
        let image = self.processor.image.of_prompt(case.images.len());
        case.images.iter().map(|name| image.process(&photo(name)).unwrap()).collect()
    }
}
