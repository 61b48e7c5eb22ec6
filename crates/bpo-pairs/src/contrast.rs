//! The contrast of a pair: other images for which another answer to the same prompt is right.

use crate::placeholders::check_answer;
use crate::record::PreferencePair;
use crate::skipped::{SkipCause, SkipReason};
use crate::words::lower_words;

impl PreferencePair {
    /// Returns the other images and the answer that is right for them, if the pair has both; see
    /// [`contrast_images`](Self::contrast_images).
    pub fn contrast(&self) -> Option<(&[String], &str)> {
        let answer = self.contrast_answer.as_deref()?;
        (!self.contrast_images.is_empty()).then_some((&self.contrast_images, answer))
    }

    /// Iterates over the paths of all images of the pair: its own, then those of its
    /// [contrast](Self::contrast).
    pub fn all_images(&self) -> impl Iterator<Item = &str> {
        self.images.iter().chain(&self.contrast_images).map(String::as_str)
    }

    /// Checks that the pair has no contrast, or a usable one: an answer whose words are those of neither
    /// of its own two, and as many images as the prompt has, which are not those of the pair.
    ///
    /// # Errors
    /// Returns the reason to skip the pair, which names the key.
    pub fn check_contrast(&self) -> Result<(), SkipCause> {
        let cause = |reason, particulars: String| Err(SkipCause::new(reason, particulars));
        let (count, found) = (self.images.len(), self.contrast_images.len());
        let answer = match &self.contrast_answer {
            None if found == 0 => return Ok(()),
            None => {
                let particulars = "`contrast_answer`: expected the answer for `contrast_images`, found none";
                return cause(SkipReason::Malformed, particulars.to_owned());
            }
            Some(answer) => answer,
        };
        if count == 0 {
            let particulars = "`contrast_answer`: expected a pair with images, found none in `images`";
            return cause(SkipReason::Malformed, particulars.to_owned());
        }
        if found != count {
            let particulars =
                format!("`contrast_images`: expected as many images as in `images`, {count}, found {found}");
            return cause(SkipReason::Malformed, particulars);
        }
        if self.contrast_images == self.images {
            let particulars = "`contrast_images`: expected other images than in `images`, found the same";
            return cause(SkipReason::Malformed, particulars.to_owned());
        }
        if answer.trim().is_empty() {
            return cause(SkipReason::EmptyAnswer, "`contrast_answer`: expected text".to_owned());
        }
        for (key, own) in [("chosen", &self.chosen), ("rejected", &self.rejected)] {
            if has_same_words(own, answer) {
                let particulars =
                    format!("`contrast_answer`: expected another answer than `{key}`, found the same");
                return cause(SkipReason::Identical, particulars);
            }
        }
        check_answer("contrast_answer", answer)
    }
}

/// Returns whether two answers are equal, or have the same words in other case or punctuation.
pub fn has_same_words(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim(), other.trim());
    one == other || {
        let words = lower_words(one);
        !words.is_empty() && words == lower_words(other)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pair() -> PreferencePair {
        serde_json::from_value(json!({
            "id": "p", "images": ["a.jpg"], "prompt": "<image>\nWhat?", "chosen": "A cat.", "rejected": "A dog.",
            "kind": "llm-hal", "contrast_images": ["b.jpg"], "contrast_answer": "A bird.",
        }))
        .unwrap()
    }

    #[test]
    fn a_contrast_needs_other_images_and_another_answer() {
        let usable = pair();
        usable.check_contrast().unwrap();
        assert_eq!(usable.contrast(), Some((&["b.jpg".to_owned()][..], "A bird.")));
        assert_eq!(usable.all_images().collect::<Vec<_>>(), ["a.jpg", "b.jpg"]);
        let without = PreferencePair { contrast_images: Vec::new(), contrast_answer: None, ..pair() };
        without.check_contrast().unwrap();
        assert_eq!(without.contrast(), None);

        type Break = fn(&mut PreferencePair);
        let broken: [(Break, SkipReason, &str); 9] = [
            (|pair| pair.contrast_answer = None, SkipReason::Malformed, "`contrast_answer`"),
            (
                |pair| pair.contrast_images.clear(),
                SkipReason::Malformed,
                "`contrast_images`: expected as many",
            ),
            (
                |pair| pair.images.clear(),
                SkipReason::Malformed,
                "`contrast_answer`: expected a pair with images",
            ),
            (|pair| pair.images.push("c.jpg".into()), SkipReason::Malformed, "2, found 1"),
            (|pair| pair.images = vec!["b.jpg".into()], SkipReason::Malformed, "other images"),
            (|pair| pair.contrast_answer = Some(" ".into()), SkipReason::EmptyAnswer, "`contrast_answer`"),
            (|pair| pair.contrast_answer = Some("a cat ".into()), SkipReason::Identical, "`chosen`"),
            (|pair| pair.contrast_answer = Some("\nA dog.".into()), SkipReason::Identical, "`rejected`"),
            (
                |pair| pair.contrast_answer = Some("<|image_pad|>".into()),
                SkipReason::OtherPlaceholder,
                "contrast_answer",
            ),
        ];
        for (break_it, reason, named) in broken {
            let mut pair = pair();
            break_it(&mut pair);
            let cause = pair.check_contrast().unwrap_err();
            assert_eq!(cause.reason, reason, "{}", cause.detail);
            assert!(cause.detail.contains(named), "{}", cause.detail);
        }
    }
}
