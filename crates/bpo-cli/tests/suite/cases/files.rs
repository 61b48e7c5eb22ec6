//! What the files of a user may be and hold: devices, FIFOs, links, pipes, and sizes over any
//! limit.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::{Outcome, bpo, read_lines};

/// `answers` of one conversation each about a cup.
fn data(answers: &[&str]) -> Vec<Value> {
    let record = |(id, answer): (usize, &&str)| {
        json!({"id": format!("{id}"), "image": "a.jpg", "conversations": [
            {"from": "human", "value": "<image>\nWhat is on the table?"}, {"from": "gpt", "value": answer},
        ]})
    };
    answers.iter().enumerate().map(record).collect()
}

/// Two records that can be used.
fn two() -> Vec<Value> {
    data(&["A cup is on the table next to a plate.", "A fork is on the table next to a plate."])
}

fn write(path: &Path, records: &[Value]) -> PathBuf {
    fs::write(path, json!(records).to_string()).unwrap();
    path.to_owned()
}

fn inject(data: &Path, out: &Path) -> Outcome {
    bpo(arguments!["inject", "--data", data, "--out", out])
}

/// Files beside an output belong to the user.
#[test]
fn user_files_beside_an_output_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let data = write(&at("llava.json"), &two());
    let mine = ["out.jsonl.part", "out.jsonl.partial", ".out.jsonl.tmp", "pairs.jsonl.part"];
    mine.iter().for_each(|name| fs::write(at(name), "mine").unwrap());
    inject(&data, &at("out.jsonl")).succeeds();
    let answers = arguments!["--answers", at("out.jsonl"), "--out", at("pairs.jsonl")];
    bpo([arguments!["pair", "--data", &data], answers].concat()).succeeds();
    assert_eq!(read_lines(at("pairs.jsonl")).len(), 2);
    mine.iter().for_each(|name| assert_eq!(fs::read(at(name)).unwrap(), b"mine", "{name}"));
    let left = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.count(), mine.len() + 4, "data, answers, their settings and pairs");
}

/// A record over a size limit is skipped, and the others are used.
#[test]
fn records_above_the_size_limit_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut records = two();
    let turns = (0..10_000).flat_map(|_| {
        [json!({"from": "human", "value": "What?"}), json!({"from": "gpt", "value": "A cup is there."})]
    });
    records.push(json!({"id": "turns", "image": "a.jpg", "conversations": turns.collect::<Vec<_>>()}));
    records.extend(data(&["x".repeat((1 << 20) + 1).as_str()]));
    let data = write(&at("llava.json"), &records);
    let done = inject(&data, &at("out.jsonl")).succeeds();
    done.says("2 samples, 2 skipped (record over a size limit: 2)");
    assert_eq!(read_lines(at("out.jsonl")).len(), 2);
}

/// Settings over a limit are refused before any work.
#[test]
fn settings_above_the_limits_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let data = write(&at("llava.json"), &two());
    for (settings, key) in [
        ("[weaken]\nmax_new_tokens = 1000000000000\n", "`weaken.max_new_tokens`"),
        ("[weaken]\nsamples = 1000000000\n", "`weaken.samples`"),
        ("[inject]\nbatch_size = 1000000000000\n", "`inject.batch_size`"),
        ("[inject.llm]\nattempts = 4000000000\n", "`inject.llm.attempts`"),
        ("[inject.llm]\nmax_new_tokens = 1000000000000\n", "`inject.llm.max_new_tokens`"),
    ] {
        fs::write(at("bpo.toml"), settings).unwrap();
        let files =
            arguments!["inject", "--config", at("bpo.toml"), "--data", &data, "--out", at("out.jsonl")];
        bpo(files).refuses_naming(&[key]);
    }
    #[cfg(feature = "flex")]
    for flag in ["--max-new-tokens", "--batch-size"] {
        let generate = arguments!["generate", "--model", "m", "--questions", "q", "--images", "i"];
        bpo([generate, arguments![flag, "1000000000000"]].concat()).refuses_naming(&[flag, "1048576"]);
    }
    let eval = arguments!["eval", "pope", "--questions", "q", "--answers", "a", "--resamples", "1000000000"];
    bpo(eval).refuses_naming(&["--resamples", "1000000"]);
}

#[cfg(unix)]
mod unix {
    use std::io::Write;
    use std::os::unix::fs::{FileTypeExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::common::{command, finish};

    fn fifo(path: PathBuf) -> PathBuf {
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// An output that is a FIFO or a socket is refused, and a link is written through. No
    /// device of the system is named as an output, because a fault could replace it.
    #[test]
    fn output_that_is_not_a_file_or_link_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let data = write(&at("llava.json"), &two());
        let (fifo, socket) = (fifo(at("fifo")), at("socket"));
        let _listener = UnixListener::bind(&socket).unwrap();
        inject(&data, &fifo).fails_naming(&["fifo is a FIFO: expected a regular file"]);
        inject(&data, &socket).fails_naming(&["socket is a socket: expected a regular file"]);
        inject(&data, &at("answers.jsonl")).succeeds();
        let pair = |out: &Path| {
            bpo(arguments!["pair", "--data", &data, "--answers", at("answers.jsonl"), "--out", out])
        };
        pair(&fifo).fails_naming(&["fifo is a FIFO: expected a regular file"]);
        pair(&socket).fails_naming(&["socket is a socket: expected a regular file"]);
        let kind = |path: &Path| path.symlink_metadata().unwrap().file_type();
        assert!(kind(&fifo).is_fifo() && kind(&socket).is_socket(), "one was replaced");

        fs::create_dir(at("far")).unwrap();
        for name in ["injected.jsonl", "pairs.jsonl"] {
            symlink(Path::new("far").join(name), at(name)).unwrap();
        }
        inject(&data, &at("injected.jsonl")).succeeds();
        pair(&at("pairs.jsonl")).succeeds();
        for name in ["injected.jsonl", "pairs.jsonl"] {
            assert!(at(name).is_symlink() && read_lines(at("far").join(name)).len() == 2, "{name}");
        }
    }

    /// Devices and FIFOs as inputs are refused, and a pipe is read once.
    #[test]
    fn inputs_can_be_files_or_pipes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let data = write(&at("llava.json"), &two());
        let fifo = fifo(at("fifo"));
        for (path, found) in [(fifo.as_path(), "a FIFO"), (Path::new("/dev/zero"), "a device")] {
            inject(path, &at("out.jsonl")).fails_naming(&[found, "expected a regular file"]);
            let config = arguments!["inject", "--config", path, "--data", &data, "--out", at("out.jsonl")];
            bpo(config).fails_naming(&[found, "expected a regular file"]);
        }
        assert!(!at("out.jsonl").exists());

        inject(&data, &at("expected.jsonl")).succeeds();
        for (path, out) in [("/dev/stdin", at("a.jsonl")), ("/dev/fd/0", at("b.jsonl"))] {
            let mut piped = command(arguments!["inject", "--data", path, "--out", &out]);
            let mut cat = Command::new("cat").arg(&data).stdout(Stdio::piped()).spawn().unwrap();
            finish(piped.stdin(cat.stdout.take().unwrap())).succeeds();
            assert!(cat.wait().unwrap().success());
            assert_eq!(fs::read(&out).unwrap(), fs::read(at("expected.jsonl")).unwrap());
        }
    }

    /// A FIFO is refused whether or not it has a writer.
    #[test]
    fn fifo_with_a_writer_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = fifo(dir.path().join("fifo"));
        let mut both = fs::File::options().read(true).write(true).open(&fifo).unwrap();
        both.write_all(b"[]").unwrap();
        inject(&fifo, &dir.path().join("out.jsonl")).fails_naming(&["a FIFO"]);
    }
}

#[cfg(all(unix, feature = "flex"))]
mod with_a_model {
    use std::os::unix::fs::symlink;
    use std::process::Stdio;

    use super::*;
    use crate::common::checkpoint::copy_to;
    use crate::common::{command, copy_run, parse_lines, photos, score, tiny, write_three_pairs};

    /// Links that lead out of a checkpoint are not followed.
    #[test]
    fn merging_does_not_copy_linked_files_outside() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        copy_to(&at("model"));
        copy_run(&at("run"));
        fs::write(at("secret"), "secret").unwrap();
        symlink(at("secret"), at("model/README.md")).unwrap();
        fs::create_dir_all(at("merged.partial/mine")).unwrap();
        let arguments = arguments![
            "merge",
            "--model",
            at("model"),
            "--adapter",
            at("run/adapter"),
            "--out",
            at("merged")
        ];
        bpo(arguments).succeeds().says("links that lead out of the checkpoint are not copied");
        assert!(!at("merged/README.md").exists() && at("merged/config.json").exists());
        assert!(at("merged.partial/mine").is_dir());
    }

    /// A dangling link beside the weights is ignored.
    #[test]
    fn dangling_link_beside_the_weights_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        copy_to(&at("model"));
        for name in ["old.safetensors", "old.json"] {
            symlink("nowhere", at("model").join(name)).unwrap();
        }
        write_three_pairs(&at("pairs.jsonl"), ["A cat.", "A red cup."]);
        let expected = score(&tiny(), &at("pairs.jsonl"), vec![]).succeeds().stdout;
        let cache = arguments!["--cache", at("cache.safetensors")];
        assert_eq!(score(&at("model"), &at("pairs.jsonl"), cache).succeeds().stdout, expected);
    }

    /// Several processes fill one cache at the same time, each with pairs of its own. The
    /// cache then has the rows of all of them.
    #[test]
    fn four_processes_can_fill_one_cache() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let pairs = |i: usize| at(&format!("pairs-{i}.jsonl"));
        for i in 0..4 {
            let [chosen, rejected] = [format!("A cat, {i}."), format!("A red cup, {i}.")];
            write_three_pairs(&pairs(i), [&chosen, &rejected]);
        }
        let arguments = |i: usize, cache: &str| {
            arguments![
                "score",
                "--model",
                tiny(),
                "--pairs",
                pairs(i),
                "--images",
                photos(),
                "--cache",
                at(cache),
            ]
        };
        let start = |i| {
            let mut process = command(arguments(i, "cache.safetensors"));
            process.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let running: Vec<_> = (0..4).map(start).collect();
        for process in running {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(parse_lines(std::str::from_utf8(&output.stdout).unwrap()).len(), 3);
        }
        // one process after the other gives the same file
        (0..4).for_each(|i| drop(bpo(arguments(i, "expected.safetensors")).succeeds()));
        let [found, expected] =
            ["cache.safetensors", "expected.safetensors"].map(|name| fs::read(at(name)).unwrap());
        assert!(found == expected, "{} bytes, expected {}", found.len(), expected.len());
    }
}
