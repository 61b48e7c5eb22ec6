//! DPO training steps against TRL with PEFT, with the same dimensions and batches on the same
//! machine.
//!
//! ```sh
//! pip install -r benches/peers/requirements.txt
//! BPO_BENCH_PYTHON=python cargo bench -p bpo-benches --bench train -- small
//! BPO_BENCH_PYTHON=python cargo bench -p bpo-benches --bench train -- base135 --pairs 2
//! BPO_BENCH_PYTHON=python cargo bench -p bpo-benches --bench train -- smolvlm-256m --pairs 2
//! ```
//!
//! `--device libtorch` needs the feature `tch`. Variants alternate step by step, and ratios are
//! medians over rounds. Peak memory is that of a separate process after two steps. At the
//! dimensions of 7B, variants run one after the other, and peak memory is that of all their steps.
//!
//! `smolvlm-256m` and `qwen2.5-vl` write a checkpoint of random weights in bf16, with all files of a
//! published one, and both sides load it. `--checkpoint DIR` takes one that is there. Peak memory is
//! that of the timed processes, loading included. `--splitting 1` lets SmolVLM split images into
//! tiles. With `qwen2.5-vl`, bpo without a cached reference alternates with TRL, and the other
//! variants follow one by one, because of the memory.
//!
//! `of matmul` is the arithmetic of a step relative to the rate of large matrix products in the
//! same run. Without `BPO_BENCH_PYTHON` only bpo is measured.
//!
//! `--growth 1` prints how the time of a bpo step grows with each size of the batch, and the effect
//! of grouping answers by length. Its timed processes run with `--unequal 1` (mixed) and `2`
//! (grouped).

use std::collections::BTreeMap;
use std::path::PathBuf;
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
use family::photo;
use tempfile::TempDir;

mod family;
mod growth;

fn main() {
    let (mut pairs, mut text, mut answer, mut rejected, mut statistics) = (4, 48, 64, 1, 1);
    let (mut growth, mut unequal, mut splitting, mut checkpoint) = (0, 0, 0, None);
    let arguments = Arguments::read(
        &mut [
            ("pairs", &mut pairs),
            ("text", &mut text),
            ("answer", &mut answer),
            ("rejected", &mut rejected),
            ("statistics", &mut statistics),
            ("growth", &mut growth),
            ("unequal", &mut unequal),
            ("splitting", &mut splitting),
        ],
        &mut [("checkpoint", &mut checkpoint)],
    );
    let task = Task {
        arguments,
        pairs,
        text,
        answer,
        rejected,
        statistics: statistics > 0,
        unequal: Unequal::of(unequal),
        splitting: splitting > 0,
        checkpoint: checkpoint.map(PathBuf::from),
    };
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
    /// Whether SmolVLM splits images into tiles.
    splitting: bool,
    /// The checkpoint of both sides. A LLaVA of random weights needs none.
    checkpoint: Option<PathBuf>,
}

/// What is compared: the model and batch of a preset or of a checkpoint.
struct Work {
    title: String,
    /// The sizes of a step.
    tokens: String,
    cost: Option<StepCost>,
    /// Further arguments of bpo's timed processes.
    own: Vec<String>,
    /// The script of the peer, and its arguments.
    script: &'static str,
    peer: Vec<String>,
    _kept: TempDir,
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
/// The variants of bpo.
const WAYS: [&str; 3] = ["bpo", "bpo, cached reference", "bpo, recomputed"];
/// The peer.
const TRL: &str = "TRL + PEFT";

impl Task {
    fn compare(&self) {
        let work = if self.has_files() { self.checkpoint_work() } else { self.llava_work() };
        let start = |way: &str| match way {
            TRL => self.arguments.peer(work.script, &work.peer),
            way => Some(TimedProcess::again(&[self.arguments.with_way(way), work.own.clone()].concat())),
        };
        let measured: Vec<_> = self.together().iter().flat_map(|ways| self.measure(ways, start)).collect();

        println!("{}", self.arguments.heading_of(&work.title, &work.tokens));
        println!(
            "{:<24} {:>9} {:>9} {:>12} {:>9} {:>9} {:>12}",
            "", "step, s", "pairs/s", "speedup", "peak MB", "of TRL's", "of matmul"
        );
        let limits = DeviceLimits::of(self.arguments.device, self.arguments.dtype);
        let trl = measured.iter().find(|measured| measured.way == TRL);
        for Measured { way, seconds, peak } in &measured {
            let middle = median(&mut seconds.clone());
            let of_trl = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.2}"));
            let faster = of_trl(trl.map(|trl| ratio(&trl.seconds, seconds)));
            let smaller = of_trl(trl.map(|trl| peak / trl.peak));
            let rate = work.cost.as_ref().map(|cost| cost.operations(way.contains("cached")) / middle);
            let used =
                rate.filter(|_| *way != TRL).map(|rate| format!("{:.0} %", 100.0 * rate / limits.matmul));
            println!(
                "{way:<24} {middle:>9.3} {:>9.3} {faster:>12} {peak:>9.0} {smaller:>9} {:>12}",
                (self.pairs * self.rejected) as f64 / middle,
                used.unwrap_or_default()
            );
        }
        println!("{limits}");
        if trl.is_none() {
            println!(
                "TRL is not measured: BPO_BENCH_PYTHON is not set, there are several rejected answers, or torch lacks the device"
            );
        }
    }

    /// Whether the model is a checkpoint that both sides load.
    fn has_files(&self) -> bool {
        self.checkpoint.is_some() || !self.arguments.preset.is_llava()
    }

    /// Prepares the comparison on a LLaVA of random weights.
    fn llava_work(&self) -> Work {
        let (kept, config_file) = self.arguments.preset.file();
        let numbers = [self.pairs, self.text, self.answer].map(|number| number.to_string());
        let config = self.arguments.preset.config();
        let rank = LoraConfig::default().r;
        let answers = 1 + self.rejected;
        Work {
            title: format!("{:?}", self.arguments.preset),
            tokens: format!(
                "{} pairs, {} image + {} text + {} answer tokens",
                self.pairs,
                config.image_tokens(),
                self.text,
                self.answer
            ),
            cost: Some(StepCost::new(&config, self.pairs, self.text, answers, self.answer, rank)),
            own: Vec::new(),
            script: "dpo_step.py",
            peer: [&[config_file, photos().display().to_string()], &numbers[..]].concat(),
            _kept: kept,
        }
    }

    /// The variants, in groups that are in memory at the same time.
    fn together(&self) -> Vec<Vec<&'static str>> {
        // TRL supports only one rejected answer per chosen answer
        let trl = (self.rejected == 1).then_some(TRL);
        match self.arguments.preset {
            _ if self.checkpoint.is_some() => vec![WAYS.into_iter().chain(trl).collect()],
            Preset::Llava7b => WAYS.into_iter().chain(trl).map(|way| vec![way]).collect(),
            Preset::Qwen25Vl => {
                let [first, others @ ..] = WAYS;
                let together = [first].into_iter().chain(trl).collect();
                std::iter::once(together).chain(others.map(|way| vec![way])).collect()
            }
            _ => vec![WAYS.into_iter().chain(trl).collect()],
        }
    }

    /// Times the variants alternately, and measures the peak memory of each in a separate process
    /// of two steps. A single variant, and one that loads a checkpoint, reports the peak of the timed
    /// process.
    fn measure<'a>(
        &self,
        ways: &[&'a str],
        start: impl Fn(&str) -> Option<TimedProcess>,
    ) -> Vec<Measured<'a>> {
        let mut processes: Vec<_> = ways.iter().map(|way| start(way)).collect();
        let warm_up = if self.has_files() { 1 } else { 2 };
        let seconds = timed_process::alternate(ways.len(), warm_up, self.arguments.rounds, |way| {
            processes[way].as_mut().map(|process| process.ask("step"))
        });
        let of_timed = self.has_files() || ways.len() == 1;
        let mut known: Vec<_> = processes
            .iter_mut()
            .map(|process| process.as_mut().filter(|_| of_timed).map(|process| process.ask("peak")))
            .collect();
        drop(processes);
        let mut peak = |at: usize| {
            known[at].take().or_else(|| {
                let mut process = start(ways[at])?;
                for _ in 0..2 {
                    process.ask("step");
                }
                Some(process.ask("peak"))
            })
        };
        seconds
            .into_iter()
            .enumerate()
            .filter_map(|(at, seconds)| Some(Measured { way: ways[at], seconds, peak: peak(at)? }))
            .collect()
    }

    /// Runs one training step per request.
    fn serve(&self, way: &str) {
        let worker = Worker::on(self.arguments.device);
        match &self.checkpoint {
            Some(dir) => {
                let model = self.load(dir, &worker.device);
                let collate = self.collator(dir, &model);
                self.train(way, &worker, model, collate);
            }
            None => self.train(way, &worker, self.model(&worker.device), Batch::new(self)),
        }
    }

    fn train<C>(&self, way: &str, worker: &Worker, model: Vlm, mut collate: C)
    where
        C: Collate<Batch = ScoreBatch, Error = ModelError> + Send,
    {
        let model = model.with_gradient_checkpointing(way == "bpo, recomputed").expect("no dropout");
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
                let filled = cache.fill(
                    std::slice::from_ref(&model),
                    Adapters::Off,
                    &mut collate,
                    batches(&config, &pairs),
                    |_, _| Ok(()),
                );
                filled.expect("log-probabilities");
                Reference::Cached(cache)
            }
        };
        let trainer =
            Trainer::new(config, model, collate, None).expect("a trainer").with_reference(reference);
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
            prompt: if self.has_files() { "w".repeat(self.text) } else { String::new() },
            chosen: name(0),
            rejected: name(1 + rejected),
            kind: CompletionKind::ImageWeakened,
            chosen_kind: None,
            provenance: None,
            margin: None,
            beta: None,
            contrast_images: Vec::new(),
            contrast_answer: None,
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
        let Task { text, answer, unequal, .. } = *task;
        Self { config, processor, photos: photographs(), text, answer, unequal }
    }
}

/// Returns the paths of the photographs.
fn photographs() -> Vec<PathBuf> {
    let photos =
        std::fs::read_dir(photos()).expect("photographs").map(|entry| entry.expect("an entry").path());
    let is_jpeg = |path: &PathBuf| path.extension().is_some_and(|end| end == "jpg");
    let mut photos: Vec<_> = photos.filter(is_jpeg).collect();
    photos.sort();
    photos
}

impl Collate for Batch {
    type Batch = ScoreBatch;
    type Error = ModelError;

    fn collate(&mut self, groups: &[PromptGroup]) -> Result<ScoreBatch, ModelError> {
        let (mut images, mut rows) = (Vec::new(), Vec::new());
        for group in groups {
            let image = load_rgb(photo(&self.photos, &group.images[0]), &ImageLimits::default())
                .expect("a photograph");
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
