//! Changes logits as the settings of generation have it, given the tokens so far.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::error::ModelError;
use crate::processor::GenerationSettings;

/// The settings of generation for one sequence.
///
/// The arithmetic is that of the logits processors in transformers' `generation/logits_process.py`,
/// and their order is that of `_get_logits_processor`.
#[derive(Clone, Debug)]
pub(super) struct Rules<'a> {
    /// None if the settings change nothing.
    settings: Option<&'a GenerationSettings>,
    /// The prompt and the answer so far.
    ids: Vec<u32>,
    prompt: usize,
    /// The ids that occur in `ids`.
    seen: BTreeSet<u32>,
}

impl<'a> Rules<'a> {
    /// Starts an answer to a prompt.
    pub(super) fn new(settings: &'a GenerationSettings, prompt: &[u32]) -> Self {
        if settings.keep_logits() {
            return Self { settings: None, ids: Vec::new(), prompt: 0, seen: BTreeSet::new() };
        }
        let seen = prompt.iter().copied().collect();
        Self { settings: Some(settings), ids: prompt.to_vec(), prompt: prompt.len(), seen }
    }

    /// Appends a token to the answer.
    pub(super) fn push(&mut self, id: u32) {
        if self.settings.is_some() {
            self.ids.push(id);
            self.seen.insert(id);
        }
    }

    /// Returns the logits to draw the next token from; excluded tokens have negative infinity.
    ///
    /// # Errors
    /// [`ModelError::NoTokenLeft`] if all tokens are excluded.
    pub(super) fn apply<'l>(&self, logits: Cow<'l, [f32]>) -> Result<Cow<'l, [f32]>, ModelError> {
        let Some(settings) = self.settings else { return Ok(logits) };
        let mut logits = logits.into_owned();
        let penalty = settings.repetition_penalty as f32;
        if settings.repetition_penalty != 1.0 {
            for id in &self.seen {
                // the embedding can have more rows than the head
                if let Some(logit) = logits.get_mut(*id as usize) {
                    *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
                }
            }
        }
        self.exclude(settings, &mut |id| {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        });
        if logits.iter().all(|logit| *logit == f32::NEG_INFINITY) {
            return Err(ModelError::NoTokenLeft);
        }
        Ok(Cow::Owned(logits))
    }

    /// Passes the ids that must not come next to `exclude`.
    fn exclude(&self, settings: &GenerationSettings, exclude: &mut impl FnMut(u32)) {
        let new = self.ids.len() - self.prompt;
        if settings.no_repeat_ngram_size > 0 {
            repeating(&self.ids, settings.no_repeat_ngram_size).for_each(&mut *exclude);
        }
        for word in &settings.bad_words_ids {
            let Some((last, begin)) = word.split_last() else { continue };
            let ends = begin.is_empty() && settings.stop.contains(last);
            if !ends && self.ids.ends_with(begin) {
                exclude(*last);
            }
        }
        if new < settings.min_new_tokens || self.ids.len() < settings.min_length {
            settings.stop.iter().copied().for_each(&mut *exclude);
        }
        settings.suppress_tokens.iter().copied().for_each(&mut *exclude);
        if new == 0 {
            settings.begin_suppress_tokens.iter().copied().for_each(exclude);
        }
    }
}

/// Returns the tokens that would complete a sequence of `size` tokens that `ids` has already.
fn repeating(ids: &[u32], size: usize) -> impl Iterator<Item = u32> {
    let begin = &ids[(ids.len() + 1).saturating_sub(size)..];
    // no window is complete in a sequence that is shorter
    let windows = ids.windows(size).filter(move |window| window[..size - 1] == *begin);
    windows.map(move |window| window[size - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids that are left, given a prompt and an answer so far.
    fn left(settings: &GenerationSettings, prompt: &[u32], answer: &[u32]) -> Vec<u32> {
        let mut rules = Rules::new(settings, prompt);
        answer.iter().for_each(|id| rules.push(*id));
        let logits = rules.apply(Cow::Borrowed(&[0.5; 6])).unwrap();
        (0..6).filter(|id| logits[*id as usize] > f32::NEG_INFINITY).collect()
    }

    #[test]
    fn neutral_settings_do_not_copy_logits() {
        let settings = GenerationSettings::ending_at([1]);
        let rules = Rules::new(&settings, &[0, 1]);
        assert!(matches!(rules.apply(Cow::Borrowed(&[1.0])).unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn tokens_of_prompt_and_answer_are_penalized_once() {
        let settings = GenerationSettings { repetition_penalty: 2.0, ..Default::default() };
        let mut rules = Rules::new(&settings, &[0, 1, 0, 9]);
        rules.push(3);
        let logits = rules.apply(Cow::Borrowed(&[4.0, -1.0, 3.0, 0.0, f32::NEG_INFINITY])).unwrap();
        assert_eq!(*logits, [2.0, -2.0, 3.0, 0.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn sequences_do_not_repeat() {
        let settings = |size| GenerationSettings { no_repeat_ngram_size: size, ..Default::default() };
        assert_eq!(left(&settings(2), &[1, 2, 3], &[1]), [0, 1, 3, 4, 5]);
        assert_eq!(left(&settings(1), &[1, 2], &[1]), [0, 3, 4, 5]);
        assert_eq!(left(&settings(3), &[1, 2, 3, 1], &[2]), [0, 1, 2, 4, 5]);
        assert_eq!(left(&settings(3), &[1], &[]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(left(&settings(1_000_000), &[1, 1], &[1]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(left(&settings(2), &[], &[]), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn words_are_excluded() {
        let bad_words_ids = vec![vec![4], vec![5], vec![1, 2], vec![9, 9, 9, 0]];
        let settings = GenerationSettings { stop: vec![5], bad_words_ids, ..Default::default() };
        assert_eq!(left(&settings, &[1], &[]), [0, 1, 3, 5]);
        assert_eq!(left(&settings, &[1], &[3]), [0, 1, 2, 3, 5]);
    }

    #[test]
    fn short_answers_do_not_end() {
        let stop = vec![4, 5];
        let settings = GenerationSettings { stop, min_new_tokens: 1, min_length: 4, ..Default::default() };
        assert_eq!(left(&settings, &[1; 9], &[]), [0, 1, 2, 3]);
        assert_eq!(left(&settings, &[1], &[0, 0]), [0, 1, 2, 3]);
        assert_eq!(left(&settings, &[1], &[0, 0, 0]), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn suppressed_tokens_are_excluded() {
        let (suppress_tokens, begin_suppress_tokens) = (vec![0, 77], vec![2]);
        let settings = GenerationSettings { suppress_tokens, begin_suppress_tokens, ..Default::default() };
        assert_eq!(left(&settings, &[2], &[]), [1, 3, 4, 5]);
        assert_eq!(left(&settings, &[2], &[1]), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn excluding_every_token_is_an_error() {
        let settings = GenerationSettings { suppress_tokens: vec![0, 1], ..Default::default() };
        let error = Rules::new(&settings, &[]).apply(Cow::Borrowed(&[1.0, 2.0])).unwrap_err();
        assert!(matches!(error, ModelError::NoTokenLeft), "{error}");
    }
}
