//! The whole pipeline, with a model, an injector and a training that count their calls.
#![cfg(feature = "model")]

use std::cell::Cell;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bpo::inject::{Cut, ErrorInjector, Injection, InjectionFailure, InjectionRequest, Rejection};
use bpo::pairs::{FinishReason, Generated, PreferencePair, SftSample, SkipReason};
use bpo::stages::{StageFile, StageOutcome};
use bpo::{
    BpoError, ChosenAnswer, ImageRoot, Manifest, PipelineBackend, Progress, RunConfig, RunDir, RunStatus,
    Stage, StageLedger, VisionLanguageModel, VisionRequest, run,
};

/// Answers `left` requests, then fails.
struct Model {
    left: Rc<Cell<usize>>,
}

#[derive(Debug, thiserror::Error)]
#[error("no power")]
struct NoPower;

impl VisionLanguageModel for Model {
    type Error = NoPower;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, NoPower>> {
        let answer = |request: &VisionRequest| {
            let left = self.left.get().checked_sub(1).ok_or(NoPower)?;
            self.left.set(left);
            let Some(image) = request.images.first() else {
                // as a judge: answers about weakened images are worse
                let score = if request.prompt.contains("clearly") { 5 } else { 2 };
                let text = format!("Score: {score}");
                return Ok(Generated { text, finish: FinishReason::Stop, tokens: None });
            };
            let (width, height) = image.load().unwrap().dimensions();
            let verb = if request.weakening.is_some() { "see" } else { "clearly see" };
            let text = format!("I {verb} {width} by {height} pixels.");
            Ok(Generated { text, finish: FinishReason::Stop, tokens: None })
        };
        requests.iter().map(answer).collect()
    }
}

struct Injector;

impl ErrorInjector for Injector {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        let rewrite = |request: &InjectionRequest| {
            if !request.answer.contains("cat") {
                return Err(InjectionFailure::skipped(Rejection::NothingToChange));
            }
            let rewrite = Injection::new(request.answer.replace("cat", "dog"), 1);
            Ok(rewrite.with_cuts(vec![Cut::Note]))
        };
        requests.iter().map(rewrite).collect()
    }
}

/// Counts how often each part is requested.
struct Counted {
    left: Rc<Cell<usize>>,
    checks: usize,
    models: usize,
    judges: usize,
    injectors: usize,
    trained: Vec<PreferencePair>,
    fails_to_train: bool,
}

impl Counted {
    fn new(left: usize) -> Self {
        Self {
            left: Rc::new(Cell::new(left)),
            checks: 0,
            models: 0,
            judges: 0,
            injectors: 0,
            trained: Vec::new(),
            fails_to_train: false,
        }
    }
}

impl PipelineBackend for Counted {
    type Model = Model;
    type Injector = Injector;

    fn check(&mut self, _: &RunConfig, _: &[SftSample], _: &[Stage]) -> Result<(), BpoError> {
        self.checks += 1;
        Ok(())
    }

    fn model(&mut self) -> Result<Model, BpoError> {
        self.models += 1;
        Ok(Model { left: Rc::clone(&self.left) })
    }

    fn judge(&mut self) -> Result<Model, BpoError> {
        self.judges += 1;
        Ok(Model { left: Rc::clone(&self.left) })
    }

    fn injector(&mut self, _: &[SftSample]) -> Result<Injector, BpoError> {
        self.injectors += 1;
        Ok(Injector)
    }

    fn train(
        &mut self,
        pairs: Vec<PreferencePair>,
        _: &ImageRoot,
        dir: &RunDir,
        _: &mut dyn Progress,
    ) -> Result<(RunStatus, StageOutcome), BpoError> {
        if self.fails_to_train {
            return Err(BpoError::NothingToEvaluate);
        }
        fs::write(dir.metrics(), "{}\n").unwrap();
        fs::create_dir_all(dir.adapter()).unwrap();
        for name in ["adapter_model.safetensors", "adapter_config.json"] {
            fs::write(dir.adapter().join(name), "{}").unwrap();
        }
        let outcome = StageOutcome::new(pairs.len(), vec![]);
        self.trained = pairs;
        Ok((RunStatus::Finished, outcome))
    }
}

/// Three usable samples, one without a conversation, and one whose image is missing.
fn setting(dir: &Path) -> (RunConfig, PathBuf) {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/photos");
    let sample = |id: &str, image: &str, answer: &str| {
        serde_json::json!({"id": id, "image": image, "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": answer},
        ]})
    };
    let mut samples = vec![
        sample("a", "cat.jpg", "A cat."),
        sample("b", "coffee.jpg", "A cup."),
        sample("gone", "unicorn.jpg", "A cat."),
        sample("c", "cat.jpg", "One cat."),
    ];
    samples.push(serde_json::json!({"id": "text", "conversations": []}));
    let data = dir.join("llava.json");
    fs::write(&data, serde_json::to_string(&samples).unwrap()).unwrap();
    let model = dir.join("model");
    fs::create_dir_all(&model).unwrap();
    fs::write(model.join("config.json"), "{}").unwrap();

    let mut config = RunConfig::default();
    config.model.path = Some(model);
    config.data.path = Some(data);
    config.data.images = Some(photos);
    config.weaken.batch_size = 1;
    (config, dir.join("run"))
}

#[test]
fn run_counts_skipped_samples_and_repeats_no_work() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = setting(dir.path());
    let mut parts = Counted::new(3);
    let report = run(&config, &out, &mut parts, &mut ()).unwrap();
    assert_eq!((report.status, report.was_finished), (RunStatus::Finished, false));
    let count = |stage, reason| report.stages[&stage].skipped.get(reason);
    assert_eq!(count(Stage::Data, SkipReason::NoTurns), 1);
    assert_eq!(count(Stage::Weaken, SkipReason::ImageMissing), 1);
    assert_eq!(count(Stage::Inject, SkipReason::NothingToChange), 1);
    let inject = &report.stages[&Stage::Inject];
    assert_eq!(inject.cuts.get(Cut::Note) as usize, inject.done);
    let manifest = std::fs::read_to_string(out.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["stages"]["inject"]["finished"]["cuts"]["note"], inject.done);
    // samples that an early stage skips are dropped in later stages
    assert_eq!(report.stages[&Stage::Inject].done + 1, 3);
    let ids: Vec<_> = parts.trained.iter().map(|pair| pair.id.as_str()).collect();
    assert_eq!(ids, ["a:0>1", "a:0>2", "b:0>1", "c:0>1", "c:0>2"]);

    let mut idle = Counted::new(0);
    let again = run(&config, &out, &mut idle, &mut ()).unwrap();
    assert!(again.was_finished);
    assert_eq!(again.stages, report.stages);
    assert_eq!((idle.models, idle.injectors, idle.trained.len()), (0, 0, 0));

    // an adapter that is missing, emptied or changed is written again
    let weights = out.join("adapter/adapter_model.safetensors");
    let whole = fs::read(&weights).unwrap();
    for damage in [None, Some(Vec::new()), Some([&whole[..], b"more"].concat())] {
        match damage {
            None => fs::remove_file(&weights).unwrap(),
            Some(bytes) => fs::write(&weights, bytes).unwrap(),
        }
        let mended = run(&config, &out, &mut Counted::new(0), &mut ()).unwrap();
        assert!(!mended.was_finished);
        assert_eq!(fs::read(&weights).unwrap(), whole);
        assert!(run(&config, &out, &mut Counted::new(0), &mut ()).unwrap().was_finished);
    }
}

/// A run with the model's own answers as chosen ones injects no errors, and each interruption is
/// continued to the same bytes.
#[test]
fn own_answers_replace_the_annotated_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, out) = setting(dir.path());
    config.chosen = ChosenAnswer::Own;
    let mut parts = Counted::new(6);
    let report = run(&config, &out, &mut parts, &mut ()).unwrap();
    assert_eq!((parts.models, parts.injectors, parts.left.get()), (1, 0, 0));
    assert!(!report.stages.contains_key(&Stage::Inject) && !out.join("injected.jsonl").exists());
    let ids: Vec<_> = parts.trained.iter().map(|pair| pair.id.as_str()).collect();
    assert_eq!(ids, ["a:0>1", "b:0>1", "c:0>1"]);
    for pair in &parts.trained {
        assert!(pair.chosen.starts_with("I clearly see") && pair.rejected.starts_with("I see"), "{pair:?}");
    }
    assert!(run(&config, &out, &mut Counted::new(0), &mut ()).unwrap().was_finished);
    assert_eq!(StageLedger::unfinished(&out, &config).unwrap(), []);

    for calls in 0..6 {
        let again = dir.path().join(format!("again-{calls}"));
        run(&config, &again, &mut Counted::new(calls), &mut ()).unwrap_err();
        // unfinished batches are answered again as a whole
        run(&config, &again, &mut Counted::new(6), &mut ()).unwrap();
        for name in ["weakened.jsonl", "pairs.jsonl", "skipped.jsonl"] {
            assert_eq!(fs::read(again.join(name)).unwrap(), fs::read(out.join(name)).unwrap(), "{name}");
        }
    }
    let mut annotated = config.clone();
    annotated.chosen = ChosenAnswer::Annotated;
    let error = run(&annotated, &out, &mut Counted::new(9), &mut ()).unwrap_err();
    assert!(matches!(error, BpoError::Changed { .. }) && error.to_string().contains("`chosen`"), "{error}");
    fs::remove_file(out.join("weakened.jsonl")).unwrap();
    let error = run(&config, &out, &mut Counted::new(9), &mut ()).unwrap_err();
    assert!(matches!(error, BpoError::Missing { .. }), "{error}");
}

/// A run with a judge scores the answers before it makes pairs, and each interruption is continued to the
/// same bytes.
#[test]
fn judged_answers_make_pairs_by_their_scores() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, out) = setting(dir.path());
    config.chosen = ChosenAnswer::Judged;
    let mut parts = Counted::new(12);
    let report = run(&config, &out, &mut parts, &mut ()).unwrap();
    assert_eq!((parts.models, parts.judges, parts.injectors, parts.left.get()), (1, 1, 0, 0));
    assert_eq!((report.stages[&Stage::Judge].done, report.stages[&Stage::Judge].skipped.total()), (6, 0));
    assert_eq!(report.stages[&Stage::Weaken].skipped.total(), 2);
    let ids: Vec<_> = parts.trained.iter().map(|pair| pair.id.as_str()).collect();
    assert_eq!(ids, ["a:1>0", "b:1>0", "c:1>0"]);
    assert!(
        parts.trained.iter().all(|pair| pair.chosen.starts_with("I clearly see") && pair.margin == Some(3.0))
    );
    assert!(run(&config, &out, &mut Counted::new(0), &mut ()).unwrap().was_finished);
    assert_eq!(StageLedger::unfinished(&out, &config).unwrap(), []);

    for calls in 0..12 {
        let again = dir.path().join(format!("again-{calls}"));
        run(&config, &again, &mut Counted::new(calls), &mut ()).unwrap_err();
        // unfinished batches are answered again as a whole
        run(&config, &again, &mut Counted::new(18), &mut ()).unwrap();
        for name in ["weakened.jsonl", "judged.jsonl", "pairs.jsonl", "skipped.jsonl"] {
            assert_eq!(fs::read(again.join(name)).unwrap(), fs::read(out.join(name)).unwrap(), "{name}");
        }
    }
    // the scores are those of the answers that are there
    let mut other = config.clone();
    other.judge.highest = 10.0;
    let error = run(&other, &out, &mut Counted::new(9), &mut ()).unwrap_err();
    assert!(
        matches!(error, BpoError::Changed { .. }) && error.to_string().contains("`judge.highest`"),
        "{error}"
    );
    let text = fs::read_to_string(out.join("judged.jsonl")).unwrap();
    fs::write(out.join("judged.jsonl"), text.replace("\"score\":5.0", "\"score\":1.0")).unwrap();
    let error = run(&config, &out, &mut Counted::new(9), &mut ()).unwrap_err();
    assert!(
        matches!(error, BpoError::FilesChanged { .. }) && error.to_string().contains("judged.jsonl"),
        "{error}"
    );
    fs::remove_file(out.join("judged.jsonl")).unwrap();
    let error = run(&config, &out, &mut Counted::new(9), &mut ()).unwrap_err();
    assert!(
        matches!(error, BpoError::Missing { .. }) && error.to_string().contains("judged.jsonl"),
        "{error}"
    );
}

/// Own answers from a score on replace the annotated ones. The score is a setting of the pairs.
#[test]
fn a_judge_decides_which_answers_are_revised() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, out) = setting(dir.path());
    config.chosen = ChosenAnswer::Revised;
    config.judge.accept_from = Some(4.0);
    let mut parts = Counted::new(12);
    run(&config, &out, &mut parts, &mut ()).unwrap();
    assert_eq!((parts.judges, parts.injectors), (1, 1));
    assert!(parts.trained.iter().all(|pair| pair.chosen.starts_with("I clearly see")));
    let mut stricter = config.clone();
    stricter.judge.accept_from = Some(5.0);
    let error = run(&stricter, &out, &mut Counted::new(9), &mut ()).unwrap_err();
    assert!(error.to_string().contains("`judge.accept_from`"), "{error}");
    // without a judge, a ground truth decides
    let mut by_truth = config.clone();
    by_truth.judge.accept_from = None;
    let truth = dir.path().join("truth.jsonl");
    fs::write(&truth, "{\"image\": \"cat.jpg\", \"objects\": [\"cat\"]}\n").unwrap();
    by_truth.truth.path = Some(truth);
    let error = run(&by_truth, &out, &mut Counted::new(9), &mut ()).unwrap_err();
    assert!(
        matches!(error, BpoError::Changed { .. }) && error.to_string().contains("`judge.accept_from`"),
        "{error}"
    );
}

/// The ground truth of revised answers is checked before any stage starts, and binds the pairs.
#[test]
fn the_ground_truth_of_revised_answers_is_an_input() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, out) = setting(dir.path());
    config.chosen = ChosenAnswer::Revised;
    let truth = dir.path().join("truth.jsonl");
    config.truth.path = Some(truth.clone());
    let mut parts = Counted::new(9);
    let error = run(&config, &out, &mut parts, &mut ()).unwrap_err();
    assert!(error.to_string().contains("truth.jsonl") && parts.models == 0 && !out.exists(), "{error}");
    fs::write(&truth, "{\"image\": \"cat.jpg\", \"objects\": [\"cat\"]}\n").unwrap();
    run(&config, &out, &mut parts, &mut ()).unwrap();
    // the own answers name no object
    assert!(parts.trained.iter().all(|pair| !pair.chosen.contains("clearly see")));
    assert_eq!(parts.trained.len(), 5);
    fs::write(&truth, "{\"image\": \"cat.jpg\", \"objects\": [\"dog\"]}\n").unwrap();
    let error = run(&config, &out, &mut Counted::new(0), &mut ()).unwrap_err();
    assert!(matches!(error, BpoError::Changed { .. }) && error.to_string().contains("truth.path"), "{error}");
}

#[test]
fn skipped_files_name_the_variant_of_a_sample() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, out) = setting(dir.path());
    config.weaken.samples = 2;
    run(&config, &out, &mut Counted::new(6), &mut ()).unwrap();
    let lines = |name: &str| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(out.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let skipped = lines("skipped.jsonl");
    let gone = skipped.iter().filter(|line| line["id"] == "gone");
    let variants: Vec<_> = gone.map(|line| line["variant"].as_u64().unwrap_or(0)).collect();
    assert_eq!(variants, [0, 1]);
    let pairs = lines("pairs.jsonl");
    assert!(pairs.iter().any(|pair| pair["kind"] == "mllm-hal"));
    for pair in pairs {
        let expected = (pair["kind"] == "mllm-hal").then_some("diffusion-noise:step=900");
        assert_eq!(pair["provenance"]["distortion"].as_str(), expected, "{pair}");
    }
}

#[test]
fn failing_model_stops_the_run_and_keeps_results() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = setting(dir.path());
    let mut failing = Counted::new(2);
    let error = run(&config, &out, &mut failing, &mut ()).unwrap_err();
    assert!(
        matches!(error, BpoError::StageStopped { stage: Stage::Weaken, ref id, .. } if id == "c"),
        "{error}"
    );
    assert!(bpo::chain(&error).ends_with("no power"));
    // only the failed call is repeated
    let mut parts = Counted::new(3);
    run(&config, &out, &mut parts, &mut ()).unwrap();
    assert_eq!((parts.models, parts.left.get(), parts.trained.len()), (1, 0, 5));
}

#[test]
fn changed_settings_and_inputs_of_started_stages_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = setting(dir.path());
    run(&config, &out, &mut Counted::new(1), &mut ()).unwrap_err();

    let mut warmer = config.clone();
    warmer.weaken.temperature = 1.0;
    let error = run(&warmer, &out, &mut Counted::new(9), &mut ()).unwrap_err();
    assert!(
        matches!(error, BpoError::Changed { .. }) && error.to_string().contains("weaken.temperature"),
        "{error}"
    );
    // settings of stages that have not started can change
    let mut steeper = config.clone();
    steeper.train.beta = 0.5;
    run(&steeper, &out, &mut Counted::new(1), &mut ()).unwrap_err();

    fs::write(config.model.path.as_ref().unwrap().join("config.json"), "{\"other\": 1}").unwrap();
    let error = run(&steeper, &out, &mut Counted::new(9), &mut ()).unwrap_err();
    assert!(
        matches!(error, BpoError::Changed { .. }) && error.to_string().contains("`model.path`"),
        "{error}"
    );
}

#[test]
fn missing_stage_file_before_later_files_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = setting(dir.path());
    run(&config, &out, &mut Counted::new(3), &mut ()).unwrap();
    let chain =
        ["manifest.json", "config.toml", "weakened.jsonl", "injected.jsonl", "pairs.jsonl", "metrics.jsonl"];
    let mut other = config.clone();
    other.weaken.temperature = 1.0;
    other.train.beta = 0.5;
    for (place, name) in chain.iter().enumerate() {
        let bytes = fs::read(out.join(name)).unwrap();
        fs::remove_file(out.join(name)).unwrap();
        for config in [&config, &other] {
            let error = run(config, &out, &mut Counted::new(9), &mut ()).unwrap_err();
            let BpoError::Missing { path, later, .. } = &error else { panic!("{name}: {error}") };
            assert_eq!(*path, out.join(name));
            let expected = chain[2.max(place + 1)..].iter().chain(&["adapter"]).map(|name| out.join(name));
            assert_eq!(*later, expected.collect::<Vec<_>>());
        }
        fs::write(out.join(name), bytes).unwrap();
    }
    let error = run(&other, &out, &mut Counted::new(9), &mut ()).unwrap_err();
    assert!(matches!(error, BpoError::Changed { .. }), "{error}");

    // deleting what the error names is enough
    for name in ["pairs.jsonl", "metrics.jsonl"] {
        fs::remove_file(out.join(name)).unwrap();
    }
    fs::remove_dir_all(out.join("adapter")).unwrap();
    let mut shorter = config.clone();
    shorter.train.beta = 0.5;
    let mut parts = Counted::new(0);
    run(&shorter, &out, &mut parts, &mut ()).unwrap();
    assert_eq!((parts.models, parts.trained.len()), (0, 5));
}

/// Training whose files are gone is not finished: everything is checked before it starts again.
#[test]
fn training_whose_files_are_gone_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = setting(dir.path());
    run(&config, &out, &mut Counted::new(3), &mut ()).unwrap();
    for name in ["pairs.jsonl", "metrics.jsonl", "result.json"] {
        fs::remove_file(out.join(name)).unwrap();
    }
    fs::remove_dir_all(out.join("adapter")).unwrap();
    assert_eq!(StageLedger::unfinished(&out, &config).unwrap(), [Stage::Pair, Stage::Train]);
    let mut backend = Counted::new(0);
    backend.fails_to_train = true;
    run(&config, &out, &mut backend, &mut ()).unwrap_err();
    assert_eq!(backend.checks, 1);
    let manifest = Manifest::read(&out.join("manifest.json")).unwrap().unwrap();
    assert_eq!(manifest.stages[&Stage::Train].finished, None);
    let mut backend = Counted::new(0);
    let report = run(&config, &out, &mut backend, &mut ()).unwrap();
    assert_eq!((report.was_finished, backend.checks, backend.trained.len()), (false, 1, 5));
}

/// Settings that decide which parameters are the result may change during training, but not after
/// it.
#[test]
fn settings_that_choose_the_result_bind_a_finished_training() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = setting(dir.path());
    let mut best = config.clone();
    best.train.eval_fraction = 0.5;
    best.train.eval_every = 7;
    let mut failing = Counted::new(3);
    failing.fails_to_train = true;
    run(&best, &out, &mut failing, &mut ()).unwrap_err();
    fs::write(out.join("metrics.jsonl"), "{}\n").unwrap();
    best.train.keep_best = Some(bpo::dpo::Criterion::Loss);
    best.train.save_every = 3;
    run(&best, &out, &mut Counted::new(0), &mut ()).unwrap();
    // the interval of evaluations that choose nothing affects no result, nor does that of
    // checkpoints
    best.train.save_every = 4;
    assert!(run(&best, &out, &mut Counted::new(0), &mut ()).unwrap().was_finished);
    type Change = fn(&mut RunConfig);
    let changes: [(&str, Change); 3] = [
        ("train.keep_best", |config| config.train.keep_best = None),
        ("train.patience", |config| config.train.patience = Some(2)),
        ("train.eval_every", |config| config.train.eval_every = 9),
    ];
    for (key, change) in changes {
        let mut other = best.clone();
        change(&mut other);
        let error = run(&other, &out, &mut Counted::new(0), &mut ()).unwrap_err();
        let BpoError::Changed { settings, .. } = &error else { panic!("{error}") };
        assert!(settings.iter().any(|change| change.key == key), "{error}");
    }
}

/// Inputs are compared by content, so they may move.
#[test]
fn moved_inputs_continue_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, out) = setting(dir.path());
    let eval_pairs = dir.path().join("eval.jsonl");
    let pair = r#"{"id":"a","image":"cat.jpg","prompt":"<image>\nWhat?","chosen":"A cat.","rejected":"A dog.","kind":"llm-hal"}"#;
    fs::write(&eval_pairs, format!("{pair}\n")).unwrap();
    config.data.eval_pairs = Some(eval_pairs.clone());
    run(&config, &out, &mut Counted::new(3), &mut ()).unwrap();
    let moved = |path: &Option<PathBuf>| {
        let path = path.as_ref().unwrap();
        let to = path.with_file_name(format!("moved-{}", path.file_name().unwrap().display()));
        fs::rename(path, &to).unwrap();
        Some(to)
    };
    let mut now = config.clone();
    now.model.path = moved(&config.model.path);
    now.data.path = moved(&config.data.path);
    now.data.eval_pairs = moved(&config.data.eval_pairs);
    assert!(run(&now, &out, &mut Counted::new(0), &mut ()).unwrap().was_finished);
    let recorded = fs::read_to_string(out.join("config.toml")).unwrap();
    assert!(recorded.contains("moved-model"), "{recorded}");

    fs::write(now.data.eval_pairs.as_ref().unwrap(), format!("{pair}\n\n")).unwrap();
    let error = run(&now, &out, &mut Counted::new(0), &mut ()).unwrap_err().to_string();
    assert!(error.contains("`data.eval_pairs`"), "{error}");
}

#[test]
fn images_data_and_model_that_are_missing_are_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, out) = setting(dir.path());
    config.model.path = Some("no-model".into());
    config.data.path = Some("no-data".into());
    config.data.images = Some("no-images".into());
    config.data.eval_pairs = Some("no-pairs".into());
    let error = run(&config, &out, &mut Counted::new(0), &mut ()).unwrap_err();
    let text = bpo::chain(&error);
    for name in ["no-model", "no-data", "no-images", "no-pairs"] {
        assert_eq!(text.matches(name).count(), 1, "{name}: {text}");
    }
    assert!(!out.exists());
}

#[test]
fn run_without_any_image_is_an_error_and_fixes_no_settings() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, out) = setting(dir.path());
    let photos = config.data.images.replace(dir.path().to_owned());
    let error = run(&config, &out, &mut Counted::new(9), &mut ()).unwrap_err();
    let BpoError::NoImages { first, skipped, .. } = &error else { panic!("{error}") };
    assert_eq!((first.file_name().unwrap().to_str(), skipped.total()), (Some("cat.jpg"), 4));

    // as left by a process that was killed after the first sample
    let line = r#"{"id":"a","type":"mllm-hal","reason":"image-missing","detail":"gone"}"#;
    fs::write(out.join("weakened.jsonl"), format!("{line}\n")).unwrap();
    config.data.images = photos;
    let report = run(&config, &out, &mut Counted::new(3), &mut ()).unwrap();
    assert_eq!(report.stages[&Stage::Weaken].done, 3);
}

#[test]
fn manually_removed_pairs_stay_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = setting(dir.path());
    run(&config, &out, &mut Counted::new(3), &mut ()).unwrap();
    fs::remove_dir_all(out.join("adapter")).unwrap();
    let pairs = fs::read_to_string(out.join("pairs.jsonl")).unwrap();
    fs::write(out.join("pairs.jsonl"), pairs.lines().next().unwrap()).unwrap();
    let mut parts = Counted::new(0);
    let report = run(&config, &out, &mut parts, &mut ()).unwrap();
    assert_eq!((parts.trained.len(), report.stages[&Stage::Pair].done), (1, 1));
}

#[test]
fn run_without_pairs_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, out) = setting(dir.path());
    config.filter = config.filter.with_max_words(1);
    let error = run(&config, &out, &mut Counted::new(3), &mut ()).unwrap_err();
    assert!(matches!(error, BpoError::Nothing { what: "pair", .. }), "{error}");
    let text = error.to_string();
    for reason in ["no conversation: 1", "image missing: 1", "answer too long: 5"] {
        assert!(text.contains(reason), "{text}");
    }
    assert!(out.join("skipped.jsonl").exists());
    // the empty file of pairs is written again
    config.filter = config.filter.with_max_words(350);
    run(&config, &out, &mut Counted::new(0), &mut ()).unwrap();
}

#[test]
fn infallible_backend_runs_the_stages() {
    // error types of the traits can be any type
    struct Sure;
    impl VisionLanguageModel for Sure {
        type Error = Infallible;
        fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, Infallible>> {
            let yes = || Generated { text: "Yes.".into(), finish: FinishReason::Stop, tokens: Some(1) };
            requests.iter().map(|_| Ok(yes())).collect()
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (config, _) = setting(dir.path());
    let images = ImageRoot::new(config.images_path().unwrap()).unwrap();
    let samples =
        bpo::AnnotatedData::read(config.data_path().unwrap(), &bpo::pairs::format::ReadOptions::default())
            .unwrap()
            .samples;
    let file = dir.path().join("weakened.jsonl");
    let mut file = StageFile::open(&file).unwrap();
    let outcome = bpo::stages::weaken(&config, &samples, &images, || Ok(Sure), &mut file, &mut ()).unwrap();
    assert_eq!((outcome.summary.done, outcome.skipped.len()), (3, 1));
}
