"""A student that has been trained before its recipe begins."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dante.errors import DanteError
from dante.students.init.after_fit import AfterFit
from dante.students.init.keep_layers import KeepLayers
from tests.test_evaluate_fidelity import tiny


def test_it_has_the_fits_weights_in_the_shape_of_what_the_fit_began_with(tmp_path: Path) -> None:
    init = AfterFit(KeepLayers([0]))
    pruned = KeepLayers([0]).begin(tiny(260, 0)[0], {})
    trained = {name: torch.full_like(one, 0.5).contiguous() for name, one in pruned.named_parameters()}
    save_file(trained, tmp_path / "student.safetensors")
    model = init.begin(tiny(260, 0)[0], {"fit": tmp_path})
    assert model.config.num_hidden_layers == 1
    assert all(bool((parameter == 0.5).all()) for parameter in model.parameters())
    assert init.described() == {"layers": [0], "weights": "trained before"}
    config = tiny(260, 0)[0].config
    init.reshape(config)
    assert config.num_hidden_layers == 1


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    model = tiny(260, 0)[0]
    save_file(
        {name: one.detach().contiguous() for name, one in model.named_parameters()}, tmp_path / "student.safetensors"
    )
    with pytest.raises(DanteError, match="do not fit the model"):
        AfterFit(KeepLayers([0])).begin(tiny(260, 0)[0], {"fit": tmp_path})
