//! The selection of pairs: files for training and evaluation, subsets, limits on tokens.

use bpo::SampleFile;
use bpo::pairs::format::ReadOptions;
use bpo::pairs::format::jsonl::read_pairs;
use bpo::pairs::{PairRule, PreferencePair, Skipped, Subset};
use bpo::stages::{AnswerIndex, PairFiles, TokenCheck, pair_files};

use super::*;

/// A hundred samples about fifty images in two directories, some about two images.
fn many() -> Vec<SftSample> {
    let sample = |number: usize| {
        let image = |number: usize| format!("{}/{}.jpg", ["coco", "gqa"][number % 2], number % 50);
        let images = if number.is_multiple_of(10) {
            vec![image(number), image(number + 3)]
        } else {
            vec![image(number)]
        };
        SftSample {
            id: number.to_string(),
            prompt: format!("{}What is in picture {number}?", "<image>\n".repeat(images.len())),
            images,
            system: None,
            history: Default::default(),
            answer: format!("A cat number {number} sits on a mat."),
        }
    };
    (0..100).map(sample).collect()
}

/// Writes the samples to a file, and reads it.
fn data(dir: &Path) -> SampleFile {
    let line = |SftSample { id, images, prompt, answer, .. }: SftSample| {
        let turns = [("human", prompt), ("gpt", answer)];
        let turns = turns.map(|(from, value)| serde_json::json!({"from": from, "value": value}));
        serde_json::json!({"id": id, "images": images, "conversations": turns}).to_string() + "\n"
    };
    let path = dir.join("data.jsonl");
    fs::write(&path, many().into_iter().map(line).collect::<String>()).unwrap();
    SampleFile::read(&path, &ReadOptions::default()).unwrap()
}

/// The index of the files of [`answers`].
fn index(dir: &Path) -> AnswerIndex {
    let answers = answers(dir);
    AnswerIndex::read(answers.iter().map(StageAnswers::path)).unwrap()
}

/// Two answers about weakened images, which differ in one word, and one with errors.
fn answers(dir: &Path) -> Vec<StageAnswers> {
    let (weakened, injected) = (dir.join("weakened.jsonl"), dir.join("injected.jsonl"));
    let line = |id: &str, variant: usize, kind: &str, text: &str| {
        serde_json::json!({"id": id, "variant": variant, "type": kind, "response": text}).to_string() + "\n"
    };
    let (mut first, mut second) = (String::new(), String::new());
    for SftSample { id, .. } in many() {
        first += &line(&id, 0, "mllm-hal", "A dog sits in the wide and green garden of a house.");
        first += &line(&id, 1, "mllm-hal", "A dog sits in the wide and green garden of a home.");
        second += &line(&id, 0, "llm-hal", &format!("A dog number {id} sits on a mat."));
    }
    fs::write(&weakened, first).unwrap();
    fs::write(&injected, second).unwrap();
    [weakened, injected].iter().map(|file| StageAnswers::read(file).unwrap()).collect()
}

fn pairs_of(config: &RunConfig) -> Vec<PreferencePair> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("pairs.jsonl");
    let (pairs, outcome) =
        pair(config, &many(), answers(dir.path()), &out, ExistingPairs::Refuse, &mut ()).unwrap();
    assert_eq!(read_pairs(&out).unwrap().pairs, pairs);
    assert_eq!(outcome.summary.done, pairs.len());
    assert_eq!(outcome.summary.done + outcome.summary.skipped.total(), 300);

    // pairs that are made from files are the same
    let streamed = dir.path().join("streamed.jsonl");
    let (data, index, files) = (data(dir.path()), index(dir.path()), PairFiles::new(&streamed, None));
    let same = pair_files(config, &data, index, files, ExistingPairs::Refuse, None, &mut ()).unwrap();
    assert_eq!(same, outcome);
    assert_eq!(fs::read(&streamed).unwrap(), fs::read(&out).unwrap());
    pairs
}

#[test]
fn rules_and_limits_select_among_all_pairs() {
    let all = pairs_of(&config(3));
    assert_eq!(all.len(), 300);
    let with = |change: &dyn Fn(&mut RunConfig)| {
        let mut config = config(3);
        change(&mut config);
        let pairs = pairs_of(&config);
        assert_eq!(pairs, pairs_of(&config));
        let mut rest = all.iter();
        assert!(pairs.iter().all(|pair| rest.any(|other| other == pair)), "a part in the same order");
        pairs.len()
    };
    assert_eq!(with(&|config| config.pair.rule = PairRule::BestWorst), 100);
    assert_eq!(with(&|config| config.pair.rule = PairRule::OnePerKind), 200);
    assert_eq!(with(&|config| config.pair.max_per_sample = Some(2)), 200);
    assert_eq!(with(&|config| config.pair.dedup = Some(0.9)), 200);
    assert_eq!(with(&|config| config.pair.dedup = Some(1.0)), 300);
}

#[test]
fn cut_answers_and_refusals_make_pairs_unless_they_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (weakened, injected) = (dir.path().join("weakened.jsonl"), dir.path().join("injected.jsonl"));
    let mut samples = many();
    samples.truncate(5);
    samples[3].answer = "I'm sorry, I can't say.".into();
    let line = |id: &str, kind: &str, text: &str, finish: &str| {
        let finish = if finish.is_empty() { serde_json::Value::Null } else { finish.into() };
        serde_json::json!({"id": id, "type": kind, "response": text, "finish": finish}).to_string() + "\n"
    };
    let cut_refusal = "I'm sorry, I cannot see";
    let refusal = "The image is noisy. I\u{2019}m sorry, I cannot see anything.";
    let answers: String = [
        line("0", "mllm-hal", "A dog sits on", "length"),
        line("1", "mllm-hal", refusal, "stop"),
        line("2", "mllm-hal", "A dog.", "stop"),
        // the annotated answer declines, too
        line("3", "mllm-hal", "I'm sorry, there is a dog.", "stop"),
        line("4", "mllm-hal", cut_refusal, "length"),
    ]
    .concat();
    fs::write(&weakened, answers).unwrap();
    // rewrites have rules of their own
    fs::write(&injected, line("1", "llm-hal", "I'm sorry, a dog.", "") + &line("2", "llm-hal", "A fox.", ""))
        .unwrap();
    let answers = || [&weakened, &injected].map(|file| StageAnswers::read(file).unwrap()).to_vec();
    for (skip_cut, skip_refusals, left, counts) in [
        (false, false, &["0:0>1", "1:0>1", "1:0>2", "2:0>1", "2:0>2", "3:0>1", "4:0>1"][..], [0, 0]),
        (true, false, &["1:0>1", "1:0>2", "2:0>1", "2:0>2", "3:0>1"], [2, 0]),
        (false, true, &["0:0>1", "1:0>1", "2:0>1", "2:0>2", "3:0>1"], [0, 2]),
        (true, true, &["1:0>1", "2:0>1", "2:0>2", "3:0>1"], [1, 2]),
    ] {
        let mut config = config(3);
        (config.pair.skip_cut, config.pair.skip_refusals) = (skip_cut, skip_refusals);
        let out = dir.path().join(format!("{skip_cut}-{skip_refusals}.jsonl"));
        let (pairs, outcome) =
            pair(&config, &samples, answers(), &out, ExistingPairs::Refuse, &mut ()).unwrap();
        assert_eq!(pairs.iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>(), left);
        let skipped = &outcome.summary.skipped;
        let found = [SkipReason::WeakenedCut, SkipReason::WeakenedRefusal].map(|reason| skipped.get(reason));
        assert_eq!((found, skipped.total()), (counts, counts[0] + counts[1]));
        assert!(outcome.skipped.is_empty(), "they are counted and not listed");
    }
}

/// A reply without text says nothing about the question, in contrast to a request that failed.
#[test]
fn a_sample_keeps_its_other_answers_if_a_server_sent_no_text() {
    let dir = tempfile::tempdir().unwrap();
    let (weakened, injected) = (dir.path().join("weakened.jsonl"), dir.path().join("injected.jsonl"));
    let answer = serde_json::json!({"id": "0", "type": "llm-hal", "response": "A dog."});
    fs::write(&injected, format!("{answer}\n")).unwrap();
    for (reason, left) in [("no-text", &["0:0>1"][..]), ("request-failed", &[])] {
        let skipped = serde_json::json!({"id": "0", "type": "mllm-hal", "reason": reason, "detail": "x"});
        fs::write(&weakened, format!("{skipped}\n")).unwrap();
        let answers = [&weakened, &injected].map(|file| StageAnswers::read(file).unwrap()).to_vec();
        let out = dir.path().join(format!("{reason}.jsonl"));
        let (pairs, _) =
            pair(&config(3), &many()[..1], answers, &out, ExistingPairs::Refuse, &mut ()).unwrap();
        assert_eq!(pairs.iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>(), left, "{reason}");
    }
}

/// A sample outside the subset counts once, whatever its number of pairs.
#[test]
fn subsets_leave_whole_samples_out() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("pairs.jsonl");
    let mut config = config(3);
    config.pair.subset = Subset::default().with("coco", 0.0).with("gqa", 100.0);
    let (pairs, outcome) =
        pair(&config, &many(), answers(dir.path()), &out, ExistingPairs::Refuse, &mut ()).unwrap();
    assert_eq!((pairs.len(), outcome.summary.skipped.get(SkipReason::OutsideSubset)), (150, 50));
    assert!(pairs.iter().all(|pair| pair.images[0].starts_with("gqa/")));
    assert!(outcome.skipped.is_empty(), "they are counted and not listed");
}

#[test]
fn a_split_has_no_image_in_both_files() {
    let dir = tempfile::tempdir().unwrap();
    let (train, eval) = (dir.path().join("train.jsonl"), dir.path().join("eval.jsonl"));
    let mut config = config(3);
    config.pair.eval_percent = Some(30.0);
    let files = PairFiles::new(&train, Some(&eval));
    let make =
        |existing| pair_files(&config, &data(dir.path()), index(dir.path()), files, existing, None, &mut ());
    let outcome = make(ExistingPairs::Refuse).unwrap();
    let read = |path: &Path| read_pairs(path).unwrap().pairs;
    let (for_training, for_evaluation) = (read(&train), read(&eval));
    assert_eq!((outcome.summary.done, for_training.len() + for_evaluation.len()), (300, 300));
    assert!((30..150).contains(&for_evaluation.len()), "{}", for_evaluation.len());
    let images = |pairs: &[PreferencePair]| -> HashSet<String> {
        pairs.iter().flat_map(|pair| pair.images.clone()).collect()
    };
    assert!(images(&for_training).is_disjoint(&images(&for_evaluation)));

    // the same files are accepted, a missing one is made again, another one is refused
    let bytes = fs::read(&train).unwrap();
    assert_eq!(make(ExistingPairs::Refuse).unwrap(), outcome);
    fs::remove_file(&train).unwrap();
    make(ExistingPairs::Refuse).unwrap();
    assert_eq!(fs::read(&train).unwrap(), bytes);
    let text = fs::read_to_string(&eval).unwrap();
    fs::write(&eval, text.split_inclusive('\n').skip(1).collect::<String>()).unwrap();
    fs::remove_file(&train).unwrap();
    assert!(matches!(make(ExistingPairs::Refuse), Err(BpoError::Differs { path, .. }) if path == eval));
    assert!(!train.exists(), "nothing is written next to a file of other pairs");

    // the split needs two files
    let error = pair(&config, &many(), answers(dir.path()), &train, ExistingPairs::Refuse, &mut ());
    assert!(matches!(error, Err(BpoError::Conflict { .. })));
}

/// Skips pairs of samples whose id ends with 7.
struct Sevens;

impl TokenCheck for Sevens {
    fn check(&mut self, pair: &PreferencePair) -> Option<Skipped> {
        let (sample, _) = pair.id.rsplit_once(':').unwrap();
        sample.ends_with('7').then(|| Skipped::new(&pair.id, SkipReason::PairRefused).with_detail("too long"))
    }
}

#[test]
fn pairs_with_too_many_tokens_are_skipped_with_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("pairs.jsonl");
    let mut config = config(3);
    config.pair.max_tokens = Some(10);
    let make = |tokens: Option<&mut dyn TokenCheck>| {
        let (data, index, files) = (data(dir.path()), index(dir.path()), PairFiles::new(&out, None));
        pair_files(&config, &data, index, files, ExistingPairs::Refuse, tokens, &mut ())
    };
    assert!(matches!(make(None), Err(BpoError::Conflict { .. })));
    let outcome = make(Some(&mut Sevens)).unwrap();
    assert_eq!((outcome.summary.done, outcome.summary.skipped.get(SkipReason::PairRefused)), (270, 30));
    assert_eq!(read_pairs(&out).unwrap().pairs.len(), 270);
}
