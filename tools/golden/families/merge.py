"""Weights merged by PEFT: python merge.py [CASE ...]

The cases are those of family.py, which must exist. Writes merged.json in each: the SHA-256 hash of the bytes of each weight
that `merge_and_unload` of the case's adapter changes, in float32, by its published name.
"""

import hashlib
import sys

import peft
import torch
from family import FAMILIES, write_json
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText


def sha256(tensor):
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


@torch.no_grad()
def merged(base, adapter):
    """The weights of the model in `base` with a merged adapter, by their names in transformers."""
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()


def write(dir):
    before = AutoModelForImageTextToText.from_pretrained(dir / "published", dtype=torch.float32).state_dict()
    after = merged(dir / "published", dir / "adapter")
    changed = {name: value for name, value in after.items() if not value.equal(before[name])}
    # the name of a weight in the file, by its values before
    published = load_file(dir / "published" / "model.safetensors")
    names = {}
    for name in changed:
        same = [key for key, value in published.items() if value.shape == before[name].shape and value.equal(before[name])]
        assert len(same) == 1, (name, same)
        names[same[0]] = sha256(changed[name])
    write_json(dir / "merged.json", dict(sorted(names.items())))
    print(f"{dir.name}: {len(names)} weights")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for dir in sorted(path.parent for path in FAMILIES.glob("*/golden.json")):
        if not sys.argv[1:] or dir.name in sys.argv[1:]:
            write(dir)
