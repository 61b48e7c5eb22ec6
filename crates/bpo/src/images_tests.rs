use super::*;

#[test]
fn fingerprints_of_images_are_of_names_and_sizes() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&dir, &other] {
        fs::write(dir.path().join("a.png"), "12345").unwrap();
    }
    let print = |dir: &tempfile::TempDir, names: &[&str]| {
        ImageRoot::new(dir).unwrap().fingerprint(names.iter().copied())
    };
    let expected = print(&dir, &["a.png", "b.png"]);
    assert_eq!(print(&other, &["b.png", "a.png", "b.png"]), expected);
    assert_ne!(print(&other, &["a.png"]), expected);
    fs::write(other.path().join("a.png"), "1234").unwrap();
    assert_ne!(print(&other, &["a.png", "b.png"]), expected);
    fs::write(dir.path().join("b.png"), "").unwrap();
    assert_ne!(print(&dir, &["a.png", "b.png"]), expected);
    // files outside the root do not count
    let outside = print(&dir, &["../a", "/etc/passwd"]);
    assert_eq!(print(&other, &["../a", "/etc/passwd"]), outside);
}

#[test]
fn image_names_outside_the_root_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let images = tempfile::Builder::new().prefix("images").tempdir_in(dir.path()).unwrap();
    let root_dir = images.path().to_owned();
    fs::create_dir_all(root_dir.join("a")).unwrap();
    RgbImage::new(4, 3).save(root_dir.join("a/in.png")).unwrap();
    fs::copy(root_dir.join("a/in.png"), dir.path().join("out.png")).unwrap();
    fs::write(root_dir.join("zero.png"), "").unwrap();

    let root = ImageRoot::new(&root_dir).unwrap();
    assert_eq!(root.load("./a/in.png").unwrap().dimensions(), (4, 3));

    root.check("./a/in.png").unwrap();

    let reason = |name: &str| {
        let (error, checked) = (root.load(name).unwrap_err(), root.check(name).unwrap_err());
        assert_eq!(checked.to_string(), error.to_string());
        error.reason()
    };
    let absolute = root_dir.join("a/in.png");
    assert_eq!(reason(absolute.to_str().unwrap()), Some(SkipReason::ImageOutside));
    assert_eq!(reason("../out.png"), Some(SkipReason::ImageOutside));
    assert_eq!(reason("a/../a/in.png"), Some(SkipReason::ImageOutside));
    assert_eq!(reason("no.png"), Some(SkipReason::ImageMissing));
    assert_eq!(reason("zero.png"), Some(SkipReason::ImageUnreadable));
    assert_eq!(reason("a/in.png/b.png"), Some(SkipReason::ImageUnreadable));
    for odd in ["", "a", "nul\0.png"] {
        assert_eq!(reason(odd), Some(SkipReason::ImageUnreadable), "{odd:?}");
    }
    let message = root.load("../out.png").unwrap_err().to_string();
    assert!(message.contains("\"../out.png\"") && message.contains("images"), "{message}");

    let small = root.clone().with_limits(ImageLimits::default().with_max_side(3));
    assert_eq!(small.load("a/in.png").unwrap_err().reason(), Some(SkipReason::ImageTooLarge));

    images.close().unwrap();
    assert!(matches!(root.load("a/in.png"), Err(ImageError::Root { .. })));
    assert!(matches!(ImageRoot::new(&root_dir), Err(ImageError::Root { .. })));
    assert!(matches!(ImageRoot::new(dir.path().join("out.png")), Err(ImageError::Root { .. })));
}

/// Writes a GIF of four frames, whose red level is 50 times their number.
fn write_gif(path: &Path) {
    let mut encoder = image::codecs::gif::GifEncoder::new(fs::File::create(path).unwrap());
    let frame = |number: u8| {
        let pixels = image::RgbaImage::from_pixel(5, 3, image::Rgba([50 * number, 0, 0, 255]));
        image::Frame::from_parts(pixels, 0, 0, image::Delay::from_numer_denom_ms(100, 1))
    };
    encoder.encode_frames((0..4).map(frame)).unwrap();
}

#[test]
fn frames_are_found_by_name() {
    let dir = tempfile::tempdir().unwrap();
    write_gif(&dir.path().join("a.gif"));
    fs::create_dir(dir.path().join("b")).unwrap();
    for name in ["b/1.png", "c#1.png", "c#2"] {
        let format = image::ImageFormat::Png;
        RgbImage::from_pixel(2, 2, image::Rgb([200, 0, 0]))
            .save_with_format(dir.path().join(name), format)
            .unwrap();
    }
    let root = ImageRoot::new(dir.path()).unwrap();
    let names =
        ["b#1.png", "a.gif#3", "a.gif#0", "a.gif#9", "a.gif#4", "c#1.png", "a.gif#1", "b#2.png", "c#2"];
    let mut found = vec![None; names.len()];
    root.load_each(&names, &mut |place, image| {
        let image = image.map_err(|error| error.reason());
        found[place] = Some(image.map(|image| image.get_pixel(0, 0)[0].next_multiple_of(50)));
    });
    let unreadable = Some(Err(Some(SkipReason::ImageUnreadable)));
    let red = |level| Some(Ok(level));
    let missing = Some(Err(Some(SkipReason::ImageMissing)));
    let expected = [red(200), red(150), red(0), unreadable, unreadable, red(200), red(50), missing, red(200)];
    assert_eq!(found, expected);
    let is_frame = |name: &&str| root.is_frame(name);
    assert_eq!(names.iter().map(is_frame).collect::<Vec<_>>()[4..], [true, false, true, true, false]);
    // frames that do not exist are found without loading
    root.check("a.gif#3").unwrap();
    let error = root.check("a.gif#4").unwrap_err();
    assert!(matches!(error, ImageError::Load { source: DistortError::NoFrame { frames: 4, .. }, .. }));
    assert!(root.check("b#2.png").is_err());
    assert!(root.check("../b#1.png").is_err());
}

#[cfg(unix)]
#[test]
fn links_outside_the_root_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let root_dir = dir.path().join("images");
    fs::create_dir(&root_dir).unwrap();
    RgbImage::new(2, 2).save(dir.path().join("out.png")).unwrap();
    RgbImage::new(2, 2).save(root_dir.join("in.png")).unwrap();
    std::os::unix::fs::symlink("../out.png", root_dir.join("out.png")).unwrap();
    std::os::unix::fs::symlink("in.png", root_dir.join("alias.png")).unwrap();

    let root = ImageRoot::new(&root_dir).unwrap();
    assert!(root.load("alias.png").is_ok());
    let outside = root.load("out.png").unwrap_err();
    assert!(matches!(outside, ImageError::Outside { escape: Escape::Link, .. }), "{outside}");
}

/// Writes pairs about images of a directory to a Parquet file that has their bytes.
#[cfg(feature = "parquet")]
fn write_parquet(root: &Path, out: &Path, images: &[&[&str]]) {
    use bpo_pairs::format::{ConvertOptions, Format, convert};

    let pair = |(number, names): (usize, &&[&str])| {
        let prompt = format!("{}What?", "<image>\n".repeat(names.len()));
        serde_json::json!({"id": number, "images": names, "prompt": prompt, "chosen": "A.", "rejected": "B.",
            "kind": "llm-hal"})
        .to_string()
    };
    let list = out.with_extension("jsonl");
    fs::write(&list, images.iter().enumerate().map(pair).collect::<Vec<_>>().join("\n")).unwrap();
    let (filter, root) = (bpo_pairs::PairFilter::default(), ImageRoot::new(root).unwrap());
    let mut options = ConvertOptions::new(&filter);
    options.images = Some(&root);
    convert(&list, out, Format::Pairs, &options, &mut |one| panic!("{one:?}")).unwrap();
}

#[cfg(feature = "parquet")]
#[test]
fn images_in_rows_are_loaded_as_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("data")).unwrap();
    for level in [10, 20_u8] {
        RgbImage::from_pixel(6, 4, image::Rgb([level; 3])).save(at(&format!("{level}.png"))).unwrap();
    }
    // the orientation is in the metadata
    let turned = concat!(env!("CARGO_MANIFEST_DIR"), "/../bpo-distort/tests/data/jpeg/turned.jpg");
    fs::copy(turned, at("30.png")).unwrap();
    write_gif(&at("a.gif"));
    fs::write(at("text.png"), "no image").unwrap();
    let rows: [&[&str]; 4] = [&["10.png"], &["20.png", "10.png"], &["30.png"], &["text.png", "a.gif"]];
    write_parquet(dir.path(), &at("data/a#1.parquet"), &rows);

    let root = ImageRoot::new(dir.path()).unwrap();
    let name = |place: &str| format!("data/a#1.parquet#images/{place}");
    for (place, file) in [("0/0", "10.png"), ("1/0", "20.png"), ("1/1", "10.png"), ("2/0", "30.png")] {
        let name = name(place);
        assert_eq!(root.load(&name).unwrap(), root.load(file).unwrap(), "{name}");
        assert_eq!(root.check(&name).unwrap(), root.check(file).unwrap(), "{name}");
        assert_eq!(root.bytes(&name).unwrap(), fs::read(at(file)).unwrap(), "{name}");
        assert!(!root.is_frame(&name));
    }
    // an animated image is its first frame
    assert_eq!(root.load(&name("3/1")).unwrap(), root.load("a.gif").unwrap());

    let names = [name("1/1"), "a.gif#2".to_owned(), name("9/0"), "a.gif#1".to_owned(), name("0/0")];
    let mut found = vec![None; names.len()];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    root.load_each(&names, &mut |place, image| {
        found[place] = Some(image.map(|image| image.get_pixel(0, 0)[0]).map_err(|error| error.reason()));
    });
    let expected = [Ok(10), Ok(100), Err(Some(SkipReason::ImageMissing)), Ok(50), Ok(10)].map(Some);
    assert_eq!(found, expected);

    let error = root.load(&name("3/0")).unwrap_err();
    assert_eq!(error.reason(), Some(SkipReason::ImageUnreadable));
    assert!(chain(&error).contains("a#1.parquet#images/3/0"), "{}", chain(&error));
    let small = root.clone().with_limits(ImageLimits::default().with_max_side(3));
    assert_eq!(small.check(&name("0/0")).unwrap_err().reason(), Some(SkipReason::ImageTooLarge));
    let small = root.clone().with_limits(ImageLimits::default().with_max_file_bytes(20));
    for found in [small.load(&name("0/0")).map(drop), small.check(&name("0/0")).map(drop)] {
        let error = found.unwrap_err();
        assert_eq!(error.reason(), Some(SkipReason::ImageTooLarge), "{error}");
        assert!(chain(&error).contains("above the limit of 20"), "{}", chain(&error));
    }
    assert_eq!(small.bytes(&name("0/0")).unwrap_err().reason, SkipReason::ImageTooLarge);

    // the content of the file is in the fingerprint, and a file of that name comes first
    let before = root.fingerprint([name("0/0").as_str()]);
    let mut bytes = fs::read(at("data/a#1.parquet")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(at("data/a#1.parquet"), bytes).unwrap();
    assert_ne!(root.fingerprint([name("0/0").as_str()]), before, "a file of the same size");
    write_parquet(dir.path(), &at("data/a#1.parquet"), &rows[..1]);
    assert_ne!(root.fingerprint([name("0/0").as_str()]), before);
    fs::create_dir_all(at("data/a#1.parquet#images/0")).unwrap();
    fs::copy(at("20.png"), at(&name("0/0"))).unwrap();
    assert_eq!(root.load(&name("0/0")).unwrap(), root.load("20.png").unwrap());
}

#[cfg(feature = "parquet")]
#[test]
fn hostile_names_of_rows_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("root/sub")).unwrap();
    RgbImage::new(4, 3).save(at("root/a.png")).unwrap();
    write_parquet(&at("root"), &at("root/in.parquet"), &[&["a.png"]]);
    fs::copy(at("root/in.parquet"), at("out.parquet")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("../out.parquet", at("root/link.parquet")).unwrap();
    let root = ImageRoot::new(at("root")).unwrap();
    assert!(root.load("./in.parquet#images/0/0").is_ok());
    let outside = at("out.parquet");
    for (name, reason) in [
        ("../out.parquet#images/0/0", SkipReason::ImageOutside),
        ("sub/../in.parquet#images/0/0", SkipReason::ImageOutside),
        (&*format!("{}#images/0/0", outside.display()), SkipReason::ImageOutside),
        #[cfg(unix)]
        ("link.parquet#images/0/0", SkipReason::ImageOutside),
        ("gone.parquet#images/0/0", SkipReason::ImageMissing),
        ("#images/0/0", SkipReason::ImageMissing),
        ("in.parquet#images/00/0", SkipReason::ImageMissing),
        ("in.parquet#images/../0", SkipReason::ImageOutside),
        ("in.parquet#pro\u{1b}mpt/0", SkipReason::ImageMissing),
        ("in.parquet#images/99999999999/0", SkipReason::ImageMissing),
        ("a.png#images/0/0", SkipReason::ImageUnreadable),
        ("sub#images/0/0", SkipReason::ImageUnreadable),
    ] {
        let error = root.load(name).unwrap_err();
        assert_eq!(error.reason(), Some(reason), "{name}: {}", chain(&error));
        assert!(!chain(&error).contains('\u{1b}'));
        assert_eq!(root.check(name).unwrap_err().reason(), Some(reason), "{name}");
        assert_eq!(root.bytes(name).unwrap_err().reason, reason, "{name}");
    }
    // a column of text
    let error = root.load("in.parquet#prompt/0").unwrap_err();
    assert_eq!(error.reason(), Some(SkipReason::ImageUnreadable), "{}", chain(&error));
}

#[cfg(not(feature = "parquet"))]
#[test]
fn images_in_rows_need_the_feature() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.parquet"), "PAR1").unwrap();
    let error = ImageRoot::new(dir.path()).unwrap().load("a.parquet#image/0").unwrap_err();
    assert!(chain(&error).contains("--features parquet"), "{}", chain(&error));
    assert_eq!(error.reason(), Some(SkipReason::ImageUnreadable));
}
