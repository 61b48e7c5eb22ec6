//! The kinds of files of this program, for the error of a command that gets another kind.

use std::fmt;
use std::path::Path;

use serde_json::Map;

use super::Format;
use super::detect::detect;
use super::fields::Fields;
use super::input::first_record;
use super::value::Value;
use crate::error::PairsError;
use crate::files::read_bytes;
use crate::limits::Limits;
use crate::record::CompletionKind;

/// What a file that bpo reads or writes holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// Annotated data: conversations without rejected answers.
    Samples,
    /// Pairs, or scored completions, of any [`Format`].
    Pairs,
    /// Questions about images, without answers.
    Questions,
    /// Answers of `bpo weaken`.
    Weakened,
    /// Answers of `bpo inject`.
    Injected,
    /// Answers of `bpo generate`.
    Generated,
    /// Log-probabilities of `bpo score`.
    Scores,
    /// The skipped records of a run: `skipped.jsonl`.
    Skipped,
    /// The manifest of a run or of an answer file.
    Manifest,
    /// A log of training: metrics, evaluations or samples.
    Log,
}

impl FileKind {
    /// Returns the kind of the file that a record is from, or `None` if it has the keys of no kind.
    pub fn of_record(record: &Map<String, serde_json::Value>) -> Option<Self> {
        Self::of_fields(&record.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect())
    }

    pub(super) fn of_fields(fields: &Fields) -> Option<Self> {
        let all = |keys: &[&str]| keys.iter().all(|key| fields.has(key));
        if let Some(format) = detect(fields) {
            return Some(if format == Format::Llava { Self::Samples } else { Self::Pairs });
        }
        if all(&["stage", "id", "reason", "detail"]) {
            Some(Self::Skipped)
        } else if all(&["id", "type"]) && (fields.has("response") || all(&["reason", "detail"])) {
            let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
            match CompletionKind::from(kind.to_owned()) {
                CompletionKind::ImageWeakened | CompletionKind::Own => Some(Self::Weakened),
                CompletionKind::ErrorInjected => Some(Self::Injected),
                _ => None,
            }
        } else if all(&["id", "prompt", "text", "finish"]) {
            Some(Self::Generated)
        } else if all(&["id", "chosen_logp", "rejected_logp"]) {
            Some(Self::Scores)
        } else if all(&["version", "stages"]) {
            Some(Self::Manifest)
        } else if fields.has("step") && ["loss", "eval_loss", "answer"].into_iter().any(|key| fields.has(key))
        {
            Some(Self::Log)
        } else if is_question(fields) {
            Some(Self::Questions)
        } else {
            None
        }
    }

    /// Returns the kind of a regular file, from its first record. Returns `None` for a file of no
    /// known kind, and for one that cannot be read.
    pub fn of_file(path: &Path) -> Option<Self> {
        // a pipe can be read only once
        path.metadata().ok().filter(|there| there.is_file())?;
        let mut found = None;
        // a file that cannot be read has no kind
        let _ = first_record(path, &mut |record| found = record.fields().and_then(Self::of_fields));
        found.or_else(|| {
            // a manifest is one object on many lines
            let bytes = read_bytes(path, Limits::DEFAULT.settings_bytes).ok()?;
            Self::of_record(&serde_json::from_slice(&bytes).ok()?)
        })
    }

    /// Returns the error for a file of this kind if a command needs `expected`, such as `pairs`.
    pub fn instead_of(self, expected: &'static str, path: &Path) -> PairsError {
        PairsError::OtherKind { path: path.to_owned(), expected, found: self }
    }

    /// Returns what the file is for.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Samples => {
                "`bpo weaken` and `bpo inject` make rejected answers (--data), and `bpo pair` makes pairs of both"
            }
            Self::Pairs => "`bpo train`, `score`, `stats`, `inspect` and `convert` take pairs",
            Self::Questions => {
                "`bpo generate --questions` takes them, and `--chosen own` (or `--preset seva`) makes pairs without \
                 annotated answers"
            }
            Self::Weakened | Self::Injected => {
                "`bpo pair --data DATA --answers FILE --out PAIRS` makes pairs of them"
            }
            Self::Generated => "`bpo eval` takes them (--answers)",
            Self::Scores => "no command takes them",
            Self::Skipped => "it has the reasons, and no command takes it",
            Self::Manifest => "give the file that it describes",
            Self::Log => "no command takes it",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Samples => "annotated data without rejected answers",
            Self::Pairs => "pairs",
            Self::Questions => "questions without answers",
            Self::Weakened => "answers of `bpo weaken`",
            Self::Injected => "answers of `bpo inject`",
            Self::Generated => "answers of `bpo generate`",
            Self::Scores => "log-probabilities of `bpo score`",
            Self::Skipped => "a list of skipped records",
            Self::Manifest => "a manifest",
            Self::Log => "a log of training",
        })
    }
}

impl PairsError {
    /// Returns the error for a file of another kind than `expected` in place of this one, if the
    /// file is not of the form that its reader takes and has a known kind that is not in
    /// `accepted`.
    #[must_use]
    pub fn or_other_kind(self, path: &Path, expected: &'static str, accepted: &[FileKind]) -> Self {
        if !matches!(self, Self::Json { .. }) {
            return self;
        }
        match FileKind::of_file(path).filter(|found| !accepted.contains(found)) {
            Some(found) => found.instead_of(expected, path),
            None => self,
        }
    }
}

/// Returns whether a record has a question and nothing else.
fn is_question(fields: &Fields) -> bool {
    const KEYS: [&str; 13] = [
        "id",
        "question_id",
        "image",
        "images",
        "video",
        "videos",
        "system",
        "history",
        "prompt",
        "query",
        "text",
        "label",
        "category",
    ];
    let is_asked = fields.has("prompt")
        || fields.has("question_id") && fields.has("text")
        || fields.has("id") && fields.has("query");
    is_asked && fields.keys().all(|key| KEYS.contains(&key))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn kinds_are_known_by_their_keys() {
        for (record, kind) in [
            (r#"{"id": 1, "image": "a.jpg", "conversations": []}"#, Some(FileKind::Samples)),
            (r#"{"id": "a", "type": "mllm-hal", "response": "A cat."}"#, Some(FileKind::Weakened)),
            (
                r#"{"id": "a", "type": "llm-hal", "reason": "no-image", "detail": "x"}"#,
                Some(FileKind::Injected),
            ),
            (r#"{"id": "a", "type": "mine", "response": "A cat."}"#, None),
            (
                r#"{"id": "a", "prompt": "p", "chosen": "c", "rejected": "r", "kind": "k"}"#,
                Some(FileKind::Pairs),
            ),
            (r#"{"prompt": "p", "completions": []}"#, Some(FileKind::Pairs)),
            (r#"{"id": "a", "image": "a.jpg", "prompt": "p"}"#, Some(FileKind::Questions)),
            (r#"{"question_id": 1, "image": "a", "text": "p", "label": "no"}"#, Some(FileKind::Questions)),
            (r#"{"id": 1005, "image": "a.jpg", "query": "p"}"#, Some(FileKind::Questions)),
            (r#"{"image": "a.jpg", "text": "A cat."}"#, None),
            (r#"{"image": "a.jpg", "question": "q", "answer": "a"}"#, Some(FileKind::Samples)),
            // a pair in a form that is not known
            (r#"{"image": "a.jpg", "question": "q", "answer": "a", "rejected": "r"}"#, None),
            (r#"{"instruction": "q", "input": "", "output": "a", "rejected": "r"}"#, None),
            // a misspelt pair
            (r#"{"id": "a", "prompt": "p", "choosen": "c", "rejected": "r"}"#, None),
            (
                r#"{"id": "a", "images": [], "prompt": "p", "text": "t", "finish": "stop", "tokens": 3}"#,
                Some(FileKind::Generated),
            ),
            (r#"{"id": "a", "chosen_logp": -1.0, "rejected_logp": -2.0}"#, Some(FileKind::Scores)),
            (
                r#"{"stage": "weaken", "id": "a", "reason": "no-image", "detail": "x"}"#,
                Some(FileKind::Skipped),
            ),
            (r#"{"version": "0.1.0", "stages": {}}"#, Some(FileKind::Manifest)),
            (r#"{"step": 1, "epoch": 0.1, "loss": 0.69}"#, Some(FileKind::Log)),
            (r#"{"id": "a"}"#, None),
        ] {
            let fields = serde_json::from_str(record).unwrap();
            assert_eq!(FileKind::of_record(&fields), kind, "{record}");
        }
    }

    #[test]
    fn a_file_has_the_kind_of_its_first_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let of = |text: &str| {
            fs::write(&path, text).unwrap();
            FileKind::of_file(&path)
        };
        assert_eq!(of("{\"id\": 1, \"conversations\": []}\nbroken"), Some(FileKind::Samples));
        assert_eq!(of("[{\"id\": 1, \"conversations\": []}, broken"), Some(FileKind::Samples));
        assert_eq!(of("{\n  \"version\": \"1\",\n  \"stages\": {}\n}\n"), Some(FileKind::Manifest));
        for text in ["", "text", "[]", "{\n \"a\": 1\n}", "3"] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(FileKind::of_file(dir.path()), None);
        assert_eq!(FileKind::of_file(&dir.path().join("gone")), None);
    }
}
