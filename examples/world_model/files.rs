//! Writes the files of a Hugging Face checkpoint except its weights.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Sides of an image and of a patch, in pixels.
pub const IMAGE: usize = 64;
pub const PATCH: usize = 8;
/// Width of the vision tower.
pub const VISION: usize = 96;

const SPECIAL: [&str; 5] = ["<unk>", "<s>", "</s>", "<pad>", "<image>"];

/// Writes all files; `words` is the vocabulary of the texts, punctuation included.
pub fn write(dir: &Path, words: &[&str]) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    let vocabulary = vocabulary(words);
    for (name, value) in [
        ("config.json", config(vocabulary.len())),
        ("tokenizer.json", tokenizer(&vocabulary)),
        ("tokenizer_config.json", tokenizer_config()),
        ("preprocessor_config.json", preprocessor()),
        ("generation_config.json", json!({ "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3 })),
    ] {
        fs::write(dir.join(name), serde_json::to_string_pretty(&value)? + "\n")?;
    }
    // llava-hf's template without the space before an image, which would be a token of its own
    let template = "{% for message in messages %}{% set texts = message['content'] | selectattr('type', 'equalto', \
        'text') | map(attribute='text') | join %}{% if message['role'] == 'user' %}{% set images = message['content'] \
        | selectattr('type', 'equalto', 'image') | list %}{{ 'USER:' + ('<image>' if images else '') + ' ' + texts }}\
        {% else %}{{ ' ASSISTANT: ' + texts + eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}\
        {{ ' ASSISTANT:' }}{% endif %}";
    fs::write(dir.join("chat_template.jinja"), template)?;
    Ok(())
}

/// Special tokens, then every word with its leading space (written as `▁`), then punctuation.
fn vocabulary(words: &[&str]) -> Vec<String> {
    let is_word = |word: &&&str| word.starts_with(|c: char| c.is_alphanumeric());
    let mut all: Vec<String> = SPECIAL.map(str::to_owned).to_vec();
    all.extend(["USER", ":", "▁ASSISTANT"].map(str::to_owned));
    all.extend(words.iter().filter(is_word).map(|word| format!("▁{word}")));
    all.extend(words.iter().filter(|word| !is_word(word)).map(|sign| (*sign).to_owned()));
    all
}

fn tokenizer(vocabulary: &[String]) -> Value {
    let ids: serde_json::Map<String, Value> =
        vocabulary.iter().enumerate().map(|(id, word)| (word.clone(), id.into())).collect();
    let special: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        })
        .collect();
    let metaspace = |scheme: &str| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": special,
        "normalizer": { "type": "Replace", "pattern": { "String": "\n" }, "content": " " },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            metaspace("never"), { "type": "Punctuation", "behavior": "Isolated" } ] },
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                     { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } } },
        "decoder": metaspace("always"),
        "model": { "type": "WordLevel", "vocab": ids, "unk_token": "<unk>" },
    })
}

fn tokenizer_config() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 256,
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
        "image_token": "<image>", "clean_up_tokenization_spaces": false, "padding_side": "left",
    })
}

fn preprocessor() -> Value {
    json!({
        "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": true,
        "do_resize": true, "size": { "shortest_edge": IMAGE }, "resample": 3,
        "do_center_crop": true, "crop_size": { "height": IMAGE, "width": IMAGE },
        "do_rescale": true, "rescale_factor": 1.0 / 255.0, "do_normalize": true,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    })
}

fn config(vocabulary: usize) -> Value {
    json!({
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "dtype": "float16",
        "image_token_index": 4, "image_seq_length": (IMAGE / PATCH).pow(2),
        "projector_hidden_act": "gelu", "multimodal_projector_bias": true,
        "vision_feature_layer": -1, "vision_feature_select_strategy": "default", "tie_word_embeddings": true,
        "vision_config": {
            "model_type": "clip_vision_model", "hidden_size": VISION, "intermediate_size": 4 * VISION,
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_channels": 3, "image_size": IMAGE,
            "patch_size": PATCH, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": VISION,
        },
        "text_config": {
            "model_type": "llama", "hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "hidden_act": "silu",
            "vocab_size": vocabulary, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, "tie_word_embeddings": true,
        },
    })
}
