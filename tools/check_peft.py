"""Compares `bpo score` and `bpo merge` with transformers and PEFT, for a checkpoint of any supported family.

    bpo score --model DIR --adapter ADAPTER --pairs FILE --images DIR > scores.jsonl
    python tools/check_peft.py --model DIR --adapter ADAPTER --pairs FILE --images DIR --scores scores.jsonl

Loads the checkpoint with transformers and the adapter with PEFT, computes the summed log-probabilities of every pair's
answers (end token included) and exits with 1 if any differs by more than --tolerance nats. --merged DIR compares a
directory written by `bpo merge` as well: every weight must have the bits of PEFT's `merge_and_unload`, in the type of the
checkpoint. Without --scores only the weights are compared.

Needs torch, transformers and peft (tools/requirements.txt), and num2words for SmolVLM.
"""

import argparse
import json
import sys
from pathlib import Path

import jinja2
import torch
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging

IMAGE = "<image>"


class Reference:
    """transformers' processor with the Pillow backend, and a model."""

    def __init__(self, directory, model):
        self.processor = AutoProcessor.from_pretrained(directory)
        self.processor.image_processor = AutoImageProcessor.from_pretrained(directory, backend="pil")
        self.model = model
        self.strings = False

    def message(self, role, text, images=0):
        text = text.replace(IMAGE, "").strip()
        if self.strings:
            return {"role": role, "content": f"{IMAGE}\n" * images + text}
        return {"role": role, "content": [{"type": "image"}] * images + [{"type": "text", "text": text}]}

    def render(self, pair, answer=None):
        messages, images = [], len(names(pair))
        for turn in pair.get("history", []):
            messages += [self.message("user", turn["prompt"], images), self.message("assistant", turn["answer"])]
            images = 0
        messages.append(self.message("user", pair["prompt"], images))
        if answer is not None:
            messages.append(self.message("assistant", answer))
        holder = self.processor if self.processor.chat_template else self.processor.tokenizer
        return holder.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer is None)

    def texts(self, pair, answer):
        """The conversation as text: up to the answer, and including it."""
        try:
            self.strings |= "{'type'" in self.render(pair)
        except jinja2.TemplateError:
            self.strings = True
        prompt, full, end = self.render(pair), self.render(pair, answer), self.processor.tokenizer.eos_token
        if not full.startswith(prompt):
            full = prompt + full[full.rindex(answer) - 1 :]
        return prompt, full.rstrip().removesuffix(end).rstrip() + end

    def inputs(self, text, images):
        inputs = self.processor(images=[images] if images else None, text=[text], return_tensors="pt")
        bos = self.processor.tokenizer.bos_token_id
        # the template and the tokenizer both wrote it
        if bos is not None and inputs["input_ids"][0, :2].tolist() == [bos, bos]:
            for key in ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"):
                if key in inputs:
                    inputs[key] = inputs[key][:, 1:]
        return inputs

    @torch.no_grad()
    def summed_logp(self, pair, answer, root):
        images = [ImageOps.exif_transpose(Image.open(root / name)).convert("RGB") for name in names(pair)]
        prompt, full = (self.inputs(text, images) for text in self.texts(pair, answer))
        ids, start = full["input_ids"][0], prompt["input_ids"].shape[1]
        assert ids[:start].equal(prompt["input_ids"][0]), "the answer does not continue the tokens of the prompt"
        logits = self.model(**full, use_cache=False).logits[0, start - 1 : -1].double()
        return torch.log_softmax(logits, -1).gather(-1, ids[start:, None]).sum().item()


def names(pair):
    return pair.get("images") or [name for name in [pair.get("image")] if name]


def adapted(directory, adapter):
    """The model in a directory with an adapter of PEFT, in float32."""
    from peft import PeftModel

    model = AutoModelForImageTextToText.from_pretrained(directory, dtype=torch.float32).eval()
    return PeftModel.from_pretrained(model, adapter).eval() if adapter else model


def check_scores(reference, pairs, root, scores, tolerance):
    """The largest difference in nats, and the number of answers."""
    scores = {row["id"]: row for row in map(json.loads, scores.read_text().splitlines())}
    worst, checked = 0.0, 0
    for pair in map(json.loads, pairs.read_text().splitlines()):
        # `bpo score` leaves out pairs that do not fit the model
        if pair["id"] not in scores:
            continue
        for side in ("chosen", "rejected"):
            expected, found = reference.summed_logp(pair, pair[side], root), scores[pair["id"]][f"{side}_logp"]
            worst, checked = max(worst, abs(expected - found)), checked + 1
            if abs(expected - found) > tolerance:
                print(f"{pair['id']} {side}: bpo {found}, transformers {expected}")
    return worst, checked


@torch.no_grad()
def check_merged(model, merged):
    """The number of weights that differ from those of `bpo merge`, and of all weights."""
    expected = model.merge_and_unload().state_dict()
    found = AutoModelForImageTextToText.from_pretrained(merged, dtype=torch.float32).state_dict()
    assert expected.keys() == found.keys(), expected.keys() ^ found.keys()
    different = [name for name in expected if not expected[name].equal(found[name])]
    for name in different:
        print(f"{name}: differs by {(expected[name] - found[name]).abs().max().item():.1e}")
    return len(different), len(expected)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True, type=Path)
    for name in ("adapter", "pairs", "images", "scores", "merged"):
        ap.add_argument(f"--{name}", type=Path)
    ap.add_argument("--tolerance", type=float, default=1e-3)
    args = ap.parse_args()
    if args.merged and not args.adapter or args.scores and not (args.pairs and args.images):
        ap.error("--merged needs --adapter, and --scores needs --pairs and --images")
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    reference, failed = Reference(args.model, adapted(args.model, args.adapter)), not (args.scores or args.merged)
    if args.scores:
        worst, checked = check_scores(reference, args.pairs, args.images, args.scores, args.tolerance)
        print(f"{checked} answers, largest difference {worst:.2e} nats")
        failed |= worst > args.tolerance or checked == 0
    if args.merged:
        different, count = check_merged(reference.model, args.merged)
        print(f"{count} weights, {different} differ from PEFT's")
        failed |= different > 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
