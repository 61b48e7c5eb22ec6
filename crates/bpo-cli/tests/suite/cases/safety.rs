//! No command loses files of the user, leaks a secret or lets untrusted text control the terminal.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::support::{Dir, fails, inject, score_arguments};
use crate::common::server::Server;
use crate::common::{
    Outcome, bpo, checkpoint, command, copy_run, finish, generate, photos, run_arguments, score, snapshot,
    tiny, train_arguments, write_pairs, write_samples, write_three_pairs,
};

/// Commands that write one file, with that file.
fn writers(dir: &Dir) -> Vec<(PathBuf, Vec<OsString>)> {
    let (data, photo) = (photos().join("llava.json"), photos().join("cat.jpg"));
    let (answers, pairs) = (dir.at("answers.jsonl"), dir.at("in.jsonl"));
    bpo(inject(&data, &answers)).succeeds();
    write_three_pairs(&pairs, ["A cat.", "A red cup."]);
    let outs = ["injected.jsonl", "pairs.jsonl", "cache.safetensors", "image.png", "sheet.png"];
    let [injected, out, cache, image, sheet] = outs.map(|name| dir.at(name));
    vec![
        (injected.clone(), inject(&data, &injected)),
        (out.clone(), arguments!["pair", "--data", &data, "--answers", &answers, "--out", &out]),
        (cache.clone(), [score_arguments(&pairs), arguments!["--cache", &cache]].concat()),
        (image.clone(), arguments!["distort", &photo, "--distortion", "grayscale", "--out", &image]),
        (sheet.clone(), arguments!["distort", &photo, "--sheet", &sheet]),
    ]
}

/// An output that is no file is refused, directly and behind a link.
#[test]
fn output_that_is_a_fifo_is_an_error() {
    let dir = Dir::new();
    let fifo = dir.fifo("fifo");
    for (out, arguments) in writers(&dir) {
        let own = dir.fifo(out.file_name().unwrap().to_str().unwrap());
        fails(arguments.clone()).says(own.to_str().unwrap());
        assert!(fs::symlink_metadata(&own).unwrap().file_type().is_fifo(), "{arguments:?}");
        fs::remove_file(&own).unwrap();
        symlink(&fifo, &out).unwrap();
        fails(arguments.clone());
        assert!(fs::symlink_metadata(&out).unwrap().is_symlink(), "{arguments:?}");
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo(), "{arguments:?}");
    }
}

/// An output that is a link is written where the link leads.
#[test]
fn linked_output_is_written_to_its_target() {
    let dir = Dir::new();
    fs::create_dir(dir.at("elsewhere")).unwrap();
    for (out, arguments) in writers(&dir) {
        let target = dir.at("elsewhere").join(out.file_name().unwrap());
        symlink(&target, &out).unwrap();
        bpo(&arguments).succeeds();
        assert!(fs::symlink_metadata(&out).unwrap().is_symlink(), "{arguments:?}");
        assert!(fs::metadata(&target).unwrap().len() > 0, "{arguments:?}");
    }
}

/// Files and directories of the user beside an output stay as they are.
#[test]
fn files_beside_an_output_are_unchanged() {
    let dir = Dir::new();
    copy_run(&dir.at("run"));
    fs::create_dir(dir.at("merged.partial")).unwrap();
    fs::write(dir.at("merged.partial/notes.txt"), "mine").unwrap();
    let adapter = dir.at("run/adapter");
    bpo(arguments!["merge", "--model", tiny(), "--adapter", adapter, "--out", dir.at("merged")]).succeeds();
    assert_eq!(fs::read_to_string(dir.at("merged.partial/notes.txt")).unwrap(), "mine");

    for (out, arguments) in writers(&dir) {
        let mut part = out.into_os_string();
        part.push(".part");
        fs::write(&part, "mine").unwrap();
        bpo(&arguments).succeeds();
        assert_eq!(fs::read_to_string(&part).unwrap(), "mine", "{arguments:?}");
    }
}

/// Files of the user that have the names of a training's logs stay as they are.
#[test]
fn logs_that_no_training_wrote_are_refused_and_unchanged() {
    for name in ["metrics.jsonl", "eval.jsonl", "samples.jsonl"] {
        for text in [r#"{"question": "Is it a cat?", "answer": "yes"}"#, "my notes", "{"] {
            let dir = Dir::new();
            let out = dir.at("out");
            fs::create_dir(&out).unwrap();
            write_three_pairs(&out.join("pairs.jsonl"), ["A cat.", "A red cup."]);
            fs::write(out.join(name), text).unwrap();
            fails(
                train_arguments(&out.join("pairs.jsonl"), &out)
                    .into_iter()
                    .chain(arguments!["--eval-fraction", "0.4"])
                    .collect(),
            );
            assert_eq!(fs::read_to_string(out.join(name)).unwrap(), text, "{name}");
        }
    }
}

/// `bpo inject` with a server, and the texts of everything that it wrote or printed.
fn inject_with_server(server: &str, key: Option<&OsStr>) -> (Outcome, String) {
    let dir = Dir::new();
    let config = dir.at("bpo.toml");
    fs::write(&config, format!("[inject.server]\nmodel = \"m\"\nmax_retries = 0\n{server}\n")).unwrap();
    let out = dir.at("out");
    fs::create_dir(&out).unwrap();
    let arguments = inject(&photos().join("llava.json"), &out.join("injected.jsonl"));
    let mut command = command(arguments.into_iter().chain(arguments!["--config", &config]));
    command.env_remove("BPO_TEST_KEY");
    if let Some(key) = key {
        command.env("BPO_TEST_KEY", key);
    }
    let outcome = finish(&mut command);
    let files = snapshot(&out).into_iter().map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned());
    let texts = files.collect::<Vec<_>>().concat() + &outcome.stdout + &outcome.stderr;
    (outcome, texts)
}

/// A key is never printed, whatever is wrong with it.
#[test]
fn invalid_api_key_is_not_printed() {
    let settings = "base_url = \"http://127.0.0.1:9\"\napi_key_env = \"BPO_TEST_KEY\"";
    let (outcome, texts) = inject_with_server(settings, Some(OsStr::from_bytes(b"sk-sesame\xff")));
    outcome.refuses_naming(&["inject.server.api_key_env"]);
    assert!(!texts.contains("sesame"), "{texts}");
    // a key in place of the variable's name
    let settings = "base_url = \"http://127.0.0.1:9\"\napi_key_env = \"sk-sesame1234567890\"";
    let (outcome, texts) = inject_with_server(settings, None);
    outcome.refuses_naming(&["inject.server.api_key_env"]);
    assert!(!texts.contains("sesame"), "{texts}");
}

/// A password or key in the server's address is in no output and no file.
#[test]
fn secrets_of_addresses_are_not_written() {
    let server = Server::failing_first(0);
    let with_password = server.url.replace("http://", "http://user:sesame@");
    let with_key = format!("{}/?key=sesame", server.url);
    let dead = "http://user:sesame@127.0.0.1:9".to_owned();
    for url in [with_password, with_key, dead] {
        let settings = format!("base_url = \"{url}\"\nstartup_timeout_s = 0.0");
        let (outcome, texts) = inject_with_server(&settings, None);
        outcome.without_panic();
        assert!(!texts.contains("sesame"), "{url}: {texts}");
    }
}

/// An escape sequence that sets a terminal's title, and a line that looks like a message.
const ESCAPE: &str = "\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{2028}\nerror: forged";

/// Nothing on standard error or output steers a terminal, and no line is forged.
#[track_caller]
fn is_plain(outcome: &Outcome) {
    let steers = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202e}' | '\u{2028}');
    for text in [&outcome.stderr, &outcome.stdout] {
        assert!(!text.contains(steers), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("error: forged")), "{text}");
    }
}

/// [Plain](is_plain), and the escaped text is there.
#[track_caller]
fn is_escaped(outcome: &Outcome) {
    is_plain(outcome);
    assert!(outcome.stderr.contains("owned"), "{:?}", outcome.stderr);
}

/// Ids and file names of the data reach the terminal without control characters.
#[test]
fn ids_and_file_names_are_escaped() {
    let dir = Dir::new();
    let (id, image) = (format!("a{ESCAPE}"), format!("{ESCAPE}.jpg"));
    write_samples(
        &dir.at("data.json"),
        &[
            ("good", "cat.jpg", "What is it?", "A cat sits on a red mat."),
            (&id, "cat.jpg", "What is it?", ""),
            ("image", &image, "What is it?", "A cat."),
        ],
    );
    is_escaped(&bpo(inject(&dir.at("data.json"), &dir.at("out.jsonl"))).succeeds());
    let file = dir.at(&format!("{ESCAPE}.jsonl"));
    write_pairs(&file, &[("a", &image, "What?", "A cat.", "A dog.")]);
    is_escaped(&score(&tiny(), &file, vec![]));
    fs::write(&file, "").unwrap();
    is_escaped(&score(&tiny(), &file, vec![]));
    let folder = dir.at("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(&image), "no image").unwrap();
    is_escaped(&bpo(arguments!["distort", folder, "--distortion", "grayscale", "--out", dir.at("made")]));

    let toml: String = ESCAPE.chars().map(|c| format!("\\U{:08x}", c as u32)).collect();
    fs::write(dir.at("bpo.toml"), format!("[weaken]\n\"{toml}\" = 1\n")).unwrap();
    is_escaped(&bpo(arguments!["inject", "--config", dir.at("bpo.toml"), "--data", dir.at("data.json")]));
    // clap removes escape sequences itself
    is_plain(&bpo(arguments!["inject", "--data", dir.at("data.json"), ESCAPE]));
}

/// Values from checkpoints and ids in evaluations reach the terminal without control
/// characters.
#[test]
fn values_of_checkpoints_and_evaluations_are_escaped() {
    let dir = Dir::new();
    write_three_pairs(&dir.at("pairs.jsonl"), ["A cat.", "A red cup."]);
    for (key, value) in [
        ("model_type", json!(ESCAPE)),
        ("architectures", json!([ESCAPE])),
        ("quantization_config", json!({"quant_method": ESCAPE})),
    ] {
        let _ = fs::remove_dir_all(dir.at("model"));
        checkpoint::copy_to(&dir.at("model"));
        let path = dir.at("model/config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[key] = value;
        fs::write(&path, config.to_string()).unwrap();
        let outcome = score(&dir.at("model"), &dir.at("pairs.jsonl"), vec![]);
        if key != "architectures" {
            is_escaped(&outcome);
        }
    }

    let truth = json!({"image": "cat.jpg", "objects": ["cat"]});
    fs::write(dir.at("truth.jsonl"), format!("{truth}\n")).unwrap();
    let answers = json!([{"image": "cat.jpg", "answer": "A cat."}, {"image": ESCAPE, "answer": "A cat."}]);
    fs::write(dir.at("answers.json"), answers.to_string()).unwrap();
    let files = arguments!["--truth", dir.at("truth.jsonl"), "--answers", dir.at("answers.json")];
    is_escaped(&bpo([arguments!["eval", "chair"], files].concat()));
}

/// JSON on standard output shows ids and answers escaped, with their values.
#[test]
fn standard_output_is_escaped() {
    let dir = Dir::new();
    let id = format!("a{ESCAPE}");
    let question = json!({"id": id, "image": "cat.jpg", "prompt": "What is it?"});
    fs::write(dir.at("questions.jsonl"), question.to_string()).unwrap();
    let outcome = generate(&dir.at("questions.jsonl"), arguments!["--max-new-tokens", "2"]).succeeds();
    let steers = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202e}' | '\u{2028}');
    assert!(!outcome.stdout.contains(steers), "{:?}", outcome.stdout);
    assert_eq!(outcome.lines()[0]["id"], id);
}

/// A key that a server sends back and a password in its address are in no file
/// of a run: neither in `skipped.jsonl` nor in `config.toml`.
#[test]
fn no_file_of_a_run_has_a_secret() {
    let dir = Dir::new();
    let server = Server::refusing_first(3);
    let url = server.url.replace("http://", "http://user:sesame@");
    let settings = format!("base_url = \"{url}\"\nmodel = \"m\"\napi_key_env = \"BPO_TEST_KEY\"\n");
    fs::write(dir.at("bpo.toml"), format!("[inject.server]\nmax_concurrency = 1\n{settings}")).unwrap();
    let run = dir.at("run");
    let config = arguments!["--config", dir.at("bpo.toml")];
    let mut command = command(run_arguments(&run).into_iter().chain(config));
    let outcome = finish(command.env("BPO_TEST_KEY", "sk-Open+Sesame/1234567890="));
    let without = |text: &str| !text.to_lowercase().contains("sesame");
    assert!(without(&outcome.stdout) && without(&outcome.stderr), "{outcome:?}");
    let outcome = outcome.without_panic();
    for (path, bytes) in snapshot(&run) {
        assert!(without(&String::from_utf8_lossy(&bytes)), "{}: {outcome:?}", path.display());
    }
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("base_url"), "{config}");
    outcome.succeeds();
    let skipped = fs::read_to_string(run.join("skipped.jsonl")).unwrap();
    assert!(skipped.contains("[API key removed]"), "{skipped}");
}

/// Replies of a server and errors of a template reach the terminal without control
/// characters.
#[test]
fn replies_and_template_errors_are_escaped() {
    let server = Server::failing_with(ESCAPE);
    let (outcome, _) = inject_with_server(&format!("base_url = \"{}\"", server.url), None);
    is_escaped(&outcome);

    let dir = Dir::new();
    checkpoint::copy_to(&dir.at("model"));
    let template = format!("{{{{ raise_exception('{ESCAPE}') }}}}");
    fs::write(dir.at("model/chat_template.jinja"), template).unwrap();
    write_three_pairs(&dir.at("pairs.jsonl"), ["A cat.", "A red cup."]);
    is_escaped(&score(&dir.at("model"), &dir.at("pairs.jsonl"), vec![]));
}
