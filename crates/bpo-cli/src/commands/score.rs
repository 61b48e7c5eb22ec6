//! `bpo score`

use bpo::dpo::{Collate, validate_pairs};
use bpo::model::VlmCollator;
use bpo::pairs::format::jsonl::read_pairs_with;
use bpo::pairs::{PreferencePair, warn_left_out};
use bpo::stages::StageOutcome;
use bpo::{BpoError, Media, ReferenceSection, Required, collator, fill_cache, on_devices};

use super::{UsedModel, fetch_models, load_checkpoint, open_images};
use crate::args::ScoreCommand;
use crate::failure::Failure;
use crate::overrides::{one, required};
use crate::progress;
use crate::skipped::fail_if_skipped;
use crate::terminal::print_json;

/// Prints the log-probabilities of pairs.
///
/// # Errors
/// Returns [`Failure::Incomplete`] if a pair was skipped.
pub fn score(args: &ScoreCommand) -> Result<(), Failure> {
    let config = args.config.resolve_for_answers(None, &[&args.model, &args.images])?;
    config.require(&[Required::Model, Required::Images], &[("--pairs", !args.pairs.is_empty())])?;
    let pairs = one("--pairs", &args.pairs)?;
    let pairs = required("--pairs", &pairs)?;
    let config = fetch_models(config, &[UsedModel::Model], &[pairs])?;
    if let Some(cache) = &args.cache {
        args.config.inputs(&config).input("--pairs", pairs).output("--cache", cache).check()?;
    }
    let images = open_images(&config)?;
    let set = read_pairs_with(pairs, &Media::of(&config).read_options())?;
    if set.pairs.is_empty() {
        return Err(BpoError::nothing(pairs, "pair", &set.skipped).into());
    }
    let (checkpoint, further) = load_checkpoint(&config)?;
    let each = |score| print_json(&score);
    let mut outcome = match &args.cache {
        None => {
            let mut collate = VlmCollator::new(checkpoint.processor, &checkpoint.model, images);
            let policies = on_devices(&checkpoint.model, &further);
            bpo::score(&policies, &mut collate, &set.pairs, args.batch_size, each)?
        }
        Some(file) => {
            if !config.train.objective().properties().rejected {
                let (with, reason) =
                    (format!("the loss {}", config.train.loss), "that loss uses no rejected answers");
                return Err(BpoError::Conflict { key: "--cache".into(), with, reason }.into());
            }
            let mut config = config;
            // the scored model is the reference of a later training
            config.reference = ReferenceSection::default();
            config.train.batch_size = args.batch_size;
            let mut collate = collator(&config, &checkpoint, &images);
            if !collate.takes_system() {
                warn_left_out("pairs", set.pairs.iter().map(|pair| &pair.system));
            }
            let loss = config.train.objective().properties();
            let (pairs, refused) = validate_pairs(&mut collate, loss, set.pairs);
            let progress = &mut *progress::new();
            let (cache, unprepared) =
                fill_cache(&config, file, &checkpoint, &further, &mut collate, &pairs, progress)?;
            let is_prepared = |pair: &PreferencePair| !unprepared.iter().any(|skipped| skipped.id == pair.id);
            let pairs: Vec<_> = pairs.into_iter().filter(is_prepared).collect();
            let unscored = bpo::score_cached(&cache, &pairs, &checkpoint.model.device(), each)?;
            let scored = pairs.len() - unscored.len();
            StageOutcome::new(scored, refused.into_iter().chain(unprepared).chain(unscored).collect())
        }
    };
    outcome.add(set.skipped);
    fail_if_skipped(&outcome)
}
