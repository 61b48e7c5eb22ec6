//! Judgments of answers by a model: the prompts, and what is read from the replies.

mod prompts;
mod reply;
mod rubric;

use serde::{Deserialize, Serialize};

pub(crate) use prompts::{Context, PROMPTS, Prompts};
pub(crate) use reply::{claims, score, verdict};
pub use rubric::{GradedAnswer, Rubric};

/// What a judge found about an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a judgment: an object with `score`")]
#[non_exhaustive]
pub struct Judgment {
    /// The score; higher is better.
    pub score: f64,
    /// The reply that the score was read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// The claims of the answer, if the judge decided on each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
}

/// A claim of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a claim: an object with `question` and `verdict`")]
#[non_exhaustive]
pub struct Claim {
    /// The claim as a question, whose answer is yes if the claim is right.
    pub question: String,
    /// What the judge decided.
    pub verdict: Verdict,
}

/// Whether a claim is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The claim is right.
    Right,
    /// The claim is wrong.
    Wrong,
    /// The judge cannot tell.
    Unknown,
}

impl Judgment {
    /// Creates the judgment of a whole answer.
    pub fn of_reply(score: f64, reply: impl Into<String>) -> Self {
        Self { score, reply: Some(reply.into()), claims: Vec::new() }
    }

    /// Creates the judgment of an answer by its claims. The score is the number of wrong ones with a minus
    /// sign.
    pub fn of_claims(claims: Vec<Claim>) -> Self {
        let wrong = claims.iter().filter(|claim| claim.verdict == Verdict::Wrong).count();
        // without a negative zero
        let score = if wrong == 0 { 0.0 } else { -(wrong as f64) };
        Self { score, reply: None, claims }
    }
}

impl Claim {
    /// Creates a claim.
    pub fn new(question: impl Into<String>, verdict: Verdict) -> Self {
        Self { question: question.into(), verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_claims_lower_the_score() {
        let claim = |verdict| Claim::new("Is it red?", verdict);
        let score =
            |verdicts: &[Verdict]| Judgment::of_claims(verdicts.iter().copied().map(claim).collect()).score;
        assert_eq!(score(&[Verdict::Right, Verdict::Wrong, Verdict::Unknown, Verdict::Wrong]), -2.0);
        assert!(score(&[Verdict::Right, Verdict::Unknown]).is_sign_positive());
    }
}
