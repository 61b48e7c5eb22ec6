//! Checkpoints, adapters, devices, settings and directories that cannot be used.
#![cfg(feature = "flex")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Outcome, bpo, checkpoint, photos, run_arguments, tiny};

/// `bpo run` with a checkpoint that `spoil` has changed.
fn run_spoilt(spoil: impl FnOnce(&Path)) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    checkpoint::copy_to(&model);
    spoil(&model);
    bpo(run_arguments(&dir.path().join("run")).into_iter().chain(arguments!["--model", model]))
}

#[test]
fn all_weights_that_do_not_fit_are_listed() {
    const GONE: [&str; 2] = ["layers.0.mlp.gate_proj.weight", "multi_modal_projector.linear_1.weight"];
    let mut turned = String::new();
    let outcome = run_spoilt(|model| {
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
fn a_weight_file_that_is_cut_off_is_named() {
    for part in [2, 100, 1_000_000] {
        run_spoilt(|model| {
            let file = model.join("model.safetensors");
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, &bytes[..bytes.len() / part]).unwrap();
        })
        .fails_naming(&["model.safetensors", "safetensors"]);
    }
}

/// Changes the bytes of the head, which leaves everything before it alone.
fn change_head(model: &Path, change: impl FnOnce(&mut [u8])) {
    let file = model.join("model.safetensors");
    let mut range = (0, 0);
    checkpoint::edit_header(&file, |header| {
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

/// Puts NaN into the head.
fn spoil_head(model: &Path) {
    change_head(model, |head| {
        head.chunks_mut(4).for_each(|value| value.copy_from_slice(&f32::NAN.to_le_bytes()));
    });
}

#[test]
fn weights_that_are_no_numbers_are_told_by_every_command() {
    run_spoilt(spoil_head).fails_naming(&["logits", "not finite"]);

    let dir = tempfile::tempdir().unwrap();
    let (model, run) = (dir.path().join("model"), dir.path().join("run"));
    bpo(run_arguments(&run)).succeeds();
    checkpoint::copy_to(&model);
    spoil_head(&model);
    let pairs = run.join("pairs.jsonl");
    let scored = bpo(arguments!["score", "--model", &model, "--images", photos(), "--pairs", &pairs]);
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
fn an_image_token_is_what_all_files_say_it_is() {
    let with = |id: serde_json::Value| {
        run_spoilt(|model| {
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
fn a_pairs_file_without_pairs_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["", "[]"] {
        let pairs = dir.path().join("pairs");
        fs::write(&pairs, text).unwrap();
        bpo(arguments!["score", "--model", tiny(), "--images", photos(), "--pairs", &pairs])
            .fails_naming(&["no pair is left"]);
    }
}

#[test]
fn a_checkpoint_that_was_put_right_is_taken_up_in_the_same_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (model, run) = (dir.path().join("model"), dir.path().join("run"));
    checkpoint::copy_to(&model);
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    let arguments = || run_arguments(&run).into_iter().chain(arguments!["--model", &model]);
    bpo(arguments()).fails_naming(&["tokenizer.json"]);
    checkpoint::copy_to(&model);
    bpo(arguments()).succeeds();
    // and now it is held fast
    fs::write(model.join("generation_config.json"), "{}").unwrap();
    bpo(arguments()).fails_naming(&["`model.path`"]);
}

#[test]
fn a_missing_tokenizer_says_how_to_make_one() {
    run_spoilt(|model| fs::remove_file(model.join("tokenizer.json")).unwrap())
        .fails_naming(&["tokenizer.json", "save_pretrained"]);
    run_spoilt(|model| fs::write(model.join("tokenizer.json"), "{\"model\":").unwrap())
        .fails_naming(&["tokenizer.json"]);
}

#[test]
fn other_files_that_are_missing_or_broken_are_named() {
    run_spoilt(|model| fs::remove_file(model.join("config.json")).unwrap()).fails_naming(&["config.json"]);
    run_spoilt(|model| fs::write(model.join("config.json"), "{\n \"model_type\": ").unwrap())
        .fails_naming(&["config.json", "line 2"]);
    run_spoilt(|model| fs::remove_file(model.join("model.safetensors")).unwrap())
        .fails_naming(&["no weights found", "model.safetensors"]);
    run_spoilt(|model| {
        fs::rename(model.join("model.safetensors"), model.join("pytorch_model.bin")).unwrap();
    })
    .fails_naming(&["pytorch_model.bin", "save_pretrained"]);
    run_spoilt(|model| fs::remove_dir_all(model).unwrap())
        .fails_naming(&["no directory", "a local Hugging Face directory"]);
}

/// The family is named, and not what its processor's files lack.
#[test]
fn config_json_is_read_before_the_processor() {
    let edit_config = |edit: &dyn Fn(&mut serde_json::Value)| {
        run_spoilt(|model| {
            let path = model.join("config.json");
            let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            edit(&mut config);
            fs::write(path, config.to_string()).unwrap();
            for file in ["preprocessor_config.json", "processor_config.json", "chat_template.jinja"] {
                fs::remove_file(model.join(file)).unwrap();
            }
        })
    };
    edit_config(&|config| config["model_type"] = "llava_next".into()).fails_naming(&[
        "config.json: model_type is llava_next",
        "LLaVA-NeXT",
        "llava-hf/llava-1.5-7b-hf",
    ]);
    edit_config(&|config| config["mm_vision_tower"] = "clip".into()).fails_naming(&[
        "mm_vision_tower",
        "original code",
        "convert_llava_weights_to_hf",
    ]);
    edit_config(&|config| config["quantization_config"] = serde_json::json!({"quant_method": "awq"}))
        .fails_naming(&["quantization_config is set (awq)"]);
}

/// As PEFT: `adapter_config.json` decides, and a warning tells what the file has besides, and what it lacks.
#[test]
fn an_adapter_that_is_more_or_less_than_its_settings_say_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    bpo(run_arguments(&at("run"))).succeeds();
    let (adapter, pairs) = (at("run/adapter"), at("run/pairs.jsonl"));
    let config = adapter.join("adapter_config.json");
    let text = fs::read_to_string(&config).unwrap();
    let mut scored = Vec::new();
    for (targets, said) in [
        ("(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)", None),
        ("(q_proj|k_proj)", Some("does not select")),
        (
            "(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)|.*fc1",
            Some("lacks the adapters of 2 modules"),
        ),
    ] {
        let stated = "(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)";
        assert!(text.contains(stated), "{text}");
        fs::write(&config, text.replace(stated, targets)).unwrap();
        let arguments = arguments![
            "score",
            "--model",
            tiny(),
            "--adapter",
            &adapter,
            "--pairs",
            &pairs,
            "--images",
            photos()
        ];
        let outcome = bpo(arguments).succeeds();
        assert_eq!(outcome.stderr.contains("as with PEFT"), said.is_some(), "{}", outcome.stderr);
        let outcome = outcome.says(said.unwrap_or_default());
        scored.push(outcome.lines()[0]["chosen_logp"].as_f64().unwrap());
    }
    assert!((scored[0] - scored[1]).abs() > 1e-4 && (scored[0] - scored[2]).abs() < 1e-4, "{scored:?}");
}

#[test]
fn an_adapter_that_does_not_fit_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = dir.path().join("pairs.jsonl");
    common::write_pairs(&pairs, &[("a", "cat.jpg", "What is it?", "A cat.", "A dog.")]);
    let adapter = dir.path().join("adapter");
    fs::create_dir(&adapter).unwrap();
    let score = || {
        bpo(arguments![
            "score",
            "--model",
            tiny(),
            "--adapter",
            &adapter,
            "--pairs",
            &pairs,
            "--images",
            photos()
        ])
    };
    score().fails_naming(&["adapter_config.json"]);
    // the directory of a run in place of the adapter in it
    fs::create_dir(adapter.join("adapter")).unwrap();
    fs::write(adapter.join("adapter/adapter_config.json"), "{}").unwrap();
    let inside = adapter.join("adapter");
    score().fails_naming(&["did you mean", inside.to_str().unwrap()]);
    let merged = dir.path().join("merged");
    bpo(arguments!["merge", "--model", tiny(), "--adapter", &adapter, "--out", merged])
        .fails_naming(&["did you mean", inside.to_str().unwrap()]);
    fs::write(adapter.join("adapter_config.json"), "{\"peft_type\": \"LOHA\", \"r\": 4, \"lora_alpha\": 8}")
        .unwrap();
    score().fails_naming(&["adapter_config.json", "LOHA"]);
}

fn with_config(text: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bpo.toml");
    fs::write(&config, text).unwrap();
    bpo(run_arguments(&dir.path().join("run")).into_iter().chain(arguments!["--config", config]))
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_one() {
    with_config("[train]\nlerning_rate = 1e-3\n").refuses_naming(&[
        "bpo.toml",
        "line 2, column 1",
        "`lerning_rate`",
        "did you mean `learning_rate`?",
    ]);
    with_config("[weaken]\nmax_tokens = 1\n").refuses_naming(&["`max_tokens`", "`max_new_tokens`"]);
}

#[test]
fn bad_settings_are_named() {
    with_config("[train]\nbeta = \"big\"\n").refuses_naming(&["bpo.toml", "line 2"]);
    with_config("[weaken]\nbatch_size = 0\n").refuses_naming(&["`weaken.batch_size`", "at least 1"]);
    with_config("[train]\nbatch_size = 0\n").refuses_naming(&["`train.batch_size`", "at least 1"]);
    for (flag, key) in [("--lr", "`train.learning_rate`"), ("--beta", "`train.beta`")] {
        let out = run_arguments("never".as_ref());
        bpo(out.into_iter().chain(arguments![flag, "-1"])).refuses_naming(&[key, "not -1"]);
    }
    with_config("[train\n").refuses_naming(&["bpo.toml", "line 1"]);
    bpo(arguments!["run", "--config", "/no/such/bpo.toml", "--out", "x"])
        .fails_naming(&["/no/such/bpo.toml"]);
    bpo(arguments!["run", "--out", "x"]).refuses_naming(&["`data.images`", "--images"]);
}

#[test]
fn sampling_that_cannot_work_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let questions = dir.path().join("questions.jsonl");
    fs::write(&questions, "{\"image\": \"cat.jpg\", \"prompt\": \"What is it?\"}\n").unwrap();
    for (flag, value, key) in [("--top-p", "2", "`top_p`"), ("--temperature", "-1", "`temperature`")] {
        bpo(arguments![
            "generate",
            "--model",
            tiny(),
            "--images",
            photos(),
            "--questions",
            &questions,
            flag,
            value
        ])
        .refuses_naming(&[key, value]);
    }
}

#[test]
#[cfg(not(feature = "wgpu"))]
fn a_device_that_is_not_built_in_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    bpo(run_arguments(&run).into_iter().chain(arguments!["--device", "wgpu"]))
        .refuses_naming(&["device wgpu", "--features wgpu"]);
    assert!(!run.exists());
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("taken");
    fs::write(&file, "a file").unwrap();
    bpo(run_arguments(&file)).fails_naming(&["cannot create the directory", "taken"]);
    bpo(run_arguments(&file.join("run"))).fails_naming(&["taken"]);
    let out: PathBuf = dir.path().join("dir");
    fs::create_dir(&out).unwrap();
    let data = photos().join("llava.json");
    bpo(arguments!["inject", "--data", &data, "--out", &out]).fails_naming(&["cannot open", "dir"]);
    bpo(arguments!["inject", "--data", &data, "--out", file])
        .fails_naming(&["taken is there", "taken.settings.toml"]);
    assert_eq!(fs::read_to_string(dir.path().join("taken")).unwrap(), "a file");
}

#[test]
fn two_runs_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let lock = fs::File::create(dir.path().join("lock")).unwrap();
    lock.try_lock().unwrap();
    bpo(run_arguments(dir.path())).fails_naming(&["in use by another process"]);
}

/// Trained against another model than one's own from the start, by mistake.
#[test]
fn a_reference_that_is_another_model_is_refused_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let (other, run) = (dir.path().join("other"), dir.path().join("run"));
    checkpoint::copy_to(&other);
    // its rows stand elsewhere
    change_head(&other, |head| head.rotate_left(head.len() / 2));
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
fn another_chat_template_is_refused_before_the_first_step() {
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
        .fails_naming(&["reference.safetensors was made under other circumstances", "`template` was"]);
    for name in ["reference", "second"] {
        assert!(!at(name).join("adapter").exists() && !at(name).join("checkpoints").exists(), "{name}");
    }
}

/// The tokens of the answer could not be told from those of the prompt.
#[test]
fn a_template_that_does_not_append_the_answer_is_refused_before_the_first_step() {
    let detached = SHOUTING.replace("assistant!", "Your turn:");
    run_spoilt(|model| fs::write(model.join("chat_template.jinja"), detached).unwrap())
        .fails_naming(&["chat_template.jinja", "does not put the answer right after its generation prompt"]);
}

#[test]
fn an_adapter_for_another_base_or_in_its_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    bpo(run_arguments(&at("run"))).succeeds();
    let (adapter, pairs) = (at("run/adapter"), at("run/pairs.jsonl"));
    let score = |model: &Path, adapter: &Path| {
        bpo(arguments![
            "score",
            "--model",
            model,
            "--adapter",
            adapter,
            "--pairs",
            &pairs,
            "--images",
            photos()
        ])
    };
    let fits = |model: &Path| {
        let told = score(model, &adapter).succeeds();
        assert!(!told.stderr.contains("another model"), "{}", told.stderr);
    };
    fits(&tiny());
    checkpoint::copy_to(&at("moved"));
    fits(&at("moved"));

    // other weights of the same shapes
    checkpoint::copy_to(&at("another"));
    change_head(&at("another"), |head| head[0] ^= 1);
    let other = ["trained on other weights", "base.json"];
    score(&at("another"), &adapter).fails_naming(&other);
    let (another, merged) = (at("another"), at("merged"));
    bpo(arguments!["merge", "--model", &another, "--adapter", &adapter, "--out", merged])
        .fails_naming(&other);
    // of an adapter that does not say, as PEFT's, the name counts, and is told
    fs::remove_file(adapter.join("base.json")).unwrap();
    score(&at("another"), &adapter).succeeds().says("made for another model");
    fits(&tiny());

    // shapes that differ are not taken
    let config = adapter.join("adapter_config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"r\": 4", "\"r\": 5")).unwrap();
    let misfit = ["the weights do not fit", "q_proj.lora_A.weight is [4, 32], expected [5, 32]"];
    score(&tiny(), &adapter).fails_naming(&misfit);
    let reference = arguments!["--reference-adapter", &adapter];
    bpo(run_arguments(&at("other")).into_iter().chain(reference)).fails_naming(&misfit);
    fs::write(&config, text).unwrap();

    // an adapter on an adapter
    let nested = ["is an adapter", "bpo merge"];
    bpo(run_arguments(&at("nested")).into_iter().chain(arguments!["--model", &adapter]))
        .fails_naming(&nested);
    bpo(arguments!["merge", "--model", &adapter, "--adapter", &adapter, "--out", at("merged")])
        .fails_naming(&nested);
    fs::copy(&config, at("moved/adapter_config.json")).unwrap();
    score(&at("moved"), &adapter).fails_naming(&nested);
}
