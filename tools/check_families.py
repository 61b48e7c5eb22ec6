"""Checks adapters and merged weights of `bpo` on the golden checkpoint of each family, with transformers and PEFT.

    python tools/check_families.py --bpo target/debug/bpo [CASE ...]

For each case of crates/bpo-model/tests/families (or BPO_FAMILIES), `bpo run` trains an adapter and the projector on its
photographs. PEFT loads the adapter, and must give the log-probabilities of `bpo score` to 1e-3 nats. `bpo merge` must
give the bits of PEFT's `merge_and_unload` in float32: of this adapter, and of the case's own, which PEFT wrote. Exits with
1 if any differs. Needs what check_peft.py needs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from check_peft import Reference, adapted, check_merged, check_scores
from transformers.utils import logging

FAMILIES = Path(os.environ.get("BPO_FAMILIES", Path(__file__).parents[1] / "crates/bpo-model/tests/families"))
SETTINGS = "--max-steps 4 --batch-size 2 --lora-r 3 --lora-alpha 6 --learning-rate 5e-2 --max-new-tokens 6".split()
# question, answer, number of images
RECORDS = [
    ("What is on the table?", "A red cup and two blue plates.", 1),
    ("Is <image> or <image> a dog?", "The second image shows a dog.", 2),
    ("What colour is the car?", "The car is green.", 1),
]


def call(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def train(bpo, model, out):
    """Trains, and returns the directory of the run."""
    photos = sorted(path.name for path in (FAMILIES / "photos").iterdir())
    records = []
    for number, (question, answer, count) in enumerate(RECORDS):
        images = [photos[(number + place) % len(photos)] for place in range(count)]
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        records.append({"id": str(number), "images": images, "messages": messages})
    (out / "data.json").write_text(json.dumps(records))
    images = FAMILIES / "photos"
    call(bpo, "run", "--model", model, "--data", out / "data.json", "--images", images, "--out", out / "run", *SETTINGS)
    return out / "run"


def check(bpo, case):
    """Whether all is equal."""
    model, photos, equal = case / "published", FAMILIES / "photos", True
    with tempfile.TemporaryDirectory() as out:
        out = Path(out)
        run = train(bpo, model, out)
        base, ours, scores = model, run / "adapter", out / "scores.jsonl"
        scores.write_text(
            call(bpo, "score", "--model", base, "--adapter", ours, "--pairs", run / "pairs.jsonl", "--images", photos)
        )
        reference = Reference(model, adapted(model, ours))
        plain = one_by_one(run / "pairs.jsonl", out / "pairs.jsonl")
        worst, checked = check_scores(reference, plain, photos, scores, 1e-3)
        equal &= worst <= 1e-3 and checked > 0
        line = f"{checked} answers within {worst:.1e} nats"
        for name, adapter in (("ours", ours), ("PEFT's", case / "adapter")):
            merged = out / f"merged-{adapter.parent.name}"
            call(bpo, "merge", "--model", model, "--adapter", adapter, "--out", merged)
            different, count = check_merged(adapted(model, adapter), merged)
            equal &= different == 0
            line += f"; merged, {name}: {different} of {count} weights differ"
    print(f"{case.name}: {line}", flush=True)
    return equal


def one_by_one(pairs, out):
    """Writes the pairs whose images all stand in front of the question, where PEFT's processor expects them."""
    rows = map(json.loads, pairs.read_text().splitlines())
    kept = [row for row in rows if row["prompt"].rfind("<image>") <= len("<image>\n") * (len(row["images"]) - 1)]
    out.write_text("".join(json.dumps(row) + "\n" for row in kept))
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("cases", nargs="*")
    ap.add_argument("--bpo", default="target/debug/bpo", type=Path)
    args = ap.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    cases = sorted(path.parent for path in FAMILIES.glob("*/golden.json"))
    chosen = [case for case in cases if not args.cases or case.name in args.cases]
    sys.exit(not all([check(args.bpo, case) for case in chosen]) or not chosen)


if __name__ == "__main__":
    main()
