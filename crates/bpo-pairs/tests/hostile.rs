//! Messages with text from files: no text of a file can control a terminal or begin a line.

use std::io;
use std::path::PathBuf;

use bpo_pairs::files::FileError;
use bpo_pairs::{OverLimit, PairsError, Untrusted, chain};

const HOSTILE: &str = "\u{1b}]0;x\u{7}\u{9b}31m\u{7f}\r\nerror: forged\u{85}\u{2028}\u{202e}\u{2066}\u{feff}";

#[track_caller]
fn check(error: &dyn std::error::Error) {
    let shown = error.to_string();
    assert!(!shown.chars().any(Untrusted::is_unsafe), "{shown:?}");
    assert!(shown.contains("forged"), "the text is not in the message: {shown}");
}

#[test]
fn no_message_has_a_character_that_controls_a_terminal() {
    let (path, text) = (|| PathBuf::from(HOSTILE), || HOSTILE.to_owned());
    let (record, line, column, limit) = (1, 1, 1, 1);
    let json = serde_json::from_str::<u8>("x").unwrap_err();
    [
        PairsError::RecordTooLarge { path: path(), record, line, limit },
        PairsError::Empty { path: path(), expected: "records" },
        PairsError::Json { path: path(), record, line, column, problem: text() },
        PairsError::Encode { path: path(), record: text(), source: json },
        PairsError::Score { path: path(), record: text(), score: 1.0 },
        PairsError::DuplicateId { path: path(), line, id: text() },
    ]
    .iter()
    .for_each(|error| check(error));
    [
        FileError::Io { action: "read", path: path(), source: io::Error::other("source") },
        FileError::NotAFile { path: path(), found: "a FIFO" },
        FileError::Occupied { path: path() },
        FileError::NotOurs { path: path(), reason: text() },
        FileError::Locked { path: path() },
        FileError::TooLarge { path: path(), limit: 1 },
        FileError::NotText { path: path(), at: 1 },
    ]
    .iter()
    .for_each(|error| check(error));
    check(&OverLimit { name: text(), found: 2, limit: 1 });
}

/// Sources of other crates repeat raw text.
#[test]
fn a_chain_escapes_the_sources_of_other_crates() {
    let error = FileError::Io { action: "read", path: "a".into(), source: io::Error::other(HOSTILE) };
    let shown = chain(&error);
    assert!(!shown.chars().any(|c| Untrusted::is_unsafe(c) && c != '\n'), "{shown:?}");
    assert!(shown.contains("forged"), "{shown}");
}
