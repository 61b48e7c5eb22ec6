//! What the tests of the command share. They run the program itself on the tiny checkpoint and the photographs.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod checkpoint;
pub mod server;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The tiny LLaVA checkpoint; another one where `BPO_GOLDEN` names a directory of golden values.
pub fn tiny() -> PathBuf {
    let golden =
        std::env::var_os("BPO_GOLDEN").map_or_else(|| crates().join("bpo-model/tests/golden"), PathBuf::from);
    golden.join("tiny-llava")
}

pub fn photos() -> PathBuf {
    crates().join("../examples/data/photos")
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// How a run of the program ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// All was done.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.without_panic()
    }

    /// It ended with one error that names all of `parts`: work failed, or a file cannot be used.
    #[track_caller]
    pub fn fails_naming(self, parts: &[&str]) -> Self {
        self.ends_naming(1, parts)
    }

    /// The same where the command line or a setting cannot be used, whatever the files are.
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

    /// It says `part` on standard error.
    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "no {part:?} in: {}", self.stderr);
        self
    }

    /// No panic and no backtrace.
    #[track_caller]
    pub fn without_panic(self) -> Self {
        for word in ["panicked", "backtrace", "internal error"] {
            assert!(!self.stderr.contains(word), "{}", self.stderr);
        }
        self
    }

    /// Standard output, a JSON value a line.
    pub fn lines(&self) -> Vec<Value> {
        parse_lines(&self.stdout)
    }
}

/// The program with arguments, ready to be started.
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

/// Arguments from paths and texts.
#[macro_export]
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => { vec![$(std::ffi::OsString::from($argument)),*] };
}

/// `bpo run` on the photographs with settings that fit the tiny model.
pub fn run_arguments(out: &Path) -> Vec<std::ffi::OsString> {
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
        "--lr",
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

pub fn parse_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// A file of JSON lines.
pub fn read_lines(path: impl AsRef<Path>) -> Vec<Value> {
    parse_lines(&fs::read_to_string(path).unwrap())
}

/// Writes samples in LLaVA's form: id, image, question, answer.
pub fn write_samples(path: &Path, samples: &[(&str, &str, &str, &str)]) {
    let conversation = |(id, image, question, answer): &(&str, &str, &str, &str)| {
        serde_json::json!({"id": id, "image": image, "conversations": [
            {"from": "human", "value": format!("<image>\n{question}")}, {"from": "gpt", "value": answer},
        ]})
    };
    let conversations: Vec<Value> = samples.iter().map(conversation).collect();
    fs::write(path, serde_json::to_string(&conversations).unwrap()).unwrap();
}

/// Writes pairs: id, image, question, chosen, rejected.
pub fn write_pairs(path: &Path, pairs: &[(&str, &str, &str, &str, &str)]) {
    let line = |(id, image, question, chosen, rejected): &(&str, &str, &str, &str, &str)| {
        let prompt = format!("<image>\n{question}");
        serde_json::json!({
            "id": id, "image": image, "prompt": prompt, "chosen": chosen, "rejected": rejected, "kind": "llm-hal",
        })
        .to_string()
    };
    fs::write(path, pairs.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap();
}
