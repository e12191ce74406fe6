#!/usr/bin/env bash
# The retention experiment's 18 runs, JOBS at a time (default 2) with one thread each: bash experiments/dante_retention/run.sh
# Finished steps are not repeated, so an interrupted experiment goes on with the same command.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
mkdir -p runs

one() { # rate arm seed
    case $2 in
        off) arm=("loss=[cwce]") ;;
        calibrated) arm=("loss=[cwce,tea]") ;;
        card) arm=("loss=[cwce,tea]" fidelity.anchor.reduction=frobenius_sum fidelity.anchor.calibrate=false fidelity.clip=global) ;;
    esac
    name=retention-$2-lr$1-s$3
    python train.py +experiment=dante_full budget=study "${arm[@]}" "fit.lr=$1" "seed=$3" "run.name=$name" trainer.threads=1 \
        logger=none eval.generations=0 eval.init_generations=0 eval.choices=0 eval.heldout=200 \
        'only=[teacher,cache,init,fit,release,eval-teacher,eval-init,eval]' >>"runs/$name.log" 2>&1 &&
        echo "$name: done" || echo "$name: failed, see runs/$name.log"
}
export -f one
for rate in 2e-4 1e-3; do
    for seed in 1 2 3; do
        for arm in off calibrated card; do echo "$rate $arm $seed"; done
    done
done | xargs -P "${JOBS:-2}" -L 1 bash -c 'one "$@"' _
