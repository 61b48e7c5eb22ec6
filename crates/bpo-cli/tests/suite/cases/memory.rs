//! Memory of a command that reads large images.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::support::{Dir, ends_with_peak, score_arguments};
use crate::common::{command, train_arguments, write_pairs};

/// Number of images in one batch.
const IMAGES: usize = 24;
/// Sides of each large image, which takes 12 MB when it is decoded.
const LARGE: u32 = 2000;
/// Sides of each small image.
const SMALL: u32 = 8;
/// Most memory in MB that large images can add to that of small ones. All of them take 288 MB. The
/// memory of the program itself is not counted, as it depends on the libraries that it is linked with.
const MOST: u64 = 150;

/// Writes a black image as BMP file. Its pixels take no place on the disk.
fn write_black(path: &Path, side: u32) {
    let bytes = side * side * 3;
    let mut head = b"BM".to_vec();
    for number in [54 + bytes, 0, 54, 40, side, side, 1 | 24 << 16, 0, bytes, 0, 0, 0, 0] {
        head.extend(number.to_le_bytes());
    }
    let mut file = File::create(path).unwrap();
    file.write_all(&head).unwrap();
    file.set_len(u64::from(54 + bytes)).unwrap();
}

/// `bpo score` and `bpo train` hold a few decoded images at a time, however many a batch has.
/// `bpo generate` and `bpo weaken` keep recent images up to `ImageCache::DEFAULT_BYTES`, which the
/// tests of the cache check.
#[test]
fn large_images_of_a_batch_are_not_held_together() {
    let [small, large] = [SMALL, LARGE].map(|side| {
        let dir = Dir::new();
        fs::create_dir(dir.at("images")).unwrap();
        let names: Vec<String> = (0..IMAGES).map(|number| format!("{number}.bmp")).collect();
        for name in &names {
            write_black(&dir.at("images").join(name), side);
        }
        let pairs: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), name.as_str(), "What is it?", "A cat.", "A dog."))
            .collect();
        write_pairs(&dir.at("pairs.jsonl"), &pairs);
        let peak = |arguments: Vec<OsString>| {
            let images = arguments!["--images", dir.at("images"), "--batch-size", IMAGES.to_string()];
            let (outcome, peak) = ends_with_peak(&mut command(arguments.into_iter().chain(images)));
            (outcome.succeeds(), peak)
        };
        let (scores, score) = peak(score_arguments(&dir.at("pairs.jsonl")));
        assert_eq!(scores.lines().len(), IMAGES);
        let arguments = train_arguments(&dir.at("pairs.jsonl"), &dir.at("train"));
        let (trained, train) = peak([arguments, arguments!["--max-steps", "1"]].concat());
        trained.says("adapter: ");
        [score, train]
    });
    for (small, large) in small.into_iter().zip(large) {
        // where there is no `/proc`, no memory is known
        let (Some(small), Some(large)) = (small, large) else { continue };
        assert!(large <= small + MOST, "{large} MB with large images, {small} MB with small ones");
    }
}
