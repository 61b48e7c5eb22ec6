//! Processes that do a piece of work on request, so that variants are timed alternately.
//!
//! A timed process prints `ready`. For each line that it reads, it does its work once and prints
//! the seconds. For the line `peak` it prints its peak memory in MB: that of the device if the
//! device reports it, otherwise that of the process.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use bpo::DeviceSpec;
use bpo::burn::tensor::Device;

/// The handle of a timed process.
#[derive(Debug)]
pub struct TimedProcess {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl TimedProcess {
    /// Starts a process and waits until it prints `ready`.
    ///
    /// # Panics
    /// Panics if the process does not start or ends earlier.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut process = Self { child, answers };
        assert_eq!(process.line(), "ready", "{command:?}");
        process
    }

    /// Starts a script of `peers/` with the interpreter in `BPO_BENCH_PYTHON`. Returns `None` if
    /// the variable is not set.
    ///
    /// # Panics
    /// Panics as [`start`](Self::start) does.
    pub fn python(script: &str, arguments: &[String]) -> Option<Self> {
        let interpreter = std::env::var_os("BPO_BENCH_PYTHON")?;
        let script = crate::folder().join("peers").join(script);
        Some(Self::start(
            Command::new(interpreter)
                .args(["-W", "ignore"])
                .arg(script)
                .args(arguments)
                .env("HF_HUB_OFFLINE", "1"),
        ))
    }

    /// Starts this program with other arguments.
    ///
    /// # Panics
    /// Panics as [`start`](Self::start) does.
    pub fn again(arguments: &[String]) -> Self {
        Self::start(Command::new(std::env::current_exe().expect("this program")).args(arguments))
    }

    /// Sends a line and returns the number that the process prints.
    ///
    /// # Panics
    /// Panics if the process has ended or prints no number.
    pub fn ask(&mut self, line: &str) -> f64 {
        writeln!(self.child.stdin.as_mut().expect("piped"), "{line}").expect("it listens");
        let answer = self.line();
        answer.parse().unwrap_or_else(|_| panic!("{line}: {answer:?}"))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        line.trim().to_owned()
    }
}

impl Drop for TimedProcess {
    fn drop(&mut self) {
        // the process ends when its input is closed
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Times `ways` variants alternately, once per round, and returns the seconds of each variant. The
/// results of the first `warm` of `warm + rounds` rounds are discarded. `ask` runs a variant once
/// and returns its seconds, or `None` if the variant is not available.
pub fn alternate(
    ways: usize,
    warm: usize,
    rounds: usize,
    mut ask: impl FnMut(usize) -> Option<f64>,
) -> Vec<Vec<f64>> {
    let mut seconds = vec![Vec::new(); ways];
    for round in 0..warm + rounds {
        for (way, seconds) in seconds.iter_mut().enumerate() {
            seconds.extend(ask(way).filter(|_| round >= warm));
        }
    }
    seconds
}

/// The code that runs in the timed process.
#[derive(Debug)]
pub struct Worker {
    spec: DeviceSpec,
    /// The device of the work.
    pub device: Device,
}

impl Worker {
    /// Opens the device.
    ///
    /// # Panics
    /// Panics if the device cannot be opened.
    pub fn on(spec: DeviceSpec) -> Self {
        Self { spec, device: spec.open().expect("a device") }
    }

    /// Prints `ready` and returns the first request, or `None` at the end of the input.
    pub fn ready(&self) -> Option<String> {
        println!("ready");
        self.next()
    }

    /// Synchronizes the device, prints the seconds since `start`, and returns the next request.
    ///
    /// # Panics
    /// Panics if the device fails.
    pub fn done(&self, start: Instant) -> Option<String> {
        self.device.sync().expect("the device works");
        println!("{}", start.elapsed().as_secs_f64());
        self.next()
    }

    /// Returns the next request for work, and answers requests for memory before it.
    fn next(&self) -> Option<String> {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match line.as_str() {
                "peak" => println!("{}", self.peak_mb()),
                _ => return Some(line),
            }
        }
        None
    }

    /// Returns the peak memory in MB; NaN or 0 if it is not known.
    fn peak_mb(&self) -> f64 {
        match (self.device.memory_pool_usage(), self.spec) {
            // reserved memory is kept for reuse, so it is the peak
            (Some(usage), _) => usage.bytes_reserved as f64 / 1024.0 / 1024.0,
            (None, DeviceSpec::LibTorchCuda(index)) => used_of_gpu(index),
            (None, _) => peak_of_process(),
        }
    }
}

/// Returns the memory in MB that all processes use on a GPU, including driver memory, or NaN if
/// `nvidia-smi` fails.
fn used_of_gpu(index: usize) -> f64 {
    let asked = ["-i", &index.to_string(), "--query-gpu=memory.used", "--format=csv,noheader,nounits"];
    let output = Command::new("nvidia-smi").args(asked).output();
    output
        .ok()
        .and_then(|output| String::from_utf8_lossy(&output.stdout).trim().parse().ok())
        .unwrap_or(f64::NAN)
}

/// Returns the peak resident memory of this process in MB, or 0 if the system does not report it.
fn peak_of_process() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1024.0
}
