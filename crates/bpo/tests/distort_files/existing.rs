//! Existing copies and other files.

use std::fs;

use bpo::distort::ImageLimits;
use bpo::{DistortEvent, DistortFilesError};

use crate::{Folders, counts, files};

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
