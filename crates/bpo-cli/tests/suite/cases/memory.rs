//! Memory of a command that reads large images.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::support::{Dir, ends_within, score_arguments};
use crate::common::{command, train_arguments, write_pairs};

/// Number of images in one batch.
const IMAGES: usize = 24;
/// Sides of each image, which takes 12 MB when it is decoded.
const SIDE: u32 = 2000;
/// Most memory of a command in MB. All images together take 288 MB.
const MOST: u64 = 220;

/// Writes a black image as BMP file. Its pixels take no place on the disk.
fn write_black(path: &Path) {
    let bytes = SIDE * SIDE * 3;
    let mut head = b"BM".to_vec();
    for number in [54 + bytes, 0, 54, 40, SIDE, SIDE, 1 | 24 << 16, 0, bytes, 0, 0, 0, 0] {
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
    let dir = Dir::new();
    fs::create_dir(dir.at("images")).unwrap();
    let names: Vec<String> = (0..IMAGES).map(|number| format!("{number}.bmp")).collect();
    for name in &names {
        write_black(&dir.at("images").join(name));
    }
    let pairs: Vec<_> =
        names.iter().map(|name| (name.as_str(), name.as_str(), "What is it?", "A cat.", "A dog.")).collect();
    write_pairs(&dir.at("pairs.jsonl"), &pairs);
    let takes_little = |arguments: Vec<OsString>| {
        let images = arguments!["--images", dir.at("images"), "--batch-size", IMAGES.to_string()];
        ends_within(&mut command(arguments.into_iter().chain(images)), Some(MOST)).succeeds()
    };
    assert_eq!(takes_little(score_arguments(&dir.at("pairs.jsonl"))).lines().len(), IMAGES);
    let train = train_arguments(&dir.at("pairs.jsonl"), &dir.at("train"));
    takes_little([train, arguments!["--max-steps", "1"]].concat()).says("adapter: ");
}
