//! `bpo inspect` and `bpo stats`: the gallery, statistics and the data card of pairs.

use std::fs;
use std::path::Path;

use bpo::distort::{ImageLimits, load_rgb};
use serde_json::{Value, json};

use crate::common::{Outcome, bpo, photos};

const HOSTILE: &str = "</script><img src=x onerror=alert(1)> \u{2028}";

/// 250 pairs about the photographs: of every five, one is image-weakened.
fn write_pairs(path: &Path) {
    let photos = ["astronaut.jpg", "cat.jpg", "coffee.jpg", "coins.jpg", "missing.jpg"];
    let pair = |number: usize| {
        let mut pair = json!({
            "id": format!("s{number}:0>1"), "images": [photos[number % 5]], "prompt": "<image>\nWhat is it?",
            "chosen": format!("A cat sits on a red mat beside {number} dogs."),
            "rejected": format!("A cat sits on a blue mat beside {number} dogs. {HOSTILE}"), "kind": "llm-hal",
        });
        if number % 5 == 2 {
            pair["provenance"] = json!({"error": "attribute"});
        }
        if number % 5 == 1 {
            pair["kind"] = "mllm-hal".into();
            pair["rejected"] = format!("A dog, number {number}.").into();
            pair["provenance"] = json!({"distortion": "blur:sigma=2+diffusion-noise:step=800"});
        }
        pair.to_string()
    };
    fs::write(path, (0..250).map(pair).collect::<Vec<_>>().join("\n")).unwrap();
}

/// The argument that a file of the gallery passes to the page.
fn argument(path: &Path, call: &str) -> Value {
    let text = fs::read_to_string(path).unwrap();
    let json = text.strip_prefix(call).and_then(|text| text.strip_suffix(");\n"));
    serde_json::from_str(json.unwrap_or_else(|| panic!("{text}"))).unwrap()
}

fn inspect(dir: &Path, more: &[&str]) -> Outcome {
    let files = arguments!["inspect", dir.join("pairs.jsonl"), "--out", dir.join("gallery.html")];
    let more = more.iter().map(Into::into).collect();
    bpo([files, arguments!["--images", photos()], more].concat())
}

#[test]
fn gallery_has_all_pairs_with_their_images() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_pairs(&dir.join("pairs.jsonl"));
    inspect(dir, &[]).succeeds().says("inspect: 250 pairs in");
    let files = dir.join("gallery_files");
    let index = argument(&files.join("index.js"), "gallery.index(");
    assert_eq!(index["kind"]["names"], json!(["llm-hal", "mllm-hal"]));
    assert_eq!(index["kind"]["of"].as_array().unwrap().len(), 250);
    assert_eq!(index["error"]["names"], json!(["attribute"]));
    assert_eq!(index["error"]["of"].as_array().unwrap()[..3], [Value::Null, Value::Null, json!(0)]);
    let mut cards = Vec::new();
    for number in 0..3 {
        let chunk = argument(&files.join(format!("pairs-{number}.js")), &format!("gallery.pairs({number},"));
        cards.extend(chunk.as_array().unwrap().clone());
    }
    assert_eq!(cards.len(), 250);
    assert_eq!(cards[0]["rejected"][2], json!([true, " mat beside 0 dogs."]), "{}", cards[0]);
    assert_eq!(cards[0]["rejected"][3], json!([false, format!(" {HOSTILE}")]));
    assert_eq!(cards[1]["distortion"], "blur:sigma=2+diffusion-noise:step=800");
    let injected = [&cards[2]["error"], &cards[2]["distortion"], &cards[2]["weakened"]];
    assert_eq!(injected, [&json!("attribute"), &Value::Null, &json!([])]);
    let load = |picture: &Value| {
        load_rgb(files.join(picture["Ok"].as_str().unwrap()), &ImageLimits::default()).unwrap()
    };
    let (clean, weakened) = (load(&cards[1]["clean"][0]), load(&cards[1]["weakened"][0]));
    assert_eq!((clean.dimensions(), clean.width().max(clean.height())), (weakened.dimensions(), 336));
    assert_ne!(clean, weakened);
    assert_eq!(cards[6]["clean"], cards[1]["clean"], "an image is written once");
    assert!(cards[4]["clean"][0]["Err"].as_str().unwrap().contains("missing.jpg"));

    // another seed has other noise
    let before = fs::read(files.join(cards[1]["weakened"][0]["Ok"].as_str().unwrap())).unwrap();
    inspect(dir, &["--seed", "7", "--max-pairs", "100"]).succeeds().says("inspect: 100 pairs of 250 in");
    let chunk = argument(&files.join("pairs-0.js"), "gallery.pairs(0,");
    let ids: Vec<_> = chunk.as_array().unwrap().iter().map(|card| card["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[..3].to_vec()), (100, vec!["s0:0>1", "s2:0>1", "s5:0>1"]));
    assert!(!files.join("pairs-1.js").exists(), "the old gallery is replaced");
    inspect(dir, &["--seed", "7"]).succeeds();
    assert_ne!(fs::read(files.join(cards[1]["weakened"][0]["Ok"].as_str().unwrap())).unwrap(), before);
}

#[test]
fn files_beside_a_gallery_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_pairs(&dir.join("pairs.jsonl"));
    fs::create_dir(dir.join("gallery_files")).unwrap();
    fs::write(dir.join("gallery_files/mine.txt"), "mine").unwrap();
    inspect(dir, &[]).fails_naming(&["gallery_files"]);
    assert_eq!(fs::read_to_string(dir.join("gallery_files/mine.txt")).unwrap(), "mine");
    assert!(!dir.join("gallery.html").exists());
    let over = arguments!["inspect", dir.join("pairs.jsonl"), "--out", dir.join("pairs.jsonl")];
    bpo(over).refuses_naming(&["--out"]);
}

/// The structure of the page: landmarks, headings, and elements that its script uses.
#[test]
fn page_has_the_structure() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_pairs(&dir.join("pairs.jsonl"));
    inspect(dir, &["--max-pairs", "1"]).succeeds();
    let page = fs::read_to_string(dir.join("gallery.html")).unwrap();
    let (body, script) = page.split_once("<body>").unwrap().1.split_once("<script>").unwrap();
    let tags: Vec<&str> = body
        .split('<')
        .skip(1)
        .filter(|tag| !tag.starts_with('/'))
        .map(|tag| tag.split('>').next().unwrap())
        .collect();
    let expected = [
        "header",
        "h1",
        "form role=\"search\"",
        "label",
        "select id=\"kind\"",
        "option value=\"\"",
        "label id=\"of-error\" hidden",
        "select id=\"error\"",
        "option value=\"\"",
        "label",
        "input id=\"search\" type=\"search\" autocomplete=\"off\"",
        "nav aria-label=\"Pages\"",
        "button id=\"previous\" type=\"button\"",
        "button id=\"next\" type=\"button\"",
        "span id=\"status\" role=\"status\"",
        "main id=\"cards\"",
        "footer class=\"faint\"",
        "p",
        "kbd",
        "kbd",
        "kbd",
        "kbd",
        "kbd",
        "noscript",
    ];
    assert_eq!(tags, expected);
    assert!(script.contains("const FILES = \"gallery_files/\";"), "{script}");
    // data goes into text nodes only
    assert!(!script.contains("innerHTML") && !script.contains("insertAdjacentHTML"));
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn statistics_are_printed_and_written_as_a_card() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_pairs(&dir.join("pairs.jsonl"));
    let card = arguments!["--card", dir.join("card/README.md"), "--title", "My pairs"];
    let outcome = bpo([arguments!["stats", dir.join("pairs.jsonl")], card].concat()).succeeds();
    let outcome = outcome.says("\"mllm-hal\" are shorter: training can learn to prefer long answers");
    let statistics: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&statistics["pairs"], &statistics["images"]), (&json!(250), &json!(5)));
    assert_eq!(statistics["kinds"]["mllm-hal"]["pairs"], 50);
    assert_eq!(statistics["distortions"], json!({"blur+diffusion-noise": 50}));
    assert_eq!(statistics["errors"]["attribute"]["pairs"], 50);
    assert_eq!(statistics["errors"].as_object().unwrap().len(), 1);
    let words = statistics["kinds"]["llm-hal"]["injected_words"].as_array().unwrap();
    assert!(words.contains(&json!({"word": "blue", "answers": 200})), "{words:?}");
    let card = fs::read_to_string(dir.join("card/README.md")).unwrap();
    assert!(card.contains("# My pairs\n") && card.contains("| mllm-hal | 50 | 20.0 % |"), "{card}");
    assert!(card.contains("## Injected errors") && card.contains("| attribute | 50 | 20.0 % |"), "{card}");
    fs::write(dir.join("empty.jsonl"), "").unwrap();
    bpo(arguments!["stats", dir.join("empty.jsonl")]).fails_naming(&["empty.jsonl"]);
}
