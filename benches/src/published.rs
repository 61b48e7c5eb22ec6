//! Checkpoints of random weights with the files of published ones, which bpo and transformers load.

use std::path::Path;

use bpo::burn::tensor::{Device, FloatDType};
use bpo::model::{LoadOptions, Vlm, VlmConfig};
use serde_json::{Map, Value, json};

use crate::shape::Preset;

/// Number of tokens that stand for a byte.
const BYTES: usize = 256;
/// Rows and columns of the tiles that SmolVLM's tokenizer has marks for.
const GRID: usize = 6;

/// Tokens of SmolVLM: unknown, begin, padding, around images, image, end.
const SMOLVLM_TOKENS: [&str; 7] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
    "<global-img>",
];
const SMOLVLM_TEMPLATE: &str = "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}\
    {% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}\
    {% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}\
    {% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}\
    {% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";

/// Tokens of Qwen2.5-VL: padding, begin and end of a message, around images, image, video.
const QWEN_TOKENS: [&str; 8] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
];
const QWEN_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}\
    {% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
    {% if part['type'] == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}\
    {% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The files of a checkpoint beside its weights.
struct Files {
    config: Value,
    preprocessor: Value,
    /// `processor_config.json`, in families that have it.
    processor: Option<Value>,
    template: &'static str,
    /// Tokens behind those of bytes.
    tokens: Vec<String>,
    tokenizer: Value,
    generation: Value,
}

/// Writes a checkpoint of random weights in bf16. With `splitting`, SmolVLM's processor splits
/// images into tiles, as that of the published checkpoint does.
///
/// The tokenizer has a token for each byte and those that the family needs. The embedding has as many
/// rows as the published one.
///
/// # Panics
/// Panics for a preset of LLaVA, and if the files cannot be written.
pub fn write(preset: Preset, splitting: bool, dir: &Path) {
    let files = match preset {
        Preset::SmolVlm256m => smolvlm(splitting),
        Preset::Qwen25Vl => qwen(),
        _ => panic!("{preset:?} needs no files"),
    };
    let template = json!({ "chat_template": files.template });
    let mut tokenizer = files.tokenizer;
    let added: Map<String, Value> = added(&files.tokens).map(|(id, token)| (id.to_string(), token)).collect();
    tokenizer["added_tokens_decoder"] = added.into();
    tokenizer["clean_up_tokenization_spaces"] = false.into();
    for (name, value) in [
        ("config.json", &files.config),
        ("preprocessor_config.json", &files.preprocessor),
        ("processor_config.json", files.processor.as_ref().unwrap_or(&Value::Null)),
        ("chat_template.json", &template),
        ("generation_config.json", &files.generation),
        ("tokenizer_config.json", &tokenizer),
        ("tokenizer.json", &byte_tokenizer(&files.tokens)),
    ] {
        if !value.is_null() {
            std::fs::write(dir.join(name), value.to_string()).expect("written");
        }
    }
    let config = VlmConfig::from_dir(dir).expect("a valid configuration");
    let options = LoadOptions::default().with_dtype(FloatDType::BF16);
    let model = Vlm::random_of_device(config, 0, &options, &Device::flex());
    model.save_weights(&dir.join("model.safetensors"), FloatDType::BF16).expect("written");
}

/// Returns the id of a token.
fn id_of(tokens: &[String], token: &str) -> usize {
    BYTES + tokens.iter().position(|own| own == token).expect("a token of the family")
}

fn smolvlm(splitting: bool) -> Files {
    let marks = (1..=GRID).flat_map(|row| (1..=GRID).map(move |column| format!("<row_{row}_col_{column}>")));
    let tokens: Vec<_> = SMOLVLM_TOKENS.map(str::to_owned).into_iter().chain(marks).collect();
    let id = |token: &str| id_of(&tokens, token);
    let (pad, begin, end) = (id("<|im_end|>"), id("<|im_start|>"), id("<end_of_utterance>"));
    Files {
        config: json!({
            "architectures": ["Idefics3ForConditionalGeneration"], "model_type": "idefics3",
            "image_token_id": id("<image>"), "scale_factor": 4, "tie_word_embeddings": false,
            "vocab_size": 49280, "pad_token_id": pad,
            "text_config": {
                "architectures": ["VLlama3ForCausalLM"], "model_type": "llama", "hidden_size": 576,
                "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
                "num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 8192,
                "rms_norm_eps": 1e-5, "rope_theta": 100_000, "vocab_size": 49280,
                "tie_word_embeddings": false, "bos_token_id": begin, "eos_token_id": pad, "pad_token_id": pad,
            },
            "vision_config": {
                "model_type": "idefics3", "hidden_size": 768, "intermediate_size": 3072,
                "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
                "max_image_size": { "longest_edge": 512 }, "size": { "longest_edge": 2048 },
                "use_base_siglip": false,
            },
        }),
        preprocessor: json!({
            "image_processor_type": "Idefics3ImageProcessor", "processor_class": "Idefics3Processor",
            "do_convert_rgb": true, "do_image_splitting": splitting, "do_normalize": true, "do_pad": true,
            "do_rescale": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            "max_image_size": { "longest_edge": 512 }, "size": { "longest_edge": 2048 }, "resample": 1,
            "rescale_factor": 1.0 / 255.0,
        }),
        processor: Some(json!({ "image_seq_len": 64, "processor_class": "Idefics3Processor" })),
        template: SMOLVLM_TEMPLATE,
        tokenizer: json!({
            "tokenizer_class": "GPT2Tokenizer", "processor_class": "Idefics3Processor",
            "additional_special_tokens": ["<fake_token_around_image>", "<image>", "<end_of_utterance>"],
            "bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
        }),
        generation: json!({ "bos_token_id": begin, "eos_token_id": end, "pad_token_id": pad }),
        tokens,
    }
}

fn qwen() -> Files {
    let tokens: Vec<_> = QWEN_TOKENS.map(str::to_owned).to_vec();
    let id = |token: &str| id_of(&tokens, token);
    let (pad, end) = (id("<|endoftext|>"), id("<|im_end|>"));
    Files {
        config: json!({
            "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
            "bos_token_id": pad, "eos_token_id": end, "hidden_act": "silu", "hidden_size": 2048,
            "intermediate_size": 11008, "max_position_embeddings": 128_000, "max_window_layers": 70,
            "num_attention_heads": 16, "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
            "rope_scaling": { "mrope_section": [16, 24, 24], "type": "mrope" }, "rope_theta": 1_000_000.0,
            "sliding_window": 32768, "use_sliding_window": false, "tie_word_embeddings": true,
            "vocab_size": 151_936,
            "vision_start_token_id": id("<|vision_start|>"), "vision_end_token_id": id("<|vision_end|>"),
            "vision_token_id": id("<|vision_pad|>"), "image_token_id": id("<|image_pad|>"),
            "video_token_id": id("<|video_pad|>"),
            "vision_config": {
                "depth": 2, "fullatt_block_indexes": [1], "hidden_act": "silu", "hidden_size": 1280,
                "in_chans": 3, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048,
                "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14, "temporal_patch_size": 2,
                "tokens_per_second": 2, "window_size": 112,
            },
        }),
        preprocessor: json!({
            "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor",
            "do_convert_rgb": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711], "max_pixels": 12_845_056, "min_pixels": 3136,
            "merge_size": 2, "patch_size": 14, "temporal_patch_size": 2,
        }),
        processor: None,
        template: QWEN_TEMPLATE,
        tokenizer: json!({
            "tokenizer_class": "Qwen2Tokenizer", "additional_special_tokens": &tokens[1..], "bos_token": null,
            "chat_template": QWEN_TEMPLATE, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
            "unk_token": null,
        }),
        generation: json!({ "bos_token_id": pad, "eos_token_id": [end, pad] }),
        tokens,
    }
}

/// Returns id and entry of each token behind those of bytes.
fn added(tokens: &[String]) -> impl Iterator<Item = (usize, Value)> {
    (BYTES..).zip(tokens).map(|(id, token)| {
        let entry = json!({
            "content": token, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
            "special": true,
        });
        (id, entry)
    })
}

/// Returns a `tokenizer.json` of byte-level BPE without merges: a token for each byte.
fn byte_tokenizer(tokens: &[String]) -> Value {
    // bytes without a printable character have those from 256 on
    let mut others = 256..;
    let character = |byte: u32| match byte {
        33..=126 | 161..=172 | 174..=255 => Some(byte),
        _ => others.next(),
    };
    let characters: Vec<_> = (0..BYTES as u32).filter_map(character).collect();
    let entry =
        |(id, code): (usize, u32)| (char::from_u32(code).expect("a character").to_string(), Value::from(id));
    let vocab: Map<String, Value> = characters.into_iter().enumerate().map(entry).collect();
    let with_id = |(id, mut token): (usize, Value)| {
        token["id"] = id.into();
        token
    };
    let level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": added(tokens).map(with_id).collect::<Vec<_>>(),
        "pre_tokenizer": level, "decoder": level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [],
        },
    })
}
