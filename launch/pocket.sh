#!/usr/bin/env bash
# The laptop run: all stages on this machine's CPU. Further arguments go to train.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec python train.py +experiment="${EXPERIMENT:-dante_mosaic}" scale=pocket "$@"
