//! A run that is killed at random moments of every stage ends with the bytes of an uninterrupted
//! one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{bpo, command, read_lines, run_arguments};

/// Where a process is killed: as soon as the run directory shows this, and a moment later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Before any stage has a file.
    Start,
    /// The file of weakened answers has this many lines.
    Weaken(usize),
    /// The file of injected answers has this many lines.
    Inject(usize),
    /// The pairs are there.
    Pair,
    /// This many steps are done.
    Train(usize),
    /// The adapter's directory is there.
    Adapter,
}

impl Moment {
    fn has_come(self, run: &Path) -> bool {
        let lines = |name: &str| {
            fs::read(run.join(name)).map_or(0, |bytes| bytes.iter().filter(|&&b| b == b'\n').count())
        };
        match self {
            Self::Start => true,
            Self::Weaken(count) => run.join("weakened.jsonl").exists() && lines("weakened.jsonl") >= count,
            Self::Inject(count) => run.join("injected.jsonl").exists() && lines("injected.jsonl") >= count,
            Self::Pair => run.join("pairs.jsonl").exists(),
            Self::Train(count) => lines("metrics.jsonl") >= count,
            Self::Adapter => run.join("adapter").exists(),
        }
    }

    fn stage(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Weaken(_) => "weaken",
            Self::Inject(_) => "inject",
            Self::Pair => "pair",
            Self::Train(_) => "train",
            Self::Adapter => "adapter",
        }
    }
}

/// SplitMix64: the same moments in every run of the test.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Starts the program and kills it at a moment; false if it had ended before.
pub fn kill_at(moment: Moment, delay: Duration, run: &Path, arguments: &[OsString]) -> bool {
    let mut child = command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !moment.has_come(run) {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{moment:?}: {status}");
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    std::thread::sleep(delay);
    // SIGKILL
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

/// What must be the same in every run.
fn results(run: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    const NAMES: [&str; 7] = [
        "weakened.jsonl",
        "injected.jsonl",
        "pairs.jsonl",
        "skipped.jsonl",
        "metrics.jsonl",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    ];
    NAMES.into_iter().map(|name| (name, fs::read(run.join(name)).unwrap())).collect()
}

#[test]
fn killed_runs_equal_uninterrupted_run() {
    const ROUNDS: u64 = 5;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bpo.toml");
    // one sample and one step at a time, for as many moments as can be
    let settings = "[weaken]\nbatch_size = 1\n[inject]\nbatch_size = 1\n[train]\nbatch_size = 2\n";
    fs::write(&config, settings).unwrap();
    let arguments = |run: &Path| -> Vec<OsString> {
        run_arguments(run).into_iter().chain(arguments!["--save-every", "1", "--config", &config]).collect()
    };
    let uninterrupted = dir.path().join("uninterrupted");
    bpo(arguments(&uninterrupted)).succeeds();
    let expected = results(&uninterrupted);
    let samples = read_lines(uninterrupted.join("weakened.jsonl")).len() as u64;
    let steps = read_lines(uninterrupted.join("metrics.jsonl")).len() as u64;

    let mut random = Random(2);
    let mut kills: BTreeMap<&str, usize> = BTreeMap::new();
    for round in 0..ROUNDS {
        let run = dir.path().join(format!("round-{round}"));
        let arguments = arguments(&run);
        let mut some = |count: u64| random.below(count) as usize;
        let mut moments = [
            Moment::Start,
            Moment::Weaken(some(samples)),
            Moment::Weaken(some(samples)),
            Moment::Inject(some(samples)),
            Moment::Pair,
            Moment::Train(some(steps)),
            Moment::Train(some(steps)),
            Moment::Adapter,
        ];
        moments.sort();
        for moment in moments {
            let delay = Duration::from_micros(random.below(5000));
            if kill_at(moment, delay, &run, &arguments) {
                *kills.entry(moment.stage()).or_default() += 1;
            }
        }
        bpo(&arguments).succeeds();
        let found = results(&run);
        for (name, bytes) in &expected {
            assert!(found[name] == *bytes, "round {round}: {name} differs");
        }
        for name in ["weakened.jsonl", "injected.jsonl", "pairs.jsonl"] {
            let lines = read_lines(run.join(name));
            let ids: BTreeSet<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
            assert_eq!(ids.len(), lines.len(), "{name} has duplicates");
        }
    }
    println!("kills: {kills:?}");
    assert!(kills.values().sum::<usize>() >= 20, "{kills:?}");
    for stage in ["start", "weaken", "inject", "pair", "train"] {
        assert!(kills.get(stage).is_some_and(|&count| count > 0), "no kill in {stage}: {kills:?}");
    }
}

/// The contrasts of pairs are the same after kills, and a run needs them if and only if its loss does.
#[test]
fn killed_run_has_the_contrasts_of_an_uninterrupted_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.json");
    let photos = ["cat", "coffee", "rocket", "coins", "astronaut"];
    let record = |name: &&str| {
        let turns = [
            ("human", "<image>\nWhat is it?".to_owned()),
            ("gpt", format!("It is the photo of two {name}s.")),
        ];
        let turns = turns.map(|(from, value)| serde_json::json!({"from": from, "value": value}));
        serde_json::json!({"id": name, "image": format!("{name}.jpg"), "conversations": turns})
    };
    fs::write(&data, serde_json::to_vec(&photos.iter().map(record).collect::<Vec<_>>()).unwrap()).unwrap();
    let all = |run: &Path, more: &[&str]| -> Vec<OsString> {
        let mut arguments = run_arguments(run);
        let at = arguments.iter().position(|argument| argument == "--data").unwrap();
        arguments[at + 1] = data.clone().into();
        arguments.extend(more.iter().map(OsString::from));
        arguments
    };
    let arguments = |run: &Path| all(run, &["--loss", "symmpo", "--contrast", "similar"]);
    let uninterrupted = dir.path().join("uninterrupted");
    bpo(arguments(&uninterrupted)).succeeds();
    let expected = results(&uninterrupted);
    let pairs = read_lines(uninterrupted.join("pairs.jsonl"));
    assert!(pairs.len() >= 5 && pairs.iter().all(|pair| pair["contrast_answer"].is_string()), "{pairs:?}");
    let mut random = Random(5);
    for round in 0..2 {
        let run = dir.path().join(format!("round-{round}"));
        let arguments = arguments(&run);
        for moment in [Moment::Weaken(1), Moment::Inject(2), Moment::Pair, Moment::Train(1)] {
            kill_at(moment, Duration::from_micros(random.below(3000)), &run, &arguments);
        }
        bpo(&arguments).succeeds();
        let found = results(&run);
        for (name, bytes) in &expected {
            assert!(found[name] == *bytes, "round {round}: {name} differs");
        }
    }
    let other = dir.path().join("other");
    for (more, named) in [
        (&["--loss", "symmpo"][..], ["`pair.contrast`", "the loss symmpo"]),
        (&["--contrast", "random"], ["`pair.contrast`", "the loss sigmoid"]),
    ] {
        bpo(all(&other, more)).refuses_naming(&named);
        assert!(!other.exists());
    }
}

/// SIGTERM stops training after a checkpoint.
#[cfg(unix)]
#[test]
fn terminated_run_writes_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bpo.toml");
    fs::write(&config, "[train]\nbatch_size = 1\nmax_steps = 60\nsave_every = 1000\n").unwrap();
    let arguments = |run: &Path| -> Vec<OsString> {
        run_arguments(run).into_iter().chain(arguments!["--config", &config]).collect()
    };
    let uninterrupted = dir.path().join("uninterrupted");
    bpo(arguments(&uninterrupted)).succeeds();

    let run = dir.path().join("terminated");
    let mut child = command(arguments(&run)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !Moment::Train(2).has_come(&run) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before the signal");
        std::thread::sleep(Duration::from_micros(100));
    }
    let signalled =
        std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("run the same command again to resume"), "{stderr}");
    let done = read_lines(run.join("metrics.jsonl")).len();
    assert!((2..60).contains(&done), "{done} steps");
    assert!(run.join(format!("checkpoints/step-{done:06}")).is_dir());
    bpo(arguments(&run)).succeeds();
    assert!(results(&run) == results(&uninterrupted));
}
