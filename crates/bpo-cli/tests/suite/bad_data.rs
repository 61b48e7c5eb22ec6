//! Data and images that cannot be used.

use std::fs;
use std::path::Path;

use crate::common::{
    bpo, checkpoint, generate, photos, read_lines, run_arguments, score, tiny, write_pairs, write_samples,
};

#[test]
fn truncated_data_error_has_the_position() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("cut.json");
    let whole = fs::read_to_string(photos().join("llava.json")).unwrap();
    let cut = whole.find("\"rocket-0\"").unwrap();
    fs::write(&data, &whole[..cut]).unwrap();
    let line = format!("line {}", whole[..cut].lines().count());
    bpo(arguments!["inject", "--data", &data, "--out", dir.path().join("out.jsonl")])
        .fails_naming(&["cut.json", "record 4", &line, "column"]);
    fs::write(&data, "").unwrap();
    bpo(arguments!["inject", "--data", &data, "--out", dir.path().join("out.jsonl")])
        .fails_naming(&["cut.json is empty"]);
    fs::write(&data, "[]").unwrap();
    bpo(arguments!["inject", "--data", &data, "--out", dir.path().join("out.jsonl")])
        .fails_naming(&["cut.json", "no sample is left (nothing skipped)"]);
}

#[test]
fn truncated_pairs_error_has_the_position() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = dir.path().join("cut.jsonl");
    write_pairs(
        &pairs,
        &[("a", "cat.jpg", "What?", "A cat.", "A dog."), ("b", "cat.jpg", "What?", "A cat.", "A dog.")],
    );
    let whole = fs::read_to_string(&pairs).unwrap();
    fs::write(&pairs, &whole[..whole.len() - 9]).unwrap();
    score(&tiny(), &pairs, vec![]).fails_naming(&["cut.jsonl", "record 2, line 2, column"]);
}

/// A BMP file of a width and a height, with grey pixels.
fn bitmap(width: u32, height: u32) -> Vec<u8> {
    let row = (width * 3).next_multiple_of(4);
    let mut bytes = b"BM".to_vec();
    for word in [54 + row * height, 0, 54, 40, width, height, 1 | 24 << 16, 0, row * height, 2835, 2835, 0, 0]
    {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(54 + (row * height) as usize, 128);
    bytes
}

#[test]
fn unusable_images_are_skipped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::copy(photos().join("cat.jpg"), images.join("cat.jpg")).unwrap();
    fs::write(images.join("zero.jpg"), "").unwrap();
    fs::write(images.join("text.jpg"), "no picture at all").unwrap();
    fs::write(images.join("wide.bmp"), bitmap(30_000, 1)).unwrap();
    fs::write(dir.path().join("outside.bmp"), bitmap(8, 8)).unwrap();
    let jpeg = fs::read(photos().join("coins.jpg")).unwrap();
    fs::write(images.join("half.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    let absolute = images.join("cat.jpg");
    let mut cases = vec![
        ("good", "cat.jpg", None),
        ("missing", "unicorn.jpg", Some("image-missing")),
        ("zero", "zero.jpg", Some("image-unreadable")),
        ("text", "text.jpg", Some("image-unreadable")),
        ("half", "half.jpg", Some("image-unreadable")),
        ("wide", "wide.bmp", Some("image-too-large")),
        ("parent", "../outside.bmp", Some("image-outside")),
        ("absolute", absolute.to_str().unwrap(), Some("image-outside")),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../outside.bmp", images.join("link.bmp")).unwrap();
        cases.push(("link", "link.bmp", Some("image-outside")));
    }
    let samples: Vec<_> = cases.iter().map(|(id, image, _)| (*id, *image, "What is it?", "A cat.")).collect();
    let data = dir.path().join("llava.json");
    write_samples(&data, &samples);
    let out = dir.path().join("weakened.jsonl");
    bpo(arguments![
        "weaken",
        "--model",
        tiny(),
        "--data",
        data,
        "--images",
        images,
        "--out",
        &out,
        "--max-new-tokens",
        "2",
        "--samples",
        "2",
    ])
    .succeeds()
    .says(&format!("2 answers, {} skipped", 2 * (cases.len() - 1)))
    .says("image too large: 2")
    .says("skipped: missing: ")
    .says("skipped: missing, answer 2: ");
    let lines = read_lines(&out);
    assert_eq!(lines.len(), 2 * cases.len());
    let twice = cases.iter().flat_map(|case| [(0, case), (1, case)]);
    for ((variant, (id, image, reason)), line) in twice.zip(lines) {
        assert_eq!((&line["id"], line["variant"].as_u64().unwrap_or(0)), (&(*id).into(), variant));
        assert_eq!(line["reason"].as_str(), *reason, "{line}");
        let detail = line["detail"].as_str();
        assert!(reason.is_none() || detail.is_some_and(|detail| detail.contains(image)), "{line}");
    }
}

#[test]
fn missing_image_root_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = photos().join("llava.json");
    bpo(arguments![
        "weaken",
        "--model",
        tiny(),
        "--data",
        data,
        "--images",
        dir.path().join("nowhere"),
        "--out",
        dir.path().join("out.jsonl"),
    ])
    .fails_naming(&["image root", "nowhere"]);
}

#[test]
fn run_continues_after_a_wrong_image_root() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("weakened.jsonl");
    let weaken = |images: &Path| {
        let data = photos().join("llava.json");
        bpo(arguments![
            "weaken",
            "--model",
            tiny(),
            "--data",
            data,
            "--images",
            images,
            "--out",
            &out,
            "--max-new-tokens",
            "2",
        ])
    };
    weaken(dir.path()).fails_naming(&[
        "no image of the data can be used",
        "image missing: 7",
        "cat.jpg",
        "--images",
    ]);
    weaken(&photos()).succeeds().says("weaken: 7 answers");
}

#[test]
fn too_long_questions_and_answers_are_skipped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let long = "why ".repeat(checkpoint::context() + 1);
    let data = dir.path().join("llava.json");
    write_samples(
        &data,
        &[
            ("good", "cat.jpg", "What color are its eyes?", "The eyes of the cat are green."),
            ("long", "cat.jpg", &long, "The eyes of the cat are green."),
            ("mute", "cat.jpg", "What is it?", " \n"),
        ],
    );
    let out = dir.path().join("run");
    bpo(arguments![
        "run",
        "--model",
        tiny(),
        "--data",
        data,
        "--images",
        photos(),
        "--out",
        &out,
        "--max-new-tokens",
        "4",
        "--epochs",
        "1",
        "--lora-r",
        "2",
    ])
    .succeeds()
    .says("empty answer: 1")
    .says("2 skipped in total");
    let lines = read_lines(out.join("skipped.jsonl"));
    let ids: Vec<_> =
        lines.iter().map(|line| (line["stage"].as_str().unwrap(), line["id"].as_str().unwrap())).collect();
    assert_eq!(ids, [("data", "mute"), ("weaken", "long")]);
    assert!(
        lines[1]["detail"].as_str().unwrap().contains(&checkpoint::context().to_string()),
        "{}",
        lines[1]
    );
}

#[test]
fn too_long_pairs_are_skipped_before_training() {
    let dir = tempfile::tempdir().unwrap();
    let long = "why ".repeat(checkpoint::context() + 1);
    let pairs = dir.path().join("pairs.jsonl");
    write_pairs(
        &pairs,
        &[
            ("good", "cat.jpg", "What is it?", "A cat.", "A dog."),
            ("long", "cat.jpg", &long, "A cat.", "A dog."),
            ("mute", "cat.jpg", "What is it?", "A cat.", ""),
            ("gone", "unicorn.jpg", "What is it?", "A cat.", "A dog."),
        ],
    );
    let train = |more: &[&str]| {
        let arguments = arguments![
            "train",
            "--model",
            tiny(),
            "--pairs",
            &pairs,
            "--images",
            photos(),
            "--out",
            dir.path().join("run"),
            "--epochs",
            "1",
            "--lora-r",
            "2",
        ];
        bpo(arguments.into_iter().chain(more.iter().map(Into::into)))
    };
    // a limit that leaves nothing of any answer
    train(&["--max-length", "8"]).fails_naming(&[
        "no pair to train on (3 skipped; the first, good: ",
        "of them of images, and the answer",
        "`model.max_length` (--max-length) is 8",
        "skipped: mute: empty answer",
    ]);
    train(&[])
        .succeeds()
        .says("train: 1 pair trained on, 2 skipped (image missing: 1, model cannot take the pair: 1)")
        .says("skipped: long: ")
        .says("skipped: mute: ")
        .says("unicorn.jpg");
}

/// A run whose samples cannot be trained on stops before its first stage.
#[test]
fn lengths_are_checked_before_the_first_stage() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let run = |length: &str| bpo(run_arguments(&out).into_iter().chain(arguments!["--max-length", length]));
    run("8").fails_naming(&["llava.json", "no sample can be used", "`model.max_length` (--max-length) is 8"]);
    assert!(!out.exists());
}

#[test]
fn answers_with_the_same_tokens_make_no_pair() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = dir.path().join("pairs.jsonl");
    write_pairs(
        &pairs,
        &[
            ("same", "cat.jpg", "What?", "A cat.", "A cat.</s>"),
            ("good", "cat.jpg", "What?", "A cat.", "A dog."),
        ],
    );
    bpo(arguments![
        "train",
        "--model",
        tiny(),
        "--images",
        photos(),
        "--pairs",
        &pairs,
        "--out",
        dir.path().join("out"),
        "--max-steps",
        "1",
        "--lora-r",
        "4",
        "--lora-alpha",
        "8"
    ])
    .says("skipped: same: another answer has the same tokens");
}

#[test]
fn identical_and_missing_answers_make_no_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let data = photos().join("llava.json");
    bpo(arguments!["inject", "--data", &data, "--out", at("injected.jsonl")]).succeeds();
    let pair = |answers: [&Path; 2]| {
        bpo(arguments![
            "pair",
            "--data",
            &data,
            "--answers",
            answers[0],
            "--answers",
            answers[1],
            "--out",
            at("pairs.jsonl")
        ])
    };
    pair([&at("injected.jsonl"), &at("injected.jsonl")])
        .fails_naming(&["injected.jsonl: line 1", "was used before"]);
    fs::write(at("none.jsonl"), "").unwrap();
    fs::write(at("nothing.jsonl"), "").unwrap();
    pair([&at("none.jsonl"), &at("nothing.jsonl")]).fails_naming(&["no pair is left"]);
}

#[test]
fn empty_question_file_and_repeated_id_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let questions = dir.path().join("questions.json");
    let ask = |text: &str| {
        fs::write(&questions, text).unwrap();
        generate(&questions, vec![])
    };
    ask("[]").fails_naming(&["questions.json", "no question is left"]);
    let question = "{\"id\": \"a\", \"image\": \"cat.jpg\", \"prompt\": \"What?\"}\n";
    ask(&question.repeat(2)).fails_naming(&["two questions have the id \"a\""]);
}
