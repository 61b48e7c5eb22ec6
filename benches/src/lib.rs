//! Shared parts of the benchmarks: `cargo bench -p bpo-benches`.

use std::path::PathBuf;

use bpo::model::ImageProcessor;
use serde_json::json;

pub mod arguments;
pub mod device_limits;
pub mod published;
pub mod shape;
pub mod timed_process;

/// Returns the directory of this package: `CARGO_MANIFEST_DIR` of the running process, or else of
/// the build.
pub fn folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Returns the directory with the photographs of the examples.
pub fn photos() -> PathBuf {
    folder().join("../examples/data/photos")
}

/// Returns LLaVA-1.5's image processor for images of `side` pixels.
///
/// # Panics
/// Panics if the settings cannot be written or read.
pub fn processor(side: usize) -> ImageProcessor {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = json!({
        "image_processor_type": "CLIPImageProcessor",
        "size": { "shortest_edge": side }, "crop_size": { "height": side, "width": side },
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3, "rescale_factor": 1.0 / 255.0,
        "do_resize": true, "do_center_crop": true, "do_rescale": true, "do_normalize": true, "do_convert_rgb": true,
    });
    std::fs::write(dir.path().join("preprocessor_config.json"), settings.to_string()).expect("written");
    ImageProcessor::from_dir(dir.path()).expect("settings")
}

/// Sorts the values and returns their median: the upper middle value of an even number.
///
/// # Panics
/// Panics if there are no values.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the median of the ratios of values that were measured in the same rounds.
///
/// # Panics
/// Panics if there are no values.
pub fn ratio(of: &[f64], to: &[f64]) -> f64 {
    median(&mut of.iter().zip(to).map(|(of, to)| of / to).collect::<Vec<_>>())
}
