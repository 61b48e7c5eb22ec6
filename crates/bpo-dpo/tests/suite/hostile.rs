//! Messages with text from files: no text of a file can control a terminal or begin a line.

use std::io;
use std::path::PathBuf;

use bpo_dpo::{ConfigChange, DpoError, Mismatch, Stale};
use bpo_pairs::{CompletionKind, SkipReason, Skipped, Untrusted};

const HOSTILE: &str = "\u{1b}]0;x\u{7}\u{9b}31m\u{7f}\r\nerror: forged\u{85}\u{2028}\u{202e}\u{2066}\u{feff}";

/// Every variant that has a text, a path or a list of texts.
fn errors() -> Vec<DpoError> {
    let text = || HOSTILE.to_owned();
    let (texts, path) = (|| vec![HOSTILE.to_owned()], || PathBuf::from(HOSTILE));
    let kind = || CompletionKind::Other(HOSTILE.to_owned());
    let skipped = || vec![Skipped::new(HOSTILE, SkipReason::Malformed).with_detail(HOSTILE)];
    let changes = || vec![ConfigChange { key: text(), old: text(), new: text() }];
    let mut mismatch = Mismatch::default();
    (mismatch.missing, mismatch.extra, mismatch.misshapen) = (texts(), texts(), texts());
    let source = || io::Error::other("source").into();
    let json = || serde_json::from_str::<u8>("x").expect_err("not JSON");
    vec![
        DpoError::Setting { key: "beta", expected: "a number", found: text() },
        DpoError::Conflict { key: "beta", with: text(), reason: "no reason" },
        DpoError::UnknownKind { kind: kind(), kinds: vec![kind()] },
        DpoError::EmptyGroup { group: text(), parameters: texts() },
        DpoError::NoPairs { skipped: skipped() },
        DpoError::Collate { pairs: texts(), source: source() },
        DpoError::Rows { expected: 1, found: 2, pairs: texts() },
        DpoError::Untracked { pairs: texts() },
        DpoError::ReferenceUnlike { mismatch: mismatch.clone() },
        DpoError::ReferenceChanged { path: path(), changes: changes() },
        DpoError::StaleReference { path: Some(path()), pair: text(), what: Stale::Image },
        DpoError::NotInReference { path: Some(path()), pair: text() },
        DpoError::ReferenceFile { path: path(), reason: text() },
        DpoError::InitialMismatch {
            loss: 1.0,
            expected_loss: 0.7,
            margin: 1.0,
            pair: text(),
            tolerance: 0.1,
        },
        DpoError::NotFinite { count: 1, step: 1, pairs: texts() },
        DpoError::NothingPrepared { count: 1, step: 1, skipped: skipped() },
        DpoError::NoIntactCheckpoint { path: path(), count: 1, newest: text() },
        DpoError::Damaged { path: path(), reason: text() },
        DpoError::NotFiniteTensors { step: Some(1), names: texts() },
        DpoError::Mismatch { what: "state", path: Some(path()), mismatch },
        DpoError::ElementType { name: text(), found: text() },
        DpoError::ConfigChanged { path: path(), changes: changes() },
        DpoError::DataChanged { path: path(), expected: text(), found: text() },
        DpoError::Json { path: path(), source: json() },
        DpoError::Io { action: "read", path: path(), source: io::Error::other("source") },
    ]
}

#[test]
fn no_message_has_a_character_that_controls_a_terminal() {
    for error in errors() {
        let shown = error.to_string();
        assert!(!shown.chars().any(Untrusted::is_unsafe), "{shown:?}");
        assert!(shown.contains("forged"), "the text is not in the message: {shown}");
    }
}
