//! All writing to standard error and standard output, with untrusted text made safe.
//!
//! No other file of this crate writes to them: a test checks it.

use std::io::{self, Write};
use std::path::Path;

use bpo::BpoError;
use bpo::pairs::{TerminalText, Untrusted};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Prints a message to standard error with control characters escaped. Lines after the first are
/// indented, so untrusted text in the message cannot forge another message. A closed standard error
/// is ignored.
pub fn print_line(message: &str) {
    let _ = writeln!(io::stderr(), "{}", TerminalText(message));
}

/// Prints text of the program itself, such as a table, to standard error without indentation. Each
/// line is escaped as in [`print_line`].
pub fn print_lines(text: &str) {
    text.lines().for_each(print_line);
}

/// The writer of log events, which [`Sentences`](crate::warnings::Sentences) escapes.
pub fn log_writer() -> io::Stderr {
    io::stderr()
}

/// Prints a value as one JSON line to standard output, and flushes it.
///
/// # Errors
/// Returns an error if the value cannot be serialized, or standard output cannot be written.
pub fn print_json(value: &impl Serialize) -> Result<(), BpoError> {
    let stdout = Path::new("standard output");
    let line = json_line(value).map_err(|source| BpoError::Json { path: stdout.to_owned(), source })?;
    let mut out = io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(|source| BpoError::Io {
        action: "write to",
        path: stdout.to_owned(),
        source,
    })
}

fn json_line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut line, ForTerminals))?;
    line.push(b'\n');
    Ok(line)
}

/// Compact JSON that escapes what controls a terminal or hides text: DEL, C1 control characters,
/// line separators, byte order marks and bidirectional marks. `serde_json` escapes only C0 control
/// characters.
struct ForTerminals;

impl Formatter for ForTerminals {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| Untrusted::is_unsafe(c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_nothing_that_steers_a_terminal_and_keeps_its_value() {
        let texts = [
            "\u{1b}]0;x\u{7}\u{9b}31m\u{7f}\u{85}a\u{2028}b\u{202e}c\u{2066}\u{feff}\n\"\\",
            "Größe 猫 👩‍👧",
            "",
        ];
        let value = serde_json::json!({"id": texts[0], texts[0]: texts});
        let line = String::from_utf8(json_line(&value).unwrap()).unwrap();
        let text = line.strip_suffix('\n').unwrap();
        assert!(!text.chars().any(Untrusted::is_unsafe), "{text}");
        assert!(text.contains("猫 👩‍👧") && text.contains("\\u202e") && text.contains("\\u009b"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(text).unwrap(), value);
    }

    /// Untrusted text reaches a terminal only through this file.
    #[test]
    fn no_other_file_writes_to_the_terminal() {
        let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let words = ["println!", "print!", "io::stderr()", "io::stdout()"];
        while let Some(dir) = pending.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else if path.file_name() != Some("terminal.rs".as_ref()) {
                    let text =
                        std::fs::read_to_string(&path).unwrap().replace("io::stderr().is_terminal()", "");
                    for word in words {
                        assert!(!text.contains(word), "{word} in {}", path.display());
                    }
                }
            }
        }
    }
}
