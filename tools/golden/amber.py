"""Figures that AMBER's published script prints for the discriminative task, for crates/bpo-eval/tests/suite/amber.rs.

    python tools/golden/amber.py --script inference.py --metrics metrics.txt crates/bpo-eval/tests/golden/amber.json

It runs the script itself. Neither of its two inputs is in this repository: `inference.py` and `data/metrics.txt` of
github.com/junyangwang0410/AMBER, at commit 5e1fd52f8ea69150c70f0ba15de70af3a907a1fd. nltk, spaCy and tqdm, which only the
generative task uses, are replaced by empty modules.

AMBER publishes no sample answers, so questions and answers are random. A row of the golden file is three letters: the kind
(e, s, n, a: existence, state, number, action; r, q: the two names of relation), the label (y, n), and the answer (Y, N, or x
for another text). Figures are accuracy, precision, recall and F1 in percent.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

TYPES = {
    "e": "discriminative-hallucination",
    "s": "discriminative-attribute-state",
    "n": "discriminative-attribute-number",
    "a": "discriminative-attribute-action",
    "r": "discriminative-relation",
    "q": "relation",
}
LABELS = {"y": "yes", "n": "no"}
ANSWERS = {"Y": "Yes", "N": "No", "x": "no"}
NAMES = {
    "Descriminative Task": "overall",
    "Exsitence": "existence",
    "Attribute": "attribute",
    "State": "state",
    "Number": "number",
    "Action": "action",
    "Relation": "relation",
}


def rows(rng, number, kinds="esnarq", right=0.7, no=0.5, other=0.0):
    """Random questions and answers: shares of right answers, of the label no, and of answers that are neither."""
    made = []
    for _ in range(number):
        label = "n" if rng.random() < no else "y"
        answer = label if rng.random() < right else {"y": "n", "n": "y"}[label]
        made.append(rng.choice(kinds) + label + ("x" if rng.random() < other else answer.upper()))
    return made


def run(script, metrics, evaluation, made):
    """The figures that the script prints."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, text in {
            "nltk/__init__.py": "",
            "nltk/stem.py": "WordNetLemmatizer = None\n",
            "spacy.py": "load = lambda name: None\n",
            "tqdm.py": "tqdm = iter\n",
        }.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        # the script finds an annotation by its place
        annotations = [{"id": 1, "type": "generative", "truth": ["sky"], "hallu": ["dog"]}]
        annotations += [{"id": i, "type": TYPES[k], "truth": LABELS[l]} for i, (k, l, _) in enumerate(made, 2)]
        answers = [{"id": i, "response": ANSWERS[a]} for i, (_, _, a) in enumerate(made, 2)]
        (folder / "annotations.json").write_text(json.dumps(annotations))
        (folder / "answers.json").write_text(json.dumps(answers))
        (folder / "relation.json").write_text("{}")
        (folder / "safe_words.txt").write_text("")
        flags = {
            "--annotation": folder / "annotations.json",
            "--inference_data": folder / "answers.json",
            "--word_association": folder / "relation.json",
            "--safe_words": folder / "safe_words.txt",
            "--metrics": metrics,
            "--evaluation_type": evaluation,
        }
        command = [sys.executable, script, *(str(part) for pair in flags.items() for part in pair)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(folder)})
    figures = {}
    for line in filter(None, map(str.strip, printed.stdout.splitlines())):
        name, _, value = line.partition(":")
        if value.strip():
            figures[part].append(float(value))
        else:
            part = NAMES[name]
            figures[part] = []
    return figures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", required=True)
    parser.add_argument("--metrics", required=True)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    rng = random.Random(7)
    cases = [("d", rows(rng, 900, right=right, no=no, other=other)) for right, no, other in [
        (0.7, 0.5, 0.0), (0.9, 0.3, 0.02), (0.55, 0.66, 0.1), (0.8, 0.5, 0.5), (0.97, 0.5, 0.0),
    ]]
    cases += [("d", rows(rng, number)) for number in (40, 60, 90)]
    # always yes, always no, always right
    cases += [("d", [row[:2] + answer for row in rows(rng, 60)]) for answer in "YN"]
    cases += [("d", rows(rng, 60, right=1.0))]
    cases += [(kind, rows(rng, 300, kinds, other=0.01)) for kind, kinds in [("de", "e"), ("da", "sna"), ("dr", "rq")]]
    made = [{"rows": " ".join(made), "figures": run(args.script, args.metrics, kind, made)} for kind, made in cases]
    args.out.write_text(json.dumps(made, indent=1) + "\n")
    for case in made:
        print(len(case["rows"].split()), case["figures"])


if __name__ == "__main__":
    main()
