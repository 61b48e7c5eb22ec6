//! Loading of checkpoints in all supported forms, and of broken ones.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::{Golden, device, floats, input, processor, read_json};
use bpo_model::{
    Adapters, FamilySpec, LoadOptions, ModelError, PixelValues, ScoreBatch, TokenizedCompletion, Vlm,
    VlmConfig,
};
use burn::module::Module;
use burn::tensor::{DType, FloatDType, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

/// The path of a weight, by its name in a file.
fn canonical(name: &str) -> String {
    FamilySpec::named("llava").unwrap().canonical(name)
}

/// A copy of the golden checkpoint that can be changed.
struct Checkpoint {
    dir: tempfile::TempDir,
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Checkpoint {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let golden = Golden::open().checkpoint();
        for file in std::fs::read_dir(&golden).unwrap() {
            let path = file.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        let bytes = std::fs::read(golden.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file
            .iter()
            .map(|(name, view)| {
                (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
            })
            .collect();
        Self { dir, tensors }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, file: &str, keep: impl Fn(usize) -> bool) {
        let views = self.tensors.iter().enumerate().filter(|(i, _)| keep(*i)).map(
            |(_, (name, (dtype, shape, data)))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()),
        );
        let bytes = safetensors::serialize(views, None).unwrap();
        std::fs::write(self.path().join(file), bytes).unwrap();
    }

    fn rewrite(&self) {
        self.write("model.safetensors", |_| true);
    }

    fn set_config(&self, pointer: &str, value: Value) {
        let path = self.path().join("config.json");
        let mut config = read_json(&path);
        *config.pointer_mut(pointer).unwrap() = value;
        std::fs::write(path, config.to_string()).unwrap();
    }

    fn load(&self) -> Result<Vlm, ModelError> {
        Vlm::from_pretrained(self.path(), &LoadOptions::default(), &device())
    }

    /// Logits of the first golden prompt.
    fn logits(&self) -> Vec<f32> {
        let golden = Golden::open();
        let (values, shape) = golden.floats("clean.pixel_values");
        let size: usize = shape[1..].iter().product();
        let pixels = PixelValues {
            data: values[..size].to_vec(),
            channels: shape[1],
            height: shape[2],
            width: shape[3],
        };
        let model = self.load().unwrap();
        floats(model.logits(&golden.ids("p0.prompt_ids"), &[input(&model, &pixels)], Adapters::On).unwrap())
    }
}

#[test]
fn shards_and_one_file_are_the_same_model() {
    let checkpoint = Checkpoint::new();
    let expected = checkpoint.logits();
    let half = checkpoint.tensors.len() / 2;
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    checkpoint.write(shards[0], |i| i < half);
    checkpoint.write(shards[1], |i| i >= half);
    let map: BTreeMap<_, _> = checkpoint
        .tensors
        .keys()
        .enumerate()
        .map(|(i, name)| (name.clone(), shards[usize::from(i >= half)]))
        .collect();
    let index = json!({"metadata": {}, "weight_map": map});
    std::fs::write(checkpoint.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    std::fs::remove_file(checkpoint.path().join("model.safetensors")).unwrap();
    assert_eq!(checkpoint.logits(), expected);

    std::fs::remove_file(checkpoint.path().join(shards[1])).unwrap();
    let error = checkpoint.load().unwrap_err().to_string();
    assert!(error.contains(shards[1]), "{error}");
}

#[test]
fn names_of_transformers_5_are_understood() {
    let mut checkpoint = Checkpoint::new();
    let expected = checkpoint.logits();
    let renamed = |name: &str| match name.split_once('.').unwrap() {
        ("language_model", rest) if rest.starts_with("lm_head") => rest.to_owned(),
        ("language_model", rest) => {
            format!("model.language_model.{}", rest.strip_prefix("model.").unwrap_or(rest))
        }
        ("vision_tower", rest) => {
            format!("model.vision_tower.{}", rest.strip_prefix("vision_model.").unwrap_or(rest))
        }
        _ => format!("model.{name}"),
    };
    checkpoint.tensors =
        checkpoint.tensors.iter().map(|(name, tensor)| (renamed(name), tensor.clone())).collect();
    checkpoint.rewrite();
    assert_eq!(checkpoint.logits(), expected);
}

#[test]
fn saved_weights_are_those_that_were_loaded() {
    let checkpoint = Checkpoint::new();
    let file = checkpoint.path().join("model.safetensors");
    checkpoint.load().unwrap().save_weights(&file, FloatDType::F32).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let saved = SafeTensors::deserialize(&bytes).unwrap();
    for (name, view) in saved.iter() {
        // by canonical names
        let known = |other: &str| canonical(other) == canonical(name);
        let (_, (dtype, shape, data)) = checkpoint.tensors.iter().find(|(other, _)| known(other)).unwrap();
        assert_eq!((view.dtype(), view.shape(), view.data()), (*dtype, &shape[..], &data[..]), "{name}");
    }
    // the file loads again, in full and in half precision
    let model = checkpoint.load().unwrap();
    model.save_weights(&file, FloatDType::BF16).unwrap();
    assert!(std::fs::metadata(&file).unwrap().len() < bytes.len() as u64 * 6 / 10);
    checkpoint.load().unwrap();
}

#[test]
fn only_what_is_chosen_trains() {
    let model = Checkpoint::new().load().unwrap().train();
    let model =
        model.unfreeze(|path| path.starts_with("vision_tower.") || path.ends_with("mlp.up_proj.weight"));
    let paths = bpo_dpo::trainable_paths(&model);
    assert!(paths.contains(&"vision_tower.encoder.layers.0.mlp.fc1.weight".to_owned()), "{paths:?}");
    assert!(paths.contains(&"language_model.layers.0.mlp.up_proj.weight".to_owned()), "{paths:?}");
    assert!(
        !paths.iter().any(|path| path.contains("self_attn") && path.starts_with("language")),
        "{paths:?}"
    );
    assert!(bpo_dpo::trainable_paths(&model.unfreeze(|_| false)).is_empty());
}

#[test]
fn half_precision_files_load_as_what_is_asked_for() {
    for (stored, dtype) in [(Dtype::F16, DType::F16), (Dtype::BF16, DType::BF16)] {
        let mut checkpoint = Checkpoint::new();
        let converted = |data: &[u8], shape: &[usize], from: DType, to: DType| {
            let values = TensorData::from_bytes_vec(data.to_vec(), shape.to_vec(), from);
            values.convert_dtype(to).into_bytes().to_vec()
        };
        // the same values in f32, and in a file of half the size
        for (_, shape, data) in checkpoint.tensors.values_mut() {
            let rounded = converted(data, shape, DType::F32, dtype);
            *data = converted(&rounded, shape, dtype, DType::F32);
        }
        checkpoint.rewrite();
        let expected = checkpoint.logits();
        for (kept, shape, data) in checkpoint.tensors.values_mut() {
            (*kept, *data) = (stored, converted(data, shape, DType::F32, dtype));
        }
        checkpoint.rewrite();
        assert_eq!(checkpoint.logits(), expected, "{stored:?}");
    }
}

#[test]
fn all_that_is_wrong_with_the_weights_is_said_at_once() {
    let mut checkpoint = Checkpoint::new();
    let names: Vec<_> =
        checkpoint.tensors.keys().filter(|name| name.contains("layers.0.mlp")).cloned().collect();
    let [missing, misshapen, mistyped, ..] = names.as_slice() else { panic!("{names:?}") };
    checkpoint.tensors.remove(missing);
    checkpoint.tensors.get_mut(misshapen).unwrap().1.reverse();
    let mut bigger = checkpoint.tensors[misshapen].1.clone();
    bigger.push(1);
    checkpoint.tensors.get_mut(misshapen).unwrap().1 = bigger;
    checkpoint.tensors.get_mut(mistyped).unwrap().0 = Dtype::I32;
    checkpoint.tensors.insert("something.else".into(), (Dtype::U8, vec![1], vec![0]));
    checkpoint.rewrite();
    let error = checkpoint.load().unwrap_err();
    let ModelError::Weights { problems, .. } = &error else { panic!("{error}") };
    assert_eq!(
        (problems.missing.len(), problems.misshapen.len(), problems.mistyped.len(), problems.extra.len()),
        (1, 1, 1, 1),
        "{error}"
    );
    // as they are in the file
    for name in [missing, misshapen, mistyped] {
        assert!(error.to_string().contains(name), "{name} in {error}");
    }
}

/// A checkpoint of another family with a changed `model_type` is an error, because it would load
/// without some of its weights.
#[test]
fn weights_that_the_model_does_not_have_are_refused() {
    let layer = "language_model.model.layers.0";
    for (names, family) in [
        (vec![format!("{layer}.self_attn.q_proj.bias"), format!("{layer}.self_attn.v_proj.bias")], "Qwen2"),
        (vec![format!("{layer}.self_attn.q_norm.weight")], "Qwen3"),
        (vec!["image_newline".to_owned()], "LLaVA-NeXT"),
        (vec![format!("{layer}.mlp.experts.0.up_proj.weight")], "mixture-of-experts"),
        (vec!["language_model.model.layers.2.mlp.up_proj.weight".to_owned()], "num_hidden_layers"),
        (vec!["language_model.mtp.norm.weight".to_owned()], "several tokens"),
        (vec![format!("{layer}.mlp.up_proj.weight.absmax")], "quantized"),
        (vec!["vision_tower.vision_model.encoder.layers.0.layer_scale".to_owned()], "vision tower"),
        (vec!["language_model.lm_head.bias".to_owned()], "something else"),
    ] {
        let mut checkpoint = Checkpoint::new();
        for name in &names {
            checkpoint.tensors.insert(name.clone(), (Dtype::F32, vec![1], vec![0; 4]));
        }
        checkpoint.rewrite();
        let error = checkpoint.load().map(|_| ()).unwrap_err().to_string();
        for name in &names {
            assert!(error.contains(&format!("not part of the model: {name}")), "{name}: {error}");
        }
        assert!(error.contains(family), "{family}: {error}");
    }
}

/// Buffers that follow from the configuration, and weights of CLIP after the used hidden states,
/// may be missing or present.
#[test]
fn weights_that_change_nothing_may_be_there_or_not() {
    let mut checkpoint = Checkpoint::new();
    let expected = checkpoint.logits();
    for name in [
        "vision_tower.vision_model.embeddings.position_ids",
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq",
        "language_model.model.rotary_emb.inv_freq",
    ] {
        checkpoint.tensors.insert(name.into(), (Dtype::F32, vec![1], vec![0; 4]));
    }
    checkpoint.rewrite();
    assert_eq!(checkpoint.logits(), expected);
    let count = checkpoint.tensors.len();
    checkpoint.tensors.retain(|name, _| {
        !name.contains("vision_model.encoder.layers.2.") && !name.contains("post_layernorm.")
    });
    assert!(checkpoint.tensors.len() < count - 10);
    checkpoint.rewrite();
    assert_eq!(checkpoint.logits(), expected);
}

#[test]
fn many_problems_are_counted_and_some_are_named() {
    let checkpoint = Checkpoint::new();
    checkpoint.set_config("/text_config/num_hidden_layers", json!(900));
    let error = checkpoint.load().map(|_| ()).unwrap_err();
    let ModelError::Weights { problems, .. } = &error else { panic!("{error}") };
    assert_eq!(problems.missing.len(), 9 * 898);
    let text = error.to_string();
    assert!(text.len() < 2000 && text.contains("8066 more"), "{text}");
}

#[test]
fn other_families_formats_and_quantized_weights_are_named() {
    type Edit = Box<dyn Fn(&mut Value)>;
    let set = |pointer: &'static str, value: Value| -> Edit {
        Box::new(move |config: &mut Value| *config.pointer_mut(pointer).unwrap() = value.clone())
    };
    let add = |key: &'static str, value: Value| -> Edit {
        Box::new(move |config: &mut Value| config[key] = value.clone())
    };
    let original = ["original code", "llava-hf/llava-1.5-7b-hf", "bpo convert-checkpoint"];
    for (edit, named) in [
        (
            set("/model_type", json!("llava_next_video")),
            vec!["llava_next_video (LLaVA-NeXT-Video)", "llava-hf/llava-1.5-7b-hf"],
        ),
        (
            set("/model_type", json!("internvl_chat")),
            vec!["internvl_chat (InternVL in its own code", "OpenGVLab/InternVL3-1B-hf"],
        ),
        (set("/text_config/model_type", json!("gemma2")), vec!["text_config.model_type is gemma2"]),
        (set("/vision_config/model_type", json!("dinov2")), vec!["dinov2", "clip_vision_model"]),
        (set("/model_type", json!("llava_llama")), original.to_vec()),
        (set("/architectures", json!(["LlavaLlamaForCausalLM"])), original.to_vec()),
        (add("mm_vision_tower", json!("openai/clip-vit-large-patch14-336")), original.to_vec()),
        (
            add("quantization_config", json!({"quant_method": "bitsandbytes"})),
            vec!["quantization_config is set (bitsandbytes)", "dequantize"],
        ),
    ] {
        let checkpoint = Checkpoint::new();
        let path = checkpoint.path().join("config.json");
        let mut config = read_json(&path);
        edit(&mut config);
        std::fs::write(&path, config.to_string()).unwrap();
        let error = checkpoint.load().map(|_| ()).unwrap_err().to_string();
        for part in named {
            assert!(error.contains(part) && error.contains("config.json"), "{part}: {error}");
        }
    }
    let checkpoint = Checkpoint::new();
    std::fs::write(checkpoint.path().join("mm_projector.bin"), "").unwrap();
    let error = checkpoint.load().map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("mm_projector.bin") && error.contains(original[0]), "{error}");

    let checkpoint = Checkpoint::new();
    let at = |name: &str| checkpoint.path().join(name);
    std::fs::rename(at("model.safetensors"), at("pytorch_model.bin")).unwrap();
    let error = checkpoint.load().map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("pytorch_model.bin is a PyTorch pickle"), "{error}");
    assert!(error.lines().count() == 3 && error.contains("save_pretrained"), "{error}");
}

/// Messages name the key, and no Rust type.
#[test]
fn values_of_config_json_are_named_as_it_has_them() {
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0,
        "original_max_position_embeddings": 64,
    });
    for (pointer, value, expected) in [
        ("/vision_feature_layer", json!(99), "vision_feature_layer is 99;"),
        ("/vision_feature_layer", json!([1, 99]), "vision_feature_layer is [1, 99];"),
        ("/vision_feature_layer", json!("last"), "`vision_feature_layer`: expected a whole number or a list"),
        ("/text_config/rope_parameters", llama3, "high_freq_factor is 1;"),
        (
            "/text_config/rms_norm_eps",
            json!("1e-5"),
            "`text_config.rms_norm_eps`: expected a number, found \"1e-5\"",
        ),
        (
            "/text_config/hidden_size",
            json!(-1),
            "`text_config.hidden_size`: expected a whole number, at least 0, found -1",
        ),
        ("/vision_config", json!("clip"), "`vision_config`: expected an object, found \"clip\""),
    ] {
        let checkpoint = Checkpoint::new();
        checkpoint.set_config(pointer, value);
        let error = checkpoint.load().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("config.json"), "{pointer}: {error}");
        for form in ["Some(", "One(", "struct ", "enum ", "f64", "usize"] {
            assert!(!error.contains(form), "{pointer}: {error}");
        }
    }
}

#[test]
fn broken_files_are_named() {
    let checkpoint = Checkpoint::new();
    let weights = checkpoint.path().join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    for length in [0, 5, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&weights, &whole[..length]).unwrap();
        let error = checkpoint.load().unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{length} bytes: {error}");
    }
    std::fs::remove_file(&weights).unwrap();
    assert!(matches!(checkpoint.load(), Err(ModelError::NoWeights { .. })));
}

#[test]
fn a_configuration_that_is_not_supported_names_its_key() {
    for (pointer, value, expected) in [
        ("/text_config/rope_parameters/rope_type", json!("yarn"), "yarn"),
        ("/vision_feature_layer", json!(-99), "vision_feature_layer is -99;"),
        ("/vision_feature_layer", json!([-2, 99]), "vision_feature_layer is [-2, 99];"),
        (
            "/text_config/rope_parameters",
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0,
                   "original_max_position_embeddings": 64}),
            "high_freq_factor is 1;",
        ),
        ("/vision_config/patch_size", json!(0), "patch_size"),
        ("/text_config/num_key_value_heads", json!(1000), "num_key_value_heads"),
        ("/text_config/model_type", json!("gemma2"), "gemma2"),
        ("/vision_config/hidden_act", json!("tanhshrink"), "tanhshrink"),
        ("/text_config/rope_parameters/rope_theta", json!(0.0), "rope_theta"),
        ("/text_config", json!({"model_type": "llama", "sliding_window": 24}), "sliding_window is 24;"),
        ("/text_config", json!({"model_type": "mistral", "sliding_window": 0}), "sliding_window is 0;"),
        (
            "/text_config",
            json!({"model_type": "qwen2", "num_hidden_layers": 2, "layer_types": ["full_attention"]}),
            "layer_types is a list of 1 layers;",
        ),
        (
            "/text_config",
            json!({"model_type": "qwen2", "num_hidden_layers": 1, "layer_types": ["sliding_attention"]}),
            "layer_types[0] is sliding_attention;",
        ),
        ("/text_config/rope_parameters", json!({"type": "linear", "factor": 0.0}), "factor"),
        ("/text_config/rope_parameters", json!({"type": "dynamic"}), "dynamic without its factors"),
    ] {
        let checkpoint = Checkpoint::new();
        checkpoint.set_config(pointer, value);
        let error = checkpoint.load().unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("config.json"), "{pointer}: {error}");
    }
}

#[test]
fn sizes_above_their_limit_are_refused() {
    for (pointer, found) in [
        ("/text_config/num_hidden_layers", 1_000_000_u64),
        ("/text_config/head_dim", 1_000_000_000_000),
        ("/text_config/vocab_size", 1 << 40),
        ("/text_config/max_position_embeddings", u64::MAX),
        ("/vision_config/hidden_size", 1 << 62),
        ("/vision_config/image_size", 1 << 32),
        ("/vision_config/num_hidden_layers", 1_000_000),
    ] {
        let checkpoint = Checkpoint::new();
        checkpoint.set_config(pointer, json!(found));
        let error = checkpoint.load().unwrap_err().to_string();
        let key = pointer[1..].replace('/', ".");
        assert!(error.contains(&format!("config.json: {key} is {found}, above the limit of ")), "{error}");
    }
}

/// Keys have two names in transformers, `null` stands for defaults, and editors write byte order
/// marks.
#[test]
fn files_of_many_versions_load() {
    let checkpoint = Checkpoint::new();
    let expected = checkpoint.logits();
    let edit = |file: &str, change: &dyn Fn(&mut Value)| {
        let path = checkpoint.path().join(file);
        let mut settings = read_json(&path);
        change(&mut settings);
        std::fs::write(path, format!("\u{feff}{settings}")).unwrap();
    };
    edit("config.json", &|config| {
        let image = config["image_token_index"].clone();
        config["image_token_id"] = image;
        let rope = &mut config["text_config"]["rope_parameters"];
        rope["type"] = rope["rope_type"].clone();
    });
    edit("preprocessor_config.json", &|settings| {
        for key in ["do_pad", "resample", "rescale_factor", "do_resize"] {
            settings[key] = Value::Null;
        }
    });
    edit("processor_config.json", &|settings| {
        for key in ["do_pad", "resample", "rescale_factor", "do_resize"] {
            settings["image_processor"][key] = Value::Null;
        }
    });
    assert_eq!(checkpoint.logits(), expected);
    let processor = processor(checkpoint.path());
    checkpoint.load().unwrap().config().check_processor(&processor).unwrap();
}

#[test]
fn a_processor_of_another_checkpoint_is_refused() {
    let checkpoint = Checkpoint::new();
    let processor = processor(checkpoint.path());
    let refused = |pointer: &str, value: Value| {
        let before = std::fs::read(checkpoint.path().join("config.json")).unwrap();
        checkpoint.set_config(pointer, value);
        let config = VlmConfig::from_dir(checkpoint.path()).unwrap();
        std::fs::write(checkpoint.path().join("config.json"), before).unwrap();
        config.check_processor(&processor).unwrap_err()
    };
    assert!(matches!(refused("/image_token_index", json!(0)), ModelError::ImageToken { expected: 0, .. }));
    assert!(matches!(refused("/vision_config/image_size", json!(512)), ModelError::ImageSize { .. }));
    // the end token has the id 2
    assert!(matches!(
        refused("/text_config/vocab_size", json!(2)),
        ModelError::TokenOutside { id: 2, vocab: 2 }
    ));
    // without an image token in config.json, the default of transformers is used
    assert!(matches!(
        refused("/image_token_index", Value::Null),
        ModelError::ImageToken { expected: 32_000, .. }
    ));
}

/// Padding is never taken for image tokens, whatever their id. Sequences that cannot be scored are
/// errors.
#[test]
fn batches_that_do_not_fit_are_errors() {
    let checkpoint = Checkpoint::new();
    let config = checkpoint.load().unwrap().config().clone();
    let text = |ids: &[u32], start| vec![TokenizedCompletion::new(ids.to_vec(), start)];
    let batch = |completions| ScoreBatch::new(&config, vec![], &[(Vec::new(), completions)]).map(|_| ());
    assert!(batch(text(&[1, 4, 5, 2], 2)).is_ok());
    assert!(matches!(batch(text(&[4, 5, 2], 0)), Err(ModelError::EmptyPrompt)));
    assert!(matches!(batch(text(&[1, 4], 2)), Err(ModelError::EmptyAnswer { .. })));
    let image = config.image_token().unwrap();
    assert!(matches!(
        batch(text(&[1, image, 4, 5, 2], 3)),
        Err(ModelError::ImageTokens { expected: 0, found: 1 })
    ));
    assert!(matches!(batch(text(&[1, 4, image, 2], 2)), Err(ModelError::ImageTokens { .. })));
    let too_big = config.decoder().vocab_size as u32;
    assert!(matches!(batch(text(&[1, too_big, 4, 2], 2)), Err(ModelError::TokenOutside { .. })));
}

#[test]
fn a_directory_without_a_config_is_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let error = VlmConfig::from_dir(dir.path()).unwrap_err();
    assert!(matches!(&error, ModelError::NoConfig { dir: named } if named == dir.path()), "{error}");
    assert!(error.to_string().contains("no config.json"), "{error}");
}
