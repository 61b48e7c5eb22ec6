//! Weakening and injection. Resumed from a truncated file, they give the same bytes as an
//! uninterrupted run.

mod chosen;
mod contrasts;
mod cut;
mod judge;
mod kinds;
mod ledger;
mod orders;
mod selection;

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bpo::inject::{ErrorInjector, Injection, InjectionFailure, InjectionQueue, InjectionRequest, Rejection};
use bpo::pairs::format::llava;
use bpo::pairs::{
    Contrast, ContrastMode, FinishReason, Generated, JsonlStore, PairFilter, RecordKey, RequestFailure,
    SftSample, SkipReason, make_all_pairs,
};
use bpo::stages::{
    ExistingPairs, Shard, StageAnswers, StageFile, StageOutcome, StageRecord, assemble, inject, pair, weaken,
    without_answers,
};
use bpo::{
    BpoError, Distortions, ImageRoot, OnAnswer, RunConfig, StageSummary, VisionLanguageModel, VisionQueue,
    VisionRequest,
};
use image::RgbImage;

#[derive(Debug)]
enum ModelError {
    TooLong,
    Down,
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for ModelError {}

/// Answers with the content of the request; fails after `calls` calls.
struct Model {
    calls: usize,
    batches: Vec<usize>,
}

impl Model {
    fn new(calls: usize) -> Self {
        Self { calls, batches: Vec::new() }
    }
}

impl VisionLanguageModel for Model {
    type Error = ModelError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ModelError>> {
        let down = self.batches.len() == self.calls;
        self.batches.push(requests.len());
        let answer = |(place, request): (usize, &VisionRequest)| match () {
            // the first request of a batch still succeeds
            () if down && place > 0 => Err(ModelError::Down),
            () if request.prompt.contains("How many coins") => Err(ModelError::TooLong),
            () => {
                let weakening = request.weakening.as_ref().unwrap();
                let text = format!(
                    "{} {} {} {} of {}",
                    weakening.distortion,
                    weakening.seed,
                    request.sampling.seed,
                    request.history.len(),
                    requests.len(),
                );
                Ok(Generated { text, finish: FinishReason::Stop, tokens: None })
            }
        };
        requests.iter().enumerate().map(answer).collect()
    }

    fn is_request_error(&self, error: &ModelError) -> bool {
        matches!(error, ModelError::TooLong)
    }
}

/// Appends the seed to the answer; fails after `down_at` requests.
struct Injector {
    down_at: usize,
    requests: usize,
}

impl ErrorInjector for Injector {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        let answer = |request: &InjectionRequest| {
            self.requests += 1;
            if self.requests > self.down_at {
                return Err(InjectionFailure::failed(ModelError::Down));
            }
            assert!(!request.question.contains("<image>"));
            Ok(Injection::new(format!("{} {}", request.answer, request.seed), 1))
        };
        requests.iter().map(answer).collect()
    }
}

/// The samples with an image.
fn samples() -> Vec<SftSample> {
    all_samples().into_iter().filter(|sample| !sample.images.is_empty()).collect()
}

fn all_samples() -> Vec<SftSample> {
    let data = llava::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpo-pairs/tests/data/llava.json"))
        .unwrap();
    data.samples
}

/// All images except `astronaut.jpg`; `rocket.jpg` is empty.
fn images(dir: &Path) -> ImageRoot {
    for name in ["cat.png", "coffee.png", "coins.png"] {
        RgbImage::new(3, 2).save(dir.join(name)).unwrap();
        fs::rename(dir.join(name), dir.join(name).with_extension("jpg")).unwrap();
    }
    fs::write(dir.join("rocket.jpg"), "").unwrap();
    ImageRoot::new(dir).unwrap()
}

/// Settings with a seed, 12 questions per call of the model and 3 answers per batch of the
/// injector.
fn config(seed: u64) -> RunConfig {
    let mut config = RunConfig::default();
    config.seed.0 = seed;
    config.weaken.batch_size = 3;
    config.inject.batch_size = 3;
    config
}

fn run_weaken(path: &Path, images: &ImageRoot, model: &mut Model) -> Result<StageSummary, BpoError> {
    let mut file = StageFile::open(path)?;
    let outcome = weaken(&config(3), &samples(), images, || Ok(model), &mut file, &mut ())?;
    Ok(outcome.summary)
}

#[test]
fn weakening_skips_samples_without_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let path = dir.path().join("weakened.jsonl");
    let summary = run_weaken(&path, &images, &mut Model::new(usize::MAX)).unwrap();
    assert_eq!((summary.done, summary.skipped.total()), (4, 3));
    for reason in [SkipReason::ImageMissing, SkipReason::ImageUnreadable, SkipReason::RequestFailed] {
        assert_eq!(summary.skipped.get(reason), 1, "{reason}");
    }
    let text = fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.contains("astronaut-0")).unwrap();
    assert!(line.contains(r#""reason":"image-missing","detail":"no image \"astronaut.jpg\""#), "{line}");

    let mut idle = Model::new(0);
    assert_eq!(run_weaken(&path, &images, &mut idle).unwrap(), summary);
    assert!(idle.batches.is_empty());
}

#[test]
fn weakening_resumes_from_truncated_files() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let path = dir.path().join("weakened.jsonl");
    run_weaken(&path, &images, &mut Model::new(usize::MAX)).unwrap();
    let undisturbed = fs::read(&path).unwrap();
    // every line is cut at several places; the tests of the store cut at every byte
    for cut in (0..undisturbed.len()).step_by(13) {
        fs::write(&path, &undisturbed[..cut]).unwrap();
        run_weaken(&path, &images, &mut Model::new(usize::MAX)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), undisturbed, "cut at {cut}");
    }
}

#[test]
fn failing_model_stops_the_stage_and_keeps_all_answers() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let (path, other) = (dir.path().join("a.jsonl"), dir.path().join("b.jsonl"));
    let error = run_weaken(&path, &images, &mut Model::new(0)).unwrap_err();
    let BpoError::StageStopped { id, .. } = error else { panic!("{error}") };
    assert_eq!(id, "cat-1#0");
    let store = JsonlStore::<StageRecord>::open(&path).unwrap();
    assert!(store.len() == 1 && store.contains(&RecordKey::new("cat-0", 0)));
    drop(store);

    run_weaken(&path, &images, &mut Model::new(usize::MAX)).unwrap();
    run_weaken(&other, &images, &mut Model::new(usize::MAX)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(&other).unwrap());
}

#[test]
fn file_of_other_samples_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let path = dir.path().join("weakened.jsonl");
    run_weaken(&path, &images, &mut Model::new(usize::MAX)).unwrap();
    let resume = |samples: &[SftSample]| {
        let model = || Ok(Model::new(0));
        let mut file = StageFile::open(&path).unwrap();
        weaken(&config(3), samples, &images, model, &mut file, &mut ()).unwrap_err()
    };
    let mut other = samples();
    other[1].id = "another".into();
    assert!(matches!(resume(&other), BpoError::OtherSamples { line: 2, .. }));
    assert!(matches!(resume(&samples()[..3]), BpoError::OtherSamples { line: 4, .. }));
}

#[test]
fn missing_image_root_is_an_error_and_skips_no_sample() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weakened.jsonl");
    let root_dir = dir.path().join("images");
    fs::create_dir(&root_dir).unwrap();
    let images = ImageRoot::new(&root_dir).unwrap();
    fs::remove_dir(&root_dir).unwrap();
    let error = run_weaken(&path, &images, &mut Model::new(0)).unwrap_err();
    assert!(matches!(error, BpoError::Image(_)), "{error}");
    assert!(fs::read(&path).unwrap().is_empty());
}

fn run_inject(path: &Path, injector: &mut dyn ErrorInjector) -> Result<StageSummary, BpoError> {
    let mut file = StageFile::open(path)?;
    let outcome = inject(&config(0), &samples(), &HashSet::new(), || Ok(injector), &mut file, &mut ())?;
    Ok(outcome.summary)
}

#[test]
fn injection_resumes_after_a_server_failure() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("a.jsonl"), dir.path().join("b.jsonl"));
    // only missing answers are requested again
    for (down_at, done) in [(2, 2), (4, 6), (usize::MAX, 7)] {
        let outcome = run_inject(&path, &mut Injector { down_at, requests: 0 });
        assert_eq!(outcome.is_ok(), down_at == usize::MAX);
        if let Err(error) = outcome {
            assert!(matches!(error, BpoError::StageStopped { .. }), "{error}");
        }
        assert_eq!(JsonlStore::<StageRecord>::open(&path).unwrap().len(), done);
    }
    run_inject(&other, &mut Injector { down_at: usize::MAX, requests: 0 }).unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(&other).unwrap());
}

struct Refusing;

impl ErrorInjector for Refusing {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        let refused =
            |_| Err(InjectionFailure::Skipped { rejected: vec![Rejection::Empty, Rejection::Refusal] });
        requests.iter().map(refused).collect()
    }
}

#[test]
fn refused_rewrites_are_counted_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("injected.jsonl");
    let summary = run_inject(&path, &mut Refusing).unwrap();
    assert_eq!((summary.done, summary.skipped.get(SkipReason::RewriteRefused)), (0, 7));
    assert_eq!(run_inject(&path, &mut Injector { down_at: 0, requests: 0 }).unwrap(), summary);
}

struct Mute;

impl ErrorInjector for Mute {
    fn inject(&mut self, _: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        Vec::new()
    }
}

#[test]
fn missing_answers_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = run_inject(&dir.path().join("a.jsonl"), &mut Mute);
    assert!(matches!(outcome, Err(BpoError::AnswerCount { requests: 3, answers: 0, .. })));
}

#[test]
fn answers_make_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let (weakened, injected) = (dir.path().join("weakened.jsonl"), dir.path().join("injected.jsonl"));
    run_weaken(&weakened, &images, &mut Model::new(usize::MAX)).unwrap();
    run_inject(&injected, &mut Injector { down_at: usize::MAX, requests: 0 }).unwrap();

    let samples = samples();
    let stores = [&weakened, &injected].map(|path| JsonlStore::<StageRecord>::open(path).unwrap());
    let answers = |store: &JsonlStore<StageRecord>| {
        store.records().unwrap().map(|record| record.map_err(BpoError::from)).collect::<Vec<_>>()
    };
    let records = assemble(&samples, stores.iter().flat_map(answers)).unwrap();
    let set = make_all_pairs(&records, &PairFilter::default());
    let ids: Vec<_> = set.pairs.iter().map(|pair| pair.id.as_str()).collect();
    let expected = [
        "cat-0:0>1",
        "cat-0:0>2",
        "cat-1#0:0>1",
        "cat-1#0:0>2",
        "cat-1#1:0>1",
        "cat-1#1:0>2",
        "coffee-0:0>1",
        "coffee-0:0>2",
        "rocket-0:0>1",
        "coins-0:0>1",
        "astronaut-0:0>1",
    ];
    assert_eq!(ids, expected);
    assert_eq!(set.pairs[8].kind.as_str(), "llm-hal");
    assert_eq!(set.pairs[4].history, samples[2].history);

    let stray = assemble(&samples[..1], answers(&stores[1]));
    assert!(matches!(stray, Err(BpoError::UnknownId { .. })));
    let alone = make_all_pairs(&assemble(&samples[..1], []).unwrap(), &PairFilter::default());
    assert_eq!(alone.skipped[0].reason, SkipReason::NoRejected);
}

/// Each sample has several answers, made with other images where needed, and with their provenance.
#[test]
fn a_sample_can_have_several_answers() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let mut config = config(3);
    let distortions = ["swap", "blur:sigma=2..8+no-image"].map(|text| text.parse().unwrap());
    config.weaken.distortion = Distortions::new(distortions.into()).unwrap();
    config.weaken.samples = 2;
    config.weaken.prefix_fraction = 0.5;
    config.weaken.contrast = Some(Contrast::new(ContrastMode::AmplifyPrior));
    assert_eq!(config.weaken.variants(), 4);
    let run = |path: &Path, model: &mut Model| {
        let mut file = StageFile::open(path)?;
        weaken(&config, &samples(), &images, || Ok(model), &mut file, &mut ())
    };
    let path = dir.path().join("weakened.jsonl");
    let StageOutcome { summary, .. } = run(&path, &mut Model::new(usize::MAX)).unwrap();
    assert_eq!((summary.done, summary.skipped.total()), (16, 12));

    let records: Vec<StageRecord> =
        JsonlStore::open(&path).unwrap().records().unwrap().map(Result::unwrap).collect();
    let mut seen = std::collections::HashSet::new();
    for (place, record) in records.iter().enumerate() {
        let sample = &samples()[place / 4];
        let answer = match record {
            StageRecord::Answered(answer) => answer,
            StageRecord::Skipped { skipped, .. } => {
                assert_eq!((&skipped.id, skipped.variant), (&sample.id, place % 4));
                continue;
            }
        };
        assert_eq!((&answer.id, answer.variant), (&sample.id, place % 4));
        let provenance = answer.provenance.as_ref().unwrap();
        assert_eq!((provenance.contrast, provenance.variant), (config.weaken.contrast, place % 4));
        assert_eq!(provenance.prefix_words, sample.answer.split_whitespace().count() / 2);
        // each answer has its own seeds
        assert!(seen.insert(answer.response.clone()), "{answer:?}");
        match answer.variant {
            0 | 1 => {
                assert_eq!(provenance.distortion, "swap");
                let other = provenance.other.as_ref().unwrap();
                assert!(*other != sample.images[0] && images.path().join(other).exists(), "{provenance:?}");
            }
            _ => {
                let text = provenance.distortion.strip_prefix("blur:sigma=").unwrap();
                let sigma: f32 = text.strip_suffix("+no-image").unwrap().parse().unwrap();
                assert!((2.0..=8.0).contains(&sigma) && provenance.other.is_none(), "{provenance:?}");
            }
        }
    }

    // the file has the same bytes if the process is killed within a sample
    let other = dir.path().join("again.jsonl");
    run(&other, &mut Model::new(2)).unwrap_err();
    run(&other, &mut Model::new(usize::MAX)).unwrap();
    assert_eq!(fs::read(&other).unwrap(), fs::read(&path).unwrap());

    let answered = records.iter().filter_map(|record| match record {
        StageRecord::Answered(answer) => Some((&answer.response, &answer.provenance)),
        StageRecord::Skipped { .. } => None,
    });
    let assembled = assemble(&samples(), records.iter().cloned().map(Ok)).unwrap();
    let pairs = make_all_pairs(&assembled, &PairFilter::default()).pairs;
    assert_eq!(pairs.len(), 16);
    assert!(pairs.iter().map(|pair| (&pair.rejected, &pair.provenance)).eq(answered), "{pairs:?}");
}

#[test]
fn sample_without_another_image_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let alone: Vec<_> = samples().into_iter().filter(|sample| sample.images == ["cat.jpg"]).collect();
    let mut config = config(3);
    config.weaken.distortion = Distortions::new(vec!["swap".parse().unwrap()]).unwrap();
    let run = |samples: &[SftSample]| {
        let (path, model) = (dir.path().join("weakened.jsonl"), || Ok(Model::new(usize::MAX)));
        let mut file = StageFile::open(&path).unwrap();
        weaken(&config, samples, &images, model, &mut file, &mut ()).unwrap_err()
    };
    let error = run(&alone);
    assert!(matches!(&error, BpoError::NoOtherImage { distortion, .. } if distortion == "swap"), "{error}");
    // if its own image is missing, the sample is skipped and the stage does not fail
    let missing: Vec<_> = samples().into_iter().filter(|sample| sample.images == ["astronaut.jpg"]).collect();
    let error = run(&missing);
    let BpoError::NoImages { skipped, .. } = error else { panic!("{error}") };
    assert_eq!(skipped.get(SkipReason::ImageMissing), missing.len());
}

/// A text without an image is rewritten, and a sample with several images needs all of them.
#[test]
fn samples_may_have_no_image_or_several() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let mut samples: Vec<_> =
        all_samples().into_iter().filter(|sample| sample.id == "cat-0" || sample.id == "text-0").collect();
    let mut several = samples[0].clone();
    (several.id, several.images) = ("two".into(), vec!["cat.jpg".into(), "coffee.jpg".into()]);
    several.prompt = "<image> or <image>?".into();
    let mut broken = several.clone();
    (broken.id, broken.images[1]) = ("broken".into(), "rocket.jpg".into());
    samples.extend([several, broken]);

    let config = config(4);
    let mut weakened = StageFile::open(&dir.path().join("weakened.jsonl")).unwrap();
    let model = || Ok(Model::new(usize::MAX));
    let outcome = weaken(&config, &samples, &images, model, &mut weakened, &mut ()).unwrap();
    assert_eq!(outcome.summary.done, 2);
    let reasons: Vec<_> = outcome.skipped.iter().map(|skip| (skip.id.as_str(), skip.reason)).collect();
    assert_eq!(reasons, [("text-0", SkipReason::NoImage), ("broken", SkipReason::ImageUnreadable)]);

    let dropped = without_answers([weakened.answers()]);
    assert_eq!(dropped, HashSet::from(["broken".to_owned()]));
    let mut injected = StageFile::open(&dir.path().join("injected.jsonl")).unwrap();
    let injector = || Ok(Injector { down_at: usize::MAX, requests: 0 });
    inject(&config, &samples, &dropped, injector, &mut injected, &mut ()).unwrap();
    let records: Vec<StageRecord> =
        [&weakened, &injected].into_iter().flat_map(|file| file.answers().records().cloned()).collect();
    let pairs =
        make_all_pairs(&assemble(&samples, records.into_iter().map(Ok)).unwrap(), &PairFilter::default());
    let pairs: Vec<_> = pairs.pairs.iter().map(|pair| (pair.id.as_str(), pair.images.len())).collect();
    assert_eq!(
        pairs,
        [("cat-0:0>1", 1), ("cat-0:0>2", 1), ("text-0:0>1", 0), ("two:0>1", 2), ("two:0>2", 2)]
    );
}
