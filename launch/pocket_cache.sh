#!/usr/bin/env bash
# Rebuilds the pocket cache with real vLLM on a CPU: about 3,000 prompts, 20 to 40 minutes on two cores.
#
#   launch/pocket_cache.sh [VLLM_ENV] [OUT]     defaults: .venv-vllm, and dante/cache/pocket inside the package
#
# Run it with the lab's environment active. Interrupted, the same command continues: finished batches are kept in
# build/pocket_cache. In bfloat16 the texts depend on the machine's kernels, so a rebuilt cache is not bit for bit this
# one; teacher, prompts, decoding and filters are, and manifest.json says which.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
environment=${1:-.venv-vllm}
out=${2:-$here/dante/cache/pocket}

if [ ! -x "$environment/bin/python" ]; then
    "$here/launch/vllm_cpu_env.sh" "$environment"
fi
environment=$(cd "$environment" && pwd)
cd "$here"
python -m dante.cache.build_pocket --python "$environment/bin/python" --work build/pocket_cache --out "$out"
python -m dante.cache "$out"
