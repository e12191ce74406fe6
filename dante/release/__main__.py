"""A fit that is not finished can be released, too, from any of its checkpoints, full or sharded, on one process:

python -m dante.release CHECKPOINT --init RUN/init --out FOLDER
"""

import argparse
import sys
from pathlib import Path

from dante import console
from dante.errors import DanteError
from dante.fit.keep.weights import from_checkpoint
from dante.release.model import write_model
from dante.students.dense_form import as_dense
from dante.students.load import DTYPES, meta_of


def main(arguments: list[str]) -> int:
    """Writes a Hugging Face folder from a checkpoint of a fit. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dante.release")
    parser.add_argument("checkpoint", type=Path, help="step-000050.ckpt of a fit: a file, or a directory of shards")
    parser.add_argument("--init", type=Path, required=True, help="the step that the fit started from (RUN/init)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the model goes")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16")
    parser.add_argument("--form", choices=("unpadded", "padded"), default="unpadded", help="of a mixture made dense")
    options = parser.parse_args(arguments)
    source = options.init / "model"
    console.quiet_libraries()
    try:
        names = [name for name, _ in as_dense(meta_of(source)).named_parameters()]
        trained = from_checkpoint(options.checkpoint, names)
        write_model(source, trained, options.checkpoint, DTYPES[options.dtype], options.out, options.form)
    except DanteError as error:
        console.error(error)
        return 2
    console.info(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
