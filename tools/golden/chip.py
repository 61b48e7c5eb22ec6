"""Values of CHiP's loss from its equations in float64, with torch's gradients.

    python chip.py OUT.json

The equations are those of chip_loss and tdpo_get_batch_logps in the authors' code (github.com/LVUGAI/CHiP,
muffin/muffin/train/trainers.py and muffin/muffin/eval/muffin_inference_logp.py), with their weight of the tokens in
which the completions differ. The logits are random. Rows are the chosen completions, then the rejected ones, then
the chosen ones given the weakened image, one of each per pair.
"""

import json
import sys
from pathlib import Path

import torch
from torch.nn.functional import logsigmoid

PAIRS, TOKENS, VOCAB, BETA = 3, 5, 7, 0.1
CHOSEN_LENGTHS, REJECTED_LENGTHS = (5, 2, 3), (3, 4, 1)
# tok_beta, and the weight of the changed tokens
SETTINGS = ((0.1, None), (2.0, None), (0.0, None), (0.1, 4.0), (0.0, 2.0))
# ranges of the changed tokens of each pair
CHANGED = {"chosen": [[[1, 3], [4, 5]], [[0, 2]], []], "rejected": [[[1, 2]], [[0, 1], [3, 4]], []]}


def rounded(tensor):
    return [round(value, 12) for value in tensor.flatten().tolist()]


def main():
    torch.manual_seed(5)
    rows = 3 * PAIRS
    draw = lambda scale: (torch.randn(rows, TOKENS, VOCAB, dtype=torch.float64) * scale).mul(1e4).round().div(1e4)
    reference = draw(2.0)
    policy = reference + draw(0.7)
    targets = torch.randint(VOCAB, (rows, TOKENS))
    targets[2 * PAIRS :] = targets[:PAIRS]
    lengths = torch.tensor(CHOSEN_LENGTHS + REJECTED_LENGTHS + CHOSEN_LENGTHS)
    mask = torch.arange(TOKENS)[None] < lengths[:, None]

    changed = torch.zeros(rows, TOKENS)
    for row, ranges in enumerate(CHANGED["chosen"] + CHANGED["rejected"] + CHANGED["chosen"]):
        for start, end in ranges:
            changed[row, start:end] = 1

    cases = []
    for tok_beta, weight in SETTINGS:
        weights = mask * (1 if weight is None else 1 + (weight - 1) * changed)
        logits = policy.clone().requires_grad_()
        log_p, log_ref = logits.log_softmax(-1), reference.log_softmax(-1)
        at_targets = lambda logps: (logps.gather(2, targets[..., None])[..., 0] * weights).sum(1).split(PAIRS)
        chosen, rejected, weakened = (p - r for p, r in zip(at_targets(log_p), at_targets(log_ref)))
        kl = ((log_ref.exp() * (log_ref - log_p)).sum(-1) * mask).sum(1)
        kl_chosen, kl_rejected, _ = kl.split(PAIRS)
        logit = (chosen - rejected) + (chosen - weakened) - tok_beta * (kl_rejected - kl_chosen.detach())
        losses = -logsigmoid(BETA * logit)
        losses.sum().backward()
        cases.append({"tok_beta": tok_beta, "weight": weight, "losses": rounded(losses), "gradient": rounded(logits.grad)})
    out = {
        "beta": BETA, "shape": [rows, TOKENS, VOCAB], "lengths": lengths.tolist(), "targets": targets.flatten().tolist(),
        "policy": rounded(policy), "reference": rounded(reference), "divergences": rounded(kl), "changed": CHANGED,
        "cases": cases,
    }
    Path(sys.argv[1]).write_text(json.dumps(out) + "\n")


main()
