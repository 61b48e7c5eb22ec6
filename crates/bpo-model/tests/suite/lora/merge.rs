//! Adapters merged into the weights, in memory and as a checkpoint.

use super::*;

#[test]
fn merged_in_memory_it_computes_what_the_adapter_does() {
    for targets in [TargetModules::AllLinear, TargetModules::PeftAllLinear] {
        let modules: &[&str] =
            if targets == TargetModules::AllLinear { &["multi_modal_projector"] } else { &[] };
        let trained = trained(&config().with_target_modules(targets).with_modules_to_save(modules));
        let expected = logits(&trained, Adapters::On);
        let merged = trained.clone().merged();
        close(&logits(&merged, Adapters::On), &expected, 1e-5, "merged");
        // a merged model has no adapters to switch off
        assert_eq!(logits(&merged, Adapters::Off), logits(&merged, Adapters::On));
        assert!(logits(&trained, Adapters::Off) != expected);
    }
}

#[test]
fn a_merged_checkpoint_computes_what_the_adapter_does() {
    let (model, adapter, out) =
        (Golden::open().checkpoint(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trained = trained(&config());
    save_adapter(&trained, &config(), "base", adapter.path()).unwrap();
    merge_checkpoint(&model, adapter.path(), 1.0, out.path(), &device()).unwrap();
    close(&logits(&load(out.path()), Adapters::On), &logits(&trained, Adapters::On), 1e-4, "merged");
    // names, types and order of the checkpoint; no other files
    let names = |dir: &Path| {
        let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut names: Vec<_> = file.iter().map(|(name, view)| (name.to_owned(), view.dtype())).collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        names
    };
    assert_eq!(names(out.path()), names(&model));
    let files = |dir: &Path| {
        let mut files: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        files
    };
    let mut expected = files(&model);
    // the mark of a directory that bpo wrote as a whole
    expected.insert(0, ".bpo-owned".into());
    assert_eq!(files(out.path()), expected);

    let same = merge_checkpoint(&model, adapter.path(), 1.0, &model, &device());
    assert!(matches!(same, Err(ModelError::File(FileError::Occupied { .. }))));
}

/// A part of the change is the same part of the way from each weight to the trained one.
#[test]
fn a_share_interpolates_between_both_models() {
    let (model, adapter) = (Golden::open().checkpoint(), tempfile::tempdir().unwrap());
    save_adapter(&trained(&config()), &config(), "base", adapter.path()).unwrap();
    let weights = |dir: &Path| {
        let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let values = |data: &[u8]| -> Vec<f32> {
            data.chunks(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
        };
        file.iter().map(|(name, view)| (name.to_owned(), values(view.data()))).collect::<BTreeMap<_, _>>()
    };
    let merged = |share: f64| {
        let out = tempfile::tempdir().unwrap();
        merge_checkpoint(&model, adapter.path(), share, out.path(), &device()).map(|()| weights(out.path()))
    };
    let (base, whole) = (weights(&model), merged(1.0).unwrap());
    let changed = base.iter().filter(|(name, values)| whole[*name] != **values);
    assert!(changed.clone().any(|(name, _)| name.contains("q_proj")));
    assert!(changed.clone().any(|(name, _)| name.contains("projector") && name.ends_with("bias")));
    for share in [0.25, 0.7] {
        let part = merged(share).unwrap();
        for (name, base) in &base {
            for ((base, whole), part) in base.iter().zip(&whole[name]).zip(&part[name]) {
                let expected = f64::from(*base) + share * (f64::from(*whole) - f64::from(*base));
                let (error, size) = ((f64::from(*part) - expected).abs(), base.abs().max(whole.abs()));
                assert!(error <= 1e-6 * f64::from(size), "{name}: {part}, not {expected}");
            }
        }
    }
    for share in [0.0, -0.5, 1.5, f64::NAN] {
        let error = merged(share).unwrap_err().to_string();
        assert!(error.contains("share") && error.contains("above 0"), "{error}");
    }
}

/// A broken adapter is an error; nothing is merged in part or left out.
#[test]
fn an_adapter_that_cannot_be_merged_whole_is_refused() {
    let rename = |tensors: &mut Tensors, from: &str, to: &str| {
        let name = tensors.keys().find(|name| name.contains(from)).unwrap().clone();
        let tensor = tensors.remove(&name).unwrap();
        tensors.insert(name.replace(from, to), tensor);
    };
    type Spoil<'a> = Box<dyn FnOnce(&mut Tensors) + 'a>;
    let cases: [(&str, Spoil<'_>); 6] = [
        ("no tensor", Box::new(|tensors| tensors.clear())),
        (
            "F64",
            Box::new(|tensors| {
                for (dtype, _, data) in tensors.values_mut() {
                    let wide =
                        data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())));
                    (*dtype, *data) = (Dtype::F64, wide.flat_map(f64::to_le_bytes).collect());
                }
            }),
        ),
        ("I32", Box::new(|tensors| tensors.values_mut().for_each(|tensor| tensor.0 = Dtype::I32))),
        ("linear_2", Box::new(|tensors| tensors.retain(|name, _| !name.contains("linear_2")))),
        ("lora_B", Box::new(|tensors| tensors.retain(|name, _| !name.contains("q_proj.lora_B")))),
        (
            "input_layernorm",
            Box::new(move |tensors| {
                for factor in ["lora_A", "lora_B"] {
                    let from = format!("layers.0.self_attn.q_proj.{factor}");
                    rename(tensors, &from, &format!("layers.0.input_layernorm.{factor}"));
                }
            }),
        ),
    ];
    let model = Golden::open().checkpoint();
    for (named, spoil) in cases {
        let (adapter, out) = (spoilt(spoil), tempfile::tempdir().unwrap());
        let error =
            merge_checkpoint(&model, adapter.path(), 1.0, out.path(), &device()).unwrap_err().to_string();
        assert!(error.contains(named), "{named}: {error}");
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "{named}: something was written");
        // the loader refuses the same adapters, except for types that it converts
        if named != "F64" {
            assert!(load_adapter(base(), adapter.path()).is_err(), "{named}");
        }
    }
}

/// An existing output stays as it is: links into the checkpoint, another checkpoint, or the
/// checkpoint itself.
#[test]
#[cfg(unix)]
fn merging_writes_over_nothing() {
    let (model, dir) = (Golden::open().checkpoint(), tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name);
    save_adapter(&trained(&config()), &config(), "base", &at("adapter")).unwrap();
    for name in ["source", "links"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    for file in std::fs::read_dir(&model).unwrap() {
        let path = file.unwrap().path();
        let copy = at("source").join(path.file_name().unwrap());
        std::fs::copy(&path, &copy).unwrap();
        std::os::unix::fs::symlink(&copy, at("links").join(path.file_name().unwrap())).unwrap();
    }
    let content = |dir: &Path| -> BTreeMap<_, _> {
        let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        files.map(|path| (path.file_name().unwrap().to_owned(), std::fs::read(&path).unwrap())).collect()
    };
    let before = content(&at("source"));
    for out in ["source", "links", "adapter"] {
        let error = merge_checkpoint(&at("source"), &at("adapter"), 1.0, &at(out), &device()).unwrap_err();
        assert!(
            matches!(&error, ModelError::File(FileError::Occupied { path }) if *path == at(out)),
            "{error}"
        );
        assert_eq!(content(&at("source")), before, "{out}");
    }
    // an empty directory is in nobody's way; a name that others give to what is in the making is no
    // proof
    std::fs::create_dir_all(at("merged.partial/mine")).unwrap();
    std::fs::create_dir(at("merged")).unwrap();
    merge_checkpoint(&at("source"), &at("adapter"), 1.0, &at("merged"), &device()).unwrap();
    assert!(at("merged.partial/mine").exists());
    std::os::unix::fs::symlink(at("secret"), at("source/README.md")).unwrap();
    std::fs::write(at("secret"), "secret").unwrap();
    merge_checkpoint(&at("source"), &at("adapter"), 1.0, &at("without"), &device()).unwrap();
    assert!(!at("without/README.md").exists() && at("without/config.json").exists());
    close(
        &logits(&load(&at("merged")), Adapters::On),
        &logits(&trained(&config()), Adapters::On),
        1e-4,
        "merged",
    );
}

#[test]
fn what_cannot_be_a_checkpoint_is_not_merged() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fails = |model: &Path, adapter: &Path| {
        let error = merge_checkpoint(model, adapter, 1.0, &at("merged"), &device()).unwrap_err().to_string();
        let left = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(
            left.filter(|name| name == "merged" || name.as_encoded_bytes()[0] == b'.').count(),
            0,
            "{error}"
        );
        error
    };
    // values that are not finite
    let broken = spoilt(|tensors| {
        let (_, (_, _, data)) = tensors.iter_mut().find(|(name, _)| name.contains("q_proj.lora_B")).unwrap();
        data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let error = fails(&Golden::open().checkpoint(), broken.path());
    assert!(error.contains("q_proj") && error.contains("not finite"), "{error}");

    // a checkpoint with missing weights, though the adapter needs none of them
    save_adapter(&trained(&config()), &config(), "base", &at("adapter")).unwrap();
    let model = at("model");
    std::fs::create_dir(&model).unwrap();
    for file in std::fs::read_dir(Golden::open().checkpoint()).unwrap() {
        let path = file.unwrap().path();
        std::fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let bytes = std::fs::read(model.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let kept = file.iter().filter(|(name, _)| !name.contains("pre_layrnorm.bias"));
    std::fs::write(model.join("model.safetensors"), safetensors::serialize(kept, None).unwrap()).unwrap();
    let error = fails(&model, &at("adapter"));
    assert!(error.contains("pre_layrnorm.bias"), "{error}");

    // a shard outside of the checkpoint
    std::fs::rename(model.join("model.safetensors"), at("elsewhere.safetensors")).unwrap();
    let index = r#"{"weight_map": {"x": "../elsewhere.safetensors"}}"#;
    std::fs::write(model.join("model.safetensors.index.json"), index).unwrap();
    let error = fails(&model, &at("adapter"));
    assert!(error.contains("../elsewhere.safetensors"), "{error}");
}
