"""The Python side of benches/score.rs: summed log-probabilities of answers from transformers' forward pass, once per request.

    python score.py CONFIG.json ROWS TEXT ANSWER cpu|cuda:N f32|bf16

A request is `all` for the logits of all tokens, or `kept` for those of the answers alone. Each row has its image, prompt and
answer. The time does not include the making of pixels and token ids.
"""

import torch

from models import Asked, answer_of, ids_of, pixels_of, prompt_of, task


@torch.inference_mode()
def main():
    rows, text, answer, cuda, model = task()
    sequences = [ids_of(model.config, f"{prompt_of(text)} {answer_of(row, answer)}") for row in range(rows)]
    ids, pixels = torch.tensor(sequences).to(model.device), pixels_of(model, rows)
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
