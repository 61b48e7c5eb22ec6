//! Files that tests write and read.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub fn parse_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The values of a file of JSON lines.
pub fn read_lines(path: impl AsRef<Path>) -> Vec<Value> {
    parse_lines(&fs::read_to_string(path).unwrap())
}

/// Writes samples in LLaVA's form: id, image, question, answer.
pub fn write_samples(path: &Path, samples: &[(&str, &str, &str, &str)]) {
    let conversation = |(id, image, question, answer): &(&str, &str, &str, &str)| {
        json!({"id": id, "image": image, "conversations": [
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
        json!({
            "id": id, "image": image, "prompt": prompt, "chosen": chosen, "rejected": rejected, "kind": "llm-hal",
        })
        .to_string()
    };
    fs::write(path, pairs.iter().map(line).collect::<Vec<_>>().join("\n")).unwrap();
}

/// Files with their contents, in the order of their paths.
pub type Snapshot = Vec<(PathBuf, Vec<u8>)>;

/// All files below a directory.
pub fn snapshot(dir: &Path) -> Snapshot {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

/// Writes three pairs about two photographs; `answers` are the chosen ones about each.
pub fn write_three_pairs(path: &Path, answers: [&str; 2]) {
    let [cat, coffee] = answers;
    write_pairs(
        path,
        &[
            ("a", "cat.jpg", "What is it?", cat, "A dog."),
            ("b", "cat.jpg", "What is it?", cat, "An owl in a tree."),
            ("c", "coffee.jpg", "What is on the table?", coffee, "A blue cup."),
        ],
    );
}

/// A conversation about `cat.jpg` in LLaVA's form.
pub fn conversation(id: &str, question: &str, answer: &str) -> Value {
    json!({"id": id, "image": "cat.jpg", "conversations": [
        {"from": "human", "value": question}, {"from": "gpt", "value": answer},
    ]})
}

/// The ids of records.
pub fn ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["id"].as_str().unwrap()).collect()
}

/// The loss of each step of a training.
pub fn losses(run: &Path) -> Vec<f64> {
    read_lines(run.join("metrics.jsonl")).iter().map(|line| line["loss"].as_f64().unwrap()).collect()
}

/// Sum of chosen minus rejected log-probabilities over the lines of `bpo score`.
pub fn margin(scores: &[Value]) -> f64 {
    let logp = |line: &Value, key: &str| line[key].as_f64().unwrap();
    scores.iter().map(|line| logp(line, "chosen_logp") - logp(line, "rejected_logp")).sum()
}

/// Copies a directory and all that is in it.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Flips a bit of the last byte of a file, which is a tensor's in a safetensors file.
pub fn flip_last_bit(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(file, bytes).unwrap();
}
