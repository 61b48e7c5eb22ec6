//! Comparison of orientation metadata and CMYK with Pillow; `tools/golden/load.py` makes the golden
//! file.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bpo_distort::{DistortError, ImageLimits, check_header, decode_rgb};
use image::{Rgb, RgbImage};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[test]
fn sizes_and_levels_equal_those_of_pillow() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/load.json");
    let golden: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let golden = golden.as_object().unwrap();
    assert!(golden.len() >= 100, "{}", golden.len());
    let mut wrong = Vec::new();
    let dir = tempfile::tempdir().unwrap();
    for (name, expected) in golden {
        let file = STANDARD.decode(expected["file"].as_str().unwrap()).unwrap();
        let path = dir.path().join("image");
        fs::write(&path, &file).unwrap();
        let (width, height) = check_header(&path, &ImageLimits::default()).unwrap();
        if expected["width"] != width || expected["height"] != height {
            wrong.push(format!("the header of {name} has {width} x {height} pixels"));
        }
        match decode_rgb(&file, name, &ImageLimits::default()) {
            Err(error) => wrong.push(error.to_string()),
            Ok(image) => {
                let hash: String =
                    Sha256::digest(image.as_raw()).iter().map(|byte| format!("{byte:02x}")).collect();
                if expected["width"] != image.width() || expected["height"] != image.height() {
                    wrong.push(format!("{name} has {} x {} pixels", image.width(), image.height()));
                } else if expected["sha256"] != hash {
                    wrong.push(format!("{name} has other levels"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// An uncompressed little-endian TIFF file of 2 x 2 pixels with one strip per plane.
fn tiff(photometric: u16, channels: u16, planar: u16, samples: &[u8]) -> Vec<u8> {
    let mut bytes = [b"II*\0", &(8 + samples.len() as u32).to_le_bytes()[..], samples].concat();
    let planes = if planar == 2 { u32::from(channels) } else { 1 };
    let lists = bytes.len() as u32 + 2 + 11 * 12 + 4;
    let (bits, offsets, counts) = (lists, lists + 10, lists + 10 + 4 * planes);
    let many = |at: u32, one: u32| if planes > 1 { at } else { one };
    let length = samples.len() as u32 / planes;
    let fields: [(u16, u16, u32, u32); 11] = [
        (256, 3, 1, 2),
        (257, 3, 1, 2),
        (258, 3, channels.into(), bits),
        (259, 3, 1, 1),
        (262, 3, 1, photometric.into()),
        (273, 4, planes, many(offsets, 8)),
        (277, 3, 1, channels.into()),
        (278, 3, 1, 2),
        (279, 4, planes, many(counts, length)),
        (284, 3, 1, planar.into()),
        // ExtraSamples (alpha), or ResolutionUnit.
        (if channels == 5 { 338 } else { 296 }, 3, 1, 2),
    ];
    bytes.extend(11u16.to_le_bytes());
    for (tag, kind, count, value) in fields {
        bytes.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        bytes.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    bytes.extend([0; 4]);
    bytes.extend([8u16; 5].map(u16::to_le_bytes).concat());
    bytes.extend((0..planes).flat_map(|plane| (8 + plane * length).to_le_bytes()));
    bytes.extend((0..planes).flat_map(|_| length.to_le_bytes()));
    bytes
}

#[test]
fn tiff_files_that_would_differ_from_pillow_are_an_error() {
    let cmyk = tiff(5, 4, 1, &[10; 16]);
    assert_eq!(
        decode_rgb(&cmyk, "memory", &ImageLimits::default()).unwrap(),
        RgbImage::from_pixel(2, 2, Rgb([235; 3]))
    );
    let others = [
        ("planes", tiff(5, 4, 2, &[10; 16])),
        ("alpha", tiff(5, 5, 1, &[10; 20])),
        ("lab", tiff(8, 3, 1, &[10; 12])),
    ];
    for (kind, bytes) in others {
        let error = decode_rgb(&bytes, "memory", &ImageLimits::default()).unwrap_err();
        assert!(matches!(error, DistortError::Unsupported { .. }), "{kind}: {error:?}");
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert!(!reason.contains(['(', '`', '{']), "{kind}: {reason}");
    }
}
