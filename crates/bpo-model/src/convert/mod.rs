//! Conversion of checkpoints of LLaVA's original code to the format of transformers.
//!
//! The result has the names, sizes and files that transformers' script
//! `models/llava/convert_llava_weights_to_hf.py` gave until version 4, without its random numbers: the
//! script drew the embeddings of new tokens around the mean of the old ones, and here they are the mean.

mod config;
mod errors;
mod files;
mod names;
mod tokenizer;
mod weights;

use std::path::Path;

use bpo_pairs::files::StagedDir;
use burn::tensor::Device;

use crate::error::ModelError;
use crate::families::VlmConfig;
use crate::processor::Processor;
use crate::vlm::Vlm;
use config::Original;
use errors::Files;
use tokenizer::Tokens;
use weights::Plan;

/// The result of [`convert_original`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// The id of `<image>` in the tokenizer.
    pub image_token: u32,
    /// The number of rows of the embedding, and before the conversion.
    pub vocabulary: [usize; 2],
    /// Whether the chat template is that of Vicuna, because the checkpoint has none.
    pub has_default_template: bool,
    /// Whether the original code pads images to a square, which the converted image processor does
    /// not.
    pub was_padded: bool,
}

/// Converts the checkpoint `dir` of LLaVA's original code (`mm_vision_tower` in `config.json`), and
/// writes it as `out` in the format of the llava-hf checkpoints.
///
/// `vision_tower` is the checkpoint of the tower that `mm_vision_tower` names, in the format of
/// transformers. Its image processor and configuration are used, and its weights unless `dir` has
/// trained ones. The tokenizer of `dir` gets `<image>` and, if it has no padding token of its own,
/// `<pad>`. If the embedding has too few rows for them, embedding and head are enlarged to a multiple
/// of 64 rows; each new row is the mean of the old rows. Other weights are copied byte for byte.
///
/// Only one weight is in memory at a time. `out` is written whole or not at all.
///
/// # Errors
/// [`ModelError::Pickle`] for weights that are not in safetensors files; [`ModelError::Unsupported`]
/// for a value of `config.json` that the converted format does not have; [`ModelError::Weights`] if
/// weights are missing, misshapen or unknown; the errors of reading the files; and if `out` cannot
/// be written or holds anything already.
pub fn convert_original(
    dir: &Path,
    vision_tower: &Path,
    out: &Path,
    device: &Device,
) -> Result<Converted, ModelError> {
    let original = Original::read(dir, vision_tower)?;
    let (tokenizer, tokens) = Tokens::add(dir, original.keeps_padding())?;
    let plan = Plan::new(dir, vision_tower, &tokens)?;
    let staged = StagedDir::new(out)?;
    let made = staged.path();
    let write = || -> Result<bool, ModelError> {
        let has_default_template = files::write(dir, made, &original, &tokens, &tokenizer)?;
        files::write_json(&made.join("config.json"), &original.converted(&tokens, plan.rows))?;
        // the small files are checked before the weights are copied
        let config = VlmConfig::from_dir(made)?;
        let processor = Processor::from_dir(made, &config)?;
        config.check_processor(&processor)?;
        plan.write(made)?;
        Vlm::check_weights(made, device)?;
        Ok(has_default_template)
    };
    let files = Files { dir, tower: vision_tower, tower_is_nested: original.tower_is_nested, made };
    let has_default_template = write().map_err(|error| files.of_original(error, &plan))?;
    staged.commit()?;
    Ok(Converted {
        image_token: tokens.image,
        vocabulary: [plan.rows, plan.old_rows],
        has_default_template,
        was_padded: original.pads(),
    })
}
