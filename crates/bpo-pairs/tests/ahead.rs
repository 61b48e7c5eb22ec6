//! A file that another thread reads ahead gives what a pipe gives, which is read by one thread.
#![cfg(unix)]

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;

use bpo_pairs::format::{ConvertOptions, Format, Item, ReadOptions, convert, for_each_item};
use bpo_pairs::{Limits, PairFilter, PairsError, Skipped};

/// Runs `work` with a pipe that has the content of a file.
fn piped<T>(content: &[u8], work: impl FnOnce(&Path) -> T) -> T {
    let (reader, mut writer) = io::pipe().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            // fails if not all is read
            let _ = writer.write_all(content);
        });
        let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
        let done = work(&path);
        // a writer that waits for a reader ends
        drop(reader);
        done
    })
}

/// Runs `work` with a file of this content.
fn filed<T>(content: &[u8], work: impl FnOnce(&Path) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    fs::write(&path, content).unwrap();
    work(&path)
}

/// An error without the name of its file.
fn without_name(error: PairsError, path: &Path) -> String {
    bpo_pairs::chain(&error).replace(&path.display().to_string(), "FILE")
}

fn record(id: usize) -> String {
    format!(
        r#"{{"id": {id}, "image": "{id}.jpg", "prompt": "What is it?", "completions": [
            {{"score": 1, "response": "A cup {id}.", "type": "gt"}},
            {{"score": 0, "response": "A dog.", "type": "mllm-hal"}}, {{"score": 0, "response": "", "type": "llm-hal"}}]}}"#
    )
    .replace('\n', " ")
}

/// Records that fill the queue many times, of which some are skipped.
fn records() -> Vec<String> {
    let record = |id: usize| if id % 100 == 7 { format!("{{\"id\": {id}}}") } else { record(id) };
    (0..5000).map(record).collect()
}

fn lines(records: &[String]) -> Vec<u8> {
    (records.join("\n") + "\n").into_bytes()
}

type Read = (Vec<Result<Item, Skipped>>, Result<Format, String>);

/// Reads items, and fails at the item `stop`.
fn read(path: &Path, format: Option<Format>, stop: usize) -> Read {
    let mut items = Vec::new();
    let mut options = ReadOptions::default();
    options.format = format;
    let done = for_each_item(path, &options, &mut |item| {
        items.push(item);
        match items.len() {
            count if count == stop => Err(PairsError::Empty { path: "1".into(), expected: "more" }),
            _ => Ok(()),
        }
    });
    (items, done.map_err(|error| without_name(error, path)))
}

/// Checks that a file gives what a pipe gives, and returns it.
fn same(content: &[u8], stop: usize) -> Read {
    let (plain, ahead) =
        (piped(content, |path| read(path, None, stop)), filed(content, |path| read(path, None, stop)));
    assert!(plain == ahead, "{:?} and {:?}", plain.1, ahead.1);
    ahead
}

#[test]
fn all_records_come_in_order() {
    let records = records();
    let (items, done) = same(&lines(&records), usize::MAX);
    assert_eq!((items.len(), done), (5000, Ok(Format::Bpo)));
    assert_eq!(items.iter().filter(|item| item.is_err()).count(), 50);
    let array = format!("[{}]", records.join(",\n"));
    assert!(same(array.as_bytes(), usize::MAX).0 == items);
}

#[test]
fn a_broken_record_comes_after_the_records_before_it() {
    let mut records = records();
    records[3000] = "{\"id\": 3000, ".to_owned();
    let (items, done) = same(&lines(&records), usize::MAX);
    assert_eq!(items.len(), 3000);
    assert!(done.unwrap_err().starts_with("FILE: record 3001, line 3001, column "));
    let array = format!("[{}]", records.join(",\n"));
    assert_eq!(same(array.as_bytes(), usize::MAX).0.len(), 3000);
}

#[test]
fn records_that_are_too_large_are_errors() {
    let limit = Limits::DEFAULT.record_bytes;
    for (spaces, read) in [(limit - record(10).len() - 1, 20), (limit, 10)] {
        let mut records: Vec<_> = (0..20).map(record).collect();
        records[10].push_str(&" ".repeat(spaces));
        let (items, done) = same(&lines(&records), usize::MAX);
        assert_eq!((items.len(), done.is_ok()), (read, read == 20), "{done:?}");
    }
}

#[test]
fn an_error_of_the_callback_ends_the_reading() {
    let content = lines(&records());
    for stop in [1, 20, 21, 4000] {
        let (items, done) = same(&content, stop);
        assert_eq!((items.len(), done.unwrap_err()), (stop, "1 is empty: expected more".to_owned()));
    }
}

#[test]
fn empty_files_and_unknown_formats_are_errors() {
    for content in ["", " \n", "[]", "{\"a\": 1}", "{\"a\": 1}\n{", "x"] {
        let (items, done) = same(content.as_bytes(), usize::MAX);
        assert_eq!((items.len(), done.is_err()), (0, content != "[]"), "{content:?}");
    }
}

#[test]
fn a_panic_of_the_callback_continues() {
    let panic = |path: &Path| {
        let mut count = 0;
        let mut each = |_| {
            count += 1;
            if count == 2500 { std::panic::resume_unwind(Box::new(7_u8)) } else { Ok(()) }
        };
        let read = || for_each_item(path, &ReadOptions::default(), &mut each);
        catch_unwind(AssertUnwindSafe(read)).unwrap_err().downcast_ref::<u8>().copied()
    };
    let content = lines(&records());
    assert_eq!((piped(&content, panic), filed(&content, panic)), (Some(7), Some(7)));
}

/// Converts, and returns the result, the skipped pairs and the bytes of the file.
fn converted(input: &Path, name: &str) -> (Result<usize, String>, Vec<Skipped>, Option<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join(name);
    let (filter, mut skipped) = (PairFilter::default(), Vec::new());
    let mut add = |one: &Skipped| skipped.push(one.clone());
    let done = convert(input, &output, Format::Trl, &ConvertOptions::new(&filter), &mut add);
    let done = done.map(|done| done.written).map_err(|error| without_name(error, input));
    (done, skipped, fs::read(&output).ok())
}

#[test]
fn converted_files_have_the_same_bytes() {
    let mut records = records();
    let names: &[&str] = if cfg!(feature = "parquet") {
        &["a.jsonl", "a.json", "a.jsonl.gz", "a.json.zst", "a.parquet"]
    } else {
        &["a.jsonl", "a.json"]
    };
    for is_broken in [false, true] {
        if is_broken {
            records[4000] = "{".to_owned();
        }
        let content = lines(&records);
        for name in names {
            let plain = piped(&content, |path| converted(path, name));
            let ahead = filed(&content, |path| converted(path, name));
            assert!(plain == ahead, "{name}: {:?} and {:?}", plain.0, ahead.0);
            // a file is there only if it is complete
            assert_eq!(
                (ahead.0.is_ok(), ahead.2.is_some()),
                (!is_broken, !is_broken),
                "{name}: {:?}",
                ahead.0
            );
            // a pair with an empty answer for each record, and the records without completions
            let read = if is_broken { 4000 } else { 5000 };
            assert_eq!(ahead.1.len(), read, "{name}");
        }
    }
}
