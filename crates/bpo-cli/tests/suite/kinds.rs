//! A file of bpo in place of another one: the error says what the file holds and what takes it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{bpo, photos};

/// One file of each kind, made by the program where it can.
struct Files {
    dir: tempfile::TempDir,
}

/// What a file holds, with the part of the error that says so.
const SAMPLES: (&str, &str) = ("llava.json", "found annotated data without rejected answers: `bpo weaken`");
const PAIRS: (&str, &str) = ("pairs.jsonl", "found pairs: `bpo train`, `score`, `stats`");
const WEAKENED: (&str, &str) = ("weakened.jsonl", "found answers of `bpo weaken`: `bpo pair --data DATA");
const INJECTED: (&str, &str) = ("injected.jsonl", "found answers of `bpo inject`: `bpo pair --data DATA");
const MANIFEST: (&str, &str) = ("injected.jsonl.manifest.json", "found a manifest: give the file");
const SKIPPED: (&str, &str) = ("skipped.jsonl", "found a list of skipped records");
const QUESTIONS: (&str, &str) = ("questions.jsonl", "found questions without answers: `bpo generate");
const GENERATED: (&str, &str) = ("generated.jsonl", "found answers of `bpo generate`: `bpo eval`");
const SCORES: (&str, &str) = ("scores.jsonl", "found log-probabilities of `bpo score`");
const METRICS: (&str, &str) = ("metrics.jsonl", "found a log of training");

impl Files {
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        let data = files.at("llava.json");
        fs::copy(photos().join("llava.json"), &data).unwrap();
        let injected = files.at("injected.jsonl");
        bpo(arguments!["inject", "--data", &data, "--out", &injected]).succeeds();
        let pair = arguments!["pair", "--data", &data, "--answers", &injected];
        bpo([pair, arguments!["--out", files.at("pairs.jsonl")]].concat()).succeeds();
        for (name, text) in [
            ("weakened.jsonl", r#"{"id":"a","type":"mllm-hal","response":"A dog."}"#),
            (
                "skipped.jsonl",
                r#"{"stage":"weaken","id":"a","reason":"image-missing","detail":"no image \"a.jpg\""}"#,
            ),
            ("questions.jsonl", r#"{"id":"a","image":"cat.jpg","prompt":"What is it?"}"#),
            (
                "generated.jsonl",
                r#"{"id":"a","images":["cat.jpg"],"prompt":"What?","text":"A cat.","finish":"stop","tokens":3}"#,
            ),
            ("scores.jsonl", r#"{"id":"a","chosen_logp":-1.5,"rejected_logp":-2.5}"#),
            ("metrics.jsonl", r#"{"step":1,"epoch":0.5,"loss":0.69,"grad_norm":1.0}"#),
            ("truth.jsonl", r#"{"image":"cat.jpg","objects":["cat"]}"#),
        ] {
            fs::write(files.at(name), format!("{text}\n")).unwrap();
        }
        files
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Each of `wrong` in place of the file that `arguments` takes is an error about its kind.
    #[track_caller]
    fn refuses(&self, expected: &str, wrong: &[(&str, &str)], arguments: impl Fn(&Path) -> Vec<OsString>) {
        for (name, found) in wrong {
            let outcome = bpo(arguments(&self.at(name)));
            let outcome = outcome.fails_naming(&[name, &format!("expected {expected}, "), found]);
            // one line, and no list of skipped records before it
            assert!(!outcome.stderr.contains("skipped: "), "{}", outcome.stderr);
            assert!(!self.at("out").exists(), "{name}");
        }
    }
}

#[test]
fn commands_that_need_pairs_name_the_kind_of_another_file() {
    let files = Files::new();
    let wrong = [SAMPLES, WEAKENED, INJECTED, MANIFEST, SKIPPED, QUESTIONS, GENERATED, SCORES, METRICS];
    let out = || files.at("out");
    files.refuses("pairs", &wrong, |file| arguments!["stats", file]);
    files.refuses("pairs", &wrong, |file| arguments!["inspect", file, "--out", out()]);
    let convert = |file: &Path| arguments!["convert", file, out(), "--to", "ms-swift"];
    files.refuses("pairs", &wrong[..1], convert);
    files.refuses("samples or pairs", &wrong[1..], convert);
    // the annotated answers fit into these formats
    for format in ["llava", "bpo"] {
        let to = arguments!["convert", files.at("llava.json"), files.at(format), "--to", format];
        bpo(to).succeeds();
    }
    #[cfg(feature = "flex")]
    {
        use crate::common::{score, tiny, train_arguments};
        files.refuses("pairs", &wrong, |file| train_arguments(file, &out()));
        for (name, found) in wrong {
            score(&tiny(), &files.at(name), Vec::new()).fails_naming(&[name, found]);
        }
    }
}

#[test]
fn commands_that_need_data_or_answers_name_the_kind_of_another_file() {
    let files = Files::new();
    let out = || arguments!["--out", files.at("out")];
    let wrong = [WEAKENED, INJECTED, MANIFEST, SKIPPED, QUESTIONS, GENERATED, SCORES, METRICS];
    files.refuses("annotated data", &wrong, |file| [arguments!["inject", "--data", file], out()].concat());
    let answers = || arguments!["--answers", files.at("injected.jsonl")];
    files.refuses("annotated data", &wrong, |file| {
        [arguments!["pair", "--data", file], answers(), out()].concat()
    });
    let data = |command: &str| arguments![command, "--data", files.at("llava.json")];
    let wrong = [SAMPLES, PAIRS, MANIFEST, SKIPPED, QUESTIONS, GENERATED, SCORES, METRICS];
    let expected = "answers of `bpo weaken` or `bpo inject`";
    files.refuses(expected, &wrong, |file| [data("pair"), arguments!["--answers", file], out()].concat());
    let inject = |file: &Path| [data("inject"), arguments!["--weakened", file], out()].concat();
    files.refuses(expected, &wrong, inject);
    files.refuses("answers of `bpo weaken`", &[INJECTED], inject);
    // the annotated answers of pairs are data
    bpo([arguments!["inject", "--data", files.at("pairs.jsonl")], out()].concat()).succeeds();
}

#[test]
fn evaluations_name_the_kind_of_another_file() {
    let files = Files::new();
    let truth = || arguments!["--truth", files.at("truth.jsonl")];
    let wrong = [SAMPLES, PAIRS, WEAKENED, INJECTED, MANIFEST, SKIPPED, QUESTIONS, SCORES, METRICS];
    let expected = "answers to questions about images";
    files
        .refuses(expected, &wrong, |file| [arguments!["eval", "chair", "--answers", file], truth()].concat());
    bpo([arguments!["eval", "chair", "--answers", files.at("generated.jsonl")], truth()].concat()).succeeds();
    files.refuses("the objects of images", &[SAMPLES, PAIRS, WEAKENED, MANIFEST], |file| {
        let answers = arguments!["eval", "chair", "--answers", files.at("generated.jsonl")];
        [answers, arguments!["--truth", file]].concat()
    });
    files.refuses("questions with labels", &[SAMPLES, PAIRS, WEAKENED, GENERATED], |file| {
        arguments!["eval", "pope", "--answers", files.at("generated.jsonl"), "--questions", file]
    });
    #[cfg(feature = "flex")]
    files.refuses("questions", &[SAMPLES, WEAKENED, INJECTED, MANIFEST, SKIPPED, SCORES, METRICS], |file| {
        let model = arguments!["generate", "--model", crate::common::tiny(), "--images", photos()];
        [model, arguments!["--questions", file]].concat()
    });
}

/// The output of another stage is not continued.
#[test]
fn answers_of_one_stage_are_no_output_of_another() {
    let files = Files::new();
    let before = fs::read(files.at("injected.jsonl")).unwrap();
    let manifest = files.at("injected.jsonl.manifest.json");
    let text = fs::read_to_string(&manifest).unwrap().replace("\"inject\": {", "\"weaken\": {");
    fs::write(&manifest, text).unwrap();
    let data = arguments!["inject", "--data", files.at("llava.json")];
    bpo([data, arguments!["--out", files.at("injected.jsonl")]].concat())
        .fails_naming(&["injected.jsonl was made by `bpo weaken`, not by `bpo inject`: give another --out"]);
    assert_eq!(fs::read(files.at("injected.jsonl")).unwrap(), before);
}
