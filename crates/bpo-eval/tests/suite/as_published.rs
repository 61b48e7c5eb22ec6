//! Comparison with the published scorer of CHAIR; tools/golden/chair.py makes the golden file.

use bpo_eval::ObjectTable;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/chair.json")).unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// The captions whose objects differ from the golden file.
fn differing(golden: &Value) -> Vec<String> {
    let table = ObjectTable::as_published(texts(&golden["synonyms"]));
    let names = texts(&golden["names"]);
    let mut all = Vec::new();
    for caption in golden["captions"].as_array().unwrap() {
        let (text, expected) = caption.as_array().unwrap().split_first().unwrap();
        let expected: Vec<&str> = expected.iter().map(|i| names[i.as_u64().unwrap() as usize]).collect();
        let mentions = table.mentions(text.as_str().unwrap());
        let found: Vec<&str> = mentions.iter().map(|mention| mention.object.as_str()).collect();
        if found != expected {
            all.push(format!("{text}: {found:?}, not {expected:?}"));
        }
    }
    all
}

#[test]
fn objects_equal_those_of_the_published_scorer() {
    let golden = golden();
    assert!(golden["captions"].as_array().unwrap().len() > 900);
    assert_eq!(differing(&golden), [] as [String; 0]);
}

#[test]
fn mentions_have_byte_ranges() {
    let table = ObjectTable::as_published(texts(&golden()["synonyms"]));
    let text = "“Dogs” İn Café, a \"hot   dog\" at 12 o'clock; (TEDDY\nBEARS). A man's cat.";
    let found: Vec<&str> =
        table.mentions(text).iter().map(|mention| &text[mention.start..mention.end]).collect();
    assert_eq!(found, ["Dogs", "hot   dog", "TEDDY\nBEARS", "man", "cat"]);
}

#[test]
fn the_default_rules_differ() {
    let golden = golden();
    let lines = texts(&golden["synonyms"]);
    let published = ObjectTable::as_published(lines.iter().copied());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("synonyms.txt");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let ours = ObjectTable::from_file(&path).unwrap();
    for text in ["a bus", "two ties", "canoes", "thieves", "an iPhone", "a cheesecake", "a motor bike"] {
        assert_eq!((published.mentions(text).len(), ours.mentions(text).len()), (0, 1), "{text}");
    }
    // joined over a full stop by neither
    assert_eq!(published.mentions("It is hot. Dog walks by.")[0].object, "dog");
    assert_eq!(ObjectTable::as_published_from_file(&path).unwrap(), published);
}
