//! Which file of a checkpoint holds which weight.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

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
use super::remap::canonical;
use crate::error::ModelError;
use crate::files::read_json;

/// The weights of a directory: one safetensors file or many with an index, mapped into memory, not read.
pub struct WeightIndex {
    files: Vec<(PathBuf, Mmap)>,
    entries: BTreeMap<String, TensorEntry>,
    repeated: Vec<String>,
}

/// Where a weight lies and what it is.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    /// Its name in the file.
    pub name: String,
    /// Number of the file.
    pub file: usize,
    /// As stored.
    pub dtype: Dtype,
    /// As stored.
    pub shape: Vec<usize>,
    /// First byte and the byte after the last, in the file.
    range: (usize, usize),
}

impl TensorEntry {
    /// burn's name for the stored type, if it is one that a weight may have.
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
    /// The weights of a checkpoint directory, under their [`canonical`] names.
    ///
    /// # Errors
    /// If there are no weights, a shard is missing, or a file is cut off.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let (single, sharded) = (dir.join("model.safetensors"), dir.join("model.safetensors.index.json"));
        // where there are both, the one file counts, as in transformers
        let paths = if single.exists() {
            vec![single]
        } else if sharded.is_file() {
            let index: ShardIndex = read_json(&sharded)?;
            let mut names: Vec<_> = index.weight_map.into_values().collect();
            // a shard is a file beside its index: what is merged or copied is written under its name
            if let Some(name) = names.iter().find(|name| Path::new(name).file_name() != Some(name.as_ref())) {
                let reason = format!("{name:?} is not the name of a file in this directory");
                return Err(ModelError::Safetensors { path: sharded, reason });
            }
            names.sort();
            names.dedup();
            names.into_iter().map(|name| dir.join(name)).collect()
        } else {
            return Err(no_weights(dir));
        };
        Self::open_files(paths, canonical)
    }

    /// The weights of the given files under the names that `rename` gives them.
    ///
    /// # Errors
    /// If a file cannot be read or is cut off.
    pub fn open_files(paths: Vec<PathBuf>, rename: impl Fn(&str) -> String) -> Result<Self, ModelError> {
        let mut index = Self { files: Vec::new(), entries: BTreeMap::new(), repeated: Vec::new() };
        for path in paths {
            index.add(path, &rename)?;
        }
        Ok(index)
    }

    fn add(&mut self, path: PathBuf, rename: &impl Fn(&str) -> String) -> Result<(), ModelError> {
        let map = map(&path)?;
        let broken = |error: safetensors::SafeTensorError| ModelError::Safetensors {
            path: path.clone(),
            reason: error.to_string(),
        };
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(broken)?;
        // read_metadata checks the header; that the data is all there is checked here
        let data_start = header + size_of::<u64>();
        let wanted = data_start + metadata.data_len();
        if wanted != map.len() {
            let reason = format!("the header promises {wanted} bytes, the file has {}", map.len());
            return Err(ModelError::Safetensors { path, reason });
        }
        for (name, info) in metadata.tensors() {
            let entry = TensorEntry {
                name: name.clone(),
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                range: (data_start + info.data_offsets.0, data_start + info.data_offsets.1),
            };
            let key = rename(&name);
            if self.entries.insert(key.clone(), entry).is_some() {
                self.repeated.push(key);
            }
        }
        self.files.push((path, map));
        Ok(())
    }

    /// Names and places of all weights, sorted by name.
    pub fn entries(&self) -> &BTreeMap<String, TensorEntry> {
        &self.entries
    }

    /// Names that two tensors claimed.
    pub fn repeated(&self) -> &[String] {
        &self.repeated
    }

    /// The files, by number.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// A weight as it is stored, or `None` if it is not f32, f16 or bf16.
    pub fn data(&self, entry: &TensorEntry) -> Option<TensorData> {
        self.data_as(entry, entry.float_type()?)
    }

    /// A weight in another type, or `None` if it is not stored as f32, f16 or bf16. All cores convert it, and what was read
    /// of the file for it does not stay in the memory of the process.
    pub fn data_as(&self, entry: &TensorEntry, dtype: DType) -> Option<TensorData> {
        let data = converted(self.bytes(entry), &entry.shape, entry.float_type()?, dtype);
        #[cfg(unix)]
        self.release(entry);
        Some(data)
    }

    /// [`data_as`](Self::data_as) on a device, for a weight of the shape that it is stored in.
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

    /// Takes a weight's pages out of the process, which would else have the whole file beside the model in the end. They are
    /// read again where they are asked for again.
    #[cfg(unix)]
    fn release(&self, entry: &TensorEntry) {
        let (start, end) = entry.range;
        let map = &self.files[entry.file].1;
        // SAFETY: the map is of a file and is only read, so that a page that comes back is the same.
        #[allow(unsafe_code)]
        let released = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        // it is an advice: the weight is there either way
        if let Err(error) = released {
            tracing::debug!(%error, name = entry.name, "pages of a weight stay in memory");
        }
    }

    /// The stored bytes of a weight, little-endian, row-major.
    pub fn bytes(&self, entry: &TensorEntry) -> &[u8] {
        &self.files[entry.file].1[entry.range.0..entry.range.1]
    }
}

/// What is in the place of weights.
fn no_weights(dir: &Path) -> ModelError {
    const PICKLES: [&str; 4] =
        ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.pth", "consolidated.00.pth"];
    match PICKLES.iter().map(|name| dir.join(name)).find(|path| path.exists()) {
        Some(path) => {
            let convert = format!(
                "  from transformers import LlavaForConditionalGeneration as Llava\n  \
                 Llava.from_pretrained({dir:?}, dtype=\"auto\").save_pretrained({dir:?})"
            );
            ModelError::Pickle { path, convert }
        }
        None => ModelError::NoWeights { dir: dir.into() },
    }
}

fn map(path: &Path) -> Result<Mmap, ModelError> {
    let io = |source| ModelError::Io { path: path.into(), source };
    let file = open_input(path)?;
    // SAFETY: the map is only read. As with every loader that maps checkpoints, changing the file while the
    // model loads is outside of what is supported.
    #[allow(unsafe_code)]
    unsafe { Mmap::map(&file) }.map_err(io)
}
