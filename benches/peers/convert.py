"""Compares `bpo convert` with the `datasets` library: the same pairs from scored completions, to JSON lines and Parquet.

    cargo build --release -p bpo-cli --no-default-features --features server,parquet
    python benches/peers/convert.py --bpo target/release/bpo --records 180000

Each record has three completions, of which the annotated one makes a pair with each of the others. Both sides read
JSON lines, drop pairs with empty, equal or too long answers, and write TRL's conversational format. They take turns, and
the rate is that of the median round. Peak memory is measured with a ninth of the records and with all of them.
Needs datasets (0 rounds measure bpo alone).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAX_WORDS = 350
WORDS = "a dog and two red cups stand on the table near window".split()


def words(number, way):
    answer = [WORDS[(number + place * (place + way + 1)) % len(WORDS)] for place in range(50)]
    return " ".join(answer + [("once.", "twice.", "again.")[way]])


def write_records(path, records):
    with open(path, "w") as file:
        for number in range(records):
            completions = [
                {"score": int(way == 0), "response": words(number, way), "type": kind}
                for way, kind in enumerate(("gt", "mllm-hal", "llm-hal"))
            ]
            record = {
                "id": str(number), "image": f"{number:06}.jpg",
                "prompt": "<image>\nWhat is there in the picture?", "completions": completions,
            }
            file.write(json.dumps(record) + "\n")


def run(command, work):
    """Runs a command, and returns its seconds, its processor seconds, and its peak memory in MB."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=work)
    stderr = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status != 0:
        sys.exit(stderr.decode())
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def pairs(batch):
    """The pairs of a batch of records, for `datasets.map`."""
    out = {key: [] for key in ("id", "images", "prompt", "chosen", "rejected", "kind", "margin")}
    for id, image, prompt, completions in zip(batch["id"], batch["image"], batch["prompt"], batch["completions"]):
        text = prompt.removeprefix("<image>\n")
        question = [{"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": text}]}]
        for i, chosen in enumerate(completions):
            for j, rejected in enumerate(completions):
                if chosen["score"] <= rejected["score"]:
                    continue
                one, other = chosen["response"].strip(), rejected["response"].strip()
                if not one or not other or one == other or max(len(one.split()), len(other.split())) > MAX_WORDS:
                    continue
                out["id"].append(f"{id}:{i}>{j}")
                out["images"].append([image])
                out["prompt"].append(question)
                for key, answer in (("chosen", chosen), ("rejected", rejected)):
                    content = [{"type": "text", "text": answer["response"]}]
                    out[key].append([{"role": "assistant", "content": content}])
                out["kind"].append(rejected["type"])
                out["margin"].append(chosen["score"] - rejected["score"])
    return out


def peer(records, target):
    """What the process of the peer does."""
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        data = datasets.load_dataset("json", data_files=records, split="train", cache_dir=cache)
        data = data.map(pairs, batched=True, remove_columns=data.column_names)
        data.to_parquet(target) if target.endswith(".parquet") else data.to_json(target)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--bpo")
    ap.add_argument("--records", type=int, default=180_000)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--peer", nargs=2)
    args = ap.parse_args()
    if args.peer:
        return peer(*args.peer)
    bpo = str(Path(args.bpo).resolve())
    with tempfile.TemporaryDirectory() as work:
        few, all_records = f"{work}/few.jsonl", f"{work}/all.jsonl"
        write_records(few, args.records // 9)
        write_records(all_records, args.records)
        for name in ("pairs.jsonl", "pairs.parquet"):
            ours = lambda records: [bpo, "convert", records, name, "--to", "trl", "--max-words", str(MAX_WORDS)]
            other = [sys.executable, str(Path(__file__).resolve()), "--peer", all_records, f"{work}/peer-{name}"]
            few_mb = run(ours(few), work)[2]
            mine, theirs = [], []
            for _ in range(max(args.rounds, 1)):
                mine.append(run(ours(all_records), work))
                if args.rounds:
                    theirs.append(run(other, work))
            seconds, processor, megabytes = (statistics.median(column) for column in zip(*mine))
            print(f"{name}: bpo {seconds:.2f} s, {args.records / seconds:,.0f} records/s, {processor:.2f} processor seconds")
            print(f"  peak memory {few_mb:.0f} MB of {args.records // 9} records, {megabytes:.0f} MB of {args.records}")
            if theirs:
                ratios = [statistics.median(b[i] / a[i] for a, b in zip(mine, theirs)) for i in range(3)]
                print(f"  datasets takes {ratios[0]:.1f} times the time, {ratios[1]:.1f} times the processor time and "
                      f"{ratios[2]:.1f} times the memory")


main()
