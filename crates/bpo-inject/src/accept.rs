//! When a rewritten answer may stand as the wrong side of a preference pair.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clean::{Cleaned, clean};
use crate::{FinishReason, Generated};

/// Why a rewritten answer was turned down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rejection {
    /// Nothing is left after cleaning.
    Empty,
    /// The same words as the right answer, whatever the case, spacing, punctuation and words such as "the" or "is".
    Identical,
    /// The model declined or spoke about itself.
    Refusal,
    /// Talk about the task or the model in place of an answer.
    Commentary,
    /// Parts of the prompt came back: its instructions, its examples or the question.
    PromptEcho,
    /// Much shorter than the right answer.
    TooShort,
    /// Much longer than the right answer.
    TooLong,
    /// Cut off at the longest allowed answer, or ended at a colon or comma.
    Truncated,
    /// The right answer holds nothing that could be swapped ([`CoOccurrence`](crate::CoOccurrence) only).
    NothingToChange,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Identical => "identical to the answer",
            Self::Refusal => "a refusal",
            Self::Commentary => "talk about the task",
            Self::PromptEcho => "an echo of the prompt",
            Self::TooShort => "too short",
            Self::TooLong => "too long",
            Self::Truncated => "cut off",
            Self::NothingToChange => "nothing to change",
        })
    }
}

/// How many drafts were turned down, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RejectionCounts(BTreeMap<Rejection, u64>);

impl RejectionCounts {
    /// Counts one more.
    pub fn add(&mut self, reason: Rejection) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// How many for this reason.
    pub fn get(&self, reason: Rejection) -> u64 {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Every reason that occurred, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Rejection, u64)> + '_ {
        self.0.iter().map(|(&reason, &count)| (reason, count))
    }
}

impl fmt::Display for RejectionCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (reason, count)) in self.iter().enumerate() {
            write!(f, "{}{count} {reason}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Bounds and phrases of acceptance. All defaults are ours: the authors' script keeps whatever comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct AcceptanceRules {
    /// Shortest accepted length, as a part of the right answer's (in characters).
    pub min_length_ratio: f64,
    /// Longest accepted length, as a multiple of the right answer's (in characters).
    pub max_length_ratio: f64,
    /// Characters by which a text may be outside either bound: "4" against "There are four." is fine.
    pub length_slack: usize,
    /// Words in a row that are an echo when the prompt has them and the right answer does not; 0 allows echoes.
    pub echo_words: usize,
    /// Phrases, in lower case, that mark a refusal where they begin a sentence and the right answer has none.
    pub refusals: Vec<String>,
    /// Phrases, in lower case, that mark talk about the task wherever they stand, unless the right answer has them.
    pub commentary: Vec<String>,
}

const REFUSALS: &[&str] = &[
    "as a language model",
    "as an ai",
    "as a text-based",
    "i am an ai",
    "i am sorry",
    "i am unable",
    "i apologize",
    "i can not",
    "i can't",
    "i cannot",
    "i don't have access",
    "i'm an ai",
    "i'm not able",
    "i'm sorry",
    "i'm unable",
    "sorry,",
    "unfortunately, i",
];

const COMMENTARY: &[&str] = &[
    "ai assistant",
    "ai model",
    "changed description",
    "helpful ai",
    "image description",
    "language model",
    "modified description",
    "modified response",
    "new description",
    "new response",
    "original description",
    "original response",
    "the answer to th",
    "the question is asking",
    "this question has",
    "to add to the sentence",
    "trained by",
];

impl Default for AcceptanceRules {
    fn default() -> Self {
        Self {
            min_length_ratio: 0.3,
            max_length_ratio: 3.0,
            length_slack: 40,
            echo_words: 8,
            refusals: REFUSALS.iter().map(|&phrase| phrase.to_owned()).collect(),
            commentary: COMMENTARY.iter().map(|&phrase| phrase.to_owned()).collect(),
        }
    }
}

/// What a draft is held against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The prompt as it was sent.
    pub prompt: &'a str,
    /// The question about the image.
    pub question: &'a str,
    /// The right answer.
    pub answer: &'a str,
}

impl AcceptanceRules {
    /// Cleans a draft and says whether it may be used.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn accept(&self, draft: &Generated, expected: Expected<'_>) -> Result<String, Rejection> {
        let Cleaned { text, complete } = clean(&draft.text);
        if draft.finish == FinishReason::Length && !complete {
            return Err(Rejection::Truncated);
        }
        if text.is_empty() {
            return Err(Rejection::Empty);
        }
        if text.ends_with([':', ',']) && !expected.answer.trim_end().ends_with([':', ',']) {
            return Err(Rejection::Truncated);
        }
        if telling_words(&text) == telling_words(expected.answer) {
            return Err(Rejection::Identical);
        }
        if self.is_refusal(&text) && !self.is_refusal(expected.answer) {
            return Err(Rejection::Refusal);
        }
        if self.is_commentary(&text, expected.answer) {
            return Err(Rejection::Commentary);
        }
        if self.is_echo(&text, expected) {
            return Err(Rejection::PromptEcho);
        }
        self.check_length(&text, expected.answer)?;
        Ok(text)
    }

    fn is_refusal(&self, text: &str) -> bool {
        let text = text.to_lowercase().replace('\u{2019}', "'");
        text.split_inclusive(['.', '!', '?', '\n'])
            .map(|sentence| sentence.trim_start())
            .any(|sentence| self.refusals.iter().any(|phrase| sentence.starts_with(phrase.as_str())))
    }

    fn is_commentary(&self, text: &str, answer: &str) -> bool {
        let (text, answer) = (text.to_lowercase(), answer.to_lowercase());
        self.commentary.iter().any(|phrase| text.contains(phrase) && !answer.contains(phrase))
    }

    fn is_echo(&self, text: &str, expected: Expected<'_>) -> bool {
        if self.echo_words == 0 {
            return false;
        }
        let text = words(text);
        if text == words(expected.question) && !text.is_empty() {
            return true;
        }
        // A short text is an echo only as a whole; one or two words may well stand in the prompt by chance.
        let run = self.echo_words.min(text.len());
        if run < self.echo_words.min(4) {
            return false;
        }
        let (prompt, answer) = (words(expected.prompt), words(expected.answer));
        let prompt: BTreeSet<&[String]> = prompt.windows(run).collect();
        let answer: BTreeSet<&[String]> = answer.windows(run).collect();
        text.windows(run).any(|words| prompt.contains(words) && !answer.contains(words))
    }

    fn check_length(&self, text: &str, answer: &str) -> Result<(), Rejection> {
        let length = text.chars().count() as f64;
        let expected = answer.trim().chars().count() as f64;
        let slack = self.length_slack as f64;
        if length + slack < expected * self.min_length_ratio {
            Err(Rejection::TooShort)
        } else if length > expected * self.max_length_ratio + slack {
            Err(Rejection::TooLong)
        } else {
            Ok(())
        }
    }
}

/// Whether two texts have the same words, whatever the case, spacing and punctuation between them.
pub fn same_text(a: &str, b: &str) -> bool {
    words(a) == words(b)
}

/// Words that a rewording may add or drop without saying anything else.
const SILENT: &[&str] = &[
    "a", "an", "and", "are", "been", "has", "have", "is", "it", "its", "that", "the", "there", "was", "were",
    "with",
];

/// The words that carry what a text says, each where it first occurs; all words where there are no such.
fn telling_words(text: &str) -> Vec<String> {
    let words = words(text);
    let mut telling: Vec<String> = Vec::new();
    for word in &words {
        let word = word.trim_end_matches("'s").trim_end_matches("\u{2019}s");
        if !SILENT.contains(&word) && !telling.iter().any(|earlier| earlier == word) {
            telling.push(word.to_owned());
        }
    }
    if telling.is_empty() { words } else { telling }
}

/// Lower-case words without the punctuation around them; a word of punctuation alone stays.
fn words(text: &str) -> Vec<String> {
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() { text.split_whitespace().map(str::to_lowercase).collect() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: &str = "Rewrite the response so that it does not fit the image any more.\n\
        Question: What is in the basket? Response: Seven lemons lie there. Modified response: Six limes lie there.\n\
        Question: What is on the table? Response: There is a red cup. Modified response:";

    fn judge(text: &str) -> Result<String, Rejection> {
        judge_for(text, "There is a red cup.")
    }

    fn judge_for(text: &str, answer: &str) -> Result<String, Rejection> {
        let draft = Generated { text: text.into(), finish: FinishReason::Stop, tokens: None };
        let expected = Expected { prompt: PROMPT, question: "What is on the table?", answer };
        AcceptanceRules::default().accept(&draft, expected)
    }

    #[test]
    fn a_changed_answer_is_accepted_clean() {
        assert_eq!(judge(" \"There is a blue cup.\"\n"), Ok("There is a blue cup.".into()));
        assert_eq!(judge("A cup."), Ok("A cup.".into()));
        assert_eq!(judge("4"), Ok("4".into()));
    }

    #[test]
    fn each_rule_has_its_reason() {
        assert_eq!(judge("  \n"), Err(Rejection::Empty));
        assert_eq!(judge("there is  a RED cup"), Err(Rejection::Identical));
        assert_eq!(
            judge("The cup is red."),
            Ok("The cup is red.".into()),
            "another order may say something else"
        );
        assert_eq!(judge("A red cup is there."), Err(Rejection::Identical));
        assert_eq!(
            judge_for("A cat's face with an ear.", "A cat's face. The cat has an ear."),
            Err(Rejection::Identical)
        );
        assert_eq!(judge("The answer to this question is a cup."), Err(Rejection::Commentary));
        assert_eq!(judge("The following:"), Err(Rejection::Truncated));
        assert_eq!(judge("I'm sorry, but I cannot do that."), Err(Rejection::Refusal));
        assert_eq!(judge("Well. As an AI, I see nothing."), Err(Rejection::Refusal));
        assert_eq!(judge("What is on the table?"), Err(Rejection::PromptEcho));
        assert_eq!(judge("Six limes lie there."), Err(Rejection::PromptEcho));
        assert_eq!(judge("Now it does not fit the image any more. Sorry."), Err(Rejection::PromptEcho));
        assert_eq!(judge(&"a blue cup and ".repeat(20)), Err(Rejection::TooLong));
        assert_eq!(
            judge_for("A cup.", &"A red cup stands on a table. ".repeat(20)),
            Err(Rejection::TooShort)
        );
    }

    #[test]
    fn a_cut_off_draft_is_turned_down() {
        let draft =
            Generated { text: "There is a blue".into(), finish: FinishReason::Length, tokens: Some(4) };
        let expected = Expected { prompt: PROMPT, question: "What?", answer: "There is a red cup." };
        assert_eq!(AcceptanceRules::default().accept(&draft, expected), Err(Rejection::Truncated));

        let rambling = Generated { text: "There is a blue cup.\nQuestion: What".into(), ..draft };
        assert_eq!(AcceptanceRules::default().accept(&rambling, expected), Ok("There is a blue cup.".into()));
    }

    #[test]
    fn what_the_answer_itself_says_is_no_echo() {
        let answer = "Now it does not fit the image any more at all, says the sign.";
        assert!(judge_for("Now it does not fit the image any more at all, says the man.", answer).is_ok());
    }

    #[test]
    fn texts_of_punctuation_alone_are_compared_too() {
        assert!(same_text("??", " ??"));
        assert!(!same_text("??", "!"));
        assert!(!same_text("3.5", "35"));
    }

    #[test]
    fn counts_add_up_and_print() {
        let mut counts = RejectionCounts::default();
        for reason in [Rejection::Refusal, Rejection::Empty, Rejection::Refusal] {
            counts.add(reason);
        }
        assert_eq!((counts.get(Rejection::Refusal), counts.total()), (2, 3));
        assert_eq!(counts.to_string(), "1 empty, 2 a refusal");
        assert_eq!(serde_json::to_string(&counts).unwrap(), r#"{"empty":1,"refusal":2}"#);
    }
}
