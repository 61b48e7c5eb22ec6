//! The model's own answers, and the rule for the chosen answer of a sample.

use bpo::ChosenAnswer;
use bpo::SampleFile;
use bpo::pairs::format::{Answers, ReadOptions};
use bpo::pairs::{CompletionKind, PreferencePair, Skipped};
use bpo::stages::{AnswerIndex, PairFiles, pair_files};

use super::*;

/// Says what it was asked.
struct Seer;

impl VisionLanguageModel for Seer {
    type Error = ModelError;

    fn respond(&mut self, requests: &[VisionRequest]) -> Vec<Result<Generated, ModelError>> {
        let answer = |request: &VisionRequest| {
            assert_eq!(request.answer_prefix, "");
            let seed = request.sampling.seed;
            let text = match &request.weakening {
                Some(weakening) => format!("{} {} {seed}", weakening.distortion, weakening.seed),
                None => format!("I see {} images with {seed}", request.images.len()),
            };
            Ok(Generated { text, finish: FinishReason::Stop, tokens: None })
        };
        requests.iter().map(answer).collect()
    }
}

fn config_of(chosen: ChosenAnswer, distortions: &[&str]) -> RunConfig {
    let mut config = config(3);
    config.chosen = chosen;
    let distortions = distortions.iter().map(|text| text.parse().unwrap()).collect();
    config.weaken.distortion = Distortions::new(distortions).unwrap();
    config
}

fn weaken_with(config: &RunConfig, images: &ImageRoot, path: &Path) -> String {
    let mut file = StageFile::open(path).unwrap();
    weaken(config, &samples(), images, || Ok(Seer), &mut file, &mut ()).unwrap();
    drop(file);
    fs::read_to_string(path).unwrap()
}

#[test]
fn own_answers_are_a_further_variant() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let path = |name: &str| dir.path().join(name);
    let without =
        weaken_with(&config_of(ChosenAnswer::Annotated, &["swap", "no-image"]), &images, &path("a"));
    let with = weaken_with(&config_of(ChosenAnswer::Own, &["swap", "no-image"]), &images, &path("b"));
    let (own, others): (Vec<&str>, Vec<&str>) =
        with.lines().partition(|line| line.contains(r#""type":"own""#));
    // the answers about weakened images are the same
    assert_eq!(others, without.lines().collect::<Vec<_>>());
    assert_eq!(own.len(), samples().len());
    for line in &own {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["variant"], 2);
        match line["response"].as_str() {
            Some(text) => {
                assert!(text.starts_with("I see 1 images with "), "{text}");
                assert!(line.get("provenance").is_none());
            }
            None => {
                assert!(["image-missing", "image-unreadable"].contains(&line["reason"].as_str().unwrap()))
            }
        }
    }
    // their seeds do not depend on the number of distortions
    let texts = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let own = lines.filter(|line| line["type"] == "own");
        own.filter_map(|line| line["response"].as_str().map(str::to_owned)).collect()
    };
    let other = weaken_with(&config_of(ChosenAnswer::Revised, &["no-image"]), &images, &path("c"));
    assert_eq!(texts(&other), texts(&with));
    // all bytes are the same after an interruption at any line
    for (cut, _) in with.match_indices('\n') {
        fs::write(path("b"), &with[..=cut]).unwrap();
        let again = weaken_with(&config_of(ChosenAnswer::Own, &["swap", "no-image"]), &images, &path("b"));
        assert_eq!(again, with);
    }
}

/// A sample about `image`, and its answers: one about a weakened image, and its own with the reason why
/// it ended.
fn answered(dir: &Path, own: &[(&str, &str, &str, &str)]) -> (Vec<SftSample>, Vec<StageAnswers>) {
    let line = |id: &str, variant: usize, kind: &str, text: &str, finish: &str| {
        let line = serde_json::json!(
            {"id": id, "variant": variant, "type": kind, "response": text, "finish": finish});
        line.to_string() + "\n"
    };
    let (mut samples, mut lines) = (Vec::new(), String::new());
    for &(id, image, text, finish) in own {
        samples.push(SftSample {
            id: id.to_owned(),
            images: vec![image.to_owned()],
            system: None,
            history: Default::default(),
            prompt: "<image>\nDescribe it.".into(),
            answer: "A dog on a mat.".into(),
        });
        lines += &line(id, 0, "mllm-hal", "A cat in a tree.", "stop");
        if !text.is_empty() {
            lines += &line(id, 1, "own", text, finish);
        }
    }
    let path = dir.join("weakened.jsonl");
    fs::write(&path, lines).unwrap();
    (samples, vec![StageAnswers::read(&path).unwrap()])
}

/// Makes pairs in memory and from files, which are the same.
fn pairs(
    config: &RunConfig,
    dir: &Path,
    own: &[(&str, &str, &str, &str)],
) -> Result<(Vec<PreferencePair>, Vec<Skipped>), BpoError> {
    let (samples, answers) = answered(dir, own);
    let paths: Vec<PathBuf> = answers.iter().map(|answers| answers.path().to_owned()).collect();
    let (one, other, data) = (dir.join("one"), dir.join("other"), dir.join("data"));
    for file in [&one, &other] {
        let _ = fs::remove_file(file);
    }
    let (pairs, outcome) = pair(config, &samples, answers, &one, ExistingPairs::Refuse, &mut ())?;
    let line = |sample: &SftSample| {
        serde_json::json!({"id": sample.id, "image": sample.images[0], "question": "Describe it.", "answer": sample.answer})
            .to_string() + "\n"
    };
    fs::write(&data, samples.iter().map(line).collect::<String>()).unwrap();
    let data = SampleFile::read(&data, &ReadOptions::default()).unwrap();
    let index = AnswerIndex::read(paths.iter().map(PathBuf::as_path)).unwrap();
    let files = PairFiles::new(&other, None);
    let same = pair_files(config, &data, index, files, ExistingPairs::Refuse, None, &mut ())?;
    assert_eq!(same, outcome);
    assert_eq!(fs::read(&one).unwrap(), fs::read(&other).unwrap());
    Ok((pairs, outcome.skipped))
}

fn texts(pairs: &[PreferencePair]) -> Vec<(&str, &str, &str, &str)> {
    let mut texts: Vec<(&str, &str, &str, &str)> = Vec::new();
    for PreferencePair { id, chosen, rejected, kind, .. } in pairs {
        texts.push((id, chosen, rejected, kind.as_str()));
    }
    texts
}

const OWN: &[(&str, &str, &str, &str)] = &[
    ("right", "a.jpg", "A dog and a mat.", "stop"),
    ("wrong", "a.jpg", "A dog and a tree.", "stop"),
    ("silent", "a.jpg", "An animal.", "stop"),
    ("unknown", "b.jpg", "A dog.", "stop"),
    ("cut", "a.jpg", "A dog and a", "length"),
    ("refusal", "a.jpg", "I'm sorry, I cannot see the image.", "stop"),
    ("equal", "a.jpg", "A cat in a tree.", "stop"),
    ("none", "a.jpg", "", ""),
];
const WEAKENED: (&str, &str) = ("A cat in a tree.", "mllm-hal");
const ANNOTATED: &str = "A dog on a mat.";

#[test]
fn annotated_answers_are_chosen_by_default() {
    let dir = tempfile::tempdir().unwrap();
    let (pairs, skipped) = pairs(&RunConfig::default(), dir.path(), OWN).unwrap();
    let expected =
        |(id, ..): &(&'static str, _, _, _)| (format!("{id}:0>1"), ANNOTATED, WEAKENED.0, WEAKENED.1);
    let found =
        texts(&pairs).into_iter().map(|(id, chosen, rejected, kind)| (id.to_owned(), chosen, rejected, kind));
    assert_eq!(found.collect::<Vec<_>>(), OWN.iter().map(expected).collect::<Vec<_>>());
    assert_eq!(skipped, []);
}

#[test]
fn own_answers_are_chosen_if_they_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_of(ChosenAnswer::Own, &["no-image"]);
    let (pairs, skipped) = pairs(&config, dir.path(), OWN).unwrap();
    let (rejected, kind) = WEAKENED;
    assert_eq!(
        texts(&pairs),
        [
            ("right:0>1", "A dog and a mat.", rejected, kind),
            ("wrong:0>1", "A dog and a tree.", rejected, kind),
            ("silent:0>1", "An animal.", rejected, kind),
            ("unknown:0>1", "A dog.", rejected, kind),
        ]
    );
    let skipped: Vec<_> = skipped.iter().map(|skipped| (skipped.id.as_str(), skipped.reason)).collect();
    assert_eq!(
        skipped,
        [
            ("cut", SkipReason::OwnCut),
            ("refusal", SkipReason::OwnRefusal),
            ("equal:0>1", SkipReason::Identical),
            ("none", SkipReason::NoOwnAnswer),
        ]
    );
}

#[test]
fn own_answers_are_not_compared_with_rewritten_annotated_ones() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_of(ChosenAnswer::Own, &["no-image"]);
    let (samples, mut answers) = answered(dir.path(), &OWN[..1]);
    let injected = dir.path().join("injected.jsonl");
    fs::write(&injected, "{\"id\":\"right\",\"type\":\"llm-hal\",\"response\":\"A dog on a cat.\"}\n")
        .unwrap();
    answers.push(StageAnswers::read(&injected).unwrap());
    let out = dir.path().join("pairs.jsonl");
    let error = pair(&config, &samples, answers, &out, ExistingPairs::Refuse, &mut ()).unwrap_err();
    assert!(matches!(&error, BpoError::Conflict { key, .. } if key == "chosen"), "{error}");
    assert!(!out.exists());
}

#[test]
fn annotated_answers_replace_own_ones_that_name_absent_objects() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config_of(ChosenAnswer::Revised, &["no-image"]);
    let error = pairs(&config, dir.path(), OWN).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("`truth.path`"), "{error}");
    // a ground truth of other images, and a table of other objects
    let other = dir.path().join("other.jsonl");
    fs::write(&other, "{\"image\": \"x.jpg\", \"objects\": [\"dog\"]}\n").unwrap();
    config.truth.path = Some(other);
    let error = pairs(&config, dir.path(), OWN).unwrap_err();
    assert!(error.to_string().contains("no image of the data"), "{error}");
    let table = dir.path().join("table.txt");
    fs::write(&table, "truck, lorry\n").unwrap();
    config.truth.objects = Some(table);
    let error = pairs(&config, dir.path(), OWN).unwrap_err();
    assert!(error.to_string().contains("none of the objects"), "{error}");
    config.truth.objects = None;

    let truth = dir.path().join("truth.jsonl");
    fs::write(&truth, "{\"image\": \"a.jpg\", \"objects\": [\"dog\", \"mat\"]}\n{\"image\": \"c.jpg\", \"objects\": [\"cat\", \"tree\"]}\n").unwrap();
    config.truth.path = Some(truth);
    let (pairs, skipped) = pairs(&config, dir.path(), OWN).unwrap();
    let (rejected, kind) = WEAKENED;
    let own = |pair: &PreferencePair| pair.chosen_kind == Some(CompletionKind::Own);
    assert_eq!(
        pairs.iter().filter(|pair| own(pair)).map(|pair| pair.id.as_str()).collect::<Vec<_>>(),
        ["right:0>1"]
    );
    assert_eq!(
        texts(&pairs),
        [
            ("right:0>1", "A dog and a mat.", rejected, kind),
            ("wrong:0>1", ANNOTATED, rejected, kind),
            ("wrong:0>2", ANNOTATED, "A dog and a tree.", "own"),
            ("silent:0>1", ANNOTATED, rejected, kind),
            ("unknown:0>1", ANNOTATED, rejected, kind),
            ("cut:0>1", ANNOTATED, rejected, kind),
            ("refusal:0>1", ANNOTATED, rejected, kind),
            ("equal:0>1", ANNOTATED, rejected, kind),
            ("equal:0>2", ANNOTATED, "A cat in a tree.", "own"),
            ("none:0>1", ANNOTATED, rejected, kind),
        ]
    );
    assert_eq!(skipped, []);
}

#[test]
fn own_answers_need_no_annotated_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("questions.jsonl");
    fs::write(&path, "{\"image\": \"a.jpg\", \"prompt\": \"What is it?\"}\n").unwrap();
    let mut options = ReadOptions::default();
    SampleFile::read(&path, &options).unwrap_err();
    options.answers = Answers::Unused;
    assert_eq!(SampleFile::read(&path, &options).unwrap().count, 1);
    let mut config = config_of(ChosenAnswer::Own, &["no-image"]);
    assert_eq!(bpo::Media::of(&config).read_options().answers, Answers::Unused);
    config.chosen = ChosenAnswer::Revised;
    assert_eq!(bpo::Media::of(&config).read_options().answers, Answers::Required);
}

/// Makes the pairs of one sample with these answers, each with its type, variant and reason to end.
fn pairs_of(
    config: &RunConfig,
    answers: &[(&str, usize, &str, &str)],
    annotated: &str,
) -> (Vec<PreferencePair>, Vec<Skipped>) {
    let dir = tempfile::tempdir().unwrap();
    let sample = SftSample {
        id: "a".into(),
        images: vec!["a.jpg".into()],
        system: None,
        history: Default::default(),
        prompt: "<image>\nWho is it?".into(),
        answer: annotated.into(),
    };
    let mut answered = Vec::new();
    for (number, &(kind, variant, text, finish)) in answers.iter().enumerate() {
        let path = dir.path().join(number.to_string());
        let line = serde_json::json!({"id": "a", "variant": variant, "type": kind, "response": text, "finish": finish});
        fs::write(&path, line.to_string() + "\n").unwrap();
        answered.push(StageAnswers::read(&path).unwrap());
    }
    let out = dir.path().join("pairs.jsonl");
    let (pairs, outcome) = pair(config, &[sample], answered, &out, ExistingPairs::Refuse, &mut ()).unwrap();
    (pairs, outcome.skipped)
}

#[test]
fn of_several_own_answers_the_first_that_can_be_chosen_counts() {
    let answers = [
        ("own", 0, "One, and", "length"),
        ("own", 1, "Two.", "stop"),
        ("own", 2, "Three.", "stop"),
        ("mllm-hal", 0, "Four.", "stop"),
    ];
    let (pairs, skipped) = pairs_of(&config_of(ChosenAnswer::Own, &["no-image"]), &answers, "Zero.");
    assert_eq!((texts(&pairs), skipped.len()), (vec![("a:0>1", "Two.", "Four.", "mllm-hal")], 0));
    let (pairs, _) = pairs_of(&RunConfig::default(), &answers, "Zero.");
    assert_eq!(texts(&pairs), [("a:0>1", "Zero.", "Four.", "mllm-hal")]);
    assert_eq!(pairs[0].chosen_kind, None);
    // with a ground truth, the first right one is chosen and the wrong ones are rejected
    let dir = tempfile::tempdir().unwrap();
    let mut config = config_of(ChosenAnswer::Revised, &["no-image"]);
    config.truth.path = Some(dir.path().join("truth.jsonl"));
    fs::write(
        dir.path().join("truth.jsonl"),
        "{\"image\": \"a.jpg\", \"objects\": [\"cow\", \"tree\", \"cat\"]}\n",
    )
    .unwrap();
    let table = dir.path().join("objects.txt");
    fs::write(&table, "cow\ntree\ncat\numbrella\n").unwrap();
    config.truth.objects = Some(table);
    let answers = [
        ("own", 1, "An umbrella.", "stop"),
        ("own", 2, "A cow and a tree.", "stop"),
        ("own", 3, "A cat.", "stop"),
        ("mllm-hal", 0, "A dog.", "stop"),
        ("llm-hal", 0, "An umbrella and a cow.", "stop"),
    ];
    let (pairs, _) = pairs_of(&config, &answers, "A cow.");
    assert_eq!(
        texts(&pairs),
        [
            ("a:0>1", "A cow and a tree.", "A dog.", "mllm-hal"),
            ("a:0>2", "A cow and a tree.", "An umbrella.", "own"),
            ("a:0>3", "A cow and a tree.", "An umbrella and a cow.", "llm-hal"),
        ]
    );
}

/// An annotated answer that is not used decides nothing.
#[test]
fn own_refusals_are_skipped_whatever_the_annotated_answer_is() {
    let answers =
        [("own", 1, "I'm sorry, I cannot identify people.", "stop"), ("mllm-hal", 0, "A man.", "stop")];
    for annotated in ["", "I'm sorry, I cannot tell.", "A woman."] {
        let (pairs, skipped) = pairs_of(&config_of(ChosenAnswer::Own, &["no-image"]), &answers, annotated);
        assert_eq!((pairs.len(), skipped[0].reason), (0, SkipReason::OwnRefusal));
    }
}

/// A sample without a chosen answer has no influence on the next one.
#[test]
fn answers_that_are_left_out_belong_to_their_sample() {
    let dir = tempfile::tempdir().unwrap();
    let (mut samples, mut lines) = (Vec::new(), String::new());
    for (id, own, weakened) in
        [("a", "length", Some("length")), ("b", "stop", None), ("c", "stop", Some("stop"))]
    {
        samples.push(SftSample {
            id: id.into(),
            images: vec!["a.jpg".into()],
            system: None,
            history: Default::default(),
            prompt: "<image>\nWhat?".into(),
            answer: String::new(),
        });
        for (kind, variant, finish) in [("own", 1, Some(own)), ("mllm-hal", 0, weakened)] {
            let Some(finish) = finish else { continue };
            let text = format!("An answer of the type {kind}.");
            let line = serde_json::json!({"id": id, "variant": variant, "type": kind, "response": text, "finish": finish});
            lines += &(line.to_string() + "\n");
        }
    }
    let path = dir.path().join("answers.jsonl");
    fs::write(&path, lines).unwrap();
    let mut config = config_of(ChosenAnswer::Own, &["no-image"]);
    config.pair.skip_cut = true;
    let answers = vec![StageAnswers::read(&path).unwrap()];
    let out = dir.path().join("pairs.jsonl");
    let (pairs, outcome) = pair(&config, &samples, answers, &out, ExistingPairs::Refuse, &mut ()).unwrap();
    assert_eq!(pairs.iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>(), ["c:0>1"]);
    let skipped: Vec<_> =
        outcome.skipped.iter().map(|skipped| (skipped.id.as_str(), skipped.reason)).collect();
    assert_eq!(skipped, [("a", SkipReason::OwnCut), ("b", SkipReason::NoRejected)]);
    assert_eq!((outcome.summary.done, outcome.summary.own_chosen), (1, 1));
}

#[test]
fn shards_have_the_own_answers_of_the_whole_stage() {
    let dir = tempfile::tempdir().unwrap();
    let images = images(dir.path());
    let config = config_of(ChosenAnswer::Own, &["no-image"]);
    let whole = weaken_with(&config, &images, &dir.path().join("whole"));
    let mut lines = Vec::new();
    for shard in ["1/2", "2/2"] {
        let mut config = config.clone();
        config.weaken.batch_size = 1;
        config.weaken.shard = Some(shard.parse().unwrap());
        let text = weaken_with(&config, &images, &dir.path().join(shard.replace('/', "-")));
        assert!(text.contains(r#""type":"own""#), "{shard}");
        lines.extend(text.lines().map(str::to_owned));
    }
    let mut expected: Vec<&str> = whole.lines().collect();
    expected.sort_unstable();
    lines.sort_unstable();
    assert_eq!(lines, expected);
}
