//! Grades of the answers to a benchmark: the prompt, and how a grade is read from the reply.

use std::fmt;
use std::path::Path;

use bpo_eval::{MmVetItem, MmhalItem};
use bpo_inject::{InjectError, PromptSet, PromptTexts, PromptVariables};
use bpo_pairs::files::read_text;
use bpo_pairs::{Fingerprint, IMAGE_TOKEN, Limits};
use minijinja::context;

use super::score;
use crate::error::BpoError;

/// The name of the prompt in errors.
const NAME: &str = "--prompt";

/// An answer to a question of a benchmark, with what a judge grades it by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GradedAnswer {
    /// Id of the question.
    pub id: String,
    /// The question.
    pub question: String,
    /// The correct answer.
    pub reference: String,
    /// Names of the objects in the image. Empty if the benchmark has none.
    pub image_content: String,
    /// The answer to grade.
    pub answer: String,
}

impl From<&MmVetItem> for GradedAnswer {
    /// Puts spaces around `<AND>` and `<OR>`, as the published script does.
    fn from(item: &MmVetItem) -> Self {
        Self {
            id: item.id.clone(),
            question: item.question.clone(),
            reference: item.reference.replace("<AND>", " <AND> ").replace("<OR>", " <OR> "),
            image_content: String::new(),
            answer: item.text.clone(),
        }
    }
}

impl From<&MmhalItem> for GradedAnswer {
    fn from(item: &MmhalItem) -> Self {
        Self {
            id: item.id.clone(),
            question: item.question.clone(),
            reference: item.reference.clone(),
            image_content: item.image_content.clone(),
            answer: item.text.clone(),
        }
    }
}

/// The prompt that asks a judge for the grade of an answer, and the rule by which its reply is read.
pub struct Rubric {
    set: PromptSet,
    fingerprint: Fingerprint,
    is_built_in: bool,
    scale: Scale,
}

/// The grades of a benchmark, from 0, and how they are read.
struct Scale {
    highest: f64,
    read: fn(&str) -> Option<f64>,
    /// What a reply without a grade lacks.
    expected: &'static str,
}

impl fmt::Debug for Rubric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = (&self.fingerprint, self.is_built_in, self.scale.highest);
        f.debug_tuple("Rubric").field(&shown).finish()
    }
}

impl Rubric {
    /// Grades of MM-Vet, from 0 to 1. The prompt in the file `prompt` replaces the built-in one, whose
    /// wording is ours: a Jinja template with the variables `question`, `annotation` (the correct answer)
    /// and `answer`.
    ///
    /// A reply is read by [`MmVetItem::read_grade`] or, if that reads nothing, as a score of a judge:
    /// `Score: 0.7` or a number with nothing but marks around it.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or its text does not parse, uses an unknown variable or
    /// does not use `annotation` and `answer`.
    pub fn mm_vet(prompt: Option<&Path>) -> Result<Self, BpoError> {
        let known = &["question", "annotation", "answer"];
        let expected = "no grade from 0 to 1, or several";
        let scale = Scale { highest: 1.0, read: read_mm_vet, expected };
        Self::new(prompt, include_str!("prompts/mm-vet.j2"), known, scale)
    }

    /// Ratings of MMHal-Bench, from 0 to 6, as [`mm_vet`](Self::mm_vet). The prompt has the variable
    /// `image_content`, too: the names of the objects in the image. All ratings of a reply, such as
    /// `Rating: 5`, must be whole numbers up to 6 and agree.
    ///
    /// # Errors
    /// Returns the errors of [`mm_vet`](Self::mm_vet).
    pub fn mmhal(prompt: Option<&Path>) -> Result<Self, BpoError> {
        let known = &["question", "annotation", "answer", "image_content"];
        let expected = "no rating from 0 to 6, or several";
        let scale = Scale { highest: 6.0, read: read_mmhal, expected };
        Self::new(prompt, include_str!("prompts/mmhal.j2"), known, scale)
    }

    fn new(
        prompt: Option<&Path>,
        built_in: &str,
        known: &'static [&'static str],
        scale: Scale,
    ) -> Result<Self, BpoError> {
        let text = match prompt {
            None => built_in.trim_end().to_owned(),
            Some(path) => read_text(path, Limits::DEFAULT.template_bytes as u64)
                .map_err(|source| InjectError::TemplateFile { source })?,
        };
        let variables = |_: &str| PromptVariables { known, required: &["annotation", "answer"] };
        let set = PromptSet::new(&PromptTexts::new(&[(NAME, &text)]), variables)?;
        let (fingerprint, is_built_in) = (Fingerprint::of(&text), prompt.is_none());
        Ok(Self { set, fingerprint, is_built_in, scale })
    }

    /// Returns whether the prompt is the built-in one, whose grades cannot be compared with published
    /// ones.
    pub fn is_built_in(&self) -> bool {
        self.is_built_in
    }

    /// Reads a grade from a reply.
    pub fn read(&self, reply: &str) -> Option<f64> {
        (self.scale.read)(reply)
    }

    /// Returns whether a number is a grade.
    pub(crate) fn has(&self, grade: f64) -> bool {
        (0.0..=self.scale.highest).contains(&grade)
    }

    /// Returns what a reply without a grade lacks.
    pub(crate) fn expected(&self) -> &'static str {
        self.scale.expected
    }

    /// Returns the fingerprint of the prompt.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    /// Returns the prompt about an answer, with all white space. Image tokens would take the place of
    /// images.
    ///
    /// # Errors
    /// Returns an error if the prompt cannot be rendered.
    pub fn prompt(&self, of: &GradedAnswer) -> Result<String, BpoError> {
        let GradedAnswer { question, reference, image_content, answer, .. } = of;
        let values = context! { question, annotation => reference, image_content, answer };
        Ok(self.set.render_whole(NAME, values)?.replace(IMAGE_TOKEN, ""))
    }
}

/// Reads the rating of a reply. In contrast to [`bpo_eval::MmhalItem::read_rating`], which reads the first
/// digit as the published script does, `Rating: 10` and `Rating: 3.5` are no ratings.
fn read_mmhal(reply: &str) -> Option<f64> {
    let reply = reply.to_lowercase();
    let mut ratings = reply.match_indices("rating").filter_map(|(at, word)| {
        let is_word = !reply[..at].ends_with(char::is_alphanumeric);
        let rest = reply[at + word.len()..].trim_start_matches('*').trim_start();
        let rest = rest.strip_prefix(':')?.trim_start_matches(|c: char| c == '*' || c.is_whitespace());
        is_word.then(|| {
            let end = rest.find(|c: char| !(c.is_ascii_digit() || ".,%/".contains(c))).unwrap_or(rest.len());
            let number = rest[..end].trim_end_matches(['.', ',']);
            let number = number.strip_suffix("/6").unwrap_or(number);
            number.parse::<u8>().ok().filter(|rating| *rating <= 6)
        })
    });
    let first = ratings.next()??;
    ratings.all(|rating| rating == Some(first)).then_some(f64::from(first))
}

/// Reads a grade of MM-Vet. Two different numbers are none.
fn read_mm_vet(reply: &str) -> Option<f64> {
    match (MmVetItem::read_grade(reply), score(reply, 0.0, 1.0)) {
        (Some(first), Some(score)) => Some(first).filter(|first| *first == score),
        (first, score) => first.or(score),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    fn answer() -> GradedAnswer {
        GradedAnswer {
            id: "v1_0".into(),
            question: "What is x?".into(),
            reference: "-1 <AND> -5".into(),
            image_content: "Cat, Mat".into(),
            answer: " x = {{ 3 }}\n".into(),
        }
    }

    #[test]
    fn built_in_prompts_have_question_reference_and_answer() {
        for rubric in [Rubric::mm_vet(None).unwrap(), Rubric::mmhal(None).unwrap()] {
            assert!(rubric.is_built_in());
            let prompt = rubric.prompt(&answer()).unwrap();
            for part in ["What is x?", "-1 <AND> -5", "x = {{ 3 }}"] {
                assert!(prompt.contains(part), "{part} in {prompt}");
            }
        }
        assert!(Rubric::mmhal(None).unwrap().prompt(&answer()).unwrap().contains("Cat, Mat"));
    }

    #[test]
    fn a_file_is_used_with_all_its_white_space() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prompt.txt");
        let with = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Rubric::mm_vet(Some(&path))
        };
        let rubric = with("Grade.\n\n{{ question }} | {{ annotation }} | {{ answer }} | ").unwrap();
        let expected = "Grade.\n\nWhat is x? | -1 <AND> -5 |  x = {{ 3 }}\n | ";
        assert_eq!(rubric.prompt(&answer()).unwrap(), expected);
        assert!(!rubric.is_built_in());
        let other = with("{{ annotation }}{{ answer }}\n").unwrap();
        assert_eq!(other.prompt(&answer()).unwrap(), "-1 <AND> -5 x = {{ 3 }}\n\n");
        assert_ne!(rubric.fingerprint(), other.fingerprint());
        for (text, part) in [
            ("{{ answer }}", "does not use `annotation`"),
            ("{{ annotation }} {{ answer }} {{ image_content }}", "`image_content`"),
            ("{{ answer", "does not parse"),
        ] {
            let shown = chain(&with(text).unwrap_err());
            assert!(shown.contains("--prompt") && shown.contains(part), "{shown}");
        }
        let gone = dir.path().join("gone.txt");
        assert!(chain(&Rubric::mmhal(Some(&gone)).unwrap_err()).contains("gone.txt"));
    }

    #[test]
    fn grades_of_mm_vet_are_numbers_or_scores() {
        for (reply, grade) in [
            ("0.7", Some(0.7)),
            (" 0.7\n", Some(0.7)),
            ("0.7 because", Some(0.7)),
            ("**0.7**", Some(0.7)),
            ("It lacks -5.\nScore: 0.5", Some(0.5)),
            ("0.7 at first.\nScore: 0.5", None),
            ("Score: 7", None),
            ("right", None),
        ] {
            assert_eq!(read_mm_vet(reply), grade, "{reply:?}");
        }
    }

    #[test]
    fn ratings_of_mmhal_are_whole_numbers_that_agree() {
        for (reply, rating) in [
            ("It is right.\nRating: 5, very informative", Some(5.0)),
            ("Rating:5", Some(5.0)),
            ("**Rating:** 5.", Some(5.0)),
            ("Rating: 4/6", Some(4.0)),
            ("Rating: 0\nrating: 0", Some(0.0)),
            ("Rating: 10", None),
            ("Rating: 7", None),
            ("Rating: 60%", None),
            ("Rating: 3.5", None),
            ("Rating: 4/5", None),
            ("Overrating: 4", None),
            ("Rating: 5 or rating: 4", None),
            ("The rating is 4", None),
        ] {
            assert_eq!(read_mmhal(reply), rating, "{reply:?}");
        }
    }

    #[test]
    fn and_and_or_stand_between_spaces() {
        let item = MmVetItem::new("a", "?", "-1<AND>-5<OR>5", ["ocr".to_owned()], "x");
        assert_eq!(GradedAnswer::from(&item).reference, "-1 <AND> -5 <OR> 5");
    }
}
