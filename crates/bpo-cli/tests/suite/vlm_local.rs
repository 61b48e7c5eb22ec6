//! A server that answers with our own model gives the answers of the local model, byte for byte.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bpo::distort::{ImageLimits, decode_rgb};
use bpo::model::VlmResponder;
use bpo::pairs::{FinishReason, Generated, Sampling, Turn};
use bpo::{Checkpoint, DeviceSpec, Dtype, VisionLanguageModel, VisionRequest};
use serde_json::{Value, json};

use crate::common::vlm_server::{Reply, VlmServer};
use crate::common::{bpo, photos, tiny};

/// Settings of both ways: greedy, with distortions that a server can apply as a local model does.
const SETTINGS: &str = "[weaken]\ntemperature = 0.0\nmax_new_tokens = 6\nsamples = 2\nbatch_size = 1\n\
    distortion = [\"blur:sigma=3\", \"no-image\", \"swap\", \"crop:keep=0.1..0.5+pixelate:scale=0.25\"]\n";

/// A request, and where its answer goes.
type Job = (VisionRequest, Sender<Generated>);

/// Starts the tiny model in a thread of its own, which takes one request at a time.
fn start_model() -> Sender<Job> {
    let (jobs, receiver) = channel::<Job>();
    std::thread::spawn(move || {
        let device = "flex".parse::<DeviceSpec>().unwrap().open().unwrap();
        let Checkpoint { model, processor, .. } = Checkpoint::load(&tiny(), Dtype::F32, &device).unwrap();
        let mut responder = VlmResponder::new(model, processor);
        for (request, answer) in receiver {
            let mut answers = VisionLanguageModel::respond(&mut responder, &[request]);
            answer.send(answers.remove(0).unwrap()).unwrap();
        }
    });
    jobs
}

/// Makes a request for a model of the body of a chat completion.
fn request(body: &Value) -> VisionRequest {
    let sampling = Sampling::greedy(usize::try_from(body["max_tokens"].as_u64().unwrap()).unwrap())
        .with_temperature(body["temperature"].as_f64().unwrap())
        .with_top_p(body["top_p"].as_f64().unwrap());
    let (mut images, mut system, mut turns, mut question) = (Vec::new(), None, Vec::new(), String::new());
    for message in body["messages"].as_array().unwrap() {
        let text = match &message["content"] {
            Value::String(text) => text.clone(),
            parts => parts
                .as_array()
                .unwrap()
                .iter()
                .map(|part| match part["image_url"]["url"].as_str() {
                    Some(url) => {
                        let bytes = STANDARD.decode(url.strip_prefix("data:image/png;base64,").unwrap());
                        let limits = ImageLimits::default();
                        images.push(decode_rgb(&bytes.unwrap(), Path::new("sent"), &limits).unwrap().into());
                        "<image>"
                    }
                    None => part["text"].as_str().unwrap(),
                })
                .collect::<Vec<_>>()
                .join("\n"),
        };
        match message["role"].as_str().unwrap() {
            "system" => system = Some(text),
            "assistant" => turns.push(Turn::new(std::mem::take(&mut question), text)),
            _ => question = text,
        }
    }
    VisionRequest {
        images,
        weakening: None,
        system,
        history: turns.into(),
        prompt: question,
        answer_prefix: String::new(),
        sampling,
    }
}

fn lines(file: &Path) -> Vec<String> {
    let mut lines: Vec<String> = fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_server_with_the_local_model_gives_its_answers() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut records: Vec<Value> =
        serde_json::from_str(&fs::read_to_string(photos().join("llava.json")).unwrap()).unwrap();
    // a system text, several images and an earlier turn
    records.push(json!({"id": "several", "images": ["cat.jpg", "coins.jpg"], "messages": [
        {"role": "system", "content": "Answer in one sentence."},
        {"role": "user", "content": "<image>\n<image>\nWhat is in the pictures?"},
        {"role": "assistant", "content": "A cat, and coins."},
        {"role": "user", "content": "Which one is grey?"},
        {"role": "assistant", "content": "The second one."}]}));
    fs::write(at("data.json"), json!(records).to_string()).unwrap();
    let inputs = arguments!["--data", at("data.json"), "--images", photos()];
    let weaken = |config: &str, out: &str| {
        fs::write(at("bpo.toml"), format!("{SETTINGS}{config}")).unwrap();
        let files = arguments!["--config", at("bpo.toml"), "--out", at(out)];
        [arguments!["weaken"], inputs.clone(), files].concat()
    };
    bpo([weaken("", "local.jsonl"), arguments!["--model", tiny()]].concat()).succeeds();
    let expected = lines(&at("local.jsonl"));
    assert!(expected.len() > 60, "{}", expected.len());

    let jobs = Arc::new(Mutex::new(start_model()));
    let server = VlmServer::start(move |number, body| {
        let (sender, answer) = channel();
        jobs.lock().unwrap().send((request(body), sender)).unwrap();
        let Generated { text, finish, .. } = answer.recv().unwrap();
        // answers leave in another order than that of the requests
        std::thread::sleep(Duration::from_millis(number as u64 * 37 % 100));
        let finish = if finish == FinishReason::Length { "length" } else { "stop" };
        Reply::Message(json!({"role": "assistant", "content": text}), finish)
    });
    let mut orders = Vec::new();
    for connections in [1, 64] {
        let config = format!(
            "[weaken.server]\nbase_url = \"{}\"\nmodel = \"m\"\nmax_concurrency = {connections}\n",
            server.url
        );
        let out = format!("remote-{connections}.jsonl");
        bpo(weaken(&config, &out)).succeeds();
        assert_eq!(lines(&at(&out)), expected, "{connections} connections");
        orders.push(fs::read_to_string(at(&out)).unwrap());
        let most = server.most_at_once();
        // how many is a matter of speed
        assert_eq!(most > 1, connections > 1, "{most} of {connections} at once");
    }
    assert_ne!(orders[0], orders[1], "the answers came in the same order");
    // the pairs have the same bytes
    let pair = |answers: &str| {
        let out = at(&format!("pairs-of-{answers}"));
        let files = arguments!["--answers", at(answers), "--out", out.clone()];
        bpo([arguments!["pair"], inputs.clone(), files].concat()).succeeds();
        fs::read(out).unwrap()
    };
    let expected = pair("local.jsonl");
    assert_eq!(pair("remote-1.jsonl"), expected);
    assert_eq!(pair("remote-64.jsonl"), expected);
}
