//! The token ids of a batch: a shared prefix for each prompt, and a row for each completion.

use crate::decoder::Positions;
use crate::error::ModelError;
use crate::families::VlmConfig;
use crate::input::ImageLayout;
use crate::memory::BatchShape;
use crate::processor::TokenizedCompletion;

/// The token ids of groups of completions.
#[derive(Clone, Debug)]
pub(crate) struct BatchTokens {
    /// Right-padded token ids, by group.
    pub(super) prefixes: Vec<Vec<u32>>,
    pub(super) prefix_lens: Vec<usize>,
    /// Positions of the tokens of each prefix, without padding.
    pub(super) positions: Vec<Positions>,
    pub(super) images_of_group: Vec<Vec<usize>>,
    /// One per completion.
    pub(super) rows: Vec<Row>,
    pub(super) width: usize,
}

/// The tokens that one completion adds to its prefix.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) group: usize,
    /// Input ids, right-padded. Each predicts the target at the same index.
    pub(super) inputs: Vec<u32>,
    /// The inputs shifted by one, not padded.
    pub(super) targets: Vec<u32>,
    /// Index of the first target that belongs to the completion.
    pub(super) first: usize,
}

impl BatchTokens {
    /// Splits groups of completions, given the layouts of all images and, for each prompt, its
    /// images and completions.
    ///
    /// # Errors
    /// Those of [`ScoreBatch::new`](super::ScoreBatch::new), but for those of the images.
    pub(crate) fn new(
        config: &VlmConfig,
        layouts: &[&ImageLayout],
        groups: &[(Vec<usize>, Vec<TokenizedCompletion>)],
    ) -> Result<Self, ModelError> {
        let context = config.context();
        let mut batch = Self {
            prefixes: Vec::new(),
            prefix_lens: Vec::new(),
            positions: Vec::new(),
            images_of_group: groups.iter().map(|(images, _)| images.clone()).collect(),
            rows: Vec::new(),
            width: 0,
        };
        for (group, (images, completions)) in groups.iter().enumerate() {
            let known = layouts.len();
            let layout = |image: &usize| {
                layouts.get(*image).copied().ok_or(ModelError::NoSuchImage { image: *image, images: known })
            };
            let own: Vec<_> = images.iter().map(layout).collect::<Result<_, _>>()?;
            let expected = own.iter().map(|layout| layout.tokens()).sum();
            let shared = shared_len(completions);
            for TokenizedCompletion { ids, answer_start, .. } in completions {
                config.check_ids(ids)?;
                if *answer_start == 0 {
                    return Err(ModelError::EmptyPrompt);
                }
                if ids.len() > context {
                    let wanted = ids.len().saturating_sub(*answer_start);
                    return Err(ModelError::ContextTooShort { prompt: *answer_start, wanted, context });
                }
                if ids.len() <= *answer_start {
                    return Err(ModelError::EmptyAnswer { prompt: *answer_start });
                }
                check_image_tokens(config, expected, &ids[..shared], &ids[shared..])?;
            }
            let prefix = completions.first().map_or(Vec::new(), |first| first.ids[..shared].to_vec());
            batch.positions.push(config.family().positions(&prefix, &own));
            batch.prefixes.push(prefix);
            batch.prefix_lens.push(shared);
            batch.rows.extend(completions.iter().map(|TokenizedCompletion { ids, answer_start, .. }| Row {
                group,
                inputs: ids[shared..ids.len() - 1].to_vec(),
                targets: ids[shared + 1..].to_vec(),
                first: answer_start - shared - 1,
            }));
        }
        pad(batch.prefixes.iter_mut(), config.padding());
        batch.width = pad(batch.rows.iter_mut().map(|row| &mut row.inputs), config.padding());
        Ok(batch)
    }

    pub(super) fn sequences(&self) -> impl Iterator<Item = (&[usize], Vec<u32>)> + '_ {
        self.rows.iter().map(|row| {
            let prefix = &self.prefixes[row.group][..self.prefix_lens[row.group]];
            let first = row.inputs.first().copied();
            (
                self.images_of_group[row.group].as_slice(),
                prefix.iter().copied().chain(first).chain(row.targets.iter().copied()).collect(),
            )
        })
    }

    /// The sizes of the batch, given the layouts of its images.
    pub(crate) fn shape(&self, layouts: &[&ImageLayout]) -> BatchShape {
        BatchShape {
            images: layouts.len(),
            tiles: layouts.iter().map(|layout| layout.tiles()).sum(),
            image_tokens: layouts.iter().map(|layout| layout.tokens()).sum(),
            prompts: self.prefixes.len(),
            prompt_tokens: self.prefixes.first().map_or(0, Vec::len),
            completions: self.rows.len(),
            completion_tokens: self.width,
            targets: self.completion_tokens(),
        }
    }

    /// Number of completions per prompt, where all prompts have the same number.
    pub(super) fn rows_of_each_prefix(&self) -> Option<usize> {
        let each = self.rows.len() / self.prefixes.len().max(1);
        let even = self.rows.iter().enumerate().all(|(at, row)| at.checked_div(each) == Some(row.group));
        (even && each * self.prefixes.len() == self.rows.len()).then_some(each)
    }

    pub(super) fn completion_tokens(&self) -> usize {
        self.rows.iter().map(|row| row.targets.len() - row.first).sum()
    }
}

/// Length of the prefix that all completions share, without the last token of the prompt. That
/// token predicts the first token of each completion, so it belongs to their rows.
fn shared_len(completions: &[TokenizedCompletion]) -> usize {
    let start = completions.iter().map(|completion| completion.answer_start).min().unwrap_or(0);
    let Some((first, rest)) = completions.split_first() else { return 0 };
    let same = rest.iter().fold(start, |same, completion| {
        first.ids.iter().zip(&completion.ids).take(same).take_while(|(a, b)| a == b).count()
    });
    same.saturating_sub(1)
}

/// Checks that all image tokens belong to the shared prefix, one for each feature.
fn check_image_tokens(
    config: &VlmConfig,
    expected: usize,
    prefix: &[u32],
    rest: &[u32],
) -> Result<(), ModelError> {
    let count = |ids: &[u32]| ids.iter().filter(|id| Some(**id) == config.image_token()).count();
    let found = count(prefix) + count(rest);
    if found != expected {
        return Err(ModelError::ImageTokens { expected, found });
    }
    if count(rest) > 0 { Err(ModelError::ImageTokenBehind) } else { Ok(()) }
}

/// Pads rows on the right to one length, which is returned. No token attends to the padding.
fn pad<'a>(rows: impl Iterator<Item = &'a mut Vec<u32>>, padding: u32) -> usize {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    rows.into_iter().for_each(|row| row.resize(width, padding));
    width
}
