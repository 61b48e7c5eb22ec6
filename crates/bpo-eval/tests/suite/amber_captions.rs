//! AMBER's generative task: comparison with the published script (tools/golden/amber_captions.py makes the
//! golden file), and the reading of nouns, related words and vectors.

use bpo_eval::{
    AmberCaption, AmberCaptionReport, AmberCaptionScores, AmberFiles, AmberWordFiles, AmberWords, Bootstrap,
    EvalError, ReportTable, Scored, WordsError,
};
use serde_json::{Value, json};

use crate::support::Files;

fn bootstrap() -> Bootstrap {
    Bootstrap::default().with_resamples(50).unwrap()
}

/// Files of words, with a header before the vectors.
fn word_files(files: &Files, relation: &Value, safe: &[&str], vectors: &str) -> AmberWordFiles {
    AmberWordFiles {
        relation: files.write("relation.json", &relation.to_string()),
        safe_words: files.write("safe_words.txt", &safe.join("\n")),
        vectors: files.write("vectors.txt", vectors),
    }
}

/// AMBER's files of questions with these annotations.
fn asked(files: &Files, annotations: impl IntoIterator<Item = Value>) -> AmberFiles {
    let annotations: Vec<Value> = annotations.into_iter().collect();
    let question =
        |id: usize| json!({"id": id, "image": format!("AMBER_{id}.jpg"), "query": "Describe this image."});
    let questions: Vec<Value> = (1..=annotations.len()).map(question).collect();
    let known = annotations.into_iter().enumerate().map(|(i, mut annotation)| {
        annotation["id"] = json!(i + 1);
        annotation
    });
    AmberFiles {
        questions: files.write("query_generative.json", &json!(questions).to_string()),
        annotations: files.write("annotations.json", &known.collect::<Value>().to_string()),
    }
}

fn shown(truth: &Value, likely: &Value) -> Value {
    json!({"type": "generative", "truth": truth, "hallu": likely})
}

fn described(id: usize, nouns: &Value) -> String {
    json!({"id": id, "response": "An image.", "nouns": nouns}).to_string()
}

#[test]
fn figures_equal_those_of_the_published_script() {
    let golden: Value = serde_json::from_str(include_str!("../golden/amber_captions.json")).unwrap();
    let cases = golden.as_array().unwrap();
    assert!(cases.len() > 5);
    for case in cases {
        let files = Files::new();
        let vectors = case["vectors"].as_object().unwrap();
        let line = |(word, vector): (&String, &Value)| {
            let numbers: Vec<String> = vector.as_array().unwrap().iter().map(Value::to_string).collect();
            format!("{word} {}\n", numbers.join(" "))
        };
        let lines: String = vectors.iter().map(line).collect();
        let safe: Vec<&str> =
            case["safe_words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let header = format!("{} 5\n", vectors.len());
        let words = word_files(&files, &case["relation"], &safe, &(header + &lines)).read().unwrap();
        assert!(!words.without_vector().is_empty());
        let annotations = case["annotations"].as_array().unwrap().iter();
        let amber = asked(&files, annotations.map(|found| shown(&found["truth"], &found["hallu"])));
        let nouns = case["nouns"].as_array().unwrap().iter().enumerate();
        let answers = files.write_lines("nouns.jsonl", nouns.map(|(i, nouns)| described(i + 1, nouns)));
        let Scored { items, .. } = amber.read_captions(&answers, &words).unwrap();
        let report = AmberCaptionReport::new(&items, bootstrap());
        for (name, estimate) in report.scores.metrics() {
            let found = format!("{:.1}", 100.0 * estimate.value.unwrap());
            let expected = format!("{:.1}", case["figures"][name].as_f64().unwrap());
            assert_eq!(found, expected, "{name} of {}", items.len());
        }
    }
}

/// Words on a circle, so that their similarities are known: 0.7 for dog and wolf, 0.98 for cup and mug.
fn words(files: &Files) -> AmberWords {
    let relation =
        json!({"dog": ["puppy"], "wolf": [], "cup": [], "mug": ["beaker"], "sun": [], "fire hydrant": []});
    let vectors =
        "dog 1 0\nwolf 0.7 -0.7141\ncup 0 1\nmug -0.2 0.98\nfire hydrant -1 0\nother 1 0\nsun 0 0\n";
    word_files(files, &relation, &["sun"], vectors).read().unwrap()
}

fn read(files: &Files, nouns: &[&[&str]]) -> Vec<AmberCaption> {
    let annotation = shown(&json!(["dog", "cup"]), &json!(["wolf", "fire hydrant"]));
    let amber = asked(files, vec![annotation; nouns.len()]);
    let lines = nouns.iter().enumerate().map(|(i, nouns)| described(i + 1, &json!(nouns)));
    amber.read_captions(&files.write_lines("nouns", lines), &words(files)).unwrap().items
}

#[test]
fn nouns_are_compared_with_both_lists() {
    let files = Files::new();
    assert_eq!(words(&files).without_vector(), ["beaker", "puppy", "sun"]);
    for (nouns, expected, false_nouns) in [
        // CHAIR, Cover, Hal, Cog
        (&["dog", "puppy", "sky"][..], [0.0, 1.0, 0.0, 0.0], &[][..]),
        (&["mug"], [0.0, 1.0, 0.0, 0.0], &[]),
        (&["wolf", "dog"], [1.0, 1.0, 1.0, 1.0], &["wolf"]),
        (&["beaker", "sun"], [1.0, 0.0, 1.0, 0.0], &["beaker"]),
        (&["sky", "unknown"], [0.0, 0.0, 0.0, 0.0], &[]),
    ] {
        let captions = read(&files, &[nouns]);
        assert_eq!(captions[0].false_nouns, false_nouns, "{nouns:?}");
        let report = AmberCaptionReport::new(&captions, bootstrap());
        let known = nouns.iter().filter(|noun| !["sky", "unknown"].contains(noun)).count() as f64;
        assert_eq!(report.silent, usize::from(known == 0.0));
        let [chair, cover, hal, cog] = report.scores.metrics().map(|(_, estimate)| estimate.value.unwrap());
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{nouns:?}: {found}");
        close(chair, expected[0] / (known + 0.001));
        close(cover, expected[1] / 2.001);
        close(hal, 1.0 - (1.0 - expected[2]) / 1.001);
        close(cog, expected[3] / 2.001);
    }
}

#[test]
fn systems_are_compared() {
    let files = Files::new();
    let (before, after) =
        (read(&files, &[&["wolf"], &["dog"]]), read(&Files::new(), &[&["dog"], &["dog", "cup"]]));
    let differences = AmberCaptionScores::differences(&before, &after, &bootstrap()).unwrap();
    assert!((differences.hal.value.unwrap() + 1.0 / 2.001).abs() < 1e-12);
    let table = ReportTable::amber_caption_differences(&[("b", &differences)]).to_string();
    assert!(table.contains("CHAIR") && table.contains("-50.0 ["), "{table}");
    let report = AmberCaptionReport::new(&before, bootstrap());
    let table = ReportTable::amber_captions(&[("", &report)]).to_string();
    assert!(table.contains("Cog") && table.contains("2 (0)"), "{table}");
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<AmberCaptionReport>(&text).unwrap(), report);
    let error = AmberCaptionScores::differences(&before[..1], &after, &bootstrap()).unwrap_err();
    assert!(matches!(error, EvalError::Unpaired { .. }), "{error}");
}

#[test]
fn files_of_words_that_cannot_be_used_are_errors() {
    let files = Files::new();
    let relation = json!({"dog": ["puppy"], "cup": []});
    let fails = |relation: &Value, vectors: &str| {
        bpo_pairs::chain(&word_files(&files, relation, &[], vectors).read().unwrap_err())
    };
    for (vectors, said) in [
        ("dog 1 0\ncup 1\n", "vectors.txt: line 2: 1 numbers after the word, and not 2"),
        ("dog 1 0\ncup x 1\n", "line 2: a word followed by something that is no number"),
        ("dog 1 nan\n", "line 1: a word followed by something that is no number"),
        ("two words 1 0\n", "line 1: a word followed by something that is no number"),
        ("dog\n", "line 1: 0 numbers, and not 1 to 16384"),
        ("2 99999999\n", "line 1: 2 as the number of vectors, and 0 vectors"),
        ("3 2\ndog 1 0\ncup 0 1\n", "line 1: 3 as the number of vectors, and 2 vectors"),
        ("2 99999999\ndog 1\n", "line 2: 99999999 numbers, and not 1 to 16384"),
        ("dog 1 0\n\ndog 0 1\n", "line 3: the word \"dog\" has a vector above"),
        ("other 1 0\ncup 0 0\n", "vectors.txt: none of the words of "),
        ("", "none of the words of "),
    ] {
        let error = fails(&relation, vectors);
        assert!(error.contains(said), "{vectors:?}: {error}");
    }
    assert!(fails(&relation, &format!("dog {}\n", "1 ".repeat(1 << 20))).contains("line 1: more than 1 MiB"));
    assert!(fails(&json!({"dog": "puppy"}), "dog 1").contains("as in AMBER's relation.json"));
    // other words may repeat, and a word may have spaces
    let repeated = "4 2\nother 1 0\nother 1 0\ndog 1 0\ntwo words 1 0\n";
    assert_eq!(
        word_files(&files, &relation, &[], repeated).read().unwrap().without_vector(),
        ["cup", "puppy"]
    );
}

#[test]
fn annotations_and_nouns_are_lists_of_names() {
    let files = Files::new();
    let fails = |annotation: Value, line: String| {
        let amber = asked(&files, [annotation]);
        amber.read_captions(&files.write_lines("nouns", [line]), &words(&files)).unwrap_err()
    };
    let good = || shown(&json!(["dog"]), &json!([]));
    for (error, said) in [
        (
            fails(shown(&json!("dog"), &json!([])), described(1, &json!([]))),
            "annotations.json: record 1: truth has a string",
        ),
        (
            fails(json!({"type": "generative", "truth": []}), described(1, &json!([]))),
            "record 1: none of the keys hallu",
        ),
        (
            fails(shown(&json!(["cow"]), &json!([])), described(1, &json!([]))),
            "relation.json does not have the word \"cow\"",
        ),
        (
            fails(good(), described(1, &json!("dog"))),
            "nouns: record 1: nouns has a string; expected a list of names",
        ),
        (
            fails(good(), json!({"id": 1, "response": "A dog."}).to_string()),
            "nouns: record 1: none of the keys nouns",
        ),
        (fails(good(), described(2, &json!([]))), "1 questions have no answer (1)"),
    ] {
        assert!(error.to_string().contains(said), "{error}");
    }
    let error = fails(shown(&json!([]), &json!(["cow"])), described(1, &json!([])));
    assert!(matches!(error, EvalError::Words(WordsError::NotRelated { .. })), "{error}");
    // the other task needs no nouns
    let question = json!({"type": "relation", "truth": "no"});
    let amber = asked(&files, [question, good()]);
    let lines = [json!({"id": 1, "response": "No"}).to_string(), described(2, &json!(["dog"]))];
    let Scored { items, .. } =
        amber.read_captions(&files.write_lines("nouns", lines), &words(&files)).unwrap();
    assert_eq!((items.len(), &items[0].id[..]), (1, "2"));
}
