//! The number of kernels that CubeCL launches for a pass over a batch and for a token of an answer.
//! docs/src/backends.md has them, too.
//!
//! Launches are counted in the whole process, so this binary has one test.

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "suite/support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "suite/trl_batch.rs"]
mod trl_batch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bpo_dpo::loss::PairLogps;
use bpo_dpo::{Adapters, Policy};
use bpo_model::{GenerationSettings, LoadOptions, LoraConfig, ModelInput, Prompt, Vlm};
use bpo_pairs::Sampling;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, DeviceKind};
use cubecl_runtime::config::{TypeNameFormatLevel, type_name_format};
use cubecl_runtime::logging::{LaunchObservation, LaunchObserver};

use support::{Golden, llava};
use trl_batch::Batch;

/// Number of launches by kernel.
type Kernels = BTreeMap<String, usize>;

#[derive(Default)]
struct Launches(Mutex<Kernels>);

impl LaunchObserver for Launches {
    fn launched(&self, kernel: &'static str) {
        let name = type_name_format(kernel, TypeNameFormatLevel::Short);
        *self.0.lock().unwrap().entry(name).or_default() += 1;
    }
}

/// Counts the launches of `work`, after it has run twice: the first run tunes and compiles kernels.
fn launches(work: &dyn Fn()) -> Kernels {
    work();
    work();
    let counted = Arc::new(Launches::default());
    let observation = LaunchObservation::new(counted.clone());
    work();
    drop(observation);
    counted.0.lock().unwrap().clone()
}

/// A model with adapters on all linear layers, and with this number of layers.
fn model(layers: usize, device: &Device) -> Vlm {
    let options = LoadOptions::default();
    let mut config =
        llava(&Vlm::from_pretrained(&Golden::open().checkpoint(), &options, device).unwrap()).clone();
    config.text_config.num_hidden_layers = layers;
    Vlm::random(config, 0, &options, device).with_lora(&LoraConfig::default().with_rank(4, 4.0), 0).unwrap()
}

fn generate(model: &Vlm, tokens: usize) {
    let input = ModelInput::new(vec![1, 5, 9, 7], Vec::new());
    let prompts = [Prompt::new(input, Sampling::greedy(tokens))];
    let answers = model.generate(&prompts, &GenerationSettings::default(), bpo_model::Adapters::On).unwrap();
    assert_eq!(answers[0].ids.len(), tokens);
}

/// Whether a kernel is a copy. Some kernels for matrix products need a copy of their input and others do
/// not, and tuning picks one by its time, so the number of copies differs by a few from run to run.
fn is_copy(kernel: &str) -> bool {
    kernel.starts_with("Copy")
}

/// Checks the launches of a layer without copies, those outside of the layers without copies, and the
/// copies of a layer. `few` are those of a model with two layers, and `many` with four, each `times` times.
fn check(what: &str, times: usize, [few, many]: [&Kernels; 2], most: [usize; 3]) {
    let total = |all: &Kernels, copies: bool| -> usize {
        all.iter().filter(|(kernel, _)| is_copy(kernel) == copies).map(|(_, count)| count).sum()
    };
    let of_layer = |copies| total(many, copies).saturating_sub(total(few, copies)) / 2 / times;
    let others = (total(few, false) / times).saturating_sub(2 * of_layer(false));
    let by_kernel: Vec<String> = many
        .iter()
        .map(|(kernel, count)| {
            (kernel, count.saturating_sub(few.get(kernel).copied().unwrap_or(0)) / 2 / times)
        })
        .filter(|(_, count)| *count > 0)
        .map(|(kernel, count)| format!("{kernel} {count}"))
        .collect();
    let counted = [of_layer(false), others, of_layer(true)];
    let [layer, _, copies] = counted;
    let other_copies = (total(few, true) / times).saturating_sub(2 * copies);
    println!(
        "{what}: {layer} launches of a layer and {copies} copies ({}), {others} others and {other_copies} copies",
        by_kernel.join(", ")
    );
    assert!(layer > 0, "{what}: no launch was counted");
    assert!(
        counted.iter().zip(most).all(|(counted, most)| *counted <= most),
        "{what}: launches of a layer, others and copies of a layer are {counted:?}, and were at most {most:?}"
    );
}

#[test]
fn kernels_of_a_pass_and_of_a_token() {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let batch = Batch::open();
    let [few, many] = [2, 4].map(|layers| {
        let model = model(layers, &device);
        let [four, eight] = [4, 8].map(|tokens| launches(&|| generate(&model, tokens)));
        let before = |kernel: &String| four.get(kernel).copied().unwrap_or(0);
        let tokens: Kernels = eight
            .iter()
            .map(|(kernel, count)| (kernel.clone(), count.saturating_sub(before(kernel))))
            .collect();
        let scored = batch.grouped(&model);
        let reference = launches(&|| drop(model.valid().token_logps(&scored, Adapters::Off).sum()));
        let training = model.clone().train();
        let step = launches(&|| {
            let sums = training.token_logps(&scored, Adapters::On).sum();
            let pairs = PairLogps::select(sums, &batch.rows());
            let loss = (pairs.rejected - pairs.chosen).mean();
            drop(GradientsParams::from_grads(loss.backward(), &training));
        });
        [tokens, reference, step]
    });
    for (at, (what, times, most)) in [
        ("a token of an answer, with adapters", 4, [84, 10, 4]),
        ("a forward pass without adapters", 1, [71, 143, 12]),
        ("a forward and backward pass with adapters", 1, [285, 203, 26]),
    ]
    .into_iter()
    .enumerate()
    {
        check(what, times, [&few[at], &many[at]], most);
    }
}
