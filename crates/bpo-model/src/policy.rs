//! [`Llava`] as a policy of bpo-dpo's trainer.

use std::collections::{HashMap, HashSet};

use bpo_distort::Distortion;
use bpo_dpo::{Adapters, Collate, Policy, PromptGroup, RowFingerprint, TokenLogps, TokenStatistics};
use bpo_pairs::item_seed;
use burn::tensor::{Int, Tensor};
use image::RgbImage;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::config::LlavaConfig;
use crate::error::ModelError;
use crate::input::{check_weakening, weakened_pixels};
use crate::kernels::{log_softmax, token_statistics};
use crate::llava::{Llava, ScoreBatch};
use crate::memory::BatchShape;
use crate::processor::{PixelValues, Processor, TokenizedCompletion, with_template_stack};

/// Parts of the groups that [`LlavaCollator`] checks, for each thread. A thread that is done with its
/// parts takes those of another.
const PARTS_PER_THREAD: usize = 8;

/// Why an image cannot be loaded.
pub type ImageError = Box<dyn std::error::Error + Send + Sync>;

/// Images by the names that a data set gives them.
///
/// A closure `FnMut(&str) -> Result<RgbImage, ImageError>` is one.
pub trait ImageSource {
    /// Loads an image as upright RGB.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    fn load(&mut self, name: &str) -> Result<RgbImage, ImageError>;

    /// Checks that an image is there, as far as that is possible without decoding it. The default
    /// loads it.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    fn check(&mut self, name: &str) -> Result<(), ImageError> {
        self.load(name).map(drop)
    }
}

impl<F> ImageSource for F
where
    F: FnMut(&str) -> Result<RgbImage, ImageError>,
{
    fn load(&mut self, name: &str) -> Result<RgbImage, ImageError> {
        self(name)
    }
}

/// Prepares [`PromptGroup`]s for [`Llava`]: token ids and pixels. Everything stays in the host's
/// memory, so the trainer can prepare a batch in another thread.
pub struct LlavaCollator<S> {
    texts: Texts,
    images: S,
    weakening: Option<(Distortion, u64)>,
    /// Names of images that [`check`](Collate::check) found in order.
    checked: HashSet<String>,
}

impl<S: ImageSource> LlavaCollator<S> {
    /// A collator for a model, with images by the names in the groups.
    pub fn new(processor: Processor, model: &Llava, images: S) -> Self {
        let config = model.config().clone();
        let context = config.text_config.max_position_embeddings;
        let texts = Texts { processor, config, context };
        Self { texts, images, weakening: None, checked: HashSet::new() }
    }

    /// Sets how images are weakened for losses that [compare
    /// images](bpo_dpo::loss::LossProperties::weakened). Random choices follow from the seed and
    /// the image's name, so each image has one weakened form.
    pub fn with_weakening(mut self, distortion: Distortion, seed: u64) -> Self {
        self.weakening = Some((distortion, seed));
        self
    }

    /// Sets the longest sequence in tokens, image features included; longer ones are errors. The
    /// default and upper limit is the model's context.
    pub fn with_max_length(mut self, tokens: usize) -> Self {
        self.texts.context = self.texts.context.min(tokens);
        self
    }

    /// Sizes of the batch that [`collate`](Collate::collate) makes of the groups. No image is read.
    ///
    /// # Errors
    /// Those of `collate`, but for the images.
    pub fn shape(&self, groups: &[PromptGroup]) -> Result<BatchShape, ModelError> {
        let tokenized: Vec<_> = groups
            .iter()
            .map(|group| Ok((Some(0), self.texts.tokenize(group)?)))
            .collect::<Result<_, ModelError>>()?;
        let images: HashSet<_> = groups.iter().map(|group| (&group.image, group.weakened)).collect();
        let batch = ScoreBatch::new(&self.texts.config, Vec::new(), &tokenized)?;
        Ok(BatchShape { images: images.len(), ..batch.shape() })
    }

    fn check_image(&mut self, group: &PromptGroup) -> Result<(), ModelError> {
        if let Some((distortion, _)) = self.weakening.as_ref().filter(|_| group.weakened) {
            check_weakening(distortion)?;
        }
        if !self.checked.contains(&group.image) {
            self.images.check(&group.image).map_err(unusable(&group.image))?;
            self.checked.insert(group.image.clone());
        }
        Ok(())
    }

    fn pixels(&mut self, name: &str, weakened: bool) -> Result<PixelValues, ModelError> {
        let image = self.images.load(name).map_err(unusable(name))?;
        match &self.weakening {
            Some((distortion, seed)) if weakened => {
                weakened_pixels(&self.texts.processor.image, &image, distortion, item_seed(*seed, name))
            }
            _ => Ok(self.texts.processor.image.process(&image)?),
        }
    }
}

/// The part of a collator that prepares texts.
struct Texts {
    processor: Processor,
    config: LlavaConfig,
    context: usize,
}

impl Texts {
    /// Token ids of a group's prompt with each of its completions.
    fn tokenize(&self, group: &PromptGroup) -> Result<Vec<TokenizedCompletion>, ModelError> {
        let system = group.system.as_deref().filter(|_| self.processor.chat.takes_system());
        let whole = self.processor.encode_completions(
            system,
            &group.history,
            &group.prompt,
            group.completions.iter().map(String::as_str),
            self.config.image_tokens(),
        )?;
        let fit = |whole: TokenizedCompletion| {
            let (prompt, wanted) = (whole.answer_start, whole.answer().len());
            let fitted = whole.fit(self.context)?;
            if fitted.truncated {
                // a completion without its end would teach the model never to end
                return Err(ModelError::ContextTooShort { prompt, wanted, context: self.context });
            }
            Ok(fitted)
        };
        let completions: Vec<TokenizedCompletion> = whole.into_iter().map(fit).collect::<Result<_, _>>()?;
        let mut known: HashMap<&[u32], usize> = HashMap::new();
        for (place, completion) in completions.iter().enumerate() {
            if let Some(same) = known.insert(&completion.ids, place) {
                // texts that differ only in white space or an end token
                let text = |place: usize| group.completions[place].clone();
                return Err(ModelError::SameTokens { text: text(place), other: text(same) });
            }
        }
        Ok(completions)
    }

    /// Checks a group's texts as [`tokenize`](Self::tokenize) and [`ScoreBatch::new`] do.
    fn check(&self, group: &PromptGroup) -> Result<(), ModelError> {
        ScoreBatch::new(&self.config, Vec::new(), &[(Some(0), self.tokenize(group)?)]).map(drop)
    }
}

fn unusable(name: &str) -> impl FnOnce(ImageError) -> ModelError + '_ {
    |source| ModelError::Image { name: name.to_owned(), source }
}

impl<S: ImageSource> Collate for LlavaCollator<S> {
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
            tokenized.push((Some(image), self.texts.tokenize(group)?));
        }
        ScoreBatch::new(&self.texts.config, pixels, &tokenized)
    }

    /// Tokenizes the group and checks its image without decoding it.
    fn check(&mut self, group: &PromptGroup) -> Result<(), ModelError> {
        self.texts.check(group)?;
        self.check_image(group)
    }

    /// Tokenizes the groups in several threads, and checks each image once without decoding it.
    fn check_groups(&mut self, groups: &[PromptGroup]) -> Vec<Result<(), ModelError>> {
        let texts = &self.texts;
        let check = |groups: &[PromptGroup]| -> Vec<_> {
            with_template_stack(|| groups.iter().map(|group| texts.check(group)).collect())
        };
        let part = groups.len().div_ceil(PARTS_PER_THREAD * rayon::current_num_threads()).max(1);
        let checked: Vec<_> = groups.par_chunks(part).map(check).collect();
        checked
            .into_iter()
            .flatten()
            .zip(groups)
            .map(|(text, group)| text.and_then(|()| self.check_image(group)))
            .collect()
    }

    fn takes_system(&self) -> bool {
        self.texts.processor.chat.takes_system()
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

    /// The batch with the features of its images, unless the vision tower is trained or adapted.
    fn shared(&self, batch: &ScoreBatch) -> Option<ScoreBatch> {
        self.with_features(batch)
    }
}

const COLLATED: &str = "a collated batch has as many image tokens as image features";
