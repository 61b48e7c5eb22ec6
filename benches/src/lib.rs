//! Benchmarks; `cargo bench -p bpo-benches`.

use std::path::PathBuf;

use bpo::model::ImageProcessor;
use serde_json::json;

pub mod arguments;
pub mod contender;
pub mod floor;
pub mod shape;

/// That of this package: where cargo says it is, also where this was built elsewhere.
pub fn folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// The photographs of the examples.
pub fn photos() -> PathBuf {
    folder().join("../examples/data/photos")
}

/// LLaVA-1.5's image processor, to images of `side` pixels.
///
/// # Panics
/// If our own settings are wrong.
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

/// The middle one of some values, which it sorts; of an even number the upper one.
///
/// # Panics
/// If there is none.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The middle one of the ratios of values that were measured in turn.
///
/// # Panics
/// If there is none.
pub fn ratio(of: &[f64], to: &[f64]) -> f64 {
    median(&mut of.iter().zip(to).map(|(of, to)| of / to).collect::<Vec<_>>())
}
