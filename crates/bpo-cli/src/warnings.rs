//! Formats the libraries' log events as sentences: `warning: some pairs cannot be used (kept: 5)`.

use std::fmt;

use bpo::pairs::Untrusted;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Maximum number of items of a list that are shown.
const MOST_ITEMS: usize = 5;
/// Field with the event's message.
const MESSAGE: &str = "message";

/// Writes an event on one line: its level, its message, and its fields in parentheses. Control
/// characters are escaped and long lists are cut. The module is shown for debug and trace events
/// only, and spans never.
pub struct Sentences;

impl<S, N> FormatEvent<S, N> for Sentences
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut sentence = Sentence::default();
        event.record(&mut sentence);
        let level = *event.metadata().level();
        let target =
            if level > Level::INFO { format!("{}: ", event.metadata().target()) } else { String::new() };
        writeln!(out, "{}: {target}{sentence}", label(level))
    }
}

fn label(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "note",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// An event's message and fields.
#[derive(Default)]
struct Sentence {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Sentence {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            MESSAGE => self.message = value,
            name => self.fields.push((name, value)),
        }
    }
}

impl Visit for Sentence {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, bpo::chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, readable(&format!("{value:?}")));
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Untrusted(&self.message))?;
        for (i, (name, value)) in self.fields.iter().enumerate() {
            let before = if i == 0 && !self.message.is_empty() {
                " ("
            } else if i == 0 {
                "("
            } else {
                ", "
            };
            write!(f, "{before}{}: {}", name.replace(['_', '.'], " "), Untrusted(value))?;
        }
        f.write_str(if self.fields.is_empty() { "" } else { ")" })
    }
}

/// The debug form of a value without Rust's syntax: a list without brackets and quotation marks,
/// cut after some items; an option without `Some`.
fn readable(value: &str) -> String {
    if value == "None" {
        return "none".to_owned();
    }
    if let Some(inner) = value.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(')')) {
        return readable(inner);
    }
    if let Some(text) = quoted(value) {
        return text.to_owned();
    }
    let Some(list) = value.strip_prefix(['[', '{']).and_then(|rest| rest.strip_suffix([']', '}'])) else {
        return value.to_owned();
    };
    let items = items(list);
    let shown: Vec<String> = items.iter().take(MOST_ITEMS).map(|item| readable(item)).collect();
    let more = items.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// The text of a quoted string without inner quotation marks.
fn quoted(value: &str) -> Option<&str> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains('"')).then_some(inner)
}

/// The items of a list, split at commas outside quotation marks and brackets.
fn items(list: &str) -> Vec<&str> {
    let (mut items, mut start, mut depth) = (Vec::new(), 0, 0usize);
    let (mut in_quotes, mut escaped) = (false, false);
    for (at, c) in list.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_quotes = !in_quotes,
            _ if in_quotes => {}
            '[' | '(' | '{' => depth += 1,
            ']' | ')' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                items.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(list[start..].trim());
    items.retain(|item| !item.is_empty());
    items
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(log: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .event_format(Sentences)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn warning_is_formatted_as_a_sentence() {
        let line = written(|| {
            let _span = tracing::info_span!("train", step = 3).entered();
            let names: Vec<String> = (0..7).map(|i| format!("layers.{i}, \"x\"")).collect();
            tracing::warn!(dir = %"model", ?names, "weights that nothing asked for");
        });
        let names = r#""layers.0, \"x\"", "layers.1, \"x\"", "layers.2, \"x\"", "layers.3, \"x\"", "layers.4, \"x\"" and 2 more"#;
        assert_eq!(line, format!("warning: weights that nothing asked for (dir: model, names: {names})\n"));
    }

    #[test]
    fn values_in_warnings_are_readable() {
        let line = written(|| {
            let error = io::Error::other("full");
            let pairs = vec!["a".to_owned(), "b".to_owned()];
            tracing::warn!(error = &error as &dyn std::error::Error, ?pairs, lost = ?Some(1.5), none = ?None::<u8>, max_steps = 4);
        });
        assert_eq!(line, "warning: (error: full, pairs: a, b, lost: 1.5, none: none, max steps: 4)\n");
    }

    #[test]
    fn control_characters_are_escaped_and_long_texts_cut() {
        let line = written(|| tracing::error!("\u{1b}]0;x\u{7}\nnext {}", "y".repeat(9000)));
        assert!(line.starts_with("error: \\u{1b}]0;x\\u{7}\\nnext yyy"), "{line}");
        assert!(line.len() < 1200 && line.ends_with(" more characters)\n") && line.lines().count() == 1);
    }

    #[test]
    fn only_debug_events_have_their_module() {
        assert_eq!(written(|| tracing::info!("done")), "note: done\n");
        assert!(written(|| tracing::debug!("done")).starts_with("debug: bpo::warnings"));
    }
}
