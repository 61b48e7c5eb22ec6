//! Trains a recommender with HaNoRec (arXiv 2511.18740) on a small catalogue of drawn items.
//!
//! An item is a drawn scene with a title, the list of its objects. Users stay with one kind of
//! place: whoever has watched an item goes on to another item of the same place. The prompt shows
//! the watched item, the chosen answer is the title of the next one, and the rejected answer that of
//! an item of another place. The model is the one of `bpo quickstart`, which knows the objects and
//! has never recommended anything.
//!
//! ```sh
//! cargo run --release -p bpo-examples --example recommend
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use bpo::burn::tensor::{Device, Int, Tensor, TensorData};
use bpo::dpo::hardness::{Neighborhoods, hardness, item_vector};
use bpo::dpo::{Control, DpoConfig, EvalMetrics, Observer, StepMetrics, Trainer};
use bpo::model::{Adapters, ImageError, LoadOptions, LoraConfig, Processor, Vlm, VlmCollator};
use bpo::pairs::{CompletionKind, PreferencePair};
use bpo_world::{Scene, Statistics, list_groups};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/bpo-cli/base");
const ITEMS: u64 = 60;
const PAIRS: usize = 320;
const NEIGHBORS: usize = 10;
const BETA: f64 = 0.1;
const SEED: u64 = 7;

struct Item {
    scene: Scene,
    title: String,
}

impl Item {
    fn draw(seed: u64) -> Self {
        let scene = Scene::sample(&Statistics::usual(), seed);
        let title = list_groups(&scene.groups_back_to_front());
        Self { scene, title }
    }

    /// The sum of the directions of the title's mean embedding and the picture's mean feature.
    fn vector(&self, model: &Vlm, processor: &Processor) -> Result<Vec<f64>, Box<dyn Error>> {
        let ids = processor.text.encode_prompt(&self.title, &[])?;
        // without the beginning of a sequence
        let ids: Vec<i64> = ids[1..].iter().map(|id| i64::from(*id)).collect();
        let ids: Tensor<1, Int> = Tensor::from_data(TensorData::from(ids.as_slice()), &model.device());
        let title = mean(model.language_model.embed_tokens.val().select(0, ids));

        let image = processor.image.process(&self.scene.draw())?;
        let features = model.encode_images(&[&image], Adapters::Off).ok_or("a model without images")?;
        let features = model.project(&features, &[&image.layout], Adapters::Off);
        Ok(item_vector(&title, Some(&mean(features.values())))?)
    }
}

/// The mean of the rows.
fn mean(rows: Tensor<2>) -> Vec<f64> {
    rows.mean_dim(0).into_data().iter::<f64>().collect()
}

/// Pairs of the catalogue. The coefficient of each is `BETA` times its hardness.
fn pairs(items: &[Item], vectors: &[Vec<f64>]) -> Result<Vec<PreferencePair>, Box<dyn Error>> {
    let neighborhoods = Neighborhoods::new(vectors, NEIGHBORS)?;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let (mut pairs, mut distances) = (Vec::new(), Vec::new());
    for id in 0..PAIRS {
        let watched = rng.random_range(0..items.len());
        let place = items[watched].scene.place;
        let of = |same: bool| -> Vec<usize> {
            let fits = |item: &usize| *item != watched && (items[*item].scene.place == place) == same;
            (0..items.len()).filter(fits).collect()
        };
        let draw = |items: &[usize], rng: &mut ChaCha8Rng| items.choose(rng).copied();
        let (Some(chosen), Some(rejected)) = (draw(&of(true), &mut rng), draw(&of(false), &mut rng)) else {
            continue;
        };
        distances.push(neighborhoods.distance(&[(chosen, rejected)])?);
        pairs.push(PreferencePair {
            id: id.to_string(),
            images: vec![watched.to_string()],
            system: None,
            history: Default::default(),
            prompt: "What can you see in the scene?".into(),
            chosen: format!("{}.", items[chosen].title),
            rejected: format!("{}.", items[rejected].title),
            kind: CompletionKind::ErrorInjected,
            chosen_kind: None,
            provenance: None,
            margin: None,
            beta: None,
            contrast_images: Vec::new(),
            contrast_answer: None,
        });
    }
    for (pair, hardness) in pairs.iter_mut().zip(hardness(&distances)?) {
        pair.beta = Some(BETA * hardness);
    }
    Ok(pairs)
}

/// Prints the evaluations.
struct Print;

impl Observer for Print {
    fn on_evaluation(&mut self, metrics: &EvalMetrics) {
        let EvalMetrics { step, loss, rewards_accuracies, .. } = metrics;
        println!("step {step:3}  held-out loss {loss:.4}  right item preferred {rewards_accuracies:.3}");
    }

    fn on_step(&mut self, _: &StepMetrics) -> Control {
        Control::Continue
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = Path::new(MODEL);
    let model = Vlm::from_pretrained(dir, &LoadOptions::default(), &Device::flex())?;
    let processor = Processor::from_dir(dir, model.config())?;
    let items: Vec<Item> = (0..ITEMS).map(Item::draw).collect();
    let vectors: Result<Vec<_>, _> = items.iter().map(|item| item.vector(&model, &processor)).collect();
    let pairs = pairs(&items, &vectors?)?;
    let betas = || pairs.iter().filter_map(|pair| pair.beta);
    let (least, most) = (betas().fold(f64::MAX, f64::min), betas().fold(0.0, f64::max));
    println!("{} pairs of {ITEMS} items, beta from {least:.4} to {most:.4}", pairs.len());

    // the authors' settings, but for fewer pairs in a step and a learning rate of this small model
    let lora = LoraConfig::default()
        .with_rank(8, 32.0)
        .with_dropout(0.05)
        .with_noise(0.05)
        .with_modules_to_save(&[]);
    let config = DpoConfig::default()
        .with_beta(BETA)
        .with_responsiveness(true)
        .with_learning_rate(1e-3)
        .with_warmup_ratio(0.0)
        .with_batch_size(4)
        .with_gradient_accumulation_steps(2)
        .with_epochs(5)
        .with_eval_fraction(0.25)
        .with_eval_every(30)
        // because noise changes the output of a new adapter
        .with_reference_differs(true);
    let pictures: BTreeMap<String, _> =
        items.iter().enumerate().map(|(item, it)| (item.to_string(), it.scene.draw())).collect();
    let picture =
        move |name: &str| pictures.get(name).cloned().ok_or_else(|| ImageError::from("no such item"));
    let policy = model.with_lora(&lora, SEED)?;
    let collate = VlmCollator::new(processor, &policy, picture);
    let (_recommender, summary) = Trainer::new(config, policy, collate, None)?.train(pairs, &mut Print)?;
    println!("{} steps on {} pairs", summary.steps, summary.pairs);
    Ok(())
}
