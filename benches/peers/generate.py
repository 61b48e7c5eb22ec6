"""The Python side of benches/generate.rs: transformers' generate for a batch of images, once per request.

    python generate.py CONFIG.json ROWS TEXT NEW cpu|cuda:N f32|bf16

A request is `batch` for all rows at once, or `single` for one after the other, which is how the authors generate. The time
includes vision tower, prefill and exactly NEW sampled tokens for each row, but not the making of pixels and token ids.
"""

import torch

from models import Asked, ids_of, pixels_of, prompt_of, task


@torch.inference_mode()
def main():
    rows, text, new, cuda, model = task()
    ids = ids_of(model.config, prompt_of(text))
    inputs = {
        "input_ids": torch.tensor([ids] * rows).to(model.device),
        "attention_mask": torch.ones(rows, len(ids), dtype=torch.int64).to(model.device),
        "pixel_values": pixels_of(model, rows),
    }

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
