//! Messages with text from files: no text of a file can control a terminal or begin a line.

use std::io;
use std::path::PathBuf;

use bpo_eval::{EvalError, GradingError, WordsError};
use bpo_pairs::{OverLimit, Untrusted};

const HOSTILE: &str = "\u{1b}]0;x\u{7}\u{9b}31m\u{7f}\r\nerror: forged\u{85}\u{2028}\u{202e}\u{2066}\u{feff}";

#[test]
fn no_message_has_a_character_that_controls_a_terminal() {
    let text = || HOSTILE.to_owned();
    let (texts, path) = (|| vec![HOSTILE.to_owned()], || PathBuf::from(HOSTILE));
    let (record, id) = (1, 1);
    let json = serde_json::from_str::<u8>("x").unwrap_err();
    let other = || serde_json::from_str::<u8>("x").unwrap_err();
    let errors = [
        EvalError::Read { path: path(), source: io::Error::other("source") },
        EvalError::Json { path: path(), source: json },
        EvalError::NoKey { path: path(), record, keys: &["answer"] },
        EvalError::NoText { path: path(), record, key: "answer", found: "a number" },
        EvalError::OnlyQuestion { path: path(), record },
        EvalError::TwoAnswers { path: path(), record, first: "answer", second: "text" },
        EvalError::CocoKind { path: path(), found: text() },
        EvalError::CaptionsNeedTable { path: path() },
        EvalError::NoObjects { path: path() },
        EvalError::UnknownObjects { examples: texts() },
        EvalError::NoSuchId { path: path(), record, what: "image", id },
        EvalError::Ambiguous { word: text(), first: text(), second: text() },
        EvalError::Label { path: path(), record, found: text() },
        EvalError::NoLabel { path: path(), record, expected: "a label" },
        EvalError::NoScore { path: path(), record, found: "no score" },
        EvalError::NoNames { path: path(), record, key: "objects", found: "a string" },
        EvalError::FirstWordOfScore { path: path() },
        EvalError::AmberType { path: path(), record, found: text() },
        EvalError::NoAnnotation { path: path(), record, id: text(), annotations: path() },
        EvalError::Repeated { path: path(), record, id: text() },
        EvalError::NoId { path: path(), record, with: 1, records: 2 },
        EvalError::Uncovered { questions: path(), answers: path(), missing: texts(), unasked: texts() },
        EvalError::Unclear { path: path(), answers: 1, first: text(), exact: true },
        GradingError::MmVetQuestions { path: path(), source: other() }.into(),
        GradingError::EmptyId { path: path() }.into(),
        GradingError::NoCapability { path: path(), id: text() }.into(),
        GradingError::MmVetGrades { path: path(), source: other() }.into(),
        GradingError::Grade { path: path(), id: text(), found: 2.0 }.into(),
        GradingError::Runs { path: path(), id: text(), found: 1, expected: 2 }.into(),
        GradingError::MmhalKind { path: path(), record, found: text() }.into(),
        GradingError::MmhalCount { path: path(), found: 9 }.into(),
        GradingError::Unanswered { path: path() }.into(),
        GradingError::EmptyAnswer { path: path(), record: 1 }.into(),
        EvalError::NoAnswers { path: path(), records: 1 },
        GradingError::Value { path: path(), record, key: "question", found: "null", expected: "a text" }
            .into(),
        GradingError::Reply { path: path(), record, found: "a number" }.into(),
        WordsError::Relation { path: path(), source: other() }.into(),
        WordsError::NotRelated { path: path(), record, word: text(), relation: path() }.into(),
        WordsError::Vector { path: path(), line: 1, found: "one field".into() }.into(),
        WordsError::TwoVectors { path: path(), line: 1, word: text() }.into(),
        WordsError::NoVectors { path: path(), relation: path() }.into(),
        EvalError::OverLimit(OverLimit { name: text(), found: 2, limit: 1 }),
        EvalError::Nothing { why: text() },
    ];
    for error in errors {
        let shown = error.to_string();
        assert!(!shown.chars().any(Untrusted::is_unsafe), "{shown:?}");
        assert!(shown.contains("forged"), "the text is not in the message: {shown}");
    }
}

/// The mismatch of an answer and its question comes from both files.
#[test]
fn an_answer_to_another_question_shows_both_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let [questions, answers] = ["questions.json", "answers.json"].map(|name| dir.path().join(name));
    let record = |image: &str| serde_json::json!([{"question_id": 1, "image": image, "text": HOSTILE, "label": "yes", "answer": "yes"}]);
    std::fs::write(&questions, record(HOSTILE).to_string()).unwrap();
    std::fs::write(&answers, record("other.jpg").to_string()).unwrap();
    let error = bpo_eval::read_pope_answers(&questions, &answers).unwrap_err();
    let shown = bpo_pairs::chain(&error);
    assert!(!shown.chars().any(Untrusted::is_unsafe), "{shown:?}");
}
