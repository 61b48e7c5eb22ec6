"""Runs the page "Make pairs for your trainer" with a trainer, and compares how it and `bpo` read pairs.

    python tools/check_trainers.py --trainer trl --bpo target/debug/bpo

The trainer is `trl`, `llama-factory`, `ms-swift` or `bpo` (with PEFT). It is installed where `python` is;
LLaMA-Factory and ms-swift need other versions of transformers and TRL, so each has an environment of its own.
There is no need for a GPU.

1. The commands of the page that make the pairs, and those in the section of the trainer, run as they are in a
   directory with links to the repository. The training must make two steps, the first with the loss of equal
   models, ln 2.
2. Pairs with a system text, earlier turns, several images or none are converted to the format of the trainer, in
   each container that it takes. The code of the trainer must read the same questions, answers and images.
3. Records in the forms that the trainer documents must be the same pairs for the trainer and for `bpo`.

Exits with 1 if anything differs.
"""

import argparse
import contextlib
import io
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/src/make-pairs.md"
PHOTOS = "examples/data/photos"
TINY = "crates/bpo-model/tests/golden/tiny-llava"

# system text, earlier turns, question, chosen and rejected answer, images
PAIRS = [
    (None, [], "<image>\nWhat is in the picture?", "A tabby cat — ü 🐈.", "A dog on a sofa.", ["cat.jpg"]),
    ("Be brief.", [], "<image>\nWhat is on the table?", "A cup.", "A cup and a croissant.", ["coffee.jpg"]),
    (None, [("<image>\nWhat is this?", "A rocket.")], "Where?", "On a pad.", "In the sea.", ["rocket.jpg"]),
    (None, [], "<image>\n<image>\nWhich is an animal?", "The first.", "The second.", ["cat.jpg", "coins.jpg"]),
    (None, [], "What is the capital of France?", "Paris.", "Lyon.", []),
]

# parts of the records below
ANSWERS = {"chosen": "A cat.", "rejected": "A dog."}
OF_GPT = {key: {"from": "gpt", "value": text} for key, text in ANSWERS.items()}
OF_ASSISTANT = {key: {"role": "assistant", "content": text} for key, text in ANSWERS.items()}
TURNS = [("human", "<image>Hello."), ("gpt", "Hello."), ("human", "What is this?")]
TURNS = [{"from": role, "value": text} for role, text in TURNS]
SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is this?"}
WITH_IMAGE = {"role": "user", "content": "<image>What is this?"}
CONVERSATION = [{"human": "One?", "assistant": "Two."}, {"human": "What is this?", "assistant": "A cat."}]
CAT = {"images": ["cat.jpg"]}
ALPACA = {"prompt": "instruction", "query": "input"}
REJECTED = [SYSTEM, WITH_IMAGE, OF_ASSISTANT["rejected"]]
CHAT = {"messages": [SYSTEM, WITH_IMAGE, OF_ASSISTANT["chosen"]], **CAT}


def blocks(heading, kind):
    """Returns the code blocks of a kind below a heading of the page."""
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.M | re.S).group(1)
    return re.findall(rf"^```{kind}\n(.*?)^```", section, re.M | re.S)


def run(command):
    print("$", command.strip(), flush=True)
    subprocess.run(command, shell=True, check=True)


def form(system, turns, question, chosen, rejected, images):
    """Returns a pair that can be compared: texts without line feeds around images, and the sizes of the images."""
    texts = [system or "", *(text for turn in turns for text in turn), question, chosen, rejected]
    return [re.sub(r"\s*<image>\s*", "<image>", text) for text in texts], [size(image) for image in images]


def form_of(messages, rejected, images):
    """Returns the form of a pair whose messages have a role and text, and end with the chosen answer."""
    texts = [message["content"] for message in messages]
    system = texts.pop(0) if messages[0]["role"] == "system" else None
    return form(system, zip(texts[0:-2:2], texts[1:-2:2]), texts[-2], texts[-1], rejected, images)


def size(image):
    """Returns the size of an image: a path, with or without the image root, or a dictionary with bytes or a path."""
    if isinstance(image, dict):
        image = io.BytesIO(image["bytes"]) if image["bytes"] else image["path"]
    if isinstance(image, str):
        image = image if image.startswith(PHOTOS) else f"{PHOTOS}/{image}"
    return (image if isinstance(image, Image.Image) else Image.open(image)).size


class Trl:
    heading, format, files = "TRL", "trl", ["bytes.parquet", "paths.parquet", "lines.jsonl", "list.json.gz"]
    forms = [
        ({"prompt": "What is this?", **ANSWERS}, None),
        ({"prompt": [USER], **CAT, **{key: [one] for key, one in OF_ASSISTANT.items()}}, None),
        ({**CAT, **{key: [SYSTEM, USER, one] for key, one in OF_ASSISTANT.items()}}, None),
    ]

    def train(self):
        space = {}
        exec(blocks(self.heading, "python")[0], space)
        return space["trainer"].state.log_history

    def read(self, path, _):
        import datasets
        from trl.data_utils import maybe_extract_prompt, prepare_multimodal_messages

        kind = "parquet" if path.suffix == ".parquet" else "json"
        data = datasets.load_dataset(kind, data_files=str(path), split="train")
        if kind == "json" and "images" in data.column_names:
            data = data.cast_column("images", datasets.List(datasets.Image()))
        # paths of images are relative to the working directory
        with contextlib.chdir(PHOTOS):
            rows = [{**row, **maybe_extract_prompt(row)} for row in data]
        for row in rows:
            images = row.get("images", [])
            if isinstance(row["prompt"], str):
                yield form(None, [], row["prompt"], row["chosen"], row["rejected"], images)
                continue
            messages = prepare_multimodal_messages(row["prompt"], images)
            messages += prepare_multimodal_messages(row["chosen"] + row["rejected"])
            for message in messages:
                parts = message["content"]
                message["content"] = "".join("<image>" if part["type"] == "image" else part["text"] for part in parts)
            yield form_of(messages[:-1], messages[-1]["content"], images)


class LlamaFactory:
    heading, format, files = "LLaMA-Factory", "llama-factory", ["lines.jsonl", "list.json", "bytes.parquet"]
    # each with its entry in dataset_info.json
    forms = [
        ({"conversations": TURNS[2:], **OF_GPT}, {"formatting": "sharegpt", "columns": {"messages": "conversations"}}),
        (
            {"conversations": TURNS, "system": "Be brief.", **CAT, **OF_GPT},
            {
                "formatting": "sharegpt",
                "columns": {"messages": "conversations", "system": "system", "images": "images"},
            },
        ),
        (
            {"messages": [SYSTEM, WITH_IMAGE], **CAT, **OF_ASSISTANT},
            {
                "formatting": "sharegpt",
                "columns": {"messages": "messages", "images": "images"},
                "tags": {
                    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                    "system_tag": "system",
                },
            },
        ),
        ({"instruction": "What", "input": "is this?", **ANSWERS}, {"columns": ALPACA}),
        ({"instruction": "", "input": "What?", **ANSWERS}, {"columns": ALPACA}),
        (
            {"instruction": "What?", "input": "", "history": [["One?", "Two."]], "system": "Be brief.", **ANSWERS},
            {"columns": {**ALPACA, "history": "history", "system": "system"}},
        ),
    ]

    def train(self):
        (settings,), (_, command) = blocks(self.heading, "yaml"), blocks(self.heading, "sh")
        Path("made/llama-factory/dpo.yaml").write_text(settings)
        run(command)
        return json.loads(Path("made/llama-factory/out/trainer_state.json").read_text())["log_history"]

    def read(self, path, entry):
        from llamafactory.data.loader import _load_single_dataset
        from llamafactory.data.parser import get_dataset_list
        from llamafactory.hparams import DataArguments, ModelArguments

        name = path.name.split(".")[0]
        if entry:
            columns = {**entry["columns"], "chosen": "chosen", "rejected": "rejected"}
            entry = {"file_name": path.name, "ranking": True, **entry, "columns": columns}
            path.with_name("dataset_info.json").write_text(json.dumps({name: entry}))
        (attributes,) = get_dataset_list([name], str(path.parent))
        data = DataArguments(dataset=name, dataset_dir=str(path.parent), media_dir=PHOTOS)
        process = SimpleNamespace(local_process_index=0, dataloader_num_workers=0)
        for row in _load_single_dataset(attributes, ModelArguments(model_name_or_path=TINY), data, process):
            chosen, rejected = row["_response"]
            system = [{"role": "system", "content": row["_system"]}] if row["_system"] else []
            yield form_of([*system, *row["_prompt"], chosen], rejected["content"], row["_images"] or [])


class MsSwift:
    heading, format, files = "ms-swift", "ms-swift", ["lines.jsonl", "list.json", "bytes.parquet"]
    forms = [
        ({**CHAT, "rejected_response": "A dog."}, None),
        ({**CHAT, "rejected_response": [OF_ASSISTANT["rejected"]]}, None),
        ({**CHAT, "rejected_response": "A dog.", "rejected_images": ["cat.jpg"]}, None),
        ({**CHAT, "rejected_messages": REJECTED, "rejected_images": ["cat.jpg"]}, None),
        ({"conversation": CONVERSATION, "system": "Be brief.", "rejected_response": "A dog."}, None),
        ({"instruction": "What", "input": "is this?", "output": "A cat.", "rejected_response": "A dog."}, None),
        ({"query": "What?", "response": "A cat.", "history": [["One?", "Two."]], "rejected_response": "A dog."}, None),
    ]

    def train(self):
        (commands,) = blocks(self.heading, "sh")
        run(commands[commands.index("ROOT_IMAGE_DIR=") :])
        (log,) = Path("made/swift").rglob("logging.jsonl")
        return [json.loads(line) for line in log.read_text().splitlines()]

    def read(self, path, _):
        from swift.dataset import load_dataset
        from swift.template import TemplateInputs

        for row in load_dataset(str(path), strict=True)[0]:
            inputs = TemplateInputs.from_dict({key: value for key, value in row.items() if value is not None})
            chosen, rejected = inputs.chosen, inputs.rejected
            assert (rejected.system, rejected.messages[:-1]) == (chosen.system, chosen.messages[:-1]), inputs
            assert rejected.images == chosen.images, inputs
            system = [{"role": "system", "content": chosen.system}] if chosen.system else []
            yield form_of(system + chosen.messages, rejected.messages[-1]["content"], chosen.images)


class Bpo:
    heading, format, files, forms = "bpo", "pairs", ["lines.jsonl", "list.json", "paths.parquet"], []

    def train(self):
        from peft import PeftModel
        from transformers import LlavaForConditionalGeneration

        PeftModel.from_pretrained(LlavaForConditionalGeneration.from_pretrained(TINY), "made/bpo/adapter")
        return [json.loads(line) for line in Path("made/bpo/metrics.jsonl").read_text().splitlines()]

    def read(self, path, _):
        out = path.with_name("read.jsonl")
        run(f"bpo convert {path} {out} --to pairs")
        for pair in map(json.loads, out.read_text().splitlines()):
            turns = [(turn["prompt"], turn["answer"]) for turn in pair.get("history", [])]
            yield form(pair.get("system"), turns, pair["prompt"], pair["chosen"], pair["rejected"], pair["images"])


TRAINERS = {"trl": Trl, "llama-factory": LlamaFactory, "ms-swift": MsSwift, "bpo": Bpo}


def check_page(trainer):
    for block in blocks("Without a model", "sh") + blocks(trainer.heading, "sh"):
        for command in block.replace("\\\n", " ").splitlines():
            if command.startswith("bpo "):
                run(command)
    losses = [float(row["loss"]) for row in trainer.train() if "loss" in row]
    print(f"losses {losses}")
    assert len(losses) == 2 and abs(losses[0] - math.log(2)) < 1e-3, losses


def check_written(trainer, work):
    pairs = work / "pairs.jsonl"
    with pairs.open("w") as file:
        for number, (system, turns, prompt, chosen, rejected, images) in enumerate(PAIRS):
            pair = {"id": str(number), "images": images, "kind": "llm-hal", "margin": 1.0, "prompt": prompt}
            pair |= {"chosen": chosen, "rejected": rejected} | ({"system": system} if system else {})
            pair["history"] = [{"prompt": question, "answer": answer} for question, answer in turns]
            file.write(json.dumps(pair) + "\n")
    for name in trainer.files:
        images = f" --images {PHOTOS}" if name.startswith("bytes") else ""
        run(f"bpo convert {pairs} {work / name} --to {trainer.format}{images}")
        found, expected = list(trainer.read(work / name, None)), [form(*pair) for pair in PAIRS]
        assert found == expected, f"{name}:\n{found}\n{expected}"


def check_forms(trainer, work):
    for number, (record, entry) in enumerate(trainer.forms):
        path = work / f"form{number}.jsonl"
        path.write_text(json.dumps(record) + "\n")
        (found,), (expected,) = Bpo().read(path, None), trainer.read(path, entry)
        assert found == expected, f"{record}:\n{found}\n{expected}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trainer", required=True, choices=TRAINERS)
    parser.add_argument("--bpo", required=True, type=Path, help="the program")
    args = parser.parse_args()
    trainer, bpo = TRAINERS[args.trainer](), args.bpo.resolve()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        for name in ("crates", "examples"):
            (work / name).symlink_to(ROOT / name)
        (work / "bin").mkdir()
        (work / "bin/bpo").symlink_to(bpo)
        os.chdir(work)
        # programs of the environment of `python`; no GPU, no network, and no cached data of earlier calls
        paths = [str(work / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        caches = {name: str(work / "cache") for name in ("HF_DATASETS_CACHE", "MODELSCOPE_CACHE")}
        os.environ |= caches | {"PATH": ":".join(paths), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
        check_page(trainer)
        check_written(trainer, work)
        check_forms(trainer, work)


main()
