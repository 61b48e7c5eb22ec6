//! Batched generation against transformers' `generate`, with the same dimensions and prompts on the
//! same machine.
//!
//! ```sh
//! pip install -r benches/peers/requirements.txt
//! BPO_BENCH_PYTHON=python cargo bench -p bpo-benches --bench generate -- small --rows 8
//! ```
//!
//! A run encodes the images, processes the prompts in one pass, and samples a fixed number of
//! tokens. Pixel values and token ids are prepared before. Variants alternate, and ratios are
//! medians over rounds. Without `BPO_BENCH_PYTHON` only bpo is measured.

use std::time::Instant;

use bpo::model::{Adapters, ContrastInput, GenerationSettings, ModelInput, Prompt, Vlm};
use bpo::pairs::Sampling;
use bpo_benches::arguments::Arguments;
use bpo_benches::device_limits::DeviceLimits;
use bpo_benches::shape::{decoded_bytes, image, prompt};
use bpo_benches::timed_process::{self, TimedProcess, Worker};
use bpo_benches::{median, ratio};

fn main() {
    let (mut rows, mut text, mut new) = (8, 48, 64);
    let arguments =
        Arguments::read(&mut [("rows", &mut rows), ("text", &mut text), ("new", &mut new)], &mut []);
    let task = Task { arguments, rows, text, new };
    match &task.arguments.way {
        Some(_) => task.serve(),
        None => task.compare(),
    }
}

/// The sizes of the benchmark.
struct Task {
    arguments: Arguments,
    rows: usize,
    /// Tokens of the prompt besides the image tokens.
    text: usize,
    /// Number of new tokens per row.
    new: usize,
}

impl Task {
    fn compare(&self) {
        let (_kept, config_file) = self.arguments.preset.file();
        let numbers = [self.rows, self.text, self.new].map(|number| number.to_string());
        let peer = [&[config_file], &numbers[..]].concat();
        let mut ours = TimedProcess::again(&self.arguments.with_way("all"));
        let mut python = self.arguments.peer("generate.py", &peer);

        let ways =
            [(true, "batch"), (true, "contrast"), (true, "prefill"), (false, "batch"), (false, "single")];
        let seconds = timed_process::alternate(ways.len(), 1, self.arguments.rounds, |way| {
            let (own, way) = ways[way];
            let process = if own { Some(&mut ours) } else { python.as_mut() };
            process.map(|process| process.ask(way))
        });
        drop(ours);

        let config = self.arguments.preset.config();
        let tokens = format!(
            "{} rows, {} image + {} text + {} new tokens",
            self.rows,
            config.image_tokens(),
            self.text,
            self.new
        );
        println!("{}", self.arguments.heading(&tokens));
        for ((own, way), seconds) in ways.iter().zip(&seconds).filter(|(_, seconds)| !seconds.is_empty()) {
            let middle = median(&mut seconds.clone());
            let tokens = if *way == "prefill" { self.rows } else { self.rows * self.new };
            let whose = if *own { "bpo" } else { "transformers" };
            println!("{whose:<13} {way:<9} {middle:8.3} s {:9.1} new tokens/s", tokens as f64 / middle);
        }
        println!("time of bpo's contrast decoding / plain      {:6.2}", ratio(&seconds[1], &seconds[0]));
        for (way, seconds_of) in ways.iter().zip(&seconds).skip(3).filter(|(_, seconds)| !seconds.is_empty())
        {
            let what = format!("time of transformers {} / bpo batch", way.1);
            println!("{what:<44} {:6.2}", ratio(seconds_of, &seconds[0]));
        }
        self.print_floor(&seconds[0], &seconds[2]);
        if python.is_none() {
            println!("transformers is not measured: BPO_BENCH_PYTHON is not set, or torch lacks the device");
        }
    }

    /// Prints the bytes that a decoding step reads relative to the rate of copies.
    fn print_floor(&self, batch: &[f64], prefill: &[f64]) {
        let config = self.arguments.preset.config();
        let limits = DeviceLimits::of(self.arguments.device, self.arguments.dtype);
        let context = config.image_tokens() + self.text + self.new / 2;
        let bytes = decoded_bytes(&config, self.rows, context, self.arguments.size());
        let mut steps: Vec<_> =
            batch.iter().zip(prefill).map(|(all, first)| (all - first) / (self.new - 1) as f64).collect();
        println!(
            "a decoding step reads {:.1} MB, {:.2} per token: {:.0} % of the rate of copies",
            bytes / 1e6,
            bytes / 1e6 / self.rows as f64,
            100.0 * bytes / median(&mut steps) / limits.copy
        );
        println!("{limits}");
    }

    fn serve(&self) {
        let worker = Worker::on(self.arguments.device);
        let model = Vlm::random_of_device(
            self.arguments.preset.config(),
            0,
            &self.arguments.options(),
            &worker.device,
        );
        let prompts =
            |way: &str| -> Vec<Prompt> { (0..self.rows).map(|row| self.prompt(row, way)).collect() };
        let mut way = worker.ready();
        while let Some(name) = &way {
            let prompts = prompts(name);
            let start = Instant::now();
            let answers =
                model.generate(&prompts, &GenerationSettings::default(), Adapters::Off).expect("answers");
            let new = if name == "prefill" { 1 } else { self.new };
            assert!(answers.iter().all(|answer| answer.ids.len() == new));
            way = worker.done(start);
        }
    }

    fn prompt(&self, row: usize, way: &str) -> Prompt {
        let new = if way == "prefill" { 1 } else { self.new };
        let sampling = Sampling::greedy(new).with_temperature(0.2).with_seed(row as u64);
        let config = self.arguments.preset.config();
        let seen = |number| ModelInput::new(prompt(&config, self.text), vec![image(&config, number)]);
        let asked = Prompt::new(seen(row), sampling);
        match way {
            // the contrast input is processed like a second prompt, as with a weakened image
            "contrast" => asked.with_contrast(ContrastInput::new(seen(self.rows + row), 1.0, 0.1)),
            _ => asked,
        }
    }
}
