#!/usr/bin/env bash
# MBPP of any model: pass@1 of greedy answers, run in the sandbox (programs that a model wrote are executed).
#
#   launch/run_mbpp.sh MODEL [KEY=VALUE …]      MODEL: a folder that transformers loads, or a hub id
#
# BENCHMARKS (package) says where items lie: package | hub | folder. OUT is runs/measured/NAME-mbpp by default.
set -euo pipefail
name=mbpp settings=("suite=[benchmark/mbpp_3shot]" eval.allow_code_execution=true)
# shellcheck source=launch/measured.sh
source "$(dirname "${BASH_SOURCE[0]}")/measured.sh"
