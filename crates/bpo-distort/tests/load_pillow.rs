//! Image files that are to be turned, in all ways to say so, and CMYK give what Pillow gives (`tools/golden/load.py`).

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bpo_distort::{Limits, decode_rgb};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[test]
fn sizes_and_levels_equal_pillows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/load.json");
    let golden: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let golden = golden.as_object().unwrap();
    assert!(golden.len() >= 100, "{}", golden.len());
    let mut wrong = Vec::new();
    for (name, expected) in golden {
        let file = STANDARD.decode(expected["file"].as_str().unwrap()).unwrap();
        match decode_rgb(&file, name, &Limits::default()) {
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
