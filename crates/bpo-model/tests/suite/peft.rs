//! Compares adapters of many forms with PEFT.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::{Golden, device, floats, gradients, input, read_json, root, waved};
use bpo_model::{
    Adapters, LoadOptions, LoraConfig, ModulePatterns, PixelValues, TargetModules, Vlm, load_adapter,
    merge_checkpoint, save_adapter,
};
use burn::module::Module;
use burn::tensor::TensorData;
use burn::tensor::activation::log_softmax;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    file.iter().map(|(name, view)| (name.to_owned(), tensor(view))).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let view = |(dtype, shape, data): &'_ (Dtype, Vec<usize>, Vec<u8>)| (*dtype, shape.clone(), data.clone());
    let owned: Vec<_> = tensors.iter().map(|(name, tensor)| (name, view(tensor))).collect();
    let views = owned
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Directories of one test.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The golden checkpoint, or the same with the embedding as its head.
    fn model(&self, tied: bool) -> PathBuf {
        let golden = Golden::open().checkpoint();
        if !tied {
            return golden;
        }
        let dir = self.at("tied");
        std::fs::create_dir_all(&dir).unwrap();
        for file in std::fs::read_dir(golden).unwrap() {
            let path = file.unwrap().path();
            std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
        }
        let mut tensors = read(&dir.join("model.safetensors"));
        tensors.retain(|name, _| !name.ends_with("lm_head.weight"));
        write(&dir.join("model.safetensors"), &tensors);
        let mut config = read_json(&dir.join("config.json"));
        config["tie_word_embeddings"] = true.into();
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        dir
    }

    fn adapter(&self, tensors: &Tensors, config: &str) -> PathBuf {
        let dir = self.at("adapter");
        std::fs::create_dir_all(&dir).unwrap();
        write(&dir.join("adapter_model.safetensors"), tensors);
        std::fs::write(dir.join("adapter_config.json"), config).unwrap();
        dir
    }
}

fn load(dir: &Path) -> Vlm {
    Vlm::from_pretrained(dir, &LoadOptions::default(), &device()).unwrap()
}

/// Log-probability of the first golden answer.
fn logp(model: &Vlm, adapters: Adapters) -> f64 {
    let golden = Golden::open();
    let (values, shape) = golden.floats("clean.pixel_values");
    let data = values[..shape[1..].iter().product()].to_vec();
    let pixels = PixelValues { data, channels: shape[1], height: shape[2], width: shape[3] };
    let (ids, start) = (golden.ids("p0.chosen.input_ids"), golden.ids("p0.prompt_ids").len());
    let logits = model.logits(&ids, &[input(model, &pixels)], adapters).unwrap();
    let vocabulary = logits.dims()[1];
    let logps = floats(log_softmax(logits, 1));
    (start..ids.len()).map(|at| f64::from(logps[(at - 1) * vocabulary + ids[at] as usize])).sum()
}

/// The text of the case's `adapter_config.json`: the order of its keys counts.
fn config(case: &Value) -> &str {
    case["config"].as_str().unwrap()
}

/// The weights of a case.
fn weights(case: &Value) -> Tensors {
    let name = format!("peft/{}.safetensors", case["weights"].as_str().unwrap());
    let mut tensors = read(&root().join(name));
    if let Some(part) = case["left_out"].as_str() {
        tensors.retain(|name, _| !name.contains(part));
    }
    for (name, factor) in case["scaled"].as_object().into_iter().flatten() {
        let data = &mut tensors.get_mut(name).unwrap().2;
        for value in data.chunks_exact_mut(4) {
            let scaled = f32::from_le_bytes(value.try_into().unwrap()) * factor.as_f64().unwrap() as f32;
            value.copy_from_slice(&scaled.to_le_bytes());
        }
    }
    tensors
}

fn near(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() < 1e-3, "{what}: {found}, PEFT {expected}");
}

#[test]
fn adapters_compute_what_they_compute_with_peft() {
    let cases = read_json(&root().join("peft/cases.json"));
    let plain = cases["base"]["logp"].as_f64().unwrap();
    near(logp(&load(&Golden::open().checkpoint()), Adapters::On), plain, "base");
    for (name, case) in cases.as_object().unwrap().iter().filter(|(name, _)| *name != "base") {
        let place = Place::new();
        let tied = case["tied"] == true;
        let (model, adapter) = (place.model(tied), place.adapter(&weights(case), config(case)));
        let loaded = load_adapter(load(&model), &adapter);
        let merged = merge_checkpoint(&model, &adapter, 1.0, &place.at("merged"), &device());
        let Some(expected) = case["logp"].as_f64() else {
            assert!(loaded.is_err() && merged.is_err(), "{name}: PEFT gives {}", case["error"]);
            continue;
        };
        let (loaded, config) = loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
        near(logp(&loaded, Adapters::On), expected, name);
        if !tied && name != "head_with_another_base" {
            near(logp(&loaded, Adapters::Off), plain, name);
        }
        near(logp(&loaded.clone().merged(), Adapters::On), expected, &format!("{name}, merged in memory"));
        if tied {
            let error = merged.unwrap_err().to_string();
            assert!(error.contains("lm_head") && error.contains("tie_word_embeddings"), "{name}: {error}");
        } else {
            merged.unwrap_or_else(|error| panic!("{name}: {error}"));
            near(logp(&load(&place.at("merged")), Adapters::On), expected, &format!("{name}, merged"));
        }
        // saved by this crate and loaded again
        save_adapter(&loaded, &config, "base", &place.at("saved")).unwrap();
        let (again, same) = load_adapter(load(&model), &place.at("saved")).unwrap();
        assert_eq!(same, config, "{name}");
        near(logp(&again, Adapters::On), expected, &format!("{name}, saved"));
    }
}

#[test]
fn a_head_and_single_linears_of_the_projector_are_trained() {
    let golden = Golden::open();
    let lora = LoraConfig::default()
        .with_rank(4, 8.0)
        .with_target_modules(TargetModules::Regex(r"lm_head|.*linear_1".into()))
        .with_modules_to_save(&["linear_2"])
        .with_rank_pattern([("lm_head", 2)].into_iter().collect())
        .with_alpha_pattern([("lm_head", 3.0)].into_iter().collect());
    let whole = LoraConfig::default()
        .with_rank(4, 8.0)
        .with_target_modules(TargetModules::Attention)
        .with_modules_to_save(&["multi_modal_projector", "lm_head"]);
    let (values, shape) = golden.floats("clean.pixel_values");
    let data = values[..shape[1..].iter().product()].to_vec();
    let pixels = PixelValues { data, channels: shape[1], height: shape[2], width: shape[3] };
    for (lora, parts) in [
        (
            lora,
            vec![
                "lm_head.weight.lora.a",
                "lm_head.weight.lora.b",
                "trained_projector.linear_1.weight.lora.a",
                "trained_projector.linear_1.weight.lora.b",
                "trained_projector.linear_2.bias",
                "trained_projector.linear_2.weight",
            ],
        ),
        (whole, vec!["trained_head.weight", "trained_projector.linear_1.weight"]),
    ] {
        let base = load(&golden.checkpoint());
        let plain = logp(&base, Adapters::On);
        let fresh = base.clone().with_lora(&lora, 1).unwrap();
        near(logp(&fresh, Adapters::On), plain, "fresh");
        let model = waved(fresh.train());
        assert!((logp(&model.valid(), Adapters::On) - plain).abs() > 1e-2);
        near(logp(&model.valid(), Adapters::Off), plain, "off");
        let logits = model
            .logits(&golden.ids("p0.chosen.input_ids"), &[input(&model, &pixels)], Adapters::On)
            .unwrap();
        let found = gradients(&model, log_softmax(logits, 1).powi_scalar(2).sum());
        for part in parts {
            let gradient: &TensorData = &found[part];
            assert!(gradient.iter::<f32>().any(|value| value != 0.0), "{part}");
        }
        assert!(!found.contains_key("trained_projector.linear_1.bias") || lora.modules_to_save.len() == 2);
        let place = Place::new();
        save_adapter(&model.valid(), &lora, "base", &place.at("adapter")).unwrap();
        let (loaded, config) = load_adapter(base, &place.at("adapter")).unwrap();
        assert_eq!(config, lora);
        near(logp(&loaded, Adapters::On), logp(&model.valid(), Adapters::On), "loaded");
    }
}

#[test]
fn the_order_of_patterns_is_kept() {
    let text = r#"{"z": 1, "a": 2, "m": 3}"#;
    let patterns: ModulePatterns<usize> = serde_json::from_str(text).unwrap();
    assert_eq!(patterns.iter().map(|(key, _)| key).collect::<String>(), "zam");
    assert_eq!(serde_json::to_string(&patterns).unwrap(), text.replace(' ', ""));
    for (lora, named) in [
        (LoraConfig::default().with_rank_pattern([("q_proj", 0)].into_iter().collect()), "rank_pattern"),
        (LoraConfig::default().with_alpha_pattern([("q_proj", 0.0)].into_iter().collect()), "alpha_pattern"),
        (LoraConfig::default().with_rank_pattern([("(", 1)].into_iter().collect()), "rank_pattern"),
        (LoraConfig::default().with_modules_to_save(&["embed_tokens"]), "modules_to_save"),
    ] {
        let error = load(&Golden::open().checkpoint()).with_lora(&lora, 1).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
}

/// Adapters of transformers 4 have its names in file and settings. Patterns are saved with the
/// names of transformers 5.
#[test]
fn settings_in_the_names_of_transformers_4_count_for_their_files() {
    let cases = read_json(&root().join("peft/cases.json"));
    let (old, new) = ("base_model.model.language_model.model.", "base_model.model.model.language_model.");
    let tensors: Tensors =
        weights(&cases["ranks"]).into_iter().map(|(name, tensor)| (name.replace(new, old), tensor)).collect();
    let old_names = config(&cases["ranks"])
        .replace(
            r".*language_model.*\\.(q_proj|v_proj)",
            r"language_model\\.model\\.layers\\..*\\.(q_proj|v_proj)",
        )
        .replace(r"layers\\.1", r"language_model\\.model\\.layers\\.1");
    assert!(old_names.matches("language_model").count() == 2, "{old_names}");
    let place = Place::new();
    let (base, adapter) = (load(&Golden::open().checkpoint()), place.adapter(&tensors, &old_names));
    let (loaded, found) = load_adapter(base.clone(), &adapter).unwrap();
    let expected = cases["ranks"]["logp"].as_f64().unwrap();
    near(logp(&loaded, Adapters::On), expected, "names of transformers 4");
    save_adapter(&loaded, &found, "base", &place.at("saved")).unwrap();
    near(logp(&load_adapter(base, &place.at("saved")).unwrap().0, Adapters::On), expected, "saved");
}

#[test]
fn forms_of_keys_are_read_that_peft_reads_and_others_are_named() {
    let case = &read_json(&root().join("peft/cases.json"))["attention"];
    let base = load(&Golden::open().checkpoint());
    let with = |rename: &dyn Fn(&str) -> String| {
        let place = Place::new();
        let tensors = weights(case).into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect();
        load_adapter(base.clone(), &place.adapter(&tensors, config(case))).map(|(model, _)| model)
    };
    for loaded in [
        with(&|name| name.replace(".weight", ".default.weight")),
        with(&|name| name.replace("base_model.model.", "")),
    ] {
        near(logp(&loaded.unwrap(), Adapters::On), case["logp"].as_f64().unwrap(), "form");
    }
    for rename in [
        &(|name: &str| name.replace("base_model.model.model.", "base_model.")) as &dyn Fn(&str) -> String,
        &|name| name.replace("lora_A.weight", "lora_A.other.weight"),
    ] {
        let error = with(rename).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("has the key base_model.") && error.contains("save_pretrained"), "{error}");
    }

    let place = Place::new();
    let mut tensors = weights(case);
    let embedding = "base_model.model.model.language_model.embed_tokens.weight";
    tensors.insert(embedding.into(), (Dtype::F32, vec![1], vec![0; 4]));
    let error = load_adapter(base.clone(), &place.adapter(&tensors, config(case))).map(|_| ()).unwrap_err();
    assert!(
        error.to_string().contains(embedding) && error.to_string().contains("saved embedding"),
        "{error}"
    );

    let dir = place.adapter(&weights(case), config(case));
    std::fs::rename(dir.join("adapter_model.safetensors"), dir.join("adapter_model.bin")).unwrap();
    let error = load_adapter(base.clone(), &dir).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("adapter_model.bin is a PyTorch pickle") && error.contains("save_file"),
        "{error}"
    );

    let config = config(case).replace("\"lora_alpha\": 8", "\"lora_alpha\": \"16\"");
    let error =
        load_adapter(base, &place.adapter(&weights(case), &config)).map(|_| ()).unwrap_err().to_string();
    let named = "adapter_config.json: `lora_alpha`: expected a number, found \"16\"";
    assert!(error.contains(named), "{error}");
}
