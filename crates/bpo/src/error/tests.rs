use std::io;

use bpo_pairs::{ContrastChoice, SkipReason};

use super::*;
use crate::distort_files::DistortFilesError;
use crate::images::{Escape, ImageError};
use crate::ledger::FileChange;

const HOSTILE: &str = "\u{1b}]0;x\u{7}\u{9b}31m\u{7f}\r\nerror: forged\u{85}\u{2028}\u{202e}\u{2066}\u{feff}";

#[track_caller]
fn check(error: &dyn std::error::Error) {
    let shown = error.to_string();
    assert!(!shown.chars().any(Untrusted::is_unsafe), "{shown:?}");
    assert!(shown.contains("forged"), "the text is not in the message: {shown}");
}

#[test]
fn texts_of_files_cannot_control_a_terminal_or_forge_a_line() {
    let (path, text) = (|| PathBuf::from(HOSTILE), || HOSTILE.to_owned());
    let (line, column, skipped) = (1, 1, SkipCounts::default());
    let change = || Change { key: text(), old: Some(text()), new: Some(text()) };
    let first = Skipped::new(HOSTILE, SkipReason::Malformed).with_detail(HOSTILE);
    let errors = [
        BpoError::Io { action: "read", path: path(), source: io::Error::other("source") },
        BpoError::UnknownKeys {
            path: path(),
            keys: vec![UnknownKey {
                line,
                column,
                key: text(),
                nearest: "beta".to_owned(),
                known: vec!["beta".to_owned()],
            }],
            has_more: false,
        },
        BpoError::ConfigSyntax { path: path(), line, column, message: text() },
        BpoError::InputIsOutput {
            input: "--data".to_owned(),
            read: path(),
            output: "--out".to_owned(),
            given: path().into(),
            written: path().join("a"),
        },
        BpoError::SameOutput { first: "--out".to_owned(), second: "--eval-out".to_owned(), path: path() },
        BpoError::Setting { key: "beta".into(), expected: "a number", found: text() },
        BpoError::Conflict { key: "beta".into(), with: text(), reason: "no reason" },
        BpoError::Changed { path: path(), settings: vec![change()], inputs: vec![change()] },
        BpoError::Answers {
            problems: vec![
                AnswerProblem::OtherData { path: path() },
                AnswerProblem::Unfinished { path: path(), stage: Stage::Weaken },
                AnswerProblem::Differ { first: path(), path: path(), changes: vec![change()] },
            ],
        },
        BpoError::EvalPair { path: path(), skipped: Box::new(first.clone()) },
        BpoError::Missing { path: path(), stage: Stage::Pair, later: vec![path()] },
        BpoError::FilesChanged {
            files: vec![ChangedFile { path: path(), stage: Stage::Pair, change: FileChange::Missing }],
            delete: vec![path()],
        },
        BpoError::NoManifest { path: path(), manifest: path() },
        BpoError::NotARun { path: path() },
        RoundsError::Others { path: path() }.into(),
        RoundsError::Missing { path: path() }.into(),
        RoundsError::Unexpected { path: path() }.into(),
        BpoError::NotOurs { path: path() },
        BpoError::NothingAnswered { stage: Stage::Pair, reason: text(), skipped: skipped.clone() },
        BpoError::NoContrasts { path: path(), choice: ContrastChoice::Similar, questions: 1 },
        BpoError::Question { id: text(), source: "source".into() },
        BpoError::Unanswered { id: text(), reason: text() },
        BpoError::SameId { path: path(), id: text() },
        BpoError::Differs { path: path(), in_file: 1, from_answers: 2 },
        BpoError::NoImages { first: path(), reason: text(), skipped: skipped.clone() },
        BpoError::NoCheckpoint { path: path() },
        BpoError::AdapterAsModel { path: path() },
        BpoError::ReferenceTemplate { path: path(), what: "tokenizer" },
        BpoError::NoAdapter { path: path() },
        BpoError::AdapterInside { path: path(), inside: path() },
        BpoError::AdapterOfAnother { path: path(), model: path(), record: path() },
        BpoError::Locked { path: path() },
        BpoError::UnknownDevice { found: text() },
        BpoError::UnknownDtype { found: text() },
        BpoError::Nothing { path: path(), what: "pair", skipped: skipped.clone() },
        BpoError::NothingUsable { path: path(), what: "pair", skipped, first: Box::new(first) },
        BpoError::OtherSamples { path: path(), line, found: text() },
        BpoError::StageStopped { stage: Stage::Pair, id: text(), source: "source".into() },
        BpoError::NoOtherImage { id: text(), distortion: text() },
        BpoError::UnknownId { id: text() },
    ];
    errors.iter().for_each(|error| check(error));
    check(&BpoError::Preflight { problems: errors.into() });

    let (name, root) = (text, path);
    let errors = [
        ImageError::Root { root: root(), source: io::Error::other("source") },
        ImageError::Outside { name: name(), root: root(), escape: Escape::Link },
        ImageError::Missing { name: name(), root: root() },
        ImageError::Path { name: name(), root: root(), source: io::Error::other("source") },
    ];
    errors.iter().for_each(|error| check(error));

    let (out, images) = (path, path);
    let errors = [
        DistortFilesError::NoImages { path: path() },
        DistortFilesError::OnlyImage { family: "mix", path: path() },
        DistortFilesError::Inside { out: out(), images: images() },
        DistortFilesError::NotPng { path: path() },
        DistortFilesError::NotOurs { path: path() },
        DistortFilesError::OtherOrigin { path: path(), found: text(), now: text() },
        DistortFilesError::Damaged { path: path() },
        DistortFilesError::Orphan { path: path(), images: images() },
    ];
    errors.iter().for_each(|error| check(error));
}

#[test]
#[cfg(feature = "hub")]
fn a_missing_model_says_how_hub_names_look() {
    for (path, meant) in [
        ("/w/gpt2", ""),
        ("/w/org/name@", ""),
        ("/w/hf:/org/name", ": org/name"),
        ("hf://org/name@v1", ": org/name@v1"),
        ("/w/https:/huggingface.co/org/name/", ": org/name"),
        ("https://huggingface.co/org/name/tree/main", ""),
    ] {
        let shown = BpoError::NoCheckpoint { path: path.into() }.to_string();
        assert!(shown.ends_with(&format!("as ORG/NAME or ORG/NAME@REVISION{meant}")), "{shown}");
    }
}
