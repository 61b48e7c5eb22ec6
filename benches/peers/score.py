"""The Python side of benches/score.rs: summed log-probabilities of answers from transformers' forward pass, whenever it is asked.

    python score.py CONFIG.json ROWS TEXT ANSWER cpu|cuda f32|bf16

Asked is `all` for the logits of all tokens, or `kept` for those of the answers alone. Each row has its image, prompt and answer; pixels
and token ids are there before.
"""

import sys

import torch

from models import Asked, answer_of, model_of, processor_of, prompt_of, quiet


@torch.inference_mode()
def main():
    rows, text, answer = map(int, sys.argv[2:5])
    cuda, dtype = sys.argv[5] == "cuda", torch.bfloat16 if sys.argv[6] == "bf16" else torch.float32
    quiet()
    model = model_of(sys.argv[1], sys.argv[5], dtype)
    config = model.config
    side, image = config.vision_config.image_size, config.image_token_index
    tokenizer = processor_of(config).tokenizer

    def ids_of(row):
        ids = tokenizer(f"{prompt_of(text)} {answer_of(row, answer)}", add_special_tokens=False)["input_ids"]
        at = ids.index(image)
        return ids[:at] + [image] * config.image_seq_length + ids[at + 1 :]

    ids = torch.tensor([ids_of(row) for row in range(rows)]).to(model.device)
    pixels = torch.randn(rows, 3, side, side, generator=torch.Generator().manual_seed(0)).to(model.device, dtype)
    mask = torch.ones_like(ids)
    targets = ids[:, -answer:, None]

    def score(kept):
        out = model(input_ids=ids, attention_mask=mask, pixel_values=pixels, use_cache=False, logits_to_keep=kept)
        # each token is predicted at the one before it
        logits = out.logits[:, -answer - 1 : -1].float()
        return logits.log_softmax(-1).gather(2, targets).sum((1, 2)).tolist()

    asked = Asked(cuda)
    way = asked.ready()
    while way is not None:
        assert len(score(answer + 1 if way == "kept" else 0)) == rows
        way = asked.done()


main()
