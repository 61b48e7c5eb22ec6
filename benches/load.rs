//! Loading a bf16 checkpoint as f32 and as bf16, against transformers' `from_pretrained` and
//! against reading the file alone.
//!
//! ```sh
//! pip install -r benches/peers/requirements.txt
//! BPO_BENCH_PYTHON=python cargo bench -p bpo-benches --bench load -- base135
//! ```
//!
//! The file is in the page cache of the system. Variants alternate, and ratios are medians over
//! rounds. Peak memory is the increase of a process that loads once, relative to the size of the
//! model. transformers maps a file of the requested type into memory and reads it later, so the
//! peer touches each page of its weights. Without `BPO_BENCH_PYTHON` only bpo is measured.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Instant;

use bpo::burn::tensor::{Device, FloatDType};
use bpo::model::{LlavaConfig, LoadOptions, Vlm};
use bpo_benches::arguments::Arguments;
use bpo_benches::timed_process::{self, TimedProcess, Worker};
use bpo_benches::{median, ratio};

/// Name of the requested type, the type, and the size of the model relative to the file.
const TYPES: [(&str, FloatDType, f64); 2] = [("f32", FloatDType::F32, 2.0), ("bf16", FloatDType::BF16, 1.0)];

fn main() {
    let arguments = Arguments::read(&mut [], &mut []);
    match &arguments.way {
        Some(dir) => serve(&arguments, Path::new(dir)),
        None => compare(&arguments),
    }
}

fn compare(arguments: &Arguments) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = write(arguments, dir.path());
    let bytes = std::fs::metadata(&file).expect("written").len() as f64;
    let path = dir.path().display().to_string();
    let start = |own: bool| {
        if own {
            Some(TimedProcess::again(&arguments.with_way(&path)))
        } else {
            TimedProcess::python("load.py", std::slice::from_ref(&path))
        }
    };
    let mut processes = [start(true), start(false)];
    let mut seconds = timed_process::alternate(5, 1, arguments.rounds, |way| match way {
        4 => Some(read(&file)),
        way => processes[way / 2].as_mut().map(|process| process.ask(TYPES[way % 2].0)),
    });
    let baseline = seconds.pop().expect("five");

    println!(
        "{:?}, {:.0} MB in bf16, {}, {} rounds",
        arguments.preset,
        bytes / 1e6,
        arguments.device,
        arguments.rounds
    );
    println!("{:<20} {:>8} {:>10} {:>12} {:>20}", "", "s", "of reading", "peak memory", "speedup");
    println!("{:<20} {:>8.3} {:>10.2}", "reading the file", median(&mut baseline.clone()), 1.0);
    for (way, taken) in seconds.iter().enumerate().filter(|(_, taken)| !taken.is_empty()) {
        let (own, (name, _, size)) = (way < 2, TYPES[way % 2]);
        let mut process = start(own).expect("it started before");
        let before = process.ask("peak");
        process.ask(name);
        let peak = (process.ask("peak") - before) * 1024.0 * 1024.0 / (size * bytes);
        let faster = match &seconds[2 + way % 2] {
            peer if own && !peer.is_empty() => format!("{:.2}", ratio(peer, taken)),
            _ => String::new(),
        };
        println!(
            "{:<20} {:>8.3} {:>10.2} {peak:>12.2} {faster:>20}",
            format!("{} as {name}", if own { "bpo" } else { "transformers" }),
            median(&mut taken.clone()),
            ratio(taken, &baseline)
        );
    }
    if processes[1].is_none() {
        println!("transformers is not measured: BPO_BENCH_PYTHON is not set");
    }
}

/// Writes a checkpoint with random weights in bf16, and returns the path of its weights.
fn write(arguments: &Arguments, dir: &Path) -> std::path::PathBuf {
    let mut config = arguments.preset.json();
    // all layers of the tower, because transformers initializes layers that are not in the file
    config["vision_feature_layer"] = (-1).into();
    std::fs::write(dir.join("config.json"), config.to_string()).expect("written");
    let config: LlavaConfig = serde_json::from_value(config).expect("a valid configuration");
    let options = LoadOptions::default().with_dtype(FloatDType::BF16);
    let file = dir.join("model.safetensors");
    let model = Vlm::random(config, 0, &options, &Device::flex());
    model.save_weights(&file, FloatDType::BF16).expect("written");
    file
}

/// Loads the checkpoint once per request.
fn serve(arguments: &Arguments, dir: &Path) {
    let worker = Worker::on(arguments.device);
    let mut way = worker.ready();
    while let Some(name) = &way {
        let (_, dtype, _) = TYPES.iter().find(|(known, ..)| known == name).expect("a type");
        let options = LoadOptions::default().with_dtype(*dtype);
        let start = Instant::now();
        let model = Vlm::from_pretrained(dir, &options, &worker.device).expect("a model");
        way = worker.done(start);
        drop(model);
    }
}

/// Reads a file once on all cores, sums its content, and returns the seconds.
fn read(file: &Path) -> f64 {
    let start = Instant::now();
    let size = std::fs::metadata(file).expect("a file").len();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let part = size.div_ceil(cores);
    let sum = |number: u64| {
        let mut opened = File::open(file).expect("a file");
        opened.seek(SeekFrom::Start(number * part)).expect("a place in it");
        let (mut rest, mut sum) = (opened.take(part), 0_u64);
        let mut buffer = vec![0; 1 << 18];
        loop {
            let read = rest.read(&mut buffer).expect("bytes");
            if read == 0 {
                return sum;
            }
            let (words, _) = buffer[..read].as_chunks::<8>();
            sum = words.iter().fold(sum, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)));
        }
    };
    let sums: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|number| scope.spawn(move || sum(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it reads")).fold(0, u64::wrapping_add)
    });
    std::hint::black_box(sums);
    start.elapsed().as_secs_f64()
}
