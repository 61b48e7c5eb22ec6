//! Compares the processor with transformers, as `tools/golden/processor.py` recorded it.

use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use serde_json::{Map, Value};
use tempfile::TempDir;
use tokenizers::Tokenizer;
use tracing::Dispatch;

use super::*;

const TOKENIZER: &str = include_str!("../../tests/golden/tiny-llava/tokenizer.json");

fn recorded() -> Value {
    serde_json::from_str(include_str!("../../tests/data/processor/transformers.json")).unwrap()
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// The configuration of the tiny checkpoint.
fn config() -> VlmConfig {
    VlmConfig::from_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny-llava")).unwrap()
}

/// The files of a case over the tiny checkpoint's tokenizer.
fn checkpoint(files: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut tokenizer: Value = serde_json::from_str(TOKENIZER).unwrap();
    if files.get("no_post_processor").is_some() {
        tokenizer["post_processor"] = Value::Null;
    }
    let write = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write("tokenizer.json", &tokenizer.to_string());
    for (name, content) in object(files).iter().filter(|(name, _)| *name != "no_post_processor") {
        write(name, text(content));
    }
    dir
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// While there is one subscriber, tracing asks that of the thread in which an event first occurs whether
/// the event is recorded, and keeps the answer. With two more, a thread without any cannot decide it.
static SUBSCRIBERS: LazyLock<[Dispatch; 2]> = LazyLock::new(|| {
    let subscriber =
        || tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::sink);
    [subscriber(), subscriber()].map(|subscriber| Dispatch::new(subscriber.finish()))
});

/// The warnings, one per line.
fn warnings(run: impl FnOnce()) -> Vec<String> {
    LazyLock::force(&SUBSCRIBERS);
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || writer.clone());
    tracing::subscriber::with_default(subscriber.finish(), run);
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(|line| line.trim().to_owned()).collect()
}

fn tokenizer(dir: &Path) -> Tokenizer {
    let mut tokenizer = Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
    tokens::TokenSettings::apply(dir, &mut tokenizer).unwrap();
    tokenizer
}

#[test]
fn added_tokens_equal_those_of_transformers() {
    let recorded = recorded();
    let bare: Tokenizer = TOKENIZER.parse().unwrap();
    let mut changed = 0;
    for (name, case) in object(&recorded["tokens"]) {
        let dir = checkpoint(&case["files"]);
        let tokenizer = tokenizer(dir.path());
        let mut added = Map::new();
        for (id, token) in tokenizer.get_added_tokens_decoder() {
            let flags = (token.lstrip, token.rstrip, token.normalized, token.single_word, token.special);
            let flags = serde_json::json!([token.content, flags.0, flags.1, flags.2, flags.3, flags.4]);
            added.insert(id.to_string(), flags);
        }
        assert_eq!(Value::from(added), case["added"], "{name}");
        for (text, ids) in recorded["texts"].as_array().unwrap().iter().zip(case["ids"].as_array().unwrap()) {
            let found = tokenizer.encode(text.as_str().unwrap(), false).unwrap();
            assert_eq!(serde_json::json!(found.get_ids()), *ids, "{name}: {text}");
            let plain = bare.encode(text.as_str().unwrap(), false).unwrap();
            changed += usize::from(plain.get_ids() != found.get_ids());
        }
        let text = TextProcessor::from_dir(dir.path()).unwrap();
        let map = &text.special().named;
        assert_eq!(serde_json::json!(map), case["map"], "{name}");
        assert_eq!(serde_json::json!(text.encode_prompt("", &[]).unwrap()), case["empty"], "{name}");
    }
    assert!(changed >= 20, "{changed}");
}

#[test]
fn templates_come_from_the_file_that_transformers_takes() {
    for (name, case) in object(&recorded()["template_files"]) {
        let mut files = case["files"].clone();
        let config = Value::from(r#"{"bos_token": "<s>", "eos_token": "</s>"}"#);
        files.as_object_mut().unwrap().entry("tokenizer_config.json").or_insert(config);
        let dir = checkpoint(&files);
        let special = TextProcessor::from_dir(dir.path()).unwrap().special().clone();
        let chat = ChatTemplate::from_dir(dir.path(), &special).unwrap();
        assert_eq!(chat.render(None, &[], "said", 0).unwrap(), text(&case["said"]), "{name}");
    }
}

#[test]
fn image_settings_come_from_the_file_that_transformers_takes() {
    for (name, case) in object(&recorded()["images"]) {
        let found = image_files::image_settings(checkpoint(&case["files"]).path()).unwrap();
        assert_eq!(found[0].1["image_mean"], case["image_mean"], "{name}");
    }
}

#[test]
fn templates_render_as_in_transformers() {
    let recorded = recorded();
    let dir =
        checkpoint(&serde_json::json!({ "tokenizer_config.json": recorded["tokenizer_config"].to_string() }));
    let special = TextProcessor::from_dir(dir.path()).unwrap().special().clone();
    let mut wrong = Vec::new();
    for case in recorded["templates"].as_array().unwrap() {
        for conversation in ["user", "chat"] {
            let rendered = ChatTemplate::new(text(&case["template"]), "a test", &special)
                .and_then(|chat| chat.render_messages(&recorded["messages"][conversation]));
            if rendered.as_deref().ok() != case[conversation].as_str() {
                wrong.push((text(&case["template"]).to_owned(), rendered, case[conversation].clone()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Answers end with the token that ends a turn, and generation stops there.
#[test]
fn answers_end_as_the_template_has_it() {
    let recorded = recorded();
    let mut ends = std::collections::BTreeSet::new();
    for (name, case) in object(&recorded["ends"]) {
        let dir = checkpoint(&case["files"]);
        std::fs::write(dir.path().join("preprocessor_config.json"), "{}").unwrap();
        let processor = Processor::from_dir(dir.path(), &config()).unwrap();
        let history = [Turn::new("What is it?", "The dog.")];
        let answered = processor.encode_completion(None, &history, "Where?", "A room.", &[]).unwrap();
        // transformers adds BOS to a text without one
        let prompt = case["prompt_ids"].as_array().unwrap();
        assert_eq!(serde_json::json!(answered.prompt()[1..]), Value::from(prompt.clone()), "{name}");
        assert_eq!(serde_json::json!(answered.answer()), case["answer_ids"], "{name}");
        let end = &processor.text.special().end;
        assert_eq!(end.text, text(&case["end"]), "{name}");
        assert_eq!(processor.text.special().stop[0], end.id, "{name}");
        assert!(processor.text.special().stop.contains(&2), "{name}");
        let prefix = processor.encode_answer_prefix(None, &history, "Where?", "A room.", &[]).unwrap();
        assert_eq!(prefix.ids[..], answered.ids[..prefix.ids.len()], "{name}");
        assert_eq!(processor.text.decode(prefix.answer(), true).unwrap(), "A room.", "{name}");
        let spelled = format!("Is {} a tag?", end.text);
        let error = processor.encode_completion(None, &[], &spelled, "Yes.", &[]).unwrap_err();
        assert!(matches!(error, ProcessorError::SpecialToken { .. }), "{name}: {error}");
        ends.insert(end.text.clone());
    }
    assert_eq!(ends.len(), 5);
}

#[test]
fn tokens_that_only_the_config_adds_may_not_be_spelled() {
    let recorded = recorded();
    let case = &recorded["tokens"]["new"];
    let text = TextProcessor::from_dir(checkpoint(&case["files"]).path()).unwrap();
    let error = text.check_written("What is <x>?", "prompt").unwrap_err();
    assert!(matches!(&error, ProcessorError::SpecialToken { token, .. } if token == "<x>"), "{error}");
    // `<y>` is added as an ordinary word
    text.check_written("What is <y>?", "prompt").unwrap();
}

#[test]
fn files_that_disagree_are_both_named() {
    let recorded = recorded();
    let mut found = Vec::new();
    for (name, case) in object(&recorded["template_files"]) {
        let dir = checkpoint(&case["files"]);
        let said = warnings(|| drop(sources::chat_template(dir.path()).unwrap()));
        let sources = object(&case["files"]).keys().filter(|file| !file.ends_with("rag.jinja")).count();
        let warned: Vec<_> =
            said.iter().map(|line| line.replace(&dir.path().display().to_string(), "DIR")).collect();
        assert_eq!(warned.len(), sources - 1, "{name}: {warned:?}");
        found.extend(warned);
    }
    let expected = "DIR: chat_template.json and chat_template.jinja disagree about the chat template; \
                    chat_template.json counts, as in transformers";
    assert!(found.iter().any(|line| line == expected), "{found:#?}");

    let one = |files: &Value, expected: &str| {
        let dir = checkpoint(files);
        let said = warnings(|| {
            drop(ImageProcessor::from_dir(dir.path()));
            drop(TextProcessor::from_dir(dir.path()));
        });
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].ends_with(expected), "{said:?}");
    };
    one(
        &recorded["images"]["nested before old"]["files"],
        "processor_config.json and preprocessor_config.json disagree about `image_mean`; processor_config.json counts, as in \
         transformers",
    );
    one(
        &recorded["tokens"]["lstrip"]["files"],
        "tokenizer_config.json and tokenizer.json disagree about how the tokens \"</s>\" are found in a text; \
         tokenizer_config.json counts, as in transformers",
    );
    one(
        &recorded["tokens"]["map"]["files"],
        "special_tokens_map.json and tokenizer_config.json disagree about `eos_token`; special_tokens_map.json counts, as in \
         transformers",
    );
    one(
        &recorded["tokens"]["map, unread"]["files"],
        "tokenizer_config.json and special_tokens_map.json disagree about `eos_token`; tokenizer_config.json counts, as in \
         transformers",
    );
    one(
        &recorded["tokens"]["add_bos_token off"]["files"],
        "tokenizer.json and tokenizer_config.json disagree about whether a sequence begins with BOS (`add_bos_token`); \
         tokenizer.json counts, as in transformers",
    );
    let generation = serde_json::json!({
        "tokenizer_config.json": r#"{"eos_token": "</s>"}"#,
        "generation_config.json": r#"{"eos_token_id": [2, 9]}"#,
        "config.json": r#"{"eos_token_id": 7}"#,
    });
    one(
        &generation,
        "generation_config.json and config.json disagree about `eos_token_id`; generation_config.json counts, as in transformers",
    );
    let text = TextProcessor::from_dir(checkpoint(&generation).path()).unwrap();
    assert_eq!(text.special().stop, [2, 9]);
    // the tiny checkpoint has its image settings in both files, and they agree
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny-llava");
    assert_eq!(warnings(|| drop(Processor::from_dir(tiny, &config()).unwrap())), [""; 0]);
}

#[test]
fn a_template_without_an_image_token_is_named() {
    let recorded = recorded();
    let template = "{% for m in messages %}{% for c in m.content %}\
                    {{ image_token if c.type == 'image' else c.text }}{% endfor %}{% endfor %}";
    let mut config = recorded["tokenizer_config"].clone();
    let with = |config: &Value| {
        let dir = checkpoint(&serde_json::json!({
            "tokenizer_config.json": config.to_string(), "chat_template.jinja": template,
            "preprocessor_config.json": "{}",
        }));
        let processor = Processor::from_dir(dir.path(), &self::config()).unwrap();
        processor.prompt_ids(None, &[], "What?", &[&ImageLayout::plain(320, 2)])
    };
    assert_eq!(with(&config).unwrap().iter().filter(|id| **id == 320).count(), 2);
    config.as_object_mut().unwrap().remove("image_token");
    let error = with(&config).unwrap_err();
    assert!(matches!(error, ProcessorError::NoImageInTemplate { .. }), "{error}");
    assert!(error.to_string().contains("chat_template.jinja") && error.to_string().contains("image_token"));
}

#[test]
fn an_added_token_has_the_id_that_the_file_gives_it() {
    let config =
        serde_json::json!({ "eos_token": "</s>", "added_tokens_decoder": { "400": { "content": "<x>" } } });
    let dir = checkpoint(&serde_json::json!({ "tokenizer_config.json": config.to_string() }));
    let error = TextProcessor::from_dir(dir.path()).unwrap_err().to_string();
    let expected = "tokenizer_config.json: `added_tokens_decoder`: expected the id 322 for the token \"<x>\", as the tokenizer \
                    has it, found 400";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn settings_of_another_form_are_named_in_jsons_words() {
    for (file, content, expected) in [
        (
            "config.json",
            r#"{"eos_token_id": "2"}"#,
            "`eos_token_id`: expected a token's id, or a list of them, found \"2\"",
        ),
        (
            "config.json",
            r#"{"text_config": {"bos_token_id": 1.5}}"#,
            "`text_config.bos_token_id`: expected a whole number, at least 0, found 1.5",
        ),
        (
            "tokenizer_config.json",
            r#"{"eos_token": 2}"#,
            "`eos_token`: expected a token's text, or an object with `content`, found 2",
        ),
        (
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"2": {"content": "</s>", "lstrip": 1}}}"#,
            "`added_tokens_decoder.2.lstrip`: expected true or false, found 1",
        ),
        ("generation_config.json", "[]", "generation_config.json: expected an object, found []"),
        (
            "special_tokens_map.json",
            "{",
            "special_tokens_map.json is not JSON: EOF while parsing an object at line 1 column 1",
        ),
    ] {
        let dir = checkpoint(&serde_json::json!({ file: content }));
        let error = TextProcessor::from_dir(dir.path()).unwrap_err().to_string();
        assert!(error.contains(file) && error.ends_with(expected), "{error}");
    }
}

#[test]
fn settings_of_generation_are_read() {
    let read = |content: &str| {
        let dir = checkpoint(&serde_json::json!({ "generation_config.json": content }));
        let mut settings = None;
        let said = warnings(|| settings = Some(GenerationSettings::from_dir(dir.path(), &[7])));
        (settings.unwrap(), said)
    };
    let neutral = r#"{"repetition_penalty": 1, "min_length": 0, "suppress_tokens": [], "bad_words_ids": null,
        "num_beams": 1, "guidance_scale": 1.0, "sequence_bias": null, "temperature": 0.1, "top_k": 1,
        "cache_implementation": "static", "token_healing": false, "is_assistant": false, "stop_strings": [],
        "max_time": null, "watermarking_config": null, "renormalize_logits": true, "max_length": 20}"#;
    let (settings, said) = read(neutral);
    assert_eq!((settings.unwrap(), said), (GenerationSettings::ending_at([7]), Vec::new()));
    let (settings, said) = read(
        r#"{"repetition_penalty": 1.05, "no_repeat_ngram_size": 3, "min_new_tokens": 2, "min_length": 4,
        "suppress_tokens": [1, 2], "begin_suppress_tokens": [3], "bad_words_ids": [[4, 5]]}"#,
    );
    let expected = GenerationSettings {
        stop: vec![7],
        repetition_penalty: 1.05,
        no_repeat_ngram_size: 3,
        min_length: 4,
        min_new_tokens: 2,
        suppress_tokens: vec![1, 2],
        begin_suppress_tokens: vec![3],
        bad_words_ids: vec![vec![4, 5]],
    };
    assert_eq!((settings.unwrap(), said), (expected, Vec::new()));
    let (_, said) = read(r#"{"num_beams": 4, "sequence_bias": [[[1], 2.0]]}"#);
    assert_eq!(said.len(), 2);
    assert!(said[0].ends_with("generation_config.json has `num_beams` 4, which is not applied"), "{said:?}");
    // all keys of transformers 5.23 that change greedy answers, and those of version 4
    for setting in [
        r#""cache_implementation": "quantized""#,
        r#""diversity_penalty": 0.5"#,
        r#""dola_layers": "high""#,
        r#""force_words_ids": [[1]]"#,
        r#""is_assistant": true"#,
        r#""max_time": 1.5"#,
        r#""num_beam_groups": 2"#,
        r#""stop_strings": ["."]"#,
        r#""token_healing": true"#,
        r#""watermarking_config": {"greenlist_ratio": 0.25}"#,
    ] {
        let (_, said) = read(&format!("{{{setting}}}"));
        let key = setting.split('"').nth(1).unwrap();
        assert!(said.len() == 1 && said[0].contains(&format!("has `{key}` ")), "{setting}: {said:?}");
    }
    for (content, expected) in [
        (r#"{"repetition_penalty": 0}"#, "`repetition_penalty`: expected a number above 0, found 0"),
        (r#"{"min_length": -1}"#, "`min_length`: expected a whole number, at least 0, found -1"),
        (r#"{"bad_words_ids": [[1], []]}"#, "`bad_words_ids[1]`: expected at least one id, found []"),
    ] {
        let error = read(content).0.unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
    let many = format!(r#"{{"suppress_tokens": {:?}}}"#, vec![1; 10_001]);
    assert!(read(&many).0.unwrap_err().to_string().contains("at most 10000 ids"));
}
