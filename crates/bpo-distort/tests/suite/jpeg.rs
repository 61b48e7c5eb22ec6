//! Comparison of JPEG decoding with Pillow; `tools/golden/jpeg.py` makes the golden file.

use std::fs;
use std::path::Path;

use bpo_distort::{Distortion, ImageLimits, load_rgb};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[test]
fn levels_equal_those_of_pillow() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pieces = root.join("tests/data/jpeg");
    let photos = root.join("../../examples/data/photos");
    let expected: Value = serde_json::from_slice(&fs::read(pieces.join("levels.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert!(expected.len() >= 15);
    for (name, expected) in expected {
        let path = [&pieces, &photos].map(|dir| dir.join(name)).into_iter().find(|path| path.exists());
        let image = load_rgb(path.unwrap(), &ImageLimits::default()).unwrap();
        assert_eq!(expected["width"], image.width(), "{name}");
        assert_eq!(expected["height"], image.height(), "{name}");
        let hash: String = Sha256::digest(image.as_raw()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(expected["sha256"], hash, "{name}");
    }
}

/// A digest of the decoded test files and of a photograph encoded at several qualities.
fn codec_digest() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut digest = Sha256::new();
    let mut names: Vec<_> =
        fs::read_dir(root.join("tests/data/jpeg")).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "jpg"));
    names.sort();
    names.push(root.join("../../examples/data/photos/cat.jpg"));
    for path in names {
        let image = load_rgb(path, &ImageLimits::default()).unwrap();
        digest.update(image.as_raw());
        for quality in [1, 7, 25, 50, 90, 100] {
            let distortion: Distortion = format!("jpeg:quality={quality}").parse().unwrap();
            digest.update(distortion.apply(&image, 0).unwrap().as_raw());
        }
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The address of the selected inverse transform, relative to this program, so that processes can
/// compare it.
fn transform() -> isize {
    let chosen = libjpeg_turbo_rs::simd::detect().idct_islow as usize;
    chosen.wrapping_sub(libjpeg_turbo_rs::simd::detect as fn() -> _ as usize) as isize
}

/// `JSIMD_FORCENONE` disables the SIMD kernels of the codec: transforms, colours, upsampling,
/// quantization. Some loops ignore it; the comparisons with Pillow cover those.
#[test]
fn vector_and_scalar_code_give_the_same_levels() {
    const MARK: &str = "codec digest ";
    if std::env::var_os("BPO_DISTORT_CODEC_DIGEST").is_some() {
        println!("{MARK}{} {}", codec_digest(), transform());
        return;
    }
    let scalar = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "jpeg::vector_and_scalar_code_give_the_same_levels", "--nocapture"])
        .env("BPO_DISTORT_CODEC_DIGEST", "1")
        .env("JSIMD_FORCENONE", "1")
        .output()
        .unwrap();
    let output = String::from_utf8(scalar.stdout).unwrap();
    let (_, scalar) = output.split_once(MARK).unwrap_or_else(|| panic!("no digest in {output:?}"));
    let mut scalar = scalar.split_whitespace();
    assert_eq!(scalar.next(), Some(codec_digest().as_str()));
    // Otherwise the variable has no effect, and the comparison is void.
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        assert_ne!(scalar.next(), Some(transform().to_string().as_str()));
    }
}
