//! Trains the small LLaVA of `bpo quickstart` from scratch, on the pictures of `bpo-world`.
//!
//! ```sh
//! cargo run --release -p bpo-examples --example world_model -- \
//!   OUT [DEVICE] [PART OF THE STEPS] [SEED]
//! ```
//!
//! Training has six stages:
//!
//! 1. `see` and 2. `see through noise`: the vision tower learns kind and colour at every patch (in
//!    place of CLIP's pretraining).
//! 3. `read`: the language model learns from texts about the usual world, which gives it a text
//!    prior.
//! 4. `align`: the projector learns on descriptions.
//! 5. `look`: projector and language model learn on annotated scenes. A tenth of the scenes have no
//!    co-occurrences, so that the model learns to use the image.
//! 6. `expect`: both learn on texts and some usual scenes, which restores the prior.
//!
//! Some pictures of stages 5 and 6 have noise, so that the model answers about weakened images too.
//! The result is a checkpoint that describes the usual world well and hallucinates usual objects in
//! the counterfactual world.
//!
//! Seeds are fixed. `OUT/tower/` and `OUT/tuned/` hold intermediate results, from which a second
//! call continues. `libtorch 0.02` runs 2 % of the steps to try the program.

mod conversation;
mod files;
mod train;
mod vision;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use bpo::distort::Distortion;
use bpo::model::{ImageInput, LoadOptions, Processor, Vlm, VlmConfig};
use bpo::pairs::Turn;
use bpo::{DeviceSpec, burn};
use bpo_world::{QuestionAnswer, Scene, Statistics, Topic, presence_kinds, vocabulary};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{FloatDType, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use conversation::{Batch, Conversation};
use train::Stage;
use vision::Probed;

const SEED: u64 = 7;
const WEIGHTS: &str = "model.safetensors";
/// Share of the scenes of `look` that have no co-occurrences.
const UNUSUAL: f64 = 0.1;
/// Share of texts without a picture in `expect`.
const READ: f64 = 0.7;
/// Share of noisy pictures in both.
const NOISED: f64 = 0.15;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let out: PathBuf =
        arguments.next().ok_or("usage: world_model OUT [DEVICE] [PART OF THE STEPS] [SEED]")?.into();
    let device: DeviceSpec = arguments.next().as_deref().unwrap_or("flex").parse()?;
    // share of the steps, to try the program
    let scale: f64 = arguments.next().map_or(Ok(1.0), |scale| scale.parse())?;
    let seed: u64 = arguments.next().map_or(Ok(SEED), |seed| seed.parse())?;
    let steps = |steps: usize| ((steps as f64 * scale) as usize).max(1);

    hold(&out, &format!("seed {seed}, part {scale}"))?;
    let words = vocabulary();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    files::write(&out, &words)?;
    let config = VlmConfig::from_dir(&out)?;
    let processor = Processor::from_dir(&out, &config)?;
    let device = device.open()?.autodiff();
    let options = LoadOptions::default();

    // each part starts with the same seed, so a call that continues takes the same steps
    let world = || World { rng: ChaCha8Rng::seed_from_u64(seed), processor: processor.clone() };
    let (tower, tuned) = (out.join("tower"), out.join("tuned"));
    if !tower.join(WEIGHTS).exists() {
        let model = Vlm::random(config, seed, &options, &device).map(&mut Shrink::default());
        files::write(&tower, &words)?;
        see(model, &mut world(), &steps)?.save_weights(&tower.join(WEIGHTS), FloatDType::F32)?;
    }
    if !tuned.join(WEIGHTS).exists() {
        let model = Vlm::from_pretrained(&tower, &options, &device)?;
        files::write(&tuned, &words)?;
        look(model, &mut world(), &steps)?.save_weights(&tuned.join(WEIGHTS), FloatDType::F16)?;
    }
    let model = Vlm::from_pretrained(&tuned, &options, &device)?;
    expect(model, &mut world(), &steps)?.save_weights(&out.join(WEIGHTS), FloatDType::F16)?;
    println!("model: {}", out.display());
    Ok(())
}

/// Records seed and share of the steps in the directory. Fails if the directory was made with other
/// values.
fn hold(out: &Path, made: &str) -> Result<(), Box<dyn Error>> {
    let path = out.join("made-with.txt");
    match fs::read_to_string(&path) {
        Ok(there) if there == made => Ok(()),
        Ok(there) => Err(format!("{} was made with {there}, not {made}", out.display()).into()),
        Err(_) => Ok(fs::create_dir_all(out).and_then(|()| fs::write(&path, made))?),
    }
}

/// Trains the vision tower on scenes without co-occurrences: stages 1 and 2.
fn see(model: Vlm, world: &mut World, steps: &dyn Fn(usize) -> usize) -> Result<Vlm, Box<dyn Error>> {
    let vision = |path: &str| path.contains("vision_tower.") || path == "probe";
    let mut probed = Probed::new(model.unfreeze(vision));
    for (stage, noised) in [
        (Stage::new("see", steps(500), 1.5e-3), 0.0),
        (Stage::new("see through noise", steps(350), 1e-3), 0.5),
    ] {
        let mut accuracy = 0.0;
        probed = stage.run(probed, |probed, step| {
            let scenes: Vec<Scene> = (0..64).map(|_| world.scene(&Statistics::uniform())).collect();
            let images: Vec<ImageInput> =
                scenes.iter().map(|scene| world.image(scene, noised)).collect::<Result<_, _>>()?;
            let (loss, right) = probed.loss(&images, &scenes)?;
            accuracy = 0.95 * accuracy + 0.05 * right;
            if step % 50 == 49 {
                println!("  kinds right: {accuracy:.2}");
            }
            Ok(loss)
        })?;
    }
    report_noise(&probed, world)?;
    Ok(probed.model)
}

/// Trains projector and language model on pictures: stages 3 to 5.
fn look(model: Vlm, world: &mut World, steps: &dyn Fn(usize) -> usize) -> Result<Vlm, Box<dyn Error>> {
    let model = model.unfreeze(|path| path.starts_with("language_model."));
    let model = Stage::new("read", steps(400), 2e-3).run(model, |model, _| {
        let statistics = Statistics::text_only();
        let texts = (0..64)
            .map(|_| world.conversation(&statistics, &Shares::even(), None))
            .collect::<Result<_, _>>()?;
        Ok(Batch::new(texts, &world.processor, model)?.loss(model)?)
    })?;

    let model = model.unfreeze(|path| path.starts_with("multi_modal_projector."));
    let (usual, uniform) = (Statistics::usual(), Statistics::uniform());
    let model = Stage::new("align", steps(60), 3e-3).run(model, |model, _| {
        let looks = (0..32).map(|_| world.conversation(&usual, &Shares::descriptions(), Some(0.0)));
        Ok(Batch::new(looks.collect::<Result<_, _>>()?, &world.processor, model)?.loss(model)?)
    })?;

    let shares = Shares { description: 0.4, presence: 0.4, questions: 4 };
    Stage::new("look", steps(1200), 1.5e-3).run(model.unfreeze(speaks), |model, _| {
        let looks = (0..32).map(|_| {
            let statistics = if world.rng.random_bool(UNUSUAL) { &uniform } else { &usual };
            world.conversation(statistics, &shares, Some(NOISED))
        });
        Ok(Batch::new(looks.collect::<Result<_, _>>()?, &world.processor, model)?.loss(model)?)
    })
}

/// Trains projector and language model on the usual world, which restores the text prior: stage 6.
fn expect(model: Vlm, world: &mut World, steps: &dyn Fn(usize) -> usize) -> Result<Vlm, Box<dyn Error>> {
    let shares = Shares { description: 0.3, presence: 0.5, questions: 6 };
    Stage::new("expect", steps(400), 1.2e-3).run(model.unfreeze(speaks), |model, _| {
        let looks = (0..32).map(|_| {
            if world.rng.random_bool(READ) {
                world.conversation(&Statistics::text_only(), &Shares::even(), None)
            } else {
                world.conversation(&Statistics::usual(), &shares, Some(NOISED))
            }
        });
        Ok(Batch::new(looks.collect::<Result<_, _>>()?, &world.processor, model)?.loss(model)?)
    })
}

fn speaks(path: &str) -> bool {
    path.starts_with("multi_modal_projector.") || path.starts_with("language_model.")
}

/// Shares of the topics of conversations; the rest is colours and numbers, half each.
struct Shares {
    description: f64,
    presence: f64,
    /// Presence questions per conversation.
    questions: usize,
}

impl Shares {
    fn even() -> Self {
        Self { description: 0.6, presence: 0.2, questions: 1 }
    }

    fn descriptions() -> Self {
        Self { description: 1.0, presence: 0.0, questions: 0 }
    }
}

/// Draws scenes, pictures and conversations.
struct World {
    rng: ChaCha8Rng,
    processor: Processor,
}

impl World {
    fn scene(&mut self, statistics: &Statistics) -> Scene {
        Scene::sample(statistics, self.rng.random())
    }

    /// A picture; with probability `noised` its pixels have diffusion noise of a step from 200 to
    /// 999.
    fn image(&mut self, scene: &Scene, noised: f64) -> Result<ImageInput, Box<dyn Error>> {
        let mut image = self.processor.image.process(&scene.draw())?;
        if self.rng.random_bool(noised) {
            let step = self.rng.random_range(200u16..1000);
            self.noise(&mut image, step)?;
        }
        Ok(image)
    }

    fn noise(&mut self, image: &mut ImageInput, step: u16) -> Result<(), Box<dyn Error>> {
        for tile in &mut image.tiles {
            Distortion::diffusion_noise(step)?.on_pixels(&mut tile.data, self.rng.random())?;
        }
        Ok(())
    }

    /// A conversation about a picture, noisy with probability `noised`, or without a picture.
    fn conversation(
        &mut self,
        statistics: &Statistics,
        shares: &Shares,
        noised: Option<f64>,
    ) -> Result<Conversation, Box<dyn Error>> {
        let scene = self.scene(statistics);
        let topics = self.topics(&scene, shares);
        let turns = topics.into_iter().map(|topic| {
            let qa = QuestionAnswer::about(&scene, topic, self.rng.random());
            Turn::new(qa.prompt, qa.answer)
        });
        let turns = turns.collect();
        let image = noised.map(|noised| self.image(&scene, noised)).transpose()?;
        Ok(Conversation { image, turns })
    }

    fn topics(&mut self, scene: &Scene, shares: &Shares) -> Vec<Topic> {
        let draw = self.rng.random::<f64>();
        let groups = scene.groups();
        let some = groups[self.rng.random_range(0..groups.len())].kind;
        if draw < shares.description {
            vec![Topic::Description]
        } else if draw < shares.description + shares.presence {
            let kinds = presence_kinds(scene, shares.questions, self.rng.random());
            kinds.into_iter().map(Topic::Presence).collect()
        } else if self.rng.random_bool(0.5) {
            vec![Topic::Colour(some)]
        } else {
            vec![Topic::Count(some)]
        }
    }
}

/// Prints the accuracy of the probe on noisy pictures.
fn report_noise(probed: &Probed, world: &mut World) -> Result<(), Box<dyn Error>> {
    for step in [None, Some(300u16), Some(500), Some(700), Some(900), Some(999)] {
        let scenes: Vec<Scene> = (0..64).map(|_| world.scene(&Statistics::uniform())).collect();
        let mut images: Vec<ImageInput> =
            scenes.iter().map(|scene| world.image(scene, 0.0)).collect::<Result<_, _>>()?;
        if let Some(step) = step {
            for image in &mut images {
                world.noise(image, step)?;
            }
        }
        let (_, right) = probed.loss(&images, &scenes)?;
        println!("noise {step:?}: kinds right {right:.2}");
    }
    Ok(())
}

/// Scales random weights, whose embeddings have a standard deviation of one, for training: smaller
/// embeddings and smaller residual branches.
#[derive(Default)]
struct Shrink {
    path: Vec<String>,
}

impl ModuleMapper for Shrink {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        const RESIDUAL: [&str; 4] = ["o_proj.weight", "down_proj.weight", "out_proj.weight", "fc2.weight"];
        let path = self.path.join(".");
        let factor = match path.as_str() {
            path if path.contains("embed") => 0.05,
            path if RESIDUAL.iter().any(|end| path.ends_with(end)) => 0.35,
            _ => return param,
        };
        param.map(|values| values.mul_scalar(factor))
    }
}
