//! The prompts of the judge.

use bpo_inject::{PromptSet, PromptVariables};
use bpo_pairs::{SftSample, strip_image_tokens};
use minijinja::{Value, context};

use crate::config::JudgeSection;
use crate::error::BpoError;

/// The built-in prompts by name: `score` for a whole answer, `claims` for the list of its claims, and
/// `claim` for one of them. The wording is ours.
pub(crate) const PROMPTS: [(&str, &str); 3] = [
    ("score", include_str!("prompts/score.j2")),
    ("claims", include_str!("prompts/claims.j2")),
    ("claim", include_str!("prompts/claim.j2")),
];

/// Returns the variables of a prompt. A judge that sees no image must read the annotated answer.
fn variables(name: &str, section: &JudgeSection) -> PromptVariables {
    let is_blind = !section.images;
    match name {
        "claim" => PromptVariables {
            known: &["claim", "question", "annotation", "images", "history"],
            required: if is_blind { &["claim", "annotation"] } else { &["claim"] },
        },
        "claims" => PromptVariables { known: &["question", "answer", "history"], required: &["answer"] },
        _ => PromptVariables {
            known: &["question", "answer", "annotation", "images", "history", "lowest", "highest"],
            required: if is_blind { &["answer", "annotation"] } else { &["answer"] },
        },
    }
}

/// Returns a number as a value of a prompt: 5 and not 5.0.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { Value::from(value as i64) } else { Value::from(value) }
}

/// The parsed prompts.
#[derive(Debug)]
pub(crate) struct Prompts {
    set: PromptSet,
    images: bool,
    annotation: bool,
    lowest: f64,
    highest: f64,
}

/// What an answer is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// The sample with its annotated answer.
    pub(crate) sample: &'a SftSample,
    /// The answer to judge.
    pub(crate) answer: &'a str,
}

impl Prompts {
    /// Reads and parses the prompts.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, or a text does not parse, uses an unknown variable or
    /// does not use the answer or the claim.
    pub(crate) fn new(section: &JudgeSection) -> Result<Self, BpoError> {
        let set = PromptSet::new(&section.texts()?, |name| variables(name, section))?;
        let JudgeSection { images, annotation, lowest, highest, .. } = *section;
        Ok(Self { set, images, annotation, lowest, highest })
    }

    /// Returns the prompt that asks for the score of an answer.
    pub(crate) fn score(&self, of: Context<'_>) -> Result<String, BpoError> {
        let values = context! {
            annotation => self.annotation_of(of.sample),
            images => self.images,
            lowest => number(self.lowest),
            highest => number(self.highest),
            ..answer_values(of)
        };
        self.render("score", values)
    }

    /// Returns the prompt that asks for the claims of an answer.
    pub(crate) fn claims(&self, of: Context<'_>) -> Result<String, BpoError> {
        self.render("claims", answer_values(of))
    }

    /// Returns the prompt that asks whether a claim is right.
    pub(crate) fn claim(&self, sample: &SftSample, claim: &str) -> Result<String, BpoError> {
        let values = context! {
            claim => claim,
            annotation => self.annotation_of(sample),
            images => self.images,
            ..question_values(sample)
        };
        self.render("claim", values)
    }

    /// Returns the annotated answer, or an empty text if the judge does not read it.
    fn annotation_of<'a>(&self, sample: &'a SftSample) -> &'a str {
        if self.annotation { sample.answer.trim() } else { "" }
    }

    /// Renders a prompt. Image tokens in texts of the data or of models would take the place of images.
    fn render(&self, name: &'static str, values: Value) -> Result<String, BpoError> {
        Ok(strip_image_tokens(&self.set.render(name, values)?))
    }
}

/// Returns the values of the prompts about a whole answer.
fn answer_values(of: Context<'_>) -> Value {
    context! { answer => of.answer.trim(), ..question_values(of.sample) }
}

/// Returns the question of a sample and the turns before it.
fn question_values(sample: &SftSample) -> Value {
    let turns = sample.history.iter();
    let history: Vec<Value> = turns
        .map(|turn| context! { question => strip_image_tokens(&turn.prompt), answer => turn.answer.trim() })
        .collect();
    context! {
        question => strip_image_tokens(&sample.prompt),
        history => history,
    }
}

#[cfg(test)]
mod tests {
    use bpo_pairs::Turn;

    use super::*;

    fn sample() -> SftSample {
        SftSample {
            id: "a".into(),
            images: vec!["a.png".into()],
            system: None,
            history: vec![Turn::new("<image>\nWhat is it?", "A cat.")].into(),
            prompt: "Where is it?".into(),
            answer: " On a mat. ".into(),
        }
    }

    fn prompts(change: impl Fn(&mut JudgeSection)) -> Prompts {
        let mut section = JudgeSection::default();
        change(&mut section);
        Prompts::new(&section).unwrap()
    }

    #[test]
    fn prompts_have_what_the_judge_compares_with() {
        let sample = sample();
        let of = Context { sample: &sample, answer: "On a <image>sofa.\n" };
        let prompt = prompts(|_| {}).score(of).unwrap();
        let parts = ["Earlier question: What is it?\nEarlier answer: A cat.\n", "Question: Where is it?\n"];
        let more = ["Reference answer: On a mat.\nAnswer to rate: On a sofa.\n", "from 1 to 5:"];
        for part in parts.into_iter().chain(more) {
            assert!(prompt.contains(part), "{part:?} in {prompt}");
        }
        assert!(prompt.ends_with("Score: NUMBER") && !prompt.contains("You see the image"), "{prompt}");

        let with_images = prompts(|section| (section.images, section.annotation) = (true, false));
        let prompt = with_images.score(of).unwrap();
        assert!(prompt.contains("You see the image") && !prompt.contains("On a mat"), "{prompt}");
        let prompt = with_images.claim(&sample, "Is it on a sofa?").unwrap();
        assert!(prompt.starts_with("Look at the image") && prompt.ends_with("sofa?\nReply:"), "{prompt}");
        let prompt = prompts(|_| {}).claim(&sample, "Is it on a sofa?").unwrap();
        assert!(prompt.contains("Question: Where is it?\nAnswer: On a mat.\n"), "{prompt}");
        assert!(prompt.contains("or unknown"), "{prompt}");
        let prompt = prompts(|_| {}).claims(of).unwrap();
        assert!(prompt.contains("Answer: On a sofa.\n") && !prompt.contains("On a mat"), "{prompt}");
    }

    #[test]
    fn files_replace_prompts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("score.j2");
        std::fs::write(&path, "{{ answer }} {{ annotation }} {{ highest }}").unwrap();
        let sample = sample();
        let of = Context { sample: &sample, answer: "On a sofa." };
        let with_file = |section: &mut JudgeSection| section.prompts = Some(path.clone());
        assert_eq!(prompts(with_file).score(of).unwrap(), "On a sofa. On a mat. 5");
        for (text, part) in [
            ("{{ answer", "parse"),
            ("{{ answr }}", "`answr`"),
            ("{{ question }}", "`answer`"),
            ("{{ answer }}", "`annotation`"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error =
                Prompts::new(&JudgeSection { prompts: Some(path.clone()), ..JudgeSection::default() });
            let text = crate::error::chain(&error.unwrap_err());
            assert!(text.contains(part), "{text}");
        }
    }
}
