//! New copies.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use bpo::distort::{DistortError, ImageLimits, Input, PngText, load_rgb, read_png_text};
use bpo::pairs::{SkipReason, item_seed};
use bpo::{CopyState, DistortEvent, DistortFiles, DistortFilesError};
use image::{Rgb, RgbImage};

use crate::{Folders, counts, distortion, files, skipped, threads};

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
        bpo_pairs::Fingerprint::of(bytes).to_string()
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
