#!/usr/bin/env bash
# Uploads what offline runs left: launch/wandb_sync.sh [RUN_DIR …]; default: every run below runs/.
# A run that was uploaded is marked and skipped, because uploading it again would duplicate its artifacts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ $# -gt 0 ] || set -- runs/*/
for run in "$@"; do
  for offline in "$run"/wandb/offline-run-*/; do
    [ -d "$offline" ] && ! compgen -G "$offline"/*.synced > /dev/null && wandb sync "$offline"
  done
done
