"""The Python side of benches/load.rs: transformers' from_pretrained of a checkpoint, once per request.

    python load.py DIR

A request is the type, `f32` or `bf16`. A weight that has that type in the file stays mapped, so one value of each of its
pages is read.
"""

import sys

import torch
from transformers import LlavaForConditionalGeneration

from models import Asked, quiet

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
PAGE = 4096


@torch.inference_mode()
def main():
    quiet()
    asked = Asked(cuda=False)
    way = asked.ready()
    while way is not None:
        model = LlavaForConditionalGeneration.from_pretrained(sys.argv[1], dtype=TYPES[way])
        for weight in model.parameters():
            weight.flatten()[:: PAGE // weight.element_size()].sum()
        way = asked.done()
        del model


main()
