//! `bpo quickstart`: all of BPO on a small model and a small world, and what came of it.

mod ablation;
mod arm;
mod base;
mod begun;
mod clock;
mod evaluation;
mod files;
mod page;
mod plot;
mod prior;
mod recipe;
mod splits;
mod summary;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpo::burn::tensor::Device;
use bpo::distort::{Amount, DiffusionNoise, Distortion, diffusion};
use bpo::eval::table::{Table, percent};
use bpo::eval::{Bootstrap, ChairItem, ChairReport};
use bpo::pairs::PreferencePair;
use bpo::pairs::format::jsonl::{JsonLines, read_pairs};
use bpo::stages::StageRecord;
use bpo::{BpoError, Checkpoint, Dtype, LocalBackend, RunConfig, RunDir, fingerprint_checkpoint};
use bpo_world::{Example, Split, Topic};

use crate::args::QuickstartArgs;
use crate::commands::open_device;
use crate::failure::Failure;
use crate::progress;
use arm::Arm;
use begun::Begun;
use clock::Clock;
use evaluation::{Evaluator, Scored};
use files::{create_dir, write, write_json};
use prior::Prior;
use recipe::Size;
use splits::{Evaluated, Splits};
use summary::{Figures, MAIN_FIGURES, Summary, Weakened, changes};

/// What BPO has to be better than; its own loss without the additional term is another recipe of the same method.
const PEERS: [&str; 2] = ["before", "sft"];

/// A model that was asked about the splits.
#[derive(Debug)]
pub struct Model {
    /// In files.
    name: &'static str,
    /// For people.
    title: &'static str,
    /// Its answers about the counter-world and about the usual one.
    scored: [Scored; 2],
    /// The file of its training's figures.
    metrics: Option<PathBuf>,
}

/// Runs it, once or as an ablation over several seeds.
pub fn quickstart(args: &QuickstartArgs) -> Result<(), Failure> {
    let mut config = RunConfig::default();
    config.device = args.device.unwrap_or_default();
    let device = open_device(&config)?;
    let size = Size::scaled(args.scale);
    let evaluated = match args.validation {
        true => [Split::ValidationCounter, Split::Validation],
        false => [Split::Counter, Split::HeldOut],
    };
    let setting = Setting { config: &config, size, evaluated, device: &device };
    let runs = if args.ablation { args.seeds } else { 1 };
    if args.base.len() > 1 && args.base.len() as u64 != runs {
        let (expected, found) = ("given once, or once for each seed", format!("{} times", args.base.len()));
        return Err(BpoError::Setting { key: "--base".into(), expected, found }.into());
    }
    let base =
        |number: u64| args.base.get(number as usize).or_else(|| args.base.first()).map(PathBuf::as_path);
    if args.ablation {
        let seeds: Vec<_> = (0..runs).map(|number| (args.seed + number, base(number))).collect();
        return ablation::run(&args.out, &seeds, setting);
    }
    let run = Quickstart { out: &args.out, seed: args.seed, base: base(0), setting };
    run.run(&[Arm::Sft, Arm::Bpo])?;
    Ok(())
}

/// What runs of all seeds have in common.
#[derive(Clone, Copy)]
struct Setting<'a> {
    config: &'a RunConfig,
    size: Size,
    /// One split of the counter-world, one of the usual one.
    evaluated: [Split; 2],
    device: &'a Device,
}

/// One run with one seed.
struct Quickstart<'a> {
    out: &'a Path,
    seed: u64,
    /// In place of the one that the program carries.
    base: Option<&'a Path>,
    setting: Setting<'a>,
}

impl Quickstart<'_> {
    /// Makes pairs, trains each arm, asks all models and writes the report.
    fn run(&self, arms: &[Arm]) -> Result<Summary, BpoError> {
        let mut clock = Clock::default();
        let Setting { config, size, evaluated, device } = self.setting;
        let print = match self.base {
            Some(base) => {
                Checkpoint::load(base, Dtype::F32, device)?;
                fingerprint_checkpoint(base)?.to_string()
            }
            None => base::fingerprint(),
        };
        // the directory of another run is left as it is
        let begun = Begun::new(self.seed, size, evaluated.map(Split::name), print);
        let _held = begun.hold(self.out)?;
        create_dir(&self.out.join("report"))?;
        let base = match self.base {
            Some(base) => base.to_owned(),
            None => base::write(&self.out.join("base"))?,
        };
        let splits = Splits::write(&self.out.join("world"), size, self.seed, evaluated)?;
        let config = recipe::config(&base, &splits, self.seed, config.device);
        let evaluator = Evaluator::new(&base, &splits, device.clone())?;
        clock.lap("world");

        if size.is_part() {
            progress::tell(
                "a part of the whole: it shows how things go, and too little is trained to show an effect",
            );
        }
        let before = evaluator.ask(None, "the model before training")?;
        if before.iter().all(Scored::names_nothing) {
            progress::tell(
                "none of the answers names a thing of this world: this base model does not know it",
            );
        }
        let mut models = vec![Model { name: "before", title: "before", scored: before, metrics: None }];
        clock.lap("evaluation");

        let run = self.out.join("run");
        let mut parts =
            LocalBackend::new(config.clone(), device.clone(), None).with_injector(|_| Box::new(Prior));
        let report = bpo::run(&config, &run, &mut parts, &mut *progress::new())?;
        if report.was_finished {
            progress::tell(&format!("nothing left to do in {}", run.display()));
        }
        let dir = RunDir::open(&run)?;
        let pairs = read_pairs(dir.pairs())?.pairs;
        let weakened = self.weakened(&config, &dir.weakened(), &splits, &evaluator)?;
        let steps = pairs.len().div_ceil(config.train.pairs_per_step());
        clock.lap("bpo run");

        for &arm in arms {
            let trained = match arm {
                Arm::Bpo => run.clone(),
                other => self.train(other, &config, &pairs, steps)?,
            };
            clock.lap("other trainings");
            let scored = evaluator.ask(Some(&trained.join("adapter")), arm.title())?;
            let name = if arm == Arm::Bpo { "after" } else { arm.name() };
            let metrics = Some(trained.join("metrics.jsonl"));
            models.push(Model { name, title: arm.title(), scored, metrics });
            clock.lap("evaluation");
        }
        let summary = Summary {
            begun,
            weakened,
            pairs: pairs.len(),
            steps,
            splits: split_figures(&models, &splits)?,
            seconds: clock.seconds,
        };
        self.report(&summary, &models, &splits)?;
        Ok(summary)
    }

    fn train(
        &self,
        arm: Arm,
        config: &RunConfig,
        pairs: &[PreferencePair],
        steps: usize,
    ) -> Result<PathBuf, BpoError> {
        let dir = self.out.join(arm.name());
        arm.train(config, pairs, steps, &dir, self.setting.device)?;
        Ok(dir)
    }

    /// What the descriptions of weakened images are worth, and how weak the images are.
    fn weakened(
        &self,
        config: &RunConfig,
        file: &Path,
        splits: &Splits,
        evaluator: &Evaluator<'_>,
    ) -> Result<Weakened, BpoError> {
        let mut answers = BTreeMap::new();
        for line in JsonLines::open(file)? {
            if let StageRecord::Answered(answer) = line?.1 {
                answers.insert(answer.id, answer.response);
            }
        }
        let described: Vec<ChairItem> = (0..self.setting.size.train)
            .map(|index| Example::new(Split::Train, index, self.seed, &bpo_world::Mix::default()))
            .filter(|example| example.turn.topic == Topic::Description)
            .filter_map(|example| {
                let shown = splits.train_truth.of(&example.image())?;
                let answer = answers.remove(&example.id)?;
                Some(ChairItem::new(evaluator.table(), example.image(), answer, shown))
            })
            .collect();
        let report = ChairReport::new(&described, Bootstrap::default());
        let image = match &config.weaken.distortion[..] {
            [Distortion::DiffusionNoise(DiffusionNoise { step: Amount::Exactly(step) })] => {
                diffusion::coefficients(*step).ok()
            }
            _ => None,
        };
        Ok(Weakened {
            distortion: config.weaken.distortion.to_string(),
            alpha_bar: image.map_or(1.0, |kept| kept.image * kept.image),
            answers: described.len(),
            chair_i: report.chair_i.value,
            recall: report.recall.value,
        })
    }

    fn report(&self, summary: &Summary, models: &[Model], splits: &Splits) -> Result<(), BpoError> {
        let Weakened { distortion, alpha_bar, answers, chair_i, recall } = &summary.weakened;
        let share = |value: &Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{:.1} %", 100.0 * value))
        };
        progress::tell(&format!(
            "\n{answers} descriptions of images behind {distortion} (alpha-bar {alpha_bar:.2}): CHAIR_i {}, recall {}",
            share(chair_i),
            share(recall)
        ));
        for Evaluated { name, .. } in &splits.evaluation {
            let split = &summary.splits[name];
            let figures: Vec<&Figures> = models.iter().map(|model| &split.models[model.name]).collect();
            let mut table = Table::new(models.iter().map(|model| model.title));
            for (figure, label) in MAIN_FIGURES {
                table.row(label, figures.iter().map(|figures| percent(&figures.get(figure))));
            }
            progress::tell(&format!("\n{name}\n{table}"));
            for model in models.iter().filter(|model| PEERS.contains(&model.name)) {
                let change = percent(&split.change[model.name]);
                progress::tell(&format!("CHAIR_i of BPO relative to {}: {change}", model.title));
            }
        }
        progress::tell(
            "\nCHAIR_i: of the objects named, those not in the picture; CHAIR_s: descriptions with such an object; \
             recall: of the objects in the picture, those named; yes/no: right answers. In brackets: 95 % intervals.",
        );
        let dir = self.out.join("report");
        let (page, index) = (page::page(summary, models, splits)?, dir.join("index.html"));
        write_json(&dir.join("summary.json"), summary)?;
        write(&index, page.as_bytes())?;
        progress::tell(&format!("\nadapter: {}", self.out.join("run/adapter").display()));
        progress::tell(&format!("report: {}", index.display()));
        Ok(())
    }
}

fn split_figures(
    models: &[Model],
    splits: &Splits,
) -> Result<BTreeMap<&'static str, summary::Split>, BpoError> {
    let figures = |(place, split): (usize, &Evaluated)| {
        let of = |model: &Model| (model.name, Figures::new(&model.scored[place]));
        let after = models.iter().find(|model| model.name == "after");
        let others = models.iter().filter(|model| model.name != "after");
        let others = others.map(|model| (model.name, model.scored[place].chair.as_slice()));
        let change = match after {
            Some(after) => changes(&after.scored[place].chair, others)?,
            None => BTreeMap::new(),
        };
        Ok((split.name, summary::Split { models: models.iter().map(of).collect(), change }))
    };
    splits.evaluation.iter().enumerate().map(figures).collect()
}
