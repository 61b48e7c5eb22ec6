"""Metrics of 10 steps of TRL's own DPOTrainer on a golden case: python trl_family.py CASE ...

The model is a fresh LoRA with drawn weights, the reference is the same model with the adapter off, and all four pairs are
one batch, so their order does not matter. Writes trl/ in the case: adapter/ (PEFT), and steps.json with the pairs, the
settings and the metrics of each step.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from family import FAMILIES, SEED, write_json  # noqa: E402

import datasets  # noqa: E402
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor  # noqa: E402
from trl import DPOConfig, DPOTrainer  # noqa: E402

STEPS = 10
TARGETS = r".*(language_model|text_model).*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
SETTINGS = {"learning_rate": 5e-3, "weight_decay": 0.1, "lr_scheduler_type": "linear", "warmup_steps": 2, "max_grad_norm": 1.0}
KEYS = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate", "margins": "rewards/margins"}
# photograph, prompt, chosen, rejected
PAIRS = [
    ("wide", "What is the dog near?", "The dog is near a table.", "The dog is near two cats."),
    ("tall", "Describe the street.", "There is one bus.", "There is one bus and three people are walking."),
    ("small", "How many cups?", "The image shows two cups in the kitchen.", "Four."),
    ("large", "Is there a red car in this image?", "Yes.", "No, it is blue."),
]


def dataset(processor):
    """The pairs as texts. An answer ends with the token that ends it, without what the template writes after that."""
    holder = processor if processor.chat_template else processor.tokenizer

    def render(prompt, answer=None):
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return holder.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer is None)

    def answered(prompt, answer):
        return render(prompt, answer).removeprefix(render(prompt)).rstrip()

    rows = {
        "images": [[Image.open(FAMILIES / "photos" / f"{photo}.png").convert("RGB")] for photo, *_ in PAIRS],
        "prompt": [render(prompt) for _, prompt, _, _ in PAIRS],
        "chosen": [answered(prompt, chosen) for _, prompt, chosen, _ in PAIRS],
        "rejected": [answered(prompt, rejected) for _, prompt, _, rejected in PAIRS],
    }
    end = processor.tokenizer.eos_token
    assert all(answer.endswith(end) for answer in rows["chosen"] + rows["rejected"]), rows["chosen"]
    return datasets.Dataset.from_dict(rows)


def measure(case):
    checkpoint, out = FAMILIES / case / "published", FAMILIES / case / "trl"
    shutil.rmtree(out, ignore_errors=True)
    processor = AutoProcessor.from_pretrained(checkpoint)
    processor.image_processor = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as work:
        args = DPOConfig(
            output_dir=work, per_device_train_batch_size=len(PAIRS), max_steps=STEPS, logging_steps=1, save_strategy="no",
            logging_first_step=True, use_cpu=True, report_to=[], disable_tqdm=True, max_length=None, bf16=False,
            gradient_checkpointing=False, **SETTINGS,
        )
        lora = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=TARGETS)
        trainer = DPOTrainer(
            model=model, args=args, train_dataset=dataset(processor), processing_class=processor, peft_config=lora
        )
        rng = torch.Generator().manual_seed(SEED + 7)
        for name, parameter in trainer.model.named_parameters():
            if parameter.requires_grad:
                scale = 0.3 if "lora_B" in name else parameter.shape[1] ** -0.5
                parameter.data.copy_(torch.randn(parameter.shape, generator=rng) * scale)
        trainer.model.save_pretrained(out / "adapter")
        trainer.train()
    steps = [row for row in trainer.state.log_history if "loss" in row]
    assert len(steps) == STEPS
    write_json(out / "steps.json", {
        "versions": {m.__name__: m.__version__ for m in (trl, transformers, peft, torch)},
        "settings": SETTINGS,
        "pairs": [dict(zip(("image", "prompt", "chosen", "rejected"), pair)) for pair in PAIRS],
        **{ours: [float(row[theirs]) for row in steps] for ours, theirs in KEYS.items()},
    })
    # a model card and a path of this machine are no part of the case
    for path in (out / "adapter").glob("*.md"):
        path.unlink()
    config = out / "adapter/adapter_config.json"
    write_json(config, {**json.loads(config.read_text()), "base_model_name_or_path": case})
    print(case, [row["loss"] for row in steps])


if __name__ == "__main__":
    torch.set_num_threads(1)  # the model is tiny; two threads only wait for each other
    datasets.disable_progress_bars()
    for case in sys.argv[1:]:
        measure(case)
