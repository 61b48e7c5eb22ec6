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
LINEARS = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"


class OnDemand(TrainerCallback):
    """Blocks the trainer until a step is requested. The time starts there, so it includes the batch."""

    def __init__(self, cuda):
        self.asked = Asked(cuda)

    def on_train_begin(self, args, state, control, **kwargs):
        control.should_training_stop = self.asked.ready() is None

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = self.asked.done() is None


def train(model, processor, rows, lora, pairs, tokens, cuda, bf16):
    """Trains on `rows` in their order, `pairs` at a time. Sequences have `tokens` tokens."""
    string = Value("string")
    data = Dataset.from_list(
        rows, features=Features({"images": List(Image()), "prompt": string, "chosen": string, "rejected": string})
    )
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=pairs, num_train_epochs=1, learning_rate=2e-6,
            beta=0.1, bf16=bf16, gradient_checkpointing=False, max_length=None, use_cpu=not cuda,
            save_strategy="no", report_to=[], disable_tqdm=True, logging_steps=1, seed=0,
            train_sampling_strategy="sequential",
        ),
        train_dataset=data,
        processing_class=processor,
        peft_config=lora,
        callbacks=[OnDemand(cuda)],
    )
    trainer.remove_callback(PrinterCallback)

    def right_shape(module, arguments, out):
        assert out.last_hidden_state.shape[:2] == (2 * pairs, tokens), (out.last_hidden_state.shape, tokens)

    inner = trainer.model.get_base_model().model
    decoder = inner.text_model if hasattr(inner, "text_model") else inner.language_model
    decoder.register_forward_hook(right_shape)
    trainer.train()


def main():
    config_file, images = sys.argv[1:3]
    pairs, text, answer = map(int, sys.argv[3:6])
    cuda, bf16 = sys.argv[6].startswith("cuda"), sys.argv[7] == "bf16"
    quiet()
    model = model_of(config_file, sys.argv[6], torch.bfloat16 if bf16 else torch.float32)
    files = sorted(Path(images).glob("*.jpg"))
    rows = [
        {
            "images": [str(files[row % len(files)])], "prompt": prompt_of(text),
            "chosen": answer_of(2 * (row % pairs), answer), "rejected": answer_of(2 * (row % pairs) + 1, answer),
        }
        for row in range(pairs * STEPS)
    ]
    lora = peft.LoraConfig(
        r=32, lora_alpha=256, target_modules=rf".*language_model.*\.({LINEARS})",
        modules_to_save=["multi_modal_projector"],
    )
    tokens = text + model.config.image_seq_length + answer
    train(model, processor_of(model.config), rows, lora, pairs, tokens, cuda, bf16)


if __name__ == "__main__":
    main()
