//! A cache of reference log-probabilities.

mod file;

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use bpo_pairs::{PreferencePair, Skipped, TextHasher};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::batches::{PreparedBatch, PreparedPairs};
use crate::devices::map_on_devices;
use crate::error::{DpoError, Stale};
use crate::loss::{LossProperties, TokenLogps};
use crate::order::{DataOrder, GroupBatch};
use crate::policy::{Adapters, Collate, Policy, PromptGroup, RowFingerprint};

/// A cache of the log-probabilities that a reference assigns to the tokens of completions.
///
/// The key of a completion is its text, with its prompt and image name. The cache is stale if
/// anything else that the log-probabilities depend on has changed. `about` has the fingerprints of
/// the model, its adapter and the chat template. The [fingerprints](Collate::fingerprints) of the
/// collator cover the pixels and tokens of each completion.
#[derive(Clone, Debug)]
pub struct LogpCache {
    about: BTreeMap<String, String>,
    path: Option<PathBuf>,
    rows: HashMap<Key, Row>,
    /// Keys in insertion order.
    order: Vec<Key>,
    logps: Vec<f32>,
    /// Keys whose fingerprints were checked since the file was read.
    checked: HashSet<Key>,
}

/// Pairs to compute in batches, with the properties of the loss.
#[derive(Clone, Copy, Debug)]
pub struct PairBatches<'a, P = PreferencePair> {
    /// The pairs, or references to them.
    pub pairs: &'a [P],
    /// Properties of the loss, which decide which completions are needed.
    pub loss: LossProperties,
    /// Number of pairs in a batch.
    pub size: usize,
}

type Key = [u8; 32];

#[derive(Clone, Debug)]
struct Row {
    start: usize,
    end: usize,
    fingerprint: Option<RowFingerprint>,
}

impl Row {
    /// Returns whether two rows have the same fingerprint, or one has none.
    fn fingerprint_agrees(&self, other: &Self) -> bool {
        match (&self.fingerprint, &other.fingerprint) {
            (Some(one), Some(two)) => one.image == two.image && one.tokens == two.tokens,
            _ => true,
        }
    }
}

impl LogpCache {
    /// Creates an empty cache for log-probabilities that depend on `about`: names and fingerprints.
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

    /// Returns the number of completions in the cache.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Returns whether the cache has no completion.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Computes the log-probabilities of `batches` that are not in the cache, and checks the
    /// fingerprints of the others. Calls `each` after every batch with the number of pairs done.
    /// Returns the pairs that could not be prepared.
    ///
    /// `models` has the reference on one or [several devices](map_on_devices), which share the
    /// batches. The cache does not depend on their number.
    ///
    /// # Errors
    /// Returns [`DpoError::StaleReference`] if a pair has changed since it was cached,
    /// [`DpoError::Collate`] or [`DpoError::Rows`] if collator or model fail, [`DpoError::Device`]
    /// if the device fails, or an error of `each`.
    pub fn fill<P, C>(
        &mut self,
        models: &[P],
        adapters: Adapters,
        collate: &mut C,
        batches: PairBatches<'_, impl Borrow<PreferencePair>>,
        mut each: impl FnMut(&Self, usize) -> Result<(), DpoError>,
    ) -> Result<Vec<Skipped>, DpoError>
    where
        P: Policy,
        P::Batch: Send,
        C: Collate<Batch = P::Batch>,
    {
        let PairBatches { pairs, loss, size } = batches;
        let order: Vec<usize> = DataOrder::new(pairs).groups().concat();
        let mut done = 0;
        let (cache, skipped) = (RefCell::new(self), RefCell::new(Vec::new()));
        let prepare = |part: &[usize]| {
            done += part.len();
            let whole: Vec<&PreferencePair> = part.iter().map(|&index| pairs[index].borrow()).collect();
            let PreparedPairs { pairs: part, skipped: refused, inputs } =
                PreparedPairs::collate(collate, loss, whole.clone())?;
            // the trainer will skip these pairs, too
            let is_refused = |pair: &&PreferencePair| refused.iter().any(|skipped| skipped.id == pair.id);
            let refused_pairs = whole.into_iter().filter(is_refused);
            let groups = GroupBatch::for_loss(loss, collate.weakenings(), refused_pairs);
            cache.borrow_mut().checked.extend(keys(&groups));
            skipped.borrow_mut().extend(refused);
            let Some(PreparedBatch { groups: batch, batch: inputs, .. }) = inputs else {
                return Ok((None, None, done));
            };
            let (prints, keys) = (collate.fingerprints(&inputs), keys(&batch));
            let missing = cache.borrow().first_missing(&keys, prints.as_deref(), &batch, &part)?;
            Ok((missing.map(|_| inputs), Some((part, batch, keys, prints)), done))
        };
        let compute = |model: &P, (inputs, about, done): (Option<P::Batch>, _, usize)| {
            (inputs.map(|inputs| model.token_logps(&inputs, adapters)), about, done)
        };
        let items = order.chunks(size.max(1)).map(prepare);
        map_on_devices(models, items, compute, |(tokens, about, done)| {
            if let Some((part, batch, keys, prints)) = about {
                if let Some(tokens) = tokens {
                    batch.check_rows(tokens.completions(), &part)?;
                    cache.borrow_mut().add(&keys, &tokens, prints.as_deref())?;
                }
                cache.borrow_mut().checked.extend(keys);
            }
            each(&cache.borrow(), done)
        })?;
        Ok(skipped.into_inner())
    }

    /// Checks that the cache has all completions that a loss needs, with the same fingerprints.
    /// Pairs that [`fill`](Self::fill) has checked are not prepared again. Pairs that cannot be
    /// prepared are ignored.
    ///
    /// # Errors
    /// Returns [`DpoError::NotInReference`] if a completion is not in the cache, or an error of
    /// [`fill`](Self::fill).
    pub fn check<C: Collate>(
        &self,
        collate: &mut C,
        loss: LossProperties,
        pairs: &[PreferencePair],
    ) -> Result<(), DpoError> {
        for group in DataOrder::new(pairs).groups() {
            let group: Vec<&PreferencePair> = group.iter().map(|&index| &pairs[index]).collect();
            let batch = GroupBatch::for_loss(loss, collate.weakenings(), group.iter().copied());
            let keys = keys(&batch);
            if keys.iter().all(|key| self.checked.contains(key)) {
                continue;
            }
            let prepared = PreparedPairs::collate(collate, loss, group)?;
            let Some(PreparedBatch { groups: batch, batch: inputs, .. }) = prepared.inputs else { continue };
            let prints = collate.fingerprints(&inputs);
            let keys = self::keys(&batch);
            if let Some(row) = self.first_missing(&keys, prints.as_deref(), &batch, &prepared.pairs)? {
                return Err(DpoError::NotInReference {
                    path: self.path.clone(),
                    pair: batch.id_of_row(row, &prepared.pairs),
                });
            }
        }
        Ok(())
    }

    /// Returns the row of the first completion of a batch that is not in the cache.
    fn first_missing(
        &self,
        keys: &[Key],
        prints: Option<&[RowFingerprint]>,
        batch: &GroupBatch,
        pairs: &[&PreferencePair],
    ) -> Result<Option<usize>, DpoError> {
        let mut first_missing = None;
        for (index, key) in keys.iter().enumerate() {
            let Some(row) = self.rows.get(key) else {
                first_missing = first_missing.or(Some(index));
                continue;
            };
            let (Some(then), Some(now)) = (&row.fingerprint, prints.and_then(|prints| prints.get(index)))
            else {
                continue;
            };
            let what = if then.image != now.image {
                Stale::Image
            } else if then.tokens != now.tokens {
                Stale::Tokens
            } else {
                continue;
            };
            let pair = batch.id_of_row(index, pairs);
            return Err(DpoError::StaleReference { path: self.path.clone(), pair, what });
        }
        Ok(first_missing)
    }

    /// Adds the rows of a batch that are not in the cache yet.
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

    /// Returns the log-probabilities of a batch, `[completions, tokens]`. An error names one of
    /// `pairs`.
    ///
    /// # Errors
    /// Returns [`DpoError::NotInReference`] if a completion is not in the cache.
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

/// Returns the keys of the rows of a batch.
fn keys(batch: &GroupBatch) -> Vec<Key> {
    let key = |group: &PromptGroup, completion: &String| {
        let mut texts = TextHasher::default();
        texts.add(&group.images.len().to_string());
        group.images.iter().for_each(|image| texts.add(image));
        texts.add(&match group.weakened {
            None => String::new(),
            // as before there were several
            Some(0) => "weakened".to_owned(),
            Some(form) => format!("weakened {form}"),
        });
        texts.add(&group.history.len().to_string());
        for turn in &group.history {
            texts.add(&turn.prompt);
            texts.add(&turn.answer);
        }
        texts.add(&group.prompt);
        texts.add(completion);
        // only if there is a system text, so that other rows keep their keys
        if let Some(system) = &group.system {
            texts.add(system);
        }
        texts.bytes()
    };
    let rows = batch.groups.iter().flat_map(|group| group.completions.iter().map(move |text| (group, text)));
    rows.map(|(group, completion)| key(group, completion)).collect()
}
