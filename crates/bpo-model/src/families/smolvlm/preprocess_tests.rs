//! The preprocessor over a checkpoint directory with small tiles. Golden values of transformers are
//! compared in `tests/suite/families.rs`.

use std::path::Path;

use image::Rgb;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::families::VlmConfig;
use crate::processor::Processor;

/// Tiles of 8 x 8 pixels with 4 x 4 patches and 4 image tokens.
const CONFIG: &str = r#"{
    "model_type": "smolvlm", "image_token_id": 320, "scale_factor": 2,
    "text_config": {"vocab_size": 400, "hidden_size": 8, "num_attention_heads": 2},
    "vision_config": {"hidden_size": 8, "num_attention_heads": 2, "image_size": 8, "patch_size": 2}
}"#;

/// Settings that keep levels as they are, so that pixels can be compared.
fn levels() -> Value {
    json!({
        "size": {"longest_edge": 24}, "max_image_size": {"longest_edge": 8},
        "do_rescale": false, "do_normalize": false
    })
}

fn checkpoint(image_processor: &Value, processor: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny-llava");
    std::fs::copy(golden.join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let tokens = json!({
        "bos_token": "<s>", "eos_token": "</s>", "global_image_token": "<whole>",
        "extra_special_tokens": ["<fake_token_around_image>", "<row_1_col_1>"],
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

fn processor(image_processor: &Value) -> Result<Processor, ProcessorError> {
    let dir = checkpoint(image_processor, &json!({"image_seq_len": 4}));
    Processor::from_dir(dir.path(), &VlmConfig::from_dir(dir.path()).unwrap())
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
    let processor = processor(&with("do_resize", false.into())).unwrap();
    let image = numbered(24, 16);
    let input = processor.image.process(&image).unwrap();
    assert_eq!((input.tiles.len(), input.layout.tiles(), input.tokens()), (7, 7, 28));
    for (i, tile) in input.tiles[..6].iter().enumerate() {
        assert_eq!([tile.channels, tile.height, tile.width], [3, 8, 8]);
        let (y, x) = (i / 3 * 8, i % 3 * 8);
        assert_eq!((tile.data[0], tile.data[64], tile.data[128]), (x as f32, y as f32, 7.0));
        assert_eq!((tile.data[63], tile.data[127]), ((x + 7) as f32, (y + 7) as f32));
    }
    let whole = resize(&image, 8, 8, Filter::Lanczos);
    assert_eq!(input.tiles[6].data[9], f32::from(whole.get_pixel(1, 1)[0]));

    // the placeholder is a text between other texts
    let ids = processor.text.encode_prompt("A<image> B", &[&input.layout]).unwrap();
    let mut text = "<s>A".to_owned();
    for row in 1..=2 {
        for column in 1..=3 {
            text += &format!("<fake_token_around_image><row_{row}_col_{column}><image><image><image><image>");
        }
        text.push('\n');
    }
    text += "\n<fake_token_around_image><whole><image><image><image><image><fake_token_around_image> B";
    assert_eq!(ids, processor.text.encode_plain(&text).unwrap());
}

#[test]
fn an_image_of_one_tile_is_not_split() {
    for (settings, image) in [
        (with("size", json!({"longest_edge": 8})), numbered(20, 20)),
        (with("size", json!({"longest_edge": 6})), numbered(3, 2)),
        // every image becomes a square, whatever its shape
        (with("do_image_splitting", false.into()), numbered(40, 10)),
    ] {
        let input = processor(&settings).unwrap().image.process(&image).unwrap();
        assert_eq!((input.tiles.len(), input.layout.tiles(), input.tokens()), (1, 1, 4));
        assert_eq!([input.tiles[0].height, input.tiles[0].width], [8, 8]);
    }
}

#[test]
fn sizes_have_three_forms() {
    let tiles = |size: Value| {
        let input = processor(&with("size", size)).unwrap().image.process(&numbered(10, 10)).unwrap();
        input.tiles.len()
    };
    assert_eq!(tiles(json!(16)), 5);
    assert_eq!(tiles(json!({"height": 16, "width": 24})), 7);
    assert_eq!(tiles(json!({"longest_edge": 24})), 10);
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    for (key, value, named) in [
        ("size", json!({"longest_edge": 0}), "size.longest_edge"),
        ("size", json!({"longest_edge": u64::MAX}), "size.longest_edge"),
        ("size", json!({"height": 0, "width": 4}), "size"),
        ("size", json!({"shortest_edge": 4}), "size"),
        ("size", json!({"height": 1_000_000, "width": 1_000_000}), "1000000x1000000"),
        ("max_image_size", json!({"longest_edge": 0}), "max_image_size.longest_edge"),
        ("max_image_size", json!({"longest_edge": 6}), "max_image_size.longest_edge"),
        ("max_image_size", json!({"longest_edge": 1_u64 << 40}), "max_image_size.longest_edge"),
        ("image_processor_type", json!("Idefics2ImageProcessor"), "image_processor_type"),
        ("resample", json!(77), "resample"),
    ] {
        let error = processor(&with(key, value)).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    let mut settings = with("image_std", json!([1, 0, 1]));
    settings["do_normalize"] = true.into();
    let error = processor(&settings).unwrap_err().to_string();
    assert!(error.contains("image_std"), "{error}");
}

#[test]
fn the_image_tokens_of_a_tile_are_checked() {
    for (processor, found) in [(json!({"image_seq_len": 5}), "5"), (json!({}), "169")] {
        let dir = checkpoint(&levels(), &processor);
        let config = VlmConfig::from_dir(dir.path()).unwrap();
        let error = Processor::from_dir(dir.path(), &config).unwrap_err().to_string();
        assert!(
            error.contains("image_seq_len") && error.contains("expected 4") && error.contains(found),
            "{error}"
        );
    }
}

#[test]
fn a_tokenizer_without_the_token_around_images_is_refused() {
    let dir = checkpoint(&levels(), &json!({"image_seq_len": 4}));
    std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"bos_token": "<s>", "eos_token": "</s>"}"#)
        .unwrap();
    let config = VlmConfig::from_dir(dir.path()).unwrap();
    let error = Processor::from_dir(dir.path(), &config).unwrap_err().to_string();
    assert!(error.contains("<fake_token_around_image>"), "{error}");
}

#[test]
fn images_without_pixels_are_refused() {
    let image = processor(&levels()).unwrap().image;
    for (width, height) in [(0, 4), (4, 0)] {
        let empty = RgbImage::new(width, height);
        assert!(matches!(image.process(&empty), Err(ProcessorError::EmptyImage { .. })));
        assert!(matches!(image.layout(width, height), Err(ProcessorError::EmptyImage { .. })));
    }
    assert!(matches!(
        processor(&with("do_resize", false.into())).unwrap().image.layout(1 << 30, 1),
        Err(ProcessorError::ImageTooLarge { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The layout follows from the size, and a checked model takes every prepared image.
    #[test]
    fn layouts_are_those_of_prepared_images(width in 1u32..120, height in 1u32..120, resizes: bool, splits: bool) {
        let mut settings = with("do_resize", resizes.into());
        settings["do_image_splitting"] = splits.into();
        let dir = checkpoint(&settings, &json!({"image_seq_len": 4}));
        let config = VlmConfig::from_dir(dir.path()).unwrap();
        let processor = Processor::from_dir(dir.path(), &config).unwrap();
        let input = processor.image.process(&numbered(width, height)).unwrap();
        prop_assert_eq!(&processor.image.layout(width, height).unwrap(), &input.layout);
        prop_assert_eq!(input.layout.tiles(), input.tiles.len());
        config.check_input(input.layout.placeholder(), std::slice::from_ref(&input)).unwrap();
    }
}
