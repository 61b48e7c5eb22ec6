"""Figures of HaNoRec's published evaluation and of scikit-learn, for crates/bpo-eval/tests/suite/{ranking,auc}.rs.

    python tools/golden/ranking.py --script llm_infer.py crates/bpo-eval/tests/golden/ranking.json

`llm_infer.py` is `validation/llm_infer.py` of github.com/wangyu0627/HaNoRec, at commit
1400e910dfd86ce6dc2fe2f4607f2907e3579deb; it is not in this repository. Its `evaluate_metrics` and `evaluate_auc` are run on
random answers, which need scikit-learn (1.9.1). The modules with which it runs a model are replaced by empty ones.
"""

import argparse
import importlib.util
import json
import random
import sys
import types
from pathlib import Path

from sklearn.metrics import roc_auc_score

# every way of writing a list that the script reads in its own way
BY_HAND = [
    ("A", '"A"\n"B"\n"C"'), ('"A"\n"B"\n"C"', "B\nA"), ("A", "\n\n B\n  \n\n A \n"), ("A", ""), ("A", "a"), ("A", "1. A"),
    ("A", '"A"\r\n"B"'), ("A", "B\nB\nB\nA"), ("A", "B\nA\nA"), ("A B", '"A B" "C"'), ("A", '""\nA'), ("A", "\t\nA\tB\nA"),
    ('"A\nB\nC"', '"A\nB\nC"'), ("  A  \nB", "C, A"), ("caf\u00e9", "\u00a0caf\u00e9\u00a0"), ("A", '"\nA'),
]
YES_NO = ["Yes", "No", " yes ", "NO", "Yes.", "No, I do not.", "", "maybe"]


def load(path):
    """The class of the script."""
    for name in ("torch", "transformers", "peft", "datasets", "tqdm"):
        module = types.ModuleType(name)
        module.__getattr__ = lambda name: None
        sys.modules[name] = module
    spec = importlib.util.spec_from_file_location("llm_infer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SFTInferWrapper


def lists(rng, number):
    items = [f"Item {i}" for i in range(8)]
    made = []
    for _ in range(number):
        rng.shuffle(items)
        made.append((f'"{rng.choice(items)}\nItem 9"', "\n".join(f'"{item}"' for item in items[: rng.randint(0, 8)])))
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", required=True)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    script, rng = load(args.script), random.Random(3)
    outputs = lambda pairs: [{"ground_truth": label, "prediction": text} for label, text in pairs]  # noqa: E731

    ranking = []
    for pairs in [BY_HAND, *([pair] for pair in BY_HAND), lists(rng, 60)]:
        at = {k: script.evaluate_metrics(None, outputs(pairs), k=k) for k in (1, 3, 5)}
        ranking.append({"pairs": pairs, "at": {k: [found["HR"], found["NDCG"]] for k, found in at.items()}})
    answers = []
    for right in (0.5, 0.8, 1.0):
        pairs = []
        for _ in range(80):
            label = rng.choice(["Yes", "No", "yes", "no "])
            text = label if rng.random() < right else {"y": "No", "n": "Yes"}[label[0].lower()]
            pairs.append((label, rng.choice(YES_NO) if rng.random() < 0.2 else text))
        answers.append({"pairs": pairs, "auc": script.evaluate_auc(None, outputs(pairs))["AUC"]})
    scores = []
    for number, decimals in ((10, 3), (80, 1), (80, 6), (40, 0)):
        labels = ["yes", "no"] + [rng.choice(["yes", "no"]) for _ in range(number - 2)]
        values = [round(rng.gauss(0.4 if label == "yes" else 0.0, 1.0), decimals) for label in labels]
        auc = roc_auc_score([label == "yes" for label in labels], values)
        scores.append({"labels": labels, "scores": values, "auc": float(auc)})
    made = {"ranking": ranking, "answers": answers, "scores": scores}
    args.out.write_text(json.dumps(made, separators=(",", ":")).replace("},{", "},\n{") + "\n")
    print([case["at"] for case in ranking[:1] + ranking[-1:]], [case["auc"] for case in answers + scores])


if __name__ == "__main__":
    main()
