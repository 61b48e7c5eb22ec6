//! The file format of a cache of reference log-probabilities.
//!
//! ```text
//! reference.safetensors   logps   f32 [tokens]    of all completions, concatenated
//!                         ends    i64 [rows]      index after each completion's last token
//!                         keys    u8 [rows, 32]   SHA-256 of image name, turns and answer
//!                         images  u8 [rows, 32]   image fingerprint, if the collator returns one
//!                         tokens  u8 [rows, 32]   fingerprint of the token ids
//!                         `bpo_reference`         JSON: version and `about`
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use bpo_pairs::Limits;
use bpo_pairs::files::{lock_file, open_input, read_bytes, write_bytes};
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use super::{Key, LogpCache};
use crate::error::{ConfigChange, DpoError};
use crate::policy::RowFingerprint;
use crate::tensors::dims;

const METADATA: &str = "bpo_reference";
const VERSION: u32 = 1;
/// Maximum size in bytes of a header that the safetensors crate reads.
const MAX_HEADER: u64 = 100_000_000;

/// The part of a safetensors header that does not describe tensors.
#[derive(Default, Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: Option<HashMap<String, String>>,
}

/// Reads the metadata of a cache from the metadata of its header.
fn read_metadata(path: &Path, metadata: Option<&HashMap<String, String>>) -> Result<Metadata, DpoError> {
    let broken = |reason: String| DpoError::ReferenceFile { path: path.to_owned(), reason };
    let text = metadata.and_then(|metadata| metadata.get(METADATA));
    let text = text.ok_or_else(|| broken("it has no metadata `bpo_reference`".to_owned()))?;
    let metadata: Metadata =
        serde_json::from_str(text).map_err(|source| DpoError::Json { path: path.to_owned(), source })?;
    if metadata.version != VERSION {
        return Err(broken(format!("its version is {}, not {VERSION}", metadata.version)));
    }
    Ok(metadata)
}

/// The metadata of the file.
#[derive(Serialize, Deserialize)]
struct Metadata {
    version: u32,
    about: BTreeMap<String, String>,
}

impl Metadata {
    /// Checks that the log-probabilities depend on `about`.
    fn check(&self, path: &Path, about: &BTreeMap<String, String>) -> Result<(), DpoError> {
        let changes = changes(&self.about, about);
        if changes.is_empty() {
            return Ok(());
        }
        Err(DpoError::ReferenceChanged { path: path.to_owned(), changes })
    }
}

/// Reads the metadata of a file, without its tensors.
fn read_header(path: &Path) -> Result<Metadata, DpoError> {
    let mut file = open_input(path)?;
    let mut bytes = Vec::new();
    file.by_ref().take(8).read_to_end(&mut bytes).map_err(DpoError::io("read", path))?;
    let length = bytes.as_slice().try_into().map_or(0, u64::from_le_bytes);
    // a longer header is cut off, and then no metadata are found in it
    file.take(length.min(MAX_HEADER)).read_to_end(&mut bytes).map_err(DpoError::io("read", path))?;
    // the safetensors crate reads a header only together with the tensors
    let header: Header =
        bytes.get(8..).map_or(Ok(Header::default()), serde_json::from_slice).unwrap_or_default();
    read_metadata(path, header.metadata.as_ref())
}

impl LogpCache {
    /// Checks that a file is a cache by its header. It does not check whether the cache is stale,
    /// as [`check_about`](Self::check_about) does.
    ///
    /// # Errors
    /// Returns [`DpoError::ReferenceFile`] if the file is not a cache, or [`DpoError::Io`] if it
    /// cannot be read.
    pub fn check_file(path: &Path) -> Result<(), DpoError> {
        read_header(path).map(|_| ())
    }

    /// Checks that a file is a cache of log-probabilities that depend on `about`, by its header.
    /// Its rows are checked only when it is used.
    ///
    /// # Errors
    /// Returns [`DpoError::ReferenceChanged`] with all differences, [`DpoError::ReferenceFile`] if
    /// the file is not a cache, or [`DpoError::Io`] if it cannot be read.
    pub fn check_about(path: &Path, about: &BTreeMap<String, String>) -> Result<(), DpoError> {
        read_header(path)?.check(path, about)
    }

    /// Reads a cache from a file.
    ///
    /// # Errors
    /// Returns [`DpoError::ReferenceChanged`] with all differences from `about`,
    /// [`DpoError::Safetensors`] or [`DpoError::ReferenceFile`] if the file is not a cache, or
    /// [`DpoError::Io`] if it cannot be read.
    pub fn load(path: &Path, about: BTreeMap<String, String>) -> Result<Self, DpoError> {
        let bytes = read_bytes(path, Limits::DEFAULT.cache_bytes)?;
        let unreadable = |source| DpoError::Safetensors { path: Some(path.to_owned()), source };
        let broken =
            |reason: &str| DpoError::ReferenceFile { path: path.to_owned(), reason: reason.to_owned() };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(unreadable)?;
        let metadata = read_metadata(path, header.metadata().as_ref())?;
        metadata.check(path, &about)?;
        let file = SafeTensors::deserialize(&bytes).map_err(unreadable)?;
        let tensor = |name: &str, dtype, columns: usize| match file.tensor(name) {
            Ok(view) if view.dtype() == dtype && view.shape().get(1).copied().unwrap_or(1) == columns => {
                Ok(view.data().to_vec())
            }
            Ok(view) => Err(broken(&format!("{name} is {} {}", dims(view.shape()), view.dtype()))),
            Err(source) => Err(unreadable(source)),
        };
        let logps: Vec<f32> = chunks(&tensor("logps", Dtype::F32, 1)?).map(f32::from_le_bytes).collect();
        let ends: Vec<i64> = chunks(&tensor("ends", Dtype::I64, 1)?).map(i64::from_le_bytes).collect();
        let keys: Vec<Key> = chunks(&tensor("keys", Dtype::U8, 32)?).collect();
        let prints = if file.names().contains(&"images") {
            let images: Vec<Key> = chunks(&tensor("images", Dtype::U8, 32)?).collect();
            let tokens: Vec<Key> = chunks(&tensor("tokens", Dtype::U8, 32)?).collect();
            Some((images, tokens))
        } else {
            None
        };
        let rows = keys.len();
        let even = ends.len() == rows
            && prints.as_ref().is_none_or(|(images, tokens)| images.len() == rows && tokens.len() == rows);
        if !even {
            return Err(broken("its tensors have different numbers of rows"));
        }
        let mut cache = Self { path: Some(path.to_owned()), ..Self::new(about) };
        let mut start = 0;
        for (row, (key, end)) in keys.into_iter().zip(ends).enumerate() {
            let end = usize::try_from(end).ok().filter(|end| (start..=logps.len()).contains(end));
            let end = end.ok_or_else(|| broken("`ends` does not fit `logps`"))?;
            let fingerprint = prints
                .as_ref()
                .map(|(images, tokens)| RowFingerprint { image: images[row], tokens: tokens[row] });
            cache.insert(key, &logps[start..end], fingerprint);
            start = end;
        }
        Ok(cache)
    }

    /// Adds the rows to a file, which several processes can do at the same time. Rows of other
    /// processes stay in the file, and equal contents give equal bytes.
    ///
    /// The file is locked with [`lock_file`], read again, and replaced atomically if it lacks a
    /// row.
    ///
    /// # Errors
    /// Returns [`DpoError::File`] if the file cannot be written, the errors of
    /// [`load`](Self::load) for a file of something else, and [`DpoError::ReferenceFile`] if the
    /// file has a row for another image or other tokens of the same texts.
    pub fn save(&self, path: &Path) -> Result<(), DpoError> {
        let _lock = lock_file(path)?;
        let mut merged = match Self::load(path, self.about.clone()) {
            Err(DpoError::File(error)) if error.is_not_found() => Self::new(self.about.clone()),
            there => there?,
        };
        let (is_new, before) = (merged.path.is_none(), merged.len());
        for key in &self.order {
            let row = &self.rows[key];
            if let Some(there) = merged.rows.get(key)
                && !there.fingerprint_agrees(row)
            {
                let reason = "another process added the same texts with another image or other tokens; delete it \
                              to rebuild it";
                return Err(DpoError::ReferenceFile { path: path.to_owned(), reason: reason.to_owned() });
            }
            merged.insert(*key, &self.logps[row.start..row.end], row.fingerprint.clone());
        }
        if is_new || merged.len() > before { merged.write(path) } else { Ok(()) }
    }

    /// Writes a file atomically, with the rows in the order of their keys.
    fn write(&self, path: &Path) -> Result<(), DpoError> {
        let mut order = self.order.clone();
        order.sort_unstable();
        let rows = || order.iter().map(|key| &self.rows[key]);
        let prints: Option<Vec<&RowFingerprint>> = rows().map(|row| row.fingerprint.as_ref()).collect();
        let (mut ends, mut logps, mut end) = (Vec::new(), Vec::new(), 0i64);
        for row in rows() {
            let values = &self.logps[row.start..row.end];
            logps.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            end += values.len() as i64;
            ends.extend(end.to_le_bytes());
        }
        let keys = order.concat();
        let count = order.len();
        let mut tensors = vec![
            ("ends", Part { dtype: Dtype::I64, shape: vec![count], bytes: ends }),
            ("keys", Part { dtype: Dtype::U8, shape: vec![count, 32], bytes: keys }),
            ("logps", Part { dtype: Dtype::F32, shape: vec![self.logps.len()], bytes: logps }),
        ];
        if let Some(prints) = prints {
            let column = |of: fn(&RowFingerprint) -> Key| {
                let bytes = prints.iter().flat_map(|print| of(print)).collect();
                Part { dtype: Dtype::U8, shape: vec![count, 32], bytes }
            };
            tensors.push(("images", column(|print| print.image)));
            tensors.push(("tokens", column(|print| print.tokens)));
        }
        let metadata = Metadata { version: VERSION, about: self.about.clone() };
        let text = serde_json::to_string(&metadata)
            .map_err(|source| DpoError::Json { path: path.to_owned(), source })?;
        let bytes = safetensors::serialize(tensors, Some([(METADATA.to_owned(), text)].into()))
            .map_err(|source| DpoError::Safetensors { path: Some(path.to_owned()), source })?;
        Ok(write_bytes(path, &bytes)?)
    }
}

fn changes(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<ConfigChange> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let value = |of: &BTreeMap<String, String>, name| of.get(name).map_or("none", String::as_str).to_owned();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| ConfigChange { key: name.clone(), old: value(old, name), new: value(new, name) })
        .collect()
}

/// Splits bytes into chunks of `N`. There is no remainder, because safetensors checks the shapes.
fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

struct Part {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Part {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        (&self.bytes).into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
