//! Image tokens that are hidden because the model attends to them the most.

use bpo_distort::features::attended_tokens;

use super::decode::Prompt;
use super::rows::Rows;
use crate::error::ModelError;
use crate::input::ModelInput;
use crate::lora::Adapters;
use crate::pool::in_pool;
use crate::vlm::Vlm;

impl Vlm {
    /// The attention of the last token of an input to the tokens of each of its images, in one decoder
    /// layer: the softmax of the scores over all tokens, as the mean over heads. Tokens that are
    /// [hidden](crate::ImageInput::hidden) have none.
    ///
    /// `layer` counts the decoder layers from 0, or from the last one as -1. The layers behind it are not
    /// computed, and only the scores of the last token are.
    ///
    /// # Shapes
    /// - output: for each image, `[image tokens]`
    ///
    /// # Errors
    /// [`ModelError::NoSuchLayer`], [`ModelError::NotFinite`], or the errors of
    /// [`generate`](Self::generate) for an input that does not fit the model.
    pub fn image_attention(
        &self,
        input: &ModelInput,
        layer: i32,
        adapters: Adapters,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        self.config().check_input(&input.ids, &input.images)?;
        let layer = self.layer_index(layer)?;
        let attention = in_pool(&self.device(), || Rows::new(self, adapters).last_attention(input, layer))?;
        let places = input.image_places(self.config().image_token());
        Ok(places.iter().map(|places| places.iter().map(|place| attention[*place]).collect()).collect())
    }

    /// The index of a decoder layer, which may be counted from the end.
    fn layer_index(&self, layer: i32) -> Result<usize, ModelError> {
        let layers = self.config().decoder().num_hidden_layers;
        let index = match usize::try_from(layer) {
            Ok(index) => Some(index),
            Err(_) => layers.checked_sub(layer.unsigned_abs() as usize),
        };
        index.filter(|index| *index < layers).ok_or(ModelError::NoSuchLayer { layer, layers })
    }

    /// The prompt with the tokens hidden that [`ImageInput::attended`](crate::ImageInput::attended) asks
    /// for. Each input is run alone, so the tokens do not depend on other prompts.
    pub(super) fn hide_attended(&self, prompt: &Prompt, adapters: Adapters) -> Result<Prompt, ModelError> {
        let mut prompt = prompt.clone();
        self.hide_in(&mut prompt.input, adapters)?;
        if let Some(contrast) = &mut prompt.contrast {
            self.hide_in(&mut contrast.input, adapters)?;
        }
        Ok(prompt)
    }

    fn hide_in(&self, input: &mut ModelInput, adapters: Adapters) -> Result<(), ModelError> {
        let mut layers: Vec<i32> =
            input.images.iter().flat_map(|image| image.attended.iter().map(|(_, layer)| *layer)).collect();
        layers.sort_unstable();
        layers.dedup();
        let mut hidden: Vec<Vec<usize>> = vec![Vec::new(); input.images.len()];
        for layer in layers {
            let attention = self.image_attention(input, layer, adapters)?;
            for ((image, attention), hidden) in input.images.iter().zip(&attention).zip(&mut hidden) {
                let shares = image.attended.iter().filter(|(_, of)| *of == layer);
                hidden.extend(shares.flat_map(|(share, _)| attended_tokens(attention, *share)));
            }
        }
        for (image, hidden) in input.images.iter_mut().zip(hidden) {
            image.attended.clear();
            image.hidden.extend(hidden);
            image.hidden.sort_unstable();
            image.hidden.dedup();
        }
        Ok(())
    }
}
