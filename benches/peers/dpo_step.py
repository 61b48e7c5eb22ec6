"""The Python side of benches/train.rs: steps of TRL's DPOTrainer with PEFT's LoRA, one per request.

    python dpo_step.py CONFIG.json IMAGE_DIR PAIRS TEXT ANSWER cpu|cuda:N f32|bf16

A step includes image files to pixels and text to tokens (in the collator), the forward passes of policy and reference,
backward, AdamW.
"""

import sys
import tempfile
from pathlib import Path

import peft
import torch
from datasets import Dataset, Features, Image, List, Value
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from models import Asked, answer_of, model_of, processor_of, prompt_of, quiet

STEPS = 500


class OnDemand(TrainerCallback):
    """Blocks the trainer until a step is requested. The time starts there, so it includes the batch."""

    def __init__(self, cuda):
        self.asked = Asked(cuda)

    def on_train_begin(self, args, state, control, **kwargs):
        control.should_training_stop = self.asked.ready() is None

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = self.asked.done() is None


def main():
    config_file, images = sys.argv[1:3]
    pairs, text, answer = map(int, sys.argv[3:6])
    cuda, bf16 = sys.argv[6].startswith("cuda"), sys.argv[7] == "bf16"
    quiet()
    model = model_of(config_file, sys.argv[6], torch.bfloat16 if bf16 else torch.float32)
    files = sorted(Path(images).glob("*.jpg"))
    rows = range(pairs * STEPS)
    string = Value("string")
    data = Dataset.from_dict(
        {
            "images": [[str(files[row % len(files)])] for row in rows],
            "prompt": [prompt_of(text) for _ in rows],
            "chosen": [answer_of(2 * (row % pairs), answer) for row in rows],
            "rejected": [answer_of(2 * (row % pairs) + 1, answer) for row in rows],
        },
        features=Features({"images": List(Image()), "prompt": string, "chosen": string, "rejected": string}),
    )
    linears = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=pairs, num_train_epochs=1, learning_rate=2e-6,
            beta=0.1, bf16=bf16, gradient_checkpointing=False, max_length=None, use_cpu=not cuda,
            save_strategy="no", report_to=[], disable_tqdm=True, logging_steps=1, seed=0,
        ),
        train_dataset=data,
        processing_class=processor_of(model.config),
        peft_config=peft.LoraConfig(
            r=32, lora_alpha=256, target_modules=rf".*language_model.*\.({linears})",
            modules_to_save=["multi_modal_projector"],
        ),
        callbacks=[OnDemand(cuda)],
    )
    trainer.remove_callback(PrinterCallback)

    tokens = text + model.config.image_seq_length + answer

    def right_shape(module, arguments, out):
        assert out.last_hidden_state.shape[:2] == (2 * pairs, tokens), out.last_hidden_state.shape

    trainer.model.get_base_model().model.language_model.register_forward_hook(right_shape)
    trainer.train()


main()
