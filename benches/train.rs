//! DPO training steps against TRL with PEFT, with the same dimensions and batches on the same
//! machine.
//!
//! ```sh
//! pip install -r benches/peers/requirements.txt
//! BPO_BENCH_PYTHON=python cargo bench -p bpo-benches --bench train -- small
//! BPO_BENCH_PYTHON=python cargo bench -p bpo-benches --bench train -- base135 --pairs 2
//! ```
//!
//! `--device libtorch` needs the feature `tch`. Variants alternate step by step, and ratios are
//! medians over rounds. Peak memory is that of a separate process after two steps. At the
//! dimensions of 7B, variants run one after the other, and peak memory is that of all their steps.
//! `of matmul` is the arithmetic of a step relative to the rate of large matrix products in the
//! same run. Without `BPO_BENCH_PYTHON` only bpo is measured.
//!
//! `--growth 1` prints how the time of a bpo step grows with each size of the batch, and the effect
//! of grouping answers by length. Its timed processes run with `--unequal 1` (mixed) and `2`
//! (grouped).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bpo::HALF_PRECISION_TOLERANCE;
use bpo::burn::tensor::{Device, FloatDType};
use bpo::distort::{ImageLimits, load_rgb};
use bpo::dpo::{
    Adapters, Collate, Control, DpoConfig, LogpCache, PairBatches, PromptGroup, Reference, Trainer,
};
use bpo::model::LlavaConfig;
use bpo::model::ScoreBatch;
use bpo::model::{ImageProcessor, TokenizedCompletion};
use bpo::model::{LoraConfig, ModelError, Vlm};
use bpo::pairs::{CompletionKind, PreferencePair};
use bpo_benches::arguments::Arguments;
use bpo_benches::device_limits::DeviceLimits;
use bpo_benches::shape::{Preset, StepCost, answer, prompt};
use bpo_benches::timed_process::{self, TimedProcess, Worker};
use bpo_benches::{median, photos, processor, ratio};

mod growth;

fn main() {
    let (mut pairs, mut text, mut answer, mut rejected, mut statistics) = (4, 48, 64, 1, 1);
    let (mut growth, mut unequal) = (0, 0);
    let arguments = Arguments::read(&mut [
        ("pairs", &mut pairs),
        ("text", &mut text),
        ("answer", &mut answer),
        ("rejected", &mut rejected),
        ("statistics", &mut statistics),
        ("growth", &mut growth),
        ("unequal", &mut unequal),
    ]);
    let statistics = statistics > 0;
    let task = Task { arguments, pairs, text, answer, rejected, statistics, unequal: Unequal::of(unequal) };
    match &task.arguments.way {
        Some(way) => task.serve(way),
        None if growth > 0 => task.grow(),
        None => task.compare(),
    }
}

/// The sizes of the benchmark.
struct Task {
    arguments: Arguments,
    pairs: usize,
    /// Tokens of the prompt besides the image tokens.
    text: usize,
    answer: usize,
    /// Number of rejected answers per chosen answer.
    rejected: usize,
    /// Whether entropy, accuracy and mean logits are computed, as in TRL.
    statistics: bool,
    unequal: Unequal,
}

/// Whether answers differ in length, from a quarter to seven quarters of `answer`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unequal {
    No,
    /// Answers of different lengths in random order.
    Mixed,
    /// Answers of similar length in the same step.
    Grouped,
}

impl Unequal {
    fn of(number: usize) -> Self {
        match number {
            0 => Self::No,
            1 => Self::Mixed,
            _ => Self::Grouped,
        }
    }

    /// Returns the number of tokens of answer `number`.
    fn length(self, number: usize, usual: usize) -> usize {
        match self {
            Self::No => usual,
            _ => (usual / 4 + 3 * usual * (number * 37 % 97) / 96 / 2).max(1),
        }
    }
}

/// Number of steps in an epoch with answers of different lengths.
const EPOCH: usize = 40;

impl Task {
    fn compare(&self) {
        let (_kept, config_file) = self.arguments.preset.file();
        let numbers = [self.pairs, self.text, self.answer].map(|number| number.to_string());
        let peer = [&[config_file, photos().display().to_string()], &numbers[..]].concat();
        let start = |way: &str| match way {
            "TRL + PEFT" => self.arguments.peer("dpo_step.py", &peer),
            way => Some(TimedProcess::again(&self.arguments.with_way(way))),
        };
        // TRL supports only one rejected answer per chosen answer
        let ways = ["bpo", "bpo, cached reference", "bpo, recomputed", "TRL + PEFT"];
        let ways = &ways[..if self.rejected == 1 { 4 } else { 3 }];
        // 7B variants run one at a time because of their memory
        let together = if self.arguments.preset == Preset::Llava7b { 1 } else { ways.len() };
        let measured: Vec<_> = ways.chunks(together).flat_map(|ways| self.measure(ways, start)).collect();

        let config = self.arguments.preset.config();
        let tokens = format!(
            "{} pairs, {} image + {} text + {} answer tokens",
            self.pairs,
            config.image_tokens(),
            self.text,
            self.answer
        );
        println!("{}", self.arguments.heading(&tokens));
        println!(
            "{:<24} {:>9} {:>9} {:>12} {:>9} {:>9} {:>12}",
            "", "step, s", "pairs/s", "speedup", "peak MB", "of TRL's", "of matmul"
        );
        let limits = DeviceLimits::of(self.arguments.device, self.arguments.dtype);
        let rank = LoraConfig::default().r;
        let cost = StepCost::new(&config, self.pairs, self.text, 1 + self.rejected, self.answer, rank);
        let trl = measured.iter().find(|measured| measured.way.starts_with("TRL"));
        for Measured { way, seconds, peak } in &measured {
            let middle = median(&mut seconds.clone());
            let of_trl = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.2}"));
            let faster = of_trl(trl.map(|trl| ratio(&trl.seconds, seconds)));
            let smaller = of_trl(trl.map(|trl| peak / trl.peak));
            let rate = cost.operations(way.contains("cached")) / middle;
            let used = if way.starts_with("bpo") {
                format!("{:.0} %", 100.0 * rate / limits.matmul)
            } else {
                String::new()
            };
            println!(
                "{way:<24} {middle:>9.3} {:>9.3} {faster:>12} {peak:>9.0} {smaller:>9} {used:>12}",
                (self.pairs * self.rejected) as f64 / middle
            );
        }
        println!("{limits}");
        if trl.is_none() {
            println!(
                "TRL is not measured: BPO_BENCH_PYTHON is not set, there are several rejected answers, or torch lacks the device"
            );
        }
    }

    /// Times the variants alternately, and measures the peak memory of each in a separate process
    /// of two steps. A single variant reports the peak of the timed process.
    fn measure<'a>(
        &self,
        ways: &[&'a str],
        start: impl Fn(&str) -> Option<TimedProcess>,
    ) -> Vec<Measured<'a>> {
        let mut processes: Vec<_> = ways.iter().map(|way| start(way)).collect();
        // the first two rounds are a warm-up
        let seconds = timed_process::alternate(ways.len(), 2, self.arguments.rounds, |way| {
            processes[way].as_mut().map(|process| process.ask("step"))
        });
        let alone = processes.pop().filter(|_| processes.is_empty()).flatten();
        drop(processes);
        let mut alone = alone.map(|mut process| process.ask("peak"));
        let mut peak = |way: &str| {
            alone.take().or_else(|| {
                let mut process = start(way)?;
                for _ in 0..2 {
                    process.ask("step");
                }
                Some(process.ask("peak"))
            })
        };
        ways.iter()
            .zip(seconds)
            .filter_map(|(way, seconds)| Some(Measured { way, seconds, peak: peak(way)? }))
            .collect()
    }

    /// Runs one training step per request.
    fn serve(&self, way: &str) {
        let worker = Worker::on(self.arguments.device);
        let model = self
            .model(&worker.device)
            .with_gradient_checkpointing(way == "bpo, recomputed")
            .expect("no dropout");
        let mut batch = Batch::new(self);
        let config = DpoConfig::default()
            .with_batch_size(self.pairs * self.rejected)
            .with_epochs(10_000)
            .with_initial_tolerance(self.tolerance())
            .with_statistics(self.statistics)
            .with_group_by_length(self.unequal == Unequal::Grouped);
        let groups = if self.unequal == Unequal::No { self.pairs } else { EPOCH * self.pairs };
        let pairs: Vec<_> =
            (0..groups).flat_map(|group| (0..self.rejected).map(move |k| self.pair(group, k))).collect();
        let reference = match way {
            "bpo" | "bpo, recomputed" => Reference::AdaptersOff,
            _ => {
                let mut cache = LogpCache::new(BTreeMap::new());
                let filled =
                    cache.fill(&model, Adapters::Off, &mut batch, batches(&config, &pairs), |_, _| Ok(()));
                filled.expect("log-probabilities");
                Reference::Cached(cache)
            }
        };
        let trainer = Trainer::new(config, model, batch, None).expect("a trainer").with_reference(reference);
        if worker.ready().is_some() {
            let mut start = Instant::now();
            let step = &mut |_: &_| {
                let go_on = worker.done(start);
                start = Instant::now();
                if go_on.is_some() { Control::Continue } else { Control::Stop }
            };
            trainer.train(pairs, step).expect("steps");
        }
    }

    /// Returns the tolerance of the check before the first step.
    fn tolerance(&self) -> Option<f64> {
        (self.arguments.dtype != FloatDType::F32).then_some(HALF_PRECISION_TOLERANCE)
    }

    fn model(&self, device: &Device) -> Vlm {
        let options = self.arguments.options();
        let lora = LoraConfig::default();
        Vlm::random_of_device(self.arguments.preset.config(), 0, &options, device)
            .with_lora(&lora, 0)
            .expect("linears to adapt")
    }

    fn pair(&self, group: usize, rejected: usize) -> PreferencePair {
        // an answer has one character per token
        let name = |number: usize| {
            let number = group * (1 + self.rejected) + number;
            format!("{number:0>length$}", length = self.unequal.length(number, self.answer))
        };
        PreferencePair {
            id: format!("{group}>{rejected}"),
            images: vec![group.to_string()],
            system: None,
            history: Default::default(),
            prompt: String::new(),
            chosen: name(0),
            rejected: name(1 + rejected),
            kind: CompletionKind::ImageWeakened,
            provenance: None,
            margin: None,
            beta: None,
        }
    }
}

/// Measurements of a variant: seconds of each step, and peak memory in MB.
struct Measured<'a> {
    way: &'a str,
    seconds: Vec<f64>,
    peak: f64,
}

/// A collator that loads images from files and makes token ids of the given lengths. Answers are
/// numbers.
struct Batch {
    config: LlavaConfig,
    processor: ImageProcessor,
    photos: Vec<PathBuf>,
    text: usize,
    answer: usize,
    unequal: Unequal,
}

impl Batch {
    fn new(task: &Task) -> Self {
        let config = task.arguments.preset.config();
        let processor = processor(config.vision_config.image_size);
        let photos =
            std::fs::read_dir(photos()).expect("photographs").map(|entry| entry.expect("an entry").path());
        let is_jpeg = |path: &PathBuf| path.extension().is_some_and(|end| end == "jpg");
        let mut photos: Vec<_> = photos.filter(is_jpeg).collect();
        photos.sort();
        let Task { text, answer, unequal, .. } = *task;
        Self { config, processor, photos, text, answer, unequal }
    }

    fn photo(&self, number: &str) -> &Path {
        &self.photos[number.parse::<usize>().expect("a number") % self.photos.len()]
    }
}

impl Collate for Batch {
    type Batch = ScoreBatch;
    type Error = ModelError;

    fn collate(&mut self, groups: &[PromptGroup]) -> Result<ScoreBatch, ModelError> {
        let (mut images, mut rows) = (Vec::new(), Vec::new());
        for group in groups {
            let image =
                load_rgb(self.photo(&group.images[0]), &ImageLimits::default()).expect("a photograph");
            images.push(self.config.input(self.processor.process(&image)?));
            let prompt = prompt(&self.config, self.text);
            let answered = |name: &String| {
                let number = name.parse().expect("a number");
                let answer = answer(number, self.unequal.length(number, self.answer));
                TokenizedCompletion::new(prompt.iter().copied().chain(answer).collect(), prompt.len())
            };
            rows.push((vec![images.len() - 1], group.completions.iter().map(answered).collect()));
        }
        ScoreBatch::new(&self.config.clone().into(), images, &rows)
    }
}

fn batches<'a>(config: &DpoConfig, pairs: &'a [PreferencePair]) -> PairBatches<'a> {
    PairBatches { pairs, loss: config.objective().properties(), size: config.batch_size }
}
