//! What each subcommand does.

mod answer;
mod distort;
mod eval;
mod merge;
mod plan;
mod run;
mod stages;

use std::io::Write;
use std::path::Path;

use bpo::BpoError;
use bpo::burn::tensor::Device;
use bpo::config::RunConfig;
use bpo::pairs::error::PairsError;
use bpo::pairs::images::ImageRoot;
use bpo::stages::StageOutcome;

use crate::args::Command;
use crate::failure::Failure;
use crate::progress;
use crate::quickstart::quickstart;

/// Does what was asked for.
///
/// # Errors
/// Why not all was done.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Quickstart(args) => quickstart(&args),
        Command::Run(args) => run::run(&args),
        Command::Weaken(args) => stages::weaken(&args),
        Command::Inject(args) => stages::inject(&args),
        Command::Pair(args) => stages::pair(&args),
        Command::Train(args) => stages::train(&args),
        Command::Score(args) => answer::score(&args),
        Command::Generate(args) => answer::generate(&args),
        Command::Distort(args) => distort::distort(&args),
        Command::Merge(args) => merge::merge(&args),
        Command::Eval(command) => eval::eval(&command),
    }
}

/// Starts the device. What a backend prints when it panics is not for users; the error says what matters.
pub fn open_device(config: &RunConfig) -> Result<Device, BpoError> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let device = config.device.open();
    std::panic::set_hook(hook);
    device
}

fn open_images(config: &RunConfig) -> Result<ImageRoot, BpoError> {
    let images = ImageRoot::new(config.images_path()?).map_err(PairsError::from)?;
    Ok(images.with_limits(config.data.limits))
}

/// The key for the server, from the environment variable that the settings name. Libraries read no environment.
fn api_key(config: &RunConfig) -> Result<Option<String>, BpoError> {
    let Some(name) = config.inject.server.as_ref().and_then(|server| server.api_key_env.as_deref()) else {
        return Ok(None);
    };
    std::env::var(name).map(Some).map_err(|error| BpoError::Setting {
        key: "inject.server.api_key_env".into(),
        expected: "the name of an environment variable that holds the key",
        found: format!("`{name}` ({error})"),
    })
}

/// One JSON line to standard output, at once, so that a reader sees it.
fn print_line(value: &impl serde::Serialize) -> Result<(), BpoError> {
    let stdout = Path::new("standard output");
    let mut line =
        serde_json::to_vec(value).map_err(|source| BpoError::Json { path: stdout.to_owned(), source })?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(|source| BpoError::Io {
        action: "write to",
        path: stdout.to_owned(),
        source,
    })
}

/// Tells of each item that could not be done; if there is one, not all was done.
fn told_all(outcome: &StageOutcome) -> Result<(), Failure> {
    for skipped in &outcome.skipped {
        progress::tell(&format!("{}: {}", skipped.id, skipped.detail));
    }
    if outcome.skipped.is_empty() {
        return Ok(());
    }
    let counts = &outcome.summary.skipped;
    progress::tell(&format!("error: {} done, {} skipped ({counts})", outcome.summary.done, counts.total()));
    Err(Failure::Incomplete)
}
