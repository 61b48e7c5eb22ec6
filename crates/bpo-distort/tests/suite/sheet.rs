//! Contact sheets.

use std::path::Path;

use bpo_distort::{DistortError, Family, ImageLimits, Input, MAX_THUMBNAIL, Severity, Sheet, load_rgb};
use image::imageops::crop_imm;
use image::{GenericImageView, Rgb, RgbImage};

fn photo(name: &str) -> RgbImage {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/photos");
    load_rgb(folder.join(name), &ImageLimits::default()).unwrap()
}

fn small() -> RgbImage {
    RgbImage::from_fn(48, 32, |x, y| Rgb([(x * 5) as u8, (y * 7) as u8, 30]))
}

fn families(names: &[&str]) -> Vec<&'static Family> {
    names.iter().map(|name| Family::named(name).unwrap()).collect()
}

/// All positions of an image on a sheet.
fn places(sheet: &RgbImage, wanted: &RgbImage) -> Vec<(u32, u32)> {
    let (right, bottom) = (sheet.width() - wanted.width(), sheet.height() - wanted.height());
    let all = (0..=bottom).flat_map(|y| (0..=right).map(move |x| (x, y)));
    let is_at = |&(x, y): &(u32, u32)| {
        wanted.enumerate_pixels().all(|(i, j, pixel)| sheet.get_pixel(x + i, y + j) == pixel)
    };
    all.filter(is_at).collect()
}

#[test]
fn cells_show_the_distorted_image() {
    let (image, other) = (small(), RgbImage::from_pixel(5, 5, Rgb([9, 200, 9])));
    let input = Input::new(&image).with_other(&other);
    let names = ["gaussian-noise", "crop", "mix"];
    let sheet = Sheet::new().with_families(families(&names)).with_seed(3).draw(input).unwrap();
    // The original, at the left of each row.
    let originals = places(&sheet, &image);
    assert_eq!(originals.len(), 3);
    assert!(originals.iter().all(|(x, _)| *x == originals[0].0));
    for (name, (left, top)) in names.iter().zip(originals) {
        let mut last = left;
        for severity in Severity::all() {
            let distortion = Family::named(name).unwrap().severity(severity).unwrap();
            let found = places(&sheet, &distortion.apply(input, 3).unwrap());
            assert_eq!(found.len(), 1, "{distortion}");
            assert!(found[0].1 == top && found[0].0 >= last + image.width(), "{distortion}");
            last = found[0].0;
        }
    }
}

#[test]
fn thumbnails_keep_the_aspect_ratio() {
    let image = photo("cat.jpg");
    let grid = |side: u32| {
        Sheet::new().with_families(families(&["grayscale"])).with_thumbnail(side).draw(&image).unwrap()
    };
    let (narrow, wide) = (grid(90), grid(180));
    assert_eq!(wide.height() - narrow.height(), 60, "451 x 300 is 90 x 60 and 180 x 120");
    let both =
        Sheet::new().with_families(families(&["grayscale", "jpeg"])).with_thumbnail(90).draw(&image).unwrap();
    let rows = (both.height() - narrow.height()) as i64;
    // The first column that is not white, below the name.
    let left = (0..both.width()).find(|&x| both.get_pixel(x, 70) != &Rgb([255; 3])).unwrap();
    let first = crop_imm(&both, left, 32, 90, 60).to_image();
    assert_eq!(places(&both, &first), [(left, 32), (left, 32 + rows as u32)]);
    assert!(first.pixels().any(|pixel| pixel[0] != pixel[1]), "it has colours");
    // Images are not enlarged.
    let whole =
        Sheet::new().with_families(families(&["jpeg"])).with_thumbnail(u32::MAX).draw(&small()).unwrap();
    assert_eq!(places(&whole, &small()).len(), 1);
    assert!(whole.width() < MAX_THUMBNAIL && grid(0).height() > 0);
}

#[test]
fn names_levels_and_parameters_are_drawn() {
    let white = RgbImage::from_pixel(48, 32, Rgb([255; 3]));
    let sheet = |names: &[&str]| Sheet::new().with_families(families(names)).draw(&white).unwrap();
    // A white image leaves only text.
    let dark = |sheet: &RgbImage, x: std::ops::Range<u32>, y: std::ops::Range<u32>| {
        let part = sheet.view(x.start, y.start, x.end - x.start, y.end - y.start);
        part.pixels().filter(|(_, _, pixel)| pixel[0] < 100).count()
    };
    let jpeg = sheet(&["blur"]);
    let head = 0..30;
    assert!(dark(&jpeg, 0..jpeg.width(), head) > 200, "levels");
    assert!(dark(&jpeg, 0..40, 30..50) > 20, "the family's name");
    let below = jpeg.height() - 24..jpeg.height();
    assert!(dark(&jpeg, 100..jpeg.width(), below) > 150, "parameters");
    // Parameters that are equal in all cells are below the name.
    assert!(dark(&sheet(&["motion-blur"]), 0..40, 48..64) > 20 && dark(&jpeg, 0..40, 48..64) == 0);
    assert_ne!(sheet(&["blur"]), sheet(&["motion-blur"]));
}

#[test]
fn default_rows_are_the_applicable_families() {
    let (image, other) = (small(), small());
    let height = |input: Input<'_>, families: Option<&[&str]>| {
        let sheet = Sheet::new();
        let sheet = match families {
            Some(names) => sheet.with_families(self::families(names)),
            None => sheet,
        };
        sheet.draw(input).unwrap().height()
    };
    let one = height(Input::new(&image), Some(&["occlude"]));
    let row = height(Input::new(&image), Some(&["occlude", "blank"])) - one;
    let rows = |input: Input<'_>| (height(input, None) - one) / row + 1;
    let with_levels = Family::all().filter(|family| {
        family.severity(Severity::MIN).is_some() && !family.needs_model() && !family.needs_other()
    });
    assert_eq!(rows(Input::new(&image)) as usize, with_levels.count());
    assert_eq!(rows(Input::new(&image).with_other(&other)), rows(Input::new(&image)) + 2, "mix and swap");

    let refused = |name: &str| Sheet::new().with_families(families(&[name])).draw(&image).unwrap_err();
    assert!(matches!(refused("mask-tokens"), DistortError::NeedsModel { .. }));
    assert!(matches!(refused("swap"), DistortError::NeedsOther { .. }));
    // Degenerate sizes.
    for (width, height) in [(0, 0), (1, 1), (1, 900), (900, 1)] {
        Sheet::new().with_thumbnail(30).draw(&RgbImage::new(width, height)).unwrap();
    }
    Sheet::new().with_families([]).draw(&image).unwrap();
}
