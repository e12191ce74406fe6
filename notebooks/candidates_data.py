"""What the untrained pocket student says of some shipped candidates → `data/candidates`, for notebook 06.

python train.py +experiment=dasd_thinking 'only=[teacher,cache,cache-before,pruned,fit-before,init,likelihood]'
python notebooks/candidates_data.py runs/dasd_thinking-pocket-s42
"""

import shutil
import sys
from pathlib import Path

from dante.select.likelihood.files import LikelihoodFiles
from dante.select.sampled import sampled

PROMPTS = 40
OUT = Path(__file__).parent / "data" / "candidates"

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run = Path(sys.argv[1])
    records = sampled(run / "cache", None, PROMPTS, seed=0)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    files = LikelihoodFiles(OUT)
    files.add(0, LikelihoodFiles(run / "likelihood").of(records))
    files.seal({"batches": 1, "records": len(records)})
    print(f"{len(records)} answers → {OUT}")
