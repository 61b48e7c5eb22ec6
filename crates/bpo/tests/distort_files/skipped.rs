//! Skipped images and wrong input.

use std::fs;
use std::path::Path;

use bpo::DistortFilesError;
use bpo::distort::{DistortError, ImageLimits};
use bpo::pairs::SkipReason;

use crate::{Folders, counts, files, skipped, threads};

#[test]
fn names_that_are_too_long_are_skipped() {
    let folders = Folders::new();
    // Most file systems accept 255 bytes, and the copy has four more.
    let long = "n".repeat(253);
    fs::copy(folders.images().join("a.png"), folders.images().join(&long)).unwrap();
    let files = files("blur:sigma=1").with_threads(threads(2));
    for expected in [[6, 0, 1], [0, 6, 1]] {
        let outcome = folders.run(&files).unwrap();
        assert_eq!(counts(&outcome), expected);
        assert_eq!((skipped(&outcome)[0], outcome.skipped[0].reason), (&*long, SkipReason::OutputName));
    }
    let out = folders.out().join(long.clone() + ".png");
    let error = files.file(folders.images().join(&long), &out).unwrap_err();
    assert!(matches!(&error, DistortFilesError::File(_)), "{error}");
}

#[test]
fn bad_images_are_skipped() {
    let folders = Folders::new();
    fs::write(folders.images().join("bad.jpg"), "no image").unwrap();
    fs::write(folders.images().join("empty.png"), "").unwrap();
    let whole = fs::read(folders.images().join("a.png")).unwrap();
    fs::write(folders.images().join("half.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folders.images().join("without-extension"), whole).unwrap();
    let files = files("gaussian-noise:sigma=0.1").with_threads(threads(3));
    let outcome = folders.run(&files.clone().with_limits(ImageLimits::default().with_max_side(24))).unwrap();
    assert_eq!(skipped(&outcome), ["bad.jpg", "empty.png", "half.png", "sub/deep/e.png"]);
    let details = ["is not an image", "is empty", "is truncated", "max_side = 24"];
    for (skipped, detail) in outcome.skipped.iter().zip(details) {
        assert!(skipped.detail.contains(detail), "{}", skipped.detail);
    }
    assert_eq!(outcome.skipped[3].reason, SkipReason::ImageTooLarge);
    assert_eq!(counts(&outcome), [6, 0, 4]);
    // They are tried again, with other limits.
    let outcome = folders.run(&files).unwrap();
    assert_eq!((skipped(&outcome), counts(&outcome)), (vec!["bad.jpg", "empty.png", "half.png"], [1, 6, 3]));
}

#[test]
fn wrong_input_is_an_error_before_anything_is_written() {
    let folders = Folders::new();
    for text in ["no-image", "blur:sigma=1+mask-tokens:share=0.5"] {
        let error = folders.error(&files(text));
        assert!(matches!(error, DistortFilesError::Distort(DistortError::NeedsModel { .. })), "{error}");
    }
    let files = files("blur:sigma=1");
    let error = files.folder(folders.dir.path().join("gone"), folders.out(), |_| {}).unwrap_err();
    assert!(matches!(error, DistortFilesError::File(_)), "{error}");
    let empty = folders.dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let error = files.folder(&empty, folders.out(), |_| {}).unwrap_err();
    assert!(matches!(error, DistortFilesError::NoImages { .. }), "{error}");
    assert!(!folders.out().exists());
}

#[cfg(unix)]
#[test]
fn links_are_followed_to_files_in_the_folder_only() {
    use std::os::unix::fs::symlink;
    let folders = Folders::new();
    let outside = folders.dir.path().join("outside.png");
    folders.image("a.png").save(&outside).unwrap();
    let notes = folders.dir.path().join("notes.txt");
    fs::write(&notes, "no image").unwrap();
    assert!(
        std::process::Command::new("mkfifo").arg(folders.images().join("pipe")).status().unwrap().success()
    );
    for (target, link) in [
        (outside.as_path(), "out-of-it.png"),
        (&outside, "also"),
        (&notes, "more-notes"),
        (Path::new("sub"), "again"),
        (Path::new(".."), "sub/loop"),
        (Path::new("a.png"), "same.png"),
        (Path::new("nowhere.png"), "torn.png"),
        (Path::new("pipe"), "link-to-pipe"),
    ] {
        symlink(target, folders.images().join(link)).unwrap();
    }
    let outcome = folders.run(&files("gaussian-noise:sigma=0.2")).unwrap();
    assert_eq!(counts(&outcome), [7, 0, 5]);
    assert_eq!(skipped(&outcome), ["again", "also", "out-of-it.png", "sub/loop", "torn.png"]);
    let reasons: Vec<_> = outcome.skipped.iter().map(|skipped| skipped.reason).collect();
    use SkipReason::{ImageMissing, ImageOutside, ImageUnreadable};
    assert_eq!(reasons, [ImageUnreadable, ImageOutside, ImageOutside, ImageUnreadable, ImageMissing]);
    // A link has its own seed.
    assert_ne!(folders.copy("same.png"), folders.copy("a.png"));
}
