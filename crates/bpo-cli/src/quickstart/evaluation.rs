//! Answers of a model about the evaluation splits, and their scores.

use std::path::Path;
use std::thread;

use bpo::burn::tensor::Device;
use bpo::eval::{ChairItem, ObjectTable, PopeItem};
use bpo::model::VlmResponder;
use bpo::pairs::{Sampling, Skipped};
use bpo::{Answer, BpoError, Checkpoint, Dtype, ImageRoot, Question, generate};

use super::recipe::{BATCH, MAX_NEW_TOKENS};
use super::splits::{Evaluated, Splits};
use crate::progress;

/// The answers of a model about one split, compared with the ground truth.
#[derive(Clone, Debug)]
pub struct Scored {
    /// Descriptions, in the order of the images.
    pub chair: Vec<ChairItem>,
    /// Answers to the yes-or-no questions.
    pub presence: Vec<PopeItem>,
}

impl Scored {
    /// Whether no description mentions an object.
    pub fn mentions_nothing(&self) -> bool {
        self.chair.iter().all(|item| item.mentions.is_empty())
    }
}

/// Generates a model's answers about the evaluation splits.
#[derive(Debug)]
pub struct Evaluator<'a> {
    device: Device,
    images: ImageRoot,
    splits: &'a Splits,
    table: ObjectTable,
}

impl<'a> Evaluator<'a> {
    /// An evaluator of checkpoints, with and without adapters.
    ///
    /// # Errors
    /// Returns an error if the images are missing.
    pub fn new(splits: &'a Splits, device: Device) -> Result<Self, BpoError> {
        let images = ImageRoot::new(&splits.train.images)?;
        let table = ObjectTable::of_names(bpo_world::Kind::ALL.iter().map(|kind| kind.name()))?;
        Ok(Self { device, images, splits, table })
    }

    /// The object table, with the singular and plural of each object.
    pub fn table(&self) -> &ObjectTable {
        &self.table
    }

    /// Generates the answers of a checkpoint, with an adapter if one is given, greedily, about both
    /// splits at once. A model of this size uses only one core per split.
    ///
    /// # Errors
    /// Returns an error if the model cannot be loaded, or a question is not answered.
    pub fn evaluate(
        &self,
        checkpoint: &Path,
        adapter: Option<&Path>,
        name: &str,
    ) -> Result<[Scored; 2], BpoError> {
        let questions: usize =
            self.splits.evaluation.iter().map(|split| split.descriptions.len() + split.presence.len()).sum();
        let bar = progress::Bar::new(&format!("evaluate {name}"), questions);
        let [counter, held_out] = &self.splits.evaluation;
        let [counter, held_out] = thread::scope(|scope| {
            let other = scope.spawn(|| self.score(checkpoint, adapter, held_out, &bar));
            let counter = self.score(checkpoint, adapter, counter, &bar);
            let held_out = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            [counter, held_out]
        });
        let scored = [counter?, held_out?];
        bar.finish(&progress::count(questions, "answer", "answers"));
        Ok(scored)
    }

    fn score(
        &self,
        checkpoint: &Path,
        adapter: Option<&Path>,
        split: &Evaluated,
        bar: &progress::Bar,
    ) -> Result<Scored, BpoError> {
        let Checkpoint { model, processor, .. } =
            Checkpoint::load_with_adapter(checkpoint, adapter, Dtype::F32, &self.device)?;
        let mut model = VlmResponder::new(model, processor);
        let described = self.answers(&mut model, &split.descriptions, MAX_NEW_TOKENS, bar)?;
        let chair = described.into_iter().filter_map(|Answer { mut images, text, .. }| {
            let image = images.pop()?;
            let shown = split.truth.of(&image)?;
            Some(ChairItem::new(&self.table, image, text, shown))
        });
        let chair = chair.collect();
        let asked: Vec<Question> = split
            .presence
            .iter()
            .map(|question| Question::new(question.image.clone(), question.text.clone()))
            .collect();
        // yes or no, a full stop and the end token
        let said = self.answers(&mut model, &asked, 3, bar)?;
        let presence = split.presence.iter().zip(said).map(|(question, Answer { text, .. })| PopeItem {
            image: question.image.clone(),
            label: question.label,
            text,
        });
        Ok(Scored { chair, presence: presence.collect() })
    }

    fn answers(
        &self,
        model: &mut VlmResponder,
        questions: &[Question],
        max_new_tokens: usize,
        bar: &progress::Bar,
    ) -> Result<Vec<Answer>, BpoError> {
        let mut answers = Vec::with_capacity(questions.len());
        let sampling = Sampling::greedy(max_new_tokens);
        let outcome = generate(model, questions, &self.images, &sampling, BATCH, |answer| {
            answers.push(answer);
            bar.advance();
            Ok(())
        })?;
        // answers are matched to questions by position, so none may be missing
        match outcome.skipped.first() {
            Some(Skipped { id, detail, .. }) => {
                Err(BpoError::Unanswered { id: id.clone(), reason: detail.clone() })
            }
            None => Ok(answers),
        }
    }
}
