//! A cache of the reference's log-probabilities in a file.
//!
//! ```text
//! reference.safetensors   logps   f32 [tokens]    of all completions, concatenated
//!                         ends    i64 [rows]      index behind each completion's last token
//!                         keys    u8 [rows, 32]   SHA-256 of image name, turns and answer
//!                         images  u8 [rows, 32]   image fingerprint, if the collator gives one
//!                         tokens  u8 [rows, 32]   fingerprint of the token ids
//!                         `bpo_reference`         JSON: version and `about`
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use bpo_pairs::files::{open_input, write_bytes};
use bpo_pairs::{PreferencePair, Skipped};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use crate::batches::{PreparedBatch, PreparedPairs};
use crate::digest::Texts;
use crate::error::{Change, DpoError, Stale};
use crate::loss::{LossProperties, TokenLogps};
use crate::order::{DataOrder, GroupBatch};
use crate::policy::{Adapters, Collate, Policy, PromptGroup, RowFingerprint};
use crate::tensors::dims;

const METADATA: &str = "bpo_reference";
const VERSION: u32 = 1;
/// The longest header in bytes that the safetensors crate reads.
const MAX_HEADER: u64 = 100_000_000;

/// The part of a safetensors header that is not about tensors.
#[derive(Default, Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: Option<HashMap<String, String>>,
}

/// The metadata of a cache file, from those of its header.
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

/// Log-probabilities of completions under a reference, token by token.
///
/// A completion is found by its texts. The cache is stale if anything else changed that the
/// log-probabilities depend on: `about` has the fingerprints of the model, its adapter, the chat
/// template and so on, and the collator's [fingerprints](Collate::fingerprints) those of each
/// completion's pixels and tokens.
#[derive(Clone, Debug)]
pub struct LogpCache {
    about: BTreeMap<String, String>,
    path: Option<PathBuf>,
    rows: HashMap<Key, Row>,
    /// Keys in the order of their insertion.
    order: Vec<Key>,
    logps: Vec<f32>,
    /// Keys whose fingerprints were checked since the file was read.
    checked: HashSet<Key>,
}

/// Pairs in batches, as a loss needs them.
#[derive(Clone, Copy, Debug)]
pub struct PairBatches<'a> {
    /// The pairs.
    pub pairs: &'a [PreferencePair],
    /// What the loss needs of them.
    pub loss: LossProperties,
    /// Pairs in a batch.
    pub size: usize,
}

type Key = [u8; 32];

#[derive(Clone, Debug)]
struct Row {
    start: usize,
    end: usize,
    fingerprint: Option<RowFingerprint>,
}

/// The metadata of the file.
#[derive(Serialize, Deserialize)]
struct Metadata {
    version: u32,
    about: BTreeMap<String, String>,
}

impl LogpCache {
    /// An empty cache for log-probabilities that depend on `about`: names and fingerprints.
    pub fn new(about: BTreeMap<String, String>) -> Self {
        Self {
            about,
            path: None,
            rows: HashMap::new(),
            order: Vec::new(),
            logps: Vec::new(),
            checked: HashSet::new(),
        }
    }

    /// Checks that a file is a cache, by its header. Whether it is stale only [`load`](Self::load)
    /// finds.
    ///
    /// # Errors
    /// [`DpoError::ReferenceFile`] for another file; [`DpoError::Io`].
    pub fn check_file(path: &Path) -> Result<(), DpoError> {
        let mut file = open_input(path)?;
        let mut bytes = Vec::new();
        file.by_ref().take(8).read_to_end(&mut bytes).map_err(DpoError::io("read", path))?;
        let length = bytes.as_slice().try_into().map_or(0, u64::from_le_bytes);
        // a longer header is cut off, and then no metadata are found in it
        file.take(length.min(MAX_HEADER)).read_to_end(&mut bytes).map_err(DpoError::io("read", path))?;
        // the safetensors crate reads a header only together with the tensors
        let header: Header =
            bytes.get(8..).map_or(Ok(Header::default()), serde_json::from_slice).unwrap_or_default();
        read_metadata(path, header.metadata.as_ref()).map(|_| ())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`DpoError::ReferenceChanged`] with all differences from `about`; [`DpoError::Safetensors`]
    /// or [`DpoError::ReferenceFile`] for another file; [`DpoError::Io`].
    pub fn load(path: &Path, about: BTreeMap<String, String>) -> Result<Self, DpoError> {
        // a FIFO would be waited for
        let mut bytes = Vec::new();
        open_input(path)?.read_to_end(&mut bytes).map_err(DpoError::io("read", path))?;
        let unreadable = |source| DpoError::Safetensors { path: Some(path.to_owned()), source };
        let broken =
            |reason: &str| DpoError::ReferenceFile { path: path.to_owned(), reason: reason.to_owned() };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(unreadable)?;
        let metadata = read_metadata(path, header.metadata().as_ref())?;
        let changes = changes(&metadata.about, &about);
        if !changes.is_empty() {
            return Err(DpoError::ReferenceChanged { path: path.to_owned(), changes });
        }
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

    /// Writes a file atomically. Equal contents give equal bytes.
    ///
    /// # Errors
    /// [`DpoError::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), DpoError> {
        let rows = || self.order.iter().map(|key| &self.rows[key]);
        let prints: Option<Vec<&RowFingerprint>> = rows().map(|row| row.fingerprint.as_ref()).collect();
        let bytes = |parts: &mut dyn Iterator<Item = Vec<u8>>| parts.flatten().collect::<Vec<u8>>();
        let ends = bytes(&mut rows().map(|row| (row.end as i64).to_le_bytes().to_vec()));
        let logps = bytes(&mut self.logps.iter().map(|value| value.to_le_bytes().to_vec()));
        let keys = self.order.concat();
        let count = self.order.len();
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

    /// Number of completions.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is no completion.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Computes the log-probabilities that `batches` need and the cache lacks, and checks the
    /// fingerprints of the others. Calls `each` after every batch with the number of pairs done.
    /// Gives the pairs that could not be prepared.
    ///
    /// # Errors
    /// [`DpoError::StaleReference`], [`DpoError::Collate`], [`DpoError::Rows`],
    /// [`DpoError::Device`], and errors of `each`.
    pub fn fill<P, C>(
        &mut self,
        model: &P,
        adapters: Adapters,
        collate: &mut C,
        batches: PairBatches<'_>,
        mut each: impl FnMut(&Self, usize) -> Result<(), DpoError>,
    ) -> Result<Vec<Skipped>, DpoError>
    where
        P: Policy,
        C: Collate<Batch = P::Batch>,
    {
        let PairBatches { pairs, loss, size } = batches;
        let order: Vec<usize> = DataOrder::new(pairs).groups().concat();
        let (mut done, mut skipped) = (0, Vec::new());
        for part in order.chunks(size.max(1)) {
            done += part.len();
            let whole: Vec<&PreferencePair> = part.iter().map(|&index| &pairs[index]).collect();
            let PreparedPairs { pairs: part, skipped: refused, inputs } =
                PreparedPairs::collate(collate, loss, whole.clone())?;
            // the trainer meets these pairs again, and skips them
            let is_refused = |pair: &&PreferencePair| refused.iter().any(|skipped| skipped.id == pair.id);
            let groups = GroupBatch::for_loss(loss, whole.into_iter().filter(is_refused));
            self.checked.extend(keys(&groups));
            skipped.extend(refused);
            if let Some(PreparedBatch { groups: batch, batch: inputs, .. }) = inputs {
                let prints = collate.fingerprints(&inputs);
                let keys = keys(&batch);
                if self.lacking(&keys, prints.as_deref(), &batch, &part)?.is_some() {
                    let tokens = model.token_logps(&inputs, adapters);
                    batch.check_rows(tokens.completions(), &part)?;
                    self.add(&keys, &tokens, prints.as_deref())?;
                }
                self.checked.extend(keys);
            }
            each(self, done)?;
        }
        Ok(skipped)
    }

    /// Checks that the cache has what a loss needs of the pairs, and their fingerprints. Pairs that
    /// [`fill`](Self::fill) went through are not prepared again. Pairs that cannot be prepared are
    /// left out.
    ///
    /// # Errors
    /// [`DpoError::NotInReference`] and those of [`fill`](Self::fill).
    pub fn check<C: Collate>(
        &self,
        collate: &mut C,
        loss: LossProperties,
        pairs: &[PreferencePair],
    ) -> Result<(), DpoError> {
        for group in DataOrder::new(pairs).groups() {
            let group: Vec<&PreferencePair> = group.iter().map(|&index| &pairs[index]).collect();
            let batch = GroupBatch::for_loss(loss, group.iter().copied());
            let keys = keys(&batch);
            if keys.iter().all(|key| self.checked.contains(key)) {
                continue;
            }
            let prepared = PreparedPairs::collate(collate, loss, group)?;
            let Some(PreparedBatch { groups: batch, batch: inputs, .. }) = prepared.inputs else { continue };
            let prints = collate.fingerprints(&inputs);
            let keys = self::keys(&batch);
            if let Some(row) = self.lacking(&keys, prints.as_deref(), &batch, &prepared.pairs)? {
                return Err(DpoError::NotInReference {
                    path: self.path.clone(),
                    pair: batch.id_of_row(row, &prepared.pairs),
                });
            }
        }
        Ok(())
    }

    /// The first completion of a batch that is not in the cache.
    fn lacking(
        &self,
        keys: &[Key],
        prints: Option<&[RowFingerprint]>,
        batch: &GroupBatch,
        pairs: &[&PreferencePair],
    ) -> Result<Option<usize>, DpoError> {
        let mut lacking = None;
        for (index, key) in keys.iter().enumerate() {
            let Some(row) = self.rows.get(key) else {
                lacking = lacking.or(Some(index));
                continue;
            };
            let (Some(then), Some(now)) = (&row.fingerprint, prints.and_then(|prints| prints.get(index)))
            else {
                continue;
            };
            let what = match (then.image == now.image, then.tokens == now.tokens) {
                (true, true) => continue,
                (false, _) => Stale::Image,
                (true, false) => Stale::Tokens,
            };
            let pair = batch.id_of_row(index, pairs);
            return Err(DpoError::StaleReference { path: self.path.clone(), pair, what });
        }
        Ok(lacking)
    }

    /// Adds the rows of a batch that are not in the cache.
    fn add(
        &mut self,
        keys: &[Key],
        tokens: &TokenLogps,
        prints: Option<&[RowFingerprint]>,
    ) -> Result<(), DpoError> {
        const WHAT: &str = "log-probabilities";
        let [_, width] = tokens.logps.dims();
        let values = tokens.logps.clone().try_into_data_dtype(DType::F32).map_err(DpoError::device(WHAT))?;
        let values: Vec<f32> = values.try_into_vec().map_err(DpoError::device(WHAT))?;
        let mask = tokens.mask.clone().try_into_data().map_err(DpoError::device(WHAT))?;
        let mask: Vec<bool> = mask.iter::<bool>().collect();
        for (index, key) in keys.iter().enumerate() {
            let cells = index * width..(index + 1) * width;
            let row: Vec<f32> = cells.filter(|&cell| mask[cell]).map(|cell| values[cell]).collect();
            self.insert(*key, &row, prints.and_then(|prints| prints.get(index)).cloned());
        }
        Ok(())
    }

    fn insert(&mut self, key: Key, logps: &[f32], fingerprint: Option<RowFingerprint>) {
        if self.rows.contains_key(&key) {
            return;
        }
        let start = self.logps.len();
        self.logps.extend_from_slice(logps);
        self.rows.insert(key, Row { start, end: self.logps.len(), fingerprint });
        self.order.push(key);
    }

    /// The log-probabilities of a batch. `pairs` are named in the error.
    ///
    /// # Errors
    /// [`DpoError::NotInReference`].
    pub fn token_logps(
        &self,
        batch: &GroupBatch,
        pairs: &[&PreferencePair],
        device: &Device,
    ) -> Result<TokenLogps, DpoError> {
        let row = |(index, key)| match self.rows.get(&key) {
            Some(Row { start, end, .. }) => Ok(&self.logps[*start..*end]),
            None => {
                Err(DpoError::NotInReference { path: self.path.clone(), pair: batch.id_of_row(index, pairs) })
            }
        };
        let rows = keys(batch).into_iter().enumerate().map(row).collect::<Result<Vec<_>, DpoError>>()?;
        let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let (mut logps, mut mask) = (Vec::new(), Vec::new());
        for row in &rows {
            let padding = width - row.len();
            logps.extend(row.iter().copied().chain(std::iter::repeat_n(0.0, padding)));
            mask.extend((0..width).map(|place| place < row.len()));
        }
        let shape = [rows.len(), width];
        Ok(TokenLogps {
            logps: Tensor::from_data(TensorData::new(logps, shape), (device, DType::F32)),
            mask: Tensor::from_data(TensorData::new(mask, shape), device),
        })
    }
}

/// The keys of the rows of a batch.
fn keys(batch: &GroupBatch) -> Vec<Key> {
    let key = |group: &PromptGroup, completion: &String| {
        let mut texts = Texts::default();
        texts.add(&group.image);
        texts.add(if group.weakened { "weakened" } else { "" });
        texts.add(&group.history.len().to_string());
        for turn in &group.history {
            texts.add(&turn.prompt);
            texts.add(&turn.answer);
        }
        texts.add(&group.prompt);
        texts.add(completion);
        // last, and only if there is one, so that rows without it keep their keys
        if let Some(system) = &group.system {
            texts.add(system);
        }
        texts.bytes()
    };
    let rows = batch.groups.iter().flat_map(|group| group.completions.iter().map(move |text| (group, text)));
    rows.map(|(group, completion)| key(group, completion)).collect()
}

fn changes(then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<Change> {
    let mut names: Vec<&String> = then.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    let value = |of: &BTreeMap<String, String>, name| of.get(name).map_or("none", String::as_str).to_owned();
    names
        .into_iter()
        .filter(|name| then.get(*name) != now.get(*name))
        .map(|name| Change { key: name.clone(), then: value(then, name), now: value(now, name) })
        .collect()
}

/// Chunks of `N` bytes. There is no remainder: safetensors checks the shapes.
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
