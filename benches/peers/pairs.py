"""The Python side of benches/pairs.rs: the same pairs with json alone, once per request.

    python pairs.py DIR
"""

import json
import sys
from pathlib import Path

from models import Asked

MAX_WORDS = 350


def main():
    folder = Path(sys.argv[1])
    asked = Asked(cuda=False)
    way = asked.ready()
    while way is not None:
        build(folder)
        way = asked.done()


def build(folder):
    samples = json.loads((folder / "samples.json").read_text())
    answers = {sample["id"]: [] for sample in samples}
    for name in ["weakened.jsonl", "injected.jsonl"]:
        with open(folder / name) as lines:
            for line in lines:
                answer = json.loads(line)
                answers[answer["id"]].append(answer)
    with open(folder / "python.jsonl", "w") as out:
        for sample in samples:
            prompt, chosen = (turn["value"] for turn in sample["conversations"])
            for place, answer in enumerate(answers[sample["id"]], 1):
                rejected = answer["response"]
                if not fit(chosen, rejected):
                    continue
                pair = {
                    "id": f"{sample['id']}:0>{place}", "image": sample["image"], "prompt": prompt,
                    "chosen": chosen, "rejected": rejected, "kind": answer["type"], "margin": 1.0,
                }
                out.write(json.dumps(pair, ensure_ascii=False) + "\n")


def fit(chosen, rejected):
    chosen, rejected = chosen.strip(), rejected.strip()
    longest = max(len(chosen.split()), len(rejected.split()))
    return chosen and rejected and chosen != rejected and longest <= MAX_WORDS


main()
