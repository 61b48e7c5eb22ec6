//! Comparison of distortions with Pillow; `tools/golden/distort.py` makes the golden file.

use std::fs;
use std::path::Path;

use bpo_distort::{Distortion, ImageLimits, Input, load_rgb};
use image::RgbImage;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::select_vectors;

#[test]
fn levels_equal_those_of_pillow() {
    select_vectors();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden: Value =
        serde_json::from_slice(&fs::read(root.join("tests/data/pillow.json")).unwrap()).unwrap();
    let image = |name: &str| -> RgbImage {
        let photo = root.join("../../examples/data/photos").join(golden[name]["photo"].as_str().unwrap());
        let photo = load_rgb(photo, &ImageLimits::default()).unwrap();
        match serde_json::from_value::<Option<[u32; 4]>>(golden[name]["piece"].clone()).unwrap() {
            Some([left, top, width, height]) => {
                image::imageops::crop_imm(&photo, left, top, width, height).to_image()
            }
            None => photo,
        }
    };
    let mut wrong = Vec::new();
    for (name, golden) in golden.as_object().unwrap() {
        let (image, other) = (image(name), image(golden["other"].as_str().unwrap()));
        let digests = golden["digests"].as_object().unwrap();
        assert!(digests.len() >= 40);
        for (text, expected) in digests {
            let distortion: Distortion = text.parse().unwrap();
            let distorted = distortion.apply(Input::new(&image).with_other(&other), 0).unwrap();
            let found: String =
                Sha256::digest(distorted.as_raw()).iter().map(|byte| format!("{byte:02x}")).collect();
            if *expected != found {
                wrong.push(format!("{name}, {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
