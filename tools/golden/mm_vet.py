"""Figures of MM-Vet's published script, for crates/bpo-eval/tests/suite/mm_vet.rs.

    python tools/golden/mm_vet.py --script mm-vet_evaluator.py crates/bpo-eval/tests/golden/mm_vet.json

`mm-vet_evaluator.py` is that of github.com/yuweihao/MM-Vet, at commit 7d717c2f54a584b7ed363d66e6481ce1bf648538; it is not in
this repository. Its `load_metadata` and `export_result`, which compute the figures, are run on random questions and grades.
The client of the judge, which they do not use, is replaced by an empty module. NumPy 2.4 and pandas 3.1 were used.

A case has the capabilities of each question, its grades in each run, and the figures. Combinations are in alphabetical order
of their capabilities, because the script names them in a random order.
"""

import argparse
import importlib.util
import json
import random
import re
import sys
import tempfile
import types
from pathlib import Path

CAPABILITIES = ["rec", "ocr", "know", "gen", "spat", "math"]


def load(path):
    """The module of the script."""
    for name in ("openai", "openai._exceptions", "tqdm"):
        module = types.ModuleType(name)
        module.__getattr__ = lambda name: None
        sys.modules[name] = module
    spec = importlib.util.spec_from_file_location("mm_vet_evaluator", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawn(rng, number, runs, spread):
    """Random questions and grades. `spread` is how far the grades of a question are from one another."""
    questions, grades = [], []
    for _ in range(number):
        needs = rng.sample(CAPABILITIES, rng.choices([1, 2, 3, 4], [4, 4, 2, 1])[0])
        first = rng.randint(0, 10)
        scores = [min(10, max(0, first + rng.randint(-spread, spread))) / 10 for _ in range(runs)]
        questions.append(needs)
        grades.append(scores)
    return questions, grades


def figures(script, questions, grades):
    runs = len(grades[0])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data = {f"v1_{i}": {"question": "?", "answer": "!", "capability": needs} for i, needs in enumerate(questions)}
        (folder / "mm-vet.json").write_text(json.dumps(data))
        args = argparse.Namespace(mmvet_path=str(folder), use_sub_set=False, model="model", num_run=runs, decimal_places=1)
        names = ("sub_set", "sub_set_name", "data", "counter", "cap_set_list", "cap_set_counter", "len_data", "df", "df2")
        *values, cap_set_names = script.load_metadata(args)
        found = dict(zip(names, values, strict=True))
        # the script has these as global names
        vars(script).update(found, cap_score_file=folder / "cap.csv", cap_int_score_file=folder / "int.csv")
        results = {f"v1_{i}": {"score": scores} for i, scores in enumerate(grades)}
        made = script.export_result(
            args, found["df"], found["df2"], results, found["data"], found["cap_set_counter"], cap_set_names
        )
    one, other = (table.loc["model"].to_dict() for table in made)
    combinations = [[sorted(needs), other[name]] for needs, name in zip(found["cap_set_list"], cap_set_names, strict=False)]
    assert one["total"] == other["total"]
    return {
        "capabilities": {name: one[name] for name in one if name in CAPABILITIES},
        "combinations": sorted(combinations),
        "total": one["total"],
        "std": one["std"],
        "runs": [float(number) for number in re.findall(r"\(([\d.]+)\)", one["runs"])],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", required=True)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    script, rng = load(args.script), random.Random(5)
    cases = [(218, 1, 0), (218, 5, 1), (218, 5, 3), (40, 1, 0), (16, 1, 0), (16, 2, 2), (1, 1, 0), (1, 3, 4)]
    cases += [(number, runs, 2) for number in (8, 16, 24, 32, 80) for runs in (1, 3, 4, 5)]
    made = []
    for number, runs, spread in cases:
        questions, grades = drawn(rng, number, runs, spread)
        made.append({"questions": questions, "grades": grades, "figures": figures(script, questions, grades)})
    args.out.write_text("[\n" + ",\n".join(json.dumps(case) for case in made) + "\n]\n")
    for case in made:
        print(len(case["questions"]), case["figures"]["total"], case["figures"]["std"], case["figures"]["runs"])


if __name__ == "__main__":
    main()
