//! Processes that do a piece of work when they are asked to, so that ways to do the same are timed in turn.
//!
//! A contender prints `ready`. Then each line that it gets has it do its work once and print the seconds that took; `peak` has
//! it print the most memory that it had, in MB: of the device where that has its own, else of the process.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use bpo::DeviceSpec;
use bpo::burn::tensor::Device;

/// The other process.
#[derive(Debug)]
pub struct Contender {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Contender {
    /// Starts a process and waits until it is ready.
    ///
    /// # Panics
    /// If it cannot be started or ends before.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut contender = Self { child, answers };
        assert_eq!(contender.line(), "ready", "{command:?}");
        contender
    }

    /// Starts a script of `peers/`, if `BPO_BENCH_PYTHON` names an interpreter.
    ///
    /// # Panics
    /// As [`start`](Self::start).
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

    /// Starts this program again with other arguments.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn again(arguments: &[String]) -> Self {
        Self::start(Command::new(std::env::current_exe().expect("this program")).args(arguments))
    }

    /// What it answers to a line, a number.
    ///
    /// # Panics
    /// If it ended, or says something else.
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

impl Drop for Contender {
    fn drop(&mut self) {
        // closing its input ends it
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The seconds that `ways` take in each of `rounds` rounds, one after the other in each. `warm` rounds come before. `ask` has a way
/// do its work once; `None` where there is no one to ask.
pub fn in_turn(
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

/// The other side, which works on a device.
#[derive(Debug)]
pub struct Worker {
    spec: DeviceSpec,
    /// Where it works.
    pub device: Device,
}

impl Worker {
    /// Opens the device.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn on(spec: DeviceSpec) -> Self {
        Self { spec, device: spec.open().expect("a device") }
    }

    /// Says that it is ready and waits for the first line, which it gives. `None` where none comes.
    pub fn ready(&self) -> Option<String> {
        println!("ready");
        self.next()
    }

    /// Waits for the device, tells the seconds since `start` and waits for the next line.
    ///
    /// # Panics
    /// If the device fails.
    pub fn done(&self, start: Instant) -> Option<String> {
        self.device.sync().expect("the device works");
        println!("{}", start.elapsed().as_secs_f64());
        self.next()
    }

    /// The next line that asks for work; those that ask for memory are answered.
    fn next(&self) -> Option<String> {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match line.as_str() {
                "peak" => println!("{}", self.peak_mb()),
                _ => return Some(line),
            }
        }
        None
    }

    /// Not a number where the device does not tell.
    fn peak_mb(&self) -> f64 {
        match (self.device.memory_pool_usage(), self.spec) {
            // what is reserved is kept for reuse
            (Some(usage), _) => usage.bytes_reserved as f64 / 1024.0 / 1024.0,
            (None, DeviceSpec::LibTorchCuda(index)) => used_of_gpu(index),
            (None, _) => peak_of_process(),
        }
    }
}

/// What all processes hold of a GPU, its driver's part of each of them included, in MB. Not a number where the driver does not tell.
fn used_of_gpu(index: usize) -> f64 {
    let asked = ["-i", &index.to_string(), "--query-gpu=memory.used", "--format=csv,noheader,nounits"];
    let told = Command::new("nvidia-smi").args(asked).output();
    told.ok().and_then(|told| String::from_utf8_lossy(&told.stdout).trim().parse().ok()).unwrap_or(f64::NAN)
}

/// The most memory that this process had at once, in MB. 0 where the system does not tell.
fn peak_of_process() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1024.0
}
