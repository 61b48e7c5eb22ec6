//! Checkpoints, adapters, devices and directories that cannot be used.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Outcome, bpo, checkpoint, copy_run, photos, run_arguments, score, tiny};

/// `bpo run` with a checkpoint that `change` has changed.
fn run_with_changes(change: impl FnOnce(&Path)) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    checkpoint::copy_to(&model);
    change(&model);
    bpo(run_arguments(&dir.path().join("run")).into_iter().chain(arguments!["--model", model]))
}

#[test]
fn all_mismatched_weights_are_listed() {
    const GONE: [&str; 2] = ["layers.0.mlp.gate_proj.weight", "multi_modal_projector.linear_1.weight"];
    let mut turned = String::new();
    let outcome = run_with_changes(|model| {
        checkpoint::edit_header(&model.join("model.safetensors"), |header| {
            let find = |end: &str| header.keys().find(|name| name.ends_with(end)).unwrap().clone();
            let [embedding, gone @ ..] = ["embed_tokens.weight", GONE[0], GONE[1]].map(find);
            turned = embedding;
            header[&turned]["shape"].as_array_mut().unwrap().reverse();
            for name in gone {
                let entry = header.remove(&name).unwrap();
                header.insert(format!("{name}.gone"), entry);
            }
        });
    });
    let turned = turned.rsplit("model.").next().unwrap();
    outcome.fails_naming(&["missing", GONE[0], GONE[1], "shape", turned]);
}

#[test]
fn truncated_weight_file_is_named() {
    for part in [2, 100, 1_000_000] {
        run_with_changes(|model| {
            let file = model.join("model.safetensors");
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, &bytes[..bytes.len() / part]).unwrap();
        })
        .fails_naming(&["model.safetensors", "safetensors"]);
    }
}

/// Puts NaN into the head.
fn fill_head_with_nan(model: &Path) {
    checkpoint::change_head(model, |head| {
        head.chunks_mut(4).for_each(|value| value.copy_from_slice(&f32::NAN.to_le_bytes()));
    });
}

#[test]
fn non_finite_weights_are_an_error_in_every_command() {
    run_with_changes(fill_head_with_nan).fails_naming(&["logits", "not finite"]);

    let dir = tempfile::tempdir().unwrap();
    let (model, run) = (dir.path().join("model"), dir.path().join("run"));
    copy_run(&run);
    checkpoint::copy_to(&model);
    fill_head_with_nan(&model);
    let pairs = run.join("pairs.jsonl");
    let scored = score(&model, &pairs, vec![]);
    assert_eq!((scored.code, scored.stdout.as_str()), (Some(1), ""));
    scored.says("not a finite number").without_panic();
    let out = dir.path().join("trained");
    bpo(arguments![
        "train",
        "--model",
        &model,
        "--images",
        photos(),
        "--pairs",
        &pairs,
        "--out",
        &out,
        "--max-steps",
        "2",
    ])
    .fails_naming(&["not finite"]);
    assert!(!out.join("adapter").exists());
}

#[test]
fn conflicting_image_tokens_are_an_error() {
    let with = |id: serde_json::Value| {
        run_with_changes(|model| {
            let path = model.join("config.json");
            let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            config["image_token_index"] = id;
            fs::write(path, config.to_string()).unwrap();
        })
    };
    // transformers' default, and not the tokenizer's <image>
    with(serde_json::Value::Null).fails_naming(&["image token 32000", "<image>"]);
    // unusual, but all agree; what rows are padded with must not be taken for it
    with(0.into()).succeeds();
}

#[test]
fn pairs_file_without_pairs_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["", "[]"] {
        let pairs = dir.path().join("pairs");
        fs::write(&pairs, text).unwrap();
        score(&tiny(), &pairs, vec![]).fails_naming(&["no pair is left"]);
    }
}

#[test]
fn run_continues_with_a_repaired_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (model, run) = (dir.path().join("model"), dir.path().join("run"));
    checkpoint::copy_to(&model);
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    let arguments = || run_arguments(&run).into_iter().chain(arguments!["--model", &model]);
    bpo(arguments()).fails_naming(&["tokenizer.json"]);
    checkpoint::copy_to(&model);
    bpo(arguments()).succeeds();
    // after the run another checkpoint is refused
    fs::write(model.join("generation_config.json"), "{}").unwrap();
    bpo(arguments()).fails_naming(&["`model.path`"]);
}

#[test]
fn missing_tokenizer_error_names_the_remedy() {
    run_with_changes(|model| fs::remove_file(model.join("tokenizer.json")).unwrap())
        .fails_naming(&["tokenizer.json", "save_pretrained"]);
    run_with_changes(|model| fs::write(model.join("tokenizer.json"), "{\"model\":").unwrap())
        .fails_naming(&["tokenizer.json"]);
}

#[test]
fn missing_and_broken_files_are_named() {
    run_with_changes(|model| fs::remove_file(model.join("config.json")).unwrap())
        .fails_naming(&["config.json"]);
    run_with_changes(|model| fs::write(model.join("config.json"), "{\n \"model_type\": ").unwrap())
        .fails_naming(&["config.json", "line 2"]);
    run_with_changes(|model| fs::remove_file(model.join("model.safetensors")).unwrap())
        .fails_naming(&["no weights found", "model.safetensors"]);
    run_with_changes(|model| {
        fs::rename(model.join("model.safetensors"), model.join("pytorch_model.bin")).unwrap();
    })
    .fails_naming(&["pytorch_model.bin", "save_pretrained"]);
    run_with_changes(|model| fs::remove_dir_all(model).unwrap())
        .fails_naming(&["no directory", "a local Hugging Face directory"]);
}

/// The error names the model family, not a file that its processor lacks.
#[test]
fn config_json_is_checked_before_the_processor() {
    let edit_config = |edit: &dyn Fn(&mut serde_json::Value)| {
        run_with_changes(|model| {
            let path = model.join("config.json");
            let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            edit(&mut config);
            fs::write(path, config.to_string()).unwrap();
            for file in ["preprocessor_config.json", "processor_config.json", "chat_template.jinja"] {
                fs::remove_file(model.join(file)).unwrap();
            }
        })
    };
    edit_config(&|config| config["model_type"] = "llava_next_video".into()).fails_naming(&[
        "config.json: model_type is llava_next_video",
        "LLaVA-NeXT",
        "llava-hf/llava-1.5-7b-hf",
    ]);
    edit_config(&|config| config["mm_vision_tower"] = "clip".into()).fails_naming(&[
        "mm_vision_tower",
        "original code",
        "bpo convert-checkpoint",
    ]);
    edit_config(&|config| config["quantization_config"] = serde_json::json!({"quant_method": "awq"}))
        .fails_naming(&["quantization_config is set (awq)"]);
}

#[test]
#[cfg(not(any(feature = "cuda", feature = "cuda-nvrtc")))]
fn unavailable_device_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    bpo(run_arguments(&run).into_iter().chain(arguments!["--device", "cuda"]))
        .refuses_naming(&["device cuda:0", "--features cuda"]);
    assert!(!run.exists());
}

#[test]
fn unwritable_output_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("taken");
    fs::write(&file, "a file").unwrap();
    bpo(run_arguments(&file)).fails_naming(&["taken"]);
    bpo(run_arguments(&file.join("run"))).fails_naming(&["taken"]);
    let out: PathBuf = dir.path().join("dir");
    fs::create_dir(&out).unwrap();
    let data = photos().join("llava.json");
    bpo(arguments!["inject", "--data", &data, "--out", &out]).fails_naming(&["dir is a directory"]);
    bpo(arguments!["inject", "--data", &data, "--out", file])
        .fails_naming(&["taken exists", "taken.manifest.json"]);
    assert_eq!(fs::read_to_string(dir.path().join("taken")).unwrap(), "a file");
}

#[test]
fn second_run_in_a_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let lock = fs::File::create(dir.path().join("lock")).unwrap();
    lock.try_lock().unwrap();
    bpo(run_arguments(dir.path())).fails_naming(&["in use by another process"]);
}

/// A wrong reference is refused before the first step.
#[test]
fn different_reference_model_is_an_error_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let (other, run) = (dir.path().join("other"), dir.path().join("run"));
    checkpoint::copy_to(&other);
    // rows of the head in another order
    checkpoint::change_head(&other, |head| head.rotate_left(head.len() / 2));
    let with = |more: &[&str]| {
        let more = more.iter().map(std::ffi::OsString::from);
        bpo(run_arguments(&run).into_iter().chain(arguments!["--reference", &other]).chain(more))
    };
    with(&[]).fails_naming(&[
        "before the first step",
        "the reference is another model",
        "--reference-differs",
    ]);
    assert!(!run.join("adapter").exists());
    with(&["--reference-differs"]).succeeds();
}

const SHOUTING: &str = "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'] + '! ' }}{% endif %}\
{% for c in m['content'] if c['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}\
{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] + ' ' }}{% endfor %}{% endfor %}\
{% if add_generation_prompt %}{{ 'assistant!' }}{% endif %}";

#[test]
fn different_chat_template_is_an_error_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (other, cache) = (at("other"), at("reference.safetensors"));
    checkpoint::copy_to(&other);
    fs::write(other.join("chat_template.jinja"), SHOUTING).unwrap();
    let run =
        |name: &str, more: Vec<std::ffi::OsString>| bpo(run_arguments(&at(name)).into_iter().chain(more));
    run("reference", arguments!["--reference", &other]).fails_naming(&["other", "another chat template"]);

    // log-probabilities that were computed for other texts
    run("first", arguments!["--reference-cache", &cache]).succeeds();
    run("second", arguments!["--reference-cache", &cache, "--model", &other])
        .fails_naming(&["reference.safetensors is stale", "`template` was"]);
    for name in ["reference", "second"] {
        assert!(!at(name).join("adapter").exists() && !at(name).join("checkpoints").exists(), "{name}");
    }
}

/// The tokens of the answer could not be separated from those of the prompt.
#[test]
fn template_without_appended_answer_is_an_error_before_the_first_step() {
    let detached = SHOUTING.replace("assistant!", "Your turn:");
    run_with_changes(|model| fs::write(model.join("chat_template.jinja"), detached).unwrap())
        .fails_naming(&["chat_template.jinja", "does not put the answer right after its generation prompt"]);
}
