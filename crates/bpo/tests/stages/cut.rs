//! Answers that continue the annotated one without its last sentences.

use super::*;

/// Continues the given start of an answer; fails after `calls` calls. It adds nothing for `silent`.
struct Continuing {
    model: Model,
    silent: &'static str,
    is_batch_invariant: bool,
}

impl Continuing {
    fn new(calls: usize) -> Self {
        Self { model: Model::new(calls), silent: "nothing", is_batch_invariant: false }
    }
}

impl VisionLanguageModel for Continuing {
    type Error = ModelError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ModelError>> {
        let continued = |(answer, request): (Result<Generated, ModelError>, &VisionRequest)| {
            let mut answer = answer?;
            let prefix = &request.answer_prefix;
            assert!(!prefix.is_empty());
            answer.text = match prefix.contains(self.silent) {
                true => format!("{prefix} "),
                // without the number of requests, so that batches do not matter
                false => format!("{prefix} {}", answer.text.rsplit_once(" of ").unwrap().0),
            };
            Ok(answer)
        };
        self.model.respond(requests).into_iter().zip(requests).map(continued).collect()
    }

    fn respond_queue(&mut self, queue: &mut VisionQueue<'_, ModelError>, _: NonZeroUsize) {
        let mut number = 0;
        while let Some(request) = queue.next_request() {
            let answer = self.respond(std::slice::from_ref(&request)).remove(0);
            let failed = |error| RequestFailure { is_request_error: self.is_request_error(&error), error };
            if queue.receive(number, answer.map_err(failed)).is_break() {
                return;
            }
            number += 1;
        }
    }

    fn is_batch_invariant(&self) -> bool {
        self.is_batch_invariant
    }

    fn is_request_error(&self, error: &ModelError) -> bool {
        self.model.is_request_error(error)
    }
}

/// Samples with a usable image whose answers have one to five sentences.
fn sentences() -> Vec<SftSample> {
    let usable = samples().into_iter().filter(|sample| {
        ["cat.jpg", "coffee.jpg"].contains(&sample.images[0].as_str()) && !sample.prompt.contains("coins")
    });
    let first = usable.take(1).next().unwrap();
    let answers = [
        "One.",
        "One. And two!",
        "One is Mr. Fox. And two? Three.",
        "One nothing. Two nothing. Three. Four.",
        "One. Two.\nThree. Four. Five.",
    ];
    let sample = |(number, answer): (usize, &str)| {
        let mut sample = first.clone();
        (sample.id, sample.answer) = (format!("s-{number}"), answer.to_owned());
        sample
    };
    answers.into_iter().enumerate().map(sample).collect()
}

fn cut_config() -> RunConfig {
    let mut config = config(3);
    config.weaken.distortion = Distortions::from("clean".parse::<bpo::distort::Distortion>().unwrap());
    config.weaken.cut_sentences = 2;
    config
}

fn run(
    config: &RunConfig,
    path: &Path,
    images: &ImageRoot,
    model: Continuing,
) -> Result<StageOutcome, BpoError> {
    config.validate()?;
    let mut file = StageFile::open(path)?;
    weaken(config, &sentences(), images, || Ok(model), &mut file, &mut ())
}

#[test]
fn the_model_continues_the_answer_without_its_last_sentences() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let path = dir.path().join("weakened.jsonl");
    let outcome = run(&cut_config(), &path, &images, Continuing::new(usize::MAX)).unwrap();
    let reasons: Vec<_> = outcome.skipped.iter().map(|skip| (skip.id.as_str(), skip.reason)).collect();
    let (few, none) = (SkipReason::TooFewSentences, SkipReason::NoContinuation);
    assert_eq!(reasons, [("s-0", few), ("s-1", few), ("s-3", none)]);
    assert_eq!(outcome.summary.done, 2);
    assert_eq!((outcome.summary.skipped.get(few), outcome.summary.skipped.get(none)), (2, 1));
    let detail = outcome.skipped[1].detail.clone();
    assert!(detail.contains("2 in the annotated answer, at least 3 are needed"), "{detail}");

    let records: Vec<StageRecord> =
        JsonlStore::open(&path).unwrap().records().unwrap().map(Result::unwrap).collect();
    let mut answered = Vec::new();
    for record in &records {
        let StageRecord::Answered(answer) = record else { continue };
        let provenance = answer.provenance.as_ref().unwrap();
        assert_eq!((provenance.distortion.as_str(), provenance.cut_sentences), ("clean", 2));
        answered.push((answer.id.as_str(), provenance.prefix_words));
        let prefix = if answer.id == "s-2" { "One is Mr. Fox. clean" } else { "One. Two.\nThree. clean" };
        assert!(answer.response.starts_with(prefix), "{answer:?}");
    }
    assert_eq!(answered, [("s-2", 4), ("s-4", 3)]);
    let pairs =
        make_all_pairs(&assemble(&sentences(), records.into_iter().map(Ok)).unwrap(), &PairFilter::default());
    let kinds: Vec<_> = pairs.pairs.iter().map(|pair| pair.kind.as_str()).collect();
    assert_eq!(kinds, ["mllm-hal", "mllm-hal"]);
    assert_eq!(pairs.pairs[1].chosen, sentences()[4].answer);

    // a minimum above the number of cut sentences
    let mut longer = cut_config();
    longer.weaken.min_sentences = 5;
    let outcome =
        run(&longer, &dir.path().join("longer.jsonl"), &images, Continuing::new(usize::MAX)).unwrap();
    assert_eq!((outcome.summary.done, outcome.summary.skipped.get(few)), (1, 4));
}

/// The file has the same bytes after a kill at any place, and from a batch-invariant model; shards have
/// the same lines.
#[test]
fn kills_and_shards_change_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let config = cut_config();
    let path = dir.path().join("weakened.jsonl");
    run(&config, &path, &images, Continuing::new(usize::MAX)).unwrap();
    let undisturbed = fs::read(&path).unwrap();
    for cut in (0..undisturbed.len()).step_by(7) {
        fs::write(&path, &undisturbed[..cut]).unwrap();
        run(&config, &path, &images, Continuing::new(usize::MAX)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), undisturbed, "cut at {cut}");
    }
    let stopped = dir.path().join("stopped.jsonl");
    run(&config, &stopped, &images, Continuing::new(0)).unwrap_err();
    run(&config, &stopped, &images, Continuing::new(usize::MAX)).unwrap();
    assert_eq!(fs::read(&stopped).unwrap(), undisturbed);

    let invariant = || Continuing { is_batch_invariant: true, ..Continuing::new(usize::MAX) };
    let streamed = dir.path().join("streamed.jsonl");
    run(&config, &streamed, &images, invariant()).unwrap();
    assert_eq!(fs::read(&streamed).unwrap(), undisturbed);

    let mut lines = Vec::new();
    for number in 1..=3 {
        let mut config = config.clone();
        config.weaken.shard = Some(format!("{number}/3").parse::<Shard>().unwrap());
        let path = dir.path().join(format!("shard-{number}.jsonl"));
        run(&config, &path, &images, Continuing::new(usize::MAX)).unwrap();
        lines.extend(fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>());
    }
    let mut expected: Vec<_> = String::from_utf8(undisturbed).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
}
