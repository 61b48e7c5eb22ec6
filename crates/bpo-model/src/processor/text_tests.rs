//! Tests of [`TextProcessor`] with tokenizers of a few words.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// A tokenizer whose tokens are words and which knows `<s>`, `</s>` and `<image>`.
fn tokenizer(post_processor: Value) -> Value {
    let special = |id: u32, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    json!({
        "version": "1.0",
        "truncation": { "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 },
        "padding": { "strategy": { "Fixed": 12 }, "direction": "Left", "pad_to_multiple_of": null,
                     "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>" },
        "added_tokens": [special(1, "<s>"), special(2, "</s>"), special(3, "<image>")],
        "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": post_processor,
        "decoder": null,
        "model": { "type": "WordLevel", "unk_token": "<unk>",
                   "vocab": { "<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 3, "what": 4, "cat": 5, "a": 6, "é": 7, "猫": 8, "catfish": 9 } },
    })
}

/// Puts `<s>` in front, and with `eos` also `</s>` behind.
fn template(eos: bool) -> Value {
    let token = |id: &str| json!({ "SpecialToken": { "id": id, "type_id": 0 } });
    let mut single = vec![token("<s>"), json!({ "Sequence": { "id": "A", "type_id": 0 } })];
    if eos {
        single.push(token("</s>"));
    }
    json!({ "type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {
        "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] },
        "</s>": { "id": "</s>", "ids": [2], "tokens": ["</s>"] },
    } })
}

fn dir(files: &[(&str, Value)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, value) in files {
        std::fs::write(dir.path().join(name), value.to_string()).unwrap();
    }
    dir
}

fn processor(post_processor: Value, config: Value) -> TextProcessor {
    let files = [("tokenizer.json", tokenizer(post_processor)), ("tokenizer_config.json", config)];
    TextProcessor::from_dir(dir(&files).path()).unwrap()
}

/// The layout of an image with `tokens` tokens.
fn layout(tokens: usize) -> ImageLayout {
    ImageLayout::plain(3, tokens)
}

fn plain() -> TextProcessor {
    processor(template(false), json!({ "bos_token": "<s>", "eos_token": { "content": "</s>" } }))
}

#[test]
fn bos_is_there_once_whoever_writes_it() {
    let config = || json!({ "bos_token": "<s>", "eos_token": "</s>" });
    for text in [plain(), processor(template(true), config())] {
        for prompt in ["what cat", "<s>what cat", "<s><s> what cat"] {
            assert_eq!(text.encode_prompt(prompt, &[]).unwrap(), [1, 4, 5], "{prompt:?}");
        }
        assert_eq!(text.encode_prompt("", &[]).unwrap(), [1]);
    }
    // a model without BOS in tokenizer and template
    let none = processor(Value::Null, config());
    assert_eq!(none.encode_prompt("what", &[]).unwrap(), [4]);
    assert_eq!(none.encode_prompt("<s>what", &[]).unwrap(), [1, 4]);
    assert_eq!(none.encode_prompt("", &[]).unwrap(), [] as [u32; 0]);
    // transformers ignores `add_bos_token` if there is a tokenizer.json
    let asked = json!({ "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true });
    assert_eq!(processor(Value::Null, asked).encode_prompt("what", &[]).unwrap(), [4]);
    let unasked = json!({ "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false });
    assert_eq!(processor(template(false), unasked).encode_prompt("what", &[]).unwrap(), [1, 4]);
}

#[test]
fn eos_is_there_once_and_only_at_the_end() {
    let both = processor(template(true), json!({ "bos_token": "<s>", "eos_token": "</s>" }));
    for text in [plain(), both] {
        for answer in [" a cat", " a cat</s>", " a cat </s>\n", " a cat</s></s>"] {
            let answered = text.encode_completion("what", answer, &[]).unwrap();
            assert_eq!(answered, TokenizedCompletion::new(vec![1, 4, 6, 5, 2], 2), "{answer:?}");
            assert_eq!((answered.prompt(), answered.answer()), (&[1, 4][..], &[6, 5, 2][..]));
        }
        let error = text.encode_completion("what", " a</s> cat", &[]).unwrap_err();
        assert!(matches!(&error, ProcessorError::EosInAnswer { token } if token == "</s>"), "{error}");
        for empty in ["", " ", "</s>", " </s> </s>"] {
            let error = text.encode_completion("what", empty, &[]).unwrap_err();
            assert!(matches!(error, ProcessorError::EmptyAnswer), "{empty:?}: {error}");
        }
    }
    // an earlier turn may end with EOS
    assert_eq!(plain().encode_completion("what a</s>what", " cat", &[]).unwrap().ids, [1, 4, 6, 2, 4, 5, 2]);
}

#[test]
fn the_image_token_is_expanded_wherever_it_is() {
    let text = plain();
    assert_eq!(text.encode_prompt("<image> what", &[&layout(3)]).unwrap(), [1, 3, 3, 3, 4]);
    assert_eq!(text.encode_prompt("what <image>", &[&layout(2)]).unwrap(), [1, 4, 3, 3]);
    assert_eq!(
        text.encode_completion("what <image>", "a", &[&layout(2)]).unwrap(),
        TokenizedCompletion::new(vec![1, 4, 3, 3, 6, 2], 4)
    );
    // several images, each with its own number of tokens
    assert_eq!(
        text.encode_prompt("<image> what <image>", &[&layout(1), &layout(2)]).unwrap(),
        [1, 3, 4, 3, 3]
    );
    let two = layout(2);
    for (prompt, images, counts) in [
        ("what", &[&two][..], (1, 0)),
        ("<image> <image>", &[&two], (1, 2)),
        ("<image>", &[], (0, 1)),
        ("<image>", &[&two, &two], (2, 1)),
    ] {
        let error = text.encode_prompt(prompt, images).unwrap_err();
        assert!(
            matches!(error, ProcessorError::ImageTokens { expected, found } if (expected, found) == counts),
            "{prompt:?}: {error}"
        );
    }
    assert!(matches!(
        text.encode_completion("<image>", "a <image>", &[&layout(2)]),
        Err(ProcessorError::ImageTokens { .. })
    ));
}

#[test]
fn the_answer_begins_where_the_ids_part() {
    // the answer changes the last token of the prompt, which then belongs to the answer
    assert_eq!(
        plain().encode_completion("what cat", "fish", &[]).unwrap(),
        TokenizedCompletion::new(vec![1, 4, 9, 2], 2)
    );
}

#[test]
fn unicode_goes_there_and_back() {
    let text = plain();
    let answered = text.encode_completion("é", " 猫 é", &[]).unwrap();
    assert_eq!(answered.ids, [1, 7, 8, 7, 2]);
    assert_eq!(text.decode(answered.answer(), true).unwrap(), "猫 é");
    assert_eq!(text.decode(answered.answer(), false).unwrap(), "猫 é </s>");
}

#[test]
fn an_image_has_the_tokens_of_its_layout() {
    let answered = plain().encode_completion("what <image>", "a cat", &[&layout(4)]).unwrap();
    assert_eq!(answered.ids, [1, 4, 3, 3, 3, 3, 6, 5, 2]);
    assert_eq!(answered.answer_start, 6);
}

#[test]
fn special_tokens_are_found_in_every_place() {
    let files = |more: &[(&str, Value)]| dir(&[&[("tokenizer.json", tokenizer(Value::Null))], more].concat());
    let ids = json!({ "text_config": { "bos_token_id": 1, "eos_token_id": 2 }, "image_token_index": 3 });
    let texts = json!({ "bos_token": "<s>", "eos_token": "</s>" });
    let many = json!({ "bos_token_id": 1, "eos_token_id": [2, 9] });
    for (name, value) in [
        ("config.json", ids.clone()),
        ("tokenizer_config.json", texts.clone()),
        ("special_tokens_map.json", texts),
        ("generation_config.json", many),
    ] {
        let text = TextProcessor::from_dir(files(&[(name, value)]).path()).unwrap();
        let special = text.special();
        assert_eq!(
            (special.bos.as_ref().unwrap().id, special.eos.id, special.image.as_ref().unwrap().id),
            (1, 2, 3),
            "{name}"
        );
        assert_eq!(special.eos.text, "</s>");
        let stop: &[u32] = if name == "generation_config.json" { &[2, 9] } else { &[2] };
        assert_eq!(text.special().stop, stop, "{name}");
    }
    let none = files(&[]);
    let error = TextProcessor::from_dir(none.path()).unwrap_err();
    assert!(matches!(error, ProcessorError::NoToken { token: "end", .. }), "{error}");
    let with_image_token = |id: u32| {
        let mut config = ids.clone();
        config["image_token_index"] = id.into();
        TextProcessor::from_dir(files(&[("config.json", config)]).path())
    };
    let error = with_image_token(77).unwrap_err();
    assert!(matches!(error, ProcessorError::NoToken { token: "image", .. }), "{error}");
    // a piece of ordinary text is one only where the tokenizer says so
    let error = with_image_token(8).unwrap_err();
    assert!(matches!(&error, ProcessorError::NoToken { token: "image", .. }), "{error}");
    let mut config = ids.clone();
    config["image_token_index"] = 8.into();
    let named = json!({ "image_token": "猫" });
    let text =
        TextProcessor::from_dir(files(&[("config.json", config), ("tokenizer_config.json", named)]).path())
            .unwrap();
    assert_eq!(text.encode_prompt("what <image>", &[&ImageLayout::plain(8, 2)]).unwrap(), [4, 8, 8]);
}

#[test]
fn a_missing_or_broken_tokenizer_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let error = TextProcessor::from_dir(empty.path()).unwrap_err();
    assert!(error.to_string().contains("AutoTokenizer.from_pretrained"), "{error}");
    let broken = dir(&[("tokenizer.json", json!({ "model": 3 }))]);
    let error = TextProcessor::from_dir(broken.path()).unwrap_err();
    assert!(
        matches!(&error, ProcessorError::Tokenizer { path, .. } if path.ends_with("tokenizer.json")),
        "{error}"
    );
}

/// Paths of all values of a JSON tree, as JSON pointers.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let children: Vec<_> = match value {
        Value::Object(map) => map.iter().map(|(key, child)| (key.clone(), child)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(i, child)| (i.to_string(), child)).collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        let pointer = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        pointers(child, &pointer, found);
        found.push(pointer);
    }
}

/// A tokenizer with parts whose broken forms make the tokenizers crate panic.
fn fragile() -> Value {
    let mut json = tokenizer(template(true));
    json["normalizer"] = json!({ "type": "Sequence", "normalizers": [
        { "type": "Replace", "pattern": { "Regex": "a+" }, "content": "a" },
        { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
          "lowercase": true },
    ] });
    json["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [
        { "type": "Split", "pattern": { "Regex": " " }, "behavior": "Isolated", "invert": false },
        { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
    ] });
    json["decoder"] = json!({ "type": "Sequence", "decoders": [
        { "type": "BPEDecoder", "suffix": "a" },
        { "type": "Strip", "content": " ", "start": 1, "stop": 1 },
    ] });
    json["model"] = json!({ "type": "BPE", "dropout": null, "unk_token": "<unk>",
        "continuing_subword_prefix": "##", "end_of_word_suffix": "</w>", "fuse_unk": true, "byte_fallback": true,
        "ignore_merges": false, "merges": ["a ##b"],
        "vocab": { "<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 3, "a": 4, "##b": 5, "ab": 6 } });
    json
}

/// Loads a tokenizer, encodes and decodes.
fn try_all(json: &Value) -> Result<(), ProcessorError> {
    let dir =
        dir(&[("tokenizer.json", json.clone()), ("tokenizer_config.json", json!({ "eos_token": "</s>" }))]);
    let processor = TextProcessor::from_dir(dir.path())?;
    for text in ["a", "a \u{e9} b<image>\n</s>", ""] {
        let image = layout(1);
        let images = if text.contains("<image>") { vec![&image] } else { Vec::new() };
        processor.decode(&processor.encode_prompt(text, &images)?, false)?;
    }
    processor.decode(&[0, 1, 5, 6, 400_000], true).map(drop)
}

#[test]
fn a_broken_tokenizer_is_an_error() {
    try_all(&fragile()).unwrap();
    let mut found = Vec::new();
    pointers(&fragile(), "", &mut found);
    let mut errors = 0;
    for pointer in found {
        for value in [json!({}), json!([]), json!(""), json!("\u{e9}"), json!(4_000_000_000_u64), Value::Null]
        {
            let mut broken = fragile();
            *broken.pointer_mut(&pointer).unwrap() = value;
            errors += usize::from(try_all(&broken).is_err());
        }
    }
    assert!(errors > 100, "{errors}");
    let mut broken = fragile();
    broken["post_processor"]["special_tokens"] = json!({});
    let error = try_all(&broken).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json: `post_processor.special_tokens`"), "{error}");
    assert!(error.contains("the special token \"<s>\""), "{error}");
}

#[test]
fn ids_are_those_of_the_tokenizers_crate() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny-llava");
    let of = |json: Value| {
        let files = [("tokenizer.json", json), ("tokenizer_config.json", json!({ "eos_token": "</s>" }))];
        TextProcessor::from_dir(dir(&files).path()).unwrap()
    };
    let processors = [
        TextProcessor::from_dir(golden).unwrap(),
        of(fragile()),
        of(tokenizer(template(true))),
        of(tokenizer(Value::Null)),
    ];
    for (at, processor) in processors.iter().enumerate() {
        for text in [
            "",
            " ",
            "a",
            "USER: <image>\nWhat is this? ASSISTANT: A cat on a mat.</s>",
            "<s><s> what <image><image>  is\n\n\u{e9}\u{4f60}\u{1f600}</s> ",
            &"ab what is this, ".repeat(500),
        ] {
            let encoding = processor.tokenizer.encode_fast(text, false).unwrap();
            assert_eq!(bare_ids(&processor.tokenizer, text).unwrap(), encoding.get_ids(), "{at}: {text:?}");
        }
    }
    let mut repeated = tokenizer(template(true));
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    repeated["post_processor"]["single"] = json!([text, text]);
    let error = try_all(&repeated).unwrap_err();
    assert!(matches!(error, ProcessorError::Tokenize { .. }), "{error}");
}

#[test]
fn a_million_end_tokens_are_an_error() {
    let ids: Vec<u32> = (0..1_000_000).collect();
    for (file, config) in [
        ("generation_config.json", json!({ "eos_token_id": ids })),
        ("config.json", json!({ "text_config": { "eos_token_id": ids } })),
    ] {
        let dir = dir(&[("tokenizer.json", tokenizer(template(false))), (file, config)]);
        let error = TextProcessor::from_dir(dir.path()).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains("at most 10000 ids"), "{error}");
    }
}
