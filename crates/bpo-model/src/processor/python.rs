//! Python's text forms and string methods for chat templates, where minijinja's differ.
//!
//! minijinja charges fuel for the size of a result after it exists. What may be large is charged
//! here while it is made.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => float_of(float),
        _ => value.to_string(),
    }
}

/// Formats a number as Python does: `1e+22` where Rust writes `1e22`.
fn float_of(value: f64) -> String {
    // the shortest text that reads back as the number, as Python's
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text.to_lowercase(),
    }
}

fn entries(value: &Value) -> Vec<(Value, Value)> {
    let keys = value.try_iter().into_iter().flatten();
    keys.map(|key| (key.clone(), value.get_item(&key).unwrap_or_default())).collect()
}

/// The filter `tojson` of transformers: `json.dumps(x, ensure_ascii, indent, separators,
/// sort_keys)`, which escapes no HTML.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    positional: Rest<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    if positional.len() > 4 {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let argument = |place: usize, name: &str| -> Result<Option<Value>, Error> {
        let given = match positional.get(place) {
            Some(value) => Some(value.clone()),
            None => named.get::<Option<Value>>(name)?,
        };
        Ok(given.filter(|value| !value.is_none() && !value.is_undefined()))
    };
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let ensure_ascii = is_true(argument(0, "ensure_ascii")?);
    let indent = match argument(1, "indent")? {
        None => None,
        Some(indent) => Some(match (indent.as_str(), indent.kind()) {
            (Some(text), _) => text.to_owned(),
            (None, ValueKind::Bool) => " ".repeat(usize::from(indent.is_true())),
            _ => " ".repeat(usize::try_from(i64::try_from(indent)?.clamp(0, 64)).unwrap_or(0)),
        }),
    };
    let (between, colon) = match argument(2, "separators")? {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some(pair) => (pair.get_item_by_index(0)?.to_string(), pair.get_item_by_index(1)?.to_string()),
    };
    let sort_keys = is_true(argument(3, "sort_keys")?);
    named.assert_all_used()?;
    let mut json = Json { state, out: String::new(), ensure_ascii, indent, between, colon, sort_keys };
    json.write(value, 1)?;
    Ok(json.out)
}

struct Json<'s, 't, 'e> {
    state: &'s State<'t, 'e>,
    out: String,
    ensure_ascii: bool,
    indent: Option<String>,
    between: String,
    colon: String,
    sort_keys: bool,
}

impl Json<'_, '_, '_> {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let indent = self.indent.as_ref().map_or(0, |indent| indent.len().saturating_mul(depth));
        let text = value.as_str().map_or(0, str::len);
        charge(self.state, [indent, text, self.between.len(), self.colon.len()])?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => {
                let text = number(value);
                self.out.push_str(match text.as_str() {
                    "inf" => "Infinity",
                    "-inf" => "-Infinity",
                    "nan" => "NaN",
                    text => text,
                });
            }
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<_> = value.try_iter()?.collect();
                self.list('[', ']', &items, depth, |json, item| json.write(item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut entries: Vec<_> =
                    entries(value).into_iter().map(|(key, item)| (key_of(&key), item)).collect();
                if self.sort_keys {
                    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.list('{', '}', &entries, depth, |json, (key, item)| {
                    json.string(key);
                    json.out.push_str(&json.colon);
                    json.write(item, depth + 1)
                })?;
            }
            kind => {
                let message = format!("tojson: JSON has no {kind}");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
        Ok(())
    }

    fn list<T>(
        &mut self,
        open: char,
        close: char,
        items: &[T],
        depth: usize,
        write: impl Fn(&mut Self, &T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.push_str(&self.between);
            }
            self.line(depth);
            write(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth - 1);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // writing to a string never fails
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// The text of a key, as JSON's keys are strings.
fn key_of(key: &Value) -> String {
    match key.kind() {
        ValueKind::Bool if key.is_true() => "true".to_owned(),
        ValueKind::Bool => "false".to_owned(),
        ValueKind::None => "null".to_owned(),
        _ => key.to_string(),
    }
}

/// Charges fuel for results that are about to be made, by their sizes in bytes.
fn charge(state: &State<'_, '_>, bytes: impl IntoIterator<Item = usize>) -> Result<(), Error> {
    const BYTES_PER_FUEL: usize = 64;
    let bytes = bytes.into_iter().fold(0, usize::saturating_add);
    state.consume_fuel((bytes / BYTES_PER_FUEL) as u64 + 1)
}

/// Longest number in a format string: the width or precision of a field.
const MAX_FORMAT_DIGITS: usize = 4;

/// Charges what `str.format` may write.
fn charge_format(state: &State<'_, '_>, text: &str, args: &[Value]) -> Result<(), Error> {
    let is_long = |digits: &str| digits.len() > MAX_FORMAT_DIGITS;
    if text.split(|c: char| !c.is_ascii_digit()).any(is_long) {
        let message = "format: a width or precision has more than four digits";
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    let fields = text.matches('{').count();
    let longest = args.iter().map(|arg| arg.as_str().map_or(0, str::len)).max().unwrap_or(0);
    charge(state, [text.len(), fields.saturating_mul(longest.max(10_000))])
}

/// `str.join`, with each part charged before it is added.
fn join(state: &State<'_, '_>, separator: &str, parts: &Value) -> Result<Value, Error> {
    let mut joined = String::new();
    for (place, part) in parts.try_iter()?.enumerate() {
        let text = part.as_str().map_or_else(|| part.to_string().into(), std::borrow::Cow::Borrowed);
        charge(state, [separator.len(), text.len()])?;
        if place > 0 {
            joined.push_str(separator);
        }
        joined.push_str(&text);
    }
    Ok(joined.into())
}

/// Methods of Python's strings that `minijinja_contrib` lacks, and those that it has.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else { return unknown_method_callback(state, value, name, args) };
    match name {
        "replace" => {
            if let [old, new, ..] = args
                && let (Some(old), Some(new)) = (old.as_str(), new.as_str())
            {
                charge(state, [text.len(), text.matches(old).count().saturating_mul(new.len())])?;
            }
            unknown_method_callback(state, value, name, args)
        }
        "join" => {
            let (parts,): (&Value,) = from_args(args)?;
            join(state, text, parts)
        }
        "format" => {
            charge_format(state, text, args)?;
            unknown_method_callback(state, value, name, args)
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "rsplit" => {
            let (separator, most): (&str, Option<i64>) = from_args(args)?;
            // a negative number means no limit, as `None` does
            let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            let mut parts: Vec<_> =
                text.rsplitn(most.saturating_add(1), separator).map(Value::from).collect();
            parts.reverse();
            Ok(parts.into())
        }
        _ => unknown_method_callback(state, value, name, args),
    }
}

/// The filter `e`: escapes the five special characters of HTML as MarkupSafe does.
pub(super) fn escape(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
