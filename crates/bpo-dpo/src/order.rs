//! The order of the pairs, which depends only on the pairs, the settings, the seed and the epoch.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};

use bpo_pairs::{PreferencePair, Turn};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::buckets::Buckets;
use crate::config::DpoConfig;
use crate::error::DpoError;
use crate::loss::{LossProperties, PairRows};
use crate::policy::{Collate, PromptGroup};

/// The pairs of a data set in groups with the same image, system text, history and prompt.
///
/// An epoch has the groups in random order, and the pairs of a group next to each other. Most pairs
/// of one prompt are therefore in one batch, which computes the image and the prompt once. This
/// also holds with [`group_by_length`](DpoConfig::group_by_length).
#[derive(Clone, Debug)]
pub struct DataOrder {
    groups: Vec<Vec<usize>>,
    buckets: Option<Buckets>,
}

impl DataOrder {
    /// Groups pairs. Groups are in the order of their first pairs.
    pub fn new(pairs: &[impl Borrow<PreferencePair>]) -> Self {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut known = HashMap::new();
        for (index, pair) in pairs.iter().enumerate() {
            let group = *known.entry(Question::of(pair.borrow())).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[group].push(index);
        }
        Self { groups, buckets: None }
    }

    /// Groups the pairs of a run with these settings, including
    /// [`group_by_length`](DpoConfig::group_by_length).
    pub fn for_config(config: &DpoConfig, pairs: &[PreferencePair]) -> Self {
        let order = Self::new(pairs);
        let buckets =
            config.group_by_length.then(|| Buckets::new(pairs, &order.groups, config.pairs_per_step()));
        Self { buckets, ..order }
    }

    /// Returns the indices of the pairs of each group.
    pub fn groups(&self) -> &[Vec<usize>] {
        &self.groups
    }

    /// Returns the indices of all pairs in the order of an epoch. Epochs are numbered from 0.
    pub fn epoch(&self, seed: u64, epoch: usize) -> Vec<usize> {
        let random = &mut random(seed, epoch as u64);
        let order = self.shuffled(random).into_iter().flatten().copied().collect();
        match &self.buckets {
            Some(buckets) => buckets.arranged(order, random),
            None => order,
        }
    }

    /// Returns the groups in random order.
    fn shuffled(&self, random: &mut ChaCha20Rng) -> Vec<&Vec<usize>> {
        let mut order: Vec<&Vec<usize>> = self.groups.iter().collect();
        shuffle(&mut order, random);
        order
    }
}

fn random(seed: u64, stream: u64) -> ChaCha20Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = ChaCha20Rng::from_seed(key);
    random.set_stream(stream);
    random
}

/// Shuffles items (Fisher-Yates). It is implemented here because the shuffle of a library may
/// change between versions.
pub(crate) fn shuffle<T>(items: &mut [T], random: &mut ChaCha20Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(random, last as u64 + 1) as usize);
    }
}

/// Splits off a fraction `part` of the pairs to evaluate on. Whole groups are drawn with the seed,
/// at least one if `part` is above 0 and there are two or more groups. Returns the pairs to train
/// on and those to evaluate on, both in the order of `pairs`.
pub fn split_pairs(
    pairs: Vec<PreferencePair>,
    part: f64,
    seed: u64,
) -> (Vec<PreferencePair>, Vec<PreferencePair>) {
    if part == 0.0 {
        return (pairs, Vec::new());
    }
    let order = DataOrder::new(&pairs);
    let groups = order.groups.len();
    let most = groups.saturating_sub(1);
    let count = ((groups as f64 * part).round() as usize).clamp(usize::from(part > 0.0).min(most), most);
    // streams from 0 on are used for the epochs
    let taken: HashSet<usize> =
        order.shuffled(&mut random(seed, u64::MAX)).into_iter().take(count).flatten().copied().collect();
    let (mut left, mut evaluated) = (Vec::new(), Vec::new());
    for (index, pair) in pairs.into_iter().enumerate() {
        if taken.contains(&index) { evaluated.push(pair) } else { left.push(pair) }
    }
    (left, evaluated)
}

/// Draws a uniform integer below `bound`, by rejection.
fn below(random: &mut impl Rng, bound: u64) -> u64 {
    let unbiased = u64::MAX - u64::MAX % bound;
    loop {
        let value = random.next_u64();
        if value < unbiased {
            return value % bound;
        }
    }
}

/// The part of a pair that is the same in all pairs of its group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question<'a> {
    images: &'a [String],
    system: Option<&'a str>,
    history: Vec<(&'a str, &'a str)>,
    prompt: &'a str,
}

impl<'a> Question<'a> {
    pub(crate) fn of(pair: &'a PreferencePair) -> Self {
        let turn = |turn: &'a Turn| (turn.prompt.as_str(), turn.answer.as_str());
        let history = pair.history.iter().map(turn).collect();
        Self { images: &pair.images, system: pair.system.as_deref(), history, prompt: &pair.prompt }
    }
}

/// A batch of pairs in groups. It has each prompt once, with each of its completions once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupBatch {
    /// The prompts with their completions.
    pub groups: Vec<PromptGroup>,
    /// The rows of each pair's completions in [`TokenLogps`](crate::loss::TokenLogps).
    pub rows: PairRows,
}

impl GroupBatch {
    /// Groups pairs. The rows are in the order of the pairs, and the groups in the order of their
    /// first pairs.
    pub fn new<'a>(pairs: impl IntoIterator<Item = &'a PreferencePair>) -> Self {
        Self::of(pairs, |pair| &pair.rejected)
    }

    /// Groups the chosen completions only, for a loss that does not need rejected ones. Both rows
    /// of a pair are the row of its chosen completion.
    pub fn chosen<'a>(pairs: impl IntoIterator<Item = &'a PreferencePair>) -> Self {
        Self::of(pairs, |pair| &pair.chosen)
    }

    /// Groups the completions that a loss needs. Rejected completions and weakened images are
    /// included only if the loss needs them. `weakenings` is the number of [weakened
    /// forms](Collate::weakenings) of each image.
    pub fn for_loss<'a>(
        loss: LossProperties,
        weakenings: usize,
        pairs: impl IntoIterator<Item = &'a PreferencePair> + Clone,
    ) -> Self {
        let mut batch = if loss.rejected { Self::new(pairs.clone()) } else { Self::chosen(pairs.clone()) };
        for form in 0..if loss.weakened { weakenings } else { 0 } {
            let behind = batch.completions();
            let mut weakened = Self::chosen(pairs.clone());
            weakened.groups.iter_mut().for_each(|group| group.weakened = Some(form));
            batch.groups.extend(weakened.groups);
            batch.rows.weakened.push(weakened.rows.chosen.into_iter().map(|row| behind + row).collect());
        }
        batch
    }

    fn of<'a>(
        pairs: impl IntoIterator<Item = &'a PreferencePair>,
        other: impl Fn(&'a PreferencePair) -> &'a str,
    ) -> Self {
        let mut groups: Vec<PromptGroup> = Vec::new();
        let mut known = HashMap::new();
        let mut places = Vec::new();
        for pair in pairs {
            let index = *known.entry(Question::of(pair)).or_insert_with(|| {
                groups.push(PromptGroup {
                    images: pair.images.clone(),
                    weakened: None,
                    system: pair.system.clone(),
                    history: pair.history.clone(),
                    prompt: pair.prompt.clone(),
                    completions: Vec::new(),
                });
                groups.len() - 1
            });
            let completions = &mut groups[index].completions;
            places.push((index, position(completions, &pair.chosen), position(completions, other(pair))));
        }
        let mut first_rows = Vec::with_capacity(groups.len());
        let mut next = 0;
        for group in &groups {
            first_rows.push(next);
            next += group.completions.len();
        }
        let mut rows = PairRows::default();
        for (group, chosen, rejected) in places {
            rows.chosen.push(first_rows[group] + chosen);
            rows.rejected.push(first_rows[group] + rejected);
        }
        Self { groups, rows }
    }

    /// Returns the number of completions, which is also the number of rows of log-probabilities.
    pub fn completions(&self) -> usize {
        self.groups.iter().map(|group| group.completions.len()).sum()
    }

    /// Returns the id of the first pair that a row belongs to.
    pub(crate) fn id_of_row(&self, row: usize, pairs: &[&PreferencePair]) -> String {
        let pair = [&self.rows.chosen, &self.rows.rejected]
            .into_iter()
            .chain(&self.rows.weakened)
            .find_map(|rows| rows.iter().position(|&known| known == row));
        pair.and_then(|pair| pairs.get(pair)).map_or_else(String::new, |pair| pair.id.clone())
    }

    /// Prepares the groups with the collator. An error names `pairs`.
    pub(crate) fn collate<C: Collate>(
        &self,
        collate: &mut C,
        pairs: &[&PreferencePair],
    ) -> Result<C::Batch, DpoError> {
        let failed = |error| DpoError::Collate { pairs: ids(pairs), source: Box::new(error) };
        collate.collate(&self.groups).map_err(failed)
    }

    /// Checks that there is one row for each completion. An error names `pairs`.
    pub(crate) fn check_rows(&self, found: usize, pairs: &[&PreferencePair]) -> Result<(), DpoError> {
        match self.completions() {
            expected if expected != found => Err(DpoError::Rows { expected, found, pairs: ids(pairs) }),
            _ => Ok(()),
        }
    }
}

/// Returns the ids of pairs.
pub(crate) fn ids(pairs: &[&PreferencePair]) -> Vec<String> {
    pairs.iter().map(|pair| pair.id.clone()).collect()
}

/// Returns the index of a completion. Adds the completion if it is new.
fn position(completions: &mut Vec<String>, completion: &str) -> usize {
    completions.iter().position(|known| known == completion).unwrap_or_else(|| {
        completions.push(completion.to_owned());
        completions.len() - 1
    })
}
