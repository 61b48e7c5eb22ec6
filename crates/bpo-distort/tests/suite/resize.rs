//! Comparison of the resize with the image processor of transformers, which uses Pillow.
//! `tools/golden/images.py` makes the golden file; bpo-model tests its other configurations.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bpo_distort::resize::{Axis, Filter, for_each_row};
use image::{Rgb, RgbImage};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::select_vectors;

/// The shorter side of the resized image, and both sides of the crop.
const SIDE: usize = 24;

/// The test image of `tools/golden/images.py`.
fn formula(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let band = if (x / 8 + y / 8) % 2 == 1 { 4 } else { 1 };
        Rgb([0, 1, 2].map(|c| (((x * x + 3 * y) * (c + 1) + 7 * x * y) % 256 / band) as u8))
    })
}

/// The axis of a centre crop. The shorter side of the image becomes [`SIDE`].
fn middle(from: u32, shortest: u32) -> Axis {
    let to = (SIDE as f64 * f64::from(from) / f64::from(shortest)) as usize;
    let start = (to - SIDE) / 2;
    Axis { to, keep: start..start + SIDE }
}

/// The levels of the crop: all red, then all green, then all blue.
fn planes(image: &RgbImage, filter: Filter) -> Vec<u8> {
    let shortest = image.width().min(image.height());
    let (x, y) = (middle(image.width(), shortest), middle(image.height(), shortest));
    let mut planes = vec![Vec::new(); 3];
    for_each_row(image, &x, &y, filter, |pixels| {
        for (channel, plane) in planes.iter_mut().enumerate() {
            plane.extend(pixels.iter().map(|pixel| pixel[channel]));
        }
    });
    planes.concat()
}

#[test]
fn levels_equal_those_of_pillow() {
    select_vectors();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpo-model/tests/data/images/images.json");
    let golden: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let (mut sizes, mut wrong) = (BTreeSet::new(), Vec::new());
    for (number, kind) in ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"].iter().enumerate() {
        for (name, expected) in golden["formula"].as_object().unwrap() {
            let Some(size) = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            let (width, height) = size.split_once('x').unwrap();
            let image = formula(width.parse().unwrap(), height.parse().unwrap());
            let found = Sha256::digest(planes(&image, Filter::try_from(number as u8).unwrap()));
            let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
            if expected["sha256"] != found {
                wrong.push(name);
            }
            sizes.insert((number, image.dimensions()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(sizes.len() >= 6 * 30);
}
