//! Reads the elements of a JSON array one at a time.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, Cursor, Read};
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

use super::json::{EachWithPlace, Place, Tracked, next_chunk};
use crate::error::PairsError;
use crate::limits::Limits;

/// Calls `each` with every element of a JSON array.
///
/// Objects are cut out of the text and parsed one by one, which takes a fraction of the time of parsing
/// a stream. The parser of streams gets the rest as soon as something else comes: another value, or an
/// error, whose place in the file it knows.
pub(super) fn for_each_element<T: DeserializeOwned>(
    path: &Path,
    mut reader: impl BufRead,
    each: &mut EachWithPlace<'_, T>,
) -> Result<(), PairsError> {
    let (mut passed, mut text) = (Passed::default(), Vec::new());
    loop {
        text.clear();
        let start = read_object(&mut reader, passed.count == 0, &mut text);
        let start = start.map_err(PairsError::io("read", path))?;
        let parsed = start.and_then(|start| serde_json::from_slice(&text[start..]).ok());
        let Some(record) = parsed else { break };
        passed.add(&text);
        each(Place { line: 0, bytes: text.len() }, record)?;
    }
    let is_end = passed.count > 0 && text.trim_ascii() == b"]";
    if is_end && is_space_to_end(&mut reader, &mut text).map_err(PairsError::io("read", path))? {
        return Ok(());
    }
    parse_rest(path, &passed, Cursor::new(text).chain(reader), each)
}

/// The elements that were parsed, and where the last one ends.
#[derive(Debug, Default)]
struct Passed {
    count: usize,
    /// Number of line feeds.
    lines: usize,
    /// Number of bytes after the last line feed.
    column: usize,
}

impl Passed {
    fn add(&mut self, text: &[u8]) {
        self.count += 1;
        self.lines += text.iter().filter(|byte| **byte == b'\n').count();
        self.column = match text.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => text.len() - last - 1,
            None => self.column + text.len(),
        };
    }

    /// Returns the start of an array, with an empty array as its only element, which ends at the same
    /// line and column.
    fn stand_in(&self) -> impl Read + use<> {
        let (start, end): (&[u8], &[u8]) = if self.count == 0 { (b"", b"") } else { (b"[[", b"]") };
        // the opening brackets are in the first line
        let columns = self.column.saturating_sub(if self.lines == 0 { 3 } else { 1 });
        let line_feeds = io::repeat(b'\n').take(self.lines as u64);
        start.chain(line_feeds).chain(io::repeat(b' ').take(columns as u64)).chain(end)
    }
}

/// Reads white space into `text`, and returns whether nothing else is left.
fn is_space_to_end(reader: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let Some(chunk) = next_chunk(reader)? else { return Ok(true) };
        let used = chunk.iter().position(|byte| !is_space(*byte)).unwrap_or(chunk.len());
        let is_space = used == chunk.len();
        text.extend_from_slice(&chunk[..used]);
        reader.consume(used);
        if !is_space || text.len() > Limits::DEFAULT.record_bytes {
            return Ok(false);
        }
    }
}

/// Returns whether a byte is white space in JSON.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// Reads the next object and what is before it into `text`, and returns where the object starts.
/// Returns `None` if there is no object, or one above the size limit. `text` is what was read.
fn read_object(reader: &mut impl BufRead, is_first: bool, text: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut scan = Scan { separator: Some(if is_first { b'[' } else { b',' }), ..Scan::default() };
    let mut start = None;
    loop {
        let Some(chunk) = next_chunk(reader)? else { return Ok(None) };
        let (mut used, mut end) = (0, None);
        while used < chunk.len() && end.is_none() {
            if scan.in_string && !scan.is_escaped {
                // most bytes are text
                let stops = |byte: &u8| matches!(byte, b'"' | b'\\');
                used += chunk[used..].iter().position(stops).unwrap_or(chunk.len() - used);
            }
            let Some(byte) = chunk.get(used) else { break };
            end = scan.add(*byte);
            if scan.depth == 1 && start.is_none() {
                start = Some(text.len() + used);
            }
            used += 1;
        }
        text.extend_from_slice(&chunk[..used]);
        reader.consume(used);
        match end {
            _ if text.len() > Limits::DEFAULT.record_bytes => return Ok(None),
            Some(Found::Object) => return Ok(start),
            Some(Found::Other) => return Ok(None),
            None => {}
        }
    }
}

/// What comes next in an array.
enum Found {
    /// An object, which is read to its end.
    Object,
    Other,
}

/// Finds the end of an object.
#[derive(Debug, Default)]
struct Scan {
    /// The byte that must come before the object.
    separator: Option<u8>,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Scan {
    fn add(&mut self, byte: u8) -> Option<Found> {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'"' if self.depth > 0 => self.in_string = !self.in_string,
            b'\\' if self.in_string => self.is_escaped = true,
            _ if self.in_string => {}
            // the parser of the object checks that brackets match
            b'{' | b'[' if self.depth > 0 => self.depth += 1,
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                return (self.depth == 0).then_some(Found::Object);
            }
            _ if self.depth > 0 => {}
            byte if is_space(byte) => {}
            byte if Some(byte) == self.separator => self.separator = None,
            b'{' if self.separator.is_none() => self.depth = 1,
            _ => return Some(Found::Other),
        }
        None
    }
}

/// Calls `each` with the elements after those that were parsed.
fn parse_rest<T: DeserializeOwned>(
    path: &Path,
    passed: &Passed,
    reader: impl BufRead,
    each: &mut EachWithPlace<'_, T>,
) -> Result<(), PairsError> {
    let (used, limit) = (Cell::new(0), Limits::DEFAULT.record_bytes);
    let reader = passed.stand_in().chain(Bounded { inner: reader, used: &used, limit });
    let count = passed.count;
    let mut elements =
        Elements { each, failure: None, count, used: &used, key: String::new(), element: PhantomData };
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    let parsed = deserializer.deserialize_seq(&mut elements).and_then(|()| deserializer.end());
    if let Some(failure) = elements.failure {
        return Err(failure);
    }
    let (record, key) = (elements.count + 1, elements.key);
    parsed.map_err(|source| match source.line() {
        line if used.get() > limit => {
            PairsError::RecordTooLarge { path: path.to_owned(), record, line, limit }
        }
        line => PairsError::json(path, record, line, &key, source),
    })
}

/// A reader that fails once more than `limit` bytes are read for one record.
struct Bounded<'a, R> {
    inner: R,
    /// Number of bytes read since the last record.
    used: &'a Cell<usize>,
    limit: usize,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.used.set(self.used.get() + read);
        if self.used.get() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(read)
    }
}

struct Elements<'a, 'b, T> {
    each: &'a mut EachWithPlace<'b, T>,
    /// The error of `each`, which an error of serde cannot carry.
    failure: Option<PairsError>,
    count: usize,
    /// Number of bytes read for the current record.
    used: &'a Cell<usize>,
    /// Path of the value in the element at which the parser failed.
    key: String,
    element: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> Visitor<'de> for &mut Elements<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        if self.count > 0 {
            // stands for the elements that were parsed
            sequence.next_element::<IgnoredAny>()?;
        }
        while let Some(element) =
            sequence.next_element_seed(Tracked { key: &mut self.key, value: PhantomData })?
        {
            self.count += 1;
            let place = Place { line: 0, bytes: self.used.replace(0) };
            if let Err(failure) = (self.each)(place, element) {
                self.failure = Some(failure);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::BufReader;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    type Read<T> = (Vec<T>, Result<(), String>);

    /// Reads an array, and fails at the element `stop`.
    fn read<T: DeserializeOwned>(text: &[u8], buffer: usize, streamed: bool, stop: usize) -> Read<T> {
        let (path, mut all) = (Path::new("a.json"), Vec::new());
        let mut each = |_, element| {
            all.push(element);
            if all.len() == stop {
                Err(PairsError::Empty { path: "1".into(), expected: "more" })
            } else {
                Ok(())
            }
        };
        let reader = BufReader::with_capacity(buffer, text);
        let done = if streamed {
            parse_rest(path, &Passed::default(), reader, &mut each)
        } else {
            for_each_element(path, reader, &mut each)
        };
        (all, done.map_err(|error| crate::error::chain(&error)))
    }

    fn array() -> impl Strategy<Value = Vec<u8>> {
        let element = prop::sample::select(vec![
            r#"{"a": 1}"#,
            r#"{"a": 1, "b": 2}"#,
            "{}",
            r#"{"é]}": 3}"#,
            "{\"a\":\n 1\n}",
            r#"{"\"{\\": 4}"#,
            r#"{"a": "x"}"#,
            r#"{"a": [{"b": "}"}, "\\"]}"#,
            "7",
            "{]",
        ]);
        let usual = prop::sample::select(vec![r#"{"a": 1}"#, "{\"b\":\n2}"]);
        let element = prop_oneof![4 => usual, 1 => element];
        let separator = prop::sample::select(vec![",", ", ", ",\n", "\r\n , \n  "]);
        let start = prop::sample::select(vec!["[", "[ ", " \n[\n  "]);
        let end = prop::sample::select(vec!["]", "\n]\n", "", ",]", "] x"]);
        (
            start,
            prop::collection::vec((element, separator), 0..6),
            end,
            any::<prop::sample::Index>(),
            0..8_usize,
        )
            .prop_map(|(start, elements, end, at, change)| {
                let mut text = start.to_owned();
                for (i, (element, separator)) in elements.iter().enumerate() {
                    text.push_str(if i == 0 { "" } else { separator });
                    text.push_str(element);
                }
                let mut text = (text + end).into_bytes();
                let at = at.index(text.len());
                match change {
                    0 => text.truncate(at),
                    1 => drop(text.remove(at)),
                    2 => text.insert(at, b'"'),
                    3 => text[at] = 0xff,
                    _ => {}
                }
                text
            })
    }

    proptest! {
        /// Elements and errors, with their places, are those of the parser of streams.
        #[test]
        fn objects_are_parsed_as_in_a_stream(text in array(), buffer in 1..9_usize, stop in 1..9_usize) {
            let shown = String::from_utf8_lossy(&text);
            let [ours, stream] = [false, true].map(|streamed| read::<Value>(&text, buffer, streamed, stop));
            prop_assert_eq!(ours, stream, "{}", shown);
            let [ours, stream] =
                [false, true].map(|streamed| read::<BTreeMap<String, u32>>(&text, buffer, streamed, stop));
            prop_assert_eq!(ours, stream, "{}", shown);
        }
    }

    #[test]
    fn size_of_an_object_is_limited() {
        let limit = Limits::DEFAULT.record_bytes;
        for (text, count) in [(limit - 10, 3), (limit - 9, 1)] {
            let text = format!("[{{}},\n{{\"a\":\"{}\"}},{{}}]", "x".repeat(text));
            let (all, done) = read::<Value>(text.as_bytes(), 1 << 16, false, 9);
            assert_eq!((all.len(), done.is_ok()), (count, count == 3), "{done:?}");
        }
    }

    #[test]
    fn places_are_those_in_the_file() {
        for (text, expected) in [
            ("[{\"a\": 1}, {\"a\": \"x\"}]", "record 2, line 1, column 20: `a`: expected a whole number"),
            ("[\n{\"a\": 1},\n{\"a\": 1},\n  {\"a\" 1}]", "record 3, line 4, column 8: expected `:`"),
            ("[{\"a\": 1},\n{\"a\": 1}", "record 3, line 2, column 8: "),
        ] {
            let [(_, ours), (_, stream)] =
                [false, true].map(|streamed| read::<BTreeMap<String, u32>>(text.as_bytes(), 64, streamed, 9));
            assert_eq!(ours, stream, "{text}");
            let error = ours.unwrap_err();
            assert!(error.starts_with(&format!("a.json: {expected}")), "{error}");
        }
    }
}
