use std::path::PathBuf;

use bpo_pairs::Untrusted;

use super::*;

const HOSTILE: &str = "\u{1b}]0;x\u{7}\u{9b}31m\u{7f}\r\nerror: forged\u{85}\u{2028}\u{202e}\u{2066}\u{feff}";

/// Only the line feeds of the messages themselves are left: those before indented lines.
#[track_caller]
fn check(error: &dyn std::error::Error) {
    let shown = error.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(!lines.concat().chars().any(Untrusted::is_unsafe), "{shown:?}");
    assert!(lines.iter().skip(1).all(|line| line.starts_with("  ")), "{shown}");
    assert!(shown.contains("forged"), "the text is not in the message: {shown}");
}

#[test]
fn texts_of_checkpoints_cannot_control_a_terminal() {
    let (path, text) = (|| PathBuf::from(HOSTILE), || HOSTILE.to_owned());
    let dir = path;
    let texts = || vec![text()];
    let problems = WeightProblems {
        missing: texts(),
        misshapen: vec![(text(), vec![1], vec![2])],
        mistyped: vec![(text(), text())],
        repeated: texts(),
        extra: texts(),
        hints: Vec::new(),
    };
    let errors = [
        ModelError::Io { path: path(), source: std::io::Error::other(HOSTILE) },
        ModelError::Safetensors { path: path(), reason: text() },
        ModelError::NoWeights { dir: dir() },
        ModelError::NoShard { path: path(), index: path() },
        ModelError::Json(JsonError::GitLfs { path: path() }),
        ModelError::Pickle { path: path(), convert: "  convert(\"a\")".to_owned() },
        ModelError::NoConfig { dir: dir() },
        ModelError::Family { path: path(), found: text(), supported: "llava".to_owned() },
        ModelError::OriginalLlava { path: path(), found: text() },
        ModelError::Quantized { path: path(), key: "quantization_config".to_owned(), method: text() },
        ModelError::Weights { dir: dir(), problems: Box::new(problems) },
        ModelError::Unsupported { path: path(), key: text(), found: text(), supported: "yes".to_owned() },
        ModelError::OverLimit { path: path(), key: text(), found: 2, limit: 1 },
        ModelError::Adapter { path: path(), reason: text() },
        ModelError::Setting { key: "r", expected: "a number", found: text() },
        ModelError::TargetPattern { key: "target_modules", pattern: text(), source: HOSTILE.into() },
        ModelError::NoTarget { pattern: text(), known: texts() },
        ModelError::NotAdaptable { pattern: text(), module: text() },
        ModelError::NotFiniteWeights { path: path(), names: texts() },
        ModelError::SameTokens { text: text(), other: text() },
        ModelError::Image { name: text(), source: HOSTILE.into() },
        ModelError::Json(JsonError::Value { path: path(), key: text(), expected: text(), found: text() }),
    ];
    errors.iter().for_each(|error| check(error));
    let origin = text;
    let errors = [
        ProcessorError::NoImageProcessor { dir: dir() },
        ProcessorError::NoTokenizer { path: path() },
        ProcessorError::Tokenizer { path: path(), source: HOSTILE.into() },
        ProcessorError::Tokenize { source: HOSTILE.into() },
        ProcessorError::NoToken { dir: dir(), token: "image", hint: text() },
        ProcessorError::TemplateDropsText { origin: origin() },
        ProcessorError::NoSystem { origin: origin() },
        ProcessorError::AnswerNotAppended { origin: origin(), prompt: text(), with_answer: text() },
        ProcessorError::NoImageInTemplate { origin: origin() },
        ProcessorError::EosInAnswer { token: text() },
        ProcessorError::SpecialToken { place: "answer", token: text() },
    ];
    errors.iter().for_each(|error| check(error));
}
