//! Conversations as batches, with the loss on what the assistant says.

use bpo::model::llava::{Llava, ScoreBatch};
use bpo::model::processor::{PixelValues, Processor, TokenizedCompletion};
use bpo::model::{Adapters, ModelError};
use bpo::pairs::Turn;
use burn::tensor::{Tensor, TensorData};

use bpo::burn;

/// One image or none, and what is said about it.
pub struct Conversation {
    pub pixels: Option<PixelValues>,
    pub turns: Vec<Turn>,
}

/// Conversations, tokenized.
pub struct Batch {
    scores: ScoreBatch,
    /// `[rows, tokens behind the first question]`: 1 over the number of the row's answer tokens, at these; else 0.
    weights: Vec<Vec<f32>>,
}

impl Batch {
    pub fn new(
        conversations: Vec<Conversation>,
        processor: &Processor,
        model: &Llava,
    ) -> Result<Self, ModelError> {
        let (mut pixels, mut groups, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for conversation in conversations {
            let image_tokens = conversation.pixels.as_ref().map_or(0, |_| model.config().image_tokens());
            let (answered, row) = tokenize(&conversation.turns, image_tokens, processor)?;
            groups.push((conversation.pixels.is_some().then_some(pixels.len()), vec![answered]));
            pixels.extend(conversation.pixels);
            weights.push(row);
        }
        Ok(Self { scores: ScoreBatch::new(model.config(), pixels, &groups)?, weights })
    }

    /// Mean over the conversations of the mean over their answers' tokens, in nats.
    pub fn loss(&self, model: &Llava) -> Result<Tensor<1>, ModelError> {
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

/// The whole conversation as one sequence whose "answer" is all that follows the first question, and how much each token
/// of that counts.
fn tokenize(
    turns: &[Turn],
    image_tokens: usize,
    processor: &Processor,
) -> Result<(TokenizedCompletion, Vec<f32>), ModelError> {
    let parts: Vec<TokenizedCompletion> = (0..turns.len())
        .map(|i| {
            let Turn { prompt, answer } = &turns[i];
            processor.encode_completion(None, &turns[..i], prompt, answer, image_tokens)
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
