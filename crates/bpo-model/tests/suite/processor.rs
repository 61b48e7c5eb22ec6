//! Pixels and ids against Pillow, transformers and the golden checkpoint (`BPO_GOLDEN` names
//! another).

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{Golden, read_json, root};
use bpo_distort::{DistortError, ImageLimits, load_rgb};
use bpo_model::{ImageLayout, ImageProcessor, PixelValues, Processor, ProcessorError, TextProcessor};
use bpo_pairs::Turn;
use image::{Rgb, RgbImage};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn report() -> Value {
    read_json(&root().join("transformers/golden.json"))
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap().try_into().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn pixel_values_equal_pillows() {
    let golden = Golden::open();
    let processor = ImageProcessor::from_dir(golden.checkpoint()).unwrap();
    let (expected, shape) = golden.floats("pixel_values_pil");
    let size = shape[1..].iter().product::<usize>();
    for (i, expected) in expected.chunks_exact(size).enumerate() {
        let image = image::open(root().join(format!("transformers/image_{i}.png"))).unwrap().to_rgb8();
        let found = processor.process(&image).unwrap();
        assert_eq!([found.channels, found.height, found.width], shape[1..]);
        let worst = found.data.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst <= 1e-6, "image {i}: off by {worst}");
    }
}

/// The record of `tools/golden/images.py`.
fn recorded() -> Value {
    read_json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images/images.json"))
}

fn configured(config: &Value) -> ImageProcessor {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("preprocessor_config.json"), config.to_string()).unwrap();
    ImageProcessor::from_dir(dir.path()).unwrap()
}

fn digest(values: &[u8]) -> String {
    Sha256::digest(values).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(pixels: &PixelValues) -> Vec<u8> {
    pixels.data.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The largest difference at the recorded places.
fn off(found: &PixelValues, recorded: &Value) -> f64 {
    assert_eq!(serde_json::json!([found.channels, found.height, found.width]), recorded["shape"]);
    let samples = recorded["samples"].as_array().unwrap();
    let places = found.data.iter().step_by((found.data.len() / 16).max(1));
    let off = |(found, sample): (&f32, &Value)| (f64::from(*found) - sample.as_f64().unwrap()).abs();
    places.zip(samples).map(off).fold(0.0, f64::max)
}

/// The formula of `tools/golden/images.py`.
fn formula(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let band = if (x / 8 + y / 8) % 2 == 1 { 4 } else { 1 };
        Rgb([0, 1, 2].map(|c| (((x * x + 3 * y) * (c + 1) + 7 * x * y) % 256 / band) as u8))
    })
}

#[test]
fn awkward_sizes_and_every_filter_equal_pillows() {
    let recorded = recorded();
    let mut wrong = Vec::new();
    let images = recorded["formula"].as_object().unwrap();
    let mut sizes = BTreeSet::new();
    for (name, expected) in images {
        let (kind, size) = name.split_once('.').unwrap();
        let (width, height) = size.split_once('x').unwrap();
        let image = formula(width.parse().unwrap(), height.parse().unwrap());
        sizes.insert(image.dimensions());
        let found = configured(&recorded["configs"][kind]).process(&image).unwrap();
        let off = off(&found, expected);
        let levels: Vec<u8> = found.data.iter().map(|value| *value as u8).collect();
        if digest(&levels) != text(&expected["sha256"]) {
            wrong.push(format!("{name}, by {off} levels and more"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(sizes.len() >= 30, "{sizes:?}");
    // each under every configuration except that of the files
    assert_eq!(images.len(), sizes.len() * (recorded["configs"].as_object().unwrap().len() - 1));
}

/// Files that transformers reads differently, and the record that ours equals instead
/// (docs/src/parity.md).
const OTHERS: [(&str, &str); 5] = [
    ("clear.gif", "llava"),
    ("grey-16.png", "upper"),
    ("grey-16.tiff", "upper"),
    ("grey-key.png", "llava"),
    ("key.png", "llava"),
];

/// Whether EXIF data turns a file; LLaVA's own loader ignores it.
fn is_turned(name: &str) -> bool {
    name.contains("turned") && !name.ends_with(".tiff")
}

#[test]
fn files_of_every_kind_give_the_values_of_transformers() {
    let recorded = recorded();
    let processor = configured(&recorded["configs"]["llava"]);
    let files = recorded["files"].as_object().unwrap();
    assert!(files.len() >= 80);
    let (mut sizes, mut wrong) = (BTreeSet::new(), Vec::new());
    for (path, expected) in files {
        let name = path.rsplit('/').next().unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        let image = match load_rgb(path, &ImageLimits::default()) {
            Err(DistortError::Unsupported { .. }) if name == "palette.tiff" => continue,
            image => image.unwrap(),
        };
        sizes.insert(image.dimensions());
        let found = processor.process(&image).unwrap();
        let hash = digest(&bytes_of(&found));
        let other = OTHERS.iter().find(|(other, _)| *other == name).map(|(_, key)| *key);
        if hash != text(&expected[other.unwrap_or("sha256")]) {
            wrong.push(format!("{name}, by {} and more", off(&found, expected)));
        }
        let is_unlike = is_turned(name) || other == Some("upper");
        assert_eq!(expected["llava"] != expected[other.unwrap_or("sha256")], is_unlike, "{name}");
        assert!(other.is_none_or(|key| expected[key] != expected["sha256"]), "{name} does not differ");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(sizes.len() >= 30, "{sizes:?}");
}

#[test]
fn special_tokens_come_from_the_template_only() {
    let golden = Golden::open();
    let processor = crate::support::processor(&golden.checkpoint());
    let special = processor.text.special();
    let (bos, eos) = (special.bos.as_ref().unwrap().text.clone(), special.eos.text.clone());
    let turn = |text: &str| [Turn::new("What?", text)];
    let count = |history: &[Turn], prompt: &str, answer: &str| -> Result<[usize; 2], ProcessorError> {
        let ids = processor.encode_completion(None, history, prompt, answer, &[])?.ids;
        let count = |id| ids.iter().filter(|found| **found == id).count();
        Ok([count(special.bos.as_ref().unwrap().id), count(special.eos.id)])
    };
    // an answer may have its end token; a template may write one after each earlier answer
    assert_eq!(count(&[], "Why?", "So.").unwrap(), [1, 1]);
    assert_eq!(count(&[], "Why?", &format!("So.{eos}")).unwrap(), [1, 1]);
    assert_eq!(
        count(&turn(&format!("This.{eos}")), "Why?", "So.").unwrap(),
        count(&turn("This."), "Why?", "So.").unwrap()
    );
    for token in [bos, eos] {
        let spelled = format!("Is {token} a tag?");
        for (place, result) in [
            ("prompt", count(&[], &spelled, "So.")),
            ("answer", count(&[], "Why?", &spelled)),
            ("history", count(&turn(&spelled), "Why?", "So.")),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(place) && error.contains(&token), "{error}");
        }
    }
}

#[test]
fn ids_equal_those_of_transformers() {
    let (golden, report) = (Golden::open(), report());
    let image_tokens = number(&report["image_tokens"]);
    let processor = TextProcessor::from_dir(golden.checkpoint()).unwrap();
    assert_eq!(processor.special().image.as_ref().unwrap().id as usize, number(&report["image_token_id"]));
    let image = ImageLayout::plain(processor.special().image.as_ref().unwrap().id, image_tokens);
    for (i, texts) in report["prompts"].as_array().unwrap().iter().enumerate() {
        let prompt = text(&texts["prompt"]);
        let prompt_ids = processor.encode_prompt(prompt, &[&image]).unwrap();
        assert_eq!(prompt_ids, golden.ids(&format!("p{i}.prompt_ids")));
        for side in ["chosen", "rejected"] {
            let answered = processor.encode_completion(prompt, text(&texts[side]), &[&image]).unwrap();
            assert_eq!(answered.ids, golden.ids(&format!("p{i}.{side}.input_ids")), "{i} {side}");
            assert_eq!(answered.prompt(), prompt_ids, "{i} {side}");
        }
    }
}

/// Properties of every conversation, whatever the template.
fn check_conversation(
    processor: &Processor,
    images: &[&ImageLayout],
    history: &[Turn],
    prompt: &str,
    answer: &str,
) {
    let special = processor.text.special();
    let prompt_ids = processor.prompt_ids(None, history, prompt, images).unwrap();
    let answered = processor.encode_completion(None, history, prompt, answer, images).unwrap();
    let count = |ids: &[u32], id: u32| ids.iter().filter(|other| **other == id).count();

    // an answer may merge with the last token of its prompt only
    assert!(answered.prompt().len() + 1 >= prompt_ids.len());
    let image_tokens: usize = images.iter().map(|image| image.tokens()).sum();
    assert_eq!(count(&answered.ids, special.image.as_ref().unwrap().id), image_tokens);
    if let Some(bos) = &special.bos {
        assert_eq!((answered.ids[0], count(&answered.ids, bos.id)), (bos.id, 1));
    }
    assert_eq!(answered.ids.last(), Some(&special.eos.id));
    assert_eq!(count(answered.answer(), special.eos.id), 1);
    let decoded = processor.text.decode(&answered.ids, true).unwrap();
    assert!(decoded.ends_with(answer), "{decoded:?} does not end with {answer:?}");
    let with_eos =
        processor.encode_completion(None, history, prompt, &format!("{answer}{}", special.eos.text), images);
    assert_eq!(with_eos.unwrap(), answered);
}

#[test]
fn conversations_of_the_photographs() {
    let processor = crate::support::processor(&Golden::open().checkpoint());
    let image_tokens = number(&report()["image_tokens"]);
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/photos");
    let mut images = 0;
    for sample in read_json(&photos.join("llava.json")).as_array().unwrap() {
        let image = match &sample["image"] {
            Value::String(name) => {
                images += 1;
                let image = load_rgb(photos.join(name), &ImageLimits::default()).unwrap();
                let input = processor.image.process(&image).unwrap();
                for tile in &input.tiles {
                    assert_eq!(tile.data.len(), tile.channels * tile.height * tile.width);
                }
                assert_eq!(input.tokens(), image_tokens);
                // the layout follows from the size
                let layout = processor.image.layout(image.width(), image.height()).unwrap();
                assert_eq!(layout, input.layout);
                Some(layout)
            }
            _ => None,
        };
        let mut history = Vec::new();
        for turn in sample["conversations"].as_array().unwrap().chunks_exact(2) {
            let (prompt, answer) = (text(&turn[0]["value"]), text(&turn[1]["value"]));
            let one: Vec<_> = image.iter().collect();
            check_conversation(&processor, &one, &history, prompt, answer);
            // the first turn has all images
            check_conversation(&processor, &[one.clone(), one].concat(), &history, prompt, answer);
            history.push(Turn::new(prompt, answer));
        }
    }
    assert!(images > 0);
}

#[test]
fn unusual_texts() {
    let processor = crate::support::processor(&Golden::open().checkpoint());
    let image = processor.image.layout(40, 30).unwrap();
    for (prompt, answer) in [
        ("", "Yes."),
        ("<image>", "Yes."),
        ("What is it?\n<image>", "Ein Café um 7:45, 猫 🐈."),
        ("two\nlines\n\n<image>", "three\n\nmore\nlines"),
    ] {
        check_conversation(&processor, &[&image], &[], prompt, answer);
        check_conversation(&processor, &[&image], &[Turn::new(prompt, answer)], "And now?", answer);
    }
}
