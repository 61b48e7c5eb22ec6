#!/usr/bin/env python3
"""Run `bpo weaken` against a simulated cluster of vision-language servers, and measure it.

    cargo build --release -p bpo-cli --no-default-features --features server
    python tools/simulate_vlm_cluster.py --bpo target/release/bpo --samples 20000

The server answers at most --rate requests a second, each after a latency drawn from a log-normal
distribution, and refuses or fails a share of them (half status 429 with Retry-After, half 500).
When --restart-at of the answers are made it is gone for --down seconds, and every request under way
is lost. When --kill-at of the answers are in the file, `bpo` is killed and started again.

At the end the answers are checked: each sample has one, and no answer that had arrived was asked
for twice. The rate, the processor time of both sides and the failures are printed. Needs only the
standard library.
"""

import argparse
import asyncio
import json
import math
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEED = re.compile(rb'"seed":(\d+)')


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure `bpo weaken` against a simulated cluster.")
    parser.add_argument("--bpo", type=Path, default=ROOT / "target/release/bpo", help="the program")
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=1000, help="answers a second of the whole cluster")
    parser.add_argument("--latency", type=float, default=0.6, help="median latency in seconds")
    parser.add_argument("--sigma", type=float, default=0.4, help="width of the log-normal distribution")
    parser.add_argument("--failures", type=float, default=0.05, help="share of requests that fail")
    parser.add_argument("--restart-at", type=float, default=0.33, help="share of answers; 0 for never")
    parser.add_argument("--down", type=float, default=3, help="seconds without a server")
    parser.add_argument("--kill-at", type=float, default=0.66, help="share of answers; 0 for never")
    parser.add_argument("--concurrency", type=int, default=1024, help="max_concurrency of bpo")
    parser.add_argument("--distortion", default="blur:sigma=4")
    parser.add_argument("--format", choices=["png", "jpeg"], default="jpeg")
    parser.add_argument("--max-side", type=int, default=336, help="longer side of the images that are sent")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


class Cluster:
    """The state of the simulated servers."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.random = random.Random(arguments.seed)
        self.next_free = 0.0  # when the cluster can start the next request
        self.answered = Counter()  # answers by seed, which each sample has for itself
        self.statuses = Counter()
        self.received_bytes = 0
        self.open = set()  # connections
        self.busy = 0
        self.most_busy = 0
        self.server = None
        self.has_restarted = False

    async def start(self, port: int = 0) -> int:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(
            lambda: Connection(self), "127.0.0.1", port, backlog=4096, reuse_address=True
        )
        return self.server.sockets[0].getsockname()[1]

    async def restart(self, port: int) -> None:
        """Closes all connections, and comes back later."""
        self.server.close()
        for connection in list(self.open):
            connection.transport.abort()
        await asyncio.sleep(self.arguments.down)
        await self.start(port)

    def delay(self) -> float:
        """Seconds until the answer to a request that arrives now."""
        now = time.monotonic()
        self.next_free = max(self.next_free, now) + 1 / self.arguments.rate
        latency = self.arguments.latency * math.exp(self.random.gauss(0, self.arguments.sigma))
        return self.next_free - now + latency

    def reply(self, seed: int) -> tuple[float, bytes, int | None]:
        """Seconds to wait, the response, and the seed if it is an answer."""
        draw = self.random.random()
        if draw < self.arguments.failures / 2:
            return 0.01, response("429 Too Many Requests", b"slow down", b"Retry-After: 1\r\n"), None
        if draw < self.arguments.failures:
            return self.arguments.latency, response("500 Internal Server Error", b"out of memory"), None
        message = {"role": "assistant", "content": f"A table with a cup and {seed} plates."}
        body = {
            "object": "chat.completion",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 600, "completion_tokens": 12},
        }
        return self.delay(), response("200 OK", json.dumps(body).encode()), seed


def response(status: str, body: bytes, head: bytes = b"") -> bytes:
    start = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n".encode()
    return start + head + b"\r\n" + body


class Connection(asyncio.Protocol):
    """A connection, which has one request at a time."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.head = b""
        self.left = 0  # bytes of the body that are missing
        self.tail = b""  # end of the body
        self.timer = None

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.cluster.open.add(self)

    def connection_lost(self, _) -> None:
        self.cluster.open.discard(self)
        if self.timer:
            self.timer.cancel()
            self.timer = None
            self.cluster.busy -= 1

    def data_received(self, data: bytes) -> None:
        self.cluster.received_bytes += len(data)
        if not self.left:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data, self.head = self.head[:end], self.head[end + 4 :], b""
            if head.startswith(b"GET"):
                self.transport.write(response("404 Not Found", b""))
                return
            self.left = int(re.search(rb"(?i)content-length: *(\d+)", head).group(1))
            self.tail = b""
        self.left -= len(data)
        self.tail = (self.tail + data)[-200:]
        if not self.left:
            seed = int(SEED.findall(self.tail)[-1])
            wait, reply, answered = self.cluster.reply(seed)
            self.cluster.busy += 1
            self.cluster.most_busy = max(self.cluster.most_busy, self.cluster.busy)
            self.timer = asyncio.get_running_loop().call_later(wait, self.answer, reply, answered)

    def answer(self, reply: bytes, answered: int | None) -> None:
        self.timer = None
        self.cluster.busy -= 1
        self.cluster.statuses[reply[9:12].decode()] += 1
        if answered is not None:
            self.cluster.answered[answered] += 1
        self.transport.write(reply)


def write_data(arguments: argparse.Namespace, directory: Path, url: str) -> list[str]:
    """Writes data and settings, and returns the command."""
    photos = ROOT / "examples/data/photos"
    names = sorted(path.name for path in photos.glob("*.jpg"))
    with open(directory / "data.jsonl", "w", encoding="utf-8") as file:
        for index in range(arguments.samples):
            turns = [
                {"from": "human", "value": f"<image>\nWhat is in picture {index}?"},
                {"from": "gpt", "value": "A table with a cup."},
            ]
            record = {"id": str(index), "image": names[index % len(names)], "conversations": turns}
            file.write(json.dumps(record) + "\n")
    settings = f"""
[weaken]
distortion = "{arguments.distortion}"

[weaken.server_images]
format = "{arguments.format}"
max_side = {arguments.max_side}

[weaken.server]
base_url = "{url}"
model = "simulated"
max_concurrency = {arguments.concurrency}
prompt_price = 0.1
completion_price = 0.4
"""
    (directory / "bpo.toml").write_text(settings)
    command = [arguments.bpo, "weaken", "--config", directory / "bpo.toml", "--data", directory / "data.jsonl"]
    return [str(part) for part in command + ["--images", photos, "--out", directory / "weakened.jsonl"]]


def count_lines(path: Path) -> int:
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


async def run(arguments: argparse.Namespace, directory: Path) -> None:
    cluster = Cluster(arguments)
    port = await cluster.start()
    command = write_data(arguments, directory, f"http://127.0.0.1:{port}")
    out = directory / "weakened.jsonl"
    begin = time.monotonic()
    killed, steady = 0, []
    process = subprocess.Popen(command)
    while process.poll() is None:
        await asyncio.sleep(0.25)
        done = len(cluster.answered)
        steady.append((time.monotonic(), done))
        if arguments.restart_at and not cluster.has_restarted and done >= arguments.restart_at * arguments.samples:
            cluster.has_restarted = True
            print(f"the server restarts after {done} answers", file=sys.stderr)
            await cluster.restart(port)
        if arguments.kill_at and not killed and done >= arguments.kill_at * arguments.samples:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed = count_lines(out)
            print(f"bpo was killed with {killed} answers in the file", file=sys.stderr)
            process = subprocess.Popen(command)
    seconds = time.monotonic() - begin
    if process.returncode != 0:
        sys.exit(f"error: bpo ended with {process.returncode}")
    report(arguments, cluster, out, seconds, steady)


def report(arguments, cluster: Cluster, out: Path, seconds: float, steady: list) -> None:
    with open(out, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    ids = [line["id"] for line in lines]
    assert len(ids) == len(set(ids)) == arguments.samples, "each sample has one line"
    assert all("response" in line for line in lines), "each line is an answer"
    twice = sum(count - 1 for count in cluster.answered.values())
    best = max(
        (late[1] - early[1]) / (late[0] - early[0]) for early, late in zip(steady, steady[20:])
    ) if len(steady) > 20 else float("nan")
    client = resource.getrusage(resource.RUSAGE_CHILDREN)
    server = resource.getrusage(resource.RUSAGE_SELF)
    requests = sum(cluster.statuses.values())
    client_s, server_s = client.ru_utime + client.ru_stime, server.ru_utime + server.ru_stime
    figures = {
        "processors": os.cpu_count(),
        "samples": arguments.samples,
        "seconds": round(seconds, 1),
        "answers a second": round(arguments.samples / seconds),
        "best answers a second over 5 s": round(best),
        "most requests at a time": cluster.most_busy,
        "responses by status": dict(cluster.statuses),
        "answers sent again after the kill or restart": twice,
        "KiB a request": round(cluster.received_bytes / requests / 1024, 1),
        "processor ms of bpo a request": round(client_s / requests * 1000, 2),
        "processor ms of the simulation a request": round(server_s / requests * 1000, 2),
        "peak memory of bpo in MiB": round(client.ru_maxrss / 1024),
    }
    print(json.dumps(figures, indent=1))


def main() -> None:
    arguments = parse_arguments()
    if not arguments.bpo.is_file():
        sys.exit(f"error: no program {arguments.bpo}; build it, or give --bpo FILE")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(run(arguments, Path(directory)))


if __name__ == "__main__":
    main()
