//! Helpers of all tests: they run the program on the tiny checkpoint and the photographs.

/// Arguments from paths and texts.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => { vec![$(std::ffi::OsString::from($argument)),*] };
}

pub mod checkpoint;
mod files;
pub mod server;
#[cfg(feature = "server")]
pub mod vlm_server;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

pub use files::*;

/// The tiny LLaVA checkpoint, or that of the golden directory that `BPO_GOLDEN` names.
pub fn tiny() -> PathBuf {
    let golden =
        std::env::var_os("BPO_GOLDEN").map_or_else(|| crates().join("bpo-model/tests/golden"), PathBuf::from);
    golden.join("tiny-llava")
}

pub fn photos() -> PathBuf {
    crates().join("../examples/data/photos")
}

/// The directory of all crates.
pub fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Exit code and output of the program.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Exit code 0.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.without_panic()
    }

    /// Exit code 1 and one error that names all of `parts`: work failed, or a file cannot be used.
    #[track_caller]
    pub fn fails_naming(self, parts: &[&str]) -> Self {
        self.ends_naming(1, parts)
    }

    /// Exit code 2 and one error that names all of `parts`: the command line or a setting cannot be
    /// used.
    #[track_caller]
    pub fn refuses_naming(self, parts: &[&str]) -> Self {
        self.ends_naming(2, parts)
    }

    #[track_caller]
    fn ends_naming(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in: {}", self.stderr);
        }
        self.without_panic()
    }

    /// Standard error contains `part`.
    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "no {part:?} in: {}", self.stderr);
        self
    }

    /// Standard error shows no panic and no backtrace.
    #[track_caller]
    pub fn without_panic(self) -> Self {
        for word in ["panicked", "backtrace", "internal error"] {
            assert!(!self.stderr.contains(word), "{}", self.stderr);
        }
        self
    }

    /// Standard output, one JSON value per line.
    pub fn lines(&self) -> Vec<Value> {
        parse_lines(&self.stdout)
    }
}

/// The program with arguments, not yet started.
pub fn command<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpo"));
    command.args(arguments).env_remove("RUST_LOG").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub fn bpo<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Outcome {
    finish(&mut command(arguments))
}

pub fn finish(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `bpo run` on the photographs with settings that fit the tiny model.
pub fn run_arguments(out: &Path) -> Vec<OsString> {
    arguments![
        "run",
        "--model",
        tiny(),
        "--data",
        photos().join("llava.json"),
        "--images",
        photos(),
        "--out",
        out,
        "--max-new-tokens",
        "6",
        "--learning-rate",
        "2e-3",
        "--lora-r",
        "4",
        "--lora-alpha",
        "16",
        "--epochs",
        "3",
        "--save-every",
        "2",
    ]
}

/// `bpo train` with settings that fit the tiny model; later flags override these.
pub fn train_arguments(pairs: &Path, out: &Path) -> Vec<OsString> {
    let files = arguments!["--model", tiny(), "--images", photos(), "--pairs", pairs, "--out", out];
    arguments!["train", "--learning-rate", "2e-3", "--lora-r", "4"].into_iter().chain(files).collect()
}

/// `bpo score` of pairs by a model.
pub fn score(model: &Path, pairs: &Path, more: Vec<OsString>) -> Outcome {
    let arguments = arguments!["score", "--model", model, "--pairs", pairs, "--images", photos()];
    bpo(arguments.into_iter().chain(more))
}

/// `bpo generate` by the tiny model.
pub fn generate(questions: &Path, more: Vec<OsString>) -> Outcome {
    let model = arguments!["generate", "--model", tiny(), "--images", photos(), "--questions", questions];
    bpo(model.into_iter().chain(more))
}

/// Copies a finished `bpo run` with [`run_arguments`] to `out`. The run itself is made once for all
/// tests.
pub fn copy_run(out: &Path) {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    let run = RUN.get_or_init(|| {
        let run = Path::new(env!("CARGO_TARGET_TMPDIR")).join("finished-run");
        if run.exists() {
            fs::remove_dir_all(&run).unwrap();
        }
        bpo(run_arguments(&run)).succeeds();
        run
    });
    copy_dir(run, out);
}
