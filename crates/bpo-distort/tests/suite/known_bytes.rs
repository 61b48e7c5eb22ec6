//! Digests of distorted images with a fixed seed. They detect changes of a single byte by platform,
//! toolchain or dependency. A deliberate change of the output updates them and is a breaking
//! change.

use bpo_distort::features::{FeatureStage, add_noise, masked_tokens};
use bpo_distort::{Distortion, Family, Input};
use image::{Rgb, RgbImage};
use sha2::{Digest, Sha256};

use crate::support::select_vectors;

const SEED: u64 = 20_240_313;

const ON_RGB: [(&str, &str); 34] = [
    ("diffusion-noise:step=0", "bb65da839e1c28ae"),
    ("diffusion-noise:step=500", "3296bf61cafcd138"),
    ("diffusion-noise:step=999", "e2e5ce9180c8dd90"),
    ("blur:sigma=2.5", "363c862d60d6dbaa"),
    ("blur:sigma=1+diffusion-noise:step=900+blur:sigma=0.7", "c9b25058ad28f89a"),
    ("gaussian-noise:severity=3", "8e8ff37610f7d869"),
    ("salt-and-pepper:severity=3", "d07796518aba5dbf"),
    ("blur:severity=3", "2a0819f38fb6ea26"),
    ("blur:sigma=0.5..8", "f8451d63a5b08661"),
    ("motion-blur:length=9,angle=0", "39847618f55f00b9"),
    ("motion-blur:severity=3", "a9b5482e4f40c36f"),
    ("pixelate:severity=4", "4e9f127820135dcb"),
    ("jpeg:quality=1", "ead7d469aecd46a3"),
    ("jpeg:severity=1", "9836ba5b36c176af"),
    ("jpeg:severity=5", "1c90be2f4d69bee7"),
    ("jpeg:quality=90", "466d3cd2a7b6d21d"),
    ("brightness:factor=0.35", "ba07c380bd39e6a3"),
    ("brightness:factor=1.7", "ef08b4d3ba817b5c"),
    ("contrast:factor=0.35", "a780f40d45f3f87a"),
    ("saturation:factor=0.35", "9bb9b36535e74a90"),
    ("saturation:factor=3", "e53dbb46114063e9"),
    ("grayscale", "1f09bbf743f8e0f1"),
    ("crop:keep=0.05..0.2", "adf924766b06da52"),
    ("crop:severity=2", "95483c33347c67a3"),
    ("occlude:severity=3", "06f1c87d7ef511a8"),
    ("occlude:share=0.4,grid=7,fill=mean", "d032d60f18f8b4f7"),
    ("occlude:share=0.4,grid=2..9,fill=noise", "03a6bf6c1a8095de"),
    ("shuffle:severity=2", "f01e2f4916d692ab"),
    ("mix:severity=3", "e37cb092657c7a96"),
    ("swap", "a83b869a4edd4257"),
    ("clean", "e7ccf92479195f73"),
    ("blank:fill=mean", "630204c7a8739383"),
    ("blank:fill=noise", "c0de4ac6ed6b9e63"),
    ("swap+motion-blur:severity=2+gaussian-noise:sigma=0..0.5", "df718bd9d33dc2e1"),
];

const ON_PIXELS: [(&str, &str); 2] = [
    ("diffusion-noise:step=500", "e56837f490437680"),
    ("blur:sigma=4+diffusion-noise:step=900", "16cec0884681f7ad"),
];

fn image() -> RgbImage {
    RgbImage::from_fn(61, 47, |x, y| Rgb([(x * 4) as u8, (y * 5) as u8, ((x * y) % 256) as u8]))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn assert_digests(table: &[(&str, &str)], bytes: impl Fn(&Distortion) -> Vec<u8>) {
    select_vectors();
    let found: Vec<_> =
        table.iter().map(|(text, _)| (*text, digest(&bytes(&text.parse().unwrap())))).collect();
    let expected: Vec<_> = table.iter().map(|(text, digest)| (*text, (*digest).to_owned())).collect();
    assert_eq!(found, expected);
}

#[test]
fn rgb_images() {
    let (image, other) =
        (image(), RgbImage::from_fn(30, 80, |x, y| Rgb([(x * y) as u8, (x * 8) as u8, (y * 3) as u8])));
    assert_digests(&ON_RGB, |distortion| {
        distortion.apply(Input::new(&image).with_other(&other), SEED).unwrap().into_raw()
    });
}

#[test]
fn every_family_has_a_digest() {
    for family in Family::all().filter(|family| !family.needs_model()) {
        assert!(ON_RGB.iter().any(|(text, _)| text.starts_with(family.name())), "{}", family.name());
    }
}

#[test]
fn features() {
    select_vectors();
    let distortion: Distortion = "feature-noise:sigma=0.5..2+mask-tokens:share=0.1..0.9".parse().unwrap();
    let mut bytes = Vec::new();
    for (stage, seed) in distortion.feature_stages(SEED).unwrap() {
        match stage {
            FeatureStage::Noise { sigma } => {
                let mut features: Vec<f32> = (0..96).map(|i| (i * 37 % 19) as f32 * 0.25 - 2.0).collect();
                add_noise(&mut features, sigma, seed);
                bytes.extend(features.iter().flat_map(|feature| feature.to_le_bytes()));
            }
            FeatureStage::MaskTokens { share } => {
                bytes.extend(masked_tokens(200, share, seed).iter().map(|&token| token as u8));
            }
            stage => panic!("unexpected stage {stage:?}"),
        }
    }
    assert_eq!(digest(&bytes), "ed07e7a35d934c7a");
}

#[test]
fn normalized_pixels() {
    assert_digests(&ON_PIXELS, |distortion| {
        let mut pixels: Vec<f32> = image().iter().map(|&level| f32::from(level) / 64.0 - 2.0).collect();
        distortion.on_pixels(&mut pixels, SEED).unwrap();
        pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect()
    });
}
