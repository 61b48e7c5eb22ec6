"""Trains on the Parquet and JSON lines that `bpo convert` writes, with the `datasets` library and TRL.

    python tools/check_parquet.py --bpo target/debug/bpo --model crates/bpo-model/tests/golden/tiny-llava

Converts a few pairs about the example photographs to TRL's format: to Parquet with the bytes of the images, to Parquet
with paths, and to JSON lines. `load_dataset` must give images and messages, and DPOTrainer must take a step on each.
Exits with 1 if anything differs. Needs torch, transformers, datasets and trl.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import datasets
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
from trl import DPOConfig, DPOTrainer

PAIRS = [
    ("cat.jpg", "What is in the picture?", "A tabby cat — ü 🐈.", "A dog on a sofa."),
    ("coffee.jpg", "What is on the table?", "A red cup of espresso.", "A red cup and a croissant."),
    ("rocket.jpg", "Describe the image.", "A white rocket on a launch pad.", "A rocket and two aircraft."),
]


def write_pairs(path):
    with open(path, "w") as file:
        for number, (image, question, chosen, rejected) in enumerate(PAIRS):
            pair = {
                "id": str(number), "images": [image], "prompt": f"<image>\n{question}", "chosen": chosen,
                "rejected": rejected, "kind": "llm-hal", "margin": 1.0,
            }
            file.write(json.dumps(pair) + "\n")


def check(data):
    assert len(data) == len(PAIRS)
    for row, (name, question, chosen, rejected) in zip(data, PAIRS):
        (image,) = row["images"]
        assert image.convert("RGB").size == Image.open(name).size
        (message,) = row["prompt"]
        kinds = [part["type"] for part in message["content"]]
        assert message["role"] == "user" and kinds == ["image", "text"]
        assert message["content"][1]["text"] == question
        for key, text in (("chosen", chosen), ("rejected", rejected)):
            assert row[key][0]["role"] == "assistant" and row[key][0]["content"][0]["text"] == text


def step(data, model_dir, work):
    args = DPOConfig(
        output_dir=work, per_device_train_batch_size=len(PAIRS), max_steps=1, logging_steps=1, save_strategy="no",
        use_cpu=True, report_to=[], disable_tqdm=True, max_length=None, gradient_checkpointing=False, bf16=False,
    )
    model = LlavaForConditionalGeneration.from_pretrained(model_dir, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(model_dir)
    trainer = DPOTrainer(model=model, args=args, train_dataset=data, processing_class=processor)
    trainer.train()
    row = trainer.state.log_history[0]
    return [row[key] for key in ("loss", "logps/chosen", "logps/rejected")]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--bpo", required=True)
    ap.add_argument("--model", required=True)
    ap.add_argument("--images", default="examples/data/photos")
    args = ap.parse_args()
    model, bpo, images = (str(Path(path).resolve()) for path in (args.model, args.bpo, args.images))
    datasets.disable_progress_bars()
    # paths of images are relative to the image root
    os.chdir(images)
    steps = {}
    with tempfile.TemporaryDirectory() as work:
        write_pairs(f"{work}/pairs.jsonl")
        for name, flags in (
            ("bytes.parquet", ["--images", images]), ("paths.parquet", []), ("lines.jsonl", []), ("list.json.gz", []),
        ):
            out = f"{work}/{name}"
            subprocess.run([bpo, "convert", f"{work}/pairs.jsonl", out, "--to", "trl", *flags], check=True)
            kind = "parquet" if name.endswith(".parquet") else "json"
            data = datasets.load_dataset(kind, data_files=out, split="train", cache_dir=f"{work}/cache")
            if kind == "json":
                data = data.cast_column("images", datasets.List(datasets.Image()))
            check(data)
            steps[name] = [round(value, 3) for value in step(data, model, work)]
            print(f"{name}: loss and log-probabilities {steps[name]}")
    assert len(set(map(tuple, steps.values()))) == 1, steps


main()
