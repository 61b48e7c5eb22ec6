#!/usr/bin/env bash
# Parity and benchmarks on a GPU within ten minutes, from what tools/gpu-kit.sh has built. Needs the repository, the driver and, with
# CUDA, a toolkit (CUDA_PATH); no compiler. With BPO_BENCH_PYTHON the peers run too. Kernels that were tuned once are kept in
# target/environment.
#
#   tools/gpu.sh [KIT]                   LLaVA-1.5-7B's dimensions in bf16
#   DEVICE=libtorch:cuda tools/gpu.sh     the same on LibTorch, which LD_LIBRARY_PATH leads to
#   DEVICE=wgpu MODEL=small tools/gpu.sh
set -uo pipefail
root=$(realpath "$(dirname "$0")/..")
kit=$(realpath "${1:-$root/target/gpu-kit}")
cd "$root" || exit
device=${DEVICE:-cuda}
model=${MODEL:-7b}
export BPO_TEST_DEVICE=$device BPO_GOLDEN=$PWD/crates/bpo-model/tests/golden CARGO_MANIFEST_DIR=$PWD/benches
end=$((SECONDS + 580))
failed=()

# what it runs must have ended when the time is over
run() {
    printf '\n== %s\n' "$*"
    timeout $((end > SECONDS ? end - SECONDS : 1)) "$@" || failed+=("$(basename "$1")")
    printf '== %s s so far\n' "$SECONDS"
}

# one test at a time: they share the GPU
for module in parity trl lora groups; do
    run "$kit/suite" "$module::" --test-threads 1
done
sizes=(--device "$device")
[ "$model" = 7b ] && sizes+=(--bf16)
run "$kit/generate" "$model" "${sizes[@]}" --rows 32 --text 64 --new 64 --rounds 2
run "$kit/train" "$model" "${sizes[@]}" --pairs 2 --text 64 --answer 100 --rounds 3
run "$kit/score" "$model" "${sizes[@]}" --prompts 2 --text 64 --answer 100 --rounds 3

if [ ${#failed[@]} -gt 0 ]; then
    printf '\nfailed or out of time: %s\n' "${failed[*]}"
    exit 1
fi
