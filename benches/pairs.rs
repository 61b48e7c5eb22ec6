//! Making preference pairs from samples and existing answers: reads the files, makes the pairs, and
//! writes `pairs.jsonl`.
//!
//! ```sh
//! BPO_BENCH_PYTHON=python cargo bench -p bpo-benches --bench pairs -- --samples 100000
//! ```
//!
//! Each sample has an answer about a weakened image and an answer with injected errors. The lower
//! bound is reading and parsing the same files with serde_json; the peer is a plain Python script,
//! which needs `BPO_BENCH_PYTHON`. Variants alternate, and ratios are medians over rounds.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bpo::pairs::format::jsonl::{JsonLines, write_pairs};
use bpo::pairs::format::llava;
use bpo::pairs::{PairFilter, make_all_pairs};
use bpo::stages::{StageRecord, assemble};
use bpo_benches::arguments::Arguments;
use bpo_benches::timed_process::{self, TimedProcess};
use bpo_benches::{median, ratio};
use serde_json::{Value, json};

fn main() {
    let mut samples = 100_000;
    let arguments = Arguments::read(&mut [("samples", &mut samples)], &mut []);
    let dir = tempfile::tempdir().expect("a directory");
    let files = Files::write(dir.path(), samples);
    let mut python = TimedProcess::python("pairs.py", &[dir.path().display().to_string()]);

    let timed = |work: &dyn Fn()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let seconds = timed_process::alternate(3, 1, arguments.rounds, |way| match way {
        0 => Some(timed(&|| files.parse())),
        1 => Some(timed(&|| assert_eq!(files.build(), 2 * samples))),
        _ => python.as_mut().map(|python| python.ask("build")),
    });
    let [baseline, ours, peer] = &seconds[..] else { unreachable!("three ways") };

    println!(
        "{samples} samples, {} pairs, {:.0} MB read, {} rounds",
        2 * samples,
        files.megabytes(),
        arguments.rounds
    );
    for (name, seconds) in [("parsing alone", baseline), ("bpo", ours), ("Python", peer)] {
        if !seconds.is_empty() {
            let middle = median(&mut seconds.to_vec());
            println!("{name:<15} {middle:8.3} s {:10.0} pairs/s", 2.0 * samples as f64 / middle);
        }
    }
    println!("time of bpo / parsing alone          {:6.2}", ratio(ours, baseline));
    match python {
        Some(_) => println!("time of Python / bpo                 {:6.2}", ratio(peer, ours)),
        None => println!("Python is not measured: BPO_BENCH_PYTHON is not set"),
    }
}

/// Paths of the input and output files.
struct Files {
    samples: PathBuf,
    /// Answers about weakened images, and answers with injected errors.
    answers: [PathBuf; 2],
    pairs: PathBuf,
}

impl Files {
    /// Writes synthetic samples with answers of about fifty words.
    fn write(dir: &Path, samples: usize) -> Self {
        let files = Self {
            samples: dir.join("samples.json"),
            answers: ["weakened.jsonl", "injected.jsonl"].map(|name| dir.join(name)),
            pairs: dir.join("pairs.jsonl"),
        };
        let sample = |number: usize| {
            let turn = |from: &str, value: String| json!({"from": from, "value": value});
            let question = "<image>\nWhat is there in the picture?".to_owned();
            let turns = [turn("human", question), turn("gpt", words(number, 0))];
            json!({"id": number.to_string(), "image": format!("{number:06}.jpg"), "conversations": turns})
        };
        let all: Vec<_> = (0..samples).map(sample).collect();
        fs::write(&files.samples, serde_json::to_vec(&all).expect("JSON")).expect("written");
        for (way, (file, kind)) in files.answers.iter().zip(["mllm-hal", "llm-hal"]).enumerate() {
            let mut writer = BufWriter::new(File::create(file).expect("a file"));
            for number in 0..samples {
                let response = words(number, way + 1);
                let answer =
                    json!({"id": number.to_string(), "type": kind, "response": response, "finish": "stop"});
                writeln!(writer, "{answer}").expect("written");
            }
            writer.flush().expect("written");
        }
        files
    }

    fn megabytes(&self) -> f64 {
        let read = std::iter::once(&self.samples).chain(&self.answers);
        read.map(|file| fs::metadata(file).expect("written").len() as f64).sum::<f64>() / 1e6
    }

    /// Reads and parses the files without making pairs.
    fn parse(&self) {
        let samples: Vec<Value> =
            serde_json::from_slice(&fs::read(&self.samples).expect("a file")).expect("JSON");
        let mut answers: Vec<StageRecord> = Vec::new();
        for file in &self.answers {
            let lines = fs::read(file).expect("a file");
            let parsed = lines.trim_ascii_end().split(|byte| *byte == b'\n').map(serde_json::from_slice);
            answers.extend(parsed.map(|answer| answer.expect("JSON")));
        }
        std::hint::black_box((samples, answers));
    }

    /// Makes `pairs.jsonl` and returns the number of its pairs.
    fn build(&self) -> usize {
        let samples = llava::read(&self.samples).expect("samples").samples;
        let lines = |file| JsonLines::<StageRecord, _>::open(file).expect("a file");
        let answers = self.answers.iter().flat_map(lines).map(|line| Ok(line?.1));
        let records = assemble(&samples, answers).expect("answers of these samples");
        let set = make_all_pairs(&records, &PairFilter::default());
        write_pairs(&self.pairs, &set.pairs).expect("written");
        set.pairs.len()
    }
}

/// Returns a synthetic answer.
fn words(number: usize, way: usize) -> String {
    const WORDS: [&str; 12] =
        ["a", "dog", "and", "two", "red", "cups", "stand", "on", "the", "table", "near", "window"];
    let word = |place: usize| WORDS[(number + place * (place + way + 1)) % WORDS.len()];
    (0..50).map(word).chain([["once.", "twice.", "again."][way]]).collect::<Vec<_>>().join(" ")
}
