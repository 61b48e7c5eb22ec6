"""Golden cases of Qwen-VL: python qwen_vl.py [NAME ...]

  qwen2_vl    keys of the language model at the top level of config.json, tied head
  qwen2_5_vl  windows of four image tokens, one layer with full attention, a head of its own
  qwen3_vl    a table of positions, features of two depths, interleaved rotary sections
"""

import re
import sys

import torch
from family import QWEN2, added_tokens, byte_level, draw, write_case
from transformers import AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SPECIALS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",
    "<|video_pad|>",
]
# in the form of the published template
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def text(tok):
    return {
        "bos_token_id": tok.token_to_id(SPECIALS[0]), "eos_token_id": tok.token_to_id(SPECIALS[2]), "hidden_act": "silu",
        "hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 2048, "max_window_layers": 28,
        "num_attention_heads": 2, "num_hidden_layers": 3, "num_key_value_heads": 1, "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_section": [1, 2, 1], "type": "mrope"}, "rope_theta": 1000000.0, "sliding_window": 32768,
        "use_sliding_window": False, "vocab_size": 352,
    }


def ids(tok):
    keys = ["vision_start_token_id", "vision_end_token_id", "vision_token_id", "image_token_id", "video_token_id"]
    return {key: tok.token_to_id(token) for key, token in zip(keys, SPECIALS[3:])}


def image_plane(inputs):
    """The pixels of a still image, `[3, height, width]`, from its patches."""
    _, rows, columns = inputs["image_grid_thw"][0].tolist()
    pixels = inputs["pixel_values"]
    side = int((pixels.shape[1] // 6) ** 0.5)
    pixels = pixels.reshape(rows // 2, columns // 2, 2, 2, 3, 2, side, side)
    assert pixels[..., 0, :, :].equal(pixels[..., 1, :, :])
    return pixels[..., 0, :, :].permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * side, columns * side)


def case(name, config, images, files, rename):
    tok = byte_level(320, SPECIALS, QWEN2)
    config = {**config(tok), **ids(tok), "transformers_version": "4.41.2"}
    files = {
        "preprocessor_config.json": {
            "do_convert_rgb": True, "merge_size": 2, "processor_class": "Qwen2VLProcessor", "temporal_patch_size": 2, **images,
        },
        "chat_template.json": {"chat_template": TEMPLATE},
        "generation_config.json": {
            "bos_token_id": tok.token_to_id(SPECIALS[0]), "eos_token_id": [tok.token_to_id(SPECIALS[2]), tok.token_to_id(SPECIALS[0])],
        },
        "tokenizer_config.json": {
            "added_tokens_decoder": added_tokens(tok), "additional_special_tokens": SPECIALS[1:], "bos_token": None,
            "chat_template": TEMPLATE, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>", "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
        },
        **files,
    }
    model = AutoModelForImageTextToText.from_config(CONFIG_MAPPING[config["model_type"]].from_dict(dict(config)))
    write_case(name, draw(model), config, files, tok, rename, pixels=image_plane)


def published(name):
    """The name of a weight of Qwen2-VL and Qwen2.5-VL in the published files."""
    return re.sub(r"^model\.visual\.", "visual.", re.sub(r"^model\.language_model\.", "model.", name))


PIXELS_2 = {
    "image_mean": CLIP_MEAN, "image_processor_type": "Qwen2VLImageProcessor", "image_std": CLIP_STD, "max_pixels": 25088,
    "min_pixels": 3136, "patch_size": 14,
}


def qwen2_vl():
    vision = {
        "depth": 2, "embed_dim": 16, "hidden_size": 16, "in_chans": 3, "mlp_ratio": 2, "num_heads": 2, "patch_size": 14,
        "spatial_merge_size": 2, "spatial_patch_size": 14, "temporal_patch_size": 2,
    }
    config = lambda tok: {
        "architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl", **text(tok), "tie_word_embeddings": True,
        "vision_config": vision,
    }
    case("qwen2_vl", config, PIXELS_2, {}, published)


def qwen2_5_vl():
    vision = {
        "depth": 3, "fullatt_block_indexes": [1], "hidden_act": "silu", "hidden_size": 16, "in_chans": 3, "intermediate_size": 24,
        "num_heads": 2, "out_hidden_size": 16, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14,
        "temporal_patch_size": 2, "tokens_per_second": 2, "window_size": 56,
    }
    config = lambda tok: {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", **text(tok),
        "tie_word_embeddings": False, "vision_config": vision,
    }
    case("qwen2_5_vl", config, PIXELS_2, {}, published)


def qwen3_vl():
    vision = {
        "deepstack_visual_indexes": [0, 2], "depth": 3, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 16, "in_channels": 3,
        "intermediate_size": 24, "model_type": "qwen3_vl", "num_heads": 2, "num_position_embeddings": 25,
        "out_hidden_size": 16, "patch_size": 8, "spatial_merge_size": 2, "temporal_patch_size": 2,
    }

    def config(tok):
        inner = {key: value for key, value in text(tok).items() if "window" not in key}
        inner |= {
            "attention_bias": False, "head_dim": 12, "model_type": "qwen3_vl_text", "num_attention_heads": 4,
            "num_key_value_heads": 2, "rope_scaling": {"mrope_interleaved": True, "mrope_section": [2, 2, 2], "rope_type": "default"},
            "rope_theta": 5000000, "tie_word_embeddings": True,
        }
        return {
            "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "text_config": inner,
            "tie_word_embeddings": True, "vision_config": vision,
        }

    pixels = {
        "image_mean": [0.5] * 3, "image_processor_type": "Qwen2VLImageProcessorFast", "image_std": [0.5] * 3, "patch_size": 8,
        "processor_class": "Qwen3VLProcessor", "size": {"longest_edge": 8192, "shortest_edge": 1024},
    }
    files = {"video_preprocessor_config.json": {**pixels, "merge_size": 2, "temporal_patch_size": 2, "video_processor_type": "Qwen3VLVideoProcessor"}}
    case("qwen3_vl", config, pixels, files, lambda name: name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for make in (qwen2_vl, qwen2_5_vl, qwen3_vl):
        if not sys.argv[1:] or make.__name__ in sys.argv[1:]:
            make()
