#!/usr/bin/env bash
# MBPP of any model: pass@1 of greedy answers, run in the sandbox (programs that a model wrote are executed).
#
#   launch/run_mbpp.sh MODEL [KEY=VALUE …]      MODEL: a folder that transformers loads, or a hub id
#
# BENCHMARKS (package) says where items lie: package | hub | folder. OUT is runs/measured/NAME-mbpp by default.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
model=$1
shift
[ ! -d "$model" ] || model=$(cd "$model" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec python -m dante.evaluate measure "$model" --out "${OUT:-runs/measured/$(basename "$model")-mbpp}" \
  "suite=[benchmark/mbpp_3shot]" eval.allow_code_execution=true data.benchmarks="${BENCHMARKS:-package}" "$@"
