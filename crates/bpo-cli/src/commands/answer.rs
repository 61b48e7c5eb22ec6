//! What a model makes of answers and questions: `bpo score`, `bpo generate`.

use bpo::BpoError;
use bpo::checkpoint::Checkpoint;
use bpo::config::{ReferenceSection, RunConfig};
use bpo::dpo::policy::Collate;
use bpo::dpo::vet::vet;
use bpo::inject::Sampling;
use bpo::llava::collator;
use bpo::model::policy::LlavaCollator;
use bpo::model::responder::LlavaResponder;
use bpo::pairs::format::jsonl::read_pairs;
use bpo::pairs::set_aside::SetAside;
use bpo::pairs::system::warn_left_out;
use bpo::reference::fill;
use bpo::stages::StageOutcome;

use super::{open_device, open_images, print_line, told_all};
use crate::args::{GenerateCommand, ScoreCommand};
use crate::failure::Failure;
use crate::progress;

/// `bpo score`
pub fn score(args: &ScoreCommand) -> Result<(), Failure> {
    let config = args.config.resolve(&[&args.model, &args.images])?;
    let images = open_images(&config)?;
    let set = read_pairs(&args.pairs)?;
    if set.pairs.is_empty() {
        return Err(BpoError::nothing(&args.pairs, "pair", &set.set_aside).into());
    }
    let checkpoint = load(&config, args.adapter.as_deref())?;
    let each = |score| print_line(&score);
    let mut outcome = match &args.cache {
        None => {
            let load = move |name: &str| Ok(images.load(name)?);
            let mut collate = LlavaCollator::new(checkpoint.processor, &checkpoint.model, load);
            bpo::score::score(&checkpoint.model, &mut collate, &set.pairs, args.batch_size, each)?
        }
        Some(file) => {
            if !config.train.loss.needs_rejected() {
                let (with, reason) =
                    (format!("the loss {}", config.train.loss), "it does not ask for rejected answers");
                return Err(BpoError::Conflict { key: "--cache".into(), with, reason }.into());
            }
            let mut config = config;
            // the model that is asked is the reference of a later training
            config.reference = ReferenceSection::default();
            config.reference.adapter.clone_from(&args.adapter);
            config.train.batch_size = args.batch_size;
            let mut collate = collator(&config, &checkpoint, &images);
            if !collate.takes_system() {
                warn_left_out("pairs", set.pairs.iter().map(|pair| &pair.system));
            }
            let (pairs, refused) = vet(&mut collate, &config.train.objective(), &set.pairs);
            let cache = fill(&config, file, &checkpoint, &mut collate, &pairs, &mut *progress::new())?;
            bpo::score::cached(&cache, &pairs, &checkpoint.model.device(), each)?;
            StageOutcome::new(pairs.len(), refused.into_iter().map(SetAside::from).collect())
        }
    };
    outcome.add(set.set_aside);
    told_all(&outcome)
}

/// `bpo generate`
pub fn generate(args: &GenerateCommand) -> Result<(), Failure> {
    let config = args.config.resolve(&[&args.model, &args.images])?;
    let images = open_images(&config)?;
    let (questions, unread) = bpo::generate::read_questions(&args.questions)?;
    let Checkpoint { model, processor, .. } = load(&config, args.adapter.as_deref())?;
    let mut model = LlavaResponder::new(model.merged(), processor);
    let sampling = Sampling::greedy(args.max_new_tokens)
        .with_temperature(args.temperature)
        .with_top_p(args.top_p)
        .with_seed(config.seed.0);
    let each = |answer| print_line(&answer);
    let mut outcome =
        bpo::generate::generate(&mut model, &questions, &images, &sampling, args.batch_size, each)?;
    outcome.add(unread);
    told_all(&outcome)
}

fn load(config: &RunConfig, adapter: Option<&std::path::Path>) -> Result<Checkpoint, BpoError> {
    let device = open_device(config)?;
    Checkpoint::load_with_adapter(config.model_path()?, adapter, config.model.dtype, &device)
}
