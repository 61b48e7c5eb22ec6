//! The index of a checkpoint: the file and place of each weight.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bpo_pairs::Limits;
use bpo_pairs::files::open_input;
use burn::tensor::{DType, Device, Tensor, TensorData};
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::convert::converted;
#[cfg(feature = "tch")]
use super::libtorch;
use crate::error::ModelError;
use crate::families::FamilySpec;
use crate::json::{check_lfs, read_json};

/// The weights of a directory: one safetensors file, or shards with an index. Files are mapped into
/// memory.
pub struct WeightIndex {
    files: Vec<(PathBuf, Mmap)>,
    entries: BTreeMap<String, TensorEntry>,
    repeated: Vec<String>,
}

/// The place, type and shape of a weight.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    /// The name in the file.
    pub name: String,
    /// Index of the file.
    pub file: usize,
    /// As stored in the file.
    pub dtype: Dtype,
    /// As stored in the file.
    pub shape: Vec<usize>,
    /// Offsets in the file of the first byte and of the byte after the last.
    range: (usize, usize),
}

impl TensorEntry {
    /// The stored type in burn, if weights may have it.
    pub fn float_type(&self) -> Option<DType> {
        match self.dtype {
            Dtype::F32 => Some(DType::F32),
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            _ => None,
        }
    }
}

/// `model.safetensors.index.json`
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct ShardIndex {
    weight_map: HashMap<String, String>,
}

impl WeightIndex {
    /// Opens the weights of a checkpoint directory of a family, under their
    /// [canonical](FamilySpec::canonical) names.
    ///
    /// # Errors
    /// If there are no weights, a shard is missing, or a file is truncated.
    pub fn open(dir: &Path, spec: &FamilySpec) -> Result<Self, ModelError> {
        let (single, sharded) = (dir.join("model.safetensors"), dir.join("model.safetensors.index.json"));
        // if there are both, the single file counts, as in transformers
        let paths = if single.exists() {
            vec![single]
        } else if sharded.is_file() {
            let index: ShardIndex = read_json(&sharded)?;
            let mut names: Vec<_> = index.weight_map.into_values().collect();
            // a shard is a file beside its index, because merged and copied files are written under
            // its name
            if let Some(name) = names.iter().find(|name| Path::new(name).file_name() != Some(name.as_ref())) {
                let reason = format!("{name:?} is not the name of a file in this directory");
                return Err(ModelError::Safetensors { path: sharded, reason });
            }
            names.sort();
            names.dedup();
            let paths: Vec<_> = names.into_iter().map(|name| dir.join(name)).collect();
            if let Some(path) = paths.iter().find(|path| !path.exists()) {
                return Err(ModelError::NoShard { path: path.clone(), index: sharded });
            }
            paths
        } else {
            return Err(no_weights(dir, spec));
        };
        Self::open_files(paths, |name| spec.canonical(name))
    }

    /// Opens the weights of the given files under the names that `rename` returns.
    ///
    /// # Errors
    /// If a file cannot be read or is truncated.
    pub fn open_files(paths: Vec<PathBuf>, rename: impl Fn(&str) -> String) -> Result<Self, ModelError> {
        let mut index = Self { files: Vec::new(), entries: BTreeMap::new(), repeated: Vec::new() };
        for path in paths {
            index.add(path, &rename)?;
        }
        Ok(index)
    }

    fn add(&mut self, path: PathBuf, rename: &impl Fn(&str) -> String) -> Result<(), ModelError> {
        let map = map(&path)?;
        check_lfs(&map, &path)?;
        let broken = |error: safetensors::SafeTensorError| ModelError::Safetensors {
            path: path.clone(),
            reason: error.to_string(),
        };
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(broken)?;
        // read_metadata checks the header; the size of the data is checked here
        let data_start = header + size_of::<u64>();
        let wanted = data_start + metadata.data_len();
        if wanted != map.len() {
            let reason = format!("the header promises {wanted} bytes, the file has {}", map.len());
            return Err(ModelError::Safetensors { path, reason });
        }
        let (found, limit) = (self.entries.len() + metadata.tensors().len(), Limits::DEFAULT.tensors);
        if found > limit {
            let (key, found, limit) = ("the number of tensors".to_owned(), found as u64, limit as u64);
            return Err(ModelError::OverLimit { path, key, found, limit });
        }
        for (name, info) in metadata.tensors() {
            let entry = TensorEntry {
                name: name.clone(),
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                range: (data_start + info.data_offsets.0, data_start + info.data_offsets.1),
            };
            if let Some(other) = self.entries.insert(rename(&name), entry) {
                let same = other.name == name;
                self.repeated.push(if same { name } else { format!("{} and {name}", other.name) });
            }
        }
        self.files.push((path, map));
        Ok(())
    }

    /// Names and places of all weights, sorted by name.
    pub fn entries(&self) -> &BTreeMap<String, TensorEntry> {
        &self.entries
    }

    /// The name in the files of a weight. One that they lack is named like the weight whose name has
    /// the longest common beginning, because versions of transformers differ in prefixes.
    pub(crate) fn file_name(&self, key: &str) -> String {
        if let Some(entry) = self.entries.get(key) {
            return entry.name.clone();
        }
        let part = key.find('.').unwrap_or(key.len());
        let like = |(known, entry): (&String, &TensorEntry)| {
            let ends = known.bytes().rev().zip(entry.name.bytes().rev());
            let end = ends.take_while(|(one, other)| one == other).count();
            let from = known.get(..known.len() - end)?;
            let to = entry.name.get(..entry.name.len() - end)?;
            let shared = known.bytes().zip(key.bytes()).take_while(|(one, other)| one == other).count();
            let name = format!("{to}{}", key.strip_prefix(from)?);
            (shared > part).then_some((shared, name))
        };
        let nearest = self.entries.iter().filter_map(like).max_by_key(|(shared, _)| *shared);
        nearest.map_or_else(|| key.to_owned(), |(_, name)| name)
    }

    /// Names that more than one tensor has.
    pub fn repeated(&self) -> &[String] {
        &self.repeated
    }

    /// The files, by index.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Reads a weight as it is stored. Returns `None` if it is not f32, f16 or bf16.
    pub fn data(&self, entry: &TensorEntry) -> Option<TensorData> {
        self.data_as(entry, entry.float_type()?)
    }

    /// Reads a weight in another type. Returns `None` if it is not stored as f32, f16 or bf16. All
    /// cores convert it, and the pages that were read are released afterwards.
    pub fn data_as(&self, entry: &TensorEntry, dtype: DType) -> Option<TensorData> {
        let data = converted(self.bytes(entry), &entry.shape, entry.float_type()?, dtype);
        #[cfg(unix)]
        self.release(entry);
        Some(data)
    }

    /// Loads a weight in the shape that it is stored in, as [`data_as`](Self::data_as) does, on a
    /// device.
    pub(super) fn tensor<const D: usize>(
        &self,
        entry: &TensorEntry,
        dtype: DType,
        device: &Device,
    ) -> Option<Tensor<D>> {
        #[cfg(feature = "tch")]
        if let (Some(stored), Ok(shape)) = (entry.float_type(), entry.shape.as_slice().try_into())
            && let Some(tensor) = libtorch::tensor::<D>(self.bytes(entry), shape, [stored, dtype], device)
        {
            #[cfg(unix)]
            self.release(entry);
            return Some(tensor);
        }
        Some(Tensor::from_data(self.data_as(entry, dtype)?, (device, dtype)))
    }

    /// Releases the pages of a weight; without this the whole file would stay in memory beside the
    /// model. They are read again when they are used again.
    #[cfg(unix)]
    fn release(&self, entry: &TensorEntry) {
        let (start, end) = entry.range;
        let map = &self.files[entry.file].1;
        // SAFETY: the map is of a file and is only read, so a page that is read again is the same
        #[allow(unsafe_code)]
        let released = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        // this is advice: the weight can be read either way
        if let Err(error) = released {
            tracing::debug!(%error, name = entry.name, "pages of a weight stay in memory");
        }
    }

    /// The stored bytes of a weight, little-endian and row-major.
    pub fn bytes(&self, entry: &TensorEntry) -> &[u8] {
        &self.files[entry.file].1[entry.range.0..entry.range.1]
    }
}

/// The error for a directory without weights.
fn no_weights(dir: &Path, spec: &FamilySpec) -> ModelError {
    const PICKLES: [&str; 4] =
        ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.pth", "consolidated.00.pth"];
    match PICKLES.iter().map(|name| dir.join(name)).find(|path| path.exists()) {
        Some(path) => {
            let convert = format!(
                "  from transformers import {class} as Model\n  \
                 Model.from_pretrained({dir:?}, dtype=\"auto\").save_pretrained({dir:?})",
                class = spec.class
            );
            ModelError::Pickle { path, convert }
        }
        None => ModelError::NoWeights { dir: dir.into() },
    }
}

fn map(path: &Path) -> Result<Mmap, ModelError> {
    let io = |source| ModelError::Io { path: path.into(), source };
    let file = open_input(path)?;
    // SAFETY: the map is only read. As with every loader that maps checkpoints, changing the file
    // while the model loads is outside of what is supported.
    #[allow(unsafe_code)]
    unsafe { Mmap::map(&file) }.map_err(io)
}
