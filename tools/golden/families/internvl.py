"""Golden cases of InternVL: python internvl.py [NAME ...]

  internvl          the tower of the models up to 14B (layer norms, biases), Qwen2 with `dynamic` rotary positions; up to 6
                    tiles and a thumbnail
  internvl_qk_norm  the tower of the larger models (RMS norms, norms of queries and keys, no biases) with a norm behind its
                    last layer; Qwen3 with a tied head; up to 4 tiles
"""

import sys

import torch
from family import SEED, added_tokens, byte_level, draw, write_case
from transformers import AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% elif part['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
VISION = {
    "architectures": ["InternVisionModel"], "attention_dropout": 0.0, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
    "hidden_size": 16, "initializer_factor": 0.1, "intermediate_size": 24, "layer_norm_eps": 1e-06,
    "layer_scale_init_value": 0.1, "model_type": "internvl_vision", "num_attention_heads": 2, "num_channels": 3,
    "num_hidden_layers": 3, "projection_dropout": 0.0, "use_absolute_position_embeddings": True, "use_mask_token": False,
}
TEXT = {
    "hidden_act": "silu", "hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 8192,
    "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0, "vocab_size": 352,
}
IMAGES = {
    "crop_size": None, "crop_to_patches": False, "data_format": "channels_first", "do_center_crop": None,
    "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406], "image_processor_type": "GotOcr2ImageProcessorFast",
    "image_std": [0.229, 0.224, 0.225], "min_patches": 1, "processor_class": "InternVLProcessor", "resample": 3,
    "rescale_factor": 0.00392156862745098, "return_tensors": None,
}


def published(name):
    """The name that a weight of transformers 5 has in OpenGVLab's files."""
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    name = name.removeprefix("model.")
    return name.replace("language_model.", "language_model.model.", 1)


@torch.no_grad()
def drawn(config):
    """A model whose layer scales are large enough that each layer counts."""
    model = draw(AutoModelForImageTextToText.from_config(CONFIG_MAPPING["internvl"].from_dict(dict(config))))
    rng = torch.Generator().manual_seed(SEED + 2)
    for name, parameter in model.named_parameters():
        if "lambda_" in name:
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.1 + 0.5)
    return model


def case(name, side, patch, most, vision, text, tied):
    tok = byte_level(320, SPECIALS)
    begin, _, end, _, _, image, _ = [tok.token_to_id(token) for token in SPECIALS]
    size = {"height": side, "width": side}
    config = {
        "architectures": ["InternVLForConditionalGeneration"], "downsample_ratio": 0.5,
        "image_seq_length": (side // patch // 2) ** 2, "image_token_id": image, "model_type": "internvl", "projector_hidden_act": "gelu", "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default", "tie_word_embeddings": tied,
        "text_config": {**TEXT, **text, "bos_token_id": begin, "eos_token_id": end, "tie_word_embeddings": tied},
        "vision_config": {**VISION, **vision, "image_size": [side, side], "patch_size": [patch, patch]},
    }
    files = {
        "preprocessor_config.json": {**IMAGES, "max_patches": most, "size": size},
        "processor_config.json": {"image_seq_length": config["image_seq_length"], "processor_class": "InternVLProcessor"},
        "video_preprocessor_config.json": {
            **IMAGES, "image_processor_type": None, "size": size, "video_processor_type": "InternVLVideoProcessor",
        },
        "chat_template.jinja": TEMPLATE,
        "generation_config.json": {"bos_token_id": begin, "eos_token_id": end},
        "tokenizer_config.json": {
            "added_tokens_decoder": added_tokens(tok), "additional_special_tokens": SPECIALS[3:6], "bos_token": None,
            "clean_up_tokenization_spaces": False, "context_image_token": "<IMG_CONTEXT>", "end_image_token": "</img>",
            "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "processor_class": "InternVLProcessor",
            "start_image_token": "<img>", "tokenizer_class": "Qwen2Tokenizer", "video_token": "<video>",
            "extra_special_tokens": {
                "context_image_token": "<IMG_CONTEXT>", "end_image_token": "</img>", "start_image_token": "<img>",
                "video_token": "<video>",
            },
        },
    }
    write_case(name, drawn(config), config, files, tok, published, adapter=ADAPTER)


# all linears, and the projector in full
ADAPTER = {
    "target_modules": r".*(language_model|encoder).*\.(q_proj|k_proj|v_proj|o_proj|projection_layer|fc1|fc2|up_proj|down_proj)",
    "modules_to_save": ["multi_modal_projector"],
}


def internvl():
    vision = {"attention_bias": True, "norm_type": "layer_norm", "use_mean_pooling": True, "use_qk_norm": False}
    text = {"max_window_layers": 3, "model_type": "qwen2", "sliding_window": None, "use_sliding_window": False}
    text["rope_scaling"] = {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"}
    case("internvl", 28, 7, 6, vision, text, tied=False)


def internvl_qk_norm():
    vision = {"attention_bias": False, "norm_type": "rms_norm", "use_mean_pooling": False, "use_qk_norm": True}
    text = {"attention_bias": False, "head_dim": 8, "model_type": "qwen3"}
    case("internvl_qk_norm", 44, 11, 4, vision, text, tied=True)


if __name__ == "__main__":
    for make in (internvl, internvl_qk_norm):
        if not sys.argv[1:] or make.__name__ in sys.argv[1:]:
            make()
