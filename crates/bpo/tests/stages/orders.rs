//! The pairs are the same for answers in any order, kills at every byte, and shards.

use super::*;

/// Answers in an order drawn from `seed`; fails after `left` answers.
struct Unordered {
    seed: u64,
    left: usize,
    asked: Vec<String>,
}

impl Unordered {
    fn new(seed: u64) -> Self {
        Self { seed, left: usize::MAX, asked: Vec::new() }
    }

    /// Returns the indices of `count` requests in random order.
    fn order(&mut self, count: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            self.seed = bpo::pairs::item_seed(self.seed, "next");
            places.swap(last, (self.seed % (last as u64 + 1)) as usize);
        }
        places
    }

    fn is_down(&mut self) -> bool {
        let is_down = self.left == 0;
        self.left = self.left.saturating_sub(1);
        is_down
    }
}

impl VisionLanguageModel for Unordered {
    type Error = ModelError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ModelError>> {
        Model::new(usize::MAX).respond(requests)
    }

    fn respond_each(
        &mut self,
        requests: &[VisionRequest],
        _: NonZeroUsize,
        on_answer: &mut OnAnswer<'_, ModelError>,
    ) {
        let answers = self.respond(requests);
        let mut answers: Vec<_> = answers.into_iter().map(Some).collect();
        for place in self.order(requests.len()) {
            let failed =
                |error| RequestFailure { is_request_error: matches!(error, ModelError::TooLong), error };
            let answer = if self.is_down() { Err(ModelError::Down) } else { answers[place].take().unwrap() };
            if on_answer(place, answer.map_err(failed)).is_break() {
                return;
            }
        }
    }
}

/// A batch-invariant model, which is asked only for missing answers. It takes up to five requests
/// ahead and answers them in random order.
struct Streaming {
    order: Unordered,
    asked: Vec<(String, u64)>,
}

impl Streaming {
    fn new(seed: u64) -> Self {
        Self { order: Unordered::new(seed), asked: Vec::new() }
    }
}

impl VisionLanguageModel for Streaming {
    type Error = ModelError;

    fn respond(&mut self, _: &[VisionRequest]) -> Vec<Result<Generated, ModelError>> {
        panic!("the stage takes each answer when it is there")
    }

    fn respond_queue(&mut self, queue: &mut VisionQueue<'_, ModelError>, _: NonZeroUsize) {
        let (mut open, mut taken) = (Vec::new(), 0);
        loop {
            while open.len() < 5
                && let Some(request) = queue.next_request()
            {
                open.push((taken, request));
                taken += 1;
            }
            if open.is_empty() {
                return;
            }
            let place = self.order.order(open.len())[0];
            let (number, request) = open.swap_remove(place);
            let mut answers = Model::new(usize::MAX).respond(std::slice::from_ref(&request));
            let failed =
                |error| RequestFailure { is_request_error: matches!(error, ModelError::TooLong), error };
            let has_images = request.images.iter().all(|image| image.load().is_ok());
            let answer = match () {
                // the stage skips its sample for any error
                () if !has_images => Err(ModelError::TooLong),
                () if self.order.is_down() => Err(ModelError::Down),
                () => answers.remove(0),
            };
            if has_images && !matches!(answer, Err(ModelError::Down)) {
                self.asked.push((request.prompt.clone(), request.sampling.seed));
            }
            if queue.receive(number, answer.map_err(failed)).is_break() {
                return;
            }
        }
    }

    fn is_batch_invariant(&self) -> bool {
        true
    }
}

impl ErrorInjector for Unordered {
    fn inject(&mut self, _: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        panic!("the stage takes each answer when it is there")
    }

    fn inject_queue(&mut self, queue: &mut InjectionQueue<'_>, at_a_time: NonZeroUsize) {
        let mut first = 0;
        loop {
            let requests: Vec<_> =
                std::iter::from_fn(|| queue.next_request()).take(at_a_time.get()).collect();
            if requests.is_empty() {
                return;
            }
            for place in self.order(requests.len()) {
                let request = &requests[place];
                self.asked.push(request.answer.clone());
                let result = if self.is_down() {
                    Err(InjectionFailure::failed(ModelError::Down))
                } else if request.answer.len().is_multiple_of(5) {
                    Err(InjectionFailure::skipped(Rejection::Refusal))
                } else {
                    Ok(Injection::new(format!("{} {}", request.answer, request.seed), 1))
                };
                if queue.receive(first + place, result).is_break() {
                    return;
                }
            }
            first += requests.len();
        }
    }
}

/// The stages in a directory with images.
struct Stages {
    dir: tempfile::TempDir,
    images: ImageRoot,
    config: RunConfig,
}

impl Stages {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let images = images(dir.path());
        let mut config = config(3);
        config.weaken.batch_size = 1;
        config.weaken.samples = 2;
        Self { dir, images, config }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn weaken(&self, file: &Path, model: &mut Unordered) -> Result<StageOutcome, BpoError> {
        let mut file = StageFile::open(file)?;
        weaken(&self.config, &samples(), &self.images, || Ok(model), &mut file, &mut ())
    }

    fn inject(&self, file: &Path, injector: &mut Unordered) -> Result<StageOutcome, BpoError> {
        let dropped = HashSet::from(["astronaut-0".to_owned()]);
        let mut file = StageFile::open(file)?;
        inject(&self.config, &samples(), &dropped, || Ok(injector), &mut file, &mut ())
    }

    /// Returns the content of the file of pairs.
    fn pair(&self, files: &[&Path]) -> Vec<u8> {
        let out = self.at("pairs.jsonl");
        let _ = fs::remove_file(&out);
        let answers = files.iter().map(|file| StageAnswers::read(file).unwrap()).collect();
        pair(&self.config, &samples(), answers, &out, ExistingPairs::Refuse, &mut ()).unwrap();
        fs::read(&out).unwrap()
    }
}

/// Skipped items and pairs do not depend on the order of the answers or on where files are
/// truncated.
#[test]
fn random_orders_and_truncation_at_every_byte_give_the_same_pairs() {
    let stages = Stages::new();
    let (weakened, injected) = (stages.at("weakened.jsonl"), stages.at("injected.jsonl"));
    let expected_weakened = stages.weaken(&weakened, &mut Unordered::new(0)).unwrap();
    let expected_injected = stages.inject(&injected, &mut Unordered::new(0)).unwrap();
    let expected = stages.pair(&[&weakened, &injected]);
    let is_dropped = |id: &str| !expected.windows(id.len()).any(|window| window == id.as_bytes());
    assert!(["rocket-0", "coins-0", "astronaut-0"].into_iter().all(is_dropped));

    let mut orders = HashSet::new();
    for seed in 1..4 {
        fs::remove_file(&weakened).unwrap();
        fs::remove_file(&injected).unwrap();
        stages.weaken(&weakened, &mut Unordered::new(seed)).unwrap();
        stages.inject(&injected, &mut Unordered::new(seed)).unwrap();
        let whole = [&weakened, &injected].map(|file| fs::read(file).unwrap());
        assert!(orders.insert(whole.clone()));
        assert_eq!(stages.pair(&[&injected, &weakened]), expected, "seed {seed}");
        // truncated at every byte for one order, at some bytes for the others
        let step = if seed == 1 { 1 } else { 97 };
        for cut in (0..whole[0].len().max(whole[1].len())).step_by(step) {
            if let Some(torn) = whole[0].get(..cut) {
                fs::write(&weakened, torn).unwrap();
            }
            if let Some(torn) = whole[1].get(..cut) {
                fs::write(&injected, torn).unwrap();
            }
            let seed = seed + cut as u64;
            assert_eq!(stages.weaken(&weakened, &mut Unordered::new(seed)).unwrap(), expected_weakened);
            assert_eq!(stages.inject(&injected, &mut Unordered::new(seed)).unwrap(), expected_injected);
            assert_eq!(stages.pair(&[&weakened, &injected]), expected, "cut at {cut}");
        }
    }
}

/// A batch-invariant model gives the records of a batched one, is asked for each answer once, and
/// is not asked again for answers that are in the file.
#[test]
fn answers_of_a_stream_are_those_of_batches() {
    let mut stages = Stages::new();
    let (batched, streamed) = (stages.at("batched.jsonl"), stages.at("streamed.jsonl"));
    let sorted = |file: &Path| {
        // the model adds the size of the batch
        let without_size = |line: &str| match line.split_once(" of ") {
            Some((start, end)) => format!("{start}{}", end.trim_start_matches(|c: char| c.is_ascii_digit())),
            None => line.to_owned(),
        };
        let mut lines: Vec<String> = fs::read_to_string(file).unwrap().lines().map(without_size).collect();
        lines.sort();
        lines
    };
    let run = |stages: &Stages, file: &Path, model: &mut Streaming| {
        let mut file = StageFile::open(file)?;
        weaken(&stages.config, &samples(), &stages.images, || Ok(model), &mut file, &mut ())
    };
    for distortion in ["blur:sigma=1", "swap"] {
        stages.config.weaken.distortion = distortion.parse::<bpo::distort::Distortion>().unwrap().into();
        let expected = stages.weaken(&batched, &mut Unordered::new(0)).unwrap();
        let mut whole = Streaming::new(1);
        assert_eq!(run(&stages, &streamed, &mut whole).unwrap(), expected);
        assert_eq!(sorted(&streamed), sorted(&batched));
        let mut asked = Vec::new();
        fs::remove_file(&streamed).unwrap();
        for round in 0.. {
            let mut model = Streaming::new(round);
            model.order.left = 2;
            let outcome = run(&stages, &streamed, &mut model);
            asked.extend(model.asked);
            match outcome {
                Ok(outcome) => {
                    assert_eq!(outcome, expected);
                    break;
                }
                Err(error) => assert!(matches!(error, BpoError::StageStopped { .. }), "{error}"),
            }
        }
        assert_eq!(sorted(&streamed), sorted(&batched));
        asked.sort();
        whole.asked.sort();
        assert_eq!(asked, whole.asked);
        fs::remove_file(&streamed).unwrap();
        fs::remove_file(&batched).unwrap();
    }
}

/// An answer is written even if another one of its batch fails, and is not requested again.
#[test]
fn every_answer_is_requested_exactly_once() {
    let mut stages = Stages::new();
    stages.config.inject.batch_size = 100;
    let file = stages.at("injected.jsonl");
    let mut asked = Vec::new();
    for round in 0.. {
        let mut injector = Unordered { left: 2, ..Unordered::new(round) };
        let outcome = stages.inject(&file, &mut injector);
        let failed = usize::from(outcome.is_err());
        asked.extend(injector.asked[..injector.asked.len() - failed].to_vec());
        match outcome {
            Ok(_) => break,
            Err(error) => assert!(matches!(error, BpoError::StageStopped { .. }), "{error}"),
        }
    }
    asked.sort();
    let mut expected: Vec<String> = samples()
        .into_iter()
        .filter(|sample| sample.id != "astronaut-0")
        .map(|sample| sample.answer)
        .collect();
    expected.sort();
    assert_eq!(asked, expected);
}

/// Three shards of each stage give the same pairs as the whole stage.
#[test]
fn shards_give_the_same_pairs() {
    let mut stages = Stages::new();
    let (weakened, injected) = (stages.at("weakened.jsonl"), stages.at("injected.jsonl"));
    stages.weaken(&weakened, &mut Unordered::new(1)).unwrap();
    stages.inject(&injected, &mut Unordered::new(1)).unwrap();
    let expected = stages.pair(&[&weakened, &injected]);
    let whole = fs::read_to_string(&weakened).unwrap().lines().count();
    let (mut files, mut lines) = (Vec::new(), 0);
    for shard in ["2/3", "3/3", "1/3"] {
        let shard: Shard = shard.parse().unwrap();
        (stages.config.weaken.shard, stages.config.inject.shard) = (Some(shard), Some(shard));
        let name = |stage: &str| stages.at(&format!("{stage}-{}", shard.to_string().replace('/', "-")));
        let (weakened, injected) = (name("weakened"), name("injected"));
        stages.weaken(&weakened, &mut Unordered::new(7)).unwrap();
        stages.inject(&injected, &mut Unordered::new(8)).unwrap();
        lines += fs::read_to_string(&weakened).unwrap().lines().count();
        files.extend([injected, weakened]);
    }
    assert_eq!(lines, whole);
    assert_eq!(stages.pair(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>()), expected);
    // records of another shard are refused
    stages.config.weaken.shard = Some("1/3".parse().unwrap());
    assert!(matches!(stages.weaken(&weakened, &mut Unordered::new(0)), Err(BpoError::OtherSamples { .. })));
}

/// A shard whose images are all missing keeps its records, as the whole stage does. The error of a
/// whole stage names an image that failed.
#[test]
fn a_shard_without_images_skips_its_samples() {
    let mut stages = Stages::new();
    stages.config.weaken.samples = 1;
    stages.config.weaken.shard = Some("2/2".parse().unwrap());
    let mut samples = samples();
    let all = samples.iter().position(|sample| sample.images == ["astronaut.jpg"]).unwrap();
    let missing = samples[all].clone();
    let usable = samples.iter().find(|sample| sample.images == ["cat.jpg"]).unwrap().clone();
    // batches of four: the second one, which is the shard, has only missing images
    samples = (0..8).map(|place| if place < 4 { usable.clone() } else { missing.clone() }).collect();
    samples.iter_mut().enumerate().for_each(|(place, sample)| sample.id = place.to_string());
    let path = stages.at("weakened.jsonl");
    let run = |samples: &[SftSample], config: &RunConfig| {
        let mut file = StageFile::open(&path).unwrap();
        weaken(config, samples, &stages.images, || Ok(Unordered::new(0)), &mut file, &mut ())
    };
    let outcome = run(&samples, &stages.config).unwrap();
    assert_eq!((outcome.summary.done, outcome.skipped.len()), (0, 4));
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);

    fs::remove_file(&path).unwrap();
    let mut whole = stages.config.clone();
    whole.weaken.shard = None;
    let error = run(&samples[4..], &whole).unwrap_err();
    let BpoError::NoImages { first, .. } = &error else { panic!("{error}") };
    assert!(first.ends_with("astronaut.jpg"), "{error}");
    assert!(fs::read(&path).unwrap().is_empty());
}

/// A shard whose requests were all refused keeps its records. The whole stage is an error.
#[test]
fn a_shard_whose_requests_are_refused_skips_its_samples() {
    struct Refused;
    impl ErrorInjector for Refused {
        fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
            let refused = |_| Err(InjectionFailure::Refused { source: Box::new(ModelError::TooLong) });
            requests.iter().map(refused).collect()
        }
    }
    let mut stages = Stages::new();
    let path = stages.at("injected.jsonl");
    let run = |config: &RunConfig| {
        let mut file = StageFile::open(&path).unwrap();
        inject(config, &samples(), &HashSet::new(), || Ok(Refused), &mut file, &mut ())
    };
    assert!(matches!(run(&stages.config), Err(BpoError::NothingAnswered { .. })));
    assert!(fs::read(&path).unwrap().is_empty());
    stages.config.inject.shard = Some("1/2".parse().unwrap());
    assert!(run(&stages.config).unwrap().skipped.len() > 1);
    assert!(!fs::read(&path).unwrap().is_empty());
}

/// Ids with a NUL, and ids that look like the keys of other answers, are distinct.
#[test]
fn ids_may_contain_nul() {
    let stages = Stages::new();
    let mut samples = samples();
    samples.truncate(3);
    for (sample, id) in samples.iter_mut().zip(["a", "a\0", "a\u{0}1"]) {
        sample.id = id.into();
    }
    let file = stages.at("weakened.jsonl");
    let run = || {
        let model = || Ok(Unordered::new(5));
        let mut file = StageFile::open(&file).unwrap();
        weaken(&stages.config, &samples, &stages.images, model, &mut file, &mut ()).unwrap().summary.done
    };
    assert_eq!((run(), run()), (6, 6));
}
