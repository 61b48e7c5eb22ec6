//! The command `bpo`: see `bpo help`, or the README.
//!
//! Standard output is for machines (JSON lines), standard error for people. A stage has done its work, and the exit code
//! is 0, when what it makes is there, though bad records were skipped and told; what answers line by line (`score`,
//! `generate`, `eval`) or image by image (`distort`) has done it only when none is missing, and gives 1 otherwise. Work that
//! fails gives 1, too. A command line or a setting that cannot be used, whatever the files are, gives 2, and nothing is done. A
//! training that a signal ended behind a checkpoint gives 130.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod failure;
#[cfg(feature = "model")]
mod interrupt;
mod overrides;
mod progress;
#[cfg(feature = "model")]
mod quickstart;
mod warnings;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::Cli;
use crate::failure::Failure;
use crate::warnings::Sentences;

fn main() -> ExitCode {
    let cli = match Cli::try_parse().and_then(Cli::checked) {
        Ok(cli) => cli,
        Err(error) => {
            // a closed pipe is the reader's wish
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { failure::USAGE } else { 0 });
        }
    };
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(Sentences)
        .init();
    std::panic::set_hook(Box::new(failure::report_panic));
    match std::panic::catch_unwind(|| commands::run(cli.command)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            match &failure {
                Failure::Error(error) => progress::tell(&format!("error: {}", bpo::chain(error))),
                #[cfg(feature = "model")]
                Failure::Interrupted => progress::tell("stopped: the same command goes on"),
                // told where it happened, or nobody listens
                Failure::Incomplete | Failure::ClosedPipe => {}
            }
            failure.exit_code()
        }
        // the hook has told of it
        Err(_) => ExitCode::from(failure::INTERNAL),
    }
}
