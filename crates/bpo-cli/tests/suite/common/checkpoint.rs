//! Copies of the tiny checkpoint, and changes to them.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use super::{copy_dir, tiny};

/// Copies the tiny checkpoint.
pub fn copy_to(dir: &Path) {
    copy_dir(&tiny(), dir);
}

/// The longest sequence that the tiny model takes.
pub fn context() -> usize {
    let config: Value = serde_json::from_slice(&fs::read(tiny().join("config.json")).unwrap()).unwrap();
    config["text_config"]["max_position_embeddings"].as_u64().unwrap() as usize
}

/// Changes the header of a safetensors file and keeps its tensor data.
pub fn edit_header(file: &Path, edit: impl FnOnce(&mut Map<String, Value>)) {
    let bytes = fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let mut text = serde_json::to_vec(&header).unwrap();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut edited = (text.len() as u64).to_le_bytes().to_vec();
    edited.extend(text);
    edited.extend(&bytes[8 + length..]);
    fs::write(file, edited).unwrap();
}

/// Changes the bytes of the language model's head.
pub fn change_head(model: &Path, change: impl FnOnce(&mut [u8])) {
    let file = model.join("model.safetensors");
    let mut range = (0, 0);
    edit_header(&file, |header| {
        let name = header.keys().find(|name| name.ends_with("lm_head.weight"));
        let head = name.or_else(|| header.keys().find(|name| name.ends_with("embed_tokens.weight"))).unwrap();
        let at = |i: usize| header[head]["data_offsets"][i].as_u64().unwrap() as usize;
        range = (at(0), at(1));
    });
    let mut bytes = fs::read(&file).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    change(&mut bytes[data + range.0..data + range.1]);
    fs::write(&file, bytes).unwrap();
}
