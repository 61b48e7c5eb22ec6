//! Pixels, splits and files through the public API.

use std::collections::BTreeSet;
use std::fs;

use bpo_world::{Example, QuestionMix, Scene, Split, SplitFiles, Statistics, WorldError, write_split};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn hash(scenes: impl Iterator<Item = Scene>) -> String {
    let mut hash = Sha256::new();
    scenes.for_each(|scene| hash.update(scene.draw().as_raw()));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The embedded model was trained on these pictures.
#[test]
fn pictures_have_known_hashes() {
    let usual = (0..40).map(|seed| Scene::sample(&Statistics::usual(), seed));
    assert_eq!(hash(usual), "12e3b618e0cd4f262eab22d3d9fadcea88e22ee94d61671999eb39452a73b4c7");
    let counter = (0..40).map(|seed| Scene::sample(&Statistics::counter(), seed));
    assert_eq!(hash(counter), "9ebd0168134304894cab9a635b618fcf4a6b7dcbf484c188b30f86b8032811d0");
}

#[test]
fn splits_share_no_scene() {
    let mut seen = BTreeSet::new();
    for split in Split::ALL {
        for index in 0..500 {
            let example = Example::new(split, index, 1, &QuestionMix::default());
            assert_eq!(example, Example::new(split, index, 1, &QuestionMix::default()));
            let scene = serde_json::to_string(&example.scene).unwrap();
            assert!(seen.insert(scene), "{} repeats a scene", example.id);
        }
    }
}

#[test]
fn files_are_a_llava_data_set() {
    let dir = tempfile::tempdir().unwrap();
    let SplitFiles { data, truth, images, .. } =
        write_split(dir.path(), Split::Counter, 30, 5, &QuestionMix::default()).unwrap();
    let records: Vec<Value> = serde_json::from_slice(&fs::read(data).unwrap()).unwrap();
    let lines = fs::read_to_string(truth).unwrap();
    let truths: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((records.len(), truths.len()), (30, 30));
    for (index, (record, truth)) in records.iter().zip(&truths).enumerate() {
        let example = Example::new(Split::Counter, index as u64, 5, &QuestionMix::default());
        let image = record["image"].as_str().unwrap();
        assert_eq!(truth["image"], image);
        let picture = image::open(images.join(image)).unwrap().to_rgb8();
        assert_eq!(picture, example.scene.draw());
        let [question, answer] = [0, 1].map(|turn| record["conversations"][turn].clone());
        assert_eq!((question["from"].as_str(), answer["from"].as_str()), (Some("human"), Some("gpt")));
        assert_eq!(question["value"], format!("<image>\n{}", example.qa.prompt));
        assert_eq!(answer["value"], example.qa.answer);
        let kinds: Vec<Value> = example.scene.groups().iter().map(|group| group.kind.name().into()).collect();
        assert_eq!(truth["objects"], Value::Array(kinds));
    }
    // Writing again replaces the files.
    let files = write_split(dir.path(), Split::Counter, 30, 5, &QuestionMix::default()).unwrap();
    assert_eq!(fs::read_to_string(files.truth).unwrap(), lines);
}

#[test]
fn errors_name_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = write_split(&file, Split::Train, 1, 0, &QuestionMix::default()).unwrap_err();
    assert!(matches!(error, WorldError::File(_)) && error.to_string().contains("file"), "{error}");
}
