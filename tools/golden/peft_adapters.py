"""Log-probabilities of a tiny checkpoint with adapters of many forms, loaded by PEFT.

    python peft_adapters.py MODEL_DIR TRANSFORMERS_DIR OUT_DIR

TRANSFORMERS_DIR is what golden.py wrote for the checkpoint: its first prompt, chosen answer and image are scored. OUT_DIR
gets one safetensors file per set of adapter weights, and cases.json: for each case the weights, the text of
adapter_config.json, and the sum of the answer's log-probabilities (or the name of PEFT's error).
"""

import argparse
import json
import tempfile
import warnings
from pathlib import Path

import peft
import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration

from common import quiet

ATTENTION = r".*language_model.*\.(q_proj|v_proj)"
# name of the weights: the settings that make them
WEIGHTS = {
    "attention": {"target_modules": ATTENTION},
    "ranks": {
        "target_modules": ATTENTION,
        # the first matching key applies, and a key matches the end of a name
        "rank_pattern": {r"layers\.1\.self_attn\.q_proj": 3, "q_proj": 2, r".*vision_tower.*": 7},
        "alpha_pattern": {"v_proj": 1.5, r"layers\.0\.self_attn\.v_proj": 100.0},
    },
    "head": {"target_modules": ["lm_head", "multi_modal_projector.linear_1", "o_proj"], "rank_pattern": {"lm_head": 2}},
    "whole": {
        "target_modules": r".*language_model.*\.k_proj",
        "modules_to_save": ["multi_modal_projector.linear_2"],
    },
    "whole_head": {"target_modules": ["q_proj", "lm_head"], "modules_to_save": ["lm_head", "multi_modal_projector"]},
}
LAYER_1 = "model.language_model.layers.1."
HEAD = "base_model.model.lm_head.base_layer.weight"
# name of the case: its weights, and its changes: settings, omitted or scaled tensors, a tied head
CASES = {
    "attention": ("attention", {}),
    "ranks": ("ranks", {}),
    "ranks_rslora": ("ranks", {"config": {"use_rslora": True}}),
    "patterns_of_nothing": (
        "attention",
        {"config": {"rank_pattern": {"gate_proj": 2}, "alpha_pattern": {"nothing": 1}}},
    ),
    "head": ("head", {}),
    "head_without_base": ("head", {"left_out": HEAD}),
    "head_with_another_base": ("head", {"scaled": {HEAD: 1.5}}),
    "tied_head": ("head", {"left_out": HEAD, "tied": True}),
    "whole": ("whole", {}),
    "whole_head": ("whole_head", {}),
    "whole_tied_head": ("whole_head", {"tied": True}),
    "half_of_the_layers": ("attention", {"left_out": LAYER_1}),
    "narrowed_to_q_proj": ("attention", {"config": {"target_modules": ["q_proj"]}}),
    "narrowed_by_expression": ("attention", {"config": {"target_modules": r".*language_model.*\.v_proj"}}),
    "narrowed_to_layer_1": (
        "attention",
        {"config": {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": 1}},
    ),
    "narrowed_by_layers_pattern": (
        "attention",
        {
            "config": {
                "target_modules": ["q_proj", "v_proj"],
                "layers_to_transform": [0],
                "layers_pattern": "language_model.layers",
            }
        },
    ),
    "layers_of_an_expression": ("attention", {"config": {"layers_to_transform": [0]}}),
    "excluded_by_names": ("attention", {"config": {"exclude_modules": ["v_proj"]}}),
    "excluded_by_expression": ("attention", {"config": {"exclude_modules": r".*layers\.0\..*"}}),
    "all_linear": ("attention", {"config": {"target_modules": "all-linear"}}),
    "targets_of_nothing": ("attention", {"config": {"target_modules": ["query"]}}),
    "projector_not_listed": ("whole", {"config": {"modules_to_save": None}}),
    "projector_missing": ("whole", {"left_out": "linear_2"}),
}


@torch.no_grad()
def logp(model, ids, start, pixels):
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels).logits[0, :-1].double()
    logps = torch.log_softmax(logits, -1).gather(-1, ids[0, 1:, None])[:, 0]
    return logps[start - 1 :].sum().item()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "transformers", "out"):
        ap.add_argument(name, type=Path)
    args = ap.parse_args()
    quiet()
    args.out.mkdir(parents=True, exist_ok=True)
    golden = load_file(args.transformers / "golden.safetensors")
    ids, start = golden["p0.chosen.input_ids"][None], len(golden["p0.prompt_ids"])
    pixels = golden["clean.pixel_values"][:1]

    def base(tied=False):
        model = LlavaForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32).eval()
        if tied:
            model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
            model.lm_head.weight = model.model.language_model.embed_tokens.weight
        return model

    def config(settings):
        return {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "base", **settings}

    for name, settings in WEIGHTS.items():
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as directory:
            made = {key: value for key, value in config(settings).items() if key != "peft_type"}
            model = peft.get_peft_model(base(), peft.LoraConfig(**made))
            generator = torch.Generator().manual_seed(len(name))
            with torch.no_grad():
                for _, parameter in sorted(model.named_parameters()):
                    if parameter.requires_grad:
                        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
            model.save_pretrained(directory)
            tensors = load_file(Path(directory) / "adapter_model.safetensors")
            save_file(tensors, args.out / f"{name}.safetensors")

    cases = {"base": {"logp": logp(base(), ids, start, pixels)}}
    for name, (weights, changes) in CASES.items():
        tied, scales, left_out = (changes.get(key) for key in ("tied", "scaled", "left_out"))
        with tempfile.TemporaryDirectory() as directory:
            tensors = load_file(args.out / f"{weights}.safetensors")
            kept = [key for key in tensors if not left_out or left_out not in key]
            tensors = {key: tensors[key] * (scales or {}).get(key, 1) for key in kept}
            save_file(tensors, Path(directory) / "adapter_model.safetensors")
            # as text, because the order of its keys matters
            settings = json.dumps(config({**WEIGHTS[weights], **changes.get("config", {})}))
            case = {"weights": weights, **changes, "config": settings}
            (Path(directory) / "adapter_config.json").write_text(settings)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    model = peft.PeftModel.from_pretrained(base(tied), directory).eval()
                    case["logp"] = logp(model, ids, start, pixels)
                except (ValueError, KeyError) as error:
                    case["error"] = type(error).__name__
            case["warns_of_missing"] = any("missing adapter keys" in str(warning.message) for warning in caught)
            cases[name] = case
            print(name, case.get("logp"), case.get("error"), case["warns_of_missing"])
    (args.out / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
