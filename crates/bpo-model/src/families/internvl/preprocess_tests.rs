//! The preprocessor over a checkpoint directory with small tiles. Golden values of transformers are
//! compared in `tests/suite/families.rs`.

use std::path::Path;

use bpo_distort::resize::Filter;
use image::Rgb;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::families::VlmConfig;
use crate::processor::Processor;

/// Tiles of 8 x 8 pixels with 4 x 4 patches and 4 image tokens.
const CONFIG: &str = r#"{
    "model_type": "internvl", "image_token_id": 320,
    "text_config": {"vocab_size": 400, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2},
    "vision_config": {"hidden_size": 8, "num_attention_heads": 2, "image_size": 8, "patch_size": 2}
}"#;

/// Settings that keep levels as they are, so that pixels can be compared.
fn levels() -> Value {
    json!({"size": {"height": 8, "width": 8}, "max_patches": 6, "do_rescale": false, "do_normalize": false})
}

fn checkpoint(image_processor: &Value, processor: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny-llava");
    std::fs::copy(golden.join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let tokens = json!({
        "bos_token": "<s>", "eos_token": "</s>", "start_image_token": "<start>",
        "extra_special_tokens": ["<start>", "</img>"],
        "chat_template": "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}\
                          {{ c['text'] }}{% endif %}{% endfor %}{% endfor %}",
    });
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    write("config.json", CONFIG.to_owned());
    write("tokenizer_config.json", tokens.to_string());
    write("preprocessor_config.json", image_processor.to_string());
    write("processor_config.json", processor.to_string());
    dir
}

fn read(dir: &TempDir) -> Result<Processor, ProcessorError> {
    Processor::from_dir(dir.path(), &VlmConfig::from_dir(dir.path()).unwrap())
}

fn processor(image_processor: &Value) -> Result<Processor, ProcessorError> {
    read(&checkpoint(image_processor, &json!({"image_seq_length": 4})))
}

/// `settings` with another value of a key.
fn with(key: &str, value: Value) -> Value {
    let mut settings = levels();
    settings[key] = value;
    settings
}

/// An image whose pixels all differ.
fn numbered(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 7]))
}

#[test]
fn tiles_stand_row_by_row_before_the_whole_image() {
    let processor = processor(&levels()).unwrap();
    let image = numbered(24, 16);
    let input = processor.image.process(&image).unwrap();
    assert_eq!((input.tiles.len(), input.layout.tiles(), input.tokens()), (7, 7, 28));
    for (i, tile) in input.tiles[..6].iter().enumerate() {
        assert_eq!([tile.channels, tile.height, tile.width], [3, 8, 8]);
        let (y, x) = (i / 3 * 8, i % 3 * 8);
        assert_eq!((tile.data[0], tile.data[64], tile.data[128]), (x as f32, y as f32, 7.0));
        assert_eq!((tile.data[63], tile.data[127]), ((x + 7) as f32, (y + 7) as f32));
    }
    let whole = resize(&image, 8, 8, Filter::Bicubic);
    assert_eq!(input.tiles[6].data[9], f32::from(whole.get_pixel(1, 1)[0]));

    let ids = processor.text.encode_prompt("A<image> B", &[&input.layout]).unwrap();
    let text = format!("<s>A<start>{}</img> B", "<image>".repeat(28));
    assert_eq!(ids, processor.text.encode_plain(&text).unwrap());
}

#[test]
fn an_image_of_one_tile_has_no_copy() {
    for (settings, image) in [
        (levels(), numbered(9, 8)),
        (levels(), numbered(3, 3)),
        // `InternVLProcessor` splits images whatever this key says, and `max_patches` decides
        (with("max_patches", json!(1)), numbered(40, 10)),
    ] {
        let input = processor(&settings).unwrap().image.process(&image).unwrap();
        assert_eq!((input.tiles.len(), input.layout.tiles(), input.tokens()), (1, 1, 4));
    }
    let split = processor(&with("crop_to_patches", false.into())).unwrap().image.process(&numbered(40, 20));
    assert_eq!(split.unwrap().tiles.len(), 3);
}

#[test]
fn frames_are_one_tile() {
    let frames = processor(&levels()).unwrap().image.of_frames();
    let input = frames.process(&numbered(40, 10)).unwrap();
    assert_eq!((input.tiles.len(), input.tokens()), (1, 4));
    assert_eq!(frames.layout(40, 10).unwrap(), input.layout);
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    for (key, value) in [
        ("size", json!({"height": 8, "width": 16})),
        ("size", json!(16)),
        ("size", json!({"shortest_edge": 8})),
        ("max_patches", json!(1_000_000)),
        ("max_patches", json!(-1)),
        ("image_processor_type", json!("CLIPImageProcessor")),
        ("resample", json!(77)),
    ] {
        let error = processor(&with(key, value)).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("preprocessor_config.json"), "{error}");
    }
    for (key, settings) in [
        ("image_std", json!({"size": 8, "image_std": [1, 0, 1]})),
        ("do_resize", json!({"size": 8, "do_resize": false, "max_patches": 1})),
        // the default of transformers is not the size of these tiles
        ("size", json!({})),
    ] {
        let error = processor(&settings).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("preprocessor_config.json"), "{error}");
    }
}

#[test]
fn the_image_tokens_of_a_tile_are_checked() {
    for (processor, found) in [(json!({"image_seq_length": 5}), "5"), (json!({}), "256")] {
        let error = read(&checkpoint(&levels(), &processor)).unwrap_err().to_string();
        let named = error.contains("image_seq_length") && error.contains("expected 4");
        assert!(named && error.contains(found), "{error}");
    }
}

#[test]
fn a_tokenizer_without_the_tokens_around_images_is_refused() {
    let dir = checkpoint(&levels(), &json!({"image_seq_length": 4}));
    std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"bos_token": "<s>", "eos_token": "</s>"}"#)
        .unwrap();
    let error = read(&dir).unwrap_err().to_string();
    assert!(error.contains("<img>"), "{error}");
}

#[test]
fn images_without_pixels_are_refused() {
    let image = processor(&levels()).unwrap().image;
    for (width, height) in [(0, 4), (4, 0)] {
        let empty = RgbImage::new(width, height);
        assert!(matches!(image.process(&empty), Err(ProcessorError::EmptyImage { .. })));
        assert!(matches!(image.layout(width, height), Err(ProcessorError::EmptyImage { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The layout follows from the size, and a checked model takes every prepared image.
    #[test]
    fn layouts_are_those_of_prepared_images(
        width in 1u32..120, height in 1u32..120, min in 0usize..9, max in 0usize..9
    ) {
        let mut settings = with("min_patches", min.into());
        settings["max_patches"] = max.into();
        let dir = checkpoint(&settings, &json!({"image_seq_length": 4}));
        let config = VlmConfig::from_dir(dir.path()).unwrap();
        let processor = read(&dir).unwrap();
        let input = processor.image.process(&numbered(width, height)).unwrap();
        prop_assert_eq!(&processor.image.layout(width, height).unwrap(), &input.layout);
        prop_assert_eq!(input.layout.tiles(), input.tiles.len());
        config.check_input(input.layout.placeholder(), std::slice::from_ref(&input)).unwrap();
    }
}
