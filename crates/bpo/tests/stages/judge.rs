//! Judgments of answers, and the pairs that are made of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use bpo::pairs::{Fingerprint, PreferencePair};
use bpo::stages::{AnswerIndex, PairFiles, judge, pair_files};
use bpo::{
    ChosenAnswer, Inputs, JudgeMethod, Judgment, SampleFile, Stage, StageLedger, Verdict, check_answers,
};

use super::*;

mod failures;

/// Gives an answer one point less than 5 for each `wrong` in it. In claims, each word `right` or `wrong` is a
/// question about it.
struct Judge {
    is_batch_invariant: bool,
    /// Number of requests after which it fails.
    down_at: usize,
    asked: AtomicUsize,
    /// The largest number of requests of a call.
    most: usize,
    /// Whether replies reach their maximum length.
    is_cut: bool,
    /// Whether replies arrive in reverse order.
    is_reversed: bool,
}

impl Judge {
    fn new(is_batch_invariant: bool) -> Self {
        Self {
            is_batch_invariant,
            down_at: usize::MAX,
            asked: AtomicUsize::new(0),
            most: 0,
            is_cut: false,
            is_reversed: true,
        }
    }

    fn reply(&self, request: &VisionRequest) -> Result<Generated, ModelError> {
        if self.asked.fetch_add(1, Ordering::SeqCst) >= self.down_at {
            return Err(ModelError::Down);
        }
        assert!(request.weakening.is_none() && request.history.is_empty());
        if let Some(image) = request.images.first() {
            image.load().map_err(|_| ModelError::TooLong)?;
        }
        let is_claim = request.prompt.ends_with("Reply:");
        let after =
            |start: &str| request.prompt.rsplit_once(start).map(|(_, text)| text.lines().next().unwrap());
        let text =
            match (after("Answer to rate: "), after("\nAnswer: ").filter(|_| !is_claim), after("Question: "))
            {
                (Some(answer), ..) if answer.contains("too long") => return Err(ModelError::TooLong),
                (Some(answer), ..) if answer.contains("silence") => "I will not judge.".to_owned(),
                (Some(_), ..) if self.is_cut => "Score: 5".to_owned(),
                (Some(answer), ..) => {
                    format!("Some are wrong.\nScore: {}", 5 - answer.matches("wrong").count().min(4))
                }
                (_, Some(answer), _) => {
                    let words = answer
                        .split(' ')
                        .filter(|word| ["right", "wrong", "odd", "mute", "large"].contains(word));
                    words.map(|word| format!("- Is it {word}?\n")).collect()
                }
                (_, _, Some("Is it right?")) => "Yes.".to_owned(),
                (_, _, Some("Is it odd?")) => "Unknown".to_owned(),
                (_, _, Some("Is it mute?")) => "Perhaps.".to_owned(),
                (_, _, Some("Is it large?")) => return Err(ModelError::TooLong),
                _ => "**No**".to_owned(),
            };
        let finish = if self.is_cut { FinishReason::Length } else { FinishReason::Stop };
        Ok(Generated { text, finish, tokens: None })
    }
}

impl VisionLanguageModel for Judge {
    type Error = ModelError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ModelError>> {
        self.most = self.most.max(requests.len());
        requests.iter().map(|request| self.reply(request)).collect()
    }

    fn respond_queue(&mut self, queue: &mut VisionQueue<'_, ModelError>, at_a_time: NonZeroUsize) {
        let mut first = 0;
        loop {
            let requests: Vec<_> =
                std::iter::from_fn(|| queue.next_request()).take(at_a_time.get()).collect();
            if requests.is_empty() {
                return;
            }
            let mut order: Vec<_> = requests.iter().enumerate().collect();
            if self.is_reversed {
                order.reverse();
            }
            for (place, request) in order {
                let reply = self.reply(request).map_err(|error| {
                    let is_request_error = self.is_request_error(&error);
                    RequestFailure { error, is_request_error }
                });
                if queue.receive(first + place, reply).is_break() {
                    return;
                }
            }
            first += requests.len();
        }
    }

    fn is_batch_invariant(&self) -> bool {
        self.is_batch_invariant
    }

    fn is_request_error(&self, error: &ModelError) -> bool {
        matches!(error, ModelError::TooLong)
    }
}

/// Four samples about a cat with three answers each, of which some cannot be judged.
fn answered(dir: &Path) -> (Vec<SftSample>, PathBuf) {
    let sample = |id: &str, image: &str| SftSample {
        id: id.to_owned(),
        images: vec![image.to_owned()],
        system: None,
        history: Default::default(),
        prompt: "<image>\nDescribe it.".into(),
        answer: "A dog on a mat.".into(),
    };
    let answer = |id: &str, variant: usize, kind: &str, text: &str, finish: &str| {
        let line = serde_json::json!(
            {"id": id, "variant": variant, "type": kind, "response": text, "finish": finish});
        line.to_string() + "\n"
    };
    let gone = r#"{"id":"d","type":"mllm-hal","reason":"image-missing","detail":"no image"}"#;
    let lines = [
        answer("b", 1, "own", "All is right .", "stop"),
        answer("a", 0, "mllm-hal", "This is wrong and right .", "stop"),
        answer("a", 1, "own", "This is odd and right .", "stop"),
        answer("a", 2, "own", "wrong is wrong .", "stop"),
        answer("b", 0, "mllm-hal", "silence", "stop"),
        answer("b", 2, "own", "right but cut", "length"),
        format!("{gone}\n"),
        answer("c", 0, "mllm-hal", "This is wrong .", "stop"),
        answer("c", 1, "own", "too long", "stop"),
        answer("c", 2, "own", "I'm sorry, I cannot see the image.", "stop"),
    ];
    let path = dir.join("weakened.jsonl");
    fs::write(&path, lines.concat()).unwrap();
    let samples = ["a", "b", "c", "d"].map(|id| sample(id, "cat.jpg"));
    (samples.to_vec(), path)
}

fn judging() -> RunConfig {
    let mut config = config(3);
    config.chosen = ChosenAnswer::Judged;
    config.judge.batch_size = 2;
    config
}

/// Judges the answers of a file, and returns the lines.
fn judged(
    config: &RunConfig,
    samples: &[SftSample],
    answers: &Path,
    model: &mut Judge,
    out: &Path,
) -> Result<(String, StageOutcome), BpoError> {
    let photos = ImageRoot::new(photos()).unwrap();
    let images = config.judge.images.then_some(&photos);
    let answers = [StageAnswers::read(answers)?];
    let mut file = StageFile::open(out)?;
    let outcome = judge(config, samples, &answers, images, || Ok(model), &mut file, &mut ())?;
    drop(file);
    Ok((fs::read_to_string(out).unwrap(), outcome))
}

fn photos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/photos")
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// The judgment of an answer, or the reason why there is none.
fn found(text: &str, id: &str, variant: usize) -> Result<Judgment, SkipReason> {
    let mut records = text.lines().map(|line| serde_json::from_str::<StageRecord>(line).unwrap());
    let record = records.find(|record| RecordKey::of(record) == RecordKey::new(id, variant)).unwrap();
    match record {
        StageRecord::Answered(answer) => Ok(*answer.judgment.unwrap()),
        StageRecord::Skipped { skipped, .. } => Err(skipped.reason),
    }
}

#[test]
fn answers_keep_all_they_have_and_get_a_score() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, answers) = answered(dir.path());
    let config = judging();
    let at = |name: &str| dir.path().join(name);
    let (text, outcome) = judged(&config, &samples, &answers, &mut Judge::new(true), &at("judged")).unwrap();
    for (id, variant, score) in [("a", 0, 4.0), ("a", 1, 5.0), ("a", 2, 3.0), ("b", 1, 5.0), ("c", 0, 4.0)] {
        let judgment = found(&text, id, variant).unwrap();
        assert_eq!(judgment.score, score, "{id} {variant}");
        assert!(judgment.reply.unwrap().starts_with("Some are wrong."));
    }
    assert_eq!(found(&text, "b", 0), Err(SkipReason::JudgeUnclear));
    assert_eq!(found(&text, "c", 1), Err(SkipReason::JudgeFailed));
    assert_eq!(found(&text, "d", 0), Err(SkipReason::ImageMissing));
    // the copied record was counted by the weaken stage
    assert_eq!((outcome.summary.done, outcome.skipped.len()), (7, 2));
    let unclear = outcome.skipped.iter().find(|skipped| skipped.id == "b").unwrap();
    assert!(
        unclear.detail.contains("no score from 1 to 5, or several: \"I will not judge.\""),
        "{}",
        unclear.detail
    );
    let without = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("judgment").is_some().then_some(line)
    };
    let before: Vec<serde_json::Value> = fs::read_to_string(&answers)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut before = before.iter().cloned().map(|mut line| {
        if line["variant"] == 0 {
            line.as_object_mut().unwrap().remove("variant");
        }
        line
    });
    assert!(text.lines().filter_map(without).all(|line| before.clone().any(|known| known == line)));
    assert_eq!(before.by_ref().count(), text.lines().count());
    // nothing is left to do
    let mut idle = Judge::new(true);
    let (again, _) = judged(&config, &samples, &answers, &mut idle, &at("judged")).unwrap();
    assert_eq!((again, idle.asked.into_inner()), (text, 0));
}

#[test]
fn claims_are_decided_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, answers) = answered(dir.path());
    let mut config = judging();
    config.judge.method = JudgeMethod::Claims;
    let mut texts = Vec::new();
    for is_batch_invariant in [true, false] {
        let out = dir.path().join(format!("judged-{is_batch_invariant}"));
        let mut judge = Judge::new(is_batch_invariant);
        let (text, outcome) = judged(&config, &samples, &answers, &mut judge, &out).unwrap();
        let of = |id, variant| found(&text, id, variant).map(|judgment| judgment.score);
        let scores = [of("a", 0), of("a", 1), of("a", 2), of("b", 1), of("c", 0)];
        assert_eq!(scores.map(Result::unwrap), [-1.0, 0.0, -1.0, 0.0, -1.0]);
        let verdicts = found(&text, "a", 1).unwrap().claims;
        assert_eq!(
            verdicts.iter().map(|claim| (claim.question.as_str(), claim.verdict)).collect::<Vec<_>>(),
            [("Is it odd?", Verdict::Unknown), ("Is it right?", Verdict::Right)]
        );
        // answers without a claim
        for (id, variant) in [("b", 0), ("c", 1), ("c", 2)] {
            assert_eq!(of(id, variant), Err(SkipReason::JudgeUnclear), "{id}");
        }
        assert_eq!((outcome.summary.done, outcome.skipped.len()), (6, 3));
        assert!(is_batch_invariant || judge.most > 1);
        texts.push(text);
    }
    assert_eq!(sorted(&texts[0]), sorted(&texts[1]));
}

/// A judge that fails stops the stage, and the next process gives the same records.
#[test]
fn a_stage_that_stopped_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, answers) = answered(dir.path());
    let mut config = judging();
    for (method, is_batch_invariant) in [JudgeMethod::Score, JudgeMethod::Claims]
        .into_iter()
        .flat_map(|method| [(method, true), (method, false)])
    {
        config.judge.method = method;
        let at = |name: &str| dir.path().join(format!("{method}-{is_batch_invariant}-{name}"));
        let mut judge = Judge::new(is_batch_invariant);
        let (whole, _) = judged(&config, &samples, &answers, &mut judge, &at("whole")).unwrap();
        for down_at in [0, 1, 3, 5, 8, 11] {
            let out = at(&format!("down-{down_at}"));
            let mut judge = Judge { down_at, ..Judge::new(is_batch_invariant) };
            let stopped = judged(&config, &samples, &answers, &mut judge, &out);
            if let Err(error) = stopped {
                assert!(matches!(error, BpoError::StageStopped { stage: Stage::Judge, .. }), "{error}");
            }
            let mut judge = Judge::new(is_batch_invariant);
            let (text, _) = judged(&config, &samples, &answers, &mut judge, &out).unwrap();
            assert_eq!(sorted(&text), sorted(&whole), "{method} {is_batch_invariant} {down_at}");
        }
    }
}

#[test]
fn the_judge_may_see_the_images() {
    let dir = tempfile::tempdir().unwrap();
    let (mut samples, answers) = answered(dir.path());
    samples[0].images = vec!["no-such-image.jpg".into()];
    samples[1].images.clear();
    let mut config = judging();
    (config.judge.images, config.judge.annotation) = (true, false);
    for is_batch_invariant in [true, false] {
        let out = dir.path().join(format!("judged-{is_batch_invariant}"));
        let (text, _) =
            judged(&config, &samples, &answers, &mut Judge::new(is_batch_invariant), &out).unwrap();
        assert_eq!(found(&text, "a", 0), Err(SkipReason::JudgeFailed));
        assert!(text.contains("judge could not answer: no image"), "{text}");
        assert_eq!(found(&text, "b", 1), Err(SkipReason::JudgeFailed));
        assert_eq!(found(&text, "c", 0).unwrap().score, 4.0);
    }
}

/// The pairs of a judged file, made in memory and from files, which are the same.
fn pairs(config: &RunConfig, samples: &[SftSample], file: &Path) -> Result<Vec<PreferencePair>, BpoError> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let answers = vec![StageAnswers::read(file)?];
    let (pairs, _) = pair(config, samples, answers, &at("pairs"), ExistingPairs::Refuse, &mut ())?;
    let records: Vec<_> = samples
        .iter()
        .map(|sample| {
            let turns = serde_json::json!([{"from": "human", "value": sample.prompt}, {"from": "gpt", "value": sample.answer}]);
            serde_json::json!({"id": sample.id, "image": sample.images[0], "conversations": turns})
        })
        .collect();
    fs::write(at("data.json"), serde_json::to_string(&records).unwrap()).unwrap();
    let data = SampleFile::read(&at("data.json"), &Default::default())?;
    let index = AnswerIndex::read([file])?;
    let again = at("again");
    let outcome =
        pair_files(config, &data, index, PairFiles::new(&again, None), ExistingPairs::Refuse, None, &mut ())?;
    assert_eq!(outcome.summary.done, pairs.len());
    assert_eq!(fs::read(at("pairs")).unwrap(), fs::read(again).unwrap());
    Ok(pairs)
}

#[test]
fn answers_with_higher_scores_are_preferred() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, answers) = answered(dir.path());
    let config = judging();
    let out = dir.path().join("judged.jsonl");
    judged(&config, &samples, &answers, &mut Judge::new(true), &out).unwrap();
    let pairs = pairs(&config, &samples, &out).unwrap();
    let of = |pair: &PreferencePair| {
        let kind = |kind: &str| kind.to_owned();
        let chosen = pair.chosen_kind.as_ref().map_or("gt", |chosen| chosen.as_str());
        (pair.id.clone(), kind(chosen), kind(pair.kind.as_str()), pair.margin.unwrap())
    };
    let expected =
        [("a:0>2", "mllm-hal", "own", 1.0), ("a:1>0", "own", "mllm-hal", 1.0), ("a:1>2", "own", "own", 2.0)];
    let expected = expected
        .map(|(id, chosen, kind, margin)| (id.to_owned(), chosen.to_owned(), kind.to_owned(), margin));
    // the refusal and the answer that was cut make no pair, although both have a score
    assert_eq!(pairs.iter().map(of).collect::<Vec<_>>(), expected);

    // own answers from a score on replace the annotated ones
    let mut revised = config.clone();
    revised.chosen = ChosenAnswer::Revised;
    revised.judge.accept_from = Some(4.5);
    revised.validate().unwrap();
    let pairs = self::pairs(&revised, &samples, &out).unwrap();
    let texts: Vec<_> = pairs.iter().map(|pair| (pair.chosen.as_str(), pair.rejected.as_str())).collect();
    assert_eq!(
        texts,
        [
            ("This is odd and right .", "This is wrong and right ."),
            ("This is odd and right .", "wrong is wrong ."),
            ("A dog on a mat.", "This is wrong ."),
        ]
    );

    let error = self::pairs(&config, &samples, &answers).unwrap_err();
    assert!(matches!(&error, BpoError::NotJudged { id, .. } if id == "a"), "{error}");
}

/// Answers about images as they are, alone, whose seeds do not depend on the other answers.
#[test]
fn several_own_answers_have_their_own_seeds() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    struct Seeds;
    impl VisionLanguageModel for Seeds {
        type Error = ModelError;
        fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ModelError>> {
            let text = |request: &VisionRequest| {
                format!("{} {}", request.weakening.is_some(), request.sampling.seed)
            };
            let answer =
                |request| Ok(Generated { text: text(request), finish: FinishReason::Stop, tokens: None });
            requests.iter().map(answer).collect()
        }
    }
    let own = |samples: usize, own_samples: usize| {
        let mut config = judging();
        (config.weaken.samples, config.weaken.own_samples) = (samples, own_samples);
        config.validate().unwrap();
        let path = dir.path().join(format!("{samples}-{own_samples}"));
        let mut file = StageFile::open(&path).unwrap();
        weaken(&config, &super::samples(), &images, || Ok(Seeds), &mut file, &mut ()).unwrap();
        drop(file);
        let text = fs::read_to_string(path).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let own = records.filter(|record| record["type"] == "own" && record["response"].is_string());
        own.map(|record| {
            (record["id"].clone(), record["response"].clone(), record["variant"].as_u64().unwrap_or(0))
        })
        .collect::<Vec<_>>()
    };
    let alone = own(0, 3);
    let texts: HashSet<_> = alone.iter().map(|(id, text, _)| (id.to_string(), text.to_string())).collect();
    assert_eq!(texts.len(), alone.len());
    assert!(
        alone.iter().all(|(_, text, variant)| text.as_str().unwrap().starts_with("false") && *variant < 3)
    );
    let beside = own(2, 3);
    let weakened = judging().weaken.distortion.len() as u64 * 2;
    let shifted: Vec<_> =
        alone.iter().map(|(id, text, variant)| (id.clone(), text.clone(), variant + weakened)).collect();
    assert_eq!(beside, shifted);
}

/// A reply that was cut off may have gone on with another score or further claims.
#[test]
fn replies_that_were_cut_off_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, answers) = answered(dir.path());
    let mut judge = Judge { is_cut: true, ..Judge::new(true) };
    let error = judged(&judging(), &samples, &answers, &mut judge, &dir.path().join("judged")).unwrap_err();
    assert!(bpo::chain(&error).contains("`judge.max_new_tokens`"), "{error}");
}

/// The record of an answer with several replies that cannot be used is the same in any order of replies.
#[test]
fn the_order_of_replies_has_no_influence() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, answers) = answered(dir.path());
    let text = fs::read_to_string(&answers).unwrap().replace("This is", "This mute and large thing is");
    fs::write(&answers, text).unwrap();
    let mut config = judging();
    (config.judge.method, config.judge.batch_size) = (JudgeMethod::Claims, 64);
    let texts = [true, false].map(|is_reversed| {
        let out = dir.path().join(format!("judged-{is_reversed}"));
        let mut judge = Judge { is_reversed, ..Judge::new(true) };
        judged(&config, &samples, &answers, &mut judge, &out).unwrap().0
    });
    assert_eq!(found(&texts[0], "a", 0), Err(SkipReason::JudgeUnclear));
    assert_eq!(sorted(&texts[0]), sorted(&texts[1]));
    assert_ne!(texts[0], texts[1]);
}

/// Revised pairs depend on the scores of own answers alone, so the others are copied.
#[test]
fn only_answers_whose_score_is_used_are_judged() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, answers) = answered(dir.path());
    let mut config = judging();
    (config.chosen, config.judge.accept_from) = (ChosenAnswer::Revised, Some(5.0));
    let out = dir.path().join("judged");
    let mut judge = Judge::new(true);
    let (text, outcome) = judged(&config, &samples, &answers, &mut judge, &out).unwrap();
    assert_eq!(judge.asked.into_inner(), 6);
    assert_eq!(outcome.summary.done, 5);
    let is_copy = |line: &&str| line.contains("mllm-hal") && !line.contains("judgment");
    assert_eq!(text.lines().filter(is_copy).count(), 4);
    let pairs = pairs(&config, &samples, &out).unwrap();
    let ids: Vec<_> = pairs.iter().map(|pair| pair.id.as_str()).collect();
    // "silence" about a weakened image cannot be judged, and need not be
    assert_eq!(ids, ["a:0>1", "a:0>2", "b:0>1", "c:0>1"]);
}

/// A judgment follows its answer: one whose answer has changed is made again, and the others stay.
#[test]
fn judgments_of_changed_answers_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, answers) = answered(dir.path());
    let (config, out) = (judging(), dir.path().join("judged"));
    judged(&config, &samples, &answers, &mut Judge::new(true), &out).unwrap();
    let changed = fs::read_to_string(&answers).unwrap().replace("All is right .", "All is wrong .");
    // an answer that was missing is there, and the lines have another order
    let gone = changed.lines().find(|line| line.contains("image-missing")).unwrap();
    let there = r#"{"id":"d","type":"mllm-hal","response":"A wrong dog.","finish":"stop"}"#;
    let changed = changed.replace(gone, there);
    let lines: Vec<&str> = changed.lines().rev().collect();
    fs::write(&answers, lines.join("\n")).unwrap();
    let mut judge = Judge::new(true);
    let (text, _) = judged(&config, &samples, &answers, &mut judge, &out).unwrap();
    assert_eq!(judge.asked.into_inner(), 2);
    assert_eq!(found(&text, "b", 1).unwrap().score, 4.0);
    assert_eq!(found(&text, "d", 0).unwrap().score, 4.0);
    let (whole, _) =
        judged(&config, &samples, &answers, &mut Judge::new(true), &dir.path().join("new")).unwrap();
    assert_eq!(sorted(&text), sorted(&whole));
}

/// A sample whose weakened answers were skipped has pairs of its own answers.
#[test]
fn own_answers_make_pairs_without_weakened_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (samples, answers) = answered(dir.path());
    let text = fs::read_to_string(&answers).unwrap();
    let first = text.lines().find(|line| line.contains("This is wrong and right")).unwrap();
    let failed = r#"{"id":"a","type":"mllm-hal","reason":"request-failed","detail":"too long"}"#;
    fs::write(&answers, text.replace(first, failed)).unwrap();
    let (config, out) = (judging(), dir.path().join("judged"));
    judged(&config, &samples, &answers, &mut Judge::new(true), &out).unwrap();
    let pairs = pairs(&config, &samples, &out).unwrap();
    let texts: Vec<_> = pairs.iter().map(|pair| (pair.chosen.as_str(), pair.rejected.as_str())).collect();
    assert_eq!(texts, [("This is odd and right .", "wrong is wrong .")]);
}
