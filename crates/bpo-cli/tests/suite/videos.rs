//! Videos as frames, through all stages.

use std::fs;
use std::path::Path;

use image::codecs::gif::GifEncoder;
use image::{Delay, Frame, RgbaImage};
use serde_json::{Value, json};

use crate::common::{bpo, photos, read_lines, run_arguments};

/// Writes a GIF of ten frames in two seconds, and a folder of three frames.
fn write_videos(root: &Path) {
    let frame = |number: u8| RgbaImage::from_pixel(40, 30, image::Rgba([20 * number, 90, 90, 255]));
    let mut encoder = GifEncoder::new(fs::File::create(root.join("clip.gif")).unwrap());
    let delay = Delay::from_numer_denom_ms(200, 1);
    encoder.encode_frames((0..10).map(|number| Frame::from_parts(frame(number), 0, 0, delay))).unwrap();
    fs::create_dir(root.join("clip")).unwrap();
    for (number, name) in ["2.png", "10.png", "1.png"].iter().enumerate() {
        frame(number as u8).save(root.join("clip").join(name)).unwrap();
    }
    fs::write(root.join("clip/notes.txt"), "not a frame").unwrap();
    fs::write(root.join("clip.mp4"), "not an image").unwrap();
    // a comment and no frame
    fs::write(root.join("none.gif"), b"GIF89a\x04\0\x04\0\0\0\0\x21\xfe\x02hi\0;").unwrap();
}

fn record(id: &str, video: &str) -> Value {
    json!({"id": id, "video": video, "conversations": [
        {"from": "human", "value": "<video>\nWhat happens here?"},
        {"from": "gpt", "value": "A man in a red shirt rides a bicycle."},
    ]})
}

/// Frames are chosen, weakened and trained on like several images.
#[test]
fn videos_are_trained_on_as_frames() {
    let dir = tempfile::tempdir().unwrap();
    let (images, data, run) =
        (dir.path().join("images"), dir.path().join("data.json"), dir.path().join("run"));
    fs::create_dir(&images).unwrap();
    write_videos(&images);
    let records = json!([
        record("gif", "clip.gif"),
        record("folder", "clip"),
        record("mp4", "clip.mp4"),
        record("none", "none.gif")
    ]);
    fs::write(&data, records.to_string()).unwrap();
    let settings = dir.path().join("bpo.toml");
    fs::write(&settings, "[data.video]\nfps = 1.0\nmax_frames = 4\n").unwrap();
    let mut arguments = run_arguments(&run);
    // `--data` is given once
    let at = arguments.iter().position(|argument| argument == "--data").unwrap();
    arguments[at + 1] = data.clone().into();
    arguments.extend(arguments!["--images", &images, "--config", &settings]);
    bpo(arguments.clone()).succeeds().says("data: 2 samples, 2 skipped").says("weaken: 2 answers");
    let skipped = fs::read_to_string(run.join("skipped.jsonl")).unwrap();
    assert!(skipped.contains("clip.mp4") && skipped.contains("ffmpeg"), "{skipped}");
    assert!(skipped.contains("none.gif has no frame"), "{skipped}");
    let pairs = read_lines(run.join("pairs.jsonl"));
    let images_of = |id: &str| {
        let pair = pairs.iter().find(|pair| pair["id"].as_str().unwrap().starts_with(id)).unwrap();
        (pair["images"].clone(), pair["prompt"].as_str().unwrap().to_owned())
    };
    let prompt = |frames: usize| format!("{}What happens here?", "<image>\n".repeat(frames));
    assert_eq!(images_of("gif"), (json!(["clip.gif#0", "clip.gif#5"]), prompt(2)));
    assert_eq!(images_of("folder"), (json!(["clip#1.png", "clip#2.png", "clip#10.png"]), prompt(3)));
    bpo(arguments).succeeds().says("nothing left to do");

    // questions and pairs about videos
    let questions = dir.path().join("questions.json");
    fs::write(&questions, json!([{"id": "q", "video": "clip", "prompt": "What is it?"}]).to_string())
        .unwrap();
    let outcome = bpo(arguments![
        "generate",
        "--model",
        crate::common::tiny(),
        "--questions",
        &questions,
        "--images",
        &images,
        "--max-new-tokens",
        "3",
        "--config",
        &settings
    ])
    .succeeds();
    let answer: Value = serde_json::from_str(outcome.stdout.trim()).unwrap();
    assert_eq!(answer["images"].as_array().unwrap().len(), 3);
}

/// Without a model the number of frames is not known, unless it is set.
#[test]
fn the_number_of_frames_follows_from_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let [images, data, out, config] =
        ["images", "data.json", "out.jsonl", "bpo.toml"].map(|name| dir.path().join(name));
    fs::create_dir(&images).unwrap();
    write_videos(&images);
    fs::write(&data, json!([record("gif", "clip.gif")]).to_string()).unwrap();
    let inject = arguments!["inject", "--data", &data, "--images", &images, "--out", &out];
    bpo(&inject).fails_naming(&["clip.gif", "`model.path` is not set", "`data.video.max_frames`"]);
    fs::write(&config, format!("model.path = {:?}\n", crate::common::tiny())).unwrap();
    bpo(inject.into_iter().chain(arguments!["--config", &config])).succeeds().says("inject: 1 answer");
}

/// Without the image root the frames of a video are not known.
#[test]
fn videos_need_the_image_root() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data.json"), dir.path().join("out.jsonl"));
    fs::write(&data, json!([record("gif", "clip.gif")]).to_string()).unwrap();
    bpo(arguments!["inject", "--data", &data, "--out", &out]).fails_naming(&["clip.gif", "--images"]);
    // a path that leads outside is not followed
    fs::write(&data, json!([record("out", "../clip")]).to_string()).unwrap();
    bpo(arguments!["inject", "--data", &data, "--out", &out, "--images", photos()])
        .fails_naming(&["outside the image root"]);
}
