//! Matching of answers to POPE's questions.

use bpo_eval::{EvalError, PopeItem, PopeLabel, Scored, read_pope_answers};

use crate::support::Files;

/// Scores answers to the questions of [`popular`].
fn score(
    files: &Files,
    answers: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<Scored<PopeItem>, EvalError> {
    read_pope_answers(
        &files.write_lines("popular.jsonl", popular()),
        &files.write_lines("answers.jsonl", answers),
    )
}

/// Two images with two questions each, numbered from 1 as every split of POPE is.
fn popular() -> [&'static str; 4] {
    [
        r#"{"question_id": 1, "image": "COCO_val2014_000000000042.jpg", "text": "Is there a dog in the image?", "label": "yes"}"#,
        r#"{"question_id": 2, "image": "COCO_val2014_000000000042.jpg", "text": "Is there a car in the image?", "label": "no"}"#,
        r#"{"question_id": 3, "image": "COCO_val2014_000000000007.jpg", "text": "Is there a cup in the image?", "label": "yes"}"#,
        r#"{"question_id": 4, "image": "COCO_val2014_000000000007.jpg", "text": "Is there a car in the image?", "label": "no"}"#,
    ]
}

fn texts(scored: Scored<PopeItem>) -> Vec<String> {
    scored.items.into_iter().map(|item| item.text).collect()
}

/// An answer as LLaVA writes it.
fn llava(id: u64, object: &str, text: &str) -> String {
    let prompt =
        format!("Is there a {object} in the image?\\nAnswer the question using a single word or phrase.");
    format!(
        r#"{{"question_id": {id}, "prompt": "{prompt}", "text": "{text}", "answer_id": "x{id}", "model_id": "llava", "metadata": {{}}}}"#
    )
}

#[test]
fn answers_match_by_id_and_by_order() {
    let files = Files::new();
    let questions = files.write_lines(
        "questions.jsonl",
        [
            r#"{"question_id": 1, "image": "a", "text": "?", "label": "yes"}"#,
            r#"{"question_id": 2, "image": "a", "text": "?", "label": "no"}"#,
        ],
    );
    let read = |lines: &[&str]| read_pope_answers(&questions, &files.write_lines("answers.jsonl", lines));
    let numbered = [r#"{"question_id": 2, "text": "No"}"#, r#"{"question_id": 1, "text": "Yes"}"#];
    assert_eq!(texts(read(&numbered).unwrap()), ["Yes", "No"]);
    assert_eq!(texts(read(&[r#"{"answer": "yes"}"#, r#"{"answer": "two"}"#]).unwrap()), ["yes", "two"]);
    let few = read(&[r#"{"answer": "one"}"#]);
    assert!(matches!(few, Err(EvalError::Count { questions: 2, answers: 1 })), "{few:?}");
    let error = read(&[r#"{"id": 2, "text": "No"}"#, r#"{"id": 2, "text": "Yes"}"#]).unwrap_err().to_string();
    assert!(error.contains("answers.jsonl: record 2") && error.contains("\"2\""), "{error}");
    let label = files.write_lines("label.jsonl", [r#"{"text": "?", "label": "perhaps"}"#]);
    let error =
        read_pope_answers(&label, &files.write_lines("answers.jsonl", numbered)).unwrap_err().to_string();
    assert!(error.contains("label.jsonl: record 1") && error.contains("perhaps"), "{error}");
    let category =
        files.write_lines("llava.jsonl", [r#"{"question_id": 1, "text": "?", "category": "popular"}"#]);
    let error =
        read_pope_answers(&category, &files.write_lines("answers.jsonl", numbered)).unwrap_err().to_string();
    assert!(error.contains("llava.jsonl: record 1: no label") && error.contains("coco_pope_"), "{error}");
}

#[test]
fn question_rows_with_an_added_answer_key() {
    let files = Files::new();
    let rows = |key: &str, says: [&str; 4]| -> Vec<String> {
        popular()
            .iter()
            .zip(says)
            .map(|(row, says)| row.replace("}", &format!(r#", "{key}": "{says}"}}"#)))
            .collect()
    };
    for key in ["answer", "response", "output", "caption"] {
        let scored = score(&files, rows(key, ["no", "yes", "no", "yes"])).unwrap();
        assert_eq!(texts(scored), ["no", "yes", "no", "yes"], "{key}");
    }
    // in any order, with and without ids
    let mut reversed = rows("answer", ["yes", "no", "Yes", "No"]);
    reversed.reverse();
    assert_eq!(texts(score(&files, &reversed).unwrap()), ["yes", "no", "Yes", "No"]);
    let nameless = reversed.iter().map(|row| row.replace("question_id", "number"));
    assert_eq!(texts(score(&files, nameless).unwrap()), ["yes", "no", "Yes", "No"]);
    // the questions alone are no answers
    let error = score(&files, popular()).unwrap_err().to_string();
    assert!(error.contains("answers.jsonl: record 1: the text is the question"), "{error}");
}

#[test]
fn answers_to_another_split_are_an_error() {
    let files = Files::new();
    // the same ids and images; the objects that are not there differ
    let adversarial = [("dog", "Yes"), ("cat", "No"), ("cup", "Yes"), ("fork", "No")];
    let answers =
        |first: u64| adversarial.iter().zip(first..).map(|((object, text), id)| llava(id, object, text));
    let error = score(&files, answers(1)).unwrap_err();
    assert!(
        matches!(&error, EvalError::OtherQuestion { record: 2, difference, .. } if (difference.question, difference.what) == (2, "question")),
        "{error}"
    );
    let error = error.to_string();
    assert!(error.contains("Is there a cat") && error.contains("Is there a car"), "{error}");

    let questions = files.write_lines(
        "adversarial.jsonl",
        popular().iter().enumerate().map(|(i, row)| match i {
            1 => row.replace("a car", "a cat"),
            3 => row.replace("a car", "a fork"),
            _ => (*row).to_owned(),
        }),
    );
    // all splits in one file: those of other splits are left, and listed
    let all = files.write_lines("all.jsonl", answers(1).chain(answers(10_000_001)));
    let scored = read_pope_answers(&questions, &all).unwrap();
    assert_eq!(scored.unmatched.len(), 4);
    assert_eq!(texts(scored), ["Yes", "No", "Yes", "No"]);
    // ids alone do not show that these are the answers
    let bare = |id: u64| format!(r#"{{"question_id": {id}, "text": "No"}}"#);
    let error = score(&files, (1..=4).chain(10_000_001..=10_000_004).map(bare)).unwrap_err();
    assert!(
        matches!(&error, EvalError::Uncovered { missing, unasked, .. } if missing.is_empty() && unasked.len() == 4),
        "{error}"
    );
    let error = score(&files, [1, 2, 3].map(bare)).unwrap_err().to_string();
    assert!(error.contains("1 questions have no answer (4)"), "{error}");
}

#[test]
fn image_and_question_match_where_ids_do_not() {
    let files = Files::new();
    let answer = |id: u64, image: &str, object: &str, text: &str| {
        format!(
            r#"{{"question_id": {id}, "image": "{image}", "question": "Is there a {object} in the image? Please answer yes or no.", "answer": "{text}"}}"#
        )
    };
    let other_ids = [
        answer(2, "42", "dog", "Yes"),
        answer(1, "val2014/COCO_val2014_000000000042.jpg", "car", "No"),
        answer(901, "000000000007.jpg", "car", "No, none"),
        answer(902, "7", "cup", "Yes, one"),
    ];
    assert_eq!(texts(score(&files, &other_ids).unwrap()), ["Yes", "No", "Yes, one", "No, none"]);
    // two answers to one question that differ: neither counts
    let twice = other_ids.iter().cloned().chain([answer(903, "42", "dog", "No")]);
    let error = score(&files, twice).unwrap_err();
    assert!(matches!(error, EvalError::OtherQuestion { record: 2, .. }), "{error}");
    // another image with the right id
    let mut wrong = other_ids.map(|line| line.replace(r#""image": "42""#, r#""image": "43""#));
    wrong.swap(0, 1);
    let error =
        score(&files, wrong.iter().map(|line| line.replace("\"question_id\": 2", "\"question_id\": 5")))
            .unwrap_err();
    assert!(matches!(error, EvalError::OtherQuestion { record: 1, .. }), "{error}");
}

#[test]
fn ids_in_only_some_records_are_an_error() {
    let files = Files::new();
    let lines = |without: usize| {
        (0..4).map(move |i| match i == without {
            true => r#"{"text": "Yes"}"#.to_owned(),
            false => format!(r#"{{"question_id": {}, "text": "No"}}"#, i + 1),
        })
    };
    let error = score(&files, lines(2)).unwrap_err().to_string();
    assert!(
        error.contains("answers.jsonl: record 3: no question_id or id, which 3 of 4 records have"),
        "{error}"
    );
    let questions = files.write_lines(
        "some.jsonl",
        popular().iter().enumerate().map(|(i, row)| match i {
            1 => row.replace("\"question_id\": 2, ", ""),
            _ => (*row).to_owned(),
        }),
    );
    let error =
        read_pope_answers(&questions, &files.write_lines("answers.jsonl", lines(9))).unwrap_err().to_string();
    assert!(error.contains("some.jsonl: record 2"), "{error}");
    // three splits in one file, each counted from 1
    let questions = files.write_lines("twice.jsonl", popular().iter().chain(&popular()));
    let error =
        read_pope_answers(&questions, &files.write_lines("answers.jsonl", lines(9))).unwrap_err().to_string();
    assert!(
        error.contains("twice.jsonl: record 5: the id \"1\" repeats that of an earlier record"),
        "{error}"
    );
}

#[test]
fn unclear_answers_only_are_an_error() {
    let files = Files::new();
    let says =
        |text: &str| score(&files, (1..=4).map(|id| format!(r#"{{"question_id": {id}, "text": "{text}"}}"#)));
    let error = says("A dog on a lawn.").unwrap_err().to_string();
    assert!(
        error.contains(
            "answers.jsonl: none of 4 answers is read as yes or no; the first is \"A dog on a lawn.\""
        ),
        "{error}"
    );
    assert!(says("NO").is_err());
    let scored = says("No.").unwrap();
    assert_eq!(scored.items[0].label, PopeLabel::Yes);
}
