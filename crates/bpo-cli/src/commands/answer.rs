//! What a model makes of answers and questions: `bpo score`, `bpo generate`.

use bpo::dpo::{Collate, validate_pairs};
use bpo::model::policy::LlavaCollator;
use bpo::model::responder::LlavaResponder;
use bpo::pairs::format::jsonl::read_pairs;
use bpo::pairs::{PreferencePair, Sampling, warn_left_out};
use bpo::reference::fill;
use bpo::stages::StageOutcome;
use bpo::{BpoError, Checkpoint, ReferenceSection, Required, RunConfig, check_sampling, collator};

use super::{open_device, open_images, print_line, told_all};
use crate::args::{GenerateCommand, ScoreCommand};
use crate::failure::Failure;
use crate::overrides::given;
use crate::progress;

/// `bpo score`
pub fn score(args: &ScoreCommand) -> Result<(), Failure> {
    let config = args.config.resolve_for_answers(&[&args.model, &args.images])?;
    config.require(&[Required::Model, Required::Images], &[("--pairs", args.pairs.is_some())])?;
    let pairs = given("--pairs", &args.pairs)?;
    if let Some(cache) = &args.cache {
        args.config.inputs(&config).input("--pairs", pairs).output_file("--cache", cache).check()?;
    }
    let images = open_images(&config)?;
    let set = read_pairs(pairs)?;
    if set.pairs.is_empty() {
        return Err(BpoError::nothing(pairs, "pair", &set.skipped).into());
    }
    let checkpoint = load(&config)?;
    let each = |score| print_line(&score);
    let mut outcome = match &args.cache {
        None => {
            let mut collate = LlavaCollator::new(checkpoint.processor, &checkpoint.model, images);
            bpo::score(&checkpoint.model, &mut collate, &set.pairs, args.batch_size, each)?
        }
        Some(file) => {
            if !config.train.objective().properties().rejected {
                let (with, reason) =
                    (format!("the loss {}", config.train.loss), "it does not ask for rejected answers");
                return Err(BpoError::Conflict { key: "--cache".into(), with, reason }.into());
            }
            let mut config = config;
            // the model that is asked is the reference of a later training
            config.reference = ReferenceSection::default();
            config.train.batch_size = args.batch_size;
            let mut collate = collator(&config, &checkpoint, &images);
            if !collate.takes_system() {
                warn_left_out("pairs", set.pairs.iter().map(|pair| &pair.system));
            }
            let loss = config.train.objective().properties();
            let (pairs, refused) = validate_pairs(&mut collate, loss, &set.pairs);
            let (cache, unprepared) =
                fill(&config, file, &checkpoint, &mut collate, &pairs, &mut *progress::new())?;
            let is_prepared = |pair: &PreferencePair| !unprepared.iter().any(|skipped| skipped.id == pair.id);
            let pairs: Vec<_> = pairs.into_iter().filter(is_prepared).collect();
            let unscored = bpo::score_cached(&cache, &pairs, &checkpoint.model.device(), each)?;
            let scored = pairs.len() - unscored.len();
            StageOutcome::new(scored, refused.into_iter().chain(unprepared).chain(unscored).collect())
        }
    };
    outcome.add(set.skipped);
    told_all(&outcome)
}

/// `bpo generate`
pub fn generate(args: &GenerateCommand) -> Result<(), Failure> {
    let config = args.config.resolve_for_answers(&[&args.model, &args.images])?;
    let flags = [("--questions", args.questions.is_some())];
    config.require(&[Required::Model, Required::Images], &flags)?;
    let sampling = Sampling::greedy(args.max_new_tokens)
        .with_temperature(args.temperature)
        .with_top_p(args.top_p)
        .with_seed(config.seed.0);
    check_sampling(&sampling)?;
    let images = open_images(&config)?;
    let (questions, unread) = bpo::read_questions(given("--questions", &args.questions)?)?;
    let Checkpoint { model, processor, .. } = load(&config)?;
    let mut model = LlavaResponder::new(model.merged(), processor);
    let each = |answer| print_line(&answer);
    let mut outcome = bpo::generate(&mut model, &questions, &images, &sampling, args.batch_size, each)?;
    outcome.add(unread);
    told_all(&outcome)
}

fn load(config: &RunConfig) -> Result<Checkpoint, BpoError> {
    let device = open_device(config)?;
    let adapter = config.model.adapter.as_deref();
    Checkpoint::load_with_adapter(config.model_path()?, adapter, config.model.dtype, &device)
}
