#!/usr/bin/env bash
# Rebuilds the shipped candidates with real vLLM on a CPU: 360 problems, four answers each at T=0.6 and at T=1.0, at most 256
# tokens; 20 to 40 minutes on two cores.
#
#   launch/candidates.sh [VLLM_ENV [OUT [OVERRIDE …]]]     defaults: .venv-vllm, and dante/cache/candidates
#
# Run it with the lab's environment active. Interrupted, the same command continues: answers are kept in
# build/candidates/.answers. In bfloat16 the texts depend on the machine's kernels, so a rebuilt cache is not bit for bit this one.
set -euo pipefail
default_out=dante/cache/candidates
# shellcheck source=launch/rebuilt_cache.sh
source "$(dirname "${BASH_SOURCE[0]}")/rebuilt_cache.sh"
python train.py +experiment=sft cache=generated logger=none run.dir=build/candidates/run 'only=[teacher,cache]' \
  teacher.python="$environment/bin/python" prompts=checked prompts.count=360 prompts.seed=0 \
  'cache.source.decoding.temperature=[0.6,1.0]' cache.source.decoding.samples=4 cache.source.decoding.max_new_tokens=256 \
  cache.source.decoding.repetition=null cache.source.consistency=null cache.source.filters.truncated=null \
  cache.source.heldout=90 cache.source.validation=20 "$@"
rm -f "$out"/records-*.jsonl* "$out"/manifest.json
cp build/candidates/run/cache/records-*.jsonl* build/candidates/run/cache/manifest.json "$out"/
python -m dante.cache "$out"
echo "written: $out"
