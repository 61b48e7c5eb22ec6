"""Golden cases of the families whose images are split into tiles: python llava_next.py [NAME ...]

  llava_next       CLIP and Mistral; tiles of the default shapes
  llava_onevision  SigLIP, whose side is no multiple of the patch, and Qwen2; features of more than two tiles are resized
"""

import sys

from family import QWEN2, added_tokens, byte_level, write_case
from llava import CHATML, CLIP, CLIP_IMAGES, SIGLIP, SIGLIP_IMAGES, TEXT, VICUNA, build, published
from make_llava import make_tokenizer


def resolutions(side, tiles):
    return [[side * rows, side * columns] for rows, columns in tiles]


def llava_next():
    side, vocab = 28, 384
    tok = make_tokenizer(vocab).backend_tokenizer
    pinpoints = resolutions(side, [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)])
    config = {
        "architectures": ["LlavaNextForConditionalGeneration"], "image_grid_pinpoints": pinpoints,
        "image_token_index": tok.token_to_id("<image>"), "model_type": "llava_next",
        "text_config": {**TEXT, "model_type": "mistral", "sliding_window": None, "vocab_size": vocab},
        "vision_config": {**CLIP, "image_size": side, "patch_size": 7}, "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }
    files = {
        "preprocessor_config.json": {
            **CLIP_IMAGES, "aspect_ratio_setting": "anyres", "crop_size": {"height": side, "width": side}, "do_pad": True,
            "image_grid_pinpoints": pinpoints, "image_processor_type": "LlavaNextImageProcessor",
            "size": {"shortest_edge": side},
        },
        "processor_config.json": {
            "image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": 7,
            "processor_class": "LlavaNextProcessor", "vision_feature_select_strategy": "default",
        },
        "chat_template.json": {"chat_template": VICUNA},
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2},
        "tokenizer_config.json": {
            "add_bos_token": True, "added_tokens_decoder": added_tokens(tok), "bos_token": "<s>", "eos_token": "</s>",
            "pad_token": "<pad>", "processor_class": "LlavaNextProcessor", "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>", "clean_up_tokenization_spaces": False,
        },
    }
    write_case("llava_next", build(config), config, files, tok, published)


def llava_onevision():
    side, patch = 30, 7
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
    tok = byte_level(320, specials, QWEN2)
    begin, _, end, image, video = [tok.token_to_id(token) for token in specials]
    pinpoints = resolutions(side, [(rows, columns) for rows in range(1, 4) for columns in range(1, 4)])
    config = {
        "architectures": ["LlavaOnevisionForConditionalGeneration"], "image_grid_pinpoints": pinpoints,
        "image_token_index": image, "model_type": "llava_onevision",
        "text_config": {
            **TEXT, "bos_token_id": begin, "eos_token_id": end, "model_type": "qwen2", "rope_theta": 1000000.0,
            "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 352,
        },
        "video_token_index": video, "vision_aspect_ratio": "anyres_max_2",
        "vision_config": {**SIGLIP, "image_size": side, "patch_size": patch},
    }
    files = {
        "preprocessor_config.json": {
            **SIGLIP_IMAGES, "do_pad": True, "image_grid_pinpoints": pinpoints,
            "image_processor_type": "LlavaOnevisionImageProcessor", "size": {"height": side, "width": side},
        },
        "processor_config.json": {
            "image_token": "<image>", "num_image_tokens": (side // patch) ** 2,
            "processor_class": "LlavaOnevisionProcessor", "video_token": "<video>",
            "vision_aspect_ratio": "anyres_max_2", "vision_feature_select_strategy": "full",
        },
        "video_preprocessor_config.json": {
            **SIGLIP_IMAGES, "image_processor_type": None, "video_processor_type": "LlavaOnevisionVideoProcessor",
            "size": {"height": side, "width": side},
        },
        "chat_template.json": {"chat_template": CHATML},
        "generation_config.json": {"bos_token_id": begin, "eos_token_id": end},
        "tokenizer_config.json": {
            "added_tokens_decoder": added_tokens(tok), "bos_token": None, "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>", "processor_class": "LlavaOnevisionProcessor",
            "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
        },
    }
    write_case("llava_onevision", build(config), config, files, tok, published)


if __name__ == "__main__":
    for case in (llava_next, llava_onevision):
        if not sys.argv[1:] or case.__name__ in sys.argv[1:]:
            case()
