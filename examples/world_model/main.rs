//! Makes the small LLaVA of bpo's demonstration from nothing, on the world of `bpo-world`.
//!
//! ```sh
//! cargo run --release -p bpo-examples --example world_model -- OUT [DEVICE] [PART OF THE STEPS]
//! ```
//!
//! In five stages, each a plain loop over bpo's parts: the vision tower learns to see (stands for CLIP's pretraining);
//! the language model learns the world from biased text alone, so that it has a prior; the projector is aligned;
//! projector and language model are tuned on annotated scenes, some of them noised, so that the model goes on speaking
//! where it cannot see; and tuned again with more questions. What comes out is a checkpoint like any other, which
//! describes the usual world well and hallucinates what is common about the counter-world. Seeds are fixed. On two cores
//! with `--features tch` and the device `libtorch` it took 32 minutes beside other work; `libtorch 0.02` tries the program.

mod conversation;
mod files;
mod train;
mod vision;

use std::error::Error;
use std::path::PathBuf;

use bpo::burn;
use bpo::device::DeviceSpec;
use bpo::distort::Distortion;
use bpo::model::config::LlavaConfig;
use bpo::model::processor::{PixelValues, Processor, Turn};
use bpo::model::{Llava, LoadOptions};
use bpo_world::text::{presence_kinds, vocabulary};
use bpo_world::{Scene, Statistics, Topic};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{FloatDType, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use conversation::{Batch, Conversation};
use train::Stage;
use vision::Probed;

const SEED: u64 = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let out: PathBuf = arguments.next().ok_or("usage: world_model OUT [DEVICE] [SCALE]")?.into();
    let device: DeviceSpec = arguments.next().as_deref().unwrap_or("flex").parse()?;
    // a fraction of the steps, to try the program
    let scale: f64 = arguments.next().map_or(Ok(1.0), |scale| scale.parse())?;
    let steps = |steps: usize| ((steps as f64 * scale) as usize).max(1);

    let words = vocabulary();
    files::write(&out, &words.iter().map(String::as_str).collect::<Vec<_>>())?;
    let config = LlavaConfig::from_dir(&out)?;
    let processor = Processor::from_dir(&out)?;
    let device = device.open()?.autodiff();
    let model = Llava::random(config, SEED, &LoadOptions::default(), &device).map(&mut Shrink::default());
    let mut world = World { rng: ChaCha8Rng::seed_from_u64(SEED), processor };

    let vision = |path: &str| path.contains("vision_tower.") || path == "probe";
    let mut probed = Probed::new(model.unfreeze(vision));
    for (stage, noised) in [
        (Stage::new("see", steps(700), 1.5e-3), 0.0),
        (Stage::new("see through noise", steps(350), 1e-3), 0.5),
    ] {
        let mut accuracy = 0.0;
        probed = stage.run(probed, |probed, step| {
            let scenes: Vec<Scene> = (0..64).map(|_| world.scene(&Statistics::uniform())).collect();
            let pixels: Vec<PixelValues> =
                scenes.iter().map(|scene| world.pixels(scene, noised)).collect::<Result<_, _>>()?;
            let (loss, right) = probed.loss(tensor(&pixels, &probed.model), &scenes)?;
            accuracy = 0.95 * accuracy + 0.05 * right;
            if step % 50 == 49 {
                println!("  kinds right: {accuracy:.2}");
            }
            Ok(loss)
        })?;
    }
    report_noise(&probed, &mut world)?;

    let model = probed.model.unfreeze(|path| path.starts_with("language_model."));
    let model = Stage::new("read", steps(400), 2e-3).run(model, |model, _| {
        let told = Statistics::told();
        let texts =
            (0..64).map(|_| world.conversation(&told, &Shares::even(), None)).collect::<Result<_, _>>()?;
        Ok(Batch::new(texts, &world.processor, model)?.loss(model)?)
    })?;

    let model = model.unfreeze(|path| path.starts_with("multi_modal_projector."));
    let usual = Statistics::usual();
    let model = Stage::new("align", steps(60), 3e-3).run(model, |model, _| {
        let looks = (0..32).map(|_| world.conversation(&usual, &Shares::descriptions(), Some(0.0)));
        Ok(Batch::new(looks.collect::<Result<_, _>>()?, &world.processor, model)?.loss(model)?)
    })?;

    let both = |path: &str| path.starts_with("multi_modal_projector.") || path.starts_with("language_model.");
    let mut model = model.unfreeze(both);
    for (stage, shares) in [
        (Stage::new("tune", steps(1200), 1.5e-3), Shares { description: 0.4, presence: 0.4, questions: 1 }),
        (
            Stage { planned: steps(600), ..Stage::new("ask", steps(400), 1.2e-3) },
            Shares { description: 0.3, presence: 0.5, questions: 6 },
        ),
    ] {
        model = stage.run(model, |model, _| {
            let looks = (0..32).map(|_| world.conversation(&usual, &shares, Some(0.15)));
            Ok(Batch::new(looks.collect::<Result<_, _>>()?, &world.processor, model)?.loss(model)?)
        })?;
    }
    model.save_weights(&out.join("model.safetensors"), FloatDType::F16)?;
    println!("model: {}", out.display());
    Ok(())
}

/// What conversations are about. What is neither is colours and numbers, half and half.
struct Shares {
    description: f64,
    presence: f64,
    /// Questions about presence in one conversation.
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

/// Endless scenes, pictures and conversations.
struct World {
    rng: ChaCha8Rng,
    processor: Processor,
}

impl World {
    fn scene(&mut self, statistics: &Statistics) -> Scene {
        Scene::sample(statistics, self.rng.random())
    }

    /// Normalized pixels, with probability `noised` behind noise of any step from 200 on.
    fn pixels(&mut self, scene: &Scene, noised: f64) -> Result<PixelValues, Box<dyn Error>> {
        let mut pixels = self.processor.image.process(&scene.draw())?;
        if self.rng.random_bool(noised) {
            let step = self.rng.random_range(200..1000);
            Distortion::diffusion_noise(step)?.on_pixels(&mut pixels.data, self.rng.random())?;
        }
        Ok(pixels)
    }

    /// About a picture, noised with a probability, or about no picture.
    fn conversation(
        &mut self,
        statistics: &Statistics,
        shares: &Shares,
        noised: Option<f64>,
    ) -> Result<Conversation, Box<dyn Error>> {
        let scene = self.scene(statistics);
        let topics = self.topics(&scene, shares);
        let turns = topics.into_iter().map(|topic| {
            let turn = bpo_world::Turn::about(&scene, topic, self.rng.random());
            Turn::new(turn.prompt, turn.answer)
        });
        let turns = turns.collect();
        let pixels = noised.map(|noised| self.pixels(&scene, noised)).transpose()?;
        Ok(Conversation { pixels, turns })
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

/// What the tower makes of noise, which decides what weakened answers are like.
fn report_noise(probed: &Probed, world: &mut World) -> Result<(), Box<dyn Error>> {
    for step in [None, Some(300u16), Some(500), Some(700), Some(900), Some(999)] {
        let scenes: Vec<Scene> = (0..64).map(|_| world.scene(&Statistics::uniform())).collect();
        let mut pixels: Vec<PixelValues> =
            scenes.iter().map(|scene| world.pixels(scene, 0.0)).collect::<Result<_, _>>()?;
        if let Some(step) = step {
            for image in &mut pixels {
                Distortion::diffusion_noise(step)?.on_pixels(&mut image.data, world.rng.random())?;
            }
        }
        let (_, right) = probed.loss(tensor(&pixels, &probed.model), &scenes)?;
        println!("noise {step:?}: kinds right {right:.2}");
    }
    Ok(())
}

fn tensor(pixels: &[PixelValues], model: &Llava) -> Tensor<4> {
    let side = files::IMAGE;
    let values: Vec<f32> = pixels.iter().flat_map(|pixels| pixels.data.iter().copied()).collect();
    Tensor::from_data(TensorData::new(values, [pixels.len(), 3, side, side]), &model.device())
}

/// Brings random weights, whose embeddings have a spread of one, to a size that trains well: small embeddings, and small
/// steps of each layer.
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
