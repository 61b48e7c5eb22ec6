//! Kinds of errors in the inject stage: recorded, counted, and the same after interruptions.

use std::collections::BTreeMap;

use bpo::inject::{
    CoOccurrence, ErrorKind, KindWeights, LlmInjector, LlmInjectorConfig, TextGenerator, TextQueue,
    TextRequest, WithFallback,
};
use bpo::pairs::item_seed;

use super::*;

/// Replaces the last word of the answer by a number that depends on the seed. Every second draft is
/// empty; fails after `left` requests. Takes up to `ahead` requests ahead and answers them in random
/// order.
struct Drafts {
    left: usize,
    ahead: usize,
    order: u64,
}

impl Drafts {
    fn draft(&mut self, request: &TextRequest) -> Result<Generated, ModelError> {
        if self.left == 0 {
            return Err(ModelError::Down);
        }
        self.left -= 1;
        let (_, last) = request.prompt.rsplit_once("Response: ").unwrap_or_default();
        let answer = last.trim_end_matches("Modified response:").trim();
        let seed = item_seed(request.sampling.seed, answer);
        let text = match seed % 2 {
            0 => String::new(),
            _ => format!("{} {}", answer.rsplit_once(' ').map_or(answer, |(start, _)| start), seed % 1000),
        };
        Ok(Generated { text, finish: FinishReason::Stop, tokens: None })
    }
}

impl TextGenerator for Drafts {
    type Error = ModelError;

    fn generate(&mut self, _: &[TextRequest]) -> Vec<Result<Generated, ModelError>> {
        panic!("the stage takes each draft when it is there")
    }

    fn generate_queue(&mut self, queue: &mut TextQueue<'_, ModelError>, _: NonZeroUsize) {
        let (mut open, mut taken) = (Vec::new(), 0);
        loop {
            while open.len() < self.ahead
                && let Some(request) = queue.next_request()
            {
                open.push((taken, request));
                taken += 1;
            }
            if open.is_empty() {
                return;
            }
            self.order = item_seed(self.order, "next");
            let (number, request) = open.swap_remove((self.order % open.len() as u64) as usize);
            let draft = self.draft(&request);
            let failed = |error| RequestFailure { is_request_error: false, error };
            if queue.receive(number, draft.map_err(failed)).is_break() {
                return;
            }
        }
    }
}

fn injector(drafts: Drafts) -> impl ErrorInjector {
    let prompts = [(ErrorKind::Count, 1.0), (ErrorKind::Attribute, 2.0), (ErrorKind::Text, 1.0)];
    let kinds =
        prompts.into_iter().fold(KindWeights::none(), |kinds, (kind, weight)| kinds.with(kind, weight));
    let config = LlmInjectorConfig::default().with_kinds(kinds).with_attempts(2);
    let corpus = CoOccurrence::from_corpus(samples().iter().map(|sample| sample.answer.clone()));
    WithFallback::new(LlmInjector::new(drafts, config).unwrap(), corpus)
}

/// Runs the stage with drafts in the order of the requests.
fn run(path: &Path, left: usize) -> Result<StageOutcome, BpoError> {
    run_with(path, Drafts { left, ahead: 1, order: 0 })
}

fn run_with(path: &Path, drafts: Drafts) -> Result<StageOutcome, BpoError> {
    let mut file = StageFile::open(path)?;
    inject(&config(3), &samples(), &HashSet::new(), || Ok(injector(drafts)), &mut file, &mut ())
}

/// Returns the lines of a file in alphabetical order.
fn sorted(path: &Path) -> Vec<String> {
    let mut lines: Vec<String> = fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn kinds(path: &Path) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for record in StageAnswers::read(path).unwrap().records() {
        let StageRecord::Answered(answer) = record else { continue };
        let error = answer.provenance.clone().unwrap().error.unwrap();
        *kinds.entry(error).or_default() += 1;
    }
    kinds
}

#[test]
fn kinds_and_rejections_are_recorded_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("injected.jsonl");
    let outcome = run(&path, usize::MAX).unwrap();
    let kinds = kinds(&path);
    assert_eq!(kinds.values().sum::<usize>(), outcome.summary.done);
    let known = ["attribute", "count", "text", CoOccurrence::ERROR];
    assert!(kinds.len() > 1 && kinds.keys().all(|kind| known.contains(&kind.as_str())), "{kinds:?}");
    let mut rejected = 0;
    for record in StageAnswers::read(&path).unwrap().records() {
        if let StageRecord::Answered(answer) = record {
            rejected += answer.rejected.len() as u64;
        }
    }
    assert!(rejected > 0);
    assert_eq!(outcome.summary.rejected.total(), rejected);

    // the kind of the error is in the pairs
    let out = dir.path().join("pairs.jsonl");
    let answers = vec![StageAnswers::read(&path).unwrap()];
    let (pairs, _) = pair(&config(3), &samples(), answers, &out, ExistingPairs::Refuse, &mut ()).unwrap();
    assert!(!pairs.is_empty());
    assert!(pairs.iter().all(|pair| pair.provenance.as_ref().is_some_and(|from| from.error.is_some())));
}

/// The file has the same bytes after a kill at any byte, and after failures of the server.
#[test]
fn interruptions_give_the_same_kinds_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("injected.jsonl");
    let expected = run(&path, usize::MAX).unwrap();
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(run(&path, usize::MAX).unwrap(), expected, "cut at {cut}");
        assert_eq!(fs::read(&path).unwrap(), whole, "cut at {cut}");
    }
    fs::remove_file(&path).unwrap();
    for left in 0.. {
        match run(&path, left) {
            Ok(outcome) => {
                assert_eq!(outcome, expected);
                break;
            }
            Err(error) => assert!(matches!(error, BpoError::StageStopped { .. }), "{error}"),
        }
    }
    // a failure changes at most the order of the lines
    let found = sorted(&path);
    fs::write(&path, &whole).unwrap();
    assert_eq!(found, sorted(&path));
}

/// Drafts that arrive in any order, and failures of the server, give the same answers and the same
/// bytes of the pairs.
#[test]
fn the_order_of_drafts_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("injected.jsonl");
    let mut config = config(3);
    config.pair.max_per_sample = Some(1);
    let expected = run(&path, usize::MAX).unwrap();
    let pairs = |name: &str| {
        let out = dir.path().join(name);
        let answers = vec![StageAnswers::read(&path).unwrap()];
        pair(&config, &samples(), answers, &out, ExistingPairs::Refuse, &mut ()).unwrap();
        fs::read(out).unwrap()
    };
    let (lines, bytes) = (sorted(&path), pairs("pairs.jsonl"));
    let mut orders = HashSet::from([fs::read(&path).unwrap()]);
    for order in 0..30 {
        fs::remove_file(&path).unwrap();
        let mut left = order as usize % 7;
        let outcome = loop {
            left += 5;
            match run_with(&path, Drafts { left, ahead: 2 + order as usize % 9, order }) {
                Ok(outcome) => break outcome,
                Err(error) => assert!(matches!(error, BpoError::StageStopped { .. }), "{error}"),
            }
        };
        assert_eq!(outcome, expected, "order {order}");
        assert_eq!(sorted(&path), lines, "order {order}");
        assert_eq!(pairs(&format!("{order}.jsonl")), bytes, "order {order}");
        orders.insert(fs::read(&path).unwrap());
    }
    assert!(orders.len() > 10, "the answers had {} orders", orders.len());
}

/// A local model, whose drafts depend on the number of requests in their batch. Fails after `left`
/// batches.
struct Batched {
    left: usize,
}

impl TextGenerator for Batched {
    type Error = ModelError;

    fn generate(&mut self, requests: &[TextRequest]) -> Vec<Result<Generated, ModelError>> {
        let is_down = self.left == 0;
        self.left = self.left.saturating_sub(1);
        let draft = |request: &TextRequest| {
            let drafts = Drafts { left: usize::from(!is_down), ahead: 1, order: 0 }.draft(request);
            drafts.map(|draft| Generated {
                text: if draft.text.is_empty() {
                    String::new()
                } else {
                    format!("{} {}", draft.text, requests.len())
                },
                ..draft
            })
        };
        requests.iter().map(draft).collect()
    }

    fn is_batch_invariant(&self) -> bool {
        false
    }
}

/// The answers of a local model are the same after failures and a kill at any byte, because whole
/// batches are repeated. Dropped samples are in no batch.
#[test]
fn batches_of_a_local_model_are_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("injected.jsonl");
    let dropped = HashSet::from([samples()[1].id.clone()]);
    let run = |left: usize| {
        let mut file = StageFile::open(&path)?;
        let injector = || {
            let kinds = KindWeights::none().with(ErrorKind::Attribute, 1.0);
            let config = LlmInjectorConfig::default().with_kinds(kinds).with_attempts(3);
            Ok(LlmInjector::new(Batched { left }, config).unwrap())
        };
        inject(&config(3), &samples(), &dropped, injector, &mut file, &mut ())
    };
    let expected = run(usize::MAX).unwrap();
    let (whole, lines) = (fs::read(&path).unwrap(), sorted(&path));
    assert_eq!(lines.len(), samples().len() - 1);
    assert!(
        lines.iter().any(|line| line.contains(" 2\"")) && lines.iter().any(|line| line.contains(" 3\"")),
        "{lines:?}"
    );
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(run(usize::MAX).unwrap(), expected, "cut at {cut}");
        assert_eq!(sorted(&path), lines, "cut at {cut}");
    }
    fs::remove_file(&path).unwrap();
    let failures = (0..).take_while(|&left| run(left).is_err()).count();
    assert!(failures > 1);
    assert_eq!(sorted(&path), lines);
}
