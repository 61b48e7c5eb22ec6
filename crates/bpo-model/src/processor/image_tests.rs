//! Tests of [`ImageProcessor`].

use super::*;
use crate::json::JsonError;

fn processor(json: &str) -> Result<ImageProcessor, ProcessorError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("preprocessor_config.json"), json).unwrap();
    ImageProcessor::from_dir(dir.path())
}

/// Bytes in, bytes out.
fn raw(rest: &str) -> ImageProcessor {
    processor(&format!(r#"{{"do_rescale": false, "do_normalize": false, {rest}}}"#)).unwrap()
}

#[test]
fn sizes_are_read_in_every_form() {
    let targets = [
        ("336", Target::Shortest(336)),
        (r#"{"shortest_edge": 24}"#, Target::Shortest(24)),
        ("[3, 4]", Target::Exact { height: 3, width: 4 }),
        (r#"{"width": 4, "height": 3}"#, Target::Exact { height: 3, width: 4 }),
    ];
    for (text, target) in targets {
        let read = processor(&format!(r#"{{"size": {text}, "some_new_key": 1}}"#)).unwrap();
        assert_eq!(read.resize, Some(target), "{text}");
    }
    assert_eq!(processor(r#"{"crop_size": 30}"#).unwrap().crop, Some((30, 30)));
    assert_eq!(processor(r#"{"do_center_crop": false}"#).unwrap().crop, None);
}

#[test]
fn values_that_cannot_be_used_are_refused() {
    for text in [
        r#"{"size": {"shortest_edge": 0}}"#,
        r#"{"crop_size": {"shortest_edge": 8}}"#,
        r#"{"crop_size": 0}"#,
        r#"{"image_std": [1, 0, 1]}"#,
    ] {
        assert!(matches!(processor(text), Err(ProcessorError::Json(JsonError::Value { .. }))), "{text}");
    }
    for (text, expected) in [
        (r#"{"resample": 9}"#, "`resample`: expected one of Pillow's numbers 0 to 5, found 9"),
        (
            r#"{"size": {"longest_edge": 8}}"#,
            "`size`: expected a number, [height, width], {shortest_edge} or {height, width}, found {\"longest_edge\":8}",
        ),
        (r#"{"size": -1}"#, "{height, width}, found -1"),
        (
            r#"{"crop_size": {"shortest_edge": 8}}"#,
            "`crop_size`: expected height and width, found {\"shortest_edge\":8}",
        ),
        (r#"{"size": 0}"#, "`size`: expected at least one pixel, found 0"),
        (r#"{"rescale_factor": "1"}"#, "`rescale_factor`: expected a number, found \"1\""),
        (r#"{"image_mean": [0, true, 0]}"#, "`image_mean[1]`: expected a number, found true"),
        (r#"{"image_std": [1, 0, 1]}"#, "`image_std`: expected numbers other than 0, found [1.0,0.0,1.0]"),
    ] {
        let error = processor(text).unwrap_err().to_string();
        assert!(error.contains("preprocessor_config.json: ") && error.ends_with(expected), "{text}: {error}");
    }
    let error = processor(r#"{"size": 3"#).unwrap_err();
    assert!(matches!(error, ProcessorError::Json(JsonError::Syntax { .. })), "{error}");
}

#[test]
fn a_directory_without_configs_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = ImageProcessor::from_dir(dir.path()).unwrap_err();
    assert!(matches!(&error, ProcessorError::NoImageProcessor { dir: d } if d == dir.path()));
    std::fs::write(dir.path().join("processor_config.json"), r#"{"image_processor": {"crop_size": 5}}"#)
        .unwrap();
    assert_eq!(ImageProcessor::from_dir(dir.path()).unwrap().crop, Some((5, 5)));
}

#[test]
fn the_long_side_is_truncated() {
    assert_eq!(Target::Shortest(336).of(481, 640), (336, 447));
    assert_eq!(Target::Shortest(336).of(640, 481), (447, 336));
    assert_eq!(Target::Shortest(10).of(7, 7), (10, 10));
}

#[test]
fn a_small_image_is_padded_with_black() {
    let image = RgbImage::from_pixel(2, 3, Rgb([9, 8, 7]));
    let out = raw(r#""do_resize": false, "crop_size": [4, 5]"#).process(&image).unwrap();
    assert_eq!((out.channels, out.height, out.width), (3, 4, 5));
    let mut red = [0.0; 20];
    for row in 1..4 {
        red[row * 5 + 2..row * 5 + 4].fill(9.0);
    }
    assert_eq!(out.data[..20], red);
}

#[test]
fn padding_to_a_square_uses_the_mean_colour() {
    let image = RgbImage::from_pixel(1, 4, Rgb([200, 100, 50]));
    let settings = r#""do_resize": false, "do_center_crop": false, "image_mean": [0.5, 0.1, 0.999]"#;
    let padding = r#""image_processor_type": "LlavaImageProcessor", "do_pad": true"#;
    let out = raw(&format!("{settings}, {padding}")).process(&image).unwrap();
    assert_eq!((out.height, out.width), (4, 4));
    assert_eq!(out.data[..4], [127.0, 200.0, 127.0, 127.0]);
    assert_eq!(out.data[16..20], [25.0, 100.0, 25.0, 25.0]);
    assert_eq!(out.data[32..36], [254.0, 50.0, 254.0, 254.0]);
}

#[test]
fn llavas_own_processor_pads() {
    let padding = processor(r#"{"image_processor_type": "LlavaImageProcessor", "do_pad": true}"#).unwrap();
    assert_eq!(padding.aspect(), Aspect::PadToSquare);
    assert_eq!(processor(r#"{"do_pad": true}"#).unwrap().aspect(), Aspect::ShortestEdgeCrop);
}

#[test]
fn images_without_pixels_and_huge_results_are_refused() {
    let plain = processor("{}").unwrap();
    assert!(matches!(
        plain.process(&RgbImage::new(0, 4)),
        Err(ProcessorError::EmptyImage { width: 0, height: 4 })
    ));
    // with a crop only the middle is computed; without one it would be 4000 x 16,000,000 pixels
    let thin = RgbImage::from_pixel(1, 4000, Rgb([1, 2, 3]));
    assert_eq!(plain.process(&thin).unwrap().height, 224);
    let uncropped = processor(r#"{"size": 4000, "do_center_crop": false}"#).unwrap();
    assert!(matches!(uncropped.process(&thin), Err(ProcessorError::ImageTooLarge { width: 4000, .. })));
}

#[test]
fn a_size_in_another_form_is_no_difference() {
    let config = |json: &str| serde_json::from_str::<Config>(json).unwrap();
    let square = config(r#"{"crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 32}}"#);
    assert_eq!(config(r#"{"crop_size": 32, "size": 32}"#).differences(&square), [""; 0]);
    assert_eq!(config(r#"{"crop_size": 31, "size": [32, 32]}"#).differences(&square), ["size", "crop_size"]);
}
