//! Helpers of the cases.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::{Outcome, command, photos, tiny};

/// A temporary directory with paths by name.
pub(super) struct Dir(TempDir);

impl Dir {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A FIFO without a reader or writer.
    pub(super) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }
}

/// Runs the program, and fails if it hangs.
pub(super) fn ends(command: &mut Command) -> Outcome {
    ends_with_peak(command).0
}

/// Runs the program, and fails if it hangs. The second value is the most memory it had at one time in
/// MB, on Linux.
pub(super) fn ends_with_peak(command: &mut Command) -> (Outcome, Option<u64>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let mut peak = None;
    while child.try_wait().unwrap().is_none() {
        // far more than any command takes on a busy machine
        if start.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
            panic!("{command:?} hangs: {:?}", child.wait_with_output());
        }
        peak = peak.max(peak_megabytes(child.id()));
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let outcome = Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    (outcome, peak)
}

/// The largest resident memory that a process has had, where `/proc` shows it.
fn peak_megabytes(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1000)
}

/// The command ends with an error, not by a signal or a panic.
#[track_caller]
pub(super) fn fails(arguments: Vec<OsString>) -> Outcome {
    let outcome = ends(&mut command(arguments));
    assert!(matches!(outcome.code, Some(1 | 2)), "{outcome:?}");
    assert_eq!(outcome.stderr.matches("error: ").count(), 1, "{outcome:?}");
    outcome.without_panic()
}

pub(super) fn inject(data: &Path, out: &Path) -> Vec<OsString> {
    arguments!["inject", "--data", data, "--out", out]
}

pub(super) fn score_arguments(pairs: &Path) -> Vec<OsString> {
    arguments!["score", "--model", tiny(), "--images", photos(), "--pairs", pairs]
}
