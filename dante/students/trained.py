"""What a fit has written, back in a model."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from dante.errors import DanteError
from dante.students.finite import check_finite
from dante.students.load import load_student

WEIGHTS = "student.safetensors"  # of a finished fit


def begun(init: Path, start: Path | None, dtype: torch.dtype) -> PreTrainedModel:
    """The student before a fit: the initialisation, or what an earlier fit has made of it.

    Args:
        init: finished `init` step.
        start: finished fit from that initialisation, or None.
        dtype: of the weights.

    Raises:
        DanteError: weights that are not finite, or do not fit.
    """
    source = init / "model"
    student = load_student(source, dtype)
    check_finite(student, source, "make the initialisation again, from sound weights")
    if start is not None:
        trained = start / WEIGHTS
        load_trained(student, load_file(trained), trained)
    return student


def load_trained(model: PreTrainedModel, trained: Mapping[str, Tensor], where: Path) -> None:
    """Loads trained tensors into a model, in place, strictly: every parameter is given once, a tied one only once.

    Raises:
        DanteError: tensors are missing, unexpected or of another shape.
    """
    model_tensors = model.state_dict()
    needed = {
        name for name, _ in [*model.named_parameters(), *model.named_buffers()]
    } & model_tensors.keys()  # a tied head once
    missing = sorted(needed - trained.keys())
    unexpected = sorted(trained.keys() - model_tensors.keys())
    shapes = [
        name for name in trained.keys() & model_tensors.keys() if trained[name].shape != model_tensors[name].shape
    ]
    if missing or unexpected or shapes:
        raise DanteError(
            f"the trained weights do not fit the model: missing {missing[:5]}, unexpected {unexpected[:5]}, "
            f"other shape {sorted(shapes)[:5]}",
            where=str(where),
            allowed="exactly the parameters of the initialisation",
            fix="rerun the fit from this initialisation",
        )
    check_finite(trained.items(), where, "lower fit.lr or use fidelity=sound (fp32 master weights), and repeat the fit")
    model.load_state_dict(trained, strict=False)  # names were compared above, tied ones included
