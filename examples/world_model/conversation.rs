//! Batches of conversations, with the loss on the assistant's answers.

use bpo::model::{
    Adapters, ImageInput, ImageLayout, ModelError, Processor, ScoreBatch, TokenizedCompletion, Vlm,
};
use bpo::pairs::Turn;
use burn::tensor::{Tensor, TensorData};

use bpo::burn;

/// Turns about one image, or about none.
pub struct Conversation {
    pub image: Option<ImageInput>,
    pub turns: Vec<Turn>,
}

/// Tokenized conversations.
pub struct Batch {
    scores: ScoreBatch,
    /// Weights of the tokens after the first question, `[rows, tokens]`: 1 / (answer tokens of the
    /// row) at answer tokens, 0 elsewhere.
    weights: Vec<Vec<f32>>,
}

impl Batch {
    pub fn new(
        conversations: Vec<Conversation>,
        processor: &Processor,
        model: &Vlm,
    ) -> Result<Self, ModelError> {
        let (mut images, mut groups, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for conversation in conversations {
            let layouts: Vec<_> = conversation.image.iter().map(|image| &image.layout).collect();
            let (answered, row) = tokenize(&conversation.turns, &layouts, processor)?;
            groups.push(((images.len()..images.len() + layouts.len()).collect(), vec![answered]));
            images.extend(conversation.image);
            weights.push(row);
        }
        Ok(Self { scores: ScoreBatch::new(model.config(), images, &groups)?, weights })
    }

    /// Mean negative log-likelihood in nats: over the answer tokens of each conversation, then over
    /// the conversations.
    pub fn loss(&self, model: &Vlm) -> Result<Tensor<1>, ModelError> {
        let (logps, _) = model.completion_logps(&self.scores, Adapters::Off)?;
        let [rows, width] = logps.dims();
        let weights = self
            .weights
            .iter()
            .flat_map(|row| row.iter().copied().chain([0.0].into_iter().cycle()).take(width));
        let weights = TensorData::new(weights.collect::<Vec<f32>>(), [rows, width]);
        Ok((logps.clone() * Tensor::from_data(weights, &logps.device())).sum().div_scalar(-(rows as f64)))
    }
}

/// Tokenizes a whole conversation as one sequence, whose "answer" is everything after the first
/// question. Returns the sequence and the weight of each token of that answer.
fn tokenize(
    turns: &[Turn],
    images: &[&ImageLayout],
    processor: &Processor,
) -> Result<(TokenizedCompletion, Vec<f32>), ModelError> {
    let parts: Vec<TokenizedCompletion> = (0..turns.len())
        .map(|i| {
            let Turn { prompt, answer } = &turns[i];
            processor.encode_completion(None, &turns[..i], prompt, answer, images)
        })
        .collect::<Result<_, _>>()?;
    let Some((first, last)) = parts.first().zip(parts.last()) else {
        return Ok((TokenizedCompletion::new(Vec::new(), 0), Vec::new()));
    };
    let start = first.answer_start;
    let spoken: usize = parts.iter().map(|part| part.answer().len()).sum();
    let mut weights = vec![0.0; last.ids.len() - start];
    for part in &parts {
        weights[part.answer_start - start..part.ids.len() - start].fill(1.0 / spoken as f32);
    }
    Ok((TokenizedCompletion::new(last.ids.clone(), start), weights))
}
