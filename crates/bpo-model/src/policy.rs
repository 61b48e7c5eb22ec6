//! [`Llava`] as a policy of bpo-dpo's trainer.

use std::collections::{HashMap, HashSet};

use bpo_distort::Distortion;
use bpo_dpo::{Adapters, Collate, Policy, PromptGroup, RowFingerprint, TokenLogps, TokenStatistics};
use bpo_pairs::seed::item_seed;
use burn::tensor::{Int, Tensor};
use sha2::{Digest, Sha256};

use crate::config::LlavaConfig;
use crate::error::ModelError;
use crate::input::weakened_pixels;
use crate::kernels::{log_softmax, token_statistics};
use crate::llava::{Llava, ScoreBatch};
use crate::memory::BatchShape;
use crate::processor::{PixelValues, Processor, TokenizedCompletion, Turn};

/// What can go wrong when an image is fetched.
pub type ImageError = Box<dyn std::error::Error + Send + Sync>;

/// Turns groups into token ids and pixels.
pub struct LlavaCollator<F> {
    processor: Processor,
    config: LlavaConfig,
    context: usize,
    load_image: F,
    weakening: Option<(Distortion, u64)>,
}

impl<F> LlavaCollator<F>
where
    F: FnMut(&str) -> Result<image::RgbImage, ImageError>,
{
    /// A collator for a model. `load_image` gets the image name of a [`PromptGroup`].
    pub fn new(processor: Processor, model: &Llava, load_image: F) -> Self {
        let config = model.config().clone();
        let context = config.text_config.max_position_embeddings;
        Self { processor, context, config, load_image, weakening: None }
    }

    /// Sets how images are weakened for losses that [compare images](bpo_dpo::loss::LossProperties::weakened). What is random in it
    /// follows from the seed and the image's name, so that each image has one weakened form.
    pub fn with_weakening(mut self, distortion: Distortion, seed: u64) -> Self {
        self.weakening = Some((distortion, seed));
        self
    }

    /// Longest sequence in tokens, image features included; longer ones are errors. At most, and by default, what the
    /// model can take.
    pub fn with_max_length(mut self, tokens: usize) -> Self {
        self.context = self.context.min(tokens);
        self
    }

    /// Sizes of the batch that [`collate`](Collate::collate) makes of the groups. No image is read.
    ///
    /// # Errors
    /// Those of `collate`, but for the images.
    pub fn shape(&self, groups: &[PromptGroup]) -> Result<BatchShape, ModelError> {
        let tokenized: Vec<_> = groups
            .iter()
            .map(|group| Ok((Some(0), self.answered(group)?)))
            .collect::<Result<_, ModelError>>()?;
        let images: HashSet<_> = groups.iter().map(|group| (&group.image, group.weakened)).collect();
        let batch = ScoreBatch::new(&self.config, Vec::new(), &tokenized)?;
        Ok(BatchShape { images: images.len(), ..batch.shape() })
    }

    fn answered(&self, group: &PromptGroup) -> Result<Vec<TokenizedCompletion>, ModelError> {
        let system = group.system.as_deref().filter(|_| self.takes_system());
        let history: Vec<_> = group.history.iter().map(Turn::from).collect();
        let tokenize = |completion: &String| {
            let answered = self.processor.encode_completion(
                system,
                &history,
                &group.prompt,
                completion,
                self.config.image_tokens(),
            )?;
            let fitted = answered.clone().fit(self.context)?;
            if fitted.truncated {
                // an answer without its end would teach the model to go on for ever
                let (prompt, wanted) = (answered.answer_start, answered.answer().len());
                return Err(ModelError::ContextTooShort { prompt, wanted, context: self.context });
            }
            Ok(fitted)
        };
        let answered: Vec<TokenizedCompletion> =
            group.completions.iter().map(tokenize).collect::<Result<_, _>>()?;
        for (i, one) in answered.iter().enumerate() {
            if let Some(same) = answered[..i].iter().position(|other| other.ids == one.ids) {
                // texts that differ in white space or an end token only
                let text = |place: usize| group.completions[place].clone();
                return Err(ModelError::SameTokens { text: text(i), other: text(same) });
            }
        }
        Ok(answered)
    }

    fn pixels(&mut self, name: &str, weakened: bool) -> Result<PixelValues, ModelError> {
        let image =
            (self.load_image)(name).map_err(|source| ModelError::Image { name: name.to_owned(), source })?;
        match &self.weakening {
            Some((distortion, seed)) if weakened => {
                weakened_pixels(&self.processor.image, &image, distortion, item_seed(*seed, name))
            }
            _ => Ok(self.processor.image.process(&image)?),
        }
    }
}

impl<F> Collate for LlavaCollator<F>
where
    F: FnMut(&str) -> Result<image::RgbImage, ImageError>,
{
    type Batch = ScoreBatch;
    type Error = ModelError;

    fn collate(&mut self, groups: &[PromptGroup]) -> Result<ScoreBatch, ModelError> {
        let mut images: HashMap<(&str, bool), usize> = HashMap::new();
        let mut pixels = Vec::new();
        let mut tokenized = Vec::with_capacity(groups.len());
        for group in groups {
            let shown = (group.image.as_str(), group.weakened);
            let image = match images.get(&shown) {
                Some(image) => *image,
                None => {
                    pixels.push(self.pixels(&group.image, group.weakened)?);
                    images.insert(shown, pixels.len() - 1);
                    pixels.len() - 1
                }
            };
            tokenized.push((Some(image), self.answered(group)?));
        }
        ScoreBatch::new(&self.config, pixels, &tokenized)
    }

    fn takes_system(&self) -> bool {
        self.processor.chat.takes_system()
    }

    fn weakens(&self) -> bool {
        self.weakening.is_some()
    }

    fn lengths(&self, batch: &ScoreBatch) -> Option<Vec<usize>> {
        Some(batch.lengths().collect())
    }

    fn fingerprints(&self, batch: &ScoreBatch) -> Option<Vec<RowFingerprint>> {
        let images: Vec<_> =
            batch.pixels().iter().map(|pixels| sha256(&pixels.data, f32::to_le_bytes)).collect();
        let row = |(image, ids): (Option<usize>, Vec<u32>)| RowFingerprint {
            image: image.map_or([0; 32], |image| images[image]),
            tokens: sha256(&ids, u32::to_le_bytes),
        };
        Some(batch.sequences().map(row).collect())
    }
}

fn sha256<T: Copy, const N: usize>(values: &[T], bytes: fn(T) -> [u8; N]) -> [u8; 32] {
    let bytes: Vec<u8> = values.iter().flat_map(|value| bytes(*value)).collect();
    Sha256::digest(bytes).into()
}

impl Policy for Llava {
    type Batch = ScoreBatch;

    fn token_logps(&self, batch: &ScoreBatch, adapters: Adapters) -> TokenLogps {
        let (logps, mask) = self.completion_logps(batch, adapters.into()).expect(COLLATED);
        TokenLogps { logps, mask }
    }

    fn token_statistics(
        &self,
        batch: &ScoreBatch,
        adapters: Adapters,
    ) -> (TokenLogps, Option<TokenStatistics>) {
        let of = |logits: Tensor<2>, targets: Tensor<2, Int>| {
            let logps = log_softmax(logits.clone());
            let statistics = token_statistics(logits, logps.clone(), targets.clone());
            [logps.gather(1, targets), statistics]
        };
        let ([logps, statistics], mask) =
            self.at_completion_tokens(batch, adapters.into(), of).expect(COLLATED);
        let logps = logps.squeeze_dim::<2>(2);
        (TokenLogps { logps, mask }, Some(TokenStatistics::unpack(statistics)))
    }

    /// With features of the images, unless the vision tower is trained or adapted.
    fn shared(&self, batch: &ScoreBatch) -> Option<ScoreBatch> {
        self.with_features(batch)
    }
}

const COLLATED: &str = "a collated batch has as many image tokens as image features";
