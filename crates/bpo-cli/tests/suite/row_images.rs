//! Images in rows of a Parquet file, which are read where they are, in all commands without a model.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

#[cfg(feature = "server")]
use crate::common::vlm_server::{Reply, VlmServer};
use crate::common::{Outcome, bpo, parse_lines, read_lines};

/// Annotated data in a Parquet file with the bytes of the images.
struct Data {
    dir: tempfile::TempDir,
}

impl Data {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("images")).unwrap();
        fs::create_dir_all(at("rows")).unwrap();
        for place in 0..7u8 {
            let image =
                image::RgbImage::from_fn(12, 8, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, place]));
            image.save(at(&format!("images/{place}.png"))).unwrap();
        }
        let records: Vec<Value> = (0..6)
            .map(|place| {
                let image = |image: usize| format!("{image}.png");
                // the last samples have two images and none
                let images = match place {
                    4 => vec![image(4), image(5)],
                    5 => Vec::new(),
                    _ => vec![image(place)],
                };
                let question = format!("{}What is on table {place}?", "<image>\n".repeat(images.len()));
                let answer = format!("A red cup and two plates are on table {place}, beside a dog.");
                let turns = json!([{"from": "human", "value": question}, {"from": "gpt", "value": answer}]);
                json!({"id": format!("s{place}"), "images": images, "conversations": turns})
            })
            .collect();
        fs::write(at("llava.json"), json!(records).to_string()).unwrap();
        let data = Self { dir };
        let out = data.at("rows/data.parquet");
        data.convert("llava.json", &out, "llava", "images").succeeds().says("6 records");
        // the same records with files of images
        let out = data.at("files.json");
        data.convert("rows/data.parquet", &out, "llava", "files").succeeds().says("6 records");
        data
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn convert(&self, input: &str, out: &Path, format: &str, images: &str) -> Outcome {
        let files = arguments!["convert", self.at(input), out, "--to", format];
        bpo([files, arguments!["--images", self.at(images)]].concat())
    }

    /// The data with images in rows, or in files.
    fn inputs(&self, in_rows: bool) -> Vec<OsString> {
        let (data, images) = if in_rows { ("rows/data.parquet", "rows") } else { ("files.json", "files") };
        arguments!["--data", self.at(data), "--images", self.at(images)]
    }

    fn stage(&self, stage: &str, in_rows: bool, more: Vec<OsString>) -> Outcome {
        bpo([arguments![stage], self.inputs(in_rows), more].concat())
    }
}

/// Lines without the fields that name an image.
fn without_names(mut lines: Vec<Value>) -> Vec<Value> {
    for line in &mut lines {
        line.as_object_mut().unwrap().remove("images");
    }
    lines
}

#[test]
fn injected_answers_and_pairs_are_those_of_files() {
    let data = Data::new();
    let mut made = Vec::new();
    for in_rows in [true, false] {
        let (injected, pairs) =
            (data.at(&format!("i{in_rows}.jsonl")), data.at(&format!("p{in_rows}.jsonl")));
        data.stage("inject", in_rows, arguments!["--out", injected.clone()]).succeeds();
        data.stage(
            "pair",
            in_rows,
            arguments!["--answers", injected.clone(), "--out", pairs.clone(), "--allow-mismatch"],
        )
        .succeeds();
        made.push((fs::read_to_string(injected).unwrap(), read_lines(pairs)));
    }
    let [(of_rows, in_rows), (of_files, in_files)] = made.try_into().unwrap();
    assert_eq!(of_rows, of_files);
    assert_eq!(without_names(in_rows.clone()), without_names(in_files));
    let names: Vec<&Value> = in_rows.iter().map(|pair| &pair["images"]).collect();
    let expected = [
        json!(["data.parquet#image/0"]),
        json!(["data.parquet#image/1"]),
        json!(["data.parquet#image/2"]),
        json!(["data.parquet#image/3"]),
        json!(["data.parquet#images/4/0", "data.parquet#images/4/1"]),
        json!([]),
    ];
    assert_eq!(names, expected.iter().collect::<Vec<_>>());

    // pairs with these names become a Parquet file with the bytes, and files again
    data.convert("ptrue.jsonl", &data.at("rows/pairs.parquet"), "trl", "rows").succeeds().says("6 records");
    data.convert("rows/pairs.parquet", &data.at("back.jsonl"), "pairs", "files").succeeds();
    assert_eq!(read_lines(data.at("back.jsonl")), read_lines(data.at("pfalse.jsonl")));
}

#[cfg(feature = "server")]
#[test]
fn a_server_gets_the_images_of_rows() {
    let data = Data::new();
    let mut made = Vec::new();
    for in_rows in [true, false] {
        let server = VlmServer::start(|_, request| {
            Reply::Text(format!("Of {} bytes.", request["messages"].to_string().len()))
        });
        let out = data.at(&format!("w{in_rows}.jsonl"));
        let weaken = |out: &Path, more: Vec<OsString>| {
            let server = arguments!["--vlm-server", server.url.clone(), "--vlm-model", "m", "--out", out];
            let distortions = arguments!["--distortion", "blur:sigma=2", "--distortion", "mix:share=0.5"];
            data.stage("weaken", in_rows, [server, distortions, more].concat()).succeeds()
        };
        weaken(&out, Vec::new()).says("weaken: 10 answers, 2 skipped (no image: 2)");
        let mut requests: Vec<String> = server.requests().iter().map(Value::to_string).collect();
        requests.sort();
        assert!(requests[0].contains("data:image/png;base64,"));
        let mut answers = read_lines(&out);
        answers.sort_by_key(|line| (line["id"].to_string(), line["variant"].to_string()));
        let others: Vec<Value> = answers.iter().map(|line| line["provenance"]["other"].clone()).collect();
        assert_eq!(others.iter().any(|other| other.to_string().contains("data.parquet#image")), in_rows);
        for line in &mut answers {
            if let Some(from) = line.get_mut("provenance") {
                from.as_object_mut().unwrap().remove("other");
            }
        }
        made.push((requests, answers));

        // what is lost is made again, and shards make the same
        let lines =
            |out: &Path| fs::read_to_string(out).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
        let mut whole = lines(&out);
        fs::write(&out, whole[..5].join("\n") + "\n").unwrap();
        weaken(&out, Vec::new());
        let mut shards = Vec::new();
        for shard in ["1/2", "2/2"] {
            let part = data.at(&format!("{}-{in_rows}.jsonl", shard.replace('/', "-")));
            weaken(&part, arguments!["--shard", shard]);
            shards.extend(lines(&part));
        }
        let mut again = lines(&out);
        for lines in [&mut whole, &mut again, &mut shards] {
            lines.sort();
        }
        assert_eq!((&again, &shards), (&whole, &whole));
    }
    let files = made.pop().unwrap();
    let rows = made.pop().unwrap();
    assert_eq!(rows.0.len(), 10);
    assert!(rows.0 == files.0, "other requests");
    assert_eq!(rows.1, files.1);
}

#[test]
fn a_data_file_outside_the_image_root_is_explained() {
    let data = Data::new();
    let inject = |out: &str, images: Vec<OsString>| {
        let files = arguments!["inject", "--data", data.at("rows/data.parquet"), "--out", data.at(out)];
        bpo([files, images].concat()).succeeds().says("data: 1 sample, 5 skipped")
    };
    inject("none.jsonl", Vec::new()).says("set `data.images` (--images)");
    inject("other.jsonl", arguments!["--images", data.at("images")])
        .says("image outside the image root: `images[0].bytes`")
        .says("`bpo convert --images DIR`");
}

/// Rows of a damaged file, and names that lead nowhere, are reasons to skip a record.
#[cfg(feature = "server")]
#[test]
fn rows_that_cannot_be_read_are_skipped() {
    let data = Data::new();
    let whole = fs::read(data.at("rows/data.parquet")).unwrap();
    fs::write(data.at("rows/cut.parquet"), &whole[..whole.len() / 2]).unwrap();
    let mut damaged = whole;
    // the data of the pages come first
    damaged[4..120].fill(0xff);
    fs::write(data.at("rows/damaged.parquet"), damaged).unwrap();
    let names = [
        "data.parquet#image/1",
        "data.parquet#image/4",
        "data.parquet#images/99/0",
        "data.parquet#picture/0",
        "cut.parquet#image/0",
        "../rows/data.parquet#image/0",
    ];
    let records: Vec<Value> = names
        .iter()
        .map(|name| {
            let turns =
                json!([{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cup."}]);
            json!({"image": name, "conversations": turns})
        })
        .collect();
    fs::write(data.at("names.json"), json!(records).to_string()).unwrap();
    let server = VlmServer::start(|_, _| Reply::Text("A dog.".to_owned()));
    let files = arguments!["weaken", "--data", data.at("names.json"), "--images", data.at("rows")];
    let flags =
        arguments!["--vlm-server", server.url.clone(), "--vlm-model", "m", "--distortion", "blur:sigma=2"];
    let outcome = bpo([files, flags, arguments!["--out", data.at("w.jsonl")]].concat()).succeeds();
    outcome
        .says("weaken: 1 answer, 5 skipped (image outside the image root: 1, image missing: 3, image unreadable: 1)")
        .says("has 6 rows, but not the row 99");
    // as data, such a file is an error
    let files = arguments!["inject", "--data", data.at("rows/damaged.parquet"), "--images", data.at("rows")];
    bpo([files, arguments!["--out", data.at("x.jsonl")]].concat()).fails_naming(&["damaged.parquet"]);
}

/// The argument of a script of the gallery.
fn cards(files: &Path) -> Vec<Value> {
    let text = fs::read_to_string(files.join("pairs-0.js")).unwrap();
    let json = text.strip_prefix("gallery.pairs(0,").and_then(|text| text.strip_suffix(");\n")).unwrap();
    serde_json::from_str::<Value>(json).unwrap().as_array().unwrap().clone()
}

#[test]
fn data_sets_of_pairs_are_shown_with_their_images() {
    let dir = tempfile::tempdir().unwrap();
    let sets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpo-pairs/tests/data");
    for (name, first) in [
        ("rlhf_v.parquet", "rlhf_v.parquet#image/0"),
        ("rlaif_v.parquet", "rlaif_v.parquet#image/0"),
        ("trl.parquet", "trl.parquet#images/0/0"),
    ] {
        let (pairs, out) = (sets.join(name), dir.path().join(format!("{name}.html")));
        let files = arguments!["inspect", pairs.clone(), "--out", out.clone(), "--images", sets.clone()];
        bpo(files).succeeds().says("inspect: 3 pairs in");
        let cards = cards(&dir.path().join(format!("{name}_files")));
        // the first and the third image are equal
        assert_eq!([&cards[0]["images"], &cards[2]["images"]], [&json!([first]), &json!([first])]);
        assert_eq!(cards[0]["clean"], json!([{"Ok": "image-0.jpg"}]), "{name}");
        assert_eq!(cards[1]["clean"], json!([{"Ok": "image-1.jpg"}]), "{name}");
        let statistics = parse_lines(&bpo(arguments!["stats", pairs]).succeeds().stdout.replace('\n', " "));
        assert_eq!((&statistics[0]["pairs"], &statistics[0]["images"]), (&json!(3), &json!(2)));
    }
}

/// Only bpo opens the names of images in rows, so a file with such names for another program has a
/// warning, unless it holds the images.
#[test]
fn names_in_files_for_other_programs_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let sets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bpo-pairs/tests/data");
    let pair = json!({"id": "a", "images": ["trl.parquet#images/0/0"], "prompt": "<image>\nWhat?",
        "chosen": "A cup.", "rejected": "A dog.", "kind": "llm-hal"});
    let pairs = dir.path().join("pairs.jsonl");
    fs::write(&pairs, format!("{pair}\n")).unwrap();
    let convert = |out: &str, to: &str, more: Vec<OsString>| {
        let files = arguments!["convert", &pairs, dir.path().join(out), "--to", to];
        bpo([files, more].concat()).succeeds()
    };
    let warning = "warning: the images of 1 record are in rows of Parquet files";
    convert("a.json", "llama-factory", Vec::new()).says(warning);
    convert("b.parquet", "trl", Vec::new()).says(warning);
    let images = arguments!["--images", sets];
    for (out, to, more) in [("c.jsonl", "pairs", Vec::new()), ("d.parquet", "trl", images)] {
        let outcome = convert(out, to, more);
        assert!(!outcome.stderr.contains("warning"), "{outcome:?}");
    }
}
