//! Conversion of checkpoints of LLaVA's original code, made from the golden checkpoint.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bpo_model::{Converted, FamilySpec, ModelError, Processor, ProcessorError, VlmConfig, convert_original};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use crate::support::{Golden, device, read_json};

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// The golden checkpoint in the original format, with its vision tower in a directory of its own.
struct Original {
    dir: tempfile::TempDir,
    model: Tensors,
    tower: Tensors,
}

impl Original {
    fn new() -> Self {
        let golden = Golden::open().checkpoint();
        let dir = tempfile::tempdir().unwrap();
        let (mut model, mut tower) = (Tensors::new(), Tensors::new());
        for (path, tensor) in canonical(&golden) {
            if let Some(rest) = path.strip_prefix("vision_tower.") {
                tower.insert(format!("vision_model.{rest}"), tensor);
                continue;
            }
            let name = path
                .replace("multi_modal_projector.linear_1.", "model.mm_projector.0.")
                .replace("multi_modal_projector.linear_2.", "model.mm_projector.2.")
                .replace("language_model.", "model.");
            model.insert(name, tensor);
        }
        // what the converted format does not have
        let table = (Dtype::F32, vec![2], vec![0; 8]);
        model.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), table.clone());
        tower.insert("text_model.final_layer_norm.bias".into(), table);
        tower.insert("vision_model.embeddings.position_ids".into(), (Dtype::I64, vec![1], vec![0; 8]));
        let original = Self { dir, model, tower };
        for name in ["model", "tower"] {
            fs::create_dir(original.at(name)).unwrap();
        }
        for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
            fs::copy(golden.join(name), original.at("model").join(name)).unwrap();
        }
        fs::copy(golden.join("preprocessor_config.json"), original.at("tower/preprocessor_config.json"))
            .unwrap();
        let config = read_json(&golden.join("config.json"));
        let clip = json!({"model_type": "clip", "vision_config": config["vision_config"]});
        fs::write(original.at("tower/config.json"), clip.to_string()).unwrap();
        let mut text: Map<String, Value> = config["text_config"].as_object().unwrap().clone();
        text.remove("pad_token_id");
        text.extend([
            ("architectures".to_owned(), json!(["LlavaLlamaForCausalLM"])),
            ("model_type".to_owned(), json!("llava_llama")),
            ("mm_vision_tower".to_owned(), json!("org/tower")),
            ("mm_projector_type".to_owned(), json!("mlp2x_gelu")),
            ("mm_vision_select_layer".to_owned(), config["vision_feature_layer"].clone()),
            ("mm_vision_select_feature".to_owned(), json!("patch")),
            ("image_aspect_ratio".to_owned(), json!("pad")),
            ("mm_use_im_start_end".to_owned(), json!(false)),
            ("tune_mm_mlp_adapter".to_owned(), json!(false)),
        ]);
        fs::write(original.at("model/config.json"), Value::from(text).to_string()).unwrap();
        original
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Removes `<image>` and `<pad>` from the tokenizer, and the rows from the first of them on.
    /// Returns the number of rows that are left.
    fn shorten(&mut self) -> usize {
        let path = self.at("model/tokenizer.json");
        let mut tokenizer = read_json(&path);
        let tokens = tokenizer["added_tokens"].as_array_mut().unwrap();
        let is_new = |token: &Value| token["content"] == "<image>" || token["content"] == "<pad>";
        let first =
            tokens.iter().filter(|token| is_new(token)).map(|token| token["id"].as_u64().unwrap()).min();
        tokens.retain(|token| !is_new(token));
        fs::write(&path, tokenizer.to_string()).unwrap();
        let rows = first.unwrap() as usize;
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            let (_, shape, bytes) = self.model.get_mut(name).unwrap();
            bytes.truncate(bytes.len() / shape[0] * rows);
            shape[0] = rows;
        }
        rows
    }

    fn edit_config(&self, edit: impl FnOnce(&mut Value)) {
        let path = self.at("model/config.json");
        let mut config = read_json(&path);
        edit(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    /// Writes the weights and converts them.
    fn convert(&self) -> Result<Converted, ModelError> {
        write(&self.at("model/model.safetensors"), &self.model);
        self.convert_files()
    }

    fn convert_files(&self) -> Result<Converted, ModelError> {
        write(&self.at("tower/model.safetensors"), &self.tower);
        let converted = convert_original(&self.at("model"), &self.at("tower"), &self.at("out"), &device());
        // the whole output, or nothing
        assert_eq!(self.at("out").exists(), converted.is_ok());
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 2 + usize::from(converted.is_ok()));
        converted
    }
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The weights of a checkpoint by their paths.
fn canonical(dir: &Path) -> Tensors {
    let spec = FamilySpec::of_checkpoint(dir).unwrap();
    let mut tensors = Tensors::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "safetensors") {
            let bytes = fs::read(path).unwrap();
            for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
                let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
                tensors.insert(spec.canonical(name), tensor);
            }
        }
    }
    tensors
}

fn processor(dir: &Path) -> Processor {
    Processor::from_dir(dir, &VlmConfig::from_dir(dir).unwrap()).unwrap()
}

/// Checks that configuration, tokenizer, template and image processor are those of the golden
/// checkpoint.
fn check_same_processor(out: &Path) {
    let golden = Golden::open().checkpoint();
    let config = VlmConfig::from_dir(out).unwrap();
    assert_eq!(config, VlmConfig::from_dir(&golden).unwrap());
    let (converted, expected) = (processor(out), processor(&golden));
    let photo = image::RgbImage::from_fn(50, 30, |x, y| image::Rgb([x as u8, y as u8, 7]));
    let [one, other] = [&converted, &expected].map(|processor| processor.image.process(&photo).unwrap());
    assert_eq!(one, other);
    let ids = |processor: &Processor| {
        let layout = processor.image.layout(50, 30).unwrap();
        processor.encode_completion(None, &[], "Is it a cat?", "Yes, two.", &[&layout]).unwrap()
    };
    assert_eq!(ids(&converted), ids(&expected));
}

#[test]
fn a_checkpoint_comes_back_to_the_bit() {
    let original = Original::new();
    let converted = original.convert().unwrap();
    assert!(converted.has_default_template && converted.was_padded);
    assert_eq!(converted.vocabulary[0], converted.vocabulary[1]);
    let golden = Golden::open().checkpoint();
    assert_eq!(canonical(&original.at("out")), canonical(&golden));
    check_same_processor(&original.at("out"));
    // the names of llava-hf
    let index = read_json(&original.at("out/model.safetensors.index.json"));
    for name in [
        "language_model.model.embed_tokens.weight",
        "language_model.lm_head.weight",
        "multi_modal_projector.linear_2.bias",
        "vision_tower.vision_model.pre_layrnorm.weight",
    ] {
        assert!(index["weight_map"][name].is_string(), "{name}");
    }
}

#[test]
fn new_tokens_get_the_mean_of_the_embeddings() {
    let mut original = Original::new();
    let rows = original.shorten();
    let converted = original.convert().unwrap();
    let golden = canonical(&Golden::open().checkpoint());
    let (_, shape, _) = &golden["lm_head.weight"];
    assert_eq!(converted.vocabulary, [shape[0], rows]);
    check_same_processor(&original.at("out"));
    let tensors = canonical(&original.at("out"));
    let width = shape[1];
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    for name in ["language_model.embed_tokens.weight", "lm_head.weight"] {
        let (found, expected) = (floats(&tensors[name].2), floats(&golden[name].2));
        assert_eq!(tensors[name].1, golden[name].1);
        assert_eq!(found[..rows * width], expected[..rows * width]);
        for (at, value) in found.iter().enumerate().skip(rows * width) {
            let column = found[..rows * width].iter().skip(at % width).step_by(width);
            let mean = column.map(|value| f64::from(*value)).sum::<f64>() / rows as f64;
            assert!((f64::from(*value) - mean).abs() < 1e-6, "{name}: {value} {mean}");
        }
    }
    let same =
        |name: &String| !["language_model.embed_tokens.weight", "lm_head.weight"].contains(&name.as_str());
    assert!(golden.iter().filter(|(name, _)| same(name)).all(|(name, tensor)| tensors[name] == *tensor));
}

/// Shards as the conversion of pickles leaves them, a projector of its own, and a tower that was
/// trained.
#[test]
fn all_layouts_of_the_original_code_are_read() {
    let mut original = Original::new();
    let is_projector = |name: &String| name.starts_with("model.mm_projector.");
    let (projector, model): (Tensors, Tensors) =
        std::mem::take(&mut original.model).into_iter().partition(|(name, _)| is_projector(name));
    let (first, mut second): (Tensors, Tensors) = model.into_iter().enumerate().fold(
        Default::default(),
        |mut halves: (Tensors, Tensors), (i, tensor)| {
            if i % 2 == 0 {
                halves.0.extend([tensor])
            } else {
                halves.1.extend([tensor])
            }
            halves
        },
    );
    for (name, (dtype, shape, bytes)) in &original.tower {
        if name.starts_with("vision_model.") {
            let trained = format!("model.vision_tower.vision_tower.{name}");
            second.insert(trained, (*dtype, shape.clone(), bytes.clone()));
        }
    }
    // the weights of the other tower are not used
    original.tower.values_mut().for_each(|(_, _, bytes)| bytes.fill(0));
    write(&original.at("model/pytorch_model-00001-of-00002.safetensors"), &first);
    write(&original.at("model/pytorch_model-00002-of-00002.safetensors"), &second);
    let error = original.convert_files().unwrap_err();
    let ModelError::Weights { problems, .. } = &error else { panic!("{error}") };
    assert_eq!(problems.missing, ["model.mm_projector.0.weight"]);
    fs::write(original.at("model/mm_projector.bin"), "").unwrap();
    assert!(matches!(original.convert_files(), Err(ModelError::Pickle { .. })));
    write(&original.at("model/mm_projector.safetensors"), &projector);
    original.convert_files().unwrap();
    assert_eq!(canonical(&original.at("out")), canonical(&Golden::open().checkpoint()));
}

#[test]
fn what_cannot_be_converted_is_refused() {
    for (key, value) in [
        ("mm_projector_type", json!("linear")),
        ("mm_projector_type", Value::Null),
        ("mm_projector_type", json!(3)),
        ("mm_vision_tower", json!(["org/tower"])),
        ("image_aspect_ratio", json!({})),
        ("image_aspect_ratio", json!("anyres")),
        ("mm_vision_select_feature", json!("slice")),
        ("mm_use_im_start_end", json!(true)),
        ("model_type", json!("llava_mpt")),
    ] {
        let original = Original::new();
        original.edit_config(|config| config[key] = value.clone());
        let error = original.convert().unwrap_err();
        assert!(
            matches!(&error, ModelError::Unsupported { key: found, .. } if found == key),
            "{key}: {error}"
        );
    }
    let refuses = |change: &dyn Fn(&mut Original)| {
        let mut original = Original::new();
        change(&mut original);
        original.convert().unwrap_err()
    };
    let newline = (Dtype::F32, vec![1], vec![0; 4]);
    let error =
        refuses(&|original| drop(original.model.insert("model.image_newline".into(), newline.clone())));
    assert!(error.to_string().contains("LLaVA-NeXT"), "{error}");
    let error = refuses(&|original| drop(original.model.remove("model.norm.weight")));
    let ModelError::Weights { problems, .. } = &error else { panic!("{error}") };
    assert_eq!(problems.missing, ["model.norm.weight"]);
    let error = refuses(&|original| drop(fs::remove_file(original.at("model/tokenizer.json"))));
    assert!(matches!(error, ModelError::Processor(ProcessorError::NoTokenizer { .. })), "{error}");
    for text in ["{}", r#"{"model": {"vocab": {"a": 4294967295}}, "added_tokens": []}"#, "{"] {
        let error = refuses(&|original| fs::write(original.at("model/tokenizer.json"), text).unwrap());
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
    // a converted checkpoint
    let golden = Golden::open().checkpoint();
    let original = Original::new();
    let error = convert_original(&golden, &original.at("tower"), &original.at("out"), &device()).unwrap_err();
    assert!(error.to_string().contains("mm_vision_tower is missing"), "{error}");
    // pickles are refused with two lines that convert them
    fs::write(original.at("model/pytorch_model.bin"), "").unwrap();
    let error = original.convert_files().unwrap_err();
    let ModelError::Pickle { convert, .. } = &error else { panic!("{error}") };
    assert_eq!(convert.lines().count(), 2);
    assert!(convert.contains("weights_only=True") && convert.contains("save_file"), "{convert}");
}

/// Errors name the files, keys and weights of the user, not those of the converted checkpoint.
#[test]
fn errors_are_of_the_files_that_are_given() {
    let edit = |original: &Original, file: &str, edit: &dyn Fn(&mut Value)| {
        let path = original.at(file);
        let mut value = read_json(&path);
        edit(&mut value);
        fs::write(path, value.to_string()).unwrap();
    };
    let refuses = |change: &dyn Fn(&mut Original)| {
        let mut original = Original::new();
        change(&mut original);
        let error = original.convert().unwrap_err().to_string();
        let error = error.replace(original.dir.path().to_str().unwrap(), "");
        assert!(!error.contains(".bpo-") && !error.contains(".tmp"), "{error}");
        error
    };
    let error =
        refuses(&|original| original.edit_config(|config| config["mm_vision_select_layer"] = json!(99)));
    assert!(error.starts_with("/model/config.json: mm_vision_select_layer is 99"), "{error}");
    let error =
        refuses(&|original| original.edit_config(|config| config["mm_vision_select_layer"] = json!("a")));
    assert!(error.starts_with("/model/config.json: `mm_vision_select_layer`"), "{error}");
    let error = refuses(&|original| original.edit_config(|config| config["num_key_value_heads"] = json!(3)));
    assert!(error.starts_with("/model/config.json: num_key_value_heads is 3"), "{error}");
    let error = refuses(&|original| {
        edit(original, "tower/config.json", &|config| {
            config["vision_config"]["num_attention_heads"] = json!(5)
        });
    });
    assert!(error.starts_with("/tower/config.json: vision_config."), "{error}");
    let error = refuses(&|original| {
        edit(original, "tower/preprocessor_config.json", &|settings| settings["image_mean"] = json!("a"));
    });
    assert!(error.starts_with("/tower/preprocessor_config.json: `image_mean`"), "{error}");
    let error = refuses(&|original| drop(original.model.remove("model.layers.1.mlp.up_proj.weight")));
    assert!(error.starts_with("/model: ") && error.contains("missing: model.layers.1.mlp.up_proj.weight"));
    let error = refuses(&|original| drop(original.tower.remove("vision_model.pre_layrnorm.bias")));
    assert!(error.starts_with("/tower: ") && error.contains("missing: vision_model.pre_layrnorm.bias"));
}

#[test]
fn another_vision_tower_is_refused() {
    let refused = |key: &str, value: Value| {
        let original = Original::new();
        original.edit_config(|config| config[key] = value);
        original.convert().unwrap_err().to_string()
    };
    let error = refused("mm_hidden_size", json!(1024));
    assert!(error.contains("tower/config.json: vision_config.hidden_size is"), "{error}");
    assert!(error.contains("1024 (mm_hidden_size in"), "{error}");
    let error = refused("mm_vision_tower", json!("openai/clip-vit-large-patch14-336"));
    assert!(error.contains("vision_config.patch_size is"), "{error}");
    let tower = Original::new();
    let config = read_json(&tower.at("tower/config.json"));
    let size = |key: &str| config["vision_config"][key].as_u64().unwrap();
    let name = |image: u64| format!("org/vit-patch{}-{image}", size("patch_size"));
    let error = refused("mm_vision_tower", json!(name(size("image_size") + 1)));
    assert!(error.contains("vision_config.image_size is"), "{error}");
    tower.edit_config(|config| {
        config["mm_hidden_size"] = json!(size("hidden_size"));
        config["mm_vision_tower"] = json!(name(size("image_size")));
    });
    tower.convert().unwrap();
}

/// A directory of links to the files of another one, and the layout of a hub's cache with its blobs
/// elsewhere.
#[cfg(unix)]
#[test]
fn links_to_the_files_are_followed() {
    let original = Original::new();
    write(&original.at("model/model.safetensors"), &original.model);
    write(&original.at("tower/model.safetensors"), &original.tower);
    let elsewhere = tempfile::tempdir().unwrap();
    for name in ["model", "tower"] {
        fs::create_dir(elsewhere.path().join(name)).unwrap();
        for file in fs::read_dir(original.at(name)).unwrap().map(|file| file.unwrap()) {
            let link = elsewhere.path().join(name).join(file.file_name());
            std::os::unix::fs::symlink(file.path(), link).unwrap();
        }
    }
    let out = elsewhere.path().join("out");
    let at = |name: &str| elsewhere.path().join(name);
    convert_original(&at("model"), &at("tower"), &out, &device()).unwrap();
    assert_eq!(canonical(&out), canonical(&Golden::open().checkpoint()));
    check_same_processor(&out);
    assert!(out.join("generation_config.json").is_file());
}
