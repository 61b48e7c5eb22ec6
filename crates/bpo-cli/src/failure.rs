//! How the program ends when not all was done.

use std::io::{ErrorKind, Write};
use std::panic::PanicHookInfo;
use std::process::ExitCode;

use bpo::BpoError;
use bpo::distort::files::FilesError;
use bpo::pairs::PairsError;

/// Exit code where the command line or a setting cannot be used, whatever the files are; clap's too.
pub const USAGE: u8 = 2;
/// Exit code after a bug of ours.
pub const INTERNAL: u8 = 101;
/// Exit code that a shell shows for a program that Ctrl-C ended.
#[cfg(feature = "model")]
pub const INTERRUPTED: u8 = 128 + 2;
/// Exit code that a shell shows for a program that a closed pipe ended.
const CLOSED_PIPE: u8 = 128 + 13;

/// Why not all was done.
#[derive(Debug)]
pub enum Failure {
    /// Something went wrong.
    Error(BpoError),
    /// Some of what was asked for was skipped; this has been told.
    Incomplete,
    /// Training was asked to end; the same command goes on.
    #[cfg(feature = "model")]
    Interrupted,
    /// Nobody reads standard output any more.
    ClosedPipe,
}

impl Failure {
    /// What the shell is told.
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

impl From<FilesError> for Failure {
    fn from(error: FilesError) -> Self {
        BpoError::from(error).into()
    }
}

impl From<PairsError> for Failure {
    fn from(error: PairsError) -> Self {
        BpoError::from(error).into()
    }
}

/// In place of a backtrace. Inputs and files do not lead here; a defect of the program does.
pub fn report_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("no message").trim();
    let place =
        info.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "error: internal error, please report it: {message}{place}");
}
