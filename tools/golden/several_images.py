"""Prompts with several images and with none, in transformers in float32 on the CPU.

    python several_images.py MODEL_DIR TRANSFORMERS_DIR OUT_FILE

TRANSFORMERS_DIR is what golden.py wrote for the checkpoint; its clean pixel values are the images. OUT_FILE gets, for each
case, the images by number, the ids of prompt and answers, the log-probability of each answer in nats (computed in float64)
and greedy ids (end token ignored).
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from common import quiet

CASES = [
    {"images": [0, 1], "prompt": "USER: <image>\n<image>\nWhich of the two shows a dog? ASSISTANT:"},
    {"images": [1, 0, 1], "prompt": "USER: <image> and <image>\nthen <image>\nWhat is the same? ASSISTANT:"},
    {"images": [1], "prompt": "USER: <image>\nDescribe the street in detail. ASSISTANT:"},
    {"images": [], "prompt": "USER: What is a dog? ASSISTANT:"},
]
ANSWERS = [" The first image shows a red dog.</s>", " There is one bus.</s>"]
NEW_TOKENS = 16


@torch.no_grad()
def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("model")
    ap.add_argument("transformers")
    ap.add_argument("out")
    args = ap.parse_args()

    quiet()
    tokenizer = AutoProcessor.from_pretrained(args.model).tokenizer
    model = LlavaForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32).eval()
    pixels = load_file(Path(args.transformers) / "golden.safetensors")["clean.pixel_values"]
    image_token = tokenizer.convert_ids_to_tokens(model.config.image_token_id)
    tokens = image_token * model.config.image_seq_length

    def inputs(case, ids, dtype):
        images = {"pixel_values": pixels[case["images"]].to(dtype)} if case["images"] else {}
        return {"input_ids": torch.tensor([ids]), **images}

    for case in CASES:
        encode = lambda text: tokenizer(text.replace("<image>", tokens))["input_ids"]
        case["prompt_ids"] = prompt = encode(case["prompt"])
        case["answers"] = [encode(case["prompt"] + answer) for answer in ANSWERS]
        assert all(ids[: len(prompt)] == prompt for ids in case["answers"])
        generated = model.generate(
            **inputs(case, prompt, torch.float32), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=None,
        )
        case["greedy_ids"] = generated[0, len(prompt) :].tolist()

    model.double()
    for case in CASES:
        case["logps"] = []
        for ids in case["answers"]:
            logits = model(**inputs(case, ids, torch.float64), use_cache=False).logits[0].double()
            start = len(case["prompt_ids"])
            logps = torch.log_softmax(logits[start - 1 : -1], -1)
            case["logps"].append(logps.gather(-1, torch.tensor(ids[start:])[:, None]).sum().item())

    lines = ",\n".join(json.dumps(case) for case in CASES)
    Path(args.out).write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
