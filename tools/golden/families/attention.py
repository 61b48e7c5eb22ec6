"""Attention of transformers to image tokens: python attention.py [CASE ...]

The cases are those of family.py, which must exist. Writes attention.json in each: a list of
{"case": index of a prompt in golden.json, "layers": for each decoder layer, the mean over heads of the attention of the
last token of the prompt to each image token of all images, in order}.
"""

import json
import sys

import torch
from family import FAMILIES, Reference

PROMPTS = (0, -1)


@torch.no_grad()
def write(dir):
    reference = Reference(dir / "published")
    reference.model.set_attn_implementation("eager")
    cases = json.loads((dir / "golden.json").read_text())["cases"]
    lines, most = [], 0
    for prompt in sorted({prompt % len(cases) for prompt in PROMPTS}):
        case = cases[prompt]
        inputs = reference.inputs(reference.texts(case)[0], case)
        ids = inputs["input_ids"][0]
        assert ids.tolist() == case["prompt_ids"]
        places = ids == reference.model.config.image_token_id
        if not places.any():
            continue
        layers = reference.model(**inputs, output_attentions=True, use_cache=False).attentions
        means = [layer[0, :, -1].mean(0)[places].tolist() for layer in layers]
        most = max(most, int(places.sum()))
        lines.append(json.dumps({"case": prompt, "layers": [[round(value, 8) for value in layer] for layer in means]}))
    (dir / "attention.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{dir.name}: {len(lines)} prompts, {len(layers)} layers, at most {most} image tokens")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for dir in sorted(path.parent for path in FAMILIES.glob("*/golden.json")):
        if not sys.argv[1:] or dir.name in sys.argv[1:]:
            write(dir)
