//! Log-probabilities of completions, as in `bpo score`, against transformers' forward pass without
//! gradients.
//!
//! ```sh
//! pip install -r benches/peers/requirements.txt
//! BPO_BENCH_PYTHON=python cargo bench -p bpo-benches --bench score -- small --prompts 4
//! ```
//!
//! Each prompt has an image and `--answers` completions, 2 by default. Pixel values and token ids
//! are prepared before. The variants are:
//!
//! - `bpo shared` computes image and prompt once for all completions of a prompt.
//! - `bpo apart` computes image and prompt for each completion, as transformers does.
//! - `transformers all` computes the logits of all tokens.
//! - `transformers kept` computes only the logits of the completions.
//!
//! `tokens/s` counts the tokens of every completion with its prompt, for all variants. `of matmul`
//! is the arithmetic relative to the rate of large matrix products in the same run. Variants
//! alternate, and ratios are medians over rounds. Without `BPO_BENCH_PYTHON` only bpo is measured.

use std::time::Instant;

use bpo::burn::tensor::DType;
use bpo::model::{Adapters, LlavaConfig, ScoreBatch, TokenizedCompletion, Vlm};
use bpo_benches::arguments::Arguments;
use bpo_benches::device_limits::DeviceLimits;
use bpo_benches::shape::{StepCost, answer, image, prompt};
use bpo_benches::timed_process::{self, TimedProcess, Worker};
use bpo_benches::{median, ratio};

fn main() {
    let (mut prompts, mut answers, mut text, mut answer) = (4, 2, 48, 64);
    let arguments = Arguments::read(
        &mut [
            ("prompts", &mut prompts),
            ("answers", &mut answers),
            ("text", &mut text),
            ("answer", &mut answer),
        ],
        &mut [],
    );
    let task = Task { arguments, prompts, answers, text, answer };
    match &task.arguments.way {
        Some(_) => task.serve(),
        None => task.compare(),
    }
}

/// The sizes of the benchmark.
struct Task {
    arguments: Arguments,
    prompts: usize,
    /// Number of completions per prompt.
    answers: usize,
    /// Tokens of the prompt besides the image tokens.
    text: usize,
    answer: usize,
}

impl Task {
    fn compare(&self) {
        let (_kept, config_file) = self.arguments.preset.file();
        let rows = self.prompts * self.answers;
        let numbers = [rows, self.text, self.answer].map(|number| number.to_string());
        let peer = [&[config_file], &numbers[..]].concat();
        let mut ours = TimedProcess::again(&self.arguments.with_way("all"));
        let mut python = self.arguments.peer("score.py", &peer);

        let ways = [(true, "shared"), (true, "apart"), (false, "all"), (false, "kept")];
        let seconds = timed_process::alternate(ways.len(), 1, self.arguments.rounds, |way| {
            let (own, way) = ways[way];
            let process = if own { Some(&mut ours) } else { python.as_mut() };
            process.map(|process| process.ask(way))
        });
        drop(ours);

        let config = self.arguments.preset.config();
        let tokens = format!(
            "{} prompts of {} image + {} text tokens, {} completions of {} each",
            self.prompts,
            config.image_tokens(),
            self.text,
            self.answers,
            self.answer
        );
        println!("{}", self.arguments.heading(&tokens));
        println!("{:<21} {:>8} {:>14} {:>10} {:>12}", "", "s", "completions/s", "tokens/s", "of matmul");
        let limits = DeviceLimits::of(self.arguments.device, self.arguments.dtype);
        let tokens = rows * (config.image_tokens() + self.text + self.answer);
        for ((own, way), seconds) in ways.iter().zip(&seconds).filter(|(_, seconds)| !seconds.is_empty()) {
            let middle = median(&mut seconds.clone());
            let used = if *own {
                format!("{:.0} %", 100.0 * self.operations(&config, way) / middle / limits.matmul)
            } else {
                String::new()
            };
            let name = format!("{} {way}", if *own { "bpo" } else { "transformers" });
            let (completions, tokens) = (rows as f64 / middle, tokens as f64 / middle);
            println!("{name:<21} {middle:>8.3} {completions:>14.1} {tokens:>10.0} {used:>12}");
        }
        for (ours, theirs) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
            if !seconds[theirs].is_empty() {
                let what = format!("time of transformers {} / bpo {}", ways[theirs].1, ways[ours].1);
                println!("{what:<44} {:6.2}", ratio(&seconds[theirs], &seconds[ours]));
            }
        }
        println!("{limits}");
        if python.is_none() {
            println!("transformers is not measured: BPO_BENCH_PYTHON is not set, or torch lacks the device");
        }
    }

    /// Returns the number of operations, computed from the shapes.
    fn operations(&self, config: &LlavaConfig, way: &str) -> f64 {
        let (prompts, answers) = match way {
            "apart" => (self.prompts * self.answers, 1),
            _ => (self.prompts, self.answers),
        };
        StepCost::new(config, prompts, self.text, answers, self.answer, 0).scoring()
    }

    fn serve(&self) {
        let worker = Worker::on(self.arguments.device);
        let model = Vlm::random_of_device(
            self.arguments.preset.config(),
            0,
            &self.arguments.options(),
            &worker.device,
        );
        let mut way = worker.ready();
        while let Some(name) = &way {
            let batch = self.batch(&self.arguments.preset.config(), name);
            let start = Instant::now();
            let (logps, _) = model.completion_logps(&batch, Adapters::Off).expect("the batch fits the model");
            let sums = logps.sum_dim(1).cast(DType::F32).into_data();
            assert_eq!(sums.num_elements(), self.prompts * self.answers);
            way = worker.done(start);
        }
    }

    fn batch(&self, config: &LlavaConfig, way: &str) -> ScoreBatch {
        let prompt = prompt(config, self.text);
        let answered = |number: usize| {
            let answer = answer(number, self.answer);
            TokenizedCompletion::new(prompt.iter().copied().chain(answer).collect(), prompt.len())
        };
        let rows: Vec<_> = (0..self.prompts * self.answers).map(answered).collect();
        let together = if way == "apart" { 1 } else { self.answers };
        let groups: Vec<_> =
            rows.chunks(together).enumerate().map(|(image, rows)| (vec![image], rows.to_vec())).collect();
        let images = (0..groups.len()).map(|group| image(config, group * together / self.answers)).collect();
        ScoreBatch::new(&config.clone().into(), images, &groups).expect("the batch fits the model")
    }
}
