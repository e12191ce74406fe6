"""The units of a dense student without everything else: what layer matching trains.

Their parameters keep the names that they have in the whole student.
"""

from torch import nn
from transformers import PreTrainedModel

from dante.errors import DanteError
from dante.models.moe.glu import DenseGlu
from dante.students.dense_form import units


class UnitsAlone(nn.Module):
    """The units of a student in dense form.

    Args:
        student: it may be thrown away afterwards; its units are shared, not copied.

    Raises:
        DanteError: it is no dense student of a mixture.
    """

    def __init__(self, student: PreTrainedModel) -> None:
        super().__init__()
        found = units(student)
        if not found:
            raise DanteError(
                f"{type(student).__name__} has no units that were a mixture's blocks, so there is nothing to match",
                where="losses",
                allowed="a student that was made of a mixture (student.init: init=do_acp), with nmse or radlads",
                fix="take a loss of tokens, such as loss=[chat_kl], or +experiment=laguna_dense",
            )
        paths = {id(module): name for name, module in student.named_modules()}
        for unit in found.values():
            _set(self, paths[id(unit)].split("."), unit)
        self._places = {layer: paths[id(unit)] for layer, unit in found.items()}

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the layers that have a unit, ascending."""
        return tuple(self._places)

    @property
    def width(self) -> int:
        """Of the states that a unit reads."""
        return int(self.unit(self.layers[0]).gate_proj.weight.shape[1])

    def unit(self, layer: int) -> DenseGlu:
        """Of a layer."""
        unit = self.get_submodule(self._places[layer])
        assert isinstance(unit, DenseGlu)
        return unit


def _set(root: nn.Module, path: list[str], unit: nn.Module) -> None:
    for name in path[:-1]:
        if not hasattr(root, name):
            root.add_module(name, nn.Module())
        root = getattr(root, name)
    root.add_module(path[-1], unit)
