"""Stage `release`: the trained weights as a folder that plain transformers loads, with a model card.

Results are not known yet and this directory never changes once complete, so its `model-index` names the model without
results; the report writes the same card with results filled in.
"""

import json
import shutil

from safetensors.torch import load_file

from dante.errors import DanteError
from dante.release.card import model_card, trained_seed
from dante.release.model import write_model
from dante.release.settings import Settings
from dante.run.step import Step
from dante.students.load import DTYPES, count_parameters
from dante.students.trained import WEIGHTS


def run(step: Step[Settings]) -> None:
    """Writes the released model into `step.out`.

    Settings: `dtype` (of the released weights: bfloat16, float16 or float32), `name` (title of the model card),
    `experiment` (title, hypothesis and source, for the card), `form` (of a dense student of a mixture).

    Raises:
        DanteError: unknown dtype, or the fit's tensors do not match the initialisation's architecture.
    """
    dtype = step.settings.dtype
    if dtype not in DTYPES:
        raise DanteError(f"unknown dtype {dtype!r}", where="release: dtype", allowed=", ".join(DTYPES))
    shutil.rmtree(step.out, ignore_errors=True)  # a half-written folder of an interrupted attempt is not worth keeping
    file = step.inputs["fit"] / WEIGHTS
    model = write_model(
        step.inputs["init"] / "model", load_file(file), file, DTYPES[dtype], step.out, step.settings.form
    )
    provenance = {
        "name": step.settings.name,
        "fingerprint": step.fingerprint,
        "seed": trained_seed(step.inputs["fit"]),
    }
    (step.out / "release.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    (step.out / "README.md").write_text(model_card(step, count_parameters(model)), encoding="utf-8")
