//! `bpo distort`: images, folders and sheets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::common::{bpo, command, photos};
use bpo::distort::{Distortion, Family, ImageLimits, load_rgb};
use bpo::pairs::item_seed;

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (PathBuf::from(path.file_name().unwrap()), fs::read(path).unwrap())
    };
    fs::read_dir(folder).unwrap().map(read).collect()
}

#[test]
fn interrupted_folder_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let text = "crop:keep=0.1..0.3+diffusion-noise:step=500";
    let (one, four) = (dir.path().join("one"), dir.path().join("four"));
    let make = |out: &Path, more: &[&str]| {
        let mut arguments = arguments!["distort", photos(), "--distortion", text, "--out", out];
        arguments.extend(more.iter().map(Into::into));
        bpo(arguments)
    };
    make(&one, &["--threads", "1"]).succeeds().says("distort: 5 images in");
    make(&four, &["--threads", "4"]).succeeds();
    let made = files(&one);
    assert_eq!(made, files(&four));
    let names: Vec<_> = made.keys().map(|name| name.to_str().unwrap()).collect();
    assert_eq!(names, ["astronaut.png", "cat.png", "coffee.png", "coins.png", "rocket.png"]);
    let load = |path: PathBuf| load_rgb(path, &ImageLimits::default()).unwrap();
    let distortion: Distortion = text.parse().unwrap();
    let expected = distortion.apply(&load(photos().join("cat.jpg")), item_seed(42, "cat.jpg")).unwrap();
    assert_eq!(load(one.join("cat.png")), expected);

    fs::remove_file(one.join("cat.png")).unwrap();
    make(&one, &[]).succeeds().says("4 of them from before");
    assert_eq!(files(&one), made);
    make(&one, &["--seed", "7"]).fails_naming(&["png was made from another image, distortion or seed"]);
    make(&photos(), &[]).refuses_naming(&["photos is in"]);
    make(dir.path(), &[]).fails_naming(&["four/astronaut.png is the copy of no image in"]);
    assert_eq!(files(&one), made);
}

#[test]
fn killed_distortion_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    for copy in 0..24 {
        fs::copy(photos().join("cat.jpg"), images.join(format!("{copy}.jpg"))).unwrap();
    }
    let make = |out: &Path| {
        arguments!["distort", &images, "--distortion", "swap+blur:sigma=3", "--out", out, "--threads", "2"]
    };
    let (killed, whole) = (dir.path().join("killed"), dir.path().join("whole"));
    let mut child = command(make(&killed)).stderr(Stdio::null()).spawn().unwrap();
    let is_image = |path: &Path| path.extension().is_some_and(|ending| ending == "png");
    let made = || {
        fs::read_dir(&killed)
            .map_or(0, |list| list.filter(|entry| is_image(&entry.as_ref().unwrap().path())).count())
    };
    while made() < 3 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = made();
    assert!((3..24).contains(&before), "{before} were made");
    bpo(make(&killed)).succeeds().says(&format!("{before} of them from before"));
    bpo(make(&whole)).succeeds();
    assert_eq!(files(&killed), files(&whole));
}

#[test]
fn unusable_images_are_reported_and_others_distorted() {
    let dir = tempfile::tempdir().unwrap();
    let (images, out) = (dir.path().join("images"), dir.path().join("out"));
    fs::create_dir(&images).unwrap();
    for name in ["cat.jpg", "coffee.jpg", "coins.jpg"] {
        fs::copy(photos().join(name), images.join(name)).unwrap();
    }
    fs::write(images.join("bad.jpg"), "no image").unwrap();
    let swap = arguments!["distort", &images, "--distortion", "swap", "--out", &out, "--max-side", "460"];
    let outcome = bpo(&swap).fails_naming(&["error: 2 done, 2 skipped"]);
    let outcome =
        outcome.says("bad.jpg: ").says("is not an image").says("coffee.jpg: image").says("max_side = 460");
    assert!(out.join("cat.png").exists() && out.join("coins.png").exists());
    assert_eq!(outcome.stdout, "");
}

#[test]
fn every_limit_has_a_flag_with_its_default_in_the_help() {
    let dir = tempfile::tempdir().unwrap();
    let help = bpo(["help", "distort"]).succeeds().stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let defaults = serde_json::to_value(ImageLimits::default()).unwrap();
    for (limit, default) in defaults.as_object().unwrap() {
        let flag = format!("--{}", limit.replace('_', "-"));
        let about =
            help.split_once(&format!("{flag} <N>")).unwrap_or_else(|| panic!("no {flag} in {help}")).1;
        let about = about.split("--").next().unwrap();
        assert!(about.contains(&format!("[default: {default}]")), "{flag}: {about}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let scans = root.join("bpo-distort/tests/data/jpeg/420-progressive.jpg");
    let png = root.join("bpo-model/tests/data/images/rgb.png");
    for (image, flag, value) in [
        (&scans, "max_side", "8"),
        (&scans, "max_pixels", "8"),
        (&scans, "max_file_bytes", "8"),
        (&scans, "max_scans", "1"),
        (&png, "max_millis", "0"),
    ] {
        let out = dir.path().join("out.png");
        let flag_name = format!("--{}", flag.replace('_', "-"));
        let make = arguments!["distort", image, "--distortion", "grayscale", "--out", &out, flag_name, value];
        bpo(make).fails_naming(&[flag, value]);
        assert!(!out.exists(), "{flag}");
    }
}

#[test]
fn existing_file_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("cat.png");
    let make = |text: &str, more: &[&str]| {
        let mut arguments =
            arguments!["distort", photos().join("cat.jpg"), "--distortion", text, "--out", &out];
        arguments.extend(more.iter().map(Into::into));
        bpo(arguments)
    };
    make("no-image", &[]).fails_naming(&["no-image works on the features of a model"]);
    make("swap", &[]).fails_naming(&["swap needs a second image", "cat.jpg is the only one"]);
    let other = photos().join("coins.jpg");
    make("swap", &["--other", other.to_str().unwrap()]).succeeds();
    make("swap", &["--other", other.to_str().unwrap()]).succeeds().says("exists already");
    make("blur:sigma=1", &[]).fails_naming(&["cat.png was made from another image, distortion or seed"]);
}

#[test]
fn sheet_in_the_guide_equals_output_of_its_command() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src");
    let text = fs::read_to_string(guide.join("distortions.md")).unwrap();
    let line = text.lines().find(|line| line.contains("--sheet")).expect("the guide has the command");
    let dir = tempfile::tempdir().unwrap();
    let sheet = dir.path().join("sheet.png");
    let arguments = line.split_whitespace().skip(1).map(|word| match word {
        "docs/src/images/distortions.png" => sheet.clone(),
        word if word.starts_with("examples/") => {
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(word)
        }
        word => word.into(),
    });
    bpo(arguments).succeeds();
    let load = |path: &Path| load_rgb(path, &ImageLimits::default()).unwrap();
    // not the bytes: how well they are packed is up to the build
    assert!(
        load(&sheet) == load(&guide.join("images/distortions.png")),
        "run the command of the guide again"
    );
}

#[test]
fn guide_and_help_list_all_families() {
    let guide =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/distortions.md"));
    let guide = guide.unwrap();
    // the help wraps its lines
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let help = words(&bpo(["help", "distort"]).succeeds().stdout);
    for family in Family::all() {
        assert!(guide.contains(&format!("`{}", family.name())), "{}", family.name());
        assert!(help.contains(&words(family.about())), "{}", family.name());
    }
}

#[test]
fn contradicting_arguments_are_errors() {
    let photo = photos().join("cat.jpg");
    for arguments in [
        arguments!["distort", &photo],
        arguments!["distort", &photo, "--distortion", "blur:sigma=1"],
        arguments!["distort", &photo, "--out", "x.png"],
        arguments!["distort", &photo, "--sheet", "x.png", "--distortion", "blur:sigma=1", "--out", "y.png"],
        arguments!["distort", &photo, "--sheet", "x.png", "--thumbnail", "0"],
        arguments!["distort", &photo, "--distortion", "fog", "--out", "x.png"],
        arguments!["distort", &photo, "--distortion", "blur:severity=2..4", "--out", "x.png"],
        arguments!["distort", &photo, "--distortion", "grayscale", "--distortion", "swap", "--out", "x.png"],
        arguments!["distort", &photo, "--distortion", "grayscale", "--out", "x.png", "--threads", "0"],
    ] {
        assert_eq!(bpo(&arguments).code, Some(2), "{arguments:?}");
    }
    bpo(arguments!["distort", photos(), "--sheet", "x.png"]).fails_naming(&["is not a regular file"]);
}
