//! Files of ground truth, answers and questions, good and bad.

use std::fs;
use std::path::PathBuf;

use bpo_eval::files::{read_answers, read_pope};
use bpo_eval::{EvalError, ObjectTable, Truth};
use tempfile::TempDir;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn table() -> ObjectTable {
    ObjectTable::of_names(["dog", "bus", "cup"]).unwrap()
}

#[test]
fn a_table_in_the_form_of_chair() {
    let path = Files::new().write("gone.txt", "");
    assert!(matches!(ObjectTable::from_file(&path), Err(EvalError::Read { .. })));
    let files = Files::new();
    let path = files.write("synonyms.txt", "person, man, fire fighter\n\ndog, puppy\n");
    let table = ObjectTable::from_file(&path).unwrap();
    assert_eq!(table.find("Fire Fighters"), Some("person"));
    assert_eq!(table.names().into_iter().collect::<Vec<_>>(), ["dog", "person"]);
}

#[test]
fn answers_under_any_of_the_usual_keys() {
    let files = Files::new();
    let truth = files.write(
        "truth.jsonl",
        "{\"image\": \"1.png\", \"objects\": [\"dog\"], \"place\": \"x\"}\n{\"image\": \"2.png\", \"objects\": []}\n",
    );
    let truth = Truth::from_file(&truth).unwrap();
    assert_eq!(truth.len(), 2);
    let lines = files.write(
        "answers.jsonl",
        "{\"image\": \"1.png\", \"text\": \"a dog\", \"model\": 7}\n\
         {\"image_id\": \"dir/2.png\", \"caption\": \"a bus\"}\n\
         {\"image\": \"9.png\", \"answer\": \"a cup\"}\n",
    );
    let scored = read_answers(&lines, &table(), &truth).unwrap();
    let texts: Vec<&str> = scored.items.iter().map(|item| item.text.as_str()).collect();
    assert_eq!(texts, ["a dog", "a bus"]);
    assert_eq!(scored.unmatched, ["9.png"]);

    let bad =
        files.write("bad.jsonl", "{\"image\": \"1.png\", \"text\": \"a dog\"}\n{\"image\": \"1.png\"}\n");
    let error = read_answers(&bad, &table(), &truth).unwrap_err().to_string();
    assert!(error.contains("bad.jsonl: record 2") && error.contains("caption"), "{error}");
    let cut = files.write("cut.json", "[{\"image\": \"1.png\", \"text\": \"a d");
    let error = read_answers(&cut, &table(), &truth).unwrap_err().to_string();
    assert!(error.contains("cut.json: record 1, line 1"), "{error}");
}

#[test]
fn truth_of_coco() {
    let files = Files::new();
    let instances = files.write(
        "instances.json",
        r#"{"images": [{"id": 42, "file_name": "COCO_val2014_000000000042.jpg"}, {"id": 7, "file_name": "000000000007.jpg"}],
            "annotations": [{"image_id": 42, "category_id": 1}, {"image_id": 42, "category_id": 2}],
            "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "bus"}]}"#,
    );
    let captions = files.write(
        "captions.json",
        r#"{"images": [{"id": 42, "file_name": "COCO_val2014_000000000042.jpg"}],
            "annotations": [{"image_id": 42, "caption": "Cups next to a dog"}]}"#,
    );
    let mut truth = Truth::from_coco(&instances, &table()).unwrap();
    truth.merge(Truth::from_coco(&captions, &table()).unwrap());
    for name in ["42", "COCO_val2014_000000000042.jpg", "val/000000000042.jpg"] {
        let shown: Vec<&String> = truth.of(name).unwrap().iter().collect();
        assert_eq!(shown, ["bus", "cup", "dog"], "{name}");
    }
    assert!(truth.of("7").unwrap().is_empty());
    assert!(truth.of("8").is_none());
    // a number alone makes no other image COCO's
    assert!(truth.of("dog_42.jpg").is_none() && truth.of("dog_7.jpg").is_none());

    let bad =
        files.write("bad.json", r#"{"images": [], "annotations": [{"image_id": 3, "category_id": 1}]}"#);
    let error = Truth::from_coco(&bad, &table()).unwrap_err();
    assert!(matches!(error, EvalError::NoSuchId { record: 1, what: "image", id: 3, .. }), "{error}");
}

#[test]
fn answers_to_pope_by_number_and_in_order() {
    let files = Files::new();
    let questions = files.write(
        "questions.jsonl",
        "{\"question_id\": 1, \"image\": \"a\", \"text\": \"?\", \"label\": \"yes\"}\n\
         {\"question_id\": 2, \"image\": \"a\", \"text\": \"?\", \"label\": \"no\"}\n",
    );
    let numbered = files.write(
        "numbered.jsonl",
        "{\"question_id\": 2, \"text\": \"No\"}\n{\"question_id\": 1, \"text\": \"Yes\"}\n",
    );
    let texts = |path| -> Vec<String> {
        read_pope(&questions, path).unwrap().items.into_iter().map(|item| item.text).collect()
    };
    assert_eq!(texts(&numbered), ["Yes", "No"]);
    let ordered = files.write("ordered.jsonl", "{\"answer\": \"one\"}\n{\"answer\": \"two\"}\n");
    assert_eq!(texts(&ordered), ["one", "two"]);
    let few = files.write("few.jsonl", "{\"answer\": \"one\"}\n");
    assert!(matches!(read_pope(&questions, &few), Err(EvalError::Count { questions: 2, answers: 1 })));
    let partial = files.write("partial.jsonl", "{\"question_id\": 2, \"text\": \"No\"}\n");
    assert_eq!(read_pope(&questions, &partial).unwrap().unmatched, ["1"]);
    let twice = files.write("twice.jsonl", "{\"id\": 2, \"text\": \"No\"}\n{\"id\": 2, \"text\": \"Yes\"}\n");
    let error = read_pope(&questions, &twice).unwrap_err().to_string();
    assert!(error.contains("twice.jsonl: record 2") && error.contains("\"2\""), "{error}");
    let more = files.write(
        "more.jsonl",
        "{\"id\": 1, \"text\": \"?\"}\n{\"id\": 2, \"text\": \"?\"}\n{\"id\": 3, \"text\": \"?\"}\n",
    );
    assert_eq!(read_pope(&questions, &more).unwrap().unmatched, ["3"]);
    let label = files.write("label.jsonl", "{\"text\": \"?\", \"label\": \"perhaps\"}\n");
    let error = read_pope(&label, &ordered).unwrap_err().to_string();
    assert!(error.contains("label.jsonl: record 1") && error.contains("perhaps"), "{error}");
}
