//! Preferences learned with burn-train: its `SupervisedTraining` with its dashboard, data loaders and checkpoints.
//!
//! A tiny LLaVA of random weights learns to prefer what was said about a photograph to what was said about another one.
//! Where standard output is no terminal there are plain lines instead of the dashboard. With an argument that many
//! workers share each step, as devices do.
//!
//! ```sh
//! cargo run -p bpo-examples --example burn_train
//! cargo run -p bpo-examples --example burn_train -- 2
//! ```

use std::error::Error;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use bpo::burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use bpo::burn::data::dataset::InMemDataset;
use bpo::burn::tensor::Device;
use bpo::burn::train::metric::LossMetric;
use bpo::burn::train::{ExecutionStrategy, Learner, MultiDeviceOptim, SupervisedTraining};
use bpo::checkpoint::Checkpoint;
use bpo::device::Dtype;
use bpo::dpo::DpoConfig;
use bpo::dpo::learner::{DpoLearner, Figure, FigureMetric, Lines, PairBatch, PairBatcher, PlannedRate};
use bpo::dpo::order::{DataOrder, split};
use bpo::model::llava::ScoreBatch;
use bpo::model::lora::{LoraConfig, save_adapter};
use bpo::model::policy::LlavaCollator;
use bpo::pairs::format::llava;
use bpo::pairs::images::ImageRoot;
use bpo::pairs::record::{CompletionKind, PreferencePair};
use bpo::pairs::sft::SftSample;

const MODEL: &str = "crates/bpo-model/tests/golden/tiny-llava";
const PHOTOS: &str = "examples/data/photos";
const OUT: &str = "target/burn-train";

fn main() -> Result<(), Box<dyn Error>> {
    let workers: usize = std::env::args().nth(1).map_or(Ok(1), |number| number.parse())?;
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let (model, photos, out) = (root.join(MODEL), root.join(PHOTOS), root.join(OUT));

    let device = Device::flex();
    let Checkpoint { model: llava, processor, .. } = Checkpoint::load(&model, Dtype::F32, &device)?;
    let lora = LoraConfig::default().with_rank(4, 8.0);
    let config = DpoConfig::default().with_learning_rate(3e-3).with_batch_size(2).with_epochs(5);

    // whole questions are kept to validate on; their answers are in training too, but as rejected ones only, so that a
    // rising loss on them says nothing about other pictures
    let samples = llava::read(photos.join("llava.json"))?.samples;
    let (pairs, others) = split(prefer_their_own(&samples), 0.25, config.seed);
    // pairs of one question in a row, so that its image and prompt are computed once
    let order = DataOrder::for_config(&config, &pairs).epoch(config.seed, 0);
    let pairs: Vec<_> = order.into_iter().map(|at| pairs[at].clone()).collect();
    let loader = |pairs| -> Result<Arc<dyn DataLoader<PairBatch<ScoreBatch>>>, Box<dyn Error>> {
        let images = ImageRoot::new(&photos)?;
        let collate = LlavaCollator::new(processor.clone(), &llava, move |name: &str| Ok(images.load(name)?));
        let batcher = PairBatcher::new(config.clone(), collate);
        Ok(DataLoaderBuilder::new(batcher).batch_size(config.batch_size).build(InMemDataset::new(pairs)))
    };
    let steps = config.epochs * pairs.len().div_ceil(workers).div_ceil(config.batch_size);
    let training = SupervisedTraining::new(&out, loader(pairs)?, loader(others)?)
        .metrics((
            LossMetric::new(),
            FigureMetric::new(Figure::Margins),
            FigureMetric::new(Figure::Accuracies),
            FigureMetric::new(Figure::ChosenLogps),
        ))
        .num_epochs(config.epochs)
        .with_default_checkpointers()
        .summary();
    let training = match workers {
        1 => training,
        // on GPUs these are different devices
        _ => training.with_training_strategy(
            ExecutionStrategy::multi(vec![device; workers], MultiDeviceOptim::OptimMainDevice).into(),
        ),
    };
    let training = match io::stdout().is_terminal() {
        true => training,
        false => training.renderer(Box::new(Lines::new(io::stdout()))),
    };

    let policy = llava.clone().with_lora(&lora, config.seed)?;
    let learner = Learner::new(
        DpoLearner::new(config.clone(), policy)?,
        config.adamw().init(),
        PlannedRate::new(&config, steps),
    );
    let result = training.launch(learner);
    if let Some(error) = result.error {
        return Err(error.to_string().into());
    }
    save_adapter(&result.model.into_policy(), &lora, MODEL, &out.join("adapter"))?;
    Ok(())
}

/// Pairs of the answer of each sample with those of the samples of all other pictures.
fn prefer_their_own(samples: &[SftSample]) -> Vec<PreferencePair> {
    let elsewhere = |sample: &SftSample| {
        let image = sample.image.clone();
        samples.iter().filter(move |other| other.image != image)
    };
    let pair = |sample: &SftSample, other: &SftSample| PreferencePair {
        id: format!("{}>{}", sample.id, other.id),
        image: sample.image.clone(),
        system: sample.system.clone(),
        history: sample.history.clone(),
        prompt: sample.prompt.clone(),
        chosen: sample.answer.clone(),
        rejected: other.answer.clone(),
        kind: CompletionKind::Other("elsewhere".into()),
        recipe: None,
        margin: None,
        beta: None,
    };
    samples.iter().flat_map(|sample| elsewhere(sample).map(move |other| pair(sample, other))).collect()
}
