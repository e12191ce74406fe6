"""One optimizer step: student + losses → one global mean → gradients → clipping → AdamW.

`training_step` receives everything that this rank runs in one optimizer step and owns the update (Lightning's manual
optimization), because a mean over supervised tokens of all micro-batches and ranks, a parameter loss that acts once per
step, and clipping per loss do not fit into Lightning's own accumulation.

Read in this order: `training_step`, `_token_gradients`, `_parameter_gradients`; then `dante/losses/one_pass.py`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel

from dante.data.batch import MicroBatch, StepBatch
from dante.errors import DanteError
from dante.fit.optimizer import OptimizerSettings, apply_update, build_optimizer, clip_divisor, learning_rate
from dante.fit.readback import Outcome, Outcomes, asked_to_stop, signal_of
from dante.losses.base import LinearLoss, Loss, ParameterLoss
from dante.losses.one_pass import PassResult, vocabulary_pass
from dante.losses.shards import local, total_norm
from dante.losses.tokens import SupervisedTokens, TeacherSide
from dante.losses.vocabulary.head import Head
from dante.run.config.schema import Fidelity, Fit
from dante.run.precision import dtype_of
from dante.students.backbone import supervised_states
from dante.students.blocks import prepare
from dante.students.sharding import shard
from dante.supervision.asked import LiveTeacher

_MOST_IDS_SHOWN = 20


class StudentPass(nn.Module):
    """Backbone and vocabulary pass in one forward, so that sharding can wrap both at the root.

    Args:
        student: causal language model; its weights are trained in their own dtype.
        compute_dtype: with fp32 weights and bf16 here, the backbone runs under autocast.
        tile_tokens: tokens per tile of the vocabulary pass; None chooses by memory.
    """

    def __init__(self, student: PreTrainedModel, compute_dtype: torch.dtype, tile_tokens: int | None) -> None:
        super().__init__()
        self.student = student
        self.compute_dtype = compute_dtype
        self.tile_tokens = tile_tokens

    def forward(
        self, batch: MicroBatch, losses: list[LinearLoss], weights: Mapping[str, float], tokens: SupervisedTokens
    ) -> PassResult:
        """Run one packed row; `total` of the result carries the gradient to all weights."""
        head = Head.of(self.student)
        # bf16 weights run under autocast too: "BF16 weights + autocast" (DANTE-Mosaic-3.5B card [C]).
        autocast = self.compute_dtype == torch.bfloat16
        matmul_dtype = torch.bfloat16 if autocast else head.weight.dtype
        hidden_ND = supervised_states(self.student, batch, autocast)
        return vocabulary_pass(hidden_ND, head, losses, weights, tokens, matmul_dtype, self.tile_tokens)


class DistillModule(LightningModule):
    """Trains a student on step batches.

    Args:
        student: causal language model, in the dtype its weights are to be trained in.
        losses: losses by name; parameter losses are anchored at the student's weights as they are now.
        fit: of it steps, lr, min_lr_ratio, warmup, betas, eps, weight_decay, clip, gradient_checkpointing, compile,
            attention_dropout, tile_tokens and nonfinite_patience.
        fidelity: of it clip and decay.
        precision: `bf16` or `fp32`: compute precision where weights are fp32.
        seed: what dropout depends on, together with the step and the records of a row.
        gradient_sync: under FSDP2, sum gradients over devices after the `last` or `every` micro-batch of a step.
        teacher: runs beside the student, where a loss needs its logits. It is no submodule: nothing trains, shards or
            saves it with the student.

    Raises:
        DanteError: no loss, or an LM head that the vocabulary pass does not reproduce.
    """

    skipped: Tensor
    skipped_in_a_row: Tensor

    def __init__(
        self,
        student: PreTrainedModel,
        losses: Mapping[str, Loss],
        fit: Fit,
        fidelity: Fidelity,
        precision: str,
        seed: int,
        gradient_sync: str,
        teacher: LiveTeacher | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.seed, self.gradient_sync = seed, gradient_sync
        self.teacher = teacher
        self.settings = OptimizerSettings.of(fit, fidelity)
        self.nonfinite_patience: int = fit.nonfinite_patience
        self.network = StudentPass(student, dtype_of(precision), fit.tile_tokens)
        self.losses = nn.ModuleDict(losses)
        prepare(student, fit.gradient_checkpointing, fit.compile, fit.attention_dropout)
        for name, loss in losses.items():
            loss.name = name
            loss.begin(self.settings.steps)
        self.linear_losses = [loss for loss in losses.values() if isinstance(loss, LinearLoss)]
        self.parameter_losses = [loss for loss in losses.values() if isinstance(loss, ParameterLoss)]
        if not losses:
            raise DanteError("there is no loss", where="losses", fix="add one, for example loss=[ce]")
        for anchor in self.parameter_losses:
            anchor.attach(student, self._embedding().detach().clone())
        self.register_buffer("skipped", torch.zeros((), dtype=torch.int64))
        self.register_buffer("skipped_in_a_row", torch.zeros((), dtype=torch.int64))
        # Equal on every rank by construction: DDP need not send them around in every step.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]
        self.stop_signal = 0
        self._suspects: list[str] = []
        self._outcomes = Outcomes()
        self._metrics: dict[str, float | int | Tensor] = {}

    @property
    def student(self) -> PreTrainedModel:
        """The model being trained."""
        return self.network.student

    @property
    def skipped_updates(self) -> int:
        """Updates that were skipped because loss or gradient was not finite; waits for the device."""
        return int(self.skipped)

    def configure_model(self) -> None:
        """Shard the student, under the strategy that wants it (Lightning's hook)."""
        mesh = self._device_mesh
        if self.teacher is not None:
            self.teacher.place(self.trainer.strategy.root_device, mesh)
        if mesh is None or isinstance(self.network, FSDPModule):
            return
        embedding = self._embedding().detach().clone()  # whole: from here on every rank has a shard
        shard(self.network, self.student, mesh, self.network.compute_dtype)
        for anchor in self.parameter_losses:
            anchor.attach(self.student, embedding)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.student, self.settings)

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """One optimizer step."""
        optimizer: Any = self.optimizers()
        progress = batch.step / self.settings.steps
        lr = learning_rate(batch.step, self.settings)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()

        sums, losses, signal = self._token_gradients(batch, progress)
        metrics = self._logged(sums, progress)
        finite = metrics["loss"].isfinite()
        divisor, norm = self._parameter_gradients(progress, metrics)
        # Nothing here waits for the device: it decides by itself whether to update, and how much to clip.
        applied = finite & norm.isfinite()
        apply_update(optimizer.optimizer, divisor, applied)
        self.skipped += ~applied
        self.skipped_in_a_row.mul_(~applied).add_(~applied)
        self._notify(progress, metrics | sums, applied)
        self._metrics = {
            "step": batch.step + 1,
            **{f"weight/{loss.name}": loss.weight(progress) for loss in self.linear_losses},
            **metrics,
            "lr": lr,
            "grad_norm": norm,
            "supervised_tokens": batch.supervised_tokens,
            "skipped_updates": self.skipped.clone(),
        }
        self._outcomes.add(
            batch.step + 1,
            self.skipped_in_a_row,
            signal,
            losses,
            [micro.record_ids for micro in batch.micro_batches[: len(losses)]],
        )
        self._settle()

    def _token_gradients(self, batch: StepBatch, progress: float) -> tuple[dict[str, Tensor], list[Tensor], Tensor]:
        """Fill `.grad` with the gradient of the step's token losses, averaged over all micro-batches and ranks.

        Returns:
            sums over all micro-batches and ranks, this rank's loss of each micro-batch, and the signal that asked any
            rank to stop.
        """
        weights = {loss.name: loss.weight(progress) for loss in self.linear_losses}
        sums: dict[str, Tensor] = asked_to_stop(self.skipped.device)
        losses: list[Tensor] = []
        if not self.linear_losses:  # nothing reads the text: no token goes through the student
            self._embedding().grad = torch.zeros_like(self._embedding())
            sums["loss"] = torch.zeros((), device=self.skipped.device)
        for index, micro in enumerate(batch.micro_batches if self.linear_losses else []):
            tokens = SupervisedTokens(
                micro.labels, micro.record, micro.fields, batch.supervised_tokens, batch.records, self._taught(micro)
            )
            self._seed_randomness(batch.step, micro)
            with self._gradient_sync(index == len(batch.micro_batches) - 1):
                result = self.network(micro, self.linear_losses, weights, tokens)
                # Data parallelism averages gradients over ranks; coefficients already divide by the global count.
                self._backward(result.total * self._ranks())
            losses.append(result.total.detach())
            for name, share in self._shares(result, tokens).items():
                sums[name] = sums[name] + share if name in sums else share
        sums = _sum_over_ranks(sums)
        signal = signal_of(sums)
        return sums, losses, signal

    def _taught(self, micro: MicroBatch) -> TeacherSide:
        """The teacher's side of a micro-batch: what came with it, and what the teacher beside the student says."""
        if self.teacher is None:
            return micro.teacher
        return replace(micro.teacher, maybe_logits=self.teacher.logits(micro, micro.record_ids))

    def _seed_randomness(self, step: int, micro: MicroBatch) -> None:
        """Make dropout a function of seed, step and records.

        So it needs no place in a checkpoint, and is the same after a resume and on any number of ranks.
        """
        key = f"{self.seed}/{step}/{','.join(micro.record_ids)}".encode()
        torch.manual_seed(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()))

    def _shares(self, result: PassResult, tokens: SupervisedTokens) -> dict[str, Tensor]:
        """This micro-batch's share of each metric."""
        shares = {
            "loss": result.total.detach(),
            "ce_nats": -result.label_log_probability.sum() / tokens.step_tokens,
        }
        for loss in self.linear_losses:
            values = result.values[loss.name]
            shares[f"loss/{loss.name}"] = (result.coefficients[loss.name] * values).sum()
            for metric, share in loss.metrics(tokens, values, result.kept[loss.name]).items():
                shares[f"{loss.name}/{metric}"] = share
        return shares

    def _logged(self, sums: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        """The step's metrics: what belongs to a loss is what it makes of its own sums."""
        loss_sums = {loss.name: _own(sums, loss.name) for loss in self.linear_losses}
        loss_keys = {f"{name}/{key}" for name, own_sums in loss_sums.items() for key in own_sums}
        metrics = {key: value for key, value in sums.items() if key not in loss_keys}
        for loss in self.linear_losses:
            metrics |= {
                f"{loss.name}/{key}": value for key, value in loss.logged(loss_sums[loss.name], progress).items()
            }
        return metrics

    def _parameter_gradients(self, progress: float, metrics: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Add the parameter losses' gradients.

        Returns:
            what all gradients have to be divided by so that they are clipped, and the norm that this follows from.
        """
        apart, limit = self.settings.clip_scope == "per_loss", self.settings.clip
        norm = total_norm(self._gradients())
        divisor = clip_divisor(norm, limit) if apart else torch.ones_like(norm)
        for loss in self.parameter_losses:
            loss.observe(progress, divisor)
        for loss in self.parameter_losses:
            term = loss.term(progress)
            # The optimizer divides everything; what is clipped by itself is made larger before.
            scale = divisor / clip_divisor(term.gradient_norm, limit) if apart else divisor
            for parameter, gradient in term.gradients:
                assert parameter.grad is not None
                local(parameter.grad).add_(gradient.mul_(scale))
            metrics["loss"] = metrics["loss"] + (term.weight * term.value).to(metrics["loss"])
            metrics[f"loss/{loss.name}"], metrics[f"weight/{loss.name}"] = term.value, term.weight
            metrics |= {f"{loss.name}/{metric}": value for metric, value in term.metrics.items()}
        if not apart:
            norm = total_norm(self._gradients()) if self.parameter_losses else norm
            divisor = clip_divisor(norm, limit)
        return divisor, norm

    def _notify(self, progress: float, sums: Mapping[str, Tensor], applied: Tensor) -> None:
        for name, loss in self.losses.items():
            loss.on_optimizer_step(progress, _own(sums, name), applied)  # type: ignore[operator]

    def _settle(self, everything: bool = False) -> None:
        """Act on what is known of the steps so far.

        Raises:
            DanteError: too many steps in a row were not finite.
        """
        for outcome in self._outcomes.take(everything):
            self.stop_signal = outcome.signal
            if outcome.skipped_in_a_row == 0:
                self._suspects = []
                continue
            self._suspects += outcome.suspects
            if outcome.skipped_in_a_row >= self.nonfinite_patience:
                raise self._not_finite(outcome)

    def _not_finite(self, outcome: Outcome) -> DanteError:
        suspects = _gather(self._suspects) or _gather(outcome.records)
        unique = list(dict.fromkeys(suspects))
        more = f" and {len(unique) - _MOST_IDS_SHOWN} more" if len(unique) > _MOST_IDS_SHOWN else ""
        return DanteError(
            f"loss or gradient was not finite in {outcome.skipped_in_a_row} optimizer steps in a row, up to step "
            f"{outcome.step}; records: {', '.join(unique[:_MOST_IDS_SHOWN])}{more}",
            where="fit.nonfinite_patience",
            fix="look at these records; lower fit.lr, or use fidelity=sound (fp32 master weights)",
        )

    def on_train_end(self) -> None:
        self._settle(everything=True)

    def collect_metrics(self) -> dict[str, float | int]:
        """Metrics of the last optimizer step, over all ranks; one transfer from the device."""
        tensors = {name: value for name, value in self._metrics.items() if isinstance(value, Tensor)}
        if not tensors:
            return {}
        device = self._embedding().device
        stacked = torch.stack([value.to(device, torch.float64) for value in tensors.values()]).tolist()
        numbers = dict(zip(tensors, stacked, strict=True))
        counts = {name: int(numbers[name]) for name, value in tensors.items() if not value.is_floating_point()}
        return {**self._metrics, **numbers, **counts}

    def loss_summaries(self) -> dict[str, dict[str, Any]]:
        """What losses say of themselves at the end, by name; those that say nothing are left out."""
        summaries = {}
        for loss in (*self.linear_losses, *self.parameter_losses):
            sentence = loss.sentence()
            summaries[loss.name] = ({"sentence": sentence} if sentence else {}) | loss.summary()
        return {name: summary for name, summary in summaries.items() if summary}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["suspects"] = self._suspects

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._suspects = list(checkpoint["suspects"])

    def _embedding(self) -> Tensor:
        weight = self.student.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.student.parameters() if p.grad is not None]

    def _backward(self, loss: Tensor) -> None:
        if self._trainer is None:  # outside a trainer (notebooks, tests)
            loss.backward()
        else:
            self.manual_backward(loss)

    def _ranks(self) -> int:
        return self._trainer.world_size if self._trainer is not None else 1

    @contextmanager
    def _gradient_sync(self, last: bool) -> Iterator[None]:
        """Exchange gradients between ranks in the last micro-batch's backward only (FSDP2 may be told otherwise)."""
        if isinstance(self.network, FSDPModule):
            self.network.set_requires_gradient_sync(last or self.gradient_sync == "every")
        strategy = self._trainer.strategy if self._trainer is not None else None
        if not last and isinstance(strategy, ParallelStrategy):
            with strategy.block_backward_sync():
                yield
        else:
            yield


def _own(sums: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """What belongs to one loss, under its own names."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in sums.items() if key.startswith(prefix)}


def _sum_over_ranks(shares: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sum tensors over ranks with one collective. Every rank has the same keys and shapes in the same order."""
    if not (dist.is_available() and dist.is_initialized()):
        return shares
    together = torch.cat([value.to(torch.float64).flatten() for value in shares.values()])
    dist.all_reduce(together)
    parts = together.split([value.numel() for value in shares.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(shares.items(), parts, strict=True)}


def _gather(items: list[str]) -> list[str]:
    """All ranks' items."""
    if not (dist.is_available() and dist.is_initialized()):
        return items
    parts: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]
