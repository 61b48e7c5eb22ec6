//! When a rewritten answer may stand as the wrong side of a preference pair.
//!
//! A draft goes through two tables of rules: [`cut`] takes off what is not the answer, and [`REJECTIONS`] turns down what
//! is left if it is no answer. Each rule has a reason that is counted.

mod counts;
mod cut;
mod framed;
mod inline;
mod label;
mod markers;
mod note;
mod versions;
mod words;
mod wrapping;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use counts::{Counts, Cut, CutCounts, Rejection, RejectionCounts};
use cut::{Cleaned, clean};
pub use words::same_text;
use words::{telling_words, words};

use bpo_pairs::{FinishReason, Generated};

/// Longest draft that is looked at, in bytes: far above any answer with its reasoning.
const MAX_DRAFT_BYTES: usize = 256 << 10;

/// What stands in a server's reply in place of the API key.
pub const REMOVED_KEY: &str = "[API key removed]";

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
    "let's think",
    "modified description",
    "modified response",
    "new description",
    "new response",
    "original description",
    "original response",
    "the answer to th",
    "the question is asking",
    "the task is to",
    "the user asked",
    "the user asks",
    "the user wants",
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

/// A draft that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The answer.
    pub text: String,
    /// What was cut from the draft, each kind once.
    pub cuts: Vec<Cut>,
}

/// What a rule of rejection looks at.
struct Draft<'a> {
    rules: &'a AcceptanceRules,
    /// The draft after cutting.
    text: &'a str,
    expected: Expected<'a>,
}

impl Draft<'_> {
    fn answer(&self) -> &str {
        self.expected.answer
    }

    /// Whether the draft has something that the right answer has not.
    fn alone(&self, has: fn(&str) -> bool) -> bool {
        has(self.text) && !has(self.answer())
    }
}

/// Whether a reason to reject applies to a draft.
type Applies = fn(&Draft<'_>) -> bool;

/// Why a draft is turned down, after cutting; the first reason that applies is counted.
const REJECTIONS: &[(Rejection, Applies)] = &[
    (Rejection::Secret, |draft| draft.alone(|text| text.contains(REMOVED_KEY))),
    (Rejection::Empty, |draft| draft.text.is_empty()),
    (Rejection::Truncated, |draft| draft.alone(|text| text.trim_end().ends_with([':', ',']))),
    (Rejection::Identical, |draft| telling_words(draft.text) == telling_words(draft.answer())),
    (Rejection::Reasoning, |draft| draft.alone(markers::has_reasoning)),
    (Rejection::Reasoning, |draft| draft.alone(markers::begins_reasoning)),
    (Rejection::Markup, |draft| draft.alone(markers::has_marker)),
    (Rejection::Markup, |draft| draft.alone(wrapping::has_fence)),
    (Rejection::Markup, |draft| draft.alone(wrapping::is_json)),
    (Rejection::Markup, |draft| draft.alone(wrapping::has_box)),
    (Rejection::Markup, |draft| draft.alone(inline::has_strike)),
    (Rejection::Markup, |draft| draft.alone(inline::has_tags)),
    (Rejection::Markup, |draft| inline::has_bracketed_change(draft.text, draft.answer())),
    (Rejection::Refusal, |draft| {
        draft.rules.is_refusal(draft.text) && !draft.rules.is_refusal(draft.answer())
    }),
    (Rejection::Commentary, |draft| draft.rules.is_commentary(draft.text, draft.answer())),
    (Rejection::Commentary, |draft| cut::begins_other_side(draft.text, draft.answer())),
    (Rejection::Commentary, |draft| note::begins_note(draft.text, draft.answer())),
    (Rejection::Commentary, |draft| note::has_bracketed_note(draft.text, draft.answer())),
    (Rejection::RepeatsAnswer, |draft| framed::is_framed(draft.text, draft.answer())),
    (Rejection::RepeatsAnswer, |draft| versions::repeats(draft.text, draft.answer())),
    (Rejection::Alternatives, |draft| versions::has_several(draft.text, draft.answer())),
    (Rejection::PromptEcho, |draft| draft.rules.is_echo(draft.text, draft.expected)),
];

impl AcceptanceRules {
    /// Cleans a draft and says whether it may be used.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn accept(&self, draft: &Generated, expected: Expected<'_>) -> Result<Accepted, Rejection> {
        if draft.text.len() > MAX_DRAFT_BYTES {
            return Err(Rejection::TooLong);
        }
        let Cleaned { text, complete, cuts, too_deep } = clean(&draft.text, expected.answer);
        if draft.finish == FinishReason::Length && !complete {
            return Err(Rejection::Truncated);
        }
        if too_deep {
            return Err(Rejection::Markup);
        }
        let judged = Draft { rules: self, text: &text, expected };
        if let Some((reason, _)) = REJECTIONS.iter().find(|(_, applies)| applies(&judged)) {
            return Err(*reason);
        }
        self.check_length(&text, expected.answer)?;
        Ok(Accepted { text, cuts })
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
        AcceptanceRules::default().accept(&draft, expected).map(|accepted| accepted.text)
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
        let accepted = AcceptanceRules::default().accept(&rambling, expected).unwrap();
        assert_eq!((accepted.text.as_str(), accepted.cuts), ("There is a blue cup.", vec![Cut::NextExample]));
    }

    #[test]
    fn what_the_answer_itself_says_is_no_echo() {
        let answer = "Now it does not fit the image any more at all, says the sign.";
        assert!(judge_for("Now it does not fit the image any more at all, says the man.", answer).is_ok());
    }
}
