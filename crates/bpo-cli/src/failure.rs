//! Failures of a command and their exit codes.

use std::io::ErrorKind;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

use bpo::pairs::{PairsError, is_panic_caught};
use bpo::{BpoError, DistortFilesError};

use crate::terminal::print_line;

/// Exit code for a command line or a setting that cannot be used. clap uses the same.
pub const USAGE: u8 = 2;
/// Exit code after a panic, which is a bug.
pub const INTERNAL: u8 = 101;
/// Exit code after an interruption: the one that shells report for SIGINT.
#[cfg(feature = "model")]
pub const INTERRUPTED: u8 = 128 + 2;
/// Message after an interruption.
#[cfg(feature = "model")]
pub const STOPPED: &str = "stopped; run the same command again to resume";
/// Exit code after standard output was closed: the one that shells report for SIGPIPE.
const CLOSED_PIPE: u8 = 128 + 13;

/// The reason why a command did not finish its work.
#[derive(Debug)]
pub enum Failure {
    /// An error, which is not printed yet.
    Error(BpoError),
    /// Some items were skipped. Their lines and counts are printed already.
    Incomplete,
    /// A signal stopped training after a checkpoint. The same command resumes it.
    #[cfg(feature = "model")]
    Interrupted,
    /// The reader of standard output has closed it.
    ClosedPipe,
}

impl Failure {
    /// The exit code of the process.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Error(error) if error.is_usage() => USAGE,
            Self::Error(_) | Self::Incomplete => 1,
            #[cfg(feature = "model")]
            Self::Interrupted => INTERRUPTED,
            Self::ClosedPipe => CLOSED_PIPE,
        })
    }
}

impl From<BpoError> for Failure {
    fn from(error: BpoError) -> Self {
        match error {
            BpoError::Io { source, .. } if source.kind() == ErrorKind::BrokenPipe => Self::ClosedPipe,
            error => Self::Error(error),
        }
    }
}

impl From<DistortFilesError> for Failure {
    fn from(error: DistortFilesError) -> Self {
        BpoError::from(error).into()
    }
}

impl From<PairsError> for Failure {
    fn from(error: PairsError) -> Self {
        BpoError::from(error).into()
    }
}

/// Prints one line about a panic instead of a backtrace. Inputs and files cause errors, not panics. A
/// panic that becomes an error is not reported.
pub fn report_panic(info: &PanicHookInfo<'_>) {
    if is_panic_caught() {
        return;
    }
    let message = info.payload_as_str().unwrap_or("no message").trim();
    let place =
        info.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    print_line(&format!("error: internal error, please report it: {message}{place}"));
}
