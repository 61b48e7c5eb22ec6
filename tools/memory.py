"""Counts the parameters of published models, without their weights: python tools/memory.py [NAME ...]

Prints the parameters and their size in bfloat16. The dimensions are those of the published config.json. Needs torch and
transformers (tools/requirements.txt)."""

import sys

import torch
from transformers import AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
}
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26,
    "num_attention_heads": 16, "image_size": 384, "patch_size": 14, "vision_use_head": False,
}
VICUNA_7B = {"model_type": "llama", "vocab_size": 32064}
VICUNA_13B = {
    **VICUNA_7B, "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40,
    "num_key_value_heads": 40,
}
LLAMA_3_8B = {"model_type": "llama", "intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128320}
MISTRAL_7B = {"model_type": "mistral", "vocab_size": 32064}
QWEN_05B = {
    "model_type": "qwen2", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 24,
    "num_attention_heads": 16, "num_key_value_heads": 16, "tie_word_embeddings": True, "vocab_size": 152000,
}
QWEN_7B = {"model_type": "qwen2", "intermediate_size": 11008, "vocab_size": 152000}
QWEN2_05B = {
    **QWEN_05B, "hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2,
}
QWEN2_7B = {
    **QWEN_7B, "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_hidden_layers": 28,
    "num_key_value_heads": 4, "vocab_size": 152128,
}
YI_34B = {
    "model_type": "llama", "hidden_size": 7168, "intermediate_size": 20480, "num_hidden_layers": 60,
    "num_attention_heads": 56, "num_key_value_heads": 8, "vocab_size": 64064,
}

# the language models of InternVL3 are those of Qwen2.5
INTERNVL_1B, INTERNVL_8B = ({**text, "tie_word_embeddings": False, "vocab_size": 151674} for text in (QWEN2_05B, QWEN2_7B))
INTERNVL_2B = {
    **INTERNVL_1B, "hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_hidden_layers": 28,
}


def internvl(text):
    # the vision tower has the dimensions of the defaults
    vision = {"attention_bias": True, "model_type": "internvl_vision"}
    return {"model_type": "internvl", "text_config": text, "tie_word_embeddings": False, "vision_config": vision}


def llava(text, vision=CLIP, **settings):
    return {"model_type": "llava", "text_config": text, "vision_config": vision, **settings}


MODELS = {
    "llava-hf/llava-1.5-7b-hf": llava(VICUNA_7B),
    "llava-hf/llava-1.5-13b-hf": llava(VICUNA_13B),
    "llava-hf/bakLlava-v1-hf": llava(MISTRAL_7B),
    "llava-hf/llava-interleave-qwen-0.5b-hf": llava(QWEN_05B, SIGLIP),
    "llava-hf/llava-interleave-qwen-7b-hf": llava(QWEN_7B, SIGLIP),
    "xtuner/llava-llama-3-8b-v1_1-transformers": llava(LLAMA_3_8B),
    "fancyfeast/llama-joycaption-beta-one-hf-llava": llava(LLAMA_3_8B, {**SIGLIP, "num_hidden_layers": 27}),
    "FreedomIntelligence/HuatuoGPT-Vision-34B-hf": llava(YI_34B),
    "llava-hf/vip-llava-7b-hf": {**llava(VICUNA_7B), "model_type": "vipllava"},
    "llava-hf/llava-v1.6-mistral-7b-hf": llava(MISTRAL_7B, model_type="llava_next"),
    "llava-hf/llava-v1.6-vicuna-7b-hf": llava(VICUNA_7B, model_type="llava_next"),
    "llava-hf/llava-v1.6-vicuna-13b-hf": llava(VICUNA_13B, model_type="llava_next"),
    "llava-hf/llava-v1.6-34b-hf": llava(YI_34B, model_type="llava_next"),
    "llava-hf/llama3-llava-next-8b-hf": llava(LLAMA_3_8B, model_type="llava_next"),
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": llava(QWEN2_05B, SIGLIP, model_type="llava_onevision"),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": llava(QWEN2_7B, SIGLIP, model_type="llava_onevision"),
    "OpenGVLab/InternVL3-1B-hf": internvl(INTERNVL_1B),
    "OpenGVLab/InternVL3-2B-hf": internvl(INTERNVL_2B),
    "OpenGVLab/InternVL3-8B-hf": internvl(INTERNVL_8B),
}

for name, settings in MODELS.items():
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(CONFIG_MAPPING[settings["model_type"]].from_dict(dict(settings)))
    model.tie_weights()
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{name}: {count / 1e9:.2f} billion parameters, {2 * count / 1e9:.1f} GB in bfloat16")
