//! The order of the pairs, which depends only on the pairs, the settings, the seed and the epoch.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};

use bpo_pairs::{PreferencePair, Turn};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::buckets::Buckets;
use crate::config::DpoConfig;
use crate::error::DpoError;
use crate::loss::{Contrasted, LossProperties, PairRows};
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

    /// Groups the completions that a loss needs. Rejected completions, weakened images and
    /// [contrasts](PreferencePair::contrast) are included only if the loss needs them. `weakenings` is
    /// the number of [weakened forms](Collate::weakenings) of each image.
    ///
    /// The answer of a contrast is in the group of its pair. Both answers for the images of a contrast
    /// are in another group, which only pairs of the same question share, so that pairs that a collator
    /// accepts question by question can be in one batch. If a pair has no contrast, there are no rows of
    /// contrasts.
    pub fn for_loss<'a>(
        loss: LossProperties,
        weakenings: usize,
        pairs: impl IntoIterator<Item = &'a PreferencePair> + Clone,
    ) -> Self {
        let mut batch = match (loss.contrast, loss.rejected) {
            (true, rejected) => Self::with_contrasts(pairs.clone(), rejected),
            (false, true) => Self::new(pairs.clone()),
            (false, false) => Self::chosen(pairs.clone()),
        };
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
        let mut groups = Groups::default();
        let mut places = Vec::new();
        for pair in pairs {
            let mut place = |text| groups.place(pair, None, text);
            places.push((place(&pair.chosen), place(other(pair))));
        }
        let row = groups.rows();
        let mut rows = PairRows::default();
        for (chosen, rejected) in places {
            rows.chosen.push(row(chosen));
            rows.rejected.push(row(rejected));
        }
        Self { groups: groups.list, rows }
    }

    /// Groups pairs with their contrasts, and with their rejected completions if `rejected` is true.
    fn with_contrasts<'a>(pairs: impl IntoIterator<Item = &'a PreferencePair>, rejected: bool) -> Self {
        let mut groups = Groups::default();
        let mut places = Vec::new();
        for pair in pairs {
            let chosen = groups.place(pair, None, &pair.chosen);
            let rejected = if rejected { groups.place(pair, None, &pair.rejected) } else { chosen };
            let contrast = pair.contrast().map(|(images, answer)| Contrasted {
                answer: groups.place(pair, None, answer),
                images: groups.place(pair, Some(images), &pair.chosen),
                both: groups.place(pair, Some(images), answer),
            });
            places.push((chosen, rejected, contrast));
        }
        let row = groups.rows();
        let mut rows = PairRows::default();
        let mut contrasts = Contrasted::<Vec<usize>>::default();
        for (chosen, rejected, contrast) in places {
            rows.chosen.push(row(chosen));
            rows.rejected.push(row(rejected));
            if let Some(contrast) = contrast {
                let Contrasted { answer, images, both } = contrast.map(&row);
                contrasts.answer.push(answer);
                contrasts.images.push(images);
                contrasts.both.push(both);
            }
        }
        rows.contrast = Some(contrasts).filter(|contrasts| contrasts.both.len() == rows.len());
        Self { groups: groups.list, rows }
    }

    /// Returns the number of completions, which is also the number of rows of log-probabilities.
    pub fn completions(&self) -> usize {
        self.groups.iter().map(|group| group.completions.len()).sum()
    }

    /// Returns the id of the first pair that a row belongs to.
    pub(crate) fn id_of_row(&self, row: usize, pairs: &[&PreferencePair]) -> String {
        let pair = [&self.rows.chosen, &self.rows.rejected]
            .into_iter()
            .chain(self.rows.further())
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

/// The groups of a batch while it is filled.
#[derive(Default)]
struct Groups<'a> {
    list: Vec<PromptGroup>,
    /// The index of the group of a question, with the images of a contrast in place of its own.
    known: HashMap<(Question<'a>, Option<&'a [String]>), usize>,
}

/// A completion: the index of its group, and its index in the group.
type Place = (usize, usize);

impl<'a> Groups<'a> {
    /// Returns the place of a completion of the question of a pair, about `images` in place of its own
    /// if there are some. Adds group and completion if they are new.
    fn place(&mut self, pair: &'a PreferencePair, images: Option<&'a [String]>, text: &str) -> Place {
        let Self { list, known } = self;
        let group = *known.entry((Question::of(pair), images)).or_insert_with(|| {
            list.push(PromptGroup {
                images: images.unwrap_or(&pair.images).to_vec(),
                weakened: None,
                system: pair.system.clone(),
                history: pair.history.clone(),
                prompt: pair.prompt.clone(),
                completions: Vec::new(),
            });
            list.len() - 1
        });
        (group, position(&mut list[group].completions, text))
    }

    /// Returns a function that returns the row of a completion.
    fn rows(&self) -> impl Fn(Place) -> usize + use<> {
        let sizes = self.list.iter().map(|group| group.completions.len());
        let first_rows: Vec<usize> = sizes
            .scan(0, |next, size| {
                *next += size;
                Some(*next - size)
            })
            .collect();
        move |(group, completion)| first_rows[group] + completion
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
