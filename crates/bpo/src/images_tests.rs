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
