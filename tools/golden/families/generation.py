"""Greedy answers of transformers with settings of generation_config.json: python generation.py [CASE ...]

The cases are those of family.py, which must exist. Writes generation.json in each: a list of
{"settings": keys of generation_config.json, "answers": [{"case": index of a prompt in golden.json, "ids": greedy ids}]}.
"""

import json
import sys

import torch
from family import FAMILIES, NEW_TOKENS, Reference

PROMPTS = (0, 1, -1)
MARGIN = 1e-4


def settings_of(case, end):
    """Settings that change the greedy answer of a prompt, whose answers end at `end`."""
    first = case["greedy_ids"][:4]
    other = [token for token in first if token not in end]
    yield {"suppress_tokens": other[:1], "begin_suppress_tokens": other[1:2]}
    yield {"bad_words_ids": [first[:2], other[-1:], [end[0]]]}
    yield {"eos_token_id": [*end, other[0]], "min_new_tokens": 4}
    yield {"eos_token_id": [*end, other[0]], "min_length": len(case["prompt_ids"]) + 2}


def greedy(reference, case, settings):
    inputs = reference.inputs(reference.texts(case)[0], case)
    assert inputs["input_ids"][0].tolist() == case["prompt_ids"]
    made = reference.model.generate(
        **inputs, do_sample=False, max_new_tokens=NEW_TOKENS, return_dict_in_generate=True, output_scores=True, **settings
    )
    margin = min((best[0] - best[1]).item() for best in (step[0].topk(2).values for step in made.scores))
    return made.sequences[0, len(case["prompt_ids"]) :].tolist(), margin


@torch.no_grad()
def write(dir):
    reference = Reference(dir / "published")
    cases = json.loads((dir / "golden.json").read_text())["cases"]
    end = reference.model.generation_config.eos_token_id
    end = end if isinstance(end, list) else [end]
    together = [{"repetition_penalty": 1.3}, {"repetition_penalty": 0.9, "no_repeat_ngram_size": 2}]
    asked = [(settings, range(len(cases))) for settings in together]
    for prompt in PROMPTS:
        prompt %= len(cases)
        asked += [(settings, [prompt]) for settings in settings_of(cases[prompt], end)]
    lines, changed = [], 0
    for settings, prompts in asked:
        answers = []
        for prompt in prompts:
            ids, margin = greedy(reference, cases[prompt], settings)
            # an answer whose best two tokens are almost equal shows nothing
            if margin > MARGIN:
                answers.append({"case": prompt, "ids": ids})
                changed += ids != cases[prompt]["greedy_ids"]
        if answers:
            lines.append(json.dumps({"settings": settings, "answers": answers}))
    (dir / "generation.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{dir.name}: {len(lines)} settings, {changed} answers changed")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for dir in sorted(path.parent for path in FAMILIES.glob("*/golden.json")):
        if not sys.argv[1:] or dir.name in sys.argv[1:]:
            write(dir)
