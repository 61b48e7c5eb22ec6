//! Digests of what a fixed seed gives, so that a change of platform, toolchain or dependency that moves a
//! single byte is seen. A deliberate change of the output updates them, and is a breaking change.

use bpo_distort::Distortion;
use image::{Rgb, RgbImage};
use sha2::{Digest, Sha256};

const SEED: u64 = 20_240_313;

const ON_RGB: [(&str, &str); 5] = [
    ("diffusion-noise:step=0", "bb65da839e1c28ae"),
    ("diffusion-noise:step=500", "3296bf61cafcd138"),
    ("diffusion-noise:step=999", "e2e5ce9180c8dd90"),
    ("blur:sigma=2.5", "363c862d60d6dbaa"),
    ("blur:sigma=1+diffusion-noise:step=900+blur:sigma=0.7", "c9b25058ad28f89a"),
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
    let found: Vec<_> =
        table.iter().map(|(text, _)| (*text, digest(&bytes(&text.parse().unwrap())))).collect();
    let expected: Vec<_> = table.iter().map(|(text, digest)| (*text, (*digest).to_owned())).collect();
    assert_eq!(found, expected);
}

#[test]
fn rgb_images() {
    assert_digests(&ON_RGB, |distortion| distortion.apply(&image(), SEED).unwrap().into_raw());
}

#[test]
fn normalized_pixels() {
    assert_digests(&ON_PIXELS, |distortion| {
        let mut pixels: Vec<f32> = image().iter().map(|&level| f32::from(level) / 64.0 - 2.0).collect();
        distortion.on_pixels(&mut pixels, SEED).unwrap();
        pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect()
    });
}
