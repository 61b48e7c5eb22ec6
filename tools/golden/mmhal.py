"""Figures that MMHal-Bench's published script prints, for crates/bpo-eval/tests/suite/mmhal.rs.

    python tools/golden/mmhal.py --script eval_gpt4.py crates/bpo-eval/tests/golden/mmhal.json

`eval_gpt4.py` is that of huggingface.co/datasets/Shengcao1006/MMHal-Bench; it is not in this repository. The same script is
`Eval/eval_gpt_mmhal.py` of github.com/llava-rlhf/LLaVA-RLHF, at commit 830a083fd83e607da3c35f2e6aef833523c1e722, which was
used here. It runs with a module in place of the judge's client, which gives random replies.

A case has the 96 replies, by their place in `replies`, and the figures as they are printed.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CLEAR = [f"It is what it is.\n{'Rating' if s % 2 else 'rating'}: {s}, as described" for s in range(7)]
UNCLEAR = ["", "Rating 3", "Rating: 7", "Rating: 2 or rating: 4", "**Rating:** 5"]
# read by the first digit, or by one of two equal ratings
ODD = ["Rating: 10", "RATING: 4.", "Rating: 6\nRating: 6", "rating: 3/6"]
REPLIES = CLEAR + UNCLEAR + ODD

OPENAI = """
import json, os
replies = iter(json.loads(os.environ["REPLIES"]))
class ChatCompletion:
    @staticmethod
    def create(**_):
        return {"choices": [{"message": {"role": "assistant", "content": next(replies)}}]}
"""

# the script waits a second after each reply
START = """
import runpy, sys, types
sys.modules["time"] = types.ModuleType("time")
sys.modules["time"].sleep = lambda _: None
sys.argv = {arguments!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(script, places):
    """The figures that the script prints."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "openai.py").write_text(OPENAI)
        record = {"image_content": ["Cat", "Mat"], "question": "?", "gt_answer": "!", "model_answer": "."}
        (folder / "response.json").write_text(json.dumps([record] * len(places)))
        arguments = [str(script), "--response", str(folder / "response.json"), "--api-key", "none"]
        environment = {
            "PYTHONPATH": str(folder),
            "REPLIES": json.dumps([REPLIES[place] for place in places]),
            "PATH": os.environ["PATH"],
        }
        code = START.format(arguments=arguments)
        printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    score, rate, kinds = printed.stdout.splitlines()[-3:]
    return {
        "score": re.fullmatch(r"Average score: (.*)", score)[1],
        "hallucination_rate": re.fullmatch(r"Hallucination rate: (.*)", rate)[1],
        "kinds": [float(mean) for mean in re.fullmatch(r"Average score for each question type: (.*)", kinds)[1].split(",")],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", required=True)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    rng = random.Random(11)
    shares = [(0.0, range(7)), (0.0, range(3)), (0.0, [6]), (0.1, range(7)), (0.3, range(2, 7)), (1.0, [0]), (0.02, [0, 6])]
    made = []
    for unclear, ratings in shares * 2:
        odd = range(len(CLEAR), len(REPLIES))
        places = [rng.choice(odd) if rng.random() < unclear else rng.choice(ratings) for _ in range(96)]
        made.append({"places": places, "figures": run(args.script, places)})
    args.out.write_text(json.dumps({"replies": REPLIES}).rstrip("}") + ', "cases": [\n')
    with args.out.open("a") as out:
        out.write(",\n".join(json.dumps(case) for case in made) + "\n]}\n")
    for case in made:
        print(case["figures"])


if __name__ == "__main__":
    main()
