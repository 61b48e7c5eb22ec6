//! Trains a custom model: `Policy` computes log-probabilities, `Collate` turns text into tensors.
//!
//! The model here is a table of which character follows which, with burn's own LoRA. A real model
//! also reads the image; `crates/bpo-model/src/policy.rs` has the implementation for LLaVA.
//!
//! ```sh
//! cargo run -p bpo-examples --example own_trainer
//! ```

use std::convert::Infallible;
use std::error::Error;

use bpo::burn; // `#[derive(Module)]` expands to paths in `burn`
use bpo::dpo::{
    Adapters, Collate, Control, DpoConfig, Policy, PromptGroup, StepMetrics, TokenLogps, Trainer,
};
use bpo::pairs::{CompletionKind, PreferencePair};
use burn::module::{Lora, Module, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

const CHARACTERS: usize = 128;

/// Logits of the next character, given the previous one.
#[derive(Module, Debug)]
struct Bigram {
    /// `[before, next]`
    table: Param<Tensor<2>>,
}

/// One row per completion, right-padded.
struct Characters {
    before: Tensor<2, Int>,
    next: Tensor<2, Int>,
    mask: Tensor<2, Bool>,
}

struct Tokenizer;

impl Collate for Tokenizer {
    type Batch = Characters;
    type Error = Infallible;

    fn collate(&mut self, groups: &[PromptGroup]) -> Result<Characters, Infallible> {
        // rows are the completions of the first group, then those of the second, and so on
        let rows: Vec<Vec<i32>> = groups
            .iter()
            .flat_map(|group| group.completions.iter())
            .map(|text| text.bytes().map(|byte| i32::from(byte) % CHARACTERS as i32).collect())
            .collect();
        let (count, length) = (rows.len(), rows.iter().map(Vec::len).max().unwrap_or(0));
        let padded = |at: &dyn Fn(&[i32], usize) -> i32| {
            let values = rows.iter().flat_map(|row| (0..length).map(move |i| (row, i)));
            let values: Vec<i32> = values.map(|(row, i)| at(row, i)).collect();
            Tensor::<2, Int>::from_data(TensorData::new(values, [count, length]), &Device::flex())
        };
        let next = padded(&|row, i| row.get(i).copied().unwrap_or(0));
        let before = padded(&|row, i| if i == 0 { 0 } else { row.get(i - 1).copied().unwrap_or(0) });
        let mask = padded(&|row, i| i32::from(i < row.len())).equal_elem(1);
        Ok(Characters { before, next, mask })
    }
}

impl Policy for Bigram {
    type Batch = Characters;

    fn token_logps(&self, batch: &Characters, adapters: Adapters) -> TokenLogps {
        let [rows, length] = batch.next.dims();
        let table = match adapters {
            Adapters::On => self.table.val(),
            Adapters::Off => self.table.base(),
        };
        let device = table.device();
        let flat = |ids: &Tensor<2, Int>| ids.clone().to_device(&device).reshape([rows * length]);
        let logits = table.select(0, flat(&batch.before));
        let logps = log_softmax(logits, 1).gather(1, flat(&batch.next).unsqueeze_dim(1));
        let padding = batch.mask.clone().bool_not();
        TokenLogps { logps: logps.reshape([rows, length]).mask_fill(padding, 0.0), mask: batch.mask.clone() }
    }
}

fn pair(id: usize, chosen: &str, rejected: &str) -> PreferencePair {
    PreferencePair {
        id: id.to_string(),
        images: vec!["cup.png".into()],
        system: None,
        history: Default::default(),
        prompt: "<image>\nWhat is it?".into(),
        chosen: chosen.into(),
        rejected: rejected.into(),
        kind: CompletionKind::ErrorInjected,
        chosen_kind: None,
        provenance: None,
        margin: None,
        beta: None,
        contrast_images: Vec::new(),
        contrast_answer: None,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let table = Tensor::zeros([CHARACTERS, CHARACTERS], &Device::flex());
    let policy = Bigram { table: Param::from_tensor(table) }.apply_lora(Lora::new(8, 16.0));
    let pairs = vec![pair(0, "A red cup.", "A blue plate."), pair(1, "Red, and round.", "Blue, and flat.")];
    let config = DpoConfig::default().with_learning_rate(0.02).with_max_steps(Some(60));

    let trainer = Trainer::new(config, policy, Tokenizer, None)?;
    let (_policy, summary) = trainer.train(pairs, &mut |metrics: &StepMetrics| {
        if metrics.step.is_multiple_of(10) {
            println!(
                "step {:2}  loss {:.4}  margin {:.3}",
                metrics.step, metrics.loss, metrics.rewards_margins
            );
        }
        Control::Continue
    })?;
    println!("{} steps on {} pairs", summary.steps, summary.pairs);
    Ok(())
}
