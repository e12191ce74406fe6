"""What tuning tries next: a grid at once, or what Optuna proposes after what it has seen.

Every arm is tuned by itself and gets as much: the same grid, or the same number of trials over the same ranges.
"""

import importlib.util
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep

from dante.errors import DanteError
from dante.sweep.settings import Tune, as_text

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# Digits of a proposed number: enough for any rate, few enough for a run's name.
_DIGITS = 4


@runtime_checkable
class Proposals(Protocol):
    """What an arm tries next."""

    def next(self, arm: str) -> list[dict[str, str]]:
        """Places to try now, together; none: the arm has been tuned."""

    def tell(self, arm: str, values: dict[str, str], score: float | None) -> None:
        """The score of a place, lower is better; None: it failed."""


def refuse_unclear(tune: Tune) -> None:
    """Tuning is by a grid or by a search, over ranges that are ones.

    Raises:
        DanteError: neither or both are filled, a range is not one, or Optuna is not installed.
    """
    if bool(tune.grid) == bool(tune.search):
        raise DanteError(
            "tuning needs a grid or a search" + (", and has both" if tune.grid else ""),
            where="hydra.sweeper.tune",
            allowed="tune.grid={key: [values]}, or ranges such as 'fit.lr=tag(log,interval(1e-4,4e-3))' with "
            "hydra/sweeper=optuna",
            fix="give one of them",
        )
    if tune.search and importlib.util.find_spec("optuna") is None:
        raise DanteError(
            "a search needs Optuna, which is not installed",
            where="hydra/sweeper=optuna",
            fix="pip install -e '.[sweep]'",
        )
    for key, text in tune.search.items():
        _distribution(key, text)


def proposals(tune: Tune, folder: Path) -> Proposals:
    """By grid or by search.

    Args:
        tune: the settings.
        folder: the sweep's directory; a search keeps its journal there, and goes on from it.
    """
    return Grid(tune) if tune.grid else Search(tune, folder)


class Grid:
    """All places at once."""

    def __init__(self, tune: Tune) -> None:
        grid = tune.grid
        self.places = [dict(zip(grid, map(as_text, values), strict=True)) for values in product(*grid.values())]
        self.given: set[str] = set()

    def next(self, arm: str) -> list[dict[str, str]]:
        if arm in self.given:
            return []
        self.given.add(arm)
        return self.places

    def tell(self, arm: str, values: dict[str, str], score: float | None) -> None:
        """A grid does not learn."""


class Search:
    """Optuna's tree-structured Parzen estimator, one study per arm, kept in a journal that survives a kill."""

    def __init__(self, tune: Tune, folder: Path) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.tune, self.optuna = tune, optuna
        self.space = {key: _distribution(key, text) for key, text in tune.search.items()}
        self.storage = JournalStorage(JournalFileBackend(str(folder / "search.journal")))
        self.studies: dict[str, Any] = {}
        self.open: dict[tuple[str, str], list[int]] = {}

    def next(self, arm: str) -> list[dict[str, str]]:
        study, first = self._study(arm)
        states = self.optuna.trial.TrialState
        places: list[dict[str, str]] = []
        if first:
            # What an earlier start has scored: the runs are complete, and their scores are read again.
            places += [self._values(trial) for trial in study.get_trials(states=(states.COMPLETE,))]
            # What it proposed, and did not live to score.
            for trial in study.get_trials(states=(states.RUNNING,)):
                if set(trial.params) == set(self.space):
                    places.append(self._opened(arm, trial))
                else:
                    study.tell(trial.number, state=states.FAIL)
        left = self.tune.trials - len(study.get_trials(states=(states.COMPLETE, states.FAIL, states.RUNNING)))
        for _ in range(min(left, self.tune.at_once - sum(arm == open_arm for open_arm, _ in self.open))):
            places.append(self._opened(arm, study.ask(self.space)))
        return places

    def tell(self, arm: str, values: dict[str, str], score: float | None) -> None:
        for number in self.open.pop((arm, str(values)), []):  # several, where one place was proposed twice
            if score is None:
                self.studies[arm].tell(number, state=self.optuna.trial.TrialState.FAIL)
            else:
                self.studies[arm].tell(number, score)

    def _study(self, arm: str) -> tuple[Any, bool]:
        first = arm not in self.studies
        if first:
            sampler = self.optuna.samplers.TPESampler(seed=self.tune.seed)
            self.studies[arm] = self.optuna.create_study(
                storage=self.storage, study_name=arm, sampler=sampler, load_if_exists=True
            )
        return self.studies[arm], first

    def _opened(self, arm: str, trial: Any) -> dict[str, str]:
        values = self._values(trial)
        self.open.setdefault((arm, str(values)), []).append(trial.number)
        return values

    def _values(self, trial: Any) -> dict[str, str]:
        return {key: _text(trial.params[key]) for key in self.space}


def _text(value: Any) -> str:
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else as_text(value)


def _distribution(key: str, text: str) -> "BaseDistribution":
    """Hydra's range as Optuna's; `tag(log,…)` around one searches on a log scale."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = OverridesParser.create().parse_override(f"{key}={text}").value()
    log = "log" in getattr(sweep, "tags", ())
    if isinstance(sweep, IntervalSweep) and sweep.start is not None and sweep.end is not None:
        if isinstance(sweep.start, int) and isinstance(sweep.end, int):
            return IntDistribution(sweep.start, sweep.end, log=log)
        return FloatDistribution(float(sweep.start), float(sweep.end), log=log)
    if isinstance(sweep, RangeSweep):
        values = list(sweep.range())
        return IntDistribution(int(values[0]), int(values[-1]), log=log, step=int(sweep.step))
    if isinstance(sweep, ChoiceSweep):
        return CategoricalDistribution([as_text(getattr(v, "text", v)) for v in sweep.list])
    raise DanteError(
        f"{key}={text} is no range to search",
        where=f"hydra.sweeper.tune.search.{key}",
        allowed="interval(a,b), tag(log,interval(a,b)), range(a,b), choice(a,b)",
    )
