#!/usr/bin/env bash
# Rebuilds the pocket cache with real vLLM on a CPU: about 3,000 prompts, 20 to 40 minutes on two cores.
#
#   launch/pocket_cache.sh [VLLM_ENV [OUT [OVERRIDE …]]]     defaults: .venv-vllm, and dante/cache/pocket
#
# Run it with the lab's environment active. Interrupted, the same command continues: answers are kept in
# build/pocket_cache/.answers. In bfloat16 the texts depend on the machine's kernels, so a rebuilt cache is not bit for bit
# this one; teacher, prompts, decoding and filters are, and manifest.json says which. 300 records carry self-consistency
# (four more samples at T=0.7 of their prompts) and difficulty; 100 records of either kind have sparse logits beside them.
set -euo pipefail
default_out=dante/cache/pocket
# shellcheck source=launch/rebuilt_cache.sh
source "$(dirname "${BASH_SOURCE[0]}")/rebuilt_cache.sh"
for step in teacher cache; do
  python train.py +experiment=sft cache=generated logger=none run.dir=build/pocket_cache/run only="$step" \
    teacher.python="$environment/bin/python" "$@"
done
rm -f "$out"/records-*.jsonl* "$out"/manifest.json "$out"/logits-*.safetensors
cp build/pocket_cache/run/cache/records-*.jsonl* build/pocket_cache/run/cache/manifest.json "$out"/
for kind in topk_tail random_sampling; do
  python -m dante.cache sparse "$out" --teacher build/pocket_cache/run/teacher --kind "$kind" --count 100
  rm -f "$out/.logits-$kind.lock"
done
python -m dante.cache "$out"
echo "written: $out"
