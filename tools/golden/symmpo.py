"""Values of SymMPO's loss from its equation in float64, with torch's gradients.

    python symmpo.py OUT.json

The equation is that of the trainer in the authors' code (github.com/Liuwq-bit/SymMPO, muffin/train/trainers.py). Each
pair has five log-probabilities: of the chosen and the rejected answer for its image, of the answer of the other image
for its image, and of the chosen answer and of the answer of the other image for the other image. One case has a beta
for each pair, which their code does not have.
"""

import json
import sys
from pathlib import Path

import torch
from torch.nn.functional import logsigmoid

PAIRS = 4
NAMES = ("chosen", "rejected", "answer", "images", "both")
# beta of each pair, lambda, and the weight of the square
SETTINGS = (
    ((0.1,) * PAIRS, 0.5, 1e-4),
    ((0.1,) * PAIRS, 0.5, 0.0),
    ((0.3,) * PAIRS, 2.0, 0.01),
    ((0.1, 0.2, 0.05, 1.0), 0.0, 0.002),
)


def main():
    torch.manual_seed(7)
    draw = lambda scale: (torch.randn(len(NAMES), PAIRS, dtype=torch.float64) * scale).mul(1e4).round().div(1e4)
    reference = draw(6.0) - 40.0
    policy = reference + draw(5.0)
    cases = []
    for betas, weight, consistency in SETTINGS:
        beta = torch.tensor(betas, dtype=torch.float64)
        values = policy.clone().requires_grad_()
        ratio = dict(zip(NAMES, values - reference))
        preferred = lambda logit: -logsigmoid(beta * logit)
        own = ratio["chosen"] - ratio["answer"]
        other = ratio["both"] - ratio["images"]
        losses = (
            preferred(ratio["chosen"] - ratio["rejected"])
            + weight * (preferred(own) + preferred(other))
            + preferred(ratio["chosen"])
            + preferred(ratio["both"])
            + consistency * (own - other) ** 2
        )
        losses.sum().backward()
        cases.append(
            {
                "beta": betas,
                "lambda": weight,
                "consistency": consistency,
                "losses": losses.tolist(),
                "gradient": values.grad.tolist(),
            }
        )
    out = {"policy": policy.tolist(), "reference": reference.tolist(), "cases": cases}
    Path(sys.argv[1]).write_text(json.dumps(out) + "\n")


main()
