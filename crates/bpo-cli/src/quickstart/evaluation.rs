//! Answers of a model about the evaluated splits, and what they are worth.

use std::path::Path;

use bpo::BpoError;
use bpo::burn::tensor::Device;
use bpo::checkpoint::Checkpoint;
use bpo::device::Dtype;
use bpo::eval::{ChairItem, ObjectTable, PopeItem};
use bpo::generate::{Answer, Question, generate};
use bpo::inject::Sampling;
use bpo::model::responder::LlavaResponder;
use bpo::pairs::error::PairsError;
use bpo::pairs::images::ImageRoot;

use super::recipe::{BATCH, MAX_NEW_TOKENS};
use super::splits::{Evaluated, Splits};
use crate::progress;

/// What a model said about one split, held against what there is.
#[derive(Clone, Debug)]
pub struct Scored {
    /// Descriptions, in the order of the images.
    pub chair: Vec<ChairItem>,
    /// Answers of yes and no.
    pub presence: Vec<PopeItem>,
}

/// Asks models about the splits.
#[derive(Debug)]
pub struct Evaluator<'a> {
    base: &'a Path,
    device: Device,
    images: ImageRoot,
    splits: &'a Splits,
    table: ObjectTable,
}

impl<'a> Evaluator<'a> {
    /// For the checkpoint in `base`, with adapters or without.
    ///
    /// # Errors
    /// If the images are not there.
    pub fn new(base: &'a Path, splits: &'a Splits, device: Device) -> Result<Self, BpoError> {
        let images = ImageRoot::new(&splits.train.images).map_err(PairsError::from)?;
        let table = ObjectTable::of_names(bpo_world::Kind::ALL.iter().map(|kind| kind.name()))?;
        Ok(Self { base, device, images, splits, table })
    }

    /// The names of all objects, singular and plural.
    pub fn table(&self) -> &ObjectTable {
        &self.table
    }

    /// Asks the model with an adapter, greedily, about each split.
    ///
    /// # Errors
    /// If the model cannot be loaded or a question not be answered.
    pub fn ask(&self, adapter: Option<&Path>, name: &str) -> Result<[Scored; 2], BpoError> {
        let Checkpoint { model, processor, .. } =
            Checkpoint::load_with_adapter(self.base, adapter, Dtype::F32, &self.device)?;
        let mut model = LlavaResponder::new(model, processor);
        let questions: usize =
            self.splits.evaluation.iter().map(|split| split.descriptions.len() + split.presence.len()).sum();
        let mut bar = progress::Bar::new(&format!("ask {name}"), questions);
        let [counter, held_out] = &self.splits.evaluation;
        let scored =
            [self.score(&mut model, counter, &mut bar)?, self.score(&mut model, held_out, &mut bar)?];
        bar.finish(&format!("{questions} answers"));
        Ok(scored)
    }

    fn score(
        &self,
        model: &mut LlavaResponder,
        split: &Evaluated,
        bar: &mut progress::Bar,
    ) -> Result<Scored, BpoError> {
        let described = self.answers(model, &split.descriptions, MAX_NEW_TOKENS, bar)?;
        let chair = described.into_iter().filter_map(|Answer { image, text, .. }| {
            let shown = split.truth.of(&image)?;
            Some(ChairItem::new(&self.table, image, text, shown))
        });
        let chair = chair.collect();
        let asked: Vec<Question> = split
            .presence
            .iter()
            .map(|question| Question::new(question.image.clone(), question.text.clone()))
            .collect();
        // yes or no, a full stop and the end
        let said = self.answers(model, &asked, 3, bar)?;
        let presence = split.presence.iter().zip(said).map(|(question, Answer { text, .. })| PopeItem {
            image: question.image.clone(),
            label: question.label,
            text,
        });
        Ok(Scored { chair, presence: presence.collect() })
    }

    fn answers(
        &self,
        model: &mut LlavaResponder,
        questions: &[Question],
        max_new_tokens: usize,
        bar: &mut progress::Bar,
    ) -> Result<Vec<Answer>, BpoError> {
        let mut answers = Vec::with_capacity(questions.len());
        let sampling = Sampling::greedy(max_new_tokens);
        generate(model, questions, &self.images, &sampling, BATCH, |answer| {
            answers.push(answer);
            bar.advance();
            Ok(())
        })?;
        Ok(answers)
    }
}
