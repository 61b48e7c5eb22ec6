//! Frames of videos, which are prepared in another way than photographs.

use serde_json::json;

use super::PIXEL;
use super::case::{Checkpoint, Layout, Loaded, cases, each_checkpoint, photo};
use crate::support::{read_json, tensor_floats};

/// One level of a byte, normalized with the smallest standard deviation. torchvision, which
/// transformers resizes videos with, may round to another level than Pillow.
const LEVEL: f32 = 1.0 / 255.0 / 0.26 * 1.01;

/// Sets the size of frames, as the files of SmolVLM2 have it.
fn set_size(checkpoint: &Checkpoint, edge: u64) {
    let path = checkpoint.path().join("preprocessor_config.json");
    let mut settings = read_json(&path);
    settings["video_sampling"] = json!({"fps": 1, "max_frames": 64, "video_size": {"longest_edge": edge}});
    std::fs::write(&path, settings.to_string()).unwrap();
}

#[test]
fn frames_are_those_of_transformers() {
    let compared = std::cell::Cell::new(0);
    each_checkpoint(|checkpoint| {
        let golden = checkpoint.case.join("frames.safetensors");
        if checkpoint.layout == Layout::V5 || !golden.is_file() {
            return;
        }
        let bytes = std::fs::read(golden).unwrap();
        let (edge, _) = tensor_floats(&bytes, "edge");
        if let [edge] = edge[..] {
            set_size(checkpoint, edge as u64);
        }
        let tolerance = if checkpoint.case.ends_with("llava_onevision") { LEVEL } else { PIXEL };
        let processor = checkpoint.processor();
        let frames = processor.image.of_frames();
        for name in checkpoint.photos().keys() {
            let photo = photo(name);
            let input = frames.process(&photo).unwrap();
            assert_eq!(frames.layout(photo.width(), photo.height()).unwrap(), input.layout, "{name}");
            assert_eq!(input.tiles.len(), 1, "{}: {name}", checkpoint.name);
            let (expected, _) = tensor_floats(&bytes, name);
            let found: Vec<f32> = input.tiles[0].data.iter().copied().step_by(checkpoint.sample()).collect();
            assert_eq!(found.len(), expected.len(), "{}: {name}", checkpoint.name);
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= tolerance, "{}: {name} is off by {worst}", checkpoint.name);
        }
        compared.set(compared.get() + 1);
    });
    assert!(compared.get() > 0);
}

/// The model takes frames, also between images.
#[test]
fn frames_have_their_tokens() {
    each_checkpoint(|checkpoint| {
        let loaded = Loaded::of(checkpoint);
        let case = &cases(checkpoint)[0];
        let image = &loaded.processor.image;
        let inputs =
            [image.of_frames().process(&photo("large")).unwrap(), image.process(&photo("wide")).unwrap()];
        let layouts: Vec<_> = inputs.iter().map(|input| &input.layout).collect();
        let ids = loaded.processor.prompt_ids(None, &[], &case.prompt, &layouts).unwrap();
        let tokens: usize = layouts.iter().map(|layout| layout.tokens()).sum();
        let image_token = loaded.model.config().image_token();
        assert_eq!(ids.iter().filter(|id| Some(**id) == image_token).count(), tokens, "{}", checkpoint.name);
        loaded.model.logits(&ids, &inputs, bpo_model::Adapters::On).unwrap();
    });
}
