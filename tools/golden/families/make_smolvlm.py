"""Small random checkpoints of Idefics3 and SmolVLM2.

    python make_smolvlm.py OUT_DIR [--seed 0]

OUT_DIR/smolvlm is an Idefics3ForConditionalGeneration with the files of the published SmolVLM checkpoints: tiles have as
many patches as there are positions, and `<global-img>` and the marks of rows and columns are tokens.
OUT_DIR/smolvlm2 is a SmolVLMForConditionalGeneration as transformers 5 saves it: tiles have more patches than positions,
the embedding is the head, and the marks are plain text, as with Idefics3-8B's tokenizer.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

import sys

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import quiet
from make_llava import corpus

PIECES = 320
TEMPLATE = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}{% if m['content'][0]['type'] == 'image' %}{{ ':' }}"
    "{% else %}{{ ': ' }}{% endif %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}"
    "{% elif c['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
# (vision: width, layers, heads, inner, side, patch), (text: width, layers, heads, key-value heads, inner), scale, tile, edge
SIZES = {
    "smolvlm": ((24, 2, 3, 40, 48, 8), (32, 2, 4, 2, 48), 3, 48, 144),
    "smolvlm2": ((24, 3, 2, 32, 35, 7), (24, 2, 3, 1, 40), 2, 56, 112),
}


def tokenizer(marks):
    """A byte-level BPE. `marks`: how many rows and columns have tokens of their own."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tok.train_from_iterator(
        corpus(0), trainers.BpeTrainer(vocab_size=PIECES, show_progress=False, special_tokens=[], initial_alphabet=alphabet)
    )
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    if marks:
        special += ["<global-img>"] + [f"<row_{r}_col_{c}>" for r in range(1, marks + 1) for c in range(1, marks + 1)]
    tok.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    return tok


def config(name, tok):
    (vw, vl, vh, vi, side, patch), (w, l, h, kv, i), scale, tile, edge = SIZES[name]
    ids = {key: tok.token_to_id(text) for key, text in (("bos", "<|im_start|>"), ("eos", "<|im_end|>"))}
    vocab = -(-tok.get_vocab_size() // 16) * 16
    return {
        "image_token_id": tok.token_to_id("<image>"),
        "scale_factor": scale,
        "tie_word_embeddings": name == "smolvlm2",
        "vision_config": {
            "hidden_size": vw, "num_hidden_layers": vl, "num_attention_heads": vh, "intermediate_size": vi,
            "image_size": side, "patch_size": patch, "max_image_size": {"longest_edge": tile}, "size": {"longest_edge": edge},
        },
        "text_config": {
            "model_type": "llama", "hidden_size": w, "num_hidden_layers": l, "num_attention_heads": h,
            "num_key_value_heads": kv, "intermediate_size": i, "vocab_size": vocab, "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5, "rope_theta": 100000, "bos_token_id": ids["bos"], "eos_token_id": ids["eos"],
            "pad_token_id": ids["eos"], "is_llama_config": True, "qk_layer_norms": False, "use_resampler": False,
        },
    }


@torch.no_grad()
def draw(model, seed):
    """Draws every parameter, biases and norms too, so that a loader that misses one is caught."""
    rng = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        value = torch.randn(p.shape, generator=rng)
        if p.ndim == 1:
            p.copy_(value * 0.1 + 1.0 if "norm" in name and name.endswith("weight") else value * 0.02)
        elif "embed" in name and "patch" not in name:
            p.copy_(value * 0.3)
        else:
            p.copy_(value / p[0].numel() ** 0.5)
    return model.eval()


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def make(out, name, seed):
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    is_first = name == "smolvlm"
    tok = tokenizer(3 if is_first else 0)
    values = config(name, tok)
    scale, tile, edge = SIZES[name][2:]
    tokens = (tile // SIZES[name][0][5] // scale) ** 2
    image_processor = {
        "do_convert_rgb": True, "do_image_splitting": True, "do_normalize": True, "do_pad": True, "do_rescale": True,
        "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 1,
        "rescale_factor": 1 / 255, "max_image_size": {"longest_edge": tile}, "size": {"longest_edge": edge},
        "image_processor_type": "Idefics3ImageProcessor" if is_first else "SmolVLMImageProcessor",
    }
    kinds = (Idefics3Config, Idefics3ForConditionalGeneration) if is_first else (SmolVLMConfig, SmolVLMForConditionalGeneration)
    model = draw(kinds[1](kinds[0](**json.loads(json.dumps(values)))), seed)
    model.save_pretrained(out)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tok, bos_token="<|im_start|>", eos_token="<end_of_utterance>", pad_token="<|im_end|>",
        unk_token="<|endoftext|>", model_max_length=2048, padding_side="left", clean_up_tokenization_spaces=False,
        additional_special_tokens=["<fake_token_around_image>", "<image>", "<end_of_utterance>"],
    )
    fast.save_pretrained(out)
    kind = "Idefics3Processor" if is_first else "SmolVLMProcessor"
    if is_first:
        # as published: few keys, and a file for each part
        values |= {"architectures": ["Idefics3ForConditionalGeneration"], "model_type": "idefics3", "torch_dtype": "float32"}
        values["vision_config"]["model_type"] = "idefics3"
        write_json(out / "config.json", values)
        write_json(out / "preprocessor_config.json", image_processor)
        write_json(out / "processor_config.json", {"image_seq_len": tokens, "processor_class": kind})
        write_json(out / "chat_template.json", {"chat_template": TEMPLATE})
    else:
        write_json(
            out / "processor_config.json",
            {"image_processor": image_processor, "image_seq_len": tokens, "processor_class": kind},
        )
        (out / "chat_template.jinja").write_text(TEMPLATE)
    write_json(out / "generation_config.json", {
        "bos_token_id": tok.token_to_id("<|im_start|>"), "eos_token_id": tok.token_to_id("<end_of_utterance>"),
        "pad_token_id": tok.token_to_id("<|im_end|>"),
    })
    for path in sorted(out.iterdir()):
        path.chmod(0o644)
        print(path.name, path.stat().st_size)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("out", type=Path)
    ap.add_argument("--seed", type=int, default=0)
    args = ap.parse_args()
    quiet()
    for name in SIZES:
        make(args.out / name, name, args.seed)


if __name__ == "__main__":
    main()
