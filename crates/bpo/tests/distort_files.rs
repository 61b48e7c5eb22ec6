//! Distorted copies of files and folders.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bpo::distort::{DistortError, Distortion, ImageLimits, Input, PngText, load_rgb, read_png_text};
use bpo::pairs::{SkipReason, item_seed};
use bpo::{CopyState, DistortEvent, DistortFiles, DistortFilesError, DistortOutcome};
use image::{Rgb, RgbImage};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A folder of images, and an output folder.
struct Folders {
    dir: TempDir,
}

impl Folders {
    /// Six images, two of them in subfolders, and two other files.
    fn new() -> Self {
        let folders = Self { dir: tempfile::tempdir().unwrap() };
        for (index, name) in
            ["a.png", "b.bmp", "c.gif", "d.tiff", "sub/a.png", "sub/deep/e.png"].iter().enumerate()
        {
            folders.draw(name, index as u8);
        }
        fs::write(folders.images().join("notes.txt"), "no image").unwrap();
        fs::write(folders.images().join(".hidden.png"), "no image").unwrap();
        folders
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn draw(&self, name: &str, which: u8) {
        let path = self.images().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let side = 20 + u32::from(which);
        RgbImage::from_fn(side, 16, |x, y| Rgb([which * 40, (x * 9) as u8, (y * 11) as u8]))
            .save(path)
            .unwrap();
    }

    fn run(&self, files: &DistortFiles) -> Result<DistortOutcome, DistortFilesError> {
        files.folder(self.images(), self.out(), |_| {})
    }

    fn error(&self, files: &DistortFiles) -> DistortFilesError {
        self.run(files).expect_err("it succeeded")
    }

    /// All files of the output folder with their content.
    fn copies(&self) -> BTreeMap<String, Vec<u8>> {
        let files = walkdir::WalkDir::new(self.out()).into_iter().map(Result::unwrap);
        files
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let name = entry.path().strip_prefix(self.out()).unwrap().display().to_string();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    fn remove_out(&self) {
        fs::remove_dir_all(self.out()).unwrap();
    }

    fn image(&self, name: &str) -> RgbImage {
        load_rgb(self.images().join(name), &ImageLimits::default()).unwrap()
    }

    fn copy(&self, name: &str) -> RgbImage {
        load_rgb(self.out().join(name), &ImageLimits::default()).unwrap()
    }
}

fn files(text: &str) -> DistortFiles {
    DistortFiles::new(distortion(text)).with_seed(7)
}

fn distortion(text: &str) -> Distortion {
    text.parse().unwrap()
}

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// Written, existing and skipped images.
fn counts(outcome: &DistortOutcome) -> [usize; 3] {
    [outcome.written, outcome.existing, outcome.skipped.len()]
}

fn skipped(outcome: &DistortOutcome) -> Vec<&str> {
    outcome.skipped.iter().map(|skipped| skipped.id.as_str()).collect()
}

#[test]
fn every_image_has_a_copy() {
    let folders = Folders::new();
    let blur = distortion("blur:sigma=0.5..3+gaussian-noise:sigma=0.1");
    let outcome = folders.run(&DistortFiles::new(blur.clone()).with_seed(7)).unwrap();
    assert_eq!(counts(&outcome), [6, 0, 0]);
    let names: Vec<_> = folders.copies().into_keys().collect();
    assert_eq!(names, ["a.png", "b.png", "c.png", "d.png", "sub/a.png", "sub/deep/e.png"]);
    for (image, out) in [("a.png", "a.png"), ("b.bmp", "b.png"), ("sub/deep/e.png", "sub/deep/e.png")] {
        let expected = blur.apply(&folders.image(image), item_seed(7, image)).unwrap();
        assert_eq!(folders.copy(out), expected, "{image}");
    }
}

#[test]
fn copies_record_their_origin() {
    let folders = Folders::new();
    let text = |name: &str| {
        let bytes = fs::read(folders.out().join(name)).unwrap();
        match read_png_text(Cursor::new(bytes), "bpo-distort").unwrap() {
            PngText::Found(text) => text,
            other => panic!("{other:?}"),
        }
    };
    let digest = |name: &str| -> String {
        let bytes = fs::read(folders.images().join(name)).unwrap();
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let blur = distortion("blur:sigma=0.5..3");
    folders.run(&DistortFiles::new(blur.clone()).with_seed(7)).unwrap();
    let seed = item_seed(7, "sub/a.png");
    let expected = format!("v1 {} seed={seed} of={}", blur.drawn(seed), digest("sub/a.png"));
    assert_eq!(text("sub/a.png"), expected);

    folders.remove_out();
    folders.run(&files("swap")).unwrap();
    // The choice of the second image must not change between versions.
    let expected = format!("v1 swap seed={seed} of={} other={}", digest("sub/a.png"), digest("b.bmp"));
    assert_eq!(text("sub/a.png"), expected);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for text in ["diffusion-noise:step=300..900", "swap+crop:keep=0.2", "mix:share=0..1"] {
        let [one, four] = [1, 4].map(|count| {
            let folders = Folders::new();
            folders.run(&files(text).with_threads(threads(count))).unwrap();
            folders.copies()
        });
        assert!(one.len() == 6 && one == four, "{text}");
    }
}

#[test]
fn existing_copies_are_kept() {
    let folders = Folders::new();
    for text in ["gaussian-noise:sigma=0.1", "swap"] {
        let files = files(text);
        folders.run(&files).unwrap();
        fs::write(folders.out().join("sub/a.png.part"), "of the user").unwrap();
        let before = folders.copies();
        fs::remove_file(folders.out().join("sub/a.png")).unwrap();
        let mut events = Vec::new();
        let outcome = files.folder(folders.images(), folders.out(), |event| {
            events.push(match event {
                DistortEvent::Started { total } => format!("{total} images"),
                DistortEvent::Finished { image, state } => format!("{} {state:?}", image.display()),
                event => panic!("{event:?}"),
            });
        });
        assert_eq!(events[0], "6 images");
        assert!(events[1..6].iter().all(|event| event.ends_with("Existing")), "{events:?}");
        assert_eq!(events[6..], ["sub/a.png Written"]);
        assert_eq!(counts(&outcome.unwrap()), [1, 5, 0]);
        assert_eq!(folders.copies(), before);
        folders.remove_out();
    }
}

#[test]
fn damaged_copies_are_an_error() {
    let folders = Folders::new();
    let files = files("blur:sigma=1");
    folders.run(&files).unwrap();
    let copy = folders.out().join("sub/a.png");
    let whole = fs::read(&copy).unwrap();
    let flipped = |at: usize| whole.iter().enumerate().map(|(i, byte)| byte ^ u8::from(i == at)).collect();
    for damaged in [whole[..60].to_vec(), Vec::new(), flipped(60), flipped(whole.len() - 30)] {
        fs::write(&copy, damaged).unwrap();
        let error = folders.error(&files);
        assert!(matches!(&error, DistortFilesError::Damaged { path } if *path == copy), "{error}");
        let error = files.file(folders.images().join("sub/a.png"), &copy).unwrap_err();
        assert!(matches!(error, DistortFilesError::Damaged { .. }), "{error}");
    }
    fs::remove_file(&copy).unwrap();
    folders.run(&files).unwrap();
    assert_eq!(fs::read(&copy).unwrap(), whole);
}

#[test]
fn limits_apply_to_new_copies_only() {
    let folders = Folders::new();
    let default = ImageLimits::default();
    let limits = [
        default.with_max_side(8),
        default.with_max_pixels(8),
        default.with_max_file_bytes(8),
        default.with_max_millis(0),
    ];
    for text in ["blur:sigma=1", "swap"] {
        let files = files(text);
        folders.run(&files).unwrap();
        let before = folders.copies();
        for limits in limits {
            let outcome = folders.run(&files.clone().with_limits(limits)).unwrap();
            assert_eq!(counts(&outcome), [0, 6, 0], "{text} {limits:?}");
        }
        assert_eq!(folders.copies(), before);
        fs::remove_file(folders.out().join("a.png")).unwrap();
        for limits in limits {
            let outcome = folders.run(&files.clone().with_limits(limits)).unwrap();
            assert_eq!(counts(&outcome), [0, 5, 1], "{text} {limits:?}");
        }
        folders.remove_out();
    }
}

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
fn several_threads_can_write_the_same_copy() {
    let folders = Folders::new();
    let (image, out) = (folders.images().join("a.png"), folders.out().join("a.png"));
    let files = files("blur:sigma=1");
    files.file(&image, &out).unwrap();
    let expected = folders.copies();
    for _ in 0..20 {
        fs::remove_file(&out).unwrap();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4).map(|_| scope.spawn(|| files.file(&image, &out).unwrap())).collect();
            let states: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
            assert!(states.contains(&CopyState::Written), "{states:?}");
        });
        assert_eq!(folders.copies(), expected);
    }
}

#[test]
fn added_images_get_copies() {
    let folders = Folders::new();
    folders.run(&files("blur:sigma=1")).unwrap();
    folders.draw("z.png", 3);
    assert_eq!(counts(&folders.run(&files("blur:sigma=1")).unwrap()), [1, 6, 0]);
    // More images change the choice of the second image.
    folders.remove_out();
    folders.run(&files("swap")).unwrap();
    let before = folders.copies();
    ["x1.png", "x2.png", "x3.png"].iter().for_each(|name| folders.draw(name, 5));
    assert!(matches!(folders.error(&files("swap")), DistortFilesError::OtherOrigin { .. }));
    assert_eq!(folders.copies(), before);
}

#[test]
fn other_settings_and_images_are_an_error() {
    let folders = Folders::new();
    folders.run(&files("blur:sigma=1")).unwrap();
    fs::remove_file(folders.out().join("a.png")).unwrap();
    let before = folders.copies();
    let message = folders.error(&files("blur:sigma=2")).to_string();
    assert!(message.contains("v1 blur:sigma=1 ") && message.contains("now v1 blur:sigma=2 "), "{message}");
    let error = folders.error(&files("blur:sigma=1").with_seed(8));
    assert!(matches!(error, DistortFilesError::OtherOrigin { .. }), "{error}");
    // The same name and size with other content.
    let bytes = fs::read(folders.images().join("b.bmp")).unwrap();
    fs::write(folders.images().join("b.bmp"), [&bytes[..bytes.len() - 3], &[1, 2, 3]].concat()).unwrap();
    let error = folders.error(&files("blur:sigma=1"));
    assert!(
        matches!(&error, DistortFilesError::OtherOrigin { path, .. } if path.ends_with("b.png")),
        "{error}"
    );
    fs::write(folders.images().join("b.bmp"), bytes).unwrap();
    // An image that was removed.
    fs::remove_file(folders.images().join("c.gif")).unwrap();
    let error = folders.error(&files("blur:sigma=1"));
    assert!(matches!(&error, DistortFilesError::Orphan { path, .. } if path.ends_with("c.png")), "{error}");
    // `b.bmp` now becomes `b.bmp.png`.
    folders.draw("c.gif", 2);
    folders.draw("b.gif", 4);
    let error = folders.error(&files("blur:sigma=1"));
    assert!(matches!(&error, DistortFilesError::Orphan { path, .. } if path.ends_with("b.png")), "{error}");
    assert_eq!(folders.copies(), before);
    fs::remove_file(folders.out().join("b.png")).unwrap();
    assert_eq!(counts(&folders.run(&files("blur:sigma=1")).unwrap()), [3, 4, 0]);
}

#[test]
fn files_of_the_user_stay() {
    let folders = Folders::new();
    let files = files("blur:sigma=1");
    fs::create_dir_all(folders.out().join("sub")).unwrap();
    fs::write(folders.out().join("sub/notes.txt"), "mine").unwrap();
    fs::write(folders.out().join(".hidden.png"), "mine").unwrap();
    for name in ["mine.png", "sub/mine.PNG"] {
        let mine = folders.out().join(name);
        fs::write(&mine, "mine").unwrap();
        let error = folders.error(&files);
        assert!(matches!(&error, DistortFilesError::Orphan { path, .. } if *path == mine), "{error}");
        fs::remove_file(mine).unwrap();
    }
    // An image of the user in the place of a copy.
    folders.image("a.png").save(folders.out().join("a.png")).unwrap();
    let before = folders.copies();
    assert!(matches!(folders.error(&files), DistortFilesError::NotOurs { .. }));
    assert_eq!(folders.copies(), before);
    fs::remove_file(folders.out().join("a.png")).unwrap();
    folders.run(&files).unwrap();
    assert_eq!(folders.copies()["sub/notes.txt"], b"mine");

    for out in [folders.images(), folders.images().join("weak/er"), folders.images().join("../images/x")] {
        let error = files.folder(folders.images(), &out, |_| {}).unwrap_err();
        assert!(matches!(error, DistortFilesError::Inside { .. }), "{error}");
    }
    assert!(!folders.images().join("weak").exists());
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
fn conflicting_names_keep_their_extension() {
    let folders = Folders::new();
    folders.draw("b.gif", 4);
    folders.draw("a.bmp", 5);
    folders.draw("cat.bmp", 1);
    folders.draw("cat.png/a.bmp", 2);
    assert_eq!(counts(&folders.run(&files("grayscale")).unwrap()), [10, 0, 0]);
    for (image, out) in [
        ("a.bmp", "a.bmp.png"),
        ("a.png", "a.png"),
        ("b.bmp", "b.bmp.png"),
        ("b.gif", "b.gif.png"),
        ("cat.bmp", "cat.bmp.png"),
        ("cat.png/a.bmp", "cat.png/a.png"),
    ] {
        let grey = distortion("grayscale").apply(&folders.image(image), 0).unwrap();
        assert_eq!(folders.copy(out), grey, "{image}");
    }
    // The name of `b.gif` is taken now.
    folders.draw("b.gif.png", 2);
    folders.remove_out();
    let outcome = folders.run(&files("grayscale")).unwrap();
    assert_eq!((skipped(&outcome), outcome.skipped[0].reason), (vec!["b.gif"], SkipReason::OutputName));
}

#[test]
fn the_second_image_is_another_one_of_the_folder() {
    let folders = Folders::new();
    folders.run(&files("swap")).unwrap();
    let names = ["a.png", "b.bmp", "c.gif", "d.tiff", "sub/a.png", "sub/deep/e.png"];
    for (own, name) in names.iter().enumerate() {
        let copy = folders.copy(Path::new(name).with_extension("png").to_str().unwrap());
        assert_eq!(copy.dimensions(), folders.image(name).dimensions());
        assert_ne!(usize::from(copy.get_pixel(0, 0)[0] / 40), own);
    }
    // Images that cannot be used are not chosen.
    names[2..].iter().for_each(|name| fs::write(folders.images().join(name), "no image").unwrap());
    folders.remove_out();
    assert_eq!(counts(&folders.run(&files("swap")).unwrap()), [2, 0, 4]);
    assert_eq!(folders.copy("a.png").get_pixel(0, 0)[0], 40);
    assert_eq!(folders.run(&files("swap")).unwrap().existing, 2);
    fs::write(folders.images().join("b.bmp"), "no image").unwrap();
    folders.remove_out();
    let outcome = folders.run(&files("swap")).unwrap();
    assert!(outcome.skipped[0].detail.contains("swap needs a second image"), "{:?}", outcome.skipped[0]);
}

#[test]
fn the_second_image_can_be_given() {
    let folders = Folders { dir: tempfile::tempdir().unwrap() };
    folders.draw("a.png", 1);
    let error = folders.error(&files("blur:sigma=1+mix:share=0.5"));
    assert!(matches!(error, DistortFilesError::OnlyImage { family: "mix", .. }), "{error}");
    assert!(!folders.out().exists());
    let other = folders.dir.path().join("other.bmp");
    RgbImage::from_pixel(9, 9, Rgb([200, 0, 0])).save(&other).unwrap();
    // It is loaded once, before the first image.
    let outcome = files("swap").with_other(&other).folder(folders.images(), folders.out(), |event| {
        if let DistortEvent::Started { .. } = event {
            fs::write(&other, "no image").unwrap();
        }
    });
    assert_eq!(counts(&outcome.unwrap()), [1, 0, 0]);
    assert_eq!(*folders.copy("a.png").get_pixel(3, 3), Rgb([200, 0, 0]));
    let error = folders.error(&files("swap").with_other(&other));
    assert!(matches!(error, DistortFilesError::Distort(_)), "{error}");
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

#[test]
fn a_single_file_gets_the_same_copy_as_in_its_folder() {
    let folders = Folders::new();
    let files = files("diffusion-noise:step=100..900");
    folders.run(&files).unwrap();
    let (image, out) = (folders.images().join("b.bmp"), folders.dir.path().join("new/b.png"));
    assert_eq!(files.file(&image, &out).unwrap(), CopyState::Written);
    assert_eq!(fs::read(&out).unwrap(), folders.copies()["b.png"]);
    assert_eq!(files.file(&image, &out).unwrap(), CopyState::Existing);

    let error = |files: &DistortFiles, image: &Path, out: &Path| files.file(image, out).unwrap_err();
    let other_seed = files.clone().with_seed(8);
    assert!(matches!(error(&other_seed, &image, &out), DistortFilesError::OtherOrigin { .. }));
    let own = folders.images().join("a.png");
    assert!(matches!(error(&files, &image, &own), DistortFilesError::NotOurs { .. }));
    assert!(matches!(error(&files, &image, Path::new("b.jpg")), DistortFilesError::NotPng { .. }));
    let none = folders.dir.path().join("none.png");
    let missing = error(&files, &folders.images().join("gone.jpg"), &none);
    assert!(matches!(missing, DistortFilesError::Distort(DistortError::Missing { .. })), "{missing}");
    let swap = DistortFiles::new(distortion("swap"));
    assert!(matches!(error(&swap, &image, &none), DistortFilesError::OnlyImage { .. }));
    assert!(!none.exists());
    swap.with_other(&own).file(&image, &none).unwrap();
    let other = folders.image("a.png");
    let expected =
        distortion("swap").apply(Input::new(&folders.image("b.bmp")).with_other(&other), 0).unwrap();
    assert_eq!(load_rgb(&none, &ImageLimits::default()).unwrap(), expected);
}
