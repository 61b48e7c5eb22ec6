//! What each subcommand does.

#[cfg(feature = "model")]
mod answer;
mod distort;
mod eval;
#[cfg(feature = "model")]
mod merge;
#[cfg(feature = "model")]
mod plan;
#[cfg(feature = "model")]
mod run;
mod stages;
#[cfg(feature = "model")]
mod train;
#[cfg(feature = "model")]
mod weaken;

use std::io::Write;
use std::path::Path;

#[cfg(feature = "model")]
use bpo::ImageRoot;
#[cfg(feature = "model")]
use bpo::burn::tensor::Device;
#[cfg(feature = "model")]
use bpo::stages::StageOutcome;
use bpo::{BpoError, RunConfig};

use crate::args::Command;
use crate::failure::Failure;
#[cfg(feature = "model")]
use crate::progress;
#[cfg(feature = "model")]
use crate::quickstart::quickstart;

/// Does what was asked for.
///
/// # Errors
/// Why not all was done.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        #[cfg(feature = "model")]
        Command::Quickstart(args) => quickstart(&args),
        #[cfg(feature = "model")]
        Command::Run(args) => run::run(&args),
        #[cfg(feature = "model")]
        Command::Weaken(args) => weaken::weaken(&args),
        Command::Inject(args) => stages::inject(&args),
        Command::Pair(args) => stages::pair(&args),
        #[cfg(feature = "model")]
        Command::Train(args) => train::train(&args),
        #[cfg(feature = "model")]
        Command::Score(args) => answer::score(&args),
        #[cfg(feature = "model")]
        Command::Generate(args) => answer::generate(&args),
        Command::Distort(args) => distort::distort(&args),
        #[cfg(feature = "model")]
        Command::Merge(args) => merge::merge(&args),
        Command::Eval(command) => eval::eval(&command),
        #[cfg(not(feature = "model"))]
        Command::Unknown(_) => Ok(()),
    }
}

/// Starts the device. What a backend prints when it panics is not for users; the error says what matters.
#[cfg(feature = "model")]
pub fn open_device(config: &RunConfig) -> Result<Device, BpoError> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let device = config.device.open();
    std::panic::set_hook(hook);
    device
}

#[cfg(feature = "model")]
fn open_images(config: &RunConfig) -> Result<ImageRoot, BpoError> {
    let images = ImageRoot::new(config.images_path()?)?;
    Ok(images.with_limits(config.data.limits))
}

/// The key for the server, from the environment variable that the settings name. Libraries read no environment.
#[cfg(feature = "server")]
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

/// No server, no key.
#[cfg(not(feature = "server"))]
fn api_key(_: &RunConfig) -> Result<Option<String>, BpoError> {
    Ok(None)
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
#[cfg(feature = "model")]
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
