//! Answers of a vision-language model behind a server: faults, kills, shards.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::vlm_server::{Reply, VlmServer, key};
use crate::common::{bpo, command, read_lines};

/// A data set of questions about small images, and settings for a server.
struct Data {
    dir: tempfile::TempDir,
}

impl Data {
    /// Makes `samples` samples with six images, of which the last sample's is missing.
    fn new(samples: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for place in 0..6u8 {
            let image =
                image::RgbImage::from_fn(12, 8, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, place]));
            image.save(dir.path().join(format!("{place}.png"))).unwrap();
        }
        let records: Vec<Value> = (0..samples)
            .map(|place| {
                let name = if place + 1 == samples { "gone".to_owned() } else { (place % 6).to_string() };
                let question = format!("<image>\nWhat is on table {place}?");
                let answer = format!("A cup and a plate are on table {place}.");
                let turns = json!([{"from": "human", "value": question}, {"from": "gpt", "value": answer}]);
                json!({"id": format!("s{place}"), "image": format!("{name}.png"), "conversations": turns})
            })
            .collect();
        fs::write(dir.path().join("llava.json"), json!(records).to_string()).unwrap();
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn inputs(&self) -> Vec<OsString> {
        arguments![
            "--data",
            self.at("llava.json"),
            "--images",
            self.dir.path(),
            "--config",
            self.at("bpo.toml")
        ]
    }

    /// The arguments of `bpo weaken` with a server and short waits.
    fn weaken(&self, url: &str, settings: &str, out: &str) -> Vec<OsString> {
        let server =
            format!("base_url = \"{url}\"\nmodel = \"m\"\nbackoff_initial_ms = 1\nbackoff_max_ms = 5\n");
        let text = format!(
            "[weaken]\ndistortion = \"blur:sigma=2\"\nbatch_size = 1\n[weaken.server]\n{server}{settings}"
        );
        fs::write(self.at("bpo.toml"), text).unwrap();
        let out = arguments!["--out", self.at(out)];
        [arguments!["weaken"], self.inputs(), out].concat()
    }

    /// The pairs of answer files.
    fn pair(&self, answers: &[&str], out: &str) -> Vec<u8> {
        let answers: Vec<_> =
            answers.iter().flat_map(|name| arguments!["--answers", self.at(name)]).collect();
        bpo([arguments!["pair"], self.inputs(), answers, arguments!["--out", self.at(out)]].concat())
            .succeeds();
        fs::read(self.at(out)).unwrap()
    }
}

/// An answer that depends on the request only.
fn answer(request: &Value) -> String {
    let parts = request["messages"][0]["content"].as_array().unwrap();
    let image = parts[0]["image_url"]["url"].as_str().unwrap();
    format!("Of {} bytes: {} A dog.", image.len(), parts[1]["text"].as_str().unwrap())
}

fn lines(file: &Path) -> Vec<String> {
    let mut lines: Vec<String> = fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn requests_have_images_messages_and_sampling() {
    let data = Data::new(3);
    let server = VlmServer::start(|_, request| Reply::Text(answer(request)));
    let flags =
        arguments!["--vlm-server", server.url.clone(), "--vlm-model", "big", "--max-new-tokens", "77"];
    let weaken = [data.weaken("http://127.0.0.1:1", "", "weakened.jsonl"), flags].concat();
    let outcome = bpo(weaken.clone()).succeeds();
    outcome
        .says("weaken: 2 answers, 1 skipped (image missing: 1)")
        .says("weaken: 2 responses of the server, 200 prompt and 20 answer tokens");
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!((&request["model"], &request["max_tokens"]), (&json!("big"), &json!(77)));
        assert_eq!((&request["temperature"], &request["top_p"]), (&json!(0.2), &json!(1.0)));
        assert_eq!(request["messages"][0]["role"], "user");
        let parts = request["messages"][0]["content"].as_array().unwrap();
        assert!(parts[0]["image_url"]["url"].as_str().unwrap().starts_with("data:image/png;base64,iVBOR"));
        assert!(parts[1]["text"].as_str().unwrap().starts_with("What is on table"));
    }
    // lines are in the order of the answers, and the sample without an image has no provenance
    let lines = read_lines(data.at("weakened.jsonl"));
    let answers = lines.iter().filter(|line| line["response"].is_string());
    assert!(answers.clone().all(|line| line["provenance"]["distortion"] == "blur:sigma=2"), "{lines:?}");
    assert_eq!(answers.count(), 2);
    // nothing is left to do
    bpo(weaken).succeeds();
    assert_eq!(server.requests().len(), 2);
    // another model would give other answers
    let other =
        arguments!["--vlm-server", server.url.clone(), "--vlm-model", "small", "--max-new-tokens", "77"];
    bpo([data.weaken("http://127.0.0.1:1", "", "weakened.jsonl"), other].concat()).fails_naming(&[
        "`weaken.server.model`",
        "big",
        "small",
    ]);
}

/// With own answers as the chosen ones, the server is asked about each image as it is, too.
#[test]
fn own_answers_are_about_the_image_as_it_is() {
    let data = Data::new(3);
    let server = VlmServer::start(|number, _| Reply::Text(format!("Answer number {number} of the server.")));
    let weaken = data.weaken(&server.url, "", "weakened.jsonl");
    bpo([weaken, arguments!["--chosen", "own"]].concat()).succeeds().says("weaken: 4 answers, 2 skipped");
    let image = |request: &Value| {
        request["messages"][0]["content"][0]["image_url"]["url"].as_str().unwrap().to_owned()
    };
    let sent: HashSet<String> = server.requests().iter().map(image).collect();
    assert_eq!(sent.len(), 4);
    // the same pixels as in the file
    let clean = [arguments!["--chosen", "own", "--distortion", "crop:keep=1"]].concat();
    let again = VlmServer::start(|number, _| Reply::Text(format!("Answer number {number} of the server.")));
    bpo([data.weaken(&again.url, "", "again.jsonl"), clean].concat()).succeeds();
    let whole: HashSet<String> = again.requests().iter().map(image).collect();
    assert!(whole.len() == 2 && whole.is_subset(&sent));
    let lines = read_lines(data.at("weakened.jsonl"));
    let own: Vec<&Value> = lines.iter().filter(|line| line["type"] == "own").collect();
    assert_eq!(own.len(), 3);
    assert!(own.iter().all(|line| line.get("provenance").is_none() && line["variant"] == 1));
}

#[test]
fn what_a_server_cannot_do_is_refused() {
    let data = Data::new(2);
    let weaken = data.weaken("http://127.0.0.1:1", "", "weakened.jsonl");
    for distortion in ["feature-noise:sigma=1", "blur:sigma=1+mask-tokens:share=0.5"] {
        let flags = arguments!["--distortion", distortion];
        bpo([weaken.clone(), flags].concat())
            .refuses_naming(&["`weaken.distortion`", "work inside the model"]);
    }
    bpo([arguments!["weaken", "--vlm-model", "m"], arguments!["--data", data.at("llava.json")]].concat())
        .refuses_naming(&["`--vlm-model`", "--vlm-server"]);
}

/// Every fault occurs for some samples once, and the next attempt succeeds, except for reasoning
/// without an answer.
#[test]
fn faults_of_a_server_are_survived_and_counted() {
    const FAULTS: usize = 11;
    let data = Data::new(5 * FAULTS + 1);
    let seen = Mutex::new(HashMap::<String, usize>::new());
    let server = VlmServer::start(move |_, request| {
        let text = answer(request);
        let place: usize = text.split("table ").nth(1).unwrap().split('?').next().unwrap().parse().unwrap();
        let tries = {
            let mut seen = seen.lock().unwrap();
            let tries = seen.entry(text.clone()).or_default();
            *tries += 1;
            *tries
        };
        // unreadable responses are repeated only after an answer
        if place < FAULTS || tries > 1 && place % FAULTS != 9 {
            return Reply::Text(text);
        }
        match place % FAULTS {
            0 => Reply::Status(429, "Retry-After: 0\r\n"),
            1 => Reply::Status(500, ""),
            2 => Reply::Body("<html>Gateway</html>"),
            3 => Reply::HalfBody,
            4 => Reply::Silence,
            5 => Reply::Body(r#"{"object": "list"}"#),
            6 => Reply::Body(r#"{"choices": []}"#),
            7 => Reply::Status(307, "Location: http://127.0.0.1:1/\r\n"),
            8 => Reply::Message(json!({"content": format!("<think>A cat?</think>\n\n{text}")}), "stop"),
            9 => Reply::Message(json!({"content": null, "reasoning_content": "A cat?"}), "length"),
            _ => Reply::Message(json!({"content": text, "reasoning_content": "A cat?"}), "stop"),
        }
    });
    let settings = "max_concurrency = 2\ntimeout_s = 3.0\nmax_retries = 1\n";
    let outcome = bpo(data.weaken(&server.url, settings, "weakened.jsonl")).succeeds();
    // the samples 11 to 54 meet the faults, each of them four times
    outcome
        .says("weaken: 51 answers, 5 skipped (image missing: 1, model could not answer: 4)")
        .says("failed attempts: 32 (")
        .says("status 307: 4, status 429: 4, status 500: 4, time-out: 4, connection lost: 4, unreadable answer: 12)")
        .says("requests were tried again");
    let records = read_lines(data.at("weakened.jsonl"));
    assert_eq!(records.len(), 56);
    for record in &records {
        match record["response"].as_str() {
            Some(text) => assert!(text.starts_with("Of ") && text.ends_with("A dog."), "{record}"),
            None if record["reason"] == "image-missing" => {}
            None => assert!(record["detail"].as_str().unwrap().contains("max_new_tokens"), "{record}"),
        }
    }
}

/// A request that the server always fails is skipped, because the server answers others. A server
/// that answers nothing stops the stage.
#[test]
fn a_request_that_always_fails_is_skipped_and_a_failing_server_stops_the_stage() {
    let data = Data::new(9);
    let server = VlmServer::start(|_, request| {
        let text = answer(request);
        if text.contains("table 3?") { Reply::Status(500, "") } else { Reply::Text(text) }
    });
    let settings = "max_concurrency = 4\nmax_retries = 3\n";
    bpo(data.weaken(&server.url, settings, "weakened.jsonl"))
        .succeeds()
        .says("weaken: 7 answers, 2 skipped (image missing: 1, model could not answer: 1)");
    let failing = VlmServer::start(|_, _| Reply::Status(500, ""));
    bpo(data.weaken(&failing.url, settings, "other.jsonl")).fails_naming(&["weaken stopped", "status 500"]);
    // a page in place of the server is an error at once
    let page = VlmServer::start(|_, _| Reply::Body("<html>Log in</html>"));
    bpo(data.weaken(&page.url, settings, "page.jsonl")).fails_naming(&["weaken stopped", "Log in"]);
    assert!(page.requests().len() <= 8);
}

/// A server that cannot be reached ends the command soon, with the name of the setting that changes
/// the wait. With a server the same command makes the answers.
#[test]
fn a_server_that_cannot_be_reached_ends_the_command() {
    let data = Data::new(3);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for (url, cause) in [(&*refusing, "refused"), ("http://no-such-host.invalid", "no-such-host.invalid")] {
        bpo(data.weaken(url, "startup_timeout_s = 0.2\n", "weakened.jsonl"))
            .fails_naming(&[
                "`weaken.server` (--vlm-server)",
                &format!(
                    "no server can be reached at {url}/v1/chat/completions within 0.2 s (`startup_timeout_s`)"
                ),
                cause,
            ])
            .says(&format!("warning: cannot reach {url}/v1/chat/completions, trying again for up to 0.2 s"));
        assert!(lines(&data.at("weakened.jsonl")).is_empty());
    }
    let server = VlmServer::start(|_, request| Reply::Text(answer(request)));
    bpo(data.weaken(&server.url, "", "weakened.jsonl")).succeeds().says("weaken: 2 answers, 1 skipped");
}

/// A server that refuses the questions about one table until it is told to answer.
fn refusing_one(table: &'static str) -> (VlmServer, std::sync::Arc<std::sync::atomic::AtomicBool>) {
    let answers = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let all = std::sync::Arc::clone(&answers);
    let server = VlmServer::start(move |_, request| {
        let text = answer(request);
        let refuses = text.contains(table) && !all.load(std::sync::atomic::Ordering::SeqCst);
        if refuses { Reply::Status(400, "") } else { Reply::Text(text) }
    });
    (server, answers)
}

/// A repeated command names earlier skips as such. With `--retry-skipped` only these are asked for,
/// and all answers keep their bytes.
#[test]
fn skipped_answers_are_tried_again_on_request() {
    let data = Data::new(5);
    let (server, answers) = refusing_one("table 1?");
    let weaken = data.weaken(&server.url, "", "weakened.jsonl");
    let hint = "to try 2 skipped answers again after their causes are removed, add --retry-skipped";
    let first = bpo(weaken.clone()).succeeds();
    first.says("weaken: 3 answers, 2 skipped").says("skipped: s4: no image").says("skipped: s1: ").says(hint);
    let again = bpo(weaken.clone()).succeeds();
    assert!(!again.stderr.contains("skipped: s"), "{}", again.stderr);
    again
        .says("weaken: 5 of 5 already done")
        .says("skipped by an earlier command: 2 answers (image missing: 1, model could not answer: 1)")
        .says(hint);
    assert_eq!(server.requests().len(), 4);

    let before = fs::read_to_string(data.at("weakened.jsonl")).unwrap();
    let kept: String = before.split_inclusive('\n').filter(|line| line.contains("\"response\"")).collect();
    // a server that is gone takes no line away
    let gone = data.weaken("http://127.0.0.1:9", "startup_timeout_s = 0.2\n", "weakened.jsonl");
    bpo([gone, arguments!["--retry-skipped"]].concat()).fails_naming(&["no server can be reached"]);
    assert_eq!(fs::read_to_string(data.at("weakened.jsonl")).unwrap(), before);
    // writes the settings file again
    let weaken = data.weaken(&server.url, "", "weakened.jsonl");
    answers.store(true, std::sync::atomic::Ordering::SeqCst);
    fs::copy(data.at("0.png"), data.at("gone.png")).unwrap();
    let retry = [weaken.clone(), arguments!["--retry-skipped"]].concat();
    bpo(retry.clone())
        .succeeds()
        .says("weaken: 2 skipped answers to try again")
        .says("weaken: 3 of 5 already done")
        .says("weaken: 5 answers");
    assert_eq!(server.requests().len(), 4 + 2);
    let after = fs::read_to_string(data.at("weakened.jsonl")).unwrap();
    assert!(after.starts_with(&kept) && after.lines().count() == 5, "{after}");
    // the file is that of a command without failures
    bpo(data.weaken(&server.url, "", "whole.jsonl")).succeeds();
    assert_eq!(lines(&data.at("weakened.jsonl")), lines(&data.at("whole.jsonl")));
    assert_eq!(
        data.pair(&["weakened.jsonl"], "pairs.jsonl"),
        data.pair(&["whole.jsonl"], "whole-pairs.jsonl")
    );
    // nothing is left to try, and the file stays as it is
    bpo(retry).succeeds().says("weaken: 0 skipped answers to try again");
    assert_eq!(fs::read_to_string(data.at("weakened.jsonl")).unwrap(), after);
}

/// A killed retry is continued by the same command, with or without the flag.
#[test]
fn a_killed_retry_is_continued() {
    let data = Data::new(41);
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let all = std::sync::Arc::clone(&asked);
    let server = VlmServer::start(move |number, request| {
        std::thread::sleep(Duration::from_millis(number as u64 % 7));
        let is_even = key(request).is_multiple_of(2);
        let refuses = is_even && !all.load(std::sync::atomic::Ordering::SeqCst);
        if refuses { Reply::Status(400, "") } else { Reply::Text(answer(request)) }
    });
    let weaken = data.weaken(&server.url, "max_concurrency = 4\n", "weakened.jsonl");
    bpo(weaken.clone()).succeeds();
    asked.store(true, std::sync::atomic::Ordering::SeqCst);
    let file = data.at("weakened.jsonl");
    let count =
        || fs::read_to_string(&file).unwrap().lines().filter(|line| line.contains("response")).count();
    let before = count();
    assert!((1..40).contains(&before), "{before}");
    for (round, more) in [1, 3, 6].into_iter().enumerate() {
        let retry = [weaken.clone(), arguments!["--retry-skipped"]].concat();
        let arguments = if round == 1 { weaken.clone() } else { retry };
        let mut child = command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while count() < before + more && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let _ = child.kill();
        child.wait().unwrap();
    }
    bpo(weaken).succeeds().says("weaken: 40 answers");
    bpo(data.weaken(&server.url, "", "whole.jsonl")).succeeds();
    assert_eq!(lines(&file), lines(&data.at("whole.jsonl")));
}

/// A process that is killed half-way and started again asks for no answer that it had received, and
/// its file has each answer once.
#[test]
fn a_killed_process_asks_for_no_answer_twice() {
    let data = Data::new(121);
    let server = VlmServer::start(|number, request| {
        std::thread::sleep(Duration::from_millis(number as u64 * 7 % 13));
        Reply::Text(answer(request))
    });
    let weaken = data.weaken(&server.url, "max_concurrency = 16\n", "weakened.jsonl");
    let file = data.at("weakened.jsonl");
    let mut answered = HashSet::new();
    for kill_at in [10, 50, 90] {
        let before = server.requests().len();
        let mut child = command(weaken.clone()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while fs::read_to_string(&file).map_or(0, |text| text.lines().count()) < kill_at {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // requests under way reach the server after the kill
        std::thread::sleep(Duration::from_millis(100));
        let asked: HashSet<u64> = server.requests()[before..].iter().map(key).collect();
        assert!(asked.is_disjoint(&answered), "an answer was asked for twice");
        let done = fs::read_to_string(&file).unwrap();
        // a torn last line is no answer
        let whole: Vec<Value> =
            done.split_inclusive('\n').filter_map(|line| serde_json::from_str(line).ok()).collect();
        let texts: HashSet<String> =
            whole.iter().filter_map(|line| Some(line["response"].as_str()?.to_owned())).collect();
        let requests = server.requests();
        answered = requests.iter().filter(|request| texts.contains(&answer(request))).map(key).collect();
        assert_eq!(answered.len(), texts.len());
    }
    let before = server.requests().len();
    bpo(weaken).succeeds().says("weaken: 120 answers, 1 skipped");
    let asked: HashSet<u64> = server.requests()[before..].iter().map(key).collect();
    assert!(asked.is_disjoint(&answered), "an answer was asked for twice");
    bpo(data.weaken(&server.url, "", "whole.jsonl")).succeeds();
    assert_eq!(lines(&file), lines(&data.at("whole.jsonl")));
    assert_eq!(
        data.pair(&["weakened.jsonl"], "pairs.jsonl"),
        data.pair(&["whole.jsonl"], "whole-pairs.jsonl")
    );
}

/// Shards on several machines give the pairs of one.
#[test]
fn shards_give_the_pairs_of_one_machine() {
    let data = Data::new(31);
    let server = VlmServer::start(|_, request| Reply::Text(answer(request)));
    bpo(data.weaken(&server.url, "", "whole.jsonl")).succeeds();
    let expected = data.pair(&["whole.jsonl"], "whole-pairs.jsonl");
    let whole = server.requests().len();
    let files = ["second.jsonl", "third.jsonl", "first.jsonl"];
    for (shard, file) in ["2/3", "3/3", "1/3"].into_iter().zip(files) {
        bpo([data.weaken(&server.url, "", file), arguments!["--shard", shard]].concat()).succeeds();
    }
    assert_eq!(server.requests().len(), 2 * whole, "each answer is asked for by one shard");
    assert_eq!(data.pair(&files, "pairs.jsonl"), expected);
}

/// The number of concurrent requests grows to the maximum.
#[test]
fn concurrency_grows_to_the_maximum() {
    let data = Data::new(301);
    let server = VlmServer::start(|_, request| {
        std::thread::sleep(Duration::from_millis(250));
        Reply::Text(answer(request))
    });
    bpo(data.weaken(&server.url, "max_concurrency = 40\n", "weakened.jsonl")).succeeds();
    assert!(server.most_at_once() <= 40, "{}", server.most_at_once());
    assert!(server.most_at_once() > 16, "{}", server.most_at_once());
}

/// A server that refuses all requests is an error. After it is mended, the same command answers.
#[test]
fn a_server_that_refuses_all_requests_is_an_error() {
    let data = Data::new(5);
    let refusing = VlmServer::start(|_, _| Reply::Status(400, ""));
    let failed = bpo(data.weaken(&refusing.url, "", "weakened.jsonl"));
    failed.fails_naming(&["weaken", "no request was answered", "400"]);
    assert!(lines(&data.at("weakened.jsonl")).is_empty());
    let server = VlmServer::start(|_, request| Reply::Text(answer(request)));
    bpo(data.weaken(&server.url, "", "weakened.jsonl")).succeeds();
    assert!(!lines(&data.at("weakened.jsonl")).is_empty());
}
