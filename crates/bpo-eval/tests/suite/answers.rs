//! Files of ground truth, answers and objects.

use bpo_eval::{EvalError, ObjectTable, Truth, read_chair_answers};

use crate::support::Files;

fn table() -> ObjectTable {
    ObjectTable::of_names(["dog", "bus", "cup"]).unwrap()
}

#[test]
fn a_table_in_the_format_of_chair() {
    let path = Files::new().write("gone.txt", "");
    assert!(matches!(ObjectTable::from_file(&path), Err(EvalError::Read { .. })));
    let files = Files::new();
    let path = files.write("synonyms.txt", "person, man, fire fighter\n\ndog, puppy\n");
    let table = ObjectTable::from_file(&path).unwrap();
    assert_eq!(table.find("Fire Fighters"), Some("person"));
    assert_eq!(table.names().into_iter().collect::<Vec<_>>(), ["dog", "person"]);
    for empty in ["", "\n \n", ", ,\n"] {
        let path = files.write("empty.txt", empty);
        for read in [ObjectTable::from_file, ObjectTable::as_published_from_file] {
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("empty.txt: no object in the file"), "{error}");
        }
    }
}

#[test]
fn answers_under_all_known_keys() {
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
    let scored = read_chair_answers(&lines, &table(), &truth).unwrap();
    let texts: Vec<&str> = scored.items.iter().map(|item| item.text.as_str()).collect();
    assert_eq!(texts, ["a dog", "a bus"]);
    assert_eq!(scored.unmatched, ["9.png"]);

    let both = files.write(
        "both.json",
        r#"[{"image_id": "1.png", "text": "Describe the dog.", "response": "A bus."},
            {"image_id": "1.png", "prompt": "A dog?", "text": "A cup."},
            {"image": "1.png", "answer": "", "response": "A dog."}]"#,
    );
    let scored = read_chair_answers(&both, &table(), &truth).unwrap();
    let texts: Vec<&str> = scored.items.iter().map(|item| item.text.as_str()).collect();
    assert_eq!(texts, ["A bus.", "A cup.", "A dog."]);
    let two = files.write("two.json", r#"[{"image": "1.png", "answer": "A dog.", "response": "A bus."}]"#);
    let error = read_chair_answers(&two, &table(), &truth).unwrap_err().to_string();
    assert!(error.contains("two.json: record 1: answer and response are different answers"), "{error}");
    let asked = files
        .write("asked.jsonl", "{\"image\": \"1.png\", \"prompt\": \"Describe.\", \"text\": \"Describe.\"}\n");
    let error = read_chair_answers(&asked, &table(), &truth).unwrap_err().to_string();
    assert!(error.contains("asked.jsonl: record 1: the text is the question"), "{error}");

    let bad =
        files.write("bad.jsonl", "{\"image\": \"1.png\", \"text\": \"a dog\"}\n{\"image\": \"1.png\"}\n");
    let error = read_chair_answers(&bad, &table(), &truth).unwrap_err().to_string();
    assert!(error.contains("bad.jsonl: record 2") && error.contains("caption"), "{error}");
    let cut = files.write("cut.json", "[{\"image\": \"1.png\", \"text\": \"a d");
    let error = read_chair_answers(&cut, &table(), &truth).unwrap_err().to_string();
    assert!(error.contains("cut.json: record 1, line 1"), "{error}");
}

#[test]
fn ground_truth_of_coco() {
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
    // A name that only ends in a number is no COCO name.
    assert!(truth.of("dog_42.jpg").is_none() && truth.of("dog_7.jpg").is_none());

    let refused = |text: &str, table: &ObjectTable, said: &str| {
        let path = files.write("refused.json", text);
        let error = Truth::from_coco(&path, table).unwrap_err().to_string();
        assert!(error.contains("refused.json") && error.contains(said), "{error}");
    };
    let images = r#"{"images": [{"id": 7, "file_name": "000000000007.jpg"}], "categories": [{"id": 1, "name": "dog"}]"#;
    let panoptic = r#", "annotations": [{"segments_info": [{"id": 1, "category_id": 1}], "file_name": "7.png", "image_id": 7}]}"#;
    refused(
        &(images.to_owned() + panoptic),
        &table(),
        "a panoptic file (annotations have segments_info); use COCO's instances_*.json",
    );
    refused(
        r#"{"images": [], "annotations": [], "categories": [{"id": 1, "name": "person", "keypoints": ["nose"]}]}"#,
        &table(),
        "keypoint",
    );
    let answered = r#", "annotations": [{"image_id": 7, "question_id": 1, "answers": []}]}"#;
    refused(&(images.to_owned() + answered), &table(), "annotation 1 has neither category_id nor caption");
    let captioned = r#", "annotations": [{"image_id": 7, "caption": "A dog"}]}"#;
    refused(&(images.to_owned() + captioned), &ObjectTable::default(), "need a table of objects");

    let bad =
        files.write("bad.json", r#"{"images": [], "annotations": [{"image_id": 3, "category_id": 1}]}"#);
    let error = Truth::from_coco(&bad, &table()).unwrap_err();
    assert!(matches!(error, EvalError::NoSuchId { record: 1, what: "image", id: 3, .. }), "{error}");
}

#[test]
fn ground_truth_without_known_objects_is_an_error() {
    let files = Files::new();
    let answers = files.write("answers.jsonl", "{\"image\": \"1.png\", \"text\": \"a dog\"}\n");
    let mut truth = Truth::default();
    truth.add("1.png", []);
    let error = read_chair_answers(&answers, &table(), &truth).unwrap_err().to_string();
    assert!(error.contains("no image of the ground truth shows an object"), "{error}");
    truth.add("1.png", ["Hund".to_owned(), "Tasse".to_owned()]);
    let error = read_chair_answers(&answers, &table(), &truth).unwrap_err().to_string();
    assert!(error.contains("has none of the objects in the ground truth (Hund, Tasse)"), "{error}");
    truth.add("2.png", ["dog".to_owned()]);
    assert_eq!(read_chair_answers(&answers, &table(), &truth).unwrap().items.len(), 1);
}
