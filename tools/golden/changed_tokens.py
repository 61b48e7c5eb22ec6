"""Which tokens of two answers differ, by Python's difflib.

    python changed_tokens.py OUT.json

The rule is that of get_diff_ids in diff_lib.py of RLHF-V's and CHiP's code: the ranges between matching blocks of at
least three tokens, where both answers have tokens. The answers follow a common prompt, as there. difflib's shortcut for
sequences of 200 tokens and more (autojunk) is off.
"""

import json
import random
import sys
from difflib import SequenceMatcher
from pathlib import Path

PROMPT = [1000 + token for token in range(300)]
LEAST = 3


def changed(one, other):
    blocks = SequenceMatcher(None, PROMPT + one, PROMPT + other, autojunk=False).get_matching_blocks()
    blocks = [block for block in blocks[:-1] if block.size >= LEAST] + [blocks[-1]]
    out, start = ([], []), (0, 0)
    for block in blocks:
        if start[0] < block.a and start[1] < block.b:
            out[0].append((start[0] - len(PROMPT), block.a - len(PROMPT)))
            out[1].append((start[1] - len(PROMPT), block.b - len(PROMPT)))
        start = (block.a + block.size, block.b + block.size)
    return out


def main():
    random.seed(3)
    cases = []
    for case in range(60):
        words = 2 + case % 9
        one = [random.randrange(words) for _ in range(random.randrange(40))]
        other = list(one)
        for _ in range(random.randrange(6)):
            at = random.randrange(len(other) + 1)
            new = [random.randrange(words + 3) for _ in range(random.randrange(4))]
            other[at : at + random.randrange(5)] = new
        if case % 10 == 9:
            other = [random.randrange(words) for _ in range(30)]
        cases.append({"one": one, "other": other, "changed": changed(one, other)})
    Path(sys.argv[1]).write_text(json.dumps(cases) + "\n")


main()
