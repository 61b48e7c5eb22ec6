//! Escaping of untrusted text for terminals, logs and error messages.

use std::fmt::{self, Write};
use std::path::Path;

/// Text from a file, a server or a template, escaped for display in a message.
///
/// `Display` escapes characters that control a terminal or change how a line reads: C0 and C1
/// control characters, DEL, line and paragraph separators, byte order marks and bidirectional
/// marks. Text longer than [`MAX_CHARS`](Self::MAX_CHARS) characters is truncated, followed by the
/// number of omitted characters. `Debug` does the same between quotation marks, and also escapes
/// quotation marks and backslashes.
///
/// ```
/// use bpo_pairs::Untrusted;
///
/// let id = "cat\u{1b}]0;x\u{7}";
/// assert_eq!(format!("no image for {}", Untrusted(id)), r"no image for cat\u{1b}]0;x\u{7}");
/// assert_eq!(format!("id {:?}", Untrusted("a\"b\n")), r#"id "a\"b\n""#);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Untrusted<'a>(pub &'a str);

impl Untrusted<'_> {
    /// Maximum number of characters that are shown.
    pub const MAX_CHARS: usize = 1000;

    /// Returns whether a character controls a terminal, ends a line, or changes the direction of
    /// writing.
    pub fn is_unsafe(c: char) -> bool {
        is_unsafe(c)
    }
}

impl fmt::Display for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(f, self.0, Self::MAX_CHARS, is_unsafe)
    }
}

impl fmt::Debug for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write_escaped(f, self.0, Self::MAX_CHARS, |c| is_unsafe(c) || matches!(c, '"' | '\\'))?;
        f.write_char('"')
    }
}

/// A path from untrusted input, escaped for display as [`Untrusted`] is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UntrustedPath<'a>(pub &'a Path);

impl fmt::Display for UntrustedPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Untrusted(&self.0.to_string_lossy()).fmt(f)
    }
}

impl fmt::Debug for UntrustedPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Untrusted(&self.0.to_string_lossy()), f)
    }
}

/// A message of one or more lines that may contain untrusted text, escaped for display on a
/// terminal.
///
/// `Display` escapes the same characters as [`Untrusted`] except line feeds and tabs, and truncates
/// after [`MAX_CHARS`](Self::MAX_CHARS) characters. Every line after the first is indented by at
/// least two spaces, so a line feed in untrusted text cannot forge a message.
///
/// ```
/// use bpo_pairs::TerminalText;
///
/// let message = format!("error: no image for {}", "cat\nerror: forged");
/// assert_eq!(TerminalText(&message).to_string(), "error: no image for cat\n  error: forged");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TerminalText<'a>(pub &'a str);

impl TerminalText<'_> {
    /// Maximum number of characters that are shown.
    pub const MAX_CHARS: usize = 20_000;
}

impl fmt::Display for TerminalText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = Self::MAX_CHARS;
        for (index, line) in self.0.split('\n').enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            if left == 0 {
                let more = self.0.chars().count() - Self::MAX_CHARS;
                return write!(f, "  ... ({more} more characters)");
            }
            if index > 0 && !line.is_empty() && !line.starts_with("  ") {
                f.write_str("  ")?;
            }
            write_escaped(f, line, left, |c| is_unsafe(c) && c != '\t')?;
            left = left.saturating_sub(line.chars().count() + 1);
        }
        Ok(())
    }
}

fn write_escaped(
    f: &mut fmt::Formatter<'_>,
    text: &str,
    most: usize,
    escapes: impl Fn(char) -> bool,
) -> fmt::Result {
    let mut chars = text.chars();
    for c in chars.by_ref().take(most) {
        if escapes(c) {
            write!(f, "{}", c.escape_default())?;
        } else {
            f.write_char(c)?;
        }
    }
    match chars.count() {
        0 => Ok(()),
        more => write!(f, "... ({more} more characters)"),
    }
}

/// Escapes the characters that [`TerminalText`] escapes, in text of any length.
pub(crate) fn escape_controls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && !matches!(c, '\n' | '\t') {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Returns whether a character controls a terminal, ends a line, or changes the direction of
/// writing.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terminal_control_characters_are_escaped() {
        for (text, shown) in [
            ("\u{1b}[31mred", r"\u{1b}[31mred"),
            ("\u{9b}31m\u{7f}\0", r"\u{9b}31m\u{7f}\u{0}"),
            ("a\r\nb\u{85}c\u{2028}d", r"a\r\nb\u{85}c\u{2028}d"),
            ("gpj\u{202e}exe\u{2066}\u{200f}", r"gpj\u{202e}exe\u{2066}\u{200f}"),
            ("Größe 猫 👩‍👧 \"x\"", "Größe 猫 👩‍👧 \"x\""),
        ] {
            assert_eq!(Untrusted(text).to_string(), shown);
            assert_eq!(UntrustedPath(Path::new(text)).to_string(), shown);
        }
        assert_eq!(format!("{:?}", Untrusted("\\\"")), r#""\\\"""#);
        assert_eq!(TerminalText("a\n\tb\u{1b}c\r").to_string(), "a\n  \tb\\u{1b}c\\r");
        assert_eq!(TerminalText("a\n  b\n\nc").to_string(), "a\n  b\n\n  c");
    }

    #[test]
    fn long_text_is_truncated() {
        let long = "é".repeat(Untrusted::MAX_CHARS);
        assert_eq!(Untrusted(&long).to_string(), long);
        let longer = format!("{long}éé");
        assert_eq!(Untrusted(&longer).to_string(), format!("{long}... (2 more characters)"));
        let lines = "12345\n".repeat(TerminalText::MAX_CHARS);
        assert!(TerminalText(&lines).to_string().len() < 2 * TerminalText::MAX_CHARS);
    }

    proptest! {
        #[test]
        fn only_the_first_line_of_a_message_begins_at_the_margin(text in any::<String>()) {
            let shown = TerminalText(&text).to_string();
            prop_assert!(shown.lines().skip(1).all(|line| line.is_empty() || line.starts_with("  ")));
            prop_assert!(!shown.chars().any(|c| is_unsafe(c) && !matches!(c, '\n' | '\t')));
        }

        #[test]
        fn escaped_text_has_no_unsafe_characters(text in any::<String>()) {
            for shown in [Untrusted(&text).to_string(), format!("{:?}", Untrusted(&text))] {
                prop_assert!(!shown.chars().any(is_unsafe), "{shown:?}");
            }
        }
    }
}
