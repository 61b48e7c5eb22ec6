//! Reads the records of a JSON array or a JSON Lines file one at a time.

use std::io::{self, BufRead, Cursor, Read};
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer};

use super::array::for_each_element;
use crate::error::PairsError;
use crate::format::jsonl::JsonLines;
use crate::limits::Limits;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A function that is called with each record, in file order.
pub type Each<'a, T> = dyn FnMut(T) -> Result<(), PairsError> + 'a;

/// The layout of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// One JSON array.
    Array,
    /// One JSON value per line.
    Lines,
    /// Only white space.
    Empty,
}

/// Calls `each` with every record, holding only one in memory. `path` is only used in errors.
///
/// # Errors
/// Returns an error with file, record, line and column if the file cannot be read or is not JSON of
/// this form, and the errors of `each`.
pub fn for_each<T: DeserializeOwned>(
    path: &Path,
    reader: impl BufRead,
    each: &mut Each<'_, T>,
) -> Result<(), PairsError> {
    for_each_with_place(path, reader, &mut |_, record| each(record))
}

/// The place of a record in its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Number of the line, from 1, or 0 if it is not known, as in an array.
    pub(super) line: usize,
    /// Number of bytes of the record.
    pub(super) bytes: usize,
}

/// A function that is called with each record and its place, in file order.
pub(super) type EachWithPlace<'a, T> = dyn FnMut(Place, T) -> Result<(), PairsError> + 'a;

/// Does the same as [`for_each`], and passes the place of the record to `each`.
pub(super) fn for_each_with_place<T: DeserializeOwned>(
    path: &Path,
    reader: impl BufRead,
    each: &mut EachWithPlace<'_, T>,
) -> Result<(), PairsError> {
    let (layout, reader) = detect(path, reader)?;
    match layout {
        Layout::Array => for_each_element(path, reader, each),
        Layout::Lines => {
            let mut lines = JsonLines::new(path, reader);
            while let Some(record) = lines.next() {
                let (line, record) = record?;
                each(Place { line, bytes: lines.line_bytes() }, record)?;
            }
            Ok(())
        }
        Layout::Empty => Err(PairsError::Empty {
            path: path.to_owned(),
            expected: "a JSON array of records, or one record per line",
        }),
    }
}

/// Detects the layout from the first byte that is not white space, and returns a reader from the
/// start of the content. A byte order mark is removed.
fn detect<R: BufRead>(path: &Path, mut reader: R) -> Result<(Layout, impl BufRead + use<R>), PairsError> {
    let mut head = Vec::new();
    let layout = loop {
        match peek(&mut reader).map_err(PairsError::io("read", path))? {
            None => break Layout::Empty,
            Some(b'[') => break Layout::Array,
            Some(byte) if byte.is_ascii_whitespace() || BYTE_ORDER_MARK.get(head.len()) == Some(&byte) => {
                head.push(byte);
                reader.consume(1);
                let limit = Limits::DEFAULT.record_bytes;
                if head.len() > limit {
                    let line = 1 + head.iter().filter(|&&byte| byte == b'\n').count();
                    return Err(PairsError::RecordTooLarge { path: path.to_owned(), record: 1, line, limit });
                }
                if head == BYTE_ORDER_MARK {
                    head.clear();
                }
            }
            Some(_) => break Layout::Lines,
        }
    };
    Ok((layout, Cursor::new(head).chain(reader)))
}

fn peek(reader: &mut impl BufRead) -> io::Result<Option<u8>> {
    Ok(next_chunk(reader)?.and_then(|chunk| chunk.first().copied()))
}

/// Returns the bytes that are read next, or `None` at the end.
pub(super) fn next_chunk(reader: &mut impl BufRead) -> io::Result<Option<&[u8]>> {
    loop {
        match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            // filled already, so this returns the same bytes
            Ok(_) => return reader.fill_buf().map(|chunk| Some(chunk).filter(|chunk| !chunk.is_empty())),
        }
    }
}

/// Deserializes a value and stores the path of the value that failed.
pub(super) struct Tracked<'a, T> {
    pub(super) key: &'a mut String,
    pub(super) value: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Tracked<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            *self.key = error.path().to_string();
            error.into_inner()
        })
    }
}

/// Deserializes a value from text. An error comes with the path of the value that failed.
pub(crate) fn from_text<T: DeserializeOwned>(text: &[u8]) -> Result<T, (String, serde_json::Error)> {
    // following the path takes a third of the time, so it is only done for text with an error
    if let Ok(value) = serde_json::from_slice(text) {
        return Ok(value);
    }
    let mut key = String::new();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read = Tracked { key: &mut key, value: PhantomData }.deserialize(&mut deserializer);
    read.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| (key, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<u32>, PairsError> {
        let mut all = Vec::new();
        for_each(Path::new("n.json"), text, &mut |n| {
            all.push(n);
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn arrays_and_lines_are_detected() {
        assert_eq!(read(b" \n[1, 2,\n3]\n").unwrap(), [1, 2, 3]);
        assert_eq!(read(b"1\n\n2\r\n3").unwrap(), [1, 2, 3]);
        assert_eq!(read(b"\xef\xbb\xbf[7]").unwrap(), [7]);
        assert!(matches!(read(b" \n"), Err(PairsError::Empty { .. })));
    }

    #[test]
    fn errors_have_positions() {
        let place = |text: &[u8]| match read(text).unwrap_err() {
            PairsError::Json { record, line, column, .. } => (record, line, column),
            other => panic!("{other}"),
        };
        assert_eq!(place(b"\n[1,\n 2,\n"), (3, 4, 0));
        assert_eq!(place(b"[1, 2, x]"), (3, 1, 8));
        assert_eq!(place(b"[1] 2"), (2, 1, 5));
        assert_eq!(place(b"1\n\nx\n"), (2, 3, 1));
    }

    #[test]
    fn message_has_one_position_and_no_type_name() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(expecting = "an object with `score`")]
        struct Scored {
            #[serde(rename = "score")]
            _score: f64,
        }
        for (text, expected) in [
            (
                "{\"score\": 1}\n{\"score\": \"16\"}",
                "record 2, line 2, column 14: `score`: expected a number, found the text \"16\"",
            ),
            (
                "[{\"score\": 1},\n{\"score\": \"16\"}]",
                "record 2, line 2, column 14: `score`: expected a number, found the text \"16\"",
            ),
            ("3", "record 1, line 1, column 1: expected an object with `score`, found 3"),
            ("{\"score\": 1}\n\n{\"score\" 1}", "record 2, line 3, column 10: expected `:`"),
        ] {
            let read = for_each(Path::new("n.json"), text.as_bytes(), &mut |_: Scored| Ok(()));
            assert_eq!(crate::error::chain(&read.unwrap_err()), format!("n.json: {expected}"));
        }

        #[derive(Debug, serde::Deserialize)]
        struct Unnamed {
            #[serde(rename = "inside")]
            _inside: Option<Box<Unnamed>>,
        }
        let read = for_each(Path::new("n.json"), b"{\"inside\": 3}".as_slice(), &mut |_: Unnamed| Ok(()));
        let expected = "n.json: record 1, line 1, column 12: `inside`: expected an object, found 3";
        assert_eq!(crate::error::chain(&read.unwrap_err()), expected);
    }

    #[test]
    fn record_size_is_limited() {
        let long = "7".repeat(Limits::DEFAULT.record_bytes);
        for text in [format!("[1,\n2, {long}]"), format!("1\n{long}0\n3")] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(matches!(error, PairsError::RecordTooLarge { line: 2, .. }), "{error}");
        }
    }

    #[test]
    fn error_of_the_consumer_ends_reading() {
        let mut calls = 0;
        let stopped = for_each(Path::new("n.json"), b"[1, 2]".as_slice(), &mut |_: u32| {
            calls += 1;
            Err(PairsError::Empty { path: "1".into(), expected: "more" })
        });
        assert!(matches!(stopped, Err(PairsError::Empty { .. })));
        assert_eq!(calls, 1);
    }
}
