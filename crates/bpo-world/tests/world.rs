//! The world as others get it: pixels, splits and files.

use std::collections::BTreeSet;
use std::fs;

use bpo_world::dataset::{Files, write};
use bpo_world::{Example, Mix, Scene, Split, Statistics, WorldError};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn hash(scenes: impl Iterator<Item = Scene>) -> String {
    let mut hash = Sha256::new();
    scenes.for_each(|scene| hash.update(scene.draw().as_raw()));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The embedded model was trained on these very pictures.
#[test]
fn pictures_are_the_same_everywhere() {
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
            let example = Example::new(split, index, 1, &Mix::default());
            assert_eq!(example, Example::new(split, index, 1, &Mix::default()));
            let scene = serde_json::to_string(&example.scene).unwrap();
            assert!(seen.insert(scene), "{} is there already", example.id);
        }
    }
}

#[test]
fn files_are_a_llava_data_set() {
    let dir = tempfile::tempdir().unwrap();
    let Files { data, truth, images, .. } =
        write(dir.path(), Split::Counter, 30, 5, &Mix::default()).unwrap();
    let records: Vec<Value> = serde_json::from_slice(&fs::read(data).unwrap()).unwrap();
    let lines = fs::read_to_string(truth).unwrap();
    let truths: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((records.len(), truths.len()), (30, 30));
    for (index, (record, truth)) in records.iter().zip(&truths).enumerate() {
        let example = Example::new(Split::Counter, index as u64, 5, &Mix::default());
        let image = record["image"].as_str().unwrap();
        assert_eq!(truth["image"], image);
        let picture = image::open(images.join(image)).unwrap().to_rgb8();
        assert_eq!(picture, example.scene.draw());
        let [question, answer] = [0, 1].map(|turn| record["conversations"][turn].clone());
        assert_eq!((question["from"].as_str(), answer["from"].as_str()), (Some("human"), Some("gpt")));
        assert_eq!(question["value"], format!("<image>\n{}", example.turn.prompt));
        assert_eq!(answer["value"], example.turn.answer);
        let kinds: Vec<Value> = example.scene.groups().iter().map(|group| group.kind.name().into()).collect();
        assert_eq!(truth["objects"], Value::Array(kinds));
    }
    // the same once more, over the old files
    let files = write(dir.path(), Split::Counter, 30, 5, &Mix::default()).unwrap();
    assert_eq!(fs::read_to_string(files.truth).unwrap(), lines);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = write(&file, Split::Train, 1, 0, &Mix::default()).unwrap_err();
    assert!(matches!(error, WorldError::Write { .. }) && error.to_string().contains("file"), "{error}");
}
