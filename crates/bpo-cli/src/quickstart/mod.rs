//! `bpo quickstart`: all of BPO on a small model and a small synthetic data set, with a report.

mod ablation;
mod base;
mod evaluation;
mod files;
mod frontier;
mod inputs;
mod page;
mod plot;
mod recipe;
mod scatter;
mod splits;
mod stopwatch;
mod summary;
mod variant;
mod world_injector;
mod world_judge;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpo::burn::tensor::Device;
use bpo::distort::{Amount, DiffusionNoise, Distortion, diffusion};
use bpo::eval::{Bootstrap, ChairItem, ChairReport, ReportTable, format_percent};
use bpo::pairs::format::jsonl::{JsonLines, read_pairs};
use bpo::stages::StageRecord;
use bpo::{BpoError, Checkpoint, Dtype, LocalBackend, RunConfig, RunDir, fingerprint_checkpoint};
use bpo_world::{Example, Split, Topic};

use crate::args::QuickstartArgs;
use crate::commands::open_device;
use crate::failure::Failure;
use crate::progress;
use crate::terminal::{print_line, print_lines};
use evaluation::{Evaluator, Scored};
use files::{create_dir, write, write_json};
use inputs::Inputs;
use recipe::Size;
use splits::{Evaluated, Splits};
use stopwatch::Stopwatch;
use summary::{MAIN_METRICS, Metrics, Summary, Weakened, changes, differences};
use variant::{Trained, Trainings, Variant};
use world_injector::WorldInjector;

/// The models that BPO is compared with. BPO with the authors' loss is not one of them: it is the
/// same method.
const PEERS: [&str; 2] = ["before", "sft"];

/// Headings of the tables of the evaluation splits.
const WORLDS: [&str; 2] = ["counterfactual world", "usual world"];

/// A model and its answers about the evaluation splits.
#[derive(Debug)]
pub struct Model {
    /// The name in files.
    name: &'static str,
    /// The title in tables.
    title: &'static str,
    /// Answers about the counterfactual split and about the usual one.
    scored: [Scored; 2],
    /// The metrics file of the training.
    metrics: Option<PathBuf>,
}

/// Runs the quickstart once, or as an ablation over several seeds.
///
/// # Errors
/// Returns an error if the directory has other inputs, or a stage fails.
pub fn quickstart(args: &QuickstartArgs) -> Result<(), Failure> {
    let mut config = RunConfig::default();
    config.device = args.device.unwrap_or_default().into();
    let device = open_device(&config)?;
    let size = Size::scaled(args.scale);
    let evaluated = if args.validation {
        [Split::ValidationCounter, Split::Validation]
    } else {
        [Split::Counter, Split::HeldOut]
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
    run.run(&[Variant::Sft, Variant::Bpo])?;
    Ok(())
}

/// Settings that the runs of all seeds share.
#[derive(Clone, Copy)]
struct Setting<'a> {
    config: &'a RunConfig,
    size: Size,
    /// The counterfactual split and the usual one.
    evaluated: [Split; 2],
    device: &'a Device,
}

/// A run with one seed.
struct Quickstart<'a> {
    out: &'a Path,
    seed: u64,
    /// The base model, if it is not the one that the program contains.
    base: Option<&'a Path>,
    setting: Setting<'a>,
}

impl Quickstart<'_> {
    /// Makes pairs, trains each variant, evaluates all models and writes the report.
    fn run(&self, variants: &[Variant]) -> Result<Summary, BpoError> {
        let mut clock = Stopwatch::default();
        let Setting { config, size, evaluated, device } = self.setting;
        let print = match self.base {
            Some(base) => {
                Checkpoint::load(base, Dtype::F32, device)?;
                fingerprint_checkpoint(base)?
            }
            None => base::fingerprint(),
        };
        // before anything is written
        let inputs = Inputs::new(self.seed, size, evaluated.map(Split::name), print);
        let _lock = inputs.open_dir(self.out)?;
        create_dir(&self.out.join("report"))?;
        let base = match self.base {
            Some(base) => base.to_owned(),
            None => base::write(&self.out.join("base"))?,
        };
        let splits = Splits::write(&self.out.join("world"), size, self.seed, evaluated)?;
        let config = recipe::config(&base, &splits, self.seed, config.device.first);
        let evaluator = Evaluator::new(&splits, device.clone())?;
        clock.lap("world");

        if size.is_partial() {
            print_line("a reduced size (--scale): the training is too short to show an effect");
        }
        let before = evaluator.evaluate(&base, None, "the model before training")?;
        if before.iter().all(Scored::mentions_nothing) {
            print_line("no answer mentions an object of the data set: the base model was not trained on it");
        }
        let mut models = vec![Model { name: "before", title: "before", scored: before, metrics: None }];
        clock.lap("evaluation");

        let run = self.out.join("run");
        let mut backend = LocalBackend::new(config.clone(), device.clone(), None)
            .with_injector(|_| Box::new(WorldInjector));
        let report = bpo::run(&config, &run, &mut backend, &mut *progress::new())?;
        if report.was_finished {
            print_line(&format!("nothing left to do in {}", run.display()));
        }
        let dir = RunDir::open(&run)?;
        let pairs = read_pairs(dir.pairs())?.pairs;
        let weakened = self.weakened(&config, &dir.weakened(), &splits, &evaluator)?;
        let steps = pairs.len().div_ceil(config.train.pairs_per_step());
        clock.lap("bpo run");

        let (out, truth) = (self.out, &splits.train.truth);
        let trainings = Trainings { out, config: &config, run: &dir, pairs: &pairs, steps, truth, device };
        for &variant in variants {
            let trained = match variant {
                Variant::Bpo => Trained::of_run(&base, &run),
                other => trainings.train(other)?,
            };
            clock.lap("other trainings");
            let scored =
                evaluator.evaluate(&trained.checkpoint, trained.adapter.as_deref(), variant.title())?;
            let name = if variant == Variant::Bpo { "after" } else { variant.name() };
            let metrics = Some(trained.metrics);
            models.push(Model { name, title: variant.title(), scored, metrics });
            clock.lap("evaluation");
        }
        let summary = Summary {
            inputs,
            weakened,
            pairs: pairs.len(),
            steps,
            splits: split_metrics(&models, &splits)?,
            seconds: clock.seconds,
        };
        self.report(&summary, &models, &splits)?;
        Ok(summary)
    }

    /// The quality of the descriptions of weakened images.
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
            .map(|index| Example::new(Split::Train, index, self.seed, &bpo_world::QuestionMix::default()))
            .filter(|example| example.qa.topic == Topic::Description)
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
        print_lines(&format!(
            "\n{answers} descriptions of images weakened by {distortion} (alpha-bar {alpha_bar:.2}): CHAIR_i {}, recall {}",
            share(chair_i),
            share(recall)
        ));
        for (title, Evaluated { name, .. }) in WORLDS.iter().zip(&splits.evaluation) {
            let split = &summary.splits[name];
            let metrics: Vec<&Metrics> = models.iter().map(|model| &split.models[model.name]).collect();
            let mut table = ReportTable::new(models.iter().map(|model| model.title));
            for (name, label) in MAIN_METRICS {
                table.row(label, metrics.iter().map(|metrics| format_percent(&metrics.get(name))));
            }
            print_lines(&format!("\n{title}\n{table}"));
            for model in models.iter().filter(|model| PEERS.contains(&model.name)) {
                let change = format_percent(&split.change[model.name]);
                print_line(&format!("CHAIR_i of BPO relative to {}: {change}", model.title));
            }
        }
        print_lines(
            "\nCHAIR_i: share of mentioned objects that are not in the image; CHAIR_s: share of descriptions with such an \
             object; recall: share of the objects in the image that are mentioned; yes/no: accuracy. In brackets: 95 % intervals.",
        );
        let dir = self.out.join("report");
        let (page, index) = (page::page(summary, models, splits)?, dir.join("index.html"));
        write_json(&dir.join("summary.json"), summary)?;
        write(&index, page.as_bytes())?;
        print_line("");
        print_line(&format!("adapter: {}", self.out.join("run/adapter").display()));
        print_line(&format!("report: {}", index.display()));
        Ok(())
    }
}

/// The metrics of all models on each split.
fn split_metrics(
    models: &[Model],
    splits: &Splits,
) -> Result<BTreeMap<&'static str, summary::Split>, BpoError> {
    let metrics = |(place, split): (usize, &Evaluated)| {
        let of = |model: &Model| (model.name, Metrics::new(&model.scored[place]));
        let after = models.iter().find(|model| model.name == "after");
        let others = models.iter().filter(|model| model.name != "after");
        let others = others.map(|model| (model.name, model.scored[place].chair.as_slice()));
        let (change, differences) = match after.map(|after| &after.scored[place].chair) {
            Some(after) => (changes(after, others.clone())?, differences(after, others)?),
            None => (BTreeMap::new(), BTreeMap::new()),
        };
        Ok((split.name, summary::Split { models: models.iter().map(of).collect(), change, differences }))
    };
    splits.evaluation.iter().enumerate().map(metrics).collect()
}
