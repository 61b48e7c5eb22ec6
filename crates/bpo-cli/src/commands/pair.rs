//! `bpo pair`

use bpo::stages::ExistingPairs;
use bpo::{AnnotatedData, BpoError, Required};

use super::{read_answers, read_data};
use crate::args::PairCommand;
use crate::failure::Failure;
use crate::overrides::required;
use crate::progress;
use crate::skipped::print_skipped;

/// Builds preference pairs.
///
/// # Errors
/// Returns an error if an input cannot be used, or the output cannot be written.
pub fn pair(args: &PairCommand) -> Result<(), Failure> {
    let config = args.config.resolve_for_answers(args.preset.preset, &[&args.data, &args.images])?;
    let flags = [("--answers", !args.answers.is_empty()), ("--out", args.out.is_some())];
    config.require(&[Required::Data], &flags)?;
    let out = required("--out", &args.out)?;
    let mut paths = args.config.inputs(&config);
    for file in &args.answers {
        paths.input("--answers", file);
    }
    paths.output("--out", out).check()?;
    let mut progress = progress::new();
    let AnnotatedData { samples, fingerprint, .. } = read_data(&config, &mut *progress)?;
    let answers = read_answers(&args.answers, &fingerprint, args.allow_mismatch)?;
    let (pairs, outcome) =
        bpo::stages::pair(&config, &samples, answers, out, ExistingPairs::Refuse, &mut *progress)?;
    print_skipped(&outcome.skipped, None);
    if pairs.is_empty() {
        let (path, skipped) = (out.to_owned(), outcome.summary.skipped);
        return Err(BpoError::Nothing { path, what: "pair", skipped }.into());
    }
    Ok(())
}
