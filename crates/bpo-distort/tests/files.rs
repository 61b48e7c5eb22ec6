//! Folders of images to folders of weakened ones.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use bpo_distort::files::{Batch, Event, FilesError, Made, Outcome, SkipReason};
use bpo_distort::{DistortError, Distortion, Input, Limits, item_seed, load_rgb};
use image::{Rgb, RgbImage};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Two folders beside each other, one with images.
struct Folders {
    dir: TempDir,
}

impl Folders {
    /// Six images, two of them further down, and what is none.
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

    fn make(&self, batch: &Batch) -> Result<Outcome, FilesError> {
        batch.folder(self.images(), self.out(), |_| {})
    }

    /// All files of the folder that was made, with their bytes.
    fn made(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut pending = vec![self.out()];
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    let name = path.strip_prefix(self.out()).unwrap().display().to_string();
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
        found
    }

    fn image(&self, name: &str) -> RgbImage {
        load_rgb(self.images().join(name), &Limits::default()).unwrap()
    }

    fn result(&self, name: &str) -> RgbImage {
        load_rgb(self.out().join(name), &Limits::default()).unwrap()
    }
}

fn batch(text: &str) -> Batch {
    Batch::new(distortion(text)).with_seed(7)
}

fn distortion(text: &str) -> Distortion {
    text.parse().unwrap()
}

fn threads(count: usize) -> NonZero<usize> {
    NonZero::new(count).unwrap()
}

fn error(made: Result<Outcome, FilesError>) -> FilesError {
    made.expect_err("it was made")
}

#[test]
fn every_image_has_its_file_at_its_place() {
    let folders = Folders::new();
    let blur = distortion("blur:sigma=0.5..3+gaussian-noise:sigma=0.1");
    let outcome = folders.make(&Batch::new(blur.clone()).with_seed(7)).unwrap();
    assert_eq!((outcome.made, outcome.there, outcome.skipped.len()), (6, 0, 0));
    let names: Vec<_> = folders.made().into_keys().collect();
    assert_eq!(names, ["a.png", "b.png", "c.png", "d.png", "distort.json", "sub/a.png", "sub/deep/e.png"]);
    for (image, out) in [("a.png", "a.png"), ("b.bmp", "b.png"), ("sub/deep/e.png", "sub/deep/e.png")] {
        let expected = blur.apply(&folders.image(image), item_seed(7, image)).unwrap();
        assert_eq!(folders.result(out), expected, "{image}");
    }
}

#[test]
fn a_file_says_what_it_was_made_of() {
    let folders = Folders::new();
    let text = |name: &str| {
        let file = std::io::BufReader::new(fs::File::open(folders.out().join(name)).unwrap());
        let reader = png::Decoder::new(file).read_info().unwrap();
        let texts = reader.info().uncompressed_latin1_text.clone();
        assert!(matches!(&texts[..], [text] if text.keyword == "bpo-distort"), "{texts:?}");
        texts[0].text.clone()
    };
    let digest = |name: &str| -> String {
        let bytes = fs::read(folders.images().join(name)).unwrap();
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let blur = distortion("blur:sigma=0.5..3");
    folders.make(&Batch::new(blur.clone()).with_seed(7)).unwrap();
    let seed = item_seed(7, "sub/a.png");
    let expected = format!("v1 {} seed={seed} of={}", blur.drawn(seed), digest("sub/a.png"));
    assert_eq!(text("sub/a.png"), expected);

    fs::remove_dir_all(folders.out()).unwrap();
    folders.make(&batch("swap")).unwrap();
    // which image is taken is not to change between versions
    let expected = format!("v1 swap seed={seed} of={} other={}", digest("sub/a.png"), digest("b.bmp"));
    assert_eq!(text("sub/a.png"), expected);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for text in ["diffusion-noise:step=300..900", "swap+crop:keep=0.2", "mix:share=0..1"] {
        let [one, four] = [1, 4].map(|count| {
            let folders = Folders::new();
            folders.make(&batch(text).with_threads(threads(count))).unwrap();
            folders.made()
        });
        assert!(one.len() == 7 && one == four, "{text}");
    }
}

#[test]
fn what_is_there_is_not_made_again() {
    let folders = Folders::new();
    for text in ["gaussian-noise:sigma=0.1", "swap"] {
        let batch = batch(text);
        folders.make(&batch).unwrap();
        fs::write(folders.out().join("sub/a.png.part"), "somebody's").unwrap();
        let before = folders.made();
        fs::remove_file(folders.out().join("sub/a.png")).unwrap();
        let mut told = Vec::new();
        let outcome = batch.folder(folders.images(), folders.out(), |event| {
            told.push(match event {
                Event::Checking { there } => format!("{there} to check"),
                Event::Checked { out, .. } => format!("checked {}", out.exists()),
                Event::Started { there, total } => format!("{there} of {total}"),
                Event::Made { image, .. } => image.display().to_string(),
                event => panic!("{event:?}"),
            });
        });
        assert_eq!(told[0], "5 to check");
        assert_eq!(told[1..6], ["checked true"; 5]);
        assert_eq!(told[6..], ["5 of 6", "sub/a.png"]);
        assert_eq!((outcome.as_ref().unwrap().made, outcome.unwrap().there), (1, 5));
        assert_eq!(folders.made(), before);
        fs::remove_dir_all(folders.out()).unwrap();
    }
}

#[test]
fn damaged_files_are_told() {
    let folders = Folders::new();
    let batch = batch("blur:sigma=1");
    folders.make(&batch).unwrap();
    let file = folders.out().join("sub/a.png");
    let whole = fs::read(&file).unwrap();
    let flipped = |at: usize| whole.iter().enumerate().map(|(i, byte)| byte ^ u8::from(i == at)).collect();
    let cut = |end: usize| whole[..end].to_vec();
    // the text that says what it was made of begins at byte 41
    for damaged in [
        cut(0),
        cut(5),
        cut(60),
        cut(200.min(whole.len() / 2)),
        cut(whole.len() - 5),
        flipped(30),
        flipped(60),
        flipped(whole.len() - 30),
    ] {
        fs::write(&file, damaged).unwrap();
        let error = folders.make(&batch).unwrap_err();
        assert!(matches!(&error, FilesError::Damaged { path } if *path == file), "{error}");
        let error = batch.file(folders.images().join("sub/a.png"), &file).unwrap_err();
        assert!(matches!(error, FilesError::Damaged { .. }), "{error}");
    }
    fs::remove_file(&file).unwrap();
    folders.make(&batch).unwrap();
    assert_eq!(fs::read(&file).unwrap(), whole);
}

/// Limits are for what is made: what is there is not weighed again.
#[test]
fn what_is_there_stays_whatever_the_limits() {
    let folders = Folders::new();
    let (tight, default) = (Limits::default().with_max_side(8), Limits::default());
    let limits =
        [tight, default.with_max_pixels(8), default.with_max_file_bytes(8), default.with_max_millis(0)];
    for text in ["blur:sigma=1", "swap"] {
        let batch = batch(text);
        folders.make(&batch).unwrap();
        let before = folders.made();
        for limits in limits {
            let outcome = folders.make(&batch.clone().with_limits(limits)).unwrap();
            assert_eq!((outcome.made, outcome.there, outcome.skipped.len()), (0, 6, 0), "{text} {limits:?}");
        }
        assert_eq!(folders.made(), before);
        // and what is not there is not made
        fs::remove_file(folders.out().join("a.png")).unwrap();
        for limits in limits {
            let outcome = folders.make(&batch.clone().with_limits(limits)).unwrap();
            assert_eq!((outcome.made, outcome.there, outcome.skipped.len()), (0, 5, 1), "{text} {limits:?}");
        }
        fs::remove_dir_all(folders.out()).unwrap();
    }
}

#[test]
fn a_name_too_long_is_skipped_and_the_others_are_made() {
    let folders = Folders::new();
    // the longest name that most file systems take has 255 bytes, and four are added
    let long = "n".repeat(253);
    fs::copy(folders.images().join("a.png"), folders.images().join(&long)).unwrap();
    let batch = batch("blur:sigma=1").with_threads(threads(2));
    for (made, there) in [(6, 0), (0, 6)] {
        let outcome = folders.make(&batch).unwrap();
        assert_eq!((outcome.made, outcome.there), (made, there));
        let [skipped] = &outcome.skipped[..] else { panic!("{outcome:?}") };
        assert_eq!(skipped.image, Path::new(&long));
        let told = skipped.reason.to_string();
        assert!(
            matches!(&skipped.reason, SkipReason::BadName { out, .. } if told.contains(out.to_str().unwrap())),
            "{told}"
        );
    }
    // asked for by name it is an error
    let out = folders.out().join(long.clone() + ".png");
    let refused = batch.file(folders.images().join(&long), &out).unwrap_err();
    assert!(matches!(&refused, FilesError::Io { path, .. } if *path == out), "{refused}");
}

#[test]
fn several_can_make_the_same_file() {
    let folders = Folders::new();
    let (image, out) = (folders.images().join("a.png"), folders.out().join("a.png"));
    let batch = batch("blur:sigma=1");
    batch.file(&image, &out).unwrap();
    let expected = folders.made();
    for _ in 0..20 {
        fs::remove_file(&out).unwrap();
        std::thread::scope(|scope| {
            let make = || batch.file(&image, &out).unwrap();
            let makers: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            let made: Vec<_> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
            assert!(made.contains(&Made::Now), "{made:?}");
        });
        assert_eq!(folders.made(), expected);
    }
}

#[test]
fn a_set_that_grew_goes_on() {
    let folders = Folders::new();
    folders.make(&batch("blur:sigma=1")).unwrap();
    folders.draw("z.png", 3);
    let outcome = folders.make(&batch("blur:sigma=1")).unwrap();
    assert_eq!((outcome.made, outcome.there), (1, 6));
    // the other image of some is another one now, and nothing is mixed
    fs::remove_dir_all(folders.out()).unwrap();
    folders.make(&batch("swap")).unwrap();
    let before = folders.made();
    ["x1.png", "x2.png", "x3.png"].iter().for_each(|name| folders.draw(name, 5));
    assert!(matches!(error(folders.make(&batch("swap"))), FilesError::OtherOrigin { .. }));
    assert_eq!(folders.made(), before);
}

#[test]
fn other_settings_are_refused() {
    let folders = Folders::new();
    folders.make(&batch("blur:sigma=1")).unwrap();
    let before = folders.made();
    fs::remove_file(folders.out().join("a.png")).unwrap();
    let message = error(folders.make(&batch("blur:sigma=2"))).to_string();
    assert!(message.contains("distortion blur:sigma=1, not blur:sigma=2"), "{message}");
    let message = error(folders.make(&batch("blur:sigma=1").with_seed(8))).to_string();
    assert!(message.contains("seed 7, not 8"), "{message}");
    fs::write(folders.out().join("distort.json"), "{").unwrap();
    assert!(matches!(error(folders.make(&batch("blur:sigma=1"))), FilesError::Record { .. }));
    assert_eq!(folders.made().len(), before.len() - 1);
}

#[test]
fn other_images_are_refused() {
    let folders = Folders::new();
    folders.make(&batch("blur:sigma=1")).unwrap();
    let before = folders.made();
    // of the same name and size, and no longer the same
    folders.draw("b.bmp", 1);
    folders.make(&batch("blur:sigma=1")).unwrap();
    let bytes = fs::read(folders.images().join("b.bmp")).unwrap();
    fs::write(folders.images().join("b.bmp"), [&bytes[..bytes.len() - 3], &[1, 2, 3]].concat()).unwrap();
    fs::remove_file(folders.out().join("a.png")).unwrap();
    let refused = error(folders.make(&batch("blur:sigma=1")));
    assert!(matches!(&refused, FilesError::OtherOrigin { path, .. } if path.ends_with("b.png")), "{refused}");
    assert!(!folders.out().join("a.png").exists());

    fs::write(folders.images().join("b.bmp"), bytes).unwrap();
    folders.make(&batch("blur:sigma=1")).unwrap();
    fs::remove_file(folders.images().join("c.gif")).unwrap();
    let refused = error(folders.make(&batch("blur:sigma=1")));
    assert!(matches!(&refused, FilesError::Orphan { path, .. } if path.ends_with("c.png")), "{refused}");
    assert_eq!(folders.made(), before);
}

#[test]
fn a_file_whose_image_now_has_another_one_is_told() {
    let folders = Folders::new();
    folders.make(&batch("blur:sigma=1")).unwrap();
    // b.bmp would now become b.bmp.png
    folders.draw("b.gif", 4);
    let refused = error(folders.make(&batch("blur:sigma=1")));
    assert!(matches!(&refused, FilesError::Orphan { path, .. } if path.ends_with("b.png")), "{refused}");
    assert!(refused.to_string().contains("would be made of no image"), "{refused}");
    fs::remove_file(folders.out().join("b.png")).unwrap();
    let outcome = folders.make(&batch("blur:sigma=1")).unwrap();
    assert_eq!((outcome.made, outcome.there), (2, 5));
}

#[test]
fn of_foreign_files_those_that_say_png_are_refused() {
    let folders = Folders::new();
    folders.make(&batch("blur:sigma=1")).unwrap();
    fs::write(folders.out().join("sub/notes.txt"), "mine").unwrap();
    fs::write(folders.out().join(".hidden.png"), "mine").unwrap();
    folders.make(&batch("blur:sigma=1")).unwrap();
    for name in ["mine.png", "sub/mine.PNG"] {
        let mine = folders.out().join(name);
        fs::write(&mine, "mine").unwrap();
        let refused = error(folders.make(&batch("blur:sigma=1")));
        assert!(matches!(&refused, FilesError::Orphan { path, .. } if *path == mine), "{refused}");
        fs::remove_file(mine).unwrap();
    }
}

#[test]
fn foreign_folders_are_refused() {
    let folders = Folders::new();
    fs::create_dir(folders.out()).unwrap();
    fs::write(folders.out().join("thesis.tex"), "mine").unwrap();
    assert!(matches!(error(folders.make(&batch("blur:sigma=1"))), FilesError::NotOurs { .. }));
    assert_eq!(folders.made().len(), 1);

    let batch = batch("blur:sigma=1");
    for out in [folders.images(), folders.images().join("weak/er"), folders.images().join("../images/x")] {
        let refused = error(batch.folder(folders.images(), &out, |_| {}));
        assert!(matches!(refused, FilesError::Inside { .. }), "{refused}");
    }
    assert!(!folders.images().join("weak").exists());

    // an image of somebody else's at the place of one of ours
    fs::remove_dir_all(folders.out()).unwrap();
    folders.make(&batch).unwrap();
    folders.image("a.png").save(folders.out().join("a.png")).unwrap();
    assert!(matches!(error(folders.make(&batch)), FilesError::Exists { .. }));
}

#[test]
fn bad_images_are_skipped_and_the_others_are_made() {
    let folders = Folders::new();
    fs::write(folders.images().join("bad.jpg"), "no image").unwrap();
    fs::write(folders.images().join("empty.png"), "").unwrap();
    let whole = fs::read(folders.images().join("a.png")).unwrap();
    fs::write(folders.images().join("half.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folders.images().join("without-ending"), whole).unwrap();
    let batch = batch("gaussian-noise:sigma=0.1").with_threads(threads(3));
    let limits = Limits::default().with_max_side(24);
    let outcome = folders.make(&batch.clone().with_limits(limits)).unwrap();
    let told = |outcome: &Outcome| -> Vec<String> {
        outcome.skipped.iter().map(|skipped| skipped.image.display().to_string()).collect()
    };
    assert_eq!(told(&outcome), ["bad.jpg", "empty.png", "half.png", "sub/deep/e.png"]);
    let reasons: Vec<_> = outcome.skipped.iter().map(|skipped| &skipped.reason).collect();
    assert!(matches!(
        reasons[..],
        [
            SkipReason::Image(DistortError::NotAnImage { .. }),
            SkipReason::Image(DistortError::EmptyFile { .. }),
            SkipReason::Image(DistortError::Truncated { .. }),
            SkipReason::Image(DistortError::SideTooLong { limit: 24, .. }),
        ]
    ));
    assert_eq!((outcome.made, outcome.there), (6, 0));
    // they are tried again, and limits may change
    let outcome = folders.make(&batch).unwrap();
    assert_eq!(told(&outcome), ["bad.jpg", "empty.png", "half.png"]);
    assert_eq!((outcome.made, outcome.there), (1, 6));
}

#[test]
fn images_that_would_have_one_name_both_come_out() {
    let folders = Folders::new();
    folders.draw("b.gif", 4);
    folders.draw("a.bmp", 5);
    let outcome = folders.make(&batch("grayscale")).unwrap();
    assert_eq!((outcome.made, outcome.skipped.len()), (8, 0));
    let grey = |name: &str| distortion("grayscale").apply(&folders.image(name), 0).unwrap();
    for (image, out) in
        [("a.bmp", "a.bmp.png"), ("a.png", "a.png"), ("b.bmp", "b.bmp.png"), ("b.gif", "b.gif.png")]
    {
        assert_eq!(folders.result(out), grey(image), "{image}");
    }
    // one more has no name left
    folders.draw("b.gif.png", 2);
    fs::remove_dir_all(folders.out()).unwrap();
    let outcome = folders.make(&batch("grayscale")).unwrap();
    assert!(matches!(&outcome.skipped[..], [skipped]
        if skipped.image == Path::new("b.gif") && matches!(&skipped.reason, SkipReason::SameName { by, .. } if by == Path::new("b.gif.png"))));
}

#[test]
fn a_folder_with_the_name_of_a_file_does_not_end_it() {
    let folders = Folders::new();
    for (which, name) in
        ["cat.bmp", "cat.png/a.bmp", "dog", "dog.png/x.png", "distort.json/a.png"].iter().enumerate()
    {
        folders.draw(&format!("{name}.png"), which as u8);
        fs::rename(folders.images().join(format!("{name}.png")), folders.images().join(name)).unwrap();
    }
    let batch = batch("grayscale").with_threads(threads(2));
    let outcome = folders.make(&batch).unwrap();
    let grey = |name: &str| distortion("grayscale").apply(&folders.image(name), 0).unwrap();
    for (image, out) in
        [("cat.bmp", "cat.bmp.png"), ("cat.png/a.bmp", "cat.png/a.png"), ("dog.png/x.png", "dog.png/x.png")]
    {
        assert_eq!(folders.result(out), grey(image), "{image}");
    }
    // what has no other name, and what would be in the record's place
    let told = |outcome: &Outcome| -> Vec<String> {
        let told = outcome.skipped.iter().map(|skipped| match &skipped.reason {
            SkipReason::NoPlace { out } => format!("{}: {}", skipped.image.display(), out.display()),
            reason => panic!("{reason}"),
        });
        told.collect()
    };
    assert_eq!(told(&outcome), ["distort.json/a.png: distort.json/a.png", "dog: dog.png"]);
    assert_eq!(outcome.made, 9);
    let again = folders.make(&batch).unwrap();
    assert_eq!((again.made, again.there, told(&again).len()), (0, 9, 2));
}

#[test]
fn the_other_image_is_another_one_of_the_folder() {
    let folders = Folders::new();
    folders.make(&batch("swap")).unwrap();
    let names = ["a.png", "b.bmp", "c.gif", "d.tiff", "sub/a.png", "sub/deep/e.png"];
    let reds = names.map(|name| {
        let swapped = folders.result(Path::new(name).with_extension("png").to_str().unwrap());
        assert_eq!(swapped.dimensions(), folders.image(name).dimensions());
        swapped.get_pixel(0, 0)[0] / 40
    });
    assert!(reds.iter().enumerate().all(|(own, red)| usize::from(*red) != own), "{reds:?}");

    // one that cannot be used is not chosen
    for bad in ["c.gif", "d.tiff", "sub/a.png", "sub/deep/e.png"] {
        fs::write(folders.images().join(bad), "no image").unwrap();
    }
    fs::remove_dir_all(folders.out()).unwrap();
    let outcome = folders.make(&batch("swap")).unwrap();
    assert_eq!((outcome.made, outcome.skipped.len()), (2, 4));
    assert_eq!(folders.result("a.png").get_pixel(0, 0)[0], 40);
    assert_eq!(folders.make(&batch("swap")).unwrap().there, 2);
    fs::write(folders.images().join("b.bmp"), "no image").unwrap();
    fs::remove_dir_all(folders.out()).unwrap();
    let outcome = folders.make(&batch("swap")).unwrap();
    let reason = &outcome.skipped[0].reason;
    assert!(matches!(reason, SkipReason::NoOther { family: "swap", .. }), "{reason}");
}

#[test]
fn one_image_alone_has_no_other() {
    let folders = Folders { dir: tempfile::tempdir().unwrap() };
    folders.draw("a.png", 1);
    let refused = error(folders.make(&batch("blur:sigma=1+mix:share=0.5")));
    assert!(matches!(refused, FilesError::Alone { family: "mix", .. }), "{refused}");
    assert!(!folders.out().exists());
    let other = folders.dir.path().join("other.bmp");
    RgbImage::from_pixel(9, 9, Rgb([200, 0, 0])).save(&other).unwrap();
    folders.make(&batch("swap").with_other(&other)).unwrap();
    assert_eq!(*folders.result("a.png").get_pixel(3, 3), Rgb([200, 0, 0]));
    fs::write(&other, "no image").unwrap();
    assert!(matches!(error(folders.make(&batch("swap").with_other(&other))), FilesError::Distort(_)));
}

#[test]
fn the_other_image_that_is_given_is_read_once() {
    let folders = Folders::new();
    let other = folders.dir.path().join("other.bmp");
    RgbImage::from_fn(9, 7, |x, y| Rgb([(x * 20) as u8, (y * 30) as u8, 5])).save(&other).unwrap();
    let swap = batch("swap").with_other(&other).with_threads(threads(2));
    folders.make(&swap).unwrap();
    let expected = folders.made();
    fs::remove_dir_all(folders.out()).unwrap();
    // gone before the first image is worked on
    let outcome = swap.folder(folders.images(), folders.out(), |event| {
        if let Event::Started { .. } = event {
            fs::remove_file(&other).unwrap();
        }
    });
    assert_eq!((outcome.as_ref().unwrap().made, outcome.unwrap().skipped.len()), (6, 0));
    assert_eq!(folders.made(), expected);
}

#[test]
fn what_only_a_model_can_do_is_refused() {
    let folders = Folders::new();
    for text in ["no-image", "blur:sigma=1+mask-tokens:share=0.5"] {
        let refused = error(folders.make(&batch(text)));
        assert!(matches!(refused, FilesError::Distort(DistortError::NeedsModel { .. })), "{refused}");
    }
    assert!(!folders.out().exists());
}

#[test]
fn nothing_to_do_is_told() {
    let folders = Folders::new();
    let batch = batch("blur:sigma=1");
    let refused = error(batch.folder(folders.dir.path().join("gone"), folders.out(), |_| {}));
    assert!(matches!(refused, FilesError::Io { .. }), "{refused}");
    let empty = folders.dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let refused = error(batch.folder(&empty, folders.out(), |_| {}));
    assert!(matches!(refused, FilesError::NoImages { .. }), "{refused}");
    assert!(!folders.out().exists());
}

#[test]
fn a_folder_in_use_is_refused() {
    let folders = Folders::new();
    folders.make(&batch("blur:sigma=1")).unwrap();
    // one that was killed before it wrote anything
    fs::remove_dir_all(folders.out()).unwrap();
    fs::create_dir(folders.out()).unwrap();
    fs::write(folders.out().join("distort.json"), "").unwrap();
    folders.make(&batch("blur:sigma=1")).unwrap();
    let record = fs::File::open(folders.out().join("distort.json")).unwrap();
    record.lock().unwrap();
    assert!(matches!(error(folders.make(&batch("blur:sigma=1"))), FilesError::Locked { .. }));
    drop(record);
    folders.make(&batch("blur:sigma=1")).unwrap();
}

#[cfg(unix)]
#[test]
fn links_are_followed_to_files_in_the_folder_only() {
    use std::os::unix::fs::symlink;
    let folders = Folders::new();
    let outside = folders.dir.path().join("outside.png");
    folders.image("a.png").save(&outside).unwrap();
    symlink(&outside, folders.images().join("out-of-it.png")).unwrap();
    symlink(&outside, folders.images().join("also")).unwrap();
    // no image by its name
    let notes = folders.dir.path().join("notes.txt");
    fs::write(&notes, "no image").unwrap();
    symlink(&notes, folders.images().join("more-notes")).unwrap();
    symlink("sub", folders.images().join("again")).unwrap();
    symlink("..", folders.images().join("sub/loop")).unwrap();
    symlink("a.png", folders.images().join("same.png")).unwrap();
    symlink("nowhere.png", folders.images().join("torn.png")).unwrap();
    let mut total = 0;
    let outcome = batch("gaussian-noise:sigma=0.2").folder(folders.images(), folders.out(), |event| {
        if let Event::Started { total: images, .. } = event {
            total = images;
        }
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.made, 7);
    assert_eq!(total, 12);
    let told: Vec<_> = outcome
        .skipped
        .iter()
        .map(|skipped| (skipped.image.to_str().unwrap(), skipped.reason.to_string()))
        .collect();
    assert_eq!(
        told.iter().map(|told| told.0).collect::<Vec<_>>(),
        ["again", "also", "out-of-it.png", "sub/loop", "torn.png"]
    );
    assert!(matches!(outcome.skipped[0].reason, SkipReason::LinkToFolder));
    assert!(outcome.skipped[1..3].iter().all(|skipped| matches!(skipped.reason, SkipReason::LinkOut)));
    assert!(matches!(outcome.skipped[4].reason, SkipReason::Image(DistortError::Missing { .. })));
    // it has a seed of its own
    assert_ne!(folders.result("same.png"), folders.result("a.png"));
}

#[test]
fn a_file_gives_what_it_gives_in_its_folder() {
    let folders = Folders::new();
    let batch = batch("diffusion-noise:step=100..900");
    folders.make(&batch).unwrap();
    let (image, out) = (folders.images().join("b.bmp"), folders.dir.path().join("new/b.png"));
    assert_eq!(batch.file(&image, &out).unwrap(), Made::Now);
    assert_eq!(fs::read(&out).unwrap(), folders.made()["b.png"]);
    assert_eq!(batch.file(&image, &out).unwrap(), Made::Before);

    let refused = |batch: &Batch, image: &Path, out: &Path| batch.file(image, out).unwrap_err();
    assert!(matches!(refused(&batch.clone().with_seed(8), &image, &out), FilesError::OtherOrigin { .. }));
    let own = folders.images().join("a.png");
    assert!(matches!(refused(&batch, &image, &own), FilesError::Exists { .. }));
    assert!(matches!(refused(&batch, &image, Path::new("b.jpg")), FilesError::NotPng { .. }));
    let gone = folders.images().join("gone.jpg");
    let none = folders.dir.path().join("none.png");
    let missing = refused(&batch, &gone, &none);
    assert!(matches!(missing, FilesError::Distort(DistortError::Missing { .. })), "{missing}");
    let swap = Batch::new(distortion("swap"));
    assert!(matches!(refused(&swap, &image, &none), FilesError::Alone { .. }));
    assert!(!none.exists());
    swap.with_other(&own).file(&image, &none).unwrap();
    let other = folders.image("a.png");
    let expected =
        distortion("swap").apply(Input::new(&folders.image("b.bmp")).with_other(&other), 0).unwrap();
    assert_eq!(load_rgb(&none, &Limits::default()).unwrap(), expected);
}

/// To open a pipe is to wait for somebody who writes to it.
#[cfg(unix)]
#[test]
fn a_link_to_a_pipe_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (images, out) = (dir.path().join("in"), dir.path().join("out"));
    std::fs::create_dir(&images).unwrap();
    let made = std::process::Command::new("mkfifo").arg(images.join("pipe")).status().unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink("pipe", images.join("link")).unwrap();
    image::RgbImage::new(3, 2).save(images.join("a.png")).unwrap();
    let outcome = Batch::new("blur:sigma=1".parse().unwrap()).folder(&images, &out, |_| {}).unwrap();
    assert_eq!((outcome.made, outcome.skipped.len()), (1, 0));
}
