//! The contrasts of pairs: the same for answers in any order and files, and on one side of a split.

use bpo::pairs::ContrastChoice;
use bpo::pairs::PreferencePair;
use bpo::pairs::format::ReadOptions;
use bpo::pairs::format::jsonl::read_pairs;
use bpo::stages::{AnswerIndex, PairFiles, check_contrasts, pair_files};
use bpo::{ChosenAnswer, SampleFile};

use super::*;

const THINGS: [&str; 6] = ["cat", "dog", "horse", "cup", "street", "child"];

/// Sixty samples with the same question about different images, and one with another question.
fn many() -> Vec<SftSample> {
    let sample = |number: usize| SftSample {
        id: number.to_string(),
        prompt: if number == 60 { "<image>\nWhy?".into() } else { "<image>\nWhat is there?".into() },
        images: vec![format!("{number}.jpg")],
        system: None,
        history: Default::default(),
        answer: format!("A {} number {number} on a mat.", THINGS[number % 6]),
    };
    (0..=60).map(sample).collect()
}

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

/// Files of answers: an answer about a weakened image and one with errors for each sample. The image of
/// sample 6 is missing.
fn files(dir: &Path) -> [PathBuf; 2] {
    let mut lines = [Vec::new(), Vec::new()];
    for SftSample { id, .. } in many() {
        let line = |kind: &str, text: String| {
            serde_json::json!({"id": id, "variant": 0, "type": kind, "response": text}).to_string()
        };
        lines[0].push(match id.as_str() {
            "6" => serde_json::json!({"id": id, "variant": 0, "type": "mllm-hal", "reason": "image-missing", "detail": "x"})
                .to_string(),
            _ => line("mllm-hal", "A garden.".into()),
        });
        lines[1].push(line("llm-hal", format!("A fox number {id} on a mat.")));
    }
    let paths = ["weakened.jsonl", "injected.jsonl"].map(|name| dir.join(name));
    for (path, lines) in paths.iter().zip(lines) {
        fs::write(path, lines.join("\n") + "\n").unwrap();
    }
    paths
}

fn with_contrasts(choice: ContrastChoice) -> RunConfig {
    let mut config = config(3);
    config.pair.contrast = choice;
    config
}

fn pairs_in(dir: &Path, config: &RunConfig, files: &[PathBuf], out: &str) -> Vec<u8> {
    let out = dir.join(out);
    let answers = files.iter().map(|file| StageAnswers::read(file).unwrap()).collect();
    pair(config, &many(), answers, &out, ExistingPairs::Refuse, &mut ()).unwrap();
    fs::read(out).unwrap()
}

#[test]
fn contrasts_do_not_depend_on_files_and_the_order_of_answers() {
    let dir = tempfile::tempdir().unwrap();
    let whole = files(dir.path());
    // two shards of each stage, with their lines the other way round
    let mut shards = Vec::new();
    for path in &whole {
        let text = fs::read_to_string(path).unwrap();
        for part in 0..2 {
            let lines: Vec<&str> = text.lines().skip(part).step_by(2).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            let name = format!("{part}-{}", path.file_name().unwrap().to_str().unwrap());
            shards.push(dir.path().join(name));
            fs::write(shards.last().unwrap(), lines.join("\n") + "\n").unwrap();
        }
    }
    let mut all = Vec::new();
    for choice in [ContrastChoice::None, ContrastChoice::Similar, ContrastChoice::Random] {
        let config = with_contrasts(choice);
        let name = choice.as_str();
        let expected = pairs_in(dir.path(), &config, &whole, &format!("{name}.jsonl"));
        assert_eq!(pairs_in(dir.path(), &config, &shards, &format!("{name}-shards.jsonl")), expected);
        let out = dir.path().join(format!("{name}-files.jsonl"));
        let index = AnswerIndex::read(shards.iter().map(PathBuf::as_path)).unwrap();
        let (data, out_files) = (data(dir.path()), PairFiles::new(&out, None));
        pair_files(&config, &data, index, out_files, ExistingPairs::Refuse, None, &mut ()).unwrap();
        assert_eq!(fs::read(&out).unwrap(), expected);
        // the finished file is accepted, and one with other contrasts is not
        let index = AnswerIndex::read(whole.iter().map(PathBuf::as_path)).unwrap();
        pair_files(&config, &data, index, out_files, ExistingPairs::Refuse, None, &mut ()).unwrap();
        let index = AnswerIndex::read(whole.iter().map(PathBuf::as_path)).unwrap();
        let mut other = with_contrasts(ContrastChoice::Random);
        other.seed = bpo::Seed(4);
        let differs =
            pair_files(&other, &data, index, out_files, ExistingPairs::Refuse, None, &mut ()).unwrap_err();
        assert!(matches!(differs, BpoError::Differs { .. }), "{differs}");
        all.push(read_pairs(&out).unwrap().pairs);
    }
    let [none, similar, random] = &all[..] else { panic!("three files") };
    assert!(none.len() == 120 && none.iter().all(|pair| pair.contrast().is_none()));
    let samples = many();
    for pairs in [similar, random] {
        for (pair, plain) in pairs.iter().zip(none) {
            let without =
                PreferencePair { contrast_images: Vec::new(), contrast_answer: None, ..pair.clone() };
            assert_eq!(without, *plain, "nothing else differs");
            // the only sample with its question
            let Some((images, answer)) = pair.contrast() else {
                assert!(pair.id.starts_with("60:"), "{}", pair.id);
                continue;
            };
            pair.check_contrast().unwrap();
            let sample = samples.iter().find(|sample| sample.images == images).unwrap();
            assert_eq!((sample.answer.as_str(), &sample.prompt), (answer, &pair.prompt));
            assert_ne!(sample.id, "6", "its image is missing");
        }
    }
    // similar answers are about the same thing
    let is_same = |pair: &PreferencePair| {
        let of = |text: &str| THINGS.into_iter().find(|thing| text.contains(thing));
        pair.contrast().is_some_and(|(_, answer)| of(answer) == of(&pair.chosen))
    };
    assert_eq!(similar.iter().filter(|pair| is_same(pair)).count(), 118);
    assert!(random.iter().filter(|pair| is_same(pair)).count() < 60);
}

#[test]
fn contrasts_are_on_the_side_of_their_pair() {
    let dir = tempfile::tempdir().unwrap();
    let whole = files(dir.path());
    let (train, eval) = (dir.path().join("train.jsonl"), dir.path().join("eval.jsonl"));
    for choice in [ContrastChoice::Similar, ContrastChoice::Random] {
        let mut config = with_contrasts(choice);
        config.pair.eval_percent = Some(30.0);
        let index = AnswerIndex::read(whole.iter().map(PathBuf::as_path)).unwrap();
        let files = PairFiles::new(&train, Some(&eval));
        pair_files(&config, &data(dir.path()), index, files, ExistingPairs::Refuse, None, &mut ()).unwrap();
        let images = |path: &Path| -> HashSet<String> {
            let pairs = read_pairs(path).unwrap().pairs;
            assert!(pairs.iter().filter(|pair| pair.contrast().is_some()).count() > 10);
            pairs.iter().flat_map(PreferencePair::all_images).map(str::to_owned).collect()
        };
        assert!(images(&train).is_disjoint(&images(&eval)));
        fs::remove_file(&train).unwrap();
        fs::remove_file(&eval).unwrap();
    }
}

#[test]
fn contrasts_need_annotated_answers() {
    let mut config = with_contrasts(ContrastChoice::Similar);
    config.validate().unwrap();
    config.chosen = ChosenAnswer::Own;
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("`pair.contrast`") && error.contains("own"), "{error}");
}

/// Data without repeated questions is refused before any answer is made, and by the pair stage.
#[test]
fn contrasts_need_repeated_questions() {
    let dir = tempfile::tempdir().unwrap();
    let whole = files(dir.path());
    let mut samples = many();
    let config = with_contrasts(ContrastChoice::Similar);
    check_contrasts(&config, &samples).unwrap();
    // the same answer everywhere is no contrast
    samples.iter_mut().for_each(|sample| sample.answer = "A mat.".into());
    check_contrasts(&config, &samples).unwrap_err();
    let mut samples = many();
    samples.iter_mut().for_each(|sample| sample.prompt = format!("{} {}", sample.prompt, sample.id));
    check_contrasts(&with_contrasts(ContrastChoice::None), &samples).unwrap();
    let error = check_contrasts(&config, &samples).unwrap_err();
    assert!(matches!(error, BpoError::NoContrasts { questions: 61, .. }) && !error.is_usage(), "{error}");
    let error = error.to_string();
    assert!(error.contains("\"similar\"") && error.contains("--contrast"), "{error}");
    let answers = whole.iter().map(|file| StageAnswers::read(file).unwrap()).collect();
    let out = dir.path().join("pairs.jsonl");
    let error = pair(&config, &samples, answers, &out, ExistingPairs::Refuse, &mut ()).unwrap_err();
    assert!(matches!(error, BpoError::NoContrasts { .. }) && !out.exists(), "{error}");
}
