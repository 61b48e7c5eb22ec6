"""Values of HaNoRec's equations (arXiv 2511.18740) for random batches and a random catalogue.

    python hanorec.py OUT.json

The equations are written out here in float64, one value at a time; gradients are torch's. They are those of the
paper as its authors compute them (github.com/wangyu0627/HaNoRec): the responsiveness (equation 8) over the pairs of
one forward pass, and a lower limit of the coefficients (equation 11). Numbers that no random batch meets are drawn on
purpose: gaps whose mean is zero, equal gaps, and coefficients below the limit.
"""

import argparse
import json
import math
from pathlib import Path

import torch

FLOOR, TINY, NEIGHBORS = 1e-6, 1e-8, 10


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def mean(values):
    return math.fsum(values) / len(values)


def responsiveness(gaps):
    scale = mean(gaps)
    if abs(scale) <= TINY:
        scale = max(mean([abs(gap) for gap in gaps]), TINY)
    n = sorted(gap / scale for gap in gaps)
    return sigmoid(mean(n[1:-1])) / sigmoid(mean(n))


def batch(policy, reference, hardness, lengths, beta0, label_smoothing, sft):
    """The values of one batch. `policy` and `reference` have the chosen and the rejected completions."""
    leaves = [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in policy]
    ratios = [leaf - torch.tensor(values, dtype=torch.float64) for leaf, values in zip(leaves, reference)]
    differences = ratios[0] - ratios[1]
    rho = responsiveness([beta0 * d for d in differences.tolist()])
    betas = [max(FLOOR, beta0 * rho * h) for h in hardness]
    losses = []
    for i, beta in enumerate(betas):
        margin = beta * differences[i]
        softplus = torch.nn.functional.softplus
        loss = (1 - label_smoothing) * softplus(-margin, threshold=1e9) + label_smoothing * softplus(margin, threshold=1e9)
        losses.append(loss - sft * leaves[0][i] / lengths[i])
    torch.stack(losses).sum().backward()
    rewards = [[beta * r for beta, r in zip(betas, ratio.tolist())] for ratio in ratios]
    return {
        "beta": beta0, "label_smoothing": label_smoothing, "sft": sft, "hardness": hardness, "lengths": lengths,
        "policy": policy, "reference": reference, "responsiveness": rho, "betas": betas,
        "losses": [loss.item() for loss in losses], "rewards": rewards, "gradients": [leaf.grad.tolist() for leaf in leaves],
    }


def batches(rng):
    draw = lambda n, low, high: (low + (high - low) * torch.rand(n, generator=rng, dtype=torch.float64)).tolist()  # noqa: E731
    for n in (3, 4, 5, 8, 16):
        for beta0, label_smoothing, sft in ((0.1, 0.0, 0.0), (0.5, 0.1, 0.0), (0.1, 0.0, 1.0)):
            logps = [draw(n, -60, -1) for _ in range(4)]
            lengths = [float(1 + i % 7) for i in range(n)]
            yield batch(logps[:2], logps[2:], draw(n, 0.6, 1.6), lengths, beta0, label_smoothing, sft)
    zero_mean = [1.5, -1.5, 4.0, -2.5, -1.5]
    for differences in (zero_mean, [0.0] * 4, [2.0] * 3, [-3.0, -1.0, -2.0, -8.0], [100.0, -30.0, -30.0, -30.0]):
        n = len(differences)
        rejected, reference = [-20.0 - i for i in range(n)], [[-25.0] * n, [-30.0] * n]
        # D = (chosen + 25) - (rejected + 30)
        chosen = [d - 25 + r + 30 for d, r in zip(differences, rejected)]
        yield batch([chosen, rejected], reference, draw(n, 0.6, 1.6), [3.0] * n, 0.1, 0.0, 0.0)


def catalogue(rng, items=24, width=8, pairs=12):
    """Hardness of pairs. Some items have no image; a pair compares one item or several."""
    draw = lambda: torch.randn(width, generator=rng, dtype=torch.float64).tolist()  # noqa: E731
    text, image = [draw() for _ in range(items)], [draw() if i % 5 else None for i in range(items)]

    def normalized(vector):
        norm = math.sqrt(math.fsum(x * x for x in vector))
        return [x / norm for x in vector]

    def vector(text, image):
        if image is None:
            return normalized(text)
        return normalized([t + v for t, v in zip(normalized(text), normalized(image))])

    vectors = [vector(t, v) for t, v in zip(text, image)]
    distributions = []
    for i, one in enumerate(vectors):
        cosines = [math.fsum(a * b for a, b in zip(one, other)) for j, other in enumerate(vectors) if j != i]
        weights = [math.exp(cosine) for cosine in sorted(cosines, reverse=True)[:NEIGHBORS]]
        distributions.append([weight / math.fsum(weights) for weight in weights])
    compared, distances = [], []
    for i in range(pairs):
        count = 1 if i % 3 else 3
        drawn = torch.randint(items, (count, 2), generator=rng).tolist()
        compared.append(drawn)
        distances.append(mean([math.dist(distributions[c], distributions[r]) for c, r in drawn]))
    denominator = sigmoid(mean(distances))
    return {
        "neighbors": NEIGHBORS, "text": text, "image": image, "vectors": vectors, "distributions": distributions,
        "pairs": compared, "distances": distances, "hardness": [sigmoid(d) / denominator for d in distances],
    }


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("out")
    args = ap.parse_args()
    rng = torch.Generator().manual_seed(2025)
    report = {"batches": list(batches(rng)), "catalogue": catalogue(rng)}
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report) + "\n")
    for row in report["batches"]:
        print(len(row["betas"]), "pairs: responsiveness", row["responsiveness"], "smallest beta", min(row["betas"]))


if __name__ == "__main__":
    main()
