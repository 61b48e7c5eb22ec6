//! The command `bpo`. `bpo help` lists its commands.
//!
//! Standard output has JSON lines only; messages and progress go to standard error.
//!
//! Exit codes:
//! - 0: the result is complete. A stage of a run may have skipped records, which it reports.
//! - 1: the work failed; or `score`, `generate`, `eval` or `distort` skipped a line or an image.
//! - 2: the command line or a setting cannot be used. Nothing was done.
//! - 130: a signal stopped the program. The same command resumes.
//! - 101: the program panicked, which is a bug.
//! - 141: the reader of standard output closed it.

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
mod skipped;
mod terminal;
mod warnings;

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::args::Cli;
use crate::failure::Failure;
use crate::warnings::Sentences;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() {
                terminal::print_line(error.render().to_string().trim_end());
                return ExitCode::from(failure::USAGE);
            }
            // a closed pipe is no error
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
    };
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(terminal::log_writer)
        .with_ansi(false)
        .event_format(Sentences)
        .init();
    std::panic::set_hook(Box::new(failure::report_panic));
    match std::panic::catch_unwind(|| commands::run(cli.command)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            match &failure {
                Failure::Error(error) => terminal::print_line(&format!("error: {}", bpo::chain(error))),
                #[cfg(feature = "model")]
                Failure::Interrupted => terminal::print_line(failure::STOPPED),
                // printed already, or nobody reads
                Failure::Incomplete | Failure::ClosedPipe => {}
            }
            failure.exit_code()
        }
        // the panic hook has printed it
        Err(_) => ExitCode::from(failure::INTERNAL),
    }
}
