//! `bpo quickstart` at a tenth of its size.

use std::fs;
use std::path::Path;

use crate::common::{bpo, parse_lines, read_lines};
use serde_json::Value;

fn summary(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("report/summary.json")).unwrap()).unwrap()
}

/// The means of a metric over the first three and the last three steps of a training.
fn first_and_last(file: &Path, metric: &str) -> (f64, f64) {
    let steps = parse_lines(&fs::read_to_string(file).unwrap());
    let mean = |steps: &[Value]| {
        steps.iter().map(|step| step[metric].as_f64().unwrap()).sum::<f64>() / steps.len() as f64
    };
    (mean(&steps[..3]), mean(&steps[steps.len() - 3..]))
}

#[test]
fn quickstart_writes_a_summary_and_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("quickstart");
    let run = |out: &Path| {
        bpo(arguments!["quickstart", "--scale", "0.1", "--out", out])
            .succeeds()
            .says("alpha-bar 0.08")
            .says("CHAIR_i of BPO relative to SFT control")
    };
    run(&out);

    let first = summary(&out);
    for split in ["counter", "held_out"] {
        for model in ["before", "after", "sft"] {
            let metrics = &first["splits"][split][model];
            for name in ["chair_i", "chair_s", "recall", "f1", "yes_no_accuracy"] {
                let value = metrics[name].as_f64().unwrap_or_else(|| panic!("{name}: {metrics}"));
                let interval = metrics["intervals"][name].as_array().unwrap();
                assert!((0.0..=1.0).contains(&value) && interval.len() == 2, "{name}: {metrics}");
            }
        }
    }
    // the base model is right about usual images and hallucinates on counterfactual ones
    assert!(first["splits"]["held_out"]["before"]["chair_i"].as_f64().unwrap() < 0.1);
    assert!(first["splits"]["counter"]["before"]["chair_i"].as_f64().unwrap() > 0.1);
    assert!(first["seconds"].as_object().unwrap().values().all(|seconds| seconds.as_f64().unwrap() >= 0.0));

    let metrics = out.join("run/metrics.jsonl");
    let (margin_first, margin_last) = first_and_last(&metrics, "rewards/margins");
    assert!(margin_last > margin_first, "{margin_first} to {margin_last}");
    assert!(first_and_last(&out.join("sft/metrics.jsonl"), "logps/chosen").0.is_finite());
    assert!(out.join("run/adapter/adapter_model.safetensors").exists());

    let page = fs::read_to_string(out.join("report/index.html")).unwrap();
    assert_eq!(page.matches("data:image/png;base64,").count(), 24);
    assert_eq!(page.matches("role=\"img\"").count(), 3);
    for needs in ["http://", "https://", "<script", "<link"] {
        assert!(!page.contains(needs), "the page needs {needs}");
    }
    assert!(page.contains("class=\"absent\""));

    // case 3.12: in a renamed directory a second call trains nothing and gives the same results
    let moved = dir.path().join("moved");
    fs::rename(&out, &moved).unwrap();
    let outcome = run(&moved).says("nothing left to do");
    assert!(!outcome.stderr.contains("train: step"), "{}", outcome.stderr);
    let mut again = summary(&moved);
    again["seconds"] = first["seconds"].clone();
    assert_eq!(again, first);

    // a damaged adapter is made again
    let weights = moved.join("sft/adapter/adapter_model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    run(&moved);
    assert_eq!(fs::read(&weights).unwrap(), whole);
}

#[test]
fn directory_with_other_inputs_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("quickstart");
    fs::create_dir_all(out.join("run")).unwrap();
    fs::write(out.join("lock"), "").unwrap();
    fs::write(
        out.join("run/weakened.jsonl"),
        "{\"id\":\"x\",\"type\":\"mllm-hal\",\"response\":\"A cat.\"}\n",
    )
    .unwrap();
    bpo(arguments!["quickstart", "--scale", "0.04", "--out", &out])
        .fails_naming(&["manifest.json is missing"]);
    // other inputs are refused before anything is written
    let before = fs::read(out.join("world/train.json")).unwrap();
    bpo(arguments!["quickstart", "--scale", "0.04", "--seed", "7", "--out", &out])
        .fails_naming(&["`seed` was 42 and is now 7"]);
    bpo(arguments!["quickstart", "--scale", "0.05", "--out", &out])
        .fails_naming(&["`images to train on` was 41"]);
    assert_eq!(fs::read(out.join("world/train.json")).unwrap(), before);
    bpo(arguments!["quickstart", "--base", dir.path(), "--out", dir.path().join("other")])
        .fails_naming(&["config.json"]);
    assert!(!dir.path().join("other").exists());
    // a file that bpo did not write
    let own = dir.path().join("own");
    fs::create_dir_all(own.join("base")).unwrap();
    fs::write(own.join("base/config.json"), "mine").unwrap();
    bpo(arguments!["quickstart", "--scale", "0.04", "--out", &own]).fails_naming(&["own", "holds no run"]);
    fs::write(own.join("lock"), "").unwrap();
    bpo(arguments!["quickstart", "--scale", "0.04", "--out", &own])
        .fails_naming(&["base/config.json", "not written by bpo"]);
    assert_eq!(fs::read_to_string(own.join("base/config.json")).unwrap(), "mine");
    bpo(arguments!["quickstart", "--base", "a", "--base", "b"])
        .refuses_naming(&["`--base` must be given once"]);
    bpo(arguments!["quickstart", "--scale", "0"]).code.filter(|code| *code == 2).unwrap();
}

/// The ablation trains and measures all ways, and reuses what is there.
#[test]
fn ablation_compares_all_ways() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("ablation");
    let ablation = || {
        let size = arguments!["--ablation", "--seeds", "1", "--scale", "0.01", "--out", &out];
        bpo(arguments!["quickstart"].into_iter().chain(size)).succeeds()
    };
    ablation().says("own, three rounds:");
    let summary: Value =
        serde_json::from_slice(&fs::read(out.join("report/ablation.json")).unwrap()).unwrap();
    const WAYS: [&str; 23] = [
        "before",
        "sft",
        "weakened",
        "injected",
        "authors_loss",
        "mdpo",
        "symmpo",
        "chip",
        "attended",
        "hanorec",
        "sft_first",
        "two_epochs",
        "three_epochs",
        "interpolated",
        "rounds",
        "own",
        "own_longer",
        "own_rounds",
        "revised",
        "judged",
        "judged_rounds",
        "judged_whole",
        "judged_whole_rounds",
    ];
    for split in ["counter", "held_out"] {
        let split = &summary[0]["splits"][split];
        for way in WAYS {
            assert!(split[way]["chair_i"].is_number(), "{way}");
            let value = |way: &str| split[way]["chair_i"].as_f64().unwrap();
            let difference = split["differences"][way]["chair_i"]["value"].as_f64().unwrap();
            assert!((difference - (value(way) - value("after"))).abs() < 1e-9, "{way}");
        }
        assert!(split["after"]["chair_i"].is_number());
    }
    let table = fs::read_to_string(out.join("report/ablation.md")).unwrap();
    assert_eq!(table.matches("| own, three rounds |").count(), 5, "{table}");
    let frontier = fs::read_to_string(out.join("report/frontier.svg")).unwrap();
    assert!(frontier.contains("own, three rounds") && frontier.contains("<polyline"), "{frontier}");
    let run = out.join("seed-42");
    let steps = |way: &str| read_lines(run.join(way).join("metrics.jsonl")).len();
    let one = steps("run");
    for (way, times) in [
        ("sft", 1),
        ("symmpo", 1),
        ("attended", 1),
        ("sft_first", 1),
        ("two_epochs", 2),
        ("three_epochs", 3),
        ("rounds/round-2", 1),
        ("own", 1),
        ("own_longer", 3),
        ("own_rounds/round-2", 1),
        ("revised", 1),
    ] {
        assert_eq!(steps(way), times * one, "{way}");
    }
    // each way is trained on what its name says
    let config = |way: &str| fs::read_to_string(run.join(way).join("config.toml")).unwrap();
    assert!(
        config("sft_first").contains("sft/adapter") && config("rounds/round-2").contains("round-1/adapter")
    );
    assert!(config("attended").contains("mask-attended"));
    assert!(run.join("interpolated/model.safetensors").exists());
    let own = |way: &str| {
        let pairs = read_lines(run.join(way).join("pairs.jsonl"));
        pairs.iter().filter(|pair| pair["chosen_kind"] == "own").count() as f64 / pairs.len() as f64
    };
    for way in ["own", "own_longer", "own_rounds/round-0", "own_rounds/round-2"] {
        assert_eq!(own(way), 1.0, "{way}");
    }
    assert!((0.0..1.0).contains(&own("revised")) && own("rounds/round-2") == 0.0);
    let written = || {
        ["sft_first", "rounds/round-2", "own", "own_rounds/round-2", "revised"].map(|way| {
            let adapter = run.join(way).join("adapter/adapter_model.safetensors");
            fs::metadata(&adapter).unwrap().modified().unwrap()
        })
    };
    let before = written();
    ablation();
    assert_eq!(written(), before);
}
