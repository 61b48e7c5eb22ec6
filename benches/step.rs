//! What sharing the prefix and keeping the adapter factored save in a step of DPO.
//!
//! Prints medians and ratios against the plain way (each completion with an image and prompt of its own), which is how
//! TRL computes it.
//!
//! ```sh
//! cargo bench -p bpo-benches --bench step
//! ```

use std::time::Instant;

use bpo::burn::module::Module;
use bpo::burn::tensor::Device;
use bpo::dpo::logps::{PairLogps, PairRows};
use bpo::dpo::loss::{Loss, Objective, PairFactors};
use bpo::model::config::LlavaConfig;
use bpo::model::llava::ScoreBatch;
use bpo::model::processor::{Answered, PixelValues};
use bpo::model::{Adapters, Llava, LoadOptions, LoraConfig};
use bpo_benches::median;

const PAIRS: usize = 2;
const TEXT: usize = 48;
const ANSWER: usize = 64;
const RUNS: usize = 7;

fn main() {
    let config = config();
    let model = Llava::random(config.clone(), 0, &LoadOptions::default(), &Device::flex())
        .with_lora(&LoraConfig::default(), 0)
        .expect("linears to adapt")
        .train();
    let (shared, apart) = (batch(&config, true), batch(&config, false));
    println!(
        "{PAIRS} pairs, {} image + {TEXT} text + {ANSWER} answer tokens, {} parameters, flex, f32",
        config.image_tokens(),
        model.num_params()
    );
    // interleaved, so that both see the same noise of the machine
    let mut seconds = [Vec::new(), Vec::new()];
    step(&model, &shared);
    step(&model, &apart);
    for _ in 0..RUNS {
        for (way, batch) in [&shared, &apart].into_iter().enumerate() {
            let start = Instant::now();
            step(&model, batch);
            seconds[way].push(start.elapsed().as_secs_f64());
        }
    }
    let mut ratios: Vec<f64> =
        seconds[1].iter().zip(&seconds[0]).map(|(apart, shared)| apart / shared).collect();
    println!("step, shared prefix    {:8.3} s", median(&mut seconds[0]));
    println!("step, nothing shared   {:8.3} s", median(&mut seconds[1]));
    println!("ratio                  {:8.2}", median(&mut ratios));
}

/// Policy forward and backward, reference forward.
fn step(model: &Llava, batch: &ScoreBatch) {
    let rows = PairRows::new(
        (0..PAIRS).map(|pair| 2 * pair).collect(),
        (0..PAIRS).map(|pair| 2 * pair + 1).collect(),
    );
    let sums = |model: &Llava, adapters| {
        let (logps, _) = model.completion_logps(batch, adapters).expect("the batch fits the model");
        PairLogps::select(logps.sum_dim(1).squeeze_dim::<1>(1), &rows)
    };
    let reference = sums(&model.valid(), Adapters::Off);
    let policy = sums(model, Adapters::On);
    let objective = Objective::new(Loss::default(), 0.1);
    let loss = objective.forward(&policy, Some(&reference), &PairFactors::default()).losses.mean();
    let _gradients = loss.backward();
}

/// About 20 million parameters, 112 px.
fn config() -> LlavaConfig {
    serde_json::from_value(serde_json::json!({
        "vision_config": {
            "hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 1024,
            "image_size": 112, "patch_size": 14,
        },
        "text_config": {
            "hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4,
            "intermediate_size": 704, "vocab_size": 8192, "max_position_embeddings": 4096,
        },
        "image_token_index": 8128,
    }))
    .expect("a valid configuration")
}

fn batch(config: &LlavaConfig, shared: bool) -> ScoreBatch {
    let prompt: Vec<u32> = std::iter::once(1)
        .chain(std::iter::repeat_n(config.image_token(), config.image_tokens()))
        .chain((0..TEXT as u32).map(|i| 300 + i))
        .collect();
    let answered = |row: usize| {
        let answer = (0..ANSWER).map(|i| (400 + 37 * row + 11 * i) as u32);
        Answered::new(prompt.iter().copied().chain(answer).collect(), prompt.len())
    };
    let side = config.vision_config.image_size;
    let image = |i: usize| PixelValues {
        data: (0..3 * side * side).map(|at| ((at + i) as f32 * 0.01).sin()).collect(),
        channels: 3,
        height: side,
        width: side,
    };
    let groups: Vec<_> = match shared {
        true => (0..PAIRS).map(|i| (Some(i), vec![answered(2 * i), answered(2 * i + 1)])).collect(),
        false => (0..2 * PAIRS).map(|i| (Some(i), vec![answered(i)])).collect(),
    };
    ScoreBatch::new(config, (0..groups.len()).map(image).collect(), &groups)
        .expect("the batch fits the model")
}
