//! What a model makes of answers and questions: `bpo score`, `bpo generate`.

use bpo::BpoError;
use bpo::checkpoint::Checkpoint;
use bpo::config::RunConfig;
use bpo::inject::Sampling;
use bpo::model::policy::LlavaCollator;
use bpo::model::responder::LlavaResponder;
use bpo::pairs::format::jsonl::read_pairs;
use bpo::pairs::set_aside::ReasonCounts;

use super::{open_device, open_images, print_line, told_all};
use crate::args::{GenerateCommand, ScoreCommand};
use crate::failure::Failure;

/// `bpo score`
pub fn score(args: &ScoreCommand) -> Result<(), Failure> {
    let config = args.config.resolve(&[&args.model, &args.images])?;
    let images = open_images(&config)?;
    let set = read_pairs(&args.pairs)?;
    if set.pairs.is_empty() && set.set_aside.is_empty() {
        let (path, set_aside) = (args.pairs.clone(), ReasonCounts::default());
        return Err(BpoError::Nothing { path, what: "pair", set_aside }.into());
    }
    let Checkpoint { model, processor, .. } = load(&config, args.adapter.as_deref())?;
    let mut collate = LlavaCollator::new(processor, &model, move |name| Ok(images.load(name)?));
    let mut outcome =
        bpo::score::score(&model, &mut collate, &set.pairs, args.batch_size, |score| print_line(&score))?;
    outcome.add(set.set_aside);
    told_all(&outcome)
}

/// `bpo generate`
pub fn generate(args: &GenerateCommand) -> Result<(), Failure> {
    let config = args.config.resolve(&[&args.model, &args.images])?;
    let images = open_images(&config)?;
    let questions = bpo::generate::read_questions(&args.questions)?;
    let Checkpoint { model, processor, .. } = load(&config, args.adapter.as_deref())?;
    let mut model = LlavaResponder::new(model, processor);
    let sampling = Sampling::greedy(args.max_new_tokens)
        .with_temperature(args.temperature)
        .with_top_p(args.top_p)
        .with_seed(config.seed.0);
    let each = |answer| print_line(&answer);
    told_all(&bpo::generate::generate(&mut model, &questions, &images, &sampling, args.batch_size, each)?)
}

fn load(config: &RunConfig, adapter: Option<&std::path::Path>) -> Result<Checkpoint, BpoError> {
    let device = open_device(config)?;
    Checkpoint::load_with_adapter(config.model_path()?, adapter, config.model.dtype, &device)
}
