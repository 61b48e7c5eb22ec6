"""The Python side of benches/generate.rs: transformers' generate for a batch of images, once whenever it is asked.

    python generate.py CONFIG.json ROWS TEXT NEW cpu|cuda f32|bf16

Asked is `batch` for all rows at once or `single` for one after the other, which is how the authors generate. Vision tower, prefill and
exactly NEW sampled tokens for each row; pixels and token ids are there before.
"""

import sys

import torch

from models import Asked, model_of, processor_of, prompt_of, quiet


@torch.inference_mode()
def main():
    rows, text, new = map(int, sys.argv[2:5])
    cuda, dtype = sys.argv[5] == "cuda", torch.bfloat16 if sys.argv[6] == "bf16" else torch.float32
    quiet()
    model = model_of(sys.argv[1], sys.argv[5], dtype)
    side = model.config.vision_config.image_size
    ids = processor_of(model.config).tokenizer(prompt_of(text), add_special_tokens=False)["input_ids"]
    image = model.config.image_token_index
    at = ids.index(image)
    ids = ids[:at] + [image] * model.config.image_seq_length + ids[at + 1 :]
    inputs = {
        "input_ids": torch.tensor([ids] * rows),
        "attention_mask": torch.ones(rows, len(ids), dtype=torch.int64),
        "pixel_values": torch.randn(rows, 3, side, side, generator=torch.Generator().manual_seed(0)).to(dtype),
    }
    inputs = {name: values.to(model.device) for name, values in inputs.items()}

    def generate(part):
        out = model.generate(
            **{name: values[part] for name, values in inputs.items()},
            do_sample=True, temperature=0.2, top_k=0, max_new_tokens=new, eos_token_id=None,
        )
        assert out.shape[1] == len(ids) + new

    asked = Asked(cuda)
    way = asked.ready()
    while way is not None:
        for start in range(rows) if way == "single" else [None]:
            generate(slice(None) if start is None else slice(start, start + 1))
        way = asked.done()


main()
