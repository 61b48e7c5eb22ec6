//! The weights of a converted checkpoint.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use safetensors::{Dtype, View};
use serde_json::{Value, json};

use super::files::write_json;
use super::names::{self, EMBEDDING, HEAD, PROJECTOR, Place, TOWER};
use super::tokenizer::Tokens;
use crate::checkpoint::{TensorEntry, WeightIndex, families, to_file};
use crate::error::{ModelError, WeightProblems};

/// Rows of an enlarged embedding are a multiple of this, as in transformers' script.
const MULTIPLE: usize = 64;

/// The weights of the result, with the files that they come from.
pub(super) struct Plan {
    model: WeightIndex,
    tower: WeightIndex,
    /// Weights by their new names: whether they come from the tower's checkpoint, and their old
    /// names.
    weights: BTreeMap<String, (bool, String)>,
    /// Rows of the embedding of the result.
    pub(super) rows: usize,
    /// Rows of the embedding of the original.
    pub(super) old_rows: usize,
}

impl Plan {
    /// Finds the weights of the original checkpoint and of the vision tower's.
    pub(super) fn new(dir: &Path, vision_tower: &Path, tokens: &Tokens) -> Result<Self, ModelError> {
        let mut plan = Self {
            model: open_model(dir)?,
            tower: open(vision_tower, weight_files(vision_tower)?)?,
            weights: BTreeMap::new(),
            rows: 0,
            old_rows: 0,
        };
        plan.place(dir, false, names::of_model)?;
        // a tower that was trained is in the original checkpoint
        if !plan.weights.keys().any(|name| name.starts_with(TOWER)) {
            plan.place(vision_tower, true, names::of_tower)?;
        }
        let mut problems = plan.size(tokens);
        problems.names_mut().for_each(|name| *name = plan.original(name));
        if problems.is_fatal() {
            return Err(ModelError::Weights { dir: dir.into(), problems: problems.into() });
        }
        Ok(plan)
    }

    /// Whether the original checkpoint has a vision tower of its own.
    pub(super) fn has_tower(&self) -> bool {
        self.weights.iter().any(|(name, (is_tower, _))| name.starts_with(TOWER) && !is_tower)
    }

    /// The name in its file of a weight of the result.
    pub(super) fn original(&self, new: &str) -> String {
        let old = self.weights.get(new).map(|(_, old)| old.clone());
        old.unwrap_or_else(|| names::original(new, self.has_tower()))
    }

    /// Computes the rows of the embedding, and checks embedding and head, which may grow.
    fn size(&mut self, tokens: &Tokens) -> WeightProblems {
        let mut problems = WeightProblems::default();
        let needed = [EMBEDDING, "multi_modal_projector.linear_1.weight"];
        let missing = needed.into_iter().filter(|name| !self.weights.contains_key(*name));
        problems.missing.extend(missing.map(str::to_owned));
        let Some((_, embedding)) = self.entry(EMBEDDING) else { return problems };
        let &[old_rows, width] = embedding.shape.as_slice() else {
            problems.misshapen.push((EMBEDDING.to_owned(), vec![0, 0], embedding.shape.clone()));
            return problems;
        };
        for (name, entry) in [EMBEDDING, HEAD].iter().filter_map(|name| Some((*name, self.entry(name)?.1))) {
            if entry.shape != [old_rows, width] {
                problems.misshapen.push((name.to_owned(), vec![old_rows, width], entry.shape.clone()));
            }
            if entry.float_type().is_none() {
                problems.mistyped.push((name.to_owned(), format!("{:?}", entry.dtype)));
            }
        }
        let grows = tokens.ids > old_rows;
        self.rows = if grows { tokens.ids.next_multiple_of(MULTIPLE) } else { old_rows };
        self.old_rows = old_rows;
        problems
    }

    /// Adds the weights of a checkpoint.
    fn place(&mut self, dir: &Path, is_tower: bool, place: impl Fn(&str) -> Place) -> Result<(), ModelError> {
        let index = if is_tower { &self.tower } else { &self.model };
        let mut problems =
            WeightProblems { repeated: index.repeated().to_vec(), ..WeightProblems::default() };
        for name in index.entries().keys() {
            match place(name) {
                Place::Name(new) => {
                    if let Some((_, other)) = self.weights.insert(new, (is_tower, name.clone())) {
                        problems.repeated.push(format!("{other} and {name}"));
                    }
                }
                Place::Dropped => {}
                Place::Unknown => problems.extra.push(name.clone()),
            }
        }
        problems.hints = families(&problems.extra);
        if problems.is_fatal() {
            return Err(ModelError::Weights { dir: dir.into(), problems: problems.into() });
        }
        Ok(())
    }

    fn entry(&self, new: &str) -> Option<(&WeightIndex, &TensorEntry)> {
        let (is_tower, old) = self.weights.get(new)?;
        let index = if *is_tower { &self.tower } else { &self.model };
        Some((index, index.entries().get(old)?))
    }

    /// Writes a file of weights for each file of the original checkpoint, one for the vision tower,
    /// and the index. One weight is in memory at a time.
    pub(super) fn write(&self, out: &Path) -> Result<(), ModelError> {
        let mut files: BTreeMap<(bool, usize), Vec<&str>> = BTreeMap::new();
        for new in self.weights.keys() {
            if let (Some((_, entry)), Some((is_tower, _))) = (self.entry(new), self.weights.get(new)) {
                files.entry((*is_tower, entry.file)).or_default().push(new);
            }
        }
        let (mut map, mut bytes) = (serde_json::Map::new(), 0);
        for (number, names) in (1..).zip(files.values()) {
            let file = format!("model-{number:05}-of-{:05}.safetensors", files.len());
            let weights: Vec<_> =
                names.iter().filter_map(|new| Some(((*new).to_owned(), self.weight(new)?))).collect();
            for (name, weight) in &weights {
                map.insert(name.clone(), Value::from(file.as_str()));
                bytes += weight.data_len() as u64;
            }
            let path = out.join(file);
            to_file(weights, &path)?;
            keep_readable(&path)?;
        }
        let index = json!({"metadata": {"total_size": bytes}, "weight_map": map});
        write_json(&out.join("model.safetensors.index.json"), &index)
    }

    fn weight(&self, new: &str) -> Option<Weight<'_>> {
        let (index, entry) = self.entry(new)?;
        let mut shape = entry.shape.clone();
        // embedding and head have a row for each token
        if let ([rows, _], true) = (shape.as_mut_slice(), [EMBEDDING, HEAD].contains(&new)) {
            *rows = self.rows;
        }
        Some(Weight { index, entry, shape })
    }
}

/// Opens the weights of the original checkpoint. Files of the projector alone count if the others
/// have no projector.
fn open_model(dir: &Path) -> Result<WeightIndex, ModelError> {
    let mut paths = weight_files(dir)?;
    let index = open(dir, paths.clone())?;
    if index.entries().keys().any(|name| name.starts_with(PROJECTOR)) {
        return Ok(index);
    }
    let projector = dir.join("mm_projector.safetensors");
    if projector.exists() {
        paths.push(projector);
        return open(dir, paths);
    }
    match dir.join("mm_projector.bin") {
        path if path.exists() => Err(pickle(dir, path)),
        _ => Ok(index),
    }
}

fn open(dir: &Path, paths: Vec<PathBuf>) -> Result<WeightIndex, ModelError> {
    if paths.is_empty() {
        return Err(ModelError::NoWeights { dir: dir.into() });
    }
    WeightIndex::open_files(paths, str::to_owned)
}

/// Returns the files of weights of a checkpoint: `model.safetensors`, or the shards
/// `model-*.safetensors` or `pytorch_model*.safetensors`, which a conversion of pickles gives.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let single = dir.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let io = |source| ModelError::Io { path: dir.into(), source };
    let (mut shards, mut pickles) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_shard = name.starts_with("model-") || name.starts_with("pytorch_model");
        if is_shard && name.ends_with(".safetensors") {
            shards.push(dir.join(name));
        } else if is_shard && name.ends_with(".bin") {
            pickles.push(dir.join(name));
        }
    }
    shards.sort();
    pickles.sort();
    match pickles.into_iter().next() {
        Some(path) if shards.is_empty() => Err(pickle(dir, path)),
        _ => Ok(shards),
    }
}

/// The error for weights in pickles, with the code that converts them.
fn pickle(dir: &Path, path: PathBuf) -> ModelError {
    let convert = format!(
        "  import glob, torch; from safetensors.torch import save_file\n  \
         [save_file({{k: v.clone().contiguous() for k, v in torch.load(p, map_location=\"cpu\", weights_only=True).items()}}, \
         p[:-3] + \"safetensors\") for p in glob.glob({pattern:?}) if not p.endswith(\"training_args.bin\")]",
        pattern = dir.join("*.bin"),
    );
    ModelError::Pickle { path, convert }
}

/// Gives a file the permissions of new files. The writer of safetensors makes files that only their
/// owner may read.
fn keep_readable(path: &Path) -> Result<(), ModelError> {
    let io = |source| ModelError::Io { path: path.into(), source };
    let index = path.with_file_name("config.json");
    let permissions = std::fs::metadata(index).map_err(io)?.permissions();
    std::fs::set_permissions(path, permissions).map_err(io)
}

/// A weight of the result, read when it is written.
struct Weight<'a> {
    index: &'a WeightIndex,
    entry: &'a TensorEntry,
    /// The shape of the result.
    shape: Vec<usize>,
}

impl Weight<'_> {
    /// Bytes of a row.
    fn row(&self) -> usize {
        let rows = self.entry.shape.first().copied().unwrap_or(1).max(1);
        self.index.bytes(self.entry).len() / rows
    }

    /// Number of rows that the result has more.
    fn new_rows(&self) -> usize {
        match (self.shape.first(), self.entry.shape.first()) {
            (Some(new), Some(old)) => new.saturating_sub(*old),
            _ => 0,
        }
    }
}

impl View for Weight<'_> {
    fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = self.index.bytes(self.entry);
        let mean = (self.new_rows() > 0).then(|| mean(self.index, self.entry)).flatten();
        match mean {
            Some(mean) => [bytes, &mean.repeat(self.new_rows())].concat().into(),
            None => bytes.into(),
        }
    }

    fn data_len(&self) -> usize {
        self.index.bytes(self.entry).len() + self.new_rows() * self.row()
    }
}

/// Computes the mean of the rows of a matrix, in its stored type. Returns `None` if it is not f32,
/// f16 or bf16.
fn mean(index: &WeightIndex, entry: &TensorEntry) -> Option<Vec<u8>> {
    let stored = entry.float_type()?;
    let values = index.data_as(entry, DType::F32)?.try_into_vec::<f32>().ok()?;
    let width = *entry.shape.get(1)?;
    let mut sums = vec![0.0f64; width];
    for row in values.chunks_exact(width.max(1)) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let rows = entry.shape[0] as f64;
    let mean: Vec<f32> = sums.into_iter().map(|sum| (sum / rows) as f32).collect();
    Some(TensorData::new(mean, [width]).convert_dtype(stored).into_bytes().to_vec())
}
