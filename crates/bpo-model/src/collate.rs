//! Batches of [`Vlm`] for bpo-dpo's trainer.

use std::collections::HashMap;

use bpo_distort::Distortion;
use bpo_dpo::{Collate, PromptGroup, RowFingerprint};
use bpo_pairs::item_seed;
use image::RgbImage;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::ModelError;
use crate::families::VlmConfig;
use crate::input::{ImageInput, ImageLayout};
use crate::input::{check_weakening, weakened_pixels};
use crate::memory::BatchShape;
use crate::processor::{ImagePreprocessor, Processor, TokenizedCompletion, with_template_stack};
use crate::scoring::{BatchTokens, ScoreBatch};
use crate::vlm::Vlm;

/// Parts of the groups that [`VlmCollator`] checks, for each thread. A thread that is done with its
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

    /// Reads width and height of an image, as far as that is possible without decoding it, and so
    /// checks that it is there. The two may be swapped for an image that its file turns. The default
    /// loads the image.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    fn size(&mut self, name: &str) -> Result<(u32, u32), ImageError> {
        self.load(name).map(|image| image.dimensions())
    }

    /// Loads images, and passes each with its place in `names` to `each`, once. The default loads
    /// one after the other.
    fn load_each(&mut self, names: &[&str], each: &mut OnImage<'_>) {
        names.iter().enumerate().for_each(|(place, name)| each(place, self.load(name)));
    }

    /// Whether an image is a frame of a video. The default knows no videos.
    fn is_frame(&self, _name: &str) -> bool {
        false
    }
}

/// Receives the place of an image in a list of names, and the image.
pub type OnImage<'a> = dyn FnMut(usize, Result<RgbImage, ImageError>) + 'a;

impl<F> ImageSource for F
where
    F: FnMut(&str) -> Result<RgbImage, ImageError>,
{
    fn load(&mut self, name: &str) -> Result<RgbImage, ImageError> {
        self(name)
    }
}

/// Prepares [`PromptGroup`]s for [`Vlm`]: token ids and images. Everything stays in the host's
/// memory, so the trainer can prepare a batch in another thread.
pub struct VlmCollator<S> {
    texts: Texts,
    images: S,
    /// The ways in which images are weakened, and their seed.
    weakenings: (Vec<Distortion>, u64),
    /// Sizes of the images that were read, by name.
    sizes: HashMap<String, (u32, u32)>,
}

impl<S: ImageSource> VlmCollator<S> {
    /// A collator for a model, with images by the names in the groups.
    pub fn new(processor: Processor, model: &Vlm, images: S) -> Self {
        Self::from_config(processor, model.config().clone(), images)
    }

    /// Creates a collator for the configuration of a model, whose weights are not needed.
    pub fn from_config(processor: Processor, config: VlmConfig, images: S) -> Self {
        let texts = Texts { processor, config, max_length: None };
        Self { texts, images, weakenings: (Vec::new(), 0), sizes: HashMap::new() }
    }

    /// Sets how images are weakened for losses that [compare
    /// images](bpo_dpo::loss::LossProperties::weakened). Random choices follow from the seed, the
    /// place of the distortion in the list and the image's name, so each image has one weakened form
    /// for each distortion.
    pub fn with_weakenings(mut self, distortions: Vec<Distortion>, seed: u64) -> Self {
        self.weakenings = (distortions, seed);
        self
    }

    /// The distortion of the images of a group and its seed, `None` for images as they are.
    fn weakening(&self, group: &PromptGroup) -> Option<(&Distortion, u64)> {
        let (distortions, seed) = &self.weakenings;
        let form = group.weakened?;
        // the first one has the seed itself
        let seed = if form == 0 { *seed } else { item_seed(*seed, format!("weakened/{form}")) };
        Some((distortions.get(form)?, seed))
    }

    /// Sets the longest sequence in tokens, image features included; longer ones are errors. The
    /// default and upper limit is the model's context.
    ///
    /// `setting` is the name of this limit in errors.
    pub fn with_max_length(mut self, tokens: usize, setting: &'static str) -> Self {
        self.texts.max_length = Some((tokens, setting));
        self
    }

    /// Sizes of the batch that [`collate`](Collate::collate) makes of groups that were
    /// [checked](Collate::check). No image is read.
    ///
    /// # Errors
    /// Those of `collate`, but for the images; [`ModelError::Image`] for an image of a group that
    /// was not checked.
    pub fn shape(&self, groups: &[PromptGroup]) -> Result<BatchShape, ModelError> {
        let mut places = Places::default();
        let (mut layouts, mut tokenized) = (Vec::new(), Vec::new());
        for group in groups {
            let own = self.layouts(group)?;
            let mut images = Vec::new();
            for (name, layout) in images_of(group).zip(&own) {
                let (place, is_new) = places.place(name, group);
                layouts.extend(is_new.then(|| layout.clone()));
                images.push(place);
            }
            tokenized.push((images, self.texts.tokenize(group, &own)?));
        }
        let layouts: Vec<_> = layouts.iter().collect();
        Ok(BatchTokens::new(&self.texts.config, &layouts, &tokenized)?.shape(&layouts))
    }

    /// Checks the images of a group, and reads the sizes of those that are new.
    fn check_images(&mut self, group: &PromptGroup) -> Result<(), ModelError> {
        if let Some((distortion, _)) = self.weakening(group) {
            check_weakening(distortion)?;
            if group.images.is_empty() {
                return Err(ModelError::NothingToWeaken);
            }
        }
        for name in images_of(group) {
            if !self.sizes.contains_key(name) {
                let size = self.images.size(name).map_err(unusable(name))?;
                self.sizes.insert(name.to_owned(), size);
            }
        }
        Ok(())
    }

    /// The layouts of the images of a group that was checked.
    fn layouts(&self, group: &PromptGroup) -> Result<Vec<ImageLayout>, ModelError> {
        let count = images_of(group).count();
        let layout = |name| match self.sizes.get(name) {
            Some((width, height)) => Ok(self.preprocessor(name, count).layout(*width, *height)?),
            None => Err(unusable(name)("its size was not read, because its group was not checked".into())),
        };
        images_of(group).map(layout).collect()
    }

    /// The preprocessor of an image of a prompt with `count` images.
    fn preprocessor(&self, name: &str, count: usize) -> ImagePreprocessor {
        let image = &self.texts.processor.image;
        if self.images.is_frame(name) { image.of_frames() } else { image.of_prompt(count) }
    }

    /// Loads and prepares images of a group.
    fn prepared(&mut self, names: &[&str], group: &PromptGroup) -> Result<Vec<ImageInput>, ModelError> {
        let count = images_of(group).count();
        let preprocessors: Vec<_> = names.iter().map(|name| self.preprocessor(name, count)).collect();
        let weakening = self.weakening(group).map(|(distortion, seed)| (distortion.clone(), seed));
        let mut prepared: Vec<Option<Result<ImageInput, ModelError>>> = names.iter().map(|_| None).collect();
        self.images.load_each(names, &mut |place, image| {
            let (name, images) = (names[place], &preprocessors[place]);
            let image = image.map_err(unusable(name));
            prepared[place] = Some(image.and_then(|image| match &weakening {
                Some((distortion, seed)) => {
                    weakened_pixels(images, &image, distortion, item_seed(*seed, name))
                }
                None => Ok(images.process(&image)?),
            }));
        });
        let missing = |name| Err(unusable(name)("it was not loaded".into()));
        prepared.into_iter().zip(names).map(|(image, name)| image.unwrap_or_else(|| missing(name))).collect()
    }
}

/// The names of the images of a group.
fn images_of(group: &PromptGroup) -> impl Iterator<Item = &str> {
    group.images.iter().map(String::as_str)
}

/// The distinct images of a batch, in the order in which groups name them: by name, how they are
/// weakened, and whether they are of a prompt with several images.
#[derive(Default)]
struct Places<'a>(HashMap<(&'a str, Option<usize>, bool), usize>);

impl<'a> Places<'a> {
    /// The place of an image, and whether it is new.
    fn place(&mut self, name: &'a str, group: &PromptGroup) -> (usize, bool) {
        let next = self.0.len();
        let key = (name, group.weakened, images_of(group).count() > 1);
        let place = *self.0.entry(key).or_insert(next);
        (place, place == next)
    }
}

/// The part of a collator that prepares texts.
struct Texts {
    processor: Processor,
    config: VlmConfig,
    /// The longest sequence of the caller, and the name of its setting.
    max_length: Option<(usize, &'static str)>,
}

impl Texts {
    /// The longest sequence in tokens, and the setting that it follows from. Without a setting it is
    /// the context of the model.
    fn limit(&self) -> (usize, Option<&'static str>) {
        let context = self.config.context();
        match self.max_length {
            Some((tokens, setting)) if tokens < context => (tokens, Some(setting)),
            _ => (context, None),
        }
    }

    /// Token ids of a group's prompt, whose images have the given layouts, with each of its
    /// completions.
    fn tokenize(
        &self,
        group: &PromptGroup,
        images: &[ImageLayout],
    ) -> Result<Vec<TokenizedCompletion>, ModelError> {
        let of_images = images.iter().map(|image| image.placeholder().len()).sum();
        let images: Vec<_> = images.iter().collect();
        let system = group.system.as_deref().filter(|_| self.processor.chat.takes_system());
        let completions = self.processor.encode_completions(
            system,
            &group.history,
            &group.prompt,
            group.completions.iter().map(String::as_str),
            &images,
        )?;
        let (limit, setting) = self.limit();
        if let Some(long) = completions.iter().find(|completion| completion.ids.len() > limit) {
            return Err(ModelError::SequenceTooLong {
                prompt: long.answer_start,
                images: of_images,
                answer: long.answer().len(),
                limit,
                setting,
            });
        }
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
    fn check(&self, group: &PromptGroup, images: &[ImageLayout]) -> Result<(), ModelError> {
        let group = ((0..images.len()).collect(), self.tokenize(group, images)?);
        BatchTokens::new(&self.config, &images.iter().collect::<Vec<_>>(), &[group]).map(drop)
    }
}

fn unusable(name: &str) -> impl FnOnce(ImageError) -> ModelError + '_ {
    |source| ModelError::Image { name: name.to_owned(), source }
}

impl<S: ImageSource> Collate for VlmCollator<S> {
    type Batch = ScoreBatch;
    type Error = ModelError;

    fn collate(&mut self, groups: &[PromptGroup]) -> Result<ScoreBatch, ModelError> {
        let mut places = Places::default();
        let mut images: Vec<ImageInput> = Vec::new();
        let mut tokenized = Vec::with_capacity(groups.len());
        for group in groups {
            let (mut own, mut new) = (Vec::new(), Vec::new());
            for name in images_of(group) {
                let (place, is_new) = places.place(name, group);
                new.extend(is_new.then_some(name));
                own.push(place);
            }
            images.extend(self.prepared(&new, group)?);
            let layouts: Vec<_> = own.iter().map(|place| images[*place].layout.clone()).collect();
            tokenized.push((own, self.texts.tokenize(group, &layouts)?));
        }
        ScoreBatch::new(&self.texts.config, images, &tokenized)
    }

    /// Checks the images of the group without decoding them, and tokenizes its texts.
    fn check(&mut self, group: &PromptGroup) -> Result<(), ModelError> {
        self.check_images(group)?;
        self.texts.check(group, &self.layouts(group)?)
    }

    /// Checks each image once without decoding it, and tokenizes the groups in several threads.
    fn check_groups(&mut self, groups: &[PromptGroup]) -> Vec<Result<(), ModelError>> {
        let layouts: Vec<_> =
            groups.iter().map(|group| self.check_images(group).and_then(|()| self.layouts(group))).collect();
        let texts = &self.texts;
        let size = groups.len().div_ceil(PARTS_PER_THREAD * rayon::current_num_threads()).max(1);
        let check = |part: Vec<(&PromptGroup, Result<Vec<ImageLayout>, ModelError>)>| -> Vec<_> {
            let results = part.into_iter().map(|(group, layouts)| texts.check(group, &layouts?));
            with_template_stack(|| results.collect())
        };
        groups.par_iter().zip(layouts).chunks(size).flat_map_iter(check).collect()
    }

    fn takes_system(&self) -> bool {
        self.texts.processor.chat.takes_system()
    }

    fn weakenings(&self) -> usize {
        self.weakenings.0.len()
    }

    fn completions(&self, batch: &ScoreBatch) -> Option<Vec<Vec<u32>>> {
        Some(batch.completions().map(<[u32]>::to_vec).collect())
    }

    fn lengths(&self, batch: &ScoreBatch) -> Option<Vec<usize>> {
        Some(batch.lengths().collect())
    }

    fn fingerprints(&self, batch: &ScoreBatch) -> Option<Vec<RowFingerprint>> {
        let images: Vec<_> = batch.images().iter().map(fingerprint).collect();
        let row = |(own, ids): (&[usize], Vec<u32>)| RowFingerprint {
            image: match own {
                [] => [0; 32],
                [image] => images[*image],
                several => {
                    Sha256::digest(several.iter().flat_map(|image| images[*image]).collect::<Vec<_>>()).into()
                }
            },
            tokens: sha256(ids.iter().copied(), u32::to_le_bytes),
        };
        Some(batch.sequences().map(row).collect())
    }
}

/// The fingerprint of the pixels of an image.
fn fingerprint(image: &ImageInput) -> [u8; 32] {
    sha256(image.tiles.iter().flat_map(|tile| tile.data.iter().copied()), f32::to_le_bytes)
}

fn sha256<T, const N: usize>(values: impl Iterator<Item = T>, bytes: fn(T) -> [u8; N]) -> [u8; 32] {
    Sha256::digest(values.flat_map(bytes).collect::<Vec<u8>>()).into()
}
