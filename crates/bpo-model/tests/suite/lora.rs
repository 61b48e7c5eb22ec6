//! Adapters: factored form, switching off, saving, loading and merging.

mod merge;

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::{Golden, close, device, floats, input, root};
use bpo_model::{
    Adapters, LoadOptions, LoraConfig, ModelError, TargetModules, Vlm, load_adapter, merge_checkpoint,
    save_adapter,
};
use bpo_pairs::files::FileError;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, FloatDType, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

fn base() -> Vlm {
    load(&Golden::open().checkpoint())
}

fn load(dir: &Path) -> Vlm {
    Vlm::from_pretrained(dir, &LoadOptions::default(), &device()).unwrap()
}

fn config() -> LoraConfig {
    LoraConfig::default().with_rank(4, 8.0)
}

/// Logits of the first golden prompt.
fn logits(model: &Vlm, adapters: Adapters) -> Vec<f32> {
    let golden = Golden::open();
    let (values, shape) = golden.floats("clean.pixel_values");
    let size = shape[1..].iter().product();
    let pixels = bpo_model::PixelValues {
        data: values[..size].to_vec(),
        channels: shape[1],
        height: shape[2],
        width: shape[3],
    };
    floats(model.logits(&golden.ids("p0.chosen.input_ids"), &[input(model, &pixels)], adapters).unwrap())
}

/// Changes trained parameters, as training would.
#[derive(Default)]
struct Shift {
    path: Vec<String>,
    phase: f32,
}

impl ModuleMapper for Shift {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !self.path.iter().any(|part| part == "lora" || part == "trained_projector") {
            return param;
        }
        self.phase += 1.0;
        param.map(|value| {
            let wave = |i: usize| 0.02 * (i as f32 * 0.37 + self.phase).sin();
            let wave: Vec<_> = (0..value.shape().num_elements()).map(wave).collect();
            let device = value.device();
            value.clone() + Tensor::from_data(TensorData::new(wave, value.dims()), &device)
        })
    }
}

fn trained(lora: &LoraConfig) -> Vlm {
    base().with_lora(lora, 1).unwrap().map(&mut Shift::default())
}

#[test]
fn a_fresh_adapter_changes_nothing_and_a_trained_one_can_be_switched_off() {
    let plain = logits(&base(), Adapters::On);
    assert_eq!(logits(&base().with_lora(&config(), 7).unwrap(), Adapters::On), plain);
    let trained = trained(&config());
    assert_ne!(logits(&trained, Adapters::On), plain);
    // the projector is counted
    assert_eq!(logits(&trained, Adapters::Off), plain);
}

/// Dropout applies in training only, as in PEFT.
#[test]
fn dropout_is_for_training_alone() {
    let lora = config().with_dropout(0.5).with_target_modules(TargetModules::PeftAllLinear);
    let plain = logits(&base(), Adapters::On);
    // a new adapter adds zero, whatever dropout does
    let fresh = base().with_lora(&lora, 7).unwrap().train();
    close(&logits(&fresh, Adapters::On), &plain, 1e-6, "fresh");
    let without = logits(&trained(&lora.clone().with_dropout(0.0)), Adapters::On);
    let trained = trained(&lora);
    assert_eq!(logits(&trained, Adapters::On), without);
    let training = trained.train();
    let [one, other] = [(); 2].map(|()| logits(&training, Adapters::On));
    assert!(one != other && one != without);
    close(&logits(&training, Adapters::Off), &plain, 1e-6, "off");
    assert_eq!(logits(&training.valid(), Adapters::On), without);
}

/// Trained parameters are in f32, because a learning rate of 2e-6 changes nothing in half
/// precision.
#[test]
fn what_is_trained_is_f32_on_a_half_precision_model() {
    let options = LoadOptions::default().with_dtype(FloatDType::BF16);
    let half = Vlm::from_pretrained(&Golden::open().checkpoint(), &options, &device()).unwrap();
    let plain = logits(&half, Adapters::On);
    let adapted = half.clone().with_lora(&config().with_modules_to_save(&[]), 7).unwrap();
    assert_eq!(adapted.dtype(), FloatDType::BF16);
    assert_eq!(logits(&adapted, Adapters::On), plain);

    struct Trained(usize);
    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.base().is_require_grad() {
                self.0 += 1;
                assert_eq!(param.base().dtype(), DType::F32);
            }
        }
    }
    let mut trained = Trained(0);
    half.with_lora(&config(), 7).unwrap().train().visit(&mut trained);
    assert!(trained.0 > 0);
}

#[test]
fn the_factored_form_equals_the_dense_one() {
    let trained = trained(&config().with_modules_to_save(&[]));
    let dense = trained.clone().materialize();
    close(&logits(&trained, Adapters::On), &logits(&dense, Adapters::On), 1e-5, "factored");
}

#[test]
fn seeds_and_targets_decide_what_is_drawn() {
    #[derive(Default)]
    struct Factors(BTreeMap<String, Vec<f32>>, Vec<String>);
    impl ModuleVisitor for Factors {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.1.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.1.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let path = self.1.join(".");
            if path.ends_with(".lora.a") {
                self.0.insert(path, floats(param.val()));
            }
        }
    }
    let drawn = |lora: &LoraConfig, seed| {
        let mut factors = Factors::default();
        base().with_lora(lora, seed).unwrap().visit(&mut factors);
        factors.0
    };
    let all = drawn(&config(), 1);
    assert_eq!(all, drawn(&config(), 1));
    assert_ne!(all, drawn(&config(), 2));
    let layers = base().config().decoder().num_hidden_layers;
    assert_eq!(all.len(), 7 * layers);
    // the factors of a module do not depend on what else is adapted
    let attention = drawn(&config().with_target_modules(TargetModules::Attention), 1);
    assert_eq!(attention.len(), 4 * layers);
    assert!(attention.iter().all(|(path, values)| all[path] == *values));
    // PEFT's Kaiming-uniform: within 1/sqrt(d_in), and close to it
    for (path, values) in &all {
        let d_in = values.len() / config().r;
        let bound = 1.0 / (d_in as f32).sqrt();
        let largest = values.iter().fold(0f32, |max, value| max.max(value.abs()));
        assert!(largest <= bound && largest > 0.9 * bound, "{path}: {largest} of {bound}");
    }
}

#[test]
fn saved_and_loaded_it_is_the_same_adapter() {
    for lora in [
        config(),
        config().with_modules_to_save(&[]),
        config().with_target_modules(TargetModules::Attention),
        config().with_dropout(0.1),
    ] {
        let (trained, dir) = (trained(&lora), tempfile::tempdir().unwrap());
        save_adapter(&trained, &lora, "base", dir.path()).unwrap();
        let (loaded, found) = load_adapter(base(), dir.path()).unwrap();
        assert_eq!(found, lora);
        // another memory layout may change the order of sums
        close(&logits(&loaded, Adapters::On), &logits(&trained, Adapters::On), 1e-6, "loaded");
        assert_eq!(logits(&loaded, Adapters::Off), logits(&base(), Adapters::On));

        let again = tempfile::tempdir().unwrap();
        save_adapter(&loaded, &found, "base", again.path()).unwrap();
        for file in ["adapter_model.safetensors", "adapter_config.json"] {
            let read = |dir: &Path| std::fs::read(dir.join(file)).unwrap();
            assert_eq!(read(again.path()), read(dir.path()), "{file}");
        }
    }
}

/// The tensors of an adapter, for changes: name, type, shape, bytes.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A saved adapter (with its projector) whose tensors `spoil` changes.
fn spoilt(spoil: impl FnOnce(&mut Tensors)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    save_adapter(&trained(&config()), &config(), "base", dir.path()).unwrap();
    let path = dir.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = file
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    spoil(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    dir
}

#[test]
fn adapters_that_need_more_than_their_factors_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    save_adapter(&trained(&config()), &config(), "base", dir.path()).unwrap();
    let path = dir.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config[key] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        load_adapter(base(), dir.path()).map(|_| ())
    };
    for (key, value) in [
        ("init_lora_weights", serde_json::json!("pissa_niter_4")),
        ("init_lora_weights", serde_json::json!("olora")),
        ("alora_invocation_tokens", serde_json::json!([1, 2])),
        ("layer_replication", serde_json::json!([[0, 1]])),
        ("lora_dropout", serde_json::json!(1.0)),
    ] {
        let error = with(key, value).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    with("init_lora_weights", serde_json::json!("gaussian")).unwrap();
    with("alora_invocation_tokens", serde_json::Value::Null).unwrap();
}

#[test]
fn an_adapter_for_another_model_is_refused_with_all_that_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    save_adapter(&trained(&config()), &config(), "base", dir.path()).unwrap();
    let path = dir.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"r\": 4", "\"r\": 5")).unwrap();
    let layers = base().config().decoder().num_hidden_layers;
    match load_adapter(base(), dir.path()) {
        Err(ModelError::Weights { problems, .. }) => assert_eq!(problems.misshapen.len(), 14 * layers),
        other => panic!("{:?}", other.map(|_| ())),
    }
    std::fs::write(&path, text.replace("\"use_dora\": false", "\"use_dora\": true")).unwrap();
    let error = load_adapter(base(), dir.path()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("use_dora"), "{error}");
}

#[test]
fn adapters_do_not_nest() {
    let adapted = || load_adapter(base(), &root().join("trl/adapter")).unwrap().0;
    assert!(matches!(adapted().with_lora(&config(), 0), Err(ModelError::HasAdapters)));
    let again = load_adapter(adapted(), &root().join("trl/adapter"));
    assert!(matches!(again, Err(ModelError::HasAdapters)));
    // a trained projector counts as an adapter
    let alone = trained(&config());
    let file = tempfile::tempdir().unwrap();
    let saved = alone.save_weights(&file.path().join("model.safetensors"), FloatDType::F32);
    assert!(matches!(saved, Err(ModelError::HasAdapters)));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for (lora, key) in [
        (config().with_rank(0, 8.0), "r"),
        (config().with_rank(1_000_000_000, 8.0), "r"),
        (config().with_rank_pattern([("q_proj", 1_000_000_000)].into_iter().collect()), "rank_pattern"),
        (config().with_rank(4, 0.0), "lora_alpha"),
        (config().with_rank(4, f64::NAN), "lora_alpha"),
        (config().with_dropout(1.0), "lora_dropout"),
        (config().with_dropout(-0.1), "lora_dropout"),
        (config().with_dropout(f64::NAN), "lora_dropout"),
        (config().with_noise(-0.1), "lora_noise"),
        (config().with_noise(f64::NAN), "lora_noise"),
        (config().with_noise(1e39), "lora_noise"),
    ] {
        match base().with_lora(&lora, 1) {
            Err(ModelError::Setting { key: found, .. }) => assert_eq!(found, key),
            other => panic!("{key}: {:?}", other.map(|_| ())),
        }
    }
    // noise is of adapters, and a setting of training, which no file has
    let error = base().with_lora_noise(0.1).map(drop).unwrap_err().to_string();
    assert!(error.contains("lora_noise must be 0 for a model without adapters, not 0.1"), "{error}");
    base().with_lora_noise(0.0).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let noisy = config().with_noise(0.1);
    save_adapter(&trained(&noisy), &noisy, "base", dir.path()).unwrap();
    let (model, loaded) = load_adapter(base(), dir.path()).unwrap();
    assert_eq!(loaded.lora_noise, 0.0);
    model.with_lora_noise(0.1).unwrap();
    // the projector is trained in full, so the expression selects nothing
    let projector = config().with_target_modules(TargetModules::Regex(".*linear_1".into()));
    assert!(matches!(base().with_lora(&projector, 1), Err(ModelError::NoTarget { .. })));
    base().with_lora(&projector.with_modules_to_save(&[]), 1).unwrap();
}

/// Names of the adapted modules that a directory holds.
fn adapted_modules(dir: &Path) -> Vec<String> {
    let bytes = std::fs::read(dir.join("adapter_model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<_> = file
        .names()
        .into_iter()
        .filter_map(|name| name.strip_prefix("base_model.model.")?.strip_suffix(".lora_A.weight"))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

#[test]
fn presets_and_expressions_select_what_peft_does() {
    let (text, vision) = (base().config().decoder().num_hidden_layers, 2);
    for (targets, count) in [
        (TargetModules::AllLinear, 7 * text),
        (TargetModules::Attention, 4 * text),
        (TargetModules::PeftAllLinear, 7 * text + 6 * vision + 2),
        (TargetModules::Regex(r".*language_model.*\.(q_proj|v_proj)".into()), 2 * text),
        (TargetModules::Regex(r".*\.0\.self_attn\.q_proj".into()), 2),
        (TargetModules::Regex(r"(?!.*language_model).*\.(fc1|linear_2)".into()), vision + 1),
    ] {
        let lora = config().with_target_modules(targets).with_modules_to_save(&[]);
        let dir = tempfile::tempdir().unwrap();
        save_adapter(&trained(&lora), &lora, "base", dir.path()).unwrap();
        let modules = adapted_modules(dir.path());
        assert_eq!(modules.len(), count, "{modules:?}");
        assert!(modules.iter().all(|name| name.starts_with("model.")), "{modules:?}");
        assert_eq!(load_adapter(base(), dir.path()).unwrap().1, lora);
    }
}

#[test]
fn adapters_on_every_part_are_trained_saved_loaded_and_merged() {
    let lora = config()
        .with_target_modules(TargetModules::PeftAllLinear)
        .with_modules_to_save(&[])
        .with_rslora(true);
    assert_eq!(lora.scale(), 4.0);
    let trained = trained(&lora);
    let plain = logits(&base(), Adapters::On);
    assert_eq!(logits(&trained, Adapters::Off), plain);
    close(
        &logits(&trained, Adapters::On),
        &logits(&trained.clone().materialize(), Adapters::On),
        1e-5,
        "factored",
    );

    let (adapter, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    save_adapter(&trained, &lora, "base", adapter.path()).unwrap();
    let loaded = load_adapter(base(), adapter.path()).unwrap().0;
    close(&logits(&loaded, Adapters::On), &logits(&trained, Adapters::On), 1e-6, "loaded");
    merge_checkpoint(&Golden::open().checkpoint(), adapter.path(), 1.0, out.path(), &device()).unwrap();
    close(&logits(&load(out.path()), Adapters::On), &logits(&trained, Adapters::On), 1e-4, "merged");

    // each factor has its own effect, and a gradient
    let golden = Golden::open();
    let (values, shape) = golden.floats("clean.pixel_values");
    let training = trained.train();
    let size = shape[1..].iter().product::<usize>();
    let images: Vec<_> = values
        .chunks(size)
        .map(|data| {
            let data = data.to_vec();
            let pixels =
                bpo_model::PixelValues { data, channels: shape[1], height: shape[2], width: shape[3] };
            input(&training, &pixels)
        })
        .collect();
    let layouts: Vec<_> = images.iter().map(|image| &image.layout).collect();
    let features = training.encode_images(&images.iter().collect::<Vec<_>>(), Adapters::On).unwrap();
    let features = training.project(&features, &layouts, Adapters::On).values();
    let gradients = GradientsParams::from_grads(features.powi_scalar(2).sum().backward(), &training);
    let paths = bpo_dpo::trainable_paths(&training);
    let seen: Vec<_> = paths.iter().filter(|path| !path.starts_with("language_model.")).collect();
    assert_eq!(seen.len(), 2 * (6 * 2 + 2));
    assert_eq!(gradients.len(), seen.len());
}

/// PEFT also adapts the layers that LLaVA never runs.
#[test]
fn adapters_of_layers_that_never_run_are_passed_over() {
    let lora = config().with_target_modules(TargetModules::PeftAllLinear).with_modules_to_save(&[]);
    let dir = tempfile::tempdir().unwrap();
    save_adapter(&trained(&lora), &lora, "base", dir.path()).unwrap();
    let path = dir.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut views: BTreeMap<String, TensorView<'_>> =
        file.iter().map(|(name, view)| (name.to_owned(), view)).collect();
    let last: Vec<_> = views
        .iter()
        .filter(|(name, _)| name.contains("vision_tower.encoder.layers.1."))
        .map(|(name, view)| (name.replace("layers.1.", "layers.2."), view.clone()))
        .collect();
    assert_eq!(last.len(), 12);
    views.extend(last);
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let (loaded, found) = load_adapter(base(), dir.path()).unwrap();
    assert_eq!(found, lora);
    close(&logits(&loaded, Adapters::On), &logits(&trained(&lora), Adapters::On), 1e-6, "loaded");
}

#[test]
fn what_peft_says_of_its_targets_is_kept() {
    let lora = config().with_target_modules(TargetModules::Attention).with_modules_to_save(&[]);
    let dir = tempfile::tempdir().unwrap();
    save_adapter(&trained(&lora), &lora, "base", dir.path()).unwrap();
    let path = dir.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let found = |targets: serde_json::Value, rslora: bool| {
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config["target_modules"] = targets;
        config["use_rslora"] = rslora.into();
        std::fs::write(&path, config.to_string()).unwrap();
        load_adapter(base(), dir.path()).map(|(_, config)| config)
    };
    // the same selection in another form, or none, if the file has one
    for targets in [serde_json::json!("model.language_model.*(q|k|v|o)_proj"), serde_json::Value::Null] {
        assert_eq!(found(targets, false).unwrap(), lora);
    }
    // more modules than the file has: these get new adapters
    let all = lora.clone().with_target_modules(TargetModules::PeftAllLinear);
    assert_eq!(found(serde_json::json!("all-linear"), false).unwrap(), all);
    assert_eq!(found(serde_json::Value::Null, true).unwrap().scale(), 4.0);
    // no module of the file, which is an error in PEFT as well
    let error = found("x".into(), true).unwrap_err().to_string();
    assert!(error.contains("target_modules") && error.contains("q_proj"), "{error}");
}
