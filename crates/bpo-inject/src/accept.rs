//! Acceptance of drafts as the rejected side of a preference pair.
//!
//! Two tables of rules apply to a draft: the rules of [`cut`] remove parts that do not belong to
//! the answer, and those of [`REJECTIONS`] reject the rest if it is not an answer. Each rule has a
//! counted reason.

mod counts;
mod cut;
mod framed;
mod inline;
mod label;
mod markers;
mod note;
mod style;
mod versions;
mod words;
mod wrapping;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use counts::{Counts, Cut, CutCounts, Rejection, RejectionCounts};
use cut::{Cleaned, clean};
pub use markers::without_reasoning;
pub use style::StyleRules;
pub use words::same_text;
use words::{telling_words, words};

use bpo_pairs::{FinishReason, Generated, Limits};

use crate::ErrorKind;

/// The text that replaces the API key in the reply of a server.
pub const REMOVED_KEY: &str = "[API key removed]";

/// Bounds and phrases of acceptance. All defaults are ours: the authors' script accepts any reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct AcceptanceRules {
    /// Minimum length, as a fraction of the length of the right answer in characters.
    pub min_length_ratio: f64,
    /// Maximum length, as a multiple of the length of the right answer in characters.
    pub max_length_ratio: f64,
    /// Number of characters by which a text may exceed either bound, so that "4" may replace
    /// "There are four.".
    pub length_slack: usize,
    /// Number of consecutive words that make an echo if the prompt has them and the right answer
    /// does not; 0 accepts echoes.
    pub echo_words: usize,
    /// Phrases in lower case that mark a refusal at the start of a sentence, unless the right
    /// answer is a refusal too.
    pub refusals: Vec<String>,
    /// Phrases in lower case that mark text about the task, unless the right answer has them.
    pub commentary: Vec<String>,
    /// Rules on length and style.
    pub style: StyleRules,
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
            style: StyleRules::default(),
        }
    }
}

/// The texts that a draft is compared with.
#[derive(Clone, Copy, Debug)]
pub struct DraftContext<'a> {
    /// The prompt, as sent to the model.
    pub prompt: &'a str,
    /// The question about the image.
    pub question: &'a str,
    /// The right answer.
    pub answer: &'a str,
    /// The requested kind of error.
    pub kind: ErrorKind,
}

/// An accepted draft.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The answer.
    pub text: String,
    /// Kinds of text that were removed from the draft, each once.
    pub cuts: Vec<Cut>,
}

/// The input of a rule of [`REJECTIONS`].
struct Draft<'a> {
    rules: &'a AcceptanceRules,
    /// The draft without the removed parts.
    text: &'a str,
    expected: DraftContext<'a>,
}

impl Draft<'_> {
    fn answer(&self) -> &str {
        self.expected.answer
    }

    /// Returns whether `has` is true for the draft and false for the right answer.
    fn alone(&self, has: fn(&str) -> bool) -> bool {
        has(self.text) && !has(self.answer())
    }
}

/// A rule, which returns whether it rejects a draft.
type Applies = fn(&Draft<'_>) -> bool;

/// The rules of rejection, in order. The first that applies is counted.
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
    (Rejection::Refusal, |draft| draft.rules.is_refusal(draft.text, draft.answer())),
    (Rejection::Commentary, |draft| draft.rules.is_commentary(draft.text, draft.answer())),
    (Rejection::Commentary, |draft| cut::begins_other_side(draft.text, draft.answer())),
    (Rejection::Commentary, |draft| note::begins_note(draft.text, draft.answer())),
    (Rejection::Commentary, |draft| note::has_bracketed_note(draft.text, draft.answer())),
    (Rejection::RepeatsAnswer, |draft| framed::is_framed(draft.text, draft.answer())),
    (Rejection::RepeatsAnswer, |draft| versions::repeats(draft.text, draft.answer())),
    (Rejection::Alternatives, |draft| versions::has_several(draft.text, draft.answer())),
    (Rejection::PromptEcho, |draft| draft.rules.is_echo(draft.text, draft.expected)),
    (Rejection::Markup, |draft| draft.alone(inline::has_emphasis)),
];

impl AcceptanceRules {
    /// Removes the parts of a draft that do not belong to the answer, and accepts or rejects the
    /// rest.
    ///
    /// # Errors
    /// Returns the reason of the first rule that rejects the draft.
    pub fn accept(&self, draft: &Generated, expected: DraftContext<'_>) -> Result<Accepted, Rejection> {
        if draft.text.len() > Limits::DEFAULT.draft_bytes {
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
        self.style.check(&text, expected)?;
        Ok(Accepted { text, cuts })
    }

    /// Returns whether a sentence of a text declines to answer
    /// ([`refusals`](Self::refusals)), and no sentence of the right answer does.
    pub fn is_refusal(&self, text: &str, answer: &str) -> bool {
        self.declines(text) && !self.declines(answer)
    }

    fn declines(&self, text: &str) -> bool {
        let text = text.to_lowercase().replace('\u{2019}', "'");
        text.split_inclusive(['.', '!', '?', '\n'])
            .map(|sentence| sentence.trim_start())
            .any(|sentence| self.refusals.iter().any(|phrase| sentence.starts_with(phrase.as_str())))
    }

    fn is_commentary(&self, text: &str, answer: &str) -> bool {
        let (text, answer) = (text.to_lowercase(), answer.to_lowercase());
        self.commentary.iter().any(|phrase| text.contains(phrase) && !answer.contains(phrase))
    }

    fn is_echo(&self, text: &str, expected: DraftContext<'_>) -> bool {
        if self.echo_words == 0 {
            return false;
        }
        let text = words(text);
        if text == words(expected.question) && !text.is_empty() {
            return true;
        }
        // A short text is an echo only as a whole: the prompt may have one or two words by chance.
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
        let expected =
            DraftContext { prompt: PROMPT, question: "What is on the table?", answer, kind: ErrorKind::Free };
        AcceptanceRules::default().accept(&draft, expected).map(|accepted| accepted.text)
    }

    #[test]
    fn changed_answer_is_accepted_without_removed_parts() {
        assert_eq!(judge(" \"There is a blue cup.\"\n"), Ok("There is a blue cup.".into()));
        assert_eq!(judge("A cup."), Ok("A cup.".into()));
        assert_eq!(judge("4"), Ok("4".into()));
    }

    #[test]
    fn each_rule_rejects_with_its_reason() {
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
    fn truncated_draft_is_rejected() {
        let draft =
            Generated { text: "There is a blue".into(), finish: FinishReason::Length, tokens: Some(4) };
        let (question, answer, kind) = ("What?", "There is a red cup.", ErrorKind::Free);
        let expected = DraftContext { prompt: PROMPT, question, answer, kind };
        assert_eq!(AcceptanceRules::default().accept(&draft, expected), Err(Rejection::Truncated));

        let rambling = Generated { text: "There is a blue cup.\nQuestion: What".into(), ..draft };
        let accepted = AcceptanceRules::default().accept(&rambling, expected).unwrap();
        assert_eq!((accepted.text.as_str(), accepted.cuts), ("There is a blue cup.", vec![Cut::NextExample]));
    }

    #[test]
    fn phrases_of_the_answer_are_not_an_echo() {
        let answer = "Now it does not fit the image any more at all, says the sign.";
        assert!(judge_for("Now it does not fit the image any more at all, says the man.", answer).is_ok());
    }
}
