"""Golden cases of LLaVA's class: python llava.py [NAME ...]

  bakllava          CLIP and Mistral with a sliding window that is shorter than the sequences
  llava_interleave  SigLIP (last layer, all tokens) and Qwen2 with a tied head and a sliding window in its last layer;
                    ChatML
  joycaption        SigLIP and Llama 3 with its own image token and two end tokens; strings in the template
  vipllava          five hidden states of CLIP, a layer norm before the projector
"""

import re
import sys

from family import LLAMA3, QWEN2, added_tokens, byte_level, draw, write_case
from make_llava import make_tokenizer
from transformers import AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SIDE, PATCH = 42, 14
VISION = {
    "hidden_size": 16, "image_size": SIDE, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 3,
    "patch_size": PATCH,
}
CLIP = {**VISION, "model_type": "clip_vision_model", "projection_dim": 16}
SIGLIP = {**VISION, "model_type": "siglip_vision_model", "vision_use_head": False}
TEXT = {
    "hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 2048, "num_attention_heads": 4,
    "num_hidden_layers": 3, "num_key_value_heads": 2,
}
CLIP_IMAGES = {
    "crop_size": {"height": SIDE, "width": SIDE}, "do_center_crop": True, "do_normalize": True, "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": {"shortest_edge": SIDE},
}
SIGLIP_IMAGES = {
    "do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5], "resample": 3,
    "rescale_factor": 0.00392156862745098, "size": {"height": SIDE, "width": SIDE},
}
# each in the form of a published template
VICUNA = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\\n' + part['text'] }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
)
LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


# all linears that run, and the projector in full
ADAPTER = {
    "target_modules": r".*(language_model|encoder).*\.(q_proj|k_proj|v_proj|o_proj|out_proj|fc1|fc2|up_proj|down_proj)",
    "modules_to_save": ["multi_modal_projector"],
}


def published(name):
    """The name that a weight of transformers 5 has in llava-hf's files."""
    name = re.sub(r"^model\.", "", name)
    name = re.sub(r"^vision_tower\.", "vision_tower.vision_model.", name)
    name = re.sub(r"^language_model\.", "language_model.model.", name)
    return re.sub(r"^lm_head\.", "language_model.lm_head.", name)


def build(config):
    return draw(AutoModelForImageTextToText.from_config(CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))))


def processor(strategy, additional, image_token="<image>"):
    return {
        "image_token": image_token, "num_additional_image_tokens": additional, "patch_size": PATCH,
        "processor_class": "LlavaProcessor", "vision_feature_select_strategy": strategy,
    }


def llama2(name, config, template):
    """A case with Llama 2's tokenizer."""
    vocab = 384
    tok = make_tokenizer(vocab).backend_tokenizer
    config = {**config, "image_token_index": tok.token_to_id("<image>"), "pad_token_id": tok.token_to_id("<pad>")}
    config["text_config"] = {**config["text_config"], "vocab_size": vocab}
    files = {
        "preprocessor_config.json": CLIP_IMAGES,
        "processor_config.json": processor("default", 1),
        "chat_template.json": {"chat_template": template},
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2},
        "tokenizer_config.json": {
            "add_bos_token": True, "added_tokens_decoder": added_tokens(tok), "bos_token": "<s>", "eos_token": "</s>",
            "pad_token": "<pad>", "processor_class": "LlavaProcessor", "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>", "clean_up_tokenization_spaces": False,
        },
    }
    write_case(name, build(config), config, files, tok, published, adapter=ADAPTER)


def bakllava():
    text = {**TEXT, "model_type": "mistral", "rms_norm_eps": 1e-05, "sliding_window": 17}
    llama2("bakllava", {
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "text_config": text,
        "vision_config": CLIP, "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
    }, VICUNA)


def vipllava():
    llama2("vipllava", {
        "architectures": ["VipLlavaForConditionalGeneration"], "model_type": "vipllava",
        "projector_layernorm_eps": 1e-05, "text_config": {**TEXT, "model_type": "llama"}, "vision_config": CLIP,
        "vision_feature_layers": [-2, -3, -4, 1, 2],
    }, VICUNA)


def llava_interleave():
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"]
    tok = byte_level(320, specials, QWEN2)
    text = {
        **TEXT, "bos_token_id": tok.token_to_id(specials[0]), "eos_token_id": tok.token_to_id(specials[2]),
        "max_window_layers": 2, "model_type": "qwen2", "rope_theta": 1000000.0, "sliding_window": 21,
        "tie_word_embeddings": True, "use_sliding_window": True, "vocab_size": 352,
    }
    config = {
        "architectures": ["LlavaForConditionalGeneration"], "image_token_index": tok.token_to_id("<image>"),
        "model_type": "llava", "text_config": text, "vision_config": SIGLIP, "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    }
    files = {
        "preprocessor_config.json": SIGLIP_IMAGES,
        "processor_config.json": processor("full", 0),
        "chat_template.json": {"chat_template": CHATML},
        "generation_config.json": {"bos_token_id": text["bos_token_id"], "eos_token_id": text["eos_token_id"]},
        "tokenizer_config.json": {
            "added_tokens_decoder": added_tokens(tok), "bos_token": None, "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>", "processor_class": "LlavaProcessor", "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
        },
    }
    write_case("llava_interleave", build(config), config, files, tok, published, adapter=ADAPTER)


def joycaption():
    specials = [
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
        "<|reserved_special_token_69|>", "<|finetune_right_pad_id|>",
    ]
    tok = byte_level(320, specials, LLAMA3, bos=specials[0])
    ids = [tok.token_to_id(token) for token in specials]
    image = specials[5]
    text = {
        **TEXT, "bos_token_id": ids[0], "eos_token_id": [ids[1], ids[4]], "model_type": "llama", "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 32,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0, "vocab_size": 352,
    }
    config = {
        "architectures": ["LlavaForConditionalGeneration"], "image_token_index": ids[5], "model_type": "llava",
        "text_config": text, "vision_config": {**SIGLIP, "vision_use_head": True}, "vision_feature_layer": -2,
        "vision_feature_select_strategy": "full",
    }
    template = LLAMA3_TEMPLATE.replace("message['content'] |", f"message['content'].replace('<image>', '{image}') |")
    files = {
        "preprocessor_config.json": SIGLIP_IMAGES,
        "processor_config.json": processor("full", 0, image),
        "generation_config.json": {"bos_token_id": ids[0], "eos_token_id": [ids[1], ids[4]]},
        "tokenizer_config.json": {
            "added_tokens_decoder": added_tokens(tok), "bos_token": specials[0], "chat_template": template,
            "clean_up_tokenization_spaces": False, "eos_token": "<|eot_id|>", "pad_token": specials[6],
            "processor_class": "LlavaProcessor", "tokenizer_class": "PreTrainedTokenizerFast",
        },
    }
    write_case("joycaption", build(config), config, files, tok, published, adapter=ADAPTER)


if __name__ == "__main__":
    for case in (bakllava, llava_interleave, joycaption, vipllava):
        if not sys.argv[1:] or case.__name__ in sys.argv[1:]:
            case()
