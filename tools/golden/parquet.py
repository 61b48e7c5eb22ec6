"""Writes the Parquet files that the tests of bpo-pairs read, with the `datasets` library.

    python tools/golden/parquet.py crates/bpo-pairs/tests/data

The columns are those of RLHF-V-Dataset, RLAIF-V-Dataset and of TRL's conversational preference format. Texts and images
are made up here.
"""

import io
import json
import sys
from pathlib import Path

from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Picture

ANSWERS = [
    ("What is on the table?", "A red cup.", "A red cup and a croissant."),
    ("Wie heißt die Farbe? 🟦", "Blau.", "Grün — „sehr“ grün."),
    ("Describe the image.", "A plain square.\nNothing else.", "A square with two dogs."),
]


def png(color):
    file = io.BytesIO()
    Picture.new("RGB", (4, 4), color).save(file, "PNG")
    return file.getvalue()


def images():
    return [{"bytes": png(color), "path": f"{color}.png"} for color in ("red", "blue", "red")]


def origin(number, path):
    return {
        "ds_name": "made-up", "origin_dataset": "made-up", "origin_split": json.dumps({"split": "train"}),
        "image_path": path,
    }


def rlhf_v():
    rows = []
    for number, (image, (question, chosen, rejected)) in enumerate(zip(images(), ANSWERS)):
        text = json.dumps({"question": question, "chosen": chosen, "rejected": rejected}, ensure_ascii=number != 1)
        rows.append({"image": image, "text": text, "idx": 100 + number} | origin(number, image["path"]))
    string = Value("string")
    return rows, Features({
        "ds_name": string, "image": Image(), "text": string, "origin_dataset": string, "origin_split": string,
        "idx": Value("int64"), "image_path": string,
    })


def rlaif_v():
    rows = []
    for number, (image, (question, chosen, rejected)) in enumerate(zip(images(), ANSWERS)):
        row = {"image": image, "question": question, "chosen": chosen, "rejected": rejected, "idx": f"row-{number}"}
        rows.append(row | origin(number, image["path"]))
    string = Value("string")
    return rows, Features({
        "ds_name": string, "image": Image(), "question": string, "chosen": string, "rejected": string,
        "origin_dataset": string, "origin_split": string, "idx": string, "image_path": string,
    })


def trl():
    rows = []
    for image, (question, chosen, rejected) in zip(images(), ANSWERS):
        text = lambda value: {"type": "text", "text": value}
        rows.append({
            "images": [image],
            "prompt": [{"role": "user", "content": [{"type": "image", "text": None}, text(question)]}],
            "chosen": [{"role": "assistant", "content": [text(chosen)]}],
            "rejected": [{"role": "assistant", "content": [text(rejected)]}],
        })
    part = {"type": Value("string"), "text": Value("string")}
    messages = List({"role": Value("string"), "content": List(part)})
    return rows, Features({"images": List(Image()), "prompt": messages, "chosen": messages, "rejected": messages})


def main():
    folder = Path(sys.argv[1])
    for make in (rlhf_v, rlaif_v, trl):
        rows, features = make()
        Dataset.from_list(rows, features=features).to_parquet(folder / f"{make.__name__}.parquet")


main()
