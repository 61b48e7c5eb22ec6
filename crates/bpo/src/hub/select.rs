//! The files of a model that a checkpoint needs.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::path::Path;

use bpo_pairs::Limits;
use bpo_pairs::files::read_bytes;
use serde::Deserialize;

use super::client::Listed;
use super::error::HubError;
use crate::fingerprint::ADAPTER_CONFIG;

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLES: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];
/// Maximum size in bytes of a file that holds no weights: a tokenizer is the largest one.
const SMALL_FILE_BYTES: u64 = Limits::DEFAULT.tokenizer_bytes;
/// Maximum number of such files. A checkpoint has about fifteen.
const MOST_SMALL_FILES: usize = 1000;

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: HashMap<String, String>,
}

/// Returns the files of configuration, tokenizer and processor, which are downloaded before the
/// weights. Files in subdirectories do not belong to the checkpoint.
pub(super) fn small(model: &str, files: &[Listed]) -> Result<Vec<Listed>, HubError> {
    let has = |is: &dyn Fn(&str) -> bool| files.iter().any(|file| is(&file.name));
    if !has(&|name| name == CONFIG) {
        let found = if has(&|name| name == ADAPTER_CONFIG) {
            "; it is an adapter of PEFT: give its base model, and the downloaded adapter as the adapter"
        } else if has(&|name| name.ends_with(".gguf")) {
            "; it has GGUF files, which are not read"
        } else {
            ""
        };
        return Err(HubError::NoConfig { model: model.to_owned(), found });
    }
    let is_wanted = |name: &str| {
        let parts = name.rsplit_once('.');
        matches!(parts, Some((_, "json" | "jinja" | "model")) | Some(("merges" | "vocab", "txt")))
    };
    let chosen: Vec<_> =
        files.iter().filter(|file| is_file_name(&file.name) && is_wanted(&file.name)).cloned().collect();
    if chosen.len() > MOST_SMALL_FILES {
        let reason = format!("it has more than {MOST_SMALL_FILES} files of settings");
        return Err(HubError::Listing { model: model.to_owned(), reason });
    }
    for file in &chosen {
        check_small(model, &file.name, file.size.unwrap_or(0))?;
    }
    Ok(chosen)
}

/// Checks the size of a file that holds no weights. It may be known only when the file is requested,
/// because the list of files may leave it out.
pub(super) fn check_small(model: &str, file: &str, size: u64) -> Result<(), HubError> {
    if size <= SMALL_FILE_BYTES {
        return Ok(());
    }
    let (model, file) = (model.to_owned(), file.to_owned());
    Err(HubError::TooLarge { model, file, size, limit: SMALL_FILE_BYTES })
}

/// Returns the files of weights: one file, or the shards of the index in `dir`. The single file
/// counts if there are both, as in transformers.
pub(super) fn weights(model: &str, files: &[Listed], dir: &Path) -> Result<Vec<Listed>, HubError> {
    let listed = |name: &str| files.iter().find(|file| file.name == name);
    if let Some(single) = listed(SINGLE) {
        return Ok(vec![single.clone()]);
    }
    if listed(INDEX).is_none() {
        let is_pickle = |name: &str| name.rsplit_once('.').is_some_and(|(_, end)| PICKLES.contains(&end));
        let pickles =
            files.iter().map(|file| &file.name).filter(|name| is_file_name(name) && is_pickle(name));
        return Err(HubError::NoWeights { model: model.to_owned(), pickles: pickles.cloned().collect() });
    }
    let shard = |name: String| {
        listed(&name).filter(|file| is_file_name(&file.name)).cloned().ok_or_else(|| HubError::NoFile {
            model: model.to_owned(),
            file: name.clone(),
            of: INDEX,
        })
    };
    shards(model, dir)?.into_iter().map(shard).collect()
}

/// Returns the name of a file that a checkpoint directory needs and does not have, or `None` if
/// the directory is complete.
pub(super) fn missing(model: &str, dir: &Path) -> Result<Option<String>, HubError> {
    let has = |name: &str| dir.join(name).is_file();
    if !has(CONFIG) {
        return Ok(Some(CONFIG.to_owned()));
    }
    if has(SINGLE) {
        return Ok(None);
    }
    if !has(INDEX) {
        return Ok(Some(SINGLE.to_owned()));
    }
    Ok(shards(model, dir)?.into_iter().find(|name| !is_file_name(name) || !has(name)))
}

fn shards(model: &str, dir: &Path) -> Result<BTreeSet<String>, HubError> {
    let bytes = read_bytes(&dir.join(INDEX), Limits::DEFAULT.settings_bytes)?;
    let index: ShardIndex = serde_json::from_slice(&bytes).map_err(|error| HubError::Listing {
        model: model.to_owned(),
        reason: format!("{INDEX}: {error}"),
    })?;
    Ok(index.weight_map.into_values().collect())
}

/// Returns whether a name from the server is that of a file in the directory itself, on every
/// system, and of no hidden file.
fn is_file_name(name: &str) -> bool {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    name.len() <= 255 && name.chars().all(is_safe) && !name.starts_with('.') && !name.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> Vec<Listed> {
        names.iter().map(|name| Listed { name: (*name).to_owned(), size: Some(1) }).collect()
    }

    fn names(files: Vec<Listed>) -> Vec<String> {
        files.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn only_files_of_a_checkpoint_are_chosen() {
        let wanted = ["config.json", "chat_template.jinja", "tokenizer.model", "merges.txt"];
        let others = [
            "README.md",
            "LICENSE.txt",
            ".gitattributes",
            "modeling.py",
            "pytorch_model.bin",
            "training_args.bin",
            "onnx/config.json",
            "../config.json",
            "/etc/x.json",
            "a\\b.json",
            "C:x.json",
            ".json",
            "..json",
            "a b.json",
            "model.safetensors",
            "consolidated.safetensors",
            "tokenizer.json\u{0}",
            "é.json",
        ];
        assert_eq!(names(small("a/b", &listed(&[&wanted[..], &others].concat())).unwrap()), wanted);
        let config = Listed { name: CONFIG.to_owned(), size: Some(1) };
        let large = [config, Listed { name: "tokenizer.json".to_owned(), size: Some(1 << 40) }];
        assert!(matches!(small("a/b", &large), Err(HubError::TooLarge { .. })));
        let many: Vec<String> = (0..MOST_SMALL_FILES).map(|number| format!("{number}.json")).collect();
        let many: Vec<&str> = [CONFIG].into_iter().chain(many.iter().map(String::as_str)).collect();
        assert!(matches!(small("a/b", &listed(&many)), Err(HubError::Listing { .. })));
        assert_eq!(small("a/b", &listed(&many[..MOST_SMALL_FILES])).unwrap().len(), MOST_SMALL_FILES);
        for (files, part) in [
            (&["README.md", "model.safetensors"][..], "transformers"),
            (&["adapter_config.json", "tokenizer.json"], "an adapter of PEFT"),
            (&["a-Q4_K_M.gguf"], "GGUF"),
        ] {
            let error = small("a/b", &listed(files)).unwrap_err().to_string();
            assert!(error.starts_with("a/b has no config.json") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn weights_are_one_file_or_the_shards_of_the_index() {
        let dir = tempfile::tempdir().unwrap();
        let index = |map: &str| {
            std::fs::write(dir.path().join(INDEX), format!("{{\"weight_map\": {map}}}")).unwrap();
        };
        let chosen = |files: &[&str]| weights("a/b", &listed(files), dir.path()).map(names);
        assert_eq!(chosen(&[SINGLE, INDEX, "x.safetensors"]).unwrap(), [SINGLE]);
        index(r#"{"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors"}"#);
        let shards = ["m-1.safetensors", "m-2.safetensors"];
        assert_eq!(chosen(&[&[INDEX, "consolidated.safetensors"][..], &shards].concat()).unwrap(), shards);
        assert!(
            matches!(chosen(&[INDEX, shards[0]]), Err(HubError::NoFile { file, .. }) if file == shards[1])
        );
        index(r#"{"a": "../m.safetensors"}"#);
        assert!(matches!(chosen(&[INDEX, "../m.safetensors"]), Err(HubError::NoFile { .. })));
        index("7");
        assert!(matches!(chosen(&[INDEX]), Err(HubError::Listing { .. })));
        let error = chosen(&["config.json", "pytorch_model.bin"]).unwrap_err().to_string();
        assert!(error.contains("pytorch_model.bin") && error.contains("save_pretrained"), "{error}");
    }
}
