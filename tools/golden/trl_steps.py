"""Metrics of 20 steps of TRL's own DPOTrainer, with weight decay.

    python trl_steps.py MODEL_DIR OUT.json

The four pairs of trl_losses.py are one batch, so their order does not matter. Two trainings:
  full      all weights are trained, the reference is a copy of the model
  adapter   the model is a PeftModel with an adapter that is not fresh (adapter/ next to OUT.json, made by trl_losses.py),
            so that TRL holds it to a copy of that adapter
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import datasets
import peft
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration
from trl import DPOConfig, DPOTrainer

from common import quiet
from trl_losses import dataset

STEPS = 20
SETTINGS = {"learning_rate": 1e-3, "weight_decay": 1.0, "lr_scheduler_type": "linear", "warmup_steps": 2, "max_grad_norm": 1.0}
KEYS = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate", "margins": "rewards/margins"}


def train(model, processor, work):
    args = DPOConfig(
        output_dir=work, per_device_train_batch_size=4, max_steps=STEPS, logging_steps=1, logging_first_step=True,
        save_strategy="no", use_cpu=True, report_to=[], disable_tqdm=True, max_length=None, gradient_checkpointing=False,
        bf16=False, **SETTINGS,
    )
    trainer = DPOTrainer(model=model, args=args, train_dataset=dataset(), processing_class=processor)
    trainer.train()
    steps = [row for row in trainer.state.log_history if "loss" in row]
    assert len(steps) == STEPS
    decayed = set(trainer.get_decay_parameter_names(trainer.model))
    trained = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    figures = {ours: [float(row[theirs]) for row in steps] for ours, theirs in KEYS.items()}
    return figures | {"without_decay": sorted(name for name in trained if name not in decayed)}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("model")
    ap.add_argument("out")
    args = ap.parse_args()
    out = Path(args.out)
    torch.set_num_threads(1)
    quiet()
    datasets.disable_progress_bars()
    work = tempfile.mkdtemp()
    processor = AutoProcessor.from_pretrained(args.model)
    base = lambda: LlavaForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32)  # noqa: E731
    adapted = peft.PeftModel.from_pretrained(base(), out.parent / "adapter", is_trainable=True)
    report = {
        "settings": SETTINGS,
        "full": train(base(), processor, work),
        "adapter": train(adapted, processor, work),
    }
    shutil.rmtree(work, ignore_errors=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    for name in ("full", "adapter"):
        print(name, report[name]["loss"])


if __name__ == "__main__":
    main()
