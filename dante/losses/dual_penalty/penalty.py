"""ADS: an adaptive dual penalty on entropy at difficult tokens (after the Kai-3B-Instruct card).

The card [C]: "a stateful dual penalty factor that adapts based on embedding space entropy, forcing the model to
converge to high-confidence predictions at difficult reasoning points". Nothing more is public; the rest is ours [I]:

    minimise L_base   subject to   g = (1/N) Σ_t a_t e_t − ε ≤ 0          e_t = [s_t − τ]₊

- s_t is a signal in [0, 1] (`signals.py`; by default the entropy of the prediction over log V), N the supervised
  tokens of the optimizer step, a_t a guard without a gradient (`guards.py`);
- τ is the (1 − ρ) quantile of s over the measured part of the run, and then frozen: with a moving quantile the top
  share would always lie above its own threshold and no student could meet the bound;
- ε(t) = ε₀ · bound(t), ε₀ the mean of a_t [s_t − τ]₊ over the same tokens; bound falls from 1 to κ.

The augmented Lagrangian of the inequality, (1/2c)([λ + c g]₊² − λ²), is linearised at the step before, so that one
pass over the vocabulary suffices: in step k the penalty is `μ_k (1/N) Σ a_t e_t`, μ_k = [λ_k + c g_{k−1}]₊. After the
step λ follows g (`dante.losses.multiplier`). So that gains mean the same for every student, the controller and c see g
in units of ε₀ (at least 1e-4), and μ, like λ, is at most λ_max. While a run is measured μ = 0: the student is trained
by the other losses alone.

The dual variable moves once per optimizer step, by values summed over all ranks; all of its state is in buffers.

Metrics, per optimizer step: `multiplier` λ, `coefficient` μ as applied, `violation` g, `excess` (1/N) Σ a e, `bound` ε,
`threshold` τ; of tokens with s > τ (difficult) and the others (easy) `difficult_share`, `difficult_entropy`,
`easy_entropy` (of the prediction, nats per token), `difficult_accuracy`, `easy_accuracy` (the most likely token is the
label), `difficult_wrong` (it is not). What needs τ is null before τ is known.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dante.errors import DanteError
from dante.look.numbers import number
from dante.losses.base import LinearLoss
from dante.losses.dual_penalty import guards, signals
from dante.losses.dual_penalty.guards import GUARDS
from dante.losses.dual_penalty.signals import SIGNALS
from dante.losses.dual_penalty.tally import BINS, coarse, excess, quantile, tally
from dante.losses.multiplier import Multiplier
from dante.losses.schedule import Schedule
from dante.losses.tokens import SupervisedTokens
from dante.losses.vocabulary.tile import HiddenStates, Tile

SMALLEST_UNIT = 1e-4
_REPORTED_BINS = 128
# Rows of a tally: tokens whose most likely token is the label, the others, and guards summed.
_RIGHT, _WRONG, _GUARDED = range(3)


class DualPenalty(LinearLoss):
    """Penalty on the excess signal of difficult tokens, weighted by a Lagrange multiplier.

    Args:
        weight: schedule of a factor on μ (1: as defined).
        signal: `predictive`, `energy` or `gram`.
        guard: a name in `dante.losses.dual_penalty.guards`.
        difficult: ρ, the share of tokens that count as difficult when τ is measured.
        measure_from: where measuring begins, as a share of the run.
        measure_until: where it ends, and the constraint begins; at least one step is measured.
        bound: schedule of ε / ε₀ over the run.
        augmentation: c in units of 1/ε₀; 0 leaves the plain Lagrangian.
        multiplier: λ and what moves it.
        threshold: τ, instead of measuring it.
        initial_bound: ε₀, instead of measuring it.
        name: key in the recipe.

    Raises:
        DanteError: an unknown name, or a number outside its range.
    """

    needs_logits = False
    needs_entropy = True

    coefficient: Tensor
    threshold: Tensor
    initial_bound: Tensor
    before: Tensor
    after: Tensor

    def __init__(
        self,
        weight: Schedule,
        signal: str,
        guard: str,
        difficult: float,
        measure_from: float,
        measure_until: float,
        bound: Schedule,
        augmentation: float,
        multiplier: Multiplier,
        threshold: float | None = None,
        initial_bound: float | None = None,
        name: str = "",
    ) -> None:
        super().__init__(weight, name)
        self._check("signal", signal, signal in SIGNALS, ", ".join(SIGNALS))
        self._check("guard", guard, guard in GUARDS, ", ".join(GUARDS))
        self._check("difficult", difficult, 0 < difficult < 1, "a share between 0 and 1")
        self._check("measure_from", measure_from, 0 <= measure_from <= measure_until, "a share, at most measure_until")
        self._check("measure_until", measure_until, measure_until < 1, "a share below 1")
        self._check("augmentation", augmentation, augmentation >= 0, "a number ≥ 0")
        self._check("threshold", threshold, threshold is None or 0 <= threshold <= 1, "a number in [0, 1], or null")
        self._check("initial_bound", initial_bound, initial_bound is None or initial_bound >= 0, "≥ 0, or null")
        self.signal, self.guard, self.difficult = signal, guard, difficult
        self.measured = (measure_from, measure_until)
        self.given = (threshold, initial_bound)
        self.bound, self.augmentation, self.multiplier = bound, augmentation, multiplier
        self.needs_hidden = SIGNALS[signal] is not None
        self.steps = 0
        # Not a number: not known yet. No signal is above it, and no metric that needs it is a number.
        for buffer, value in (("threshold", threshold), ("initial_bound", initial_bound)):
            self.register_buffer(buffer, torch.tensor(math.nan if value is None else value, dtype=torch.float32))
        self.register_buffer("coefficient", torch.zeros((), dtype=torch.float32))
        for buffer in ("before", "after"):
            self.register_buffer(buffer, torch.zeros(3, BINS, dtype=torch.float64))

    def _check(self, key: str, value: object, holds: bool, allowed: str) -> None:
        if not holds:
            raise DanteError(f"{key} is {value!r}", where=f"losses.{self.name}.{key}", allowed=allowed)

    def begin(self, steps: int) -> None:
        self.steps = steps
        if self._window()[1] >= steps:
            raise DanteError(
                f"the run ends after {steps} optimizer steps, while its tokens are still being measured",
                where=f"losses.{self.name}.measure_until",
                allowed="a run of two steps at least that goes on after measuring",
                fix="raise fit.steps, or lower settled.end",
            )

    def _window(self) -> tuple[int, int]:
        """The first step that is measured, and the first after them."""
        first, end = (math.ceil(share * self.steps - 1e-9) for share in self.measured)
        first = max(0, min(first, self.steps - 2))  # of the shortest runs one step is measured, and one is left
        return first, max(end, first + 1)

    def coefficients(self, tokens: SupervisedTokens) -> Float[Tensor, " tokens"]:
        return tokens.uniform() * self.coefficient.double()

    def on_tile(self, tile: Tile, coefficients: Float[Tensor, " tile"]) -> Float[Tensor, " tile"]:
        right_T = tile.label_is_argmax
        tile.keep("entropy", tile.entropy)
        tile.keep("right", right_T)
        if self.needs_hidden:
            tile.keep("guard", GUARDS[self.guard](tile, torch.ones_like(right_T)))
            return tile.zero()
        log_vocab = math.log(tile.exp.shape[1])
        signal_T = tile.entropy / log_vocab
        # Before τ is known every token may turn out difficult, and ε₀ needs its guard.
        guard_T = GUARDS[self.guard](tile, (signal_T > self.threshold) | self.threshold.isnan())
        tile.keep("signal", signal_T)
        tile.keep("guard", guard_T)
        tile.add_entropy(coefficients * guard_T * (signal_T > self.threshold) / log_vocab)
        return guard_T * self._excess(signal_T)

    def on_hidden(self, states: HiddenStates, coefficients: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        measure = SIGNALS[self.signal]
        assert measure is not None
        with torch.set_grad_enabled(states.wants_gradient):
            hidden_ND = states.hidden.detach().requires_grad_(states.wants_gradient)
            signal_N = measure(hidden_ND, states.tokens.record)
            values_N = states.kept["guard"] * self._excess(signal_N)
            if values_N.requires_grad:  # not where no record has a signal (one token each)
                (gradient_ND,) = torch.autograd.grad(values_N, hidden_ND, grad_outputs=coefficients)
                states.add_gradient(gradient_ND)
        states.kept["signal"] = signal_N.detach()
        return values_N.detach()

    def _excess(self, signal: Tensor) -> Tensor:
        """[s − τ]₊; 0 while τ is not known."""
        return torch.where(signal > self.threshold, signal - self.threshold, 0.0)

    def metrics(
        self, tokens: SupervisedTokens, values: Float[Tensor, " tokens"], kept: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        if not kept:  # a row without a supervised token, which keeps this rank in step with the others
            kept = dict.fromkeys(("signal", "entropy", "right", "guard"), values)
        signal, entropy = kept["signal"], kept["entropy"].double()
        right, hard = kept["right"].double(), (kept["signal"] > self.threshold).double()
        group = torch.stack([hard, 1 - hard])
        return {
            "excess": values.double().sum() / tokens.step_tokens,
            "tally": tally(signal, torch.stack([right, 1 - right, kept["guard"].double()])),
            # [difficult, easy] × [tokens, entropy, right]
            "groups": group @ torch.stack([torch.ones_like(right), entropy, right]).T,
        }

    def logged(self, sums: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        (hard, hard_entropy, hard_right), (easy, easy_entropy, easy_right) = sums["groups"].clone()
        nan_or_one = torch.where(self.threshold.isnan(), self.threshold, 1.0)
        bound = self._bound(progress)
        return {
            "multiplier": self.multiplier.value.clone(),
            "coefficient": self.coefficient.clone(),
            "violation": sums["excess"] - bound,
            "excess": sums["excess"] * nan_or_one,
            "bound": bound,
            "threshold": self.threshold.clone(),
            "difficult_share": hard / (hard + easy) * nan_or_one,
            "difficult_entropy": hard_entropy / hard,
            "easy_entropy": easy_entropy / easy * nan_or_one,
            "difficult_accuracy": hard_right / hard,
            "difficult_wrong": (hard - hard_right) / hard,
            "easy_accuracy": easy_right / easy * nan_or_one,
        }

    def _bound(self, progress: float) -> Tensor:
        """ε of a step."""
        return self.initial_bound * self.bound(progress)

    def on_optimizer_step(self, progress: float, sums: Mapping[str, Tensor], applied: Tensor) -> None:
        step, (first, end) = round(progress * self.steps), self._window()
        if first <= step < end:
            self.before += torch.where(applied, sums["tally"].to(self.before), 0.0)
        if step >= self.steps - (end - first):
            self.after += torch.where(applied, sums["tally"].to(self.after), 0.0)
        if step == end - 1:
            self._freeze()
        elif step >= end:
            self._dual_step(sums["excess"], progress, applied)

    def _freeze(self) -> None:
        """Settle what was measured; from the next step on the constraint holds."""
        counts = self.before[_RIGHT] + self.before[_WRONG]
        threshold = quantile(counts, 1 - self.difficult).to(self.threshold)
        self.threshold.copy_(torch.where(self.threshold.isnan(), threshold, self.threshold))
        mean = excess(self.before[_GUARDED], self.threshold) / counts.sum().clamp_min(1)
        self.initial_bound.copy_(torch.where(self.initial_bound.isnan(), mean.to(self.threshold), self.initial_bound))
        self.coefficient.copy_(self.multiplier.value)

    def _dual_step(self, excess_mean: Tensor, progress: float, applied: Tensor) -> None:
        violation = excess_mean.to(self.coefficient) - self._bound(progress)
        in_units = violation / self.initial_bound.clamp_min(SMALLEST_UNIT)
        self.multiplier.update(in_units, 1 / self.steps, applied)
        coefficient = (self.multiplier.value + self.augmentation * in_units).clamp(0.0, self.multiplier.maximum)
        self.coefficient.copy_(torch.where(applied, coefficient, self.coefficient))

    def _notes(self) -> list[str]:
        """What a user has to know of how it was measured."""
        counts = self.before[_RIGHT] + self.before[_WRONG]
        if counts.sum() == 0:
            return ["every measured step was skipped: no token counts as difficult, and the penalty never acts"]
        if self.initial_bound < SMALLEST_UNIT:
            finding = f"ε₀ is {float(self.initial_bound):.2g}"
            why = "hardly a difficult token passed the guard while measured, and the constraint asks for next to none"
            return [f"{finding}: {why}. Measure later (settled), or give initial_bound"]
        return []

    def sentence(self) -> str:
        (threshold, initial_bound), (first, last) = self.given, self.measured
        signal, where = signals.WORDS[self.signal].phrase, guards.WORDS[self.guard]
        text = f"{self.name} penalises what a token's signal ({signal}) exceeds a threshold τ by, {where}"
        facts = [
            f"τ lets {self.difficult:.0%} of the tokens between {first:.0%} and {last:.0%} of the run exceed it"
            if threshold is None
            else f"τ = {number(threshold)}"
        ]
        if self.multiplier.adapts:
            text += ", as hard as it takes to keep the mean excess below a bound ε"
            base = "the measured excess" if initial_bound is None else number(initial_bound)
            facts.append(f"ε {self.bound.path(f' times {base}')}")
        facts.append(self.multiplier.sentence())
        if self.augmentation:
            facts.append(f"augmented with c = {number(self.augmentation)}")
        return f"{text}: {', '.join(facts)}."

    def summary(self) -> dict[str, Any]:
        return {
            "notes": self._notes(),
            "signal": self.signal,
            "signal_axis": signals.WORDS[self.signal].axis,
            "guard": self.guard,
            "guard_words": guards.WORDS[self.guard],
            **{
                key: float(value) if value.isfinite() else None
                for key, value in (
                    ("threshold", self.threshold),
                    ("initial_bound", self.initial_bound),
                    ("multiplier", self.multiplier.value),
                )
            },
            "histograms": {
                "edges": [place / _REPORTED_BINS for place in range(_REPORTED_BINS + 1)],
                **{
                    when: dict(zip(("right", "wrong"), coarse(counts[:_GUARDED], _REPORTED_BINS), strict=True))
                    for when, counts in (("before", self.before), ("after", self.after))
                },
            },
        }
