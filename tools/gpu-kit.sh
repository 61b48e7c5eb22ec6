#!/usr/bin/env bash
# Builds what tools/gpu.sh runs, for a machine that has a GPU and no compiler: tests and benchmarks in target/gpu-kit.
#
#   tools/gpu-kit.sh cuda-nvrtc|cuda|wgpu|tch [OPTIONS OF CARGO]
#
# Both forms of CUDA download LLVM when they are built. tch wants here the LibTorch that it is to find there.
set -euo pipefail
cd "$(dirname "$0")/.."
feature=${1:?cuda-nvrtc, cuda, wgpu or tch}
shift
kit=target/gpu-kit
tests=test-${feature%-nvrtc}
features=bpo-benches/$feature,bpo-model/${tests/tch/libtorch}

rm -rf "$kit"
mkdir -p "$kit"
cargo test --release -p bpo-model -p bpo-benches --features "$features" --no-run \
    --test suite --bench train --bench generate --bench score \
    --config 'profile.release.strip=true' "$@" 2>&1 | tee "$kit/build.log"
sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$kit/build.log" | while read -r program; do
    name=$(basename "$program")
    cp "$program" "$kit/${name%-*}"
done
ls -l "$kit"
