#!/usr/bin/env bash
# All GPUs of this machine under torchrun. Further arguments go to train.py.
#   launch/torchrun.sh +experiment=dante_mosaic scale=a100x8
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
gpus=${GPUS:-$(nvidia-smi --list-gpus | wc -l)}
exec torchrun --standalone --nproc-per-node="$gpus" train.py trainer.devices="$gpus" "$@"
