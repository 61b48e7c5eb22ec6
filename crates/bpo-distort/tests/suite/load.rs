//! Loading of valid and invalid image files.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use bpo_distort::{DistortError, ImageLimits, decode_rgb, image_size, load_rgb};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use libjpeg_turbo_rs::{Encoder, PixelFormat};
use proptest::prelude::*;

use crate::png_bytes::{PNG_SIGNATURE, png_chunk, png_data, png_header, png_size};

/// The supported formats.
const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Bmp,
    ImageFormat::Gif,
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::Tiff,
    ImageFormat::WebP,
];

fn picture() -> RgbImage {
    RgbImage::from_fn(48, 32, |x, y| Rgb([(x * 5) as u8, (y * 8) as u8, (x * 37 + y * 91) as u8]))
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let image = image.into();
    if format == ImageFormat::Jpeg {
        return encode_jpeg(&image.into_rgb8()).encode().unwrap();
    }
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

fn encode_jpeg(image: &RgbImage) -> Encoder<'_> {
    let (width, height) = image.dimensions();
    Encoder::new(image.as_raw(), width as usize, height as usize, PixelFormat::Rgb).quality(90)
}

fn decode(bytes: &[u8]) -> Result<RgbImage, DistortError> {
    decode_rgb(bytes, "memory", &ImageLimits::default())
}

/// A file in a temporary directory.
struct TempFile {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn file(name: &str, bytes: &[u8]) -> TempFile {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, bytes).unwrap();
    TempFile { _directory: directory, path }
}

/// The error of loading `path`. Its message must contain the path.
fn load_error(path: &Path, limits: &ImageLimits) -> DistortError {
    let error = load_rgb(path, limits).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error} does not name {}", path.display());
    error
}

/// Compressed zeros.
fn packed_zeros(megabytes: u32) -> Vec<u8> {
    png_data(&encode(image::GrayImage::new(1 << 10, megabytes << 10), ImageFormat::Png))
}

/// Inserts an EXIF block with an orientation into a JPEG file.
fn with_exif_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0\x2a\0\0\0\x08\0\x01".to_vec();
    // Tag 0x0112, type SHORT, one value.
    tiff.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0]);
    let mut rotated = jpeg[..2].to_vec();
    rotated.extend([0xff, 0xe1, 0, (2 + 6 + tiff.len()) as u8]);
    rotated.extend(b"Exif\0\0");
    rotated.extend(tiff);
    rotated.extend(&jpeg[2..]);
    rotated
}

#[test]
fn formats_are_detected_from_the_content() {
    for format in FORMATS {
        let file = file("picture.data", &encode(picture(), format));
        let loaded = load_rgb(&file.path, &ImageLimits::default())
            .unwrap_or_else(|error| panic!("{format:?}: {error}"));
        assert_eq!(loaded.dimensions(), (48, 32), "{format:?}");
        let size = image_size(&fs::read(&file.path).unwrap(), "memory", &ImageLimits::default());
        assert_eq!(size.unwrap(), (48, 32), "{format:?}");
        if !matches!(format, ImageFormat::Jpeg | ImageFormat::Gif) {
            assert_eq!(loaded, picture(), "{format:?}");
        }
    }
}

#[test]
fn alpha_is_dropped_and_grey_repeated() {
    let clear = image::RgbaImage::from_pixel(3, 2, image::Rgba([10, 20, 30, 0]));
    assert_eq!(
        decode(&encode(clear, ImageFormat::Png)).unwrap(),
        RgbImage::from_pixel(3, 2, Rgb([10, 20, 30]))
    );
    let grey = image::GrayImage::from_pixel(3, 2, image::Luma([90]));
    assert_eq!(decode(&encode(grey, ImageFormat::Png)).unwrap(), RgbImage::from_pixel(3, 2, Rgb([90; 3])));
}

#[test]
fn exif_orientation_is_applied() {
    let jpeg = encode(picture(), ImageFormat::Jpeg);
    let upright = decode(&jpeg).unwrap();
    let turned = |orientation| decode(&with_exif_orientation(&jpeg, orientation)).unwrap();
    assert_eq!(turned(1), upright);
    assert_eq!(turned(2), image::imageops::flip_horizontal(&upright));
    assert_eq!(turned(3), image::imageops::rotate180(&upright));
    assert_eq!(turned(6), image::imageops::rotate90(&upright));
    assert_eq!(turned(8), image::imageops::rotate270(&upright));
    assert_eq!(turned(6).dimensions(), (32, 48));
    // An invalid orientation is ignored.
    assert_eq!(turned(99), upright);
}

#[test]
fn missing_file() {
    let directory = tempfile::tempdir().unwrap();
    let error = load_error(&directory.path().join("none.jpg"), &ImageLimits::default());
    assert!(matches!(error, DistortError::Missing { .. }), "{error:?}");
}

#[test]
fn directory_in_place_of_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let error = load_error(directory.path(), &ImageLimits::default());
    assert!(matches!(error, DistortError::NotAFile { .. }), "{error:?}");
}

#[cfg(unix)]
#[test]
fn unreadable_file() {
    // A file in place of a directory is an error for every user, unlike missing permissions.
    let file = file("picture.png", &encode(picture(), ImageFormat::Png));
    let error = load_error(&file.path.join("picture.png"), &ImageLimits::default());
    assert!(matches!(error, DistortError::Unreadable { .. }), "{error:?}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn file_of_zero_bytes() {
    let error = load_error(&file("empty.png", b"").path, &ImageLimits::default());
    assert!(matches!(error, DistortError::EmptyFile { .. }), "{error:?}");
}

#[test]
fn text_with_an_image_extension() {
    let error = load_error(&file("notes.jpg", b"this is no picture at all").path, &ImageLimits::default());
    assert!(matches!(error, DistortError::NotAnImage { .. }), "{error:?}");
}

#[test]
fn known_format_that_is_not_supported() {
    let error =
        load_error(&file("picture.qoi", b"qoif\0\0\0\x01\0\0\0\x01\x03\0").path, &ImageLimits::default());
    assert!(matches!(error, DistortError::Unsupported { .. }), "{error:?}");
}

#[test]
fn sides_are_limited_before_decoding() {
    // There is no data after the header: decoding would fail with another error.
    let error = load_error(&file("wide.png", &png_header(30_000, 4)).path, &ImageLimits::default());
    assert!(
        matches!(error, DistortError::SideTooLong { width: 30_000, height: 4, limit: 16_384, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("30000 x 4 pixels, which exceeds max_side = 16384"), "{error}");
}

#[test]
fn pixels_are_limited_before_decoding() {
    let error = load_error(&file("bomb.png", &png_header(16_000, 16_000)).path, &ImageLimits::default());
    assert!(matches!(error, DistortError::TooManyPixels { limit: 100_000_000, .. }), "{error:?}");
    let error = image_size(&png_header(16_000, 16_000), "memory", &ImageLimits::default()).unwrap_err();
    assert!(matches!(error, DistortError::TooManyPixels { .. }), "{error:?}");
    let bytes = encode(picture(), ImageFormat::Png);
    let exact = ImageLimits::default().with_max_side(48).with_max_pixels(48 * 32);
    assert_eq!(decode_rgb(&bytes, "memory", &exact).unwrap(), picture());
    assert!(decode_rgb(&bytes, "memory", &exact.with_max_side(47)).is_err());
    assert!(decode_rgb(&bytes, "memory", &exact.with_max_pixels(48 * 32 - 1)).is_err());
}

#[test]
fn file_size_is_limited() {
    let bytes = encode(picture(), ImageFormat::Png);
    let (size, file) = (bytes.len() as u64, file("picture.png", &bytes));
    assert!(load_rgb(&file.path, &ImageLimits::default().with_max_file_bytes(size)).is_ok());
    let error = load_error(&file.path, &ImageLimits::default().with_max_file_bytes(size - 1));
    assert!(matches!(error, DistortError::FileTooLarge { found, .. } if found == size), "{error:?}");
}

#[test]
fn truncated_files() {
    for format in FORMATS {
        let bytes = encode(picture(), format);
        for kept in [bytes.len() / 2, bytes.len() * 9 / 10] {
            let error = load_error(&file("cut.img", &bytes[..kept]).path, &ImageLimits::default());
            let cut = matches!(error, DistortError::Truncated { .. } | DistortError::Undecodable { .. });
            assert!(cut, "{format:?} cut to {kept} of {}: {error:?}", bytes.len());
            if matches!(format, ImageFormat::Jpeg | ImageFormat::Png) {
                assert!(
                    matches!(error, DistortError::Truncated { .. }),
                    "{format:?} cut to {kept}: {error:?}"
                );
            }
        }
    }
}

/// A JPEG file without its end marker is valid only if every block is present. Missing blocks are
/// never invented.
#[test]
fn truncated_jpeg_files_never_give_another_image() {
    let image = picture();
    for bytes in [encode_jpeg(&image), encode_jpeg(&image).progressive(true)].map(|e| e.encode().unwrap()) {
        let whole = decode(&bytes).unwrap();
        for kept in 1..bytes.len() {
            match decode(&bytes[..kept]) {
                Ok(image) => assert_eq!(image, whole, "cut to {kept} of {}", bytes.len()),
                Err(error) => assert!(error.to_string().contains("memory"), "{error}"),
            }
        }
    }
}

#[test]
fn damaged_file() {
    let mut bytes = encode(picture(), ImageFormat::Png);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    let error = load_error(&file("damaged.png", &bytes).path, &ImageLimits::default());
    assert!(matches!(error, DistortError::Undecodable { .. }), "{error:?}");
    assert!(std::error::Error::source(&error).is_some());
}

/// Error messages contain no debug output, for a wrong byte anywhere in any format.
#[test]
fn errors_contain_no_debug_output() {
    for format in FORMATS {
        let bytes = encode(picture(), format);
        for at in 0..bytes.len().min(400) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x5a;
            let Err(error) = decode(&bytes) else { continue };
            let mut source = Some(&error as &dyn std::error::Error);
            while let Some(error) = source {
                let shown = error.to_string();
                for debug in ["{ ", "Some(", "Unknown(", "ChunkType", "Lab(", "Gray(", "Palette("] {
                    assert!(!shown.contains(debug), "{format:?}, byte {at}: {shown}");
                }
                source = error.source();
            }
        }
    }
}

#[test]
fn png_with_a_wrong_size() {
    let data = png_chunk(b"IDAT", &png_data(&encode(picture(), ImageFormat::Png)));
    let claiming = |width, height| {
        let png = [PNG_SIGNATURE, &png_size(width, height), &data, &png_chunk(b"IEND", b"")].concat();
        decode(&png)
    };
    assert_eq!(claiming(48, 32).unwrap(), picture());
    for (width, height) in [(48, 33), (49, 32), (480, 320), (10_000, 10_000)] {
        let error = claiming(width, height).unwrap_err();
        let named = matches!(error, DistortError::Truncated { .. } | DistortError::Undecodable { .. });
        assert!(named, "{width} x {height}: {error:?}");
    }
    // Surplus rows are ignored.
    assert_eq!(claiming(48, 20).unwrap(), image::imageops::crop_imm(&picture(), 0, 0, 48, 20).to_image());
}

#[test]
fn decompression_bombs() {
    let bomb = packed_zeros(200);
    assert!(bomb.len() < 2 << 20);
    let png = |chunks: &[&[u8]]| [PNG_SIGNATURE, &png_size(2, 2), &chunks.concat()].concat();
    let end = png_chunk(b"IEND", b"");
    let black = RgbImage::new(2, 2);

    // Surplus rows are not decompressed.
    assert_eq!(decode(&png(&[&png_chunk(b"IDAT", &bomb), &end])).unwrap(), black);

    // A colour profile and a text, which are not needed.
    let rows = png_chunk(b"IDAT", &png_data(&encode(black.clone(), ImageFormat::Png)));
    let profile = png_chunk(b"iCCP", &[b"profile\0\0", &bomb[..]].concat());
    let text = png_chunk(b"zTXt", &[b"text\0\0", &bomb[..]].concat());
    for chunk in [profile, text] {
        match decode(&png(&[&chunk, &rows, &end])) {
            Ok(image) => assert_eq!(image, black),
            Err(error) => assert!(matches!(error, DistortError::Undecodable { .. }), "{error:?}"),
        }
    }
}

#[test]
fn scans_are_limited() {
    let image = picture();
    let jpeg = encode_jpeg(&image).progressive(true).encode().unwrap();
    let scans = jpeg.windows(2).filter(|bytes| *bytes == [0xff, 0xda]).count() as u32;
    assert!(scans >= 6);
    let limited = |bytes: &[u8], max_scans| {
        decode_rgb(bytes, "memory", &ImageLimits::default().with_max_scans(max_scans))
    };
    assert!(limited(&jpeg, scans).is_ok());
    let error = limited(&jpeg, scans - 1).unwrap_err();
    assert!(matches!(error, DistortError::TooManyScans { limit, .. } if limit == scans - 1), "{error:?}");

    // The first scan, repeated.
    let start = jpeg.windows(2).position(|bytes| bytes == [0xff, 0xda]).unwrap();
    let length = jpeg[start + 2..].windows(2).position(|b| b[0] == 0xff && b[1] != 0).unwrap() + 2;
    let (scan, rest) = jpeg[start..].split_at(length);
    let bomb = [&jpeg[..start], &scan.repeat(33 - scans as usize), rest].concat();
    assert!(decode(&bomb).is_ok(), "32 scans");
    let bomb = [&jpeg[..start], &scan.repeat(34 - scans as usize), rest].concat();
    let error = decode(&bomb).unwrap_err();
    assert!(matches!(error, DistortError::TooManyScans { limit: 32, .. }), "{error:?}");
}

#[test]
fn time_is_limited() {
    for format in FORMATS.into_iter().filter(|format| *format != ImageFormat::Jpeg) {
        let bytes = encode(picture(), format);
        let limited =
            |max_millis| decode_rgb(&bytes, "memory", &ImageLimits::default().with_max_millis(max_millis));
        assert!(limited(u64::MAX).is_ok(), "{format:?}");
        let error = limited(0).unwrap_err();
        assert!(matches!(error, DistortError::TooSlow { limit: 0, .. }), "{format:?}: {error:?}");
    }
}

#[test]
fn limits_are_read_from_configuration() {
    let limits: ImageLimits = serde_json::from_str(r#"{"max_side": 99}"#).unwrap();
    assert_eq!(limits, ImageLimits::default().with_max_side(99));
    assert!(serde_json::from_str::<ImageLimits>(r#"{"max_sides": 99}"#).is_err());
}

proptest! {
    #[test]
    fn damaged_files_do_not_panic(
        format in prop::sample::select(FORMATS.to_vec()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        kept in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode(picture(), format);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(kept.index(bytes.len()) + 1);
        // An image above the limit must not be allocated.
        let limits = ImageLimits::default().with_max_pixels(1 << 16);
        if let Ok(image) = decode_rgb(&bytes, "memory", &limits) {
            prop_assert!(u64::from(image.width()) * u64::from(image.height()) <= limits.max_pixels);
        }
    }
}
