//! `bpo generate`

use bpo::pairs::Sampling;
use bpo::{BpoError, Checkpoint, LocalVlm, Required, Videos, check_sampling};

use super::{UsedModel, fetch_models, load_checkpoint, open_images};
use crate::args::GenerateCommand;
use crate::failure::Failure;
use crate::overrides::required;
use crate::skipped::fail_if_skipped;
use crate::terminal::print_json;

/// Prints the model's answers to questions.
///
/// # Errors
/// Returns [`Failure::Incomplete`] if a question was skipped.
pub fn generate(args: &GenerateCommand) -> Result<(), Failure> {
    let config = args.config.resolve_for_answers(None, &[&args.seed, &args.model, &args.images])?;
    let flags = [("--questions", args.questions.is_some())];
    config.require(&[Required::Model, Required::Images], &flags)?;
    let sampling = Sampling::greedy(args.max_new_tokens)
        .with_temperature(args.temperature)
        .with_top_p(args.top_p)
        .with_seed(config.seed.0);
    check_sampling(&sampling).map_err(flag_of_setting)?;
    let questions = required("--questions", &args.questions)?;
    let config = fetch_models(config, &[UsedModel::Model], &[questions])?;
    let images = open_images(&config)?;
    let (questions, unread) = bpo::read_questions(questions, &Videos::of(&config))?;
    let (Checkpoint { model, processor, .. }, further) = load_checkpoint(&config)?;
    let mut model = LocalVlm::new(model.merged(), processor, &further)?;
    let each = |answer| print_json(&answer);
    let mut outcome = bpo::generate(&mut model, &questions, &images, &sampling, args.batch_size, each)?;
    outcome.add(unread);
    fail_if_skipped(&outcome)
}

/// Names the flag of a sampling setting, which has no key in the settings file.
fn flag_of_setting(error: BpoError) -> BpoError {
    match error {
        BpoError::Setting { key, expected, found } => {
            BpoError::Setting { key: format!("--{}", key.replace('_', "-")).into(), expected, found }
        }
        error => error,
    }
}
