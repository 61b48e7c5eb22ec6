//! JPEG files of every kind give the levels that Pillow gives (`tools/golden/jpeg.py`).

use std::fs;
use std::path::Path;

use bpo_distort::{Limits, load_rgb};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[test]
fn levels_equal_pillows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pieces = root.join("tests/data/jpeg");
    let photos = root.join("../../examples/data/photos");
    let expected: Value = serde_json::from_slice(&fs::read(pieces.join("levels.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert!(expected.len() >= 15);
    for (name, expected) in expected {
        let path = [&pieces, &photos].map(|dir| dir.join(name)).into_iter().find(|path| path.exists());
        let image = load_rgb(path.unwrap(), &Limits::default()).unwrap();
        assert_eq!(expected["width"], image.width(), "{name}");
        assert_eq!(expected["height"], image.height(), "{name}");
        let hash: String = Sha256::digest(image.as_raw()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(expected["sha256"], hash, "{name}");
    }
}
