#!/usr/bin/env bash
# Rounds against the same number of epochs in the world of `bpo quickstart`, over three seeds: the figures of
# docs/src/rounds.md. Takes 15 minutes on two cores.
#
#     bpo quickstart && tools/compare_rounds.sh target/quickstart target/compare-rounds
set -euo pipefail
quickstart=$(realpath "$1")
mkdir -p "$2"
cd "$2"
bpo=${BPO:-bpo}
world=$quickstart/world

ask() { # SPLIT [flags]: answers to the questions of a split
    local split=$1
    shift
    "$bpo" generate --model "$quickstart/base" --images "$world/images" --questions "$split.questions.jsonl" \
        --max-new-tokens 40 --batch-size 64 "$@"
}

for split in counter held-out; do
    python3 - "$world/$split.json" > "$split.questions.jsonl" <<'PY'
import json, sys
for sample in json.load(open(sys.argv[1])):
    print(json.dumps({"image": sample["image"], "prompt": sample["conversations"][0]["value"]}))
PY
    ask "$split" > "$split-before.jsonl"
done
for seed in 42 43 44; do
    run() { "$bpo" run --config "$quickstart/run/config.toml" --seed "$seed" "$@"; }
    run --rounds 3 --epochs 1 --out "rounds-$seed"
    run --epochs 2 --out "two-epochs-$seed"
    run --epochs 3 --out "three-epochs-$seed"
    for split in counter held-out; do
        for round in 0 1 2; do
            ask "$split" --adapter "rounds-$seed/round-$round/adapter" > "$split-round-$round-$seed.jsonl"
        done
        for epochs in two three; do
            ask "$split" --adapter "$epochs-epochs-$seed/adapter" > "$split-$epochs-epochs-$seed.jsonl"
        done
        truth=$world/$split.truth.jsonl
        printf '\n%s, seed %s\n' "$split" "$seed" >&2
        "$bpo" eval chair --truth "$truth" --answers "$split-before.jsonl" --answers "$split-round-0-$seed.jsonl" \
            --answers "$split-round-1-$seed.jsonl" --answers "$split-round-2-$seed.jsonl" \
            --answers "$split-two-epochs-$seed.jsonl" --answers "$split-three-epochs-$seed.jsonl"
        for pair in "two 1" "three 2"; do
            read -r epochs round <<< "$pair"
            "$bpo" eval chair --truth "$truth" --answers "$split-$epochs-epochs-$seed.jsonl" \
                --answers "$split-round-$round-$seed.jsonl"
        done
    done
done
