"""The Python side of benches/train.rs on a checkpoint of any family: steps of TRL's DPOTrainer with PEFT's LoRA.

    python dpo_checkpoint.py CHECKPOINT PAIRS.jsonl ADAPTER TOKENS cpu|cuda:N f32|bf16

PAIRS.jsonl has the pairs of a step. ADAPTER is a PEFT directory, of which only the settings are read. TOKENS is the
number of tokens of the longest sequence.
"""

import json
import sys

import peft
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from dpo_step import STEPS, train
from models import quiet


def row_of(pair, processor):
    """A pair as texts. An answer ends with the token that ends it, without what the template writes after that."""
    end = processor.tokenizer.eos_token

    def render(answer=None):
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": pair["prompt"]}]}]
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer is None)

    def answered(answer):
        text = render(answer).removeprefix(render())
        return text[: text.rindex(end)] + end

    return {
        "images": [pair["image"]], "prompt": render(), "chosen": answered(pair["chosen"]),
        "rejected": answered(pair["rejected"]),
    }


def main():
    checkpoint, pairs, adapter, tokens, device, dtype = sys.argv[1:7]
    quiet()
    processor = AutoProcessor.from_pretrained(checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(
        checkpoint, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32
    ).to(device)
    rows = [row_of(json.loads(line), processor) for line in open(pairs)]
    lora = peft.PeftConfig.from_pretrained(adapter)
    lora.inference_mode = False
    train(
        model.eval(), processor, rows * STEPS, lora, len(rows), int(tokens), device.startswith("cuda"), dtype == "bf16"
    )


main()
