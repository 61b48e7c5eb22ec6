"""Compares `bpo score` with transformers and PEFT.

    bpo score --model DIR --adapter ADAPTER --pairs FILE --images DIR > scores.jsonl
    python tools/check_peft.py --model DIR --adapter ADAPTER --pairs FILE --images DIR --scores scores.jsonl

Loads the checkpoint with transformers and the adapter with PEFT, computes the summed log-probabilities of every pair's
answers (end token included) and exits with 1 if any differs by more than --tolerance nats. --merged DIR does the same
with a directory written by `bpo merge`, without PEFT.

Needs torch, transformers and peft (tools/requirements.txt).
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, AutoTokenizer, LlavaForConditionalGeneration
from transformers.utils import logging

IMAGE = "<image>"


def render(tokenizer, template, pair, answer):
    """Returns the conversation as text: up to the answer, and including it."""
    messages, image = [], True
    for turn in pair.get("history", []):
        messages += [user(turn["prompt"], image), assistant(turn["answer"])]
        image = False
    messages.append(user(pair["prompt"], image))
    prompt = tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=True
    )
    full = tokenizer.apply_chat_template(messages + [assistant(answer)], chat_template=template, tokenize=False)
    assert full.startswith(prompt), "the template puts something between the prompt and the answer"
    return prompt, full.rstrip().removesuffix(tokenizer.eos_token) + tokenizer.eos_token


def user(text, image):
    parts = [{"type": "image"}] if image else []
    return {"role": "user", "content": parts + [{"type": "text", "text": text.replace(IMAGE, "").strip()}]}


def assistant(text):
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def token_ids(tokenizer, text, image_tokens):
    ids = tokenizer(text)["input_ids"]
    bos = tokenizer.bos_token_id
    if ids[:2] == [bos, bos]:  # the template and the tokenizer both wrote it
        ids = ids[1:]
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    return [i for token in ids for i in ([token] * (image_tokens if token == image else 1))]


@torch.no_grad()
def summed_logp(model, pixels, prompt, full):
    start = next((i for i, (a, b) in enumerate(zip(prompt, full)) if a != b), min(len(prompt), len(full)))
    ids = torch.tensor([full_finetune])
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels).logits[0, :-1].double()
    logps = torch.log_softmax(logits, -1).gather(-1, ids[0, 1:, None])[:, 0]
    return logps[start - 1 :].sum().item()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "pairs", "images", "scores"):
        ap.add_argument(f"--{name}", required=True, type=Path)
    ap.add_argument("--adapter", type=Path)
    ap.add_argument("--merged", type=Path)
    ap.add_argument("--tolerance", type=float, default=1e-3)
    args = ap.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    directory = args.merged or args.model
    tokenizer = AutoTokenizer.from_pretrained(directory)
    template = (directory / "chat_template.jinja").read_text()
    images = AutoImageProcessor.from_pretrained(directory, backend="pil")
    model = LlavaForConditionalGeneration.from_pretrained(directory, dtype=torch.float32).eval()
    if args.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, args.adapter).eval()
    scores = {row["id"]: row for row in map(json.loads, args.scores.read_text().splitlines())}

    worst, checked = 0.0, 0
    for pair in map(json.loads, args.pairs.read_text().splitlines()):
        image = ImageOps.exif_transpose(Image.open(args.images / pair["image"])).convert("RGB")
        pixels = images([image], return_tensors="pt")["pixel_values"]
        for side in ("chosen", "rejected"):
            prompt, full = (
                token_ids(tokenizer, text, model.config.image_seq_length)
                for text in render(tokenizer, template, pair, pair[side])
            )
            expected, found = summed_logp(model, pixels, prompt, full), scores[pair["id"]][f"{side}_logp"]
            worst, checked = max(worst, abs(expected - found)), checked + 1
            if abs(expected - found) > args.tolerance:
                print(f"{pair['id']} {side}: bpo {found}, transformers {expected}")
    print(f"{checked} answers, largest difference {worst:.2e} nats")
    sys.exit(worst > args.tolerance or checked == 0)


if __name__ == "__main__":
    main()
