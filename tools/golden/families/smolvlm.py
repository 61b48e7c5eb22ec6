"""Golden cases of Idefics3 and SmolVLM: python smolvlm.py [NAME ...]

  smolvlm           Idefics3's class with the keys of SmolVLM's files: as many patches as positions; the marks of tiles are
                    tokens; images of up to 3 x 3 tiles
  smolvlm2          SmolVLM's class: a tied head; tiles of 8 x 8 patches over 5 x 5 positions
  idefics3          the marks of tiles are plain text; images are not split

SmolVLM's processor needs the package num2words.
"""

import sys

from family import added_tokens, byte_level, draw, write_case
from transformers import AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
MARKS = ["<global-img>"] + [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
TEXT = {
    "architectures": ["VLlama3ForCausalLM"], "hidden_size": 16, "intermediate_size": 24, "is_llama_config": True,
    "max_position_embeddings": 8192, "model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 3,
    "num_key_value_heads": 2, "pixel_shuffle_factor": 4, "qk_layer_norms": False, "rms_norm_eps": 1e-05,
    "rope_interleaved": False, "rope_theta": 100000, "use_resampler": False, "vocab_size": 352,
}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}


def case(name, model_type, vision, scale, tile, edge, marks=(), tied=False, split=True):
    tok = byte_level(320, [*SPECIALS, *marks])
    ids = dict(zip(("unk", "bos", "pad", "around", "image", "end"), map(tok.token_to_id, SPECIALS)))
    idefics3 = model_type == "idefics3"
    kind = "Idefics3" if idefics3 else "SmolVLM"
    config = {
        "architectures": [f"{kind}ForConditionalGeneration"], "image_token_id": ids["image"], "model_type": model_type,
        "scale_factor": scale, "tie_word_embeddings": tied, "vocab_size": TEXT["vocab_size"],
        "text_config": {**TEXT, "bos_token_id": ids["bos"], "eos_token_id": ids["pad"], "pad_token_id": ids["pad"]},
        "vision_config": {
            **VISION, **vision, "max_image_size": {"longest_edge": tile}, "size": {"longest_edge": edge},
            "model_type": "idefics3" if idefics3 else "smolvlm_vision", "use_base_siglip": False,
        },
    }
    files = {
        "preprocessor_config.json": {
            "do_convert_rgb": True, "do_image_splitting": split, "do_normalize": True, "do_pad": True, "do_rescale": True,
            "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_processor_type": f"{kind}ImageProcessor",
            "image_std": [0.5, 0.5, 0.5], "max_image_size": {"longest_edge": tile}, "processor_class": f"{kind}Processor",
            "resample": 1, "rescale_factor": 0.00392156862745098, "size": {"longest_edge": edge},
        },
        "processor_config.json": {
            "image_seq_len": (tile // vision["patch_size"] // scale) ** 2, "processor_class": f"{kind}Processor",
        },
        "chat_template.json": {"chat_template": TEMPLATE},
        "generation_config.json": {
            "bos_token_id": ids["bos"], "eos_token_id": ids["end"], "pad_token_id": ids["pad"],
        },
        "tokenizer_config.json": {
            "added_tokens_decoder": added_tokens(tok), "additional_special_tokens": SPECIALS[3:], "bos_token": SPECIALS[1],
            "clean_up_tokenization_spaces": False, "eos_token": SPECIALS[5], "pad_token": SPECIALS[2],
            "processor_class": f"{kind}Processor", "tokenizer_class": "GPT2Tokenizer", "unk_token": SPECIALS[0],
        },
    }
    model = draw(AutoModelForImageTextToText.from_config(CONFIG_MAPPING[model_type].from_dict(config)))
    write_case(name, model, config, files, tok, lambda weight: weight)


def smolvlm():
    case("smolvlm", "idefics3", {"image_size": 48, "patch_size": 8}, scale=3, tile=48, edge=144, marks=MARKS)


def smolvlm2():
    vision = {"image_size": 35, "patch_size": 7}
    case("smolvlm2", "smolvlm", vision, scale=2, tile=56, edge=112, marks=MARKS, tied=True)


def idefics3():
    case("idefics3", "idefics3", {"image_size": 50, "patch_size": 10}, scale=2, tile=64, edge=100, split=False)


if __name__ == "__main__":
    for make in (smolvlm, smolvlm2, idefics3):
        if not sys.argv[1:] or make.__name__ in sys.argv[1:]:
            make()
