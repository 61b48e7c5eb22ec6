"""Figures that AMBER's published script prints for the generative task, for crates/bpo-eval/tests/suite/amber_captions.rs.

    python tools/golden/amber_captions.py --script inference.py --metrics metrics.txt \
        crates/bpo-eval/tests/golden/amber_captions.json

It runs the script itself; see amber.py for its two inputs. Words, their vectors, annotations and answers are random. NLTK and
spaCy are replaced: the parts of an answer between spaces are its nouns, and words are compared by the cosine of their vectors,
as spaCy does: 1 for equal words, and 0 for a word without a vector. Words are drawn around few directions, so that many
similarities are above 0.8.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

DIMENSIONS = 5

SPACY = """
import math, os
vectors = {}
for line in open(os.environ["VECTORS"], encoding="utf-8").read().splitlines():
    parts = line.rsplit(" ", DIMENSIONS)
    vectors[parts[0]] = [float(part) for part in parts[1:]]
class Doc:
    def __init__(self, text):
        self.text = text
        self.vector = vectors.get(text, [0.0] * DIMENSIONS)
        self.norm = math.sqrt(sum(value * value for value in self.vector))
    def similarity(self, other):
        if self.text == other.text:
            return 1.0
        if self.norm == 0 or other.norm == 0:
            return 0.0
        return sum(a * b for a, b in zip(self.vector, other.vector)) / (self.norm * other.norm)
load = lambda name: Doc
""".replace("DIMENSIONS", str(DIMENSIONS))
STAND_INS = {
    "nltk/__init__.py": "word_tokenize = str.split\npos_tag = lambda tokens: [(token, 'NN') for token in tokens]\n",
    "nltk/stem.py": "class WordNetLemmatizer:\n    lemmatize = staticmethod(lambda word: word)\n",
    "spacy.py": SPACY,
    "tqdm.py": "tqdm = iter\n",
}


def words(rng, number):
    """Related words of objects, and the vectors of most words."""
    names = [f"object{i}" if i % 7 else f"two words{i}" for i in range(number)]
    relation = {name: [f"{name}-{j}".replace(" ", "") for j in range(rng.randint(0, 3))] for name in names}
    for name in names[: number // 4]:
        relation[name].append(rng.choice(names))
    everything = sorted({word for name, others in relation.items() for word in [name, *others]})
    centers = [[rng.gauss(0, 1) for _ in range(DIMENSIONS)] for _ in range(number // 3)]
    vectors = {}
    for word in everything:
        if rng.random() < 0.1:
            continue
        vectors[word] = [round(value + rng.gauss(0, 0.35), 4) for value in rng.choice(centers)]
    vectors[everything[1]] = [0.0] * DIMENSIONS
    return relation, vectors


def run(script, metrics, case):
    """The figures that the script prints."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, text in STAND_INS.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        annotations = [{"id": i, "type": "generative", **found} for i, found in enumerate(case["annotations"], 1)]
        answers = [{"id": i, "response": " ".join(nouns)} for i, nouns in enumerate(case["nouns"], 1)]
        lines = [" ".join([word, *map(str, vector)]) for word, vector in case["vectors"].items()]
        files = {
            "--annotation": json.dumps(annotations),
            "--inference_data": json.dumps(answers),
            "--word_association": json.dumps(case["relation"]),
            "--safe_words": "\n".join(case["safe_words"]),
        }
        flags = {"--metrics": metrics, "--evaluation_type": "g"}
        for name, text in files.items():
            flags[name] = folder / name.strip("-")
            flags[name].write_text(text)
        (folder / "vectors.txt").write_text("\n".join(lines))
        command = [sys.executable, script, *(str(part) for pair in flags.items() for part in pair)]
        environment = {"PYTHONPATH": str(folder), "VECTORS": str(folder / "vectors.txt"), "PATH": os.environ["PATH"]}
        printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    lines = [line.split(":") for line in printed.stdout.splitlines()[1:] if line.strip()]
    return {name: float(value) for name, value in lines}


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def drawn(rng, number, images, share):
    relation, vectors = words(rng, number)
    names = list(relation)
    everything = sorted({word for name, others in relation.items() for word in [name, *others]})
    close = sum(
        0.79 < dot(a, b) / math.sqrt(dot(a, a) * dot(b, b)) < 0.81
        for a in vectors.values() for b in vectors.values() if any(a) and any(b)
    )
    annotations, nouns = [], []
    for _ in range(images):
        shown = rng.sample(names, rng.randint(1, 6))
        likely = rng.sample([name for name in names if name not in shown], rng.randint(0, 5))
        of = lambda names: [word for name in names for word in [name, *relation[name]] if " " not in word]  # noqa: E731
        pool = of(shown) or ["sky"]
        others = [word for word in everything if " " not in word] + ["sky", "unknown"] + (of(likely) or ["sky"]) * 4
        annotations.append({"truth": shown, "hallu": likely})
        nouns.append([rng.choice(pool if rng.random() < share else others) for _ in range(rng.randint(0, 9))])
    safe_words = rng.sample([word for word in everything if " " not in word], 2)
    case = {"relation": relation, "vectors": vectors, "safe_words": safe_words, "annotations": annotations, "nouns": nouns}
    return case, close


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", required=True)
    parser.add_argument("--metrics", required=True)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    rng, made = random.Random(13), []
    for number, images, share in [(20, 40, 0.7), (20, 40, 0.9), (30, 60, 0.5), (40, 60, 0.8), (12, 20, 1.0), (12, 1, 0.0), (24, 30, 0.3)]:
        case, close = drawn(rng, number, images, share)
        case["figures"] = run(args.script, args.metrics, case)
        made.append(case)
        print(len(case["nouns"]), close, case["figures"])
    args.out.write_text("[\n" + ",\n".join(json.dumps(case) for case in made) + "\n]\n")


if __name__ == "__main__":
    main()
