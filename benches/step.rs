//! The effect of a shared prefix of image and prompt on a DPO step.
//!
//! ```sh
//! cargo bench -p bpo-benches --bench step -- small --pairs 2
//! ```
//!
//! Prints the median times, and the ratio to steps in which each completion has an image and a
//! prompt of its own, as in TRL.

use std::time::Instant;

use bpo::burn::module::Module;
use bpo::dpo::loss::{Loss, Objective, PairLogps, PairRows, PerPair};
use bpo::model::LlavaConfig;
use bpo::model::ScoreBatch;
use bpo::model::TokenizedCompletion;
use bpo::model::{Adapters, LoraConfig, Vlm};
use bpo_benches::arguments::Arguments;
use bpo_benches::shape::{answer, image, prompt};
use bpo_benches::timed_process;
use bpo_benches::{median, ratio};

fn main() {
    let (mut pairs, mut text, mut answer) = (2, 48, 64);
    let arguments =
        Arguments::read(&mut [("pairs", &mut pairs), ("text", &mut text), ("answer", &mut answer)], &mut []);
    let device = arguments.device.open().expect("a device");
    let config = arguments.preset.config();
    let model = Vlm::random_of_device(config.clone(), 0, &arguments.options(), &device)
        .with_lora(&LoraConfig::default(), 0)
        .expect("linears to adapt")
        .train();
    let batches = [2, 1].map(|completions| batch(&config, pairs, completions, [text, answer]));
    let seconds = timed_process::alternate(2, 1, arguments.rounds, |way| {
        let start = Instant::now();
        step(&model, &batches[way], pairs);
        device.sync().expect("the device works");
        Some(start.elapsed().as_secs_f64())
    });
    let image = config.image_tokens();
    let tokens = format!("{pairs} pairs, {image} image + {text} text + {answer} answer tokens");
    println!("{}", arguments.heading(&tokens));
    println!("step, shared prefix    {:8.3} s", median(&mut seconds[0].clone()));
    println!("step, nothing shared   {:8.3} s", median(&mut seconds[1].clone()));
    println!("ratio                  {:8.2}", ratio(&seconds[1], &seconds[0]));
}

/// Runs the forward pass of the reference, and forward and backward pass of the policy.
fn step(model: &Vlm, batch: &ScoreBatch, pairs: usize) {
    let rows = PairRows::new(
        (0..pairs).map(|pair| 2 * pair).collect(),
        (0..pairs).map(|pair| 2 * pair + 1).collect(),
    );
    let sums = |model: &Vlm, adapters| {
        let (logps, _) = model.completion_logps(batch, adapters).expect("the batch fits the model");
        PairLogps::select(logps.sum_dim(1).squeeze_dim::<1>(1), &rows)
    };
    let reference = sums(&model.valid(), Adapters::Off);
    let policy = sums(model, Adapters::On);
    let objective = Objective::new(Loss::default(), 0.1);
    let loss = objective.forward(&policy, Some(&reference), &PerPair::default()).losses.mean();
    let _gradients = loss.backward();
}

/// Returns a batch of all completions, with `completions` of them per image and prompt.
fn batch(config: &LlavaConfig, pairs: usize, completions: usize, [text, length]: [usize; 2]) -> ScoreBatch {
    let prompt = prompt(config, text);
    let answered = |row: usize| {
        TokenizedCompletion::new(prompt.iter().copied().chain(answer(row, length)).collect(), prompt.len())
    };
    let rows: Vec<_> = (0..2 * pairs).map(answered).collect();
    let groups: Vec<_> =
        rows.chunks(completions).enumerate().map(|(group, rows)| (vec![group], rows.to_vec())).collect();
    let images = (0..groups.len()).map(|group| image(config, group * completions / 2)).collect();
    ScoreBatch::new(&config.clone().into(), images, &groups).expect("the batch fits the model")
}
