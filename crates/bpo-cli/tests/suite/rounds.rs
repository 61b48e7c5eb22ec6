//! `bpo run --rounds` and `bpo rounds`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::common::server::Server;
use crate::common::{bpo, photos, read_lines, run_arguments, snapshot, tiny};
use crate::kill::{Moment, kill_at};

fn rounds(count: &str, out: &Path) -> Vec<OsString> {
    run_arguments(out).into_iter().chain(arguments!["--rounds", count]).collect()
}

/// The files of a round that must be the same in every run.
fn results(round: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    const NAMES: [&str; 6] = [
        "weakened.jsonl",
        "injected.jsonl",
        "pairs.jsonl",
        "skipped.jsonl",
        "metrics.jsonl",
        "adapter/adapter_model.safetensors",
    ];
    NAMES.into_iter().map(|name| (name, fs::read(round.join(name)).unwrap())).collect()
}

/// A round is the run that a user would do with the adapter of the round before.
#[test]
fn each_round_starts_from_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let out = at("rounds");
    let outcome = bpo(rounds("2", &out)).succeeds().says("round 0 (1 of 2)").says("round 1 (2 of 2)");
    assert_eq!(outcome.stdout, "");
    let by_hand = at("by hand");
    bpo(run_arguments(&by_hand)).succeeds();
    let (first, second) = (out.join("round-0"), out.join("round-1"));
    assert!(results(&first) == results(&by_hand));
    let next = at("next");
    let from = arguments!["--adapter", by_hand.join("adapter")];
    bpo(run_arguments(&next).into_iter().chain(from).collect::<Vec<_>>()).succeeds();
    assert!(results(&second) == results(&next));
    // the model has changed, and is its own reference
    assert_ne!(
        fs::read(first.join("weakened.jsonl")).unwrap(),
        fs::read(second.join("weakened.jsonl")).unwrap()
    );
    let loss = read_lines(second.join("metrics.jsonl"))[0]["loss"].as_f64().unwrap();
    assert!((loss - std::f64::consts::LN_2).abs() < 1e-4, "{loss}");

    let before = snapshot(&out);
    bpo(rounds("2", &out)).succeeds().says("nothing left to do");
    assert!(snapshot(&out) == before);
    // more rounds continue
    bpo(rounds("3", &out)).succeeds().says("round 2 (3 of 3)");
    assert!(results(&second) == results(&next));

    // a round that has begun
    fs::create_dir(out.join("round-5")).unwrap();
    let begun = &bpo(arguments!["rounds", &out]).succeeds().lines()[3];
    assert_eq!((&begun["round"], &begun["finished"]), (&5.into(), &false.into()));
    assert!(begun["weakened"].is_null() && begun["loss"].is_null());
    fs::remove_dir(out.join("round-5")).unwrap();
    let table = bpo(arguments!["rounds", &out]).succeeds().says("accuracies");
    let lines = table.lines();
    assert_eq!(lines.len(), 3);
    for (round, line) in lines.iter().enumerate() {
        assert_eq!((&line["round"], &line["finished"]), (&round.into(), &true.into()));
        let run = out.join(format!("round-{round}"));
        assert_eq!(line["pairs"], read_lines(run.join("pairs.jsonl")).len());
        let steps = read_lines(run.join("metrics.jsonl"));
        assert_eq!(line["steps"], steps.len());
        let last = &steps[steps.len() - steps.len().div_ceil(10)..];
        let sum: f64 = last.iter().map(|step| step["loss"].as_f64().unwrap()).sum();
        assert!((line["loss"].as_f64().unwrap() - sum / last.len() as f64).abs() < 1e-9);
    }
}

#[test]
fn killed_rounds_equal_uninterrupted_ones() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let config = at("bpo.toml");
    fs::write(&config, "rounds = 3\n[weaken]\nbatch_size = 1\n[train]\nbatch_size = 2\n").unwrap();
    let arguments = |out: &Path| -> Vec<OsString> {
        let more = arguments!["--config", &config, "--save-every", "1"];
        run_arguments(out).into_iter().chain(more).collect()
    };
    let expected = at("expected");
    bpo(arguments(&expected)).succeeds();
    let killed = at("killed");
    // kills by round and stage; a moment may pass before the program is killed
    let mut kills = BTreeMap::new();
    for round in 0..3 {
        let run = killed.join(format!("round-{round}"));
        for (stage, moments) in [
            ("weaken", [Moment::Weaken(2), Moment::Weaken(5)]),
            ("inject", [Moment::Inject(1), Moment::Pair]),
            ("train", [Moment::Train(3), Moment::Train(8)]),
        ] {
            for moment in moments {
                let is_killed = kill_at(moment, Duration::from_millis(1), &run, &arguments(&killed));
                *kills.entry((round, stage)).or_insert(0) += usize::from(is_killed);
            }
        }
    }
    assert!(kills.values().all(|&kills| kills > 0), "{kills:?}");
    bpo(arguments(&killed)).succeeds();
    for round in 0..3 {
        let name = format!("round-{round}");
        assert!(results(&killed.join(&name)) == results(&expected.join(&name)), "{name}");
    }
}

/// The server is asked in the first round alone.
#[test]
fn later_rounds_take_the_injected_answers_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("rounds");
    let server = Server::failing_first(0);
    let run = |count: &str| {
        let flags = arguments!["--server", &server.url, "--server-model", "m"];
        bpo(rounds(count, &out).into_iter().chain(flags).collect::<Vec<_>>()).succeeds();
        server.requests().len()
    };
    let asked = run("1");
    assert!(asked > 0);
    assert_eq!(run("2"), asked);
    // nor does it have to be there
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let flags = arguments!["--server", format!("http://{gone}"), "--server-model", "m"];
    bpo(rounds("3", &out).into_iter().chain(flags).collect::<Vec<_>>()).succeeds().says("round 2 (3 of 3)");
    let answers = |round: &str| -> BTreeSet<String> {
        read_lines(out.join(round).join("injected.jsonl")).iter().map(Value::to_string).collect()
    };
    assert_eq!(answers("round-0"), answers("round-1"));
}

#[test]
fn settings_that_fix_the_model_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let with =
        |more: Vec<OsString>| bpo(rounds("2", &at("rounds")).into_iter().chain(more).collect::<Vec<_>>());
    with(arguments!["--reference", tiny()]).refuses_naming(&["reference.path", "rounds"]);
    with(arguments!["--reference-cache", at("cache")]).refuses_naming(&["reference.cache", "rounds"]);
    #[cfg(feature = "server")]
    with(arguments!["--vlm-server", "http://127.0.0.1:9", "--vlm-model", "m"])
        .refuses_naming(&["weaken.server", "rounds"]);
    bpo(rounds("0", &at("rounds"))).refuses_naming(&["rounds", "at least 1"]);
    assert!(!at("rounds").exists());
    // the directory of a run without rounds, and of something else
    let run = at("run");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("pairs.jsonl"), "").unwrap();
    bpo(rounds("2", &run)).fails_naming(&["has no round-0", "--adapter"]);
    for missing in [photos(), photos().join("cat.jpg"), at("missing")] {
        bpo(arguments!["rounds", missing]).fails_naming(&["has no rounds", "`bpo run --rounds`"]);
    }
    fs::create_dir_all(at("some/round-0")).unwrap();
    bpo(run_arguments(&at("some"))).fails_naming(&["holds rounds", "--rounds"]);
    assert_eq!(fs::read_dir(&run).unwrap().count(), 1);
}
