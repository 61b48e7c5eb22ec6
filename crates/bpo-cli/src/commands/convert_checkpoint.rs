//! `bpo convert-checkpoint`

use bpo::{BpoError, Paths, RunConfig};

use super::open_device;
use crate::args::ConvertCheckpointCommand;
use crate::failure::Failure;
use crate::terminal::print_line;

/// Converts a checkpoint of LLaVA's original code.
///
/// # Errors
/// Returns an error if the checkpoint cannot be converted, or the output cannot be written.
pub fn convert_checkpoint(args: &ConvertCheckpointCommand) -> Result<(), Failure> {
    let mut paths = Paths::default();
    paths.input("DIR", &args.checkpoint).input("--vision-tower", &args.vision_tower);
    paths.output("--out", &args.out).check()?;
    let mut config = RunConfig::default();
    config.device = args.device.unwrap_or_default().into();
    let device = open_device(&config)?;
    let converted = bpo::model::convert_original(&args.checkpoint, &args.vision_tower, &args.out, &device)
        .map_err(BpoError::from)?;
    let [rows, old] = converted.vocabulary;
    if rows > old {
        print_line(&format!(
            "the embedding has {rows} rows in place of {old}; new rows are the mean of the others"
        ));
    }
    if converted.has_default_template {
        print_line("the checkpoint has no chat template, and got that of Vicuna (USER, ASSISTANT)");
    }
    if converted.was_padded {
        print_line(
            "the original code pads images to a square (image_aspect_ratio); the converted checkpoint crops them, as \
             those of llava-hf do",
        );
    }
    print_line(&format!("converted checkpoint: {}", args.out.display()));
    Ok(())
}
