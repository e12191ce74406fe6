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
from dante.fit.block_pass import BlockPass
from dante.fit.optimizer import OptimizerSettings, apply_update, build_optimizer, clip_divisor, learning_rate
from dante.fit.readback import Outcome, Outcomes, asked_to_stop, signal_of
from dante.fit.token_pass import StudentPass
from dante.losses.base import BlockLoss, LinearLoss, Loss, ParameterLoss
from dante.losses.shards import local, total_norm
from dante.losses.tokens import SupervisedTokens, TeacherSide
from dante.run.config.schema import Fidelity, Fit
from dante.run.precision import dtype_of
from dante.students.units import UnitsAlone
from dante.supervision.asked import LiveBlocks, LiveReader, LiveTeacher

_MOST_IDS_SHOWN = 20


class DistillModule(LightningModule):
    """Trains a student on step batches.

    Args:
        student: causal language model, in the dtype its weights are to be trained in; with losses of blocks its units
            alone are kept.
        losses: losses by name; parameter losses are anchored at the student's weights as they are now.
        fit: of it steps, lr, min_lr_ratio, warmup, betas, eps, weight_decay, clip, gradient_checkpointing, compile,
            attention_dropout, tile_tokens and nonfinite_patience.
        fidelity: of it clip and decay.
        precision: `bf16` or `fp32`: compute precision where weights are fp32.
        seed: what dropout depends on, together with the step and the records of a row.
        gradient_sync: under FSDP2, sum gradients over devices after the `last` or `every` micro-batch of a step.
        teacher: runs beside the student, where a loss needs its logits. It is no submodule: nothing trains, shards or
            saves it with the student.
        blocks: whose blocks the units are to match, where a loss reads them; as `teacher`.
        reader: reads the same records in its own tokens, where a loss has it read; as `teacher`.

    Raises:
        DanteError: no loss, losses of blocks beside others, or an LM head that the vocabulary pass does not reproduce.
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
        blocks: LiveBlocks | None = None,
        reader: LiveReader | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.seed, self.gradient_sync = seed, gradient_sync
        self.teacher, self.blocks, self.reader = teacher, blocks, reader
        self.settings = OptimizerSettings.of(fit, fidelity)
        self.nonfinite_patience: int = fit.nonfinite_patience
        self.network = _pass_for(student, losses, precision, fit)
        self.losses = nn.ModuleDict(losses)
        self.network.prepare(fit)
        for name, loss in losses.items():
            loss.name = name
            loss.begin(self.settings.steps)
        #: What the pass over a micro-batch runs: losses of tokens, or of blocks.
        self.pass_losses: list[Any] = [loss for loss in losses.values() if isinstance(loss, LinearLoss | BlockLoss)]
        self.parameter_losses = [loss for loss in losses.values() if isinstance(loss, ParameterLoss)]
        if not losses:
            raise DanteError("there is no loss", where="losses", fix="add one, for example loss=[ce]")
        for anchor in self.parameter_losses:
            anchor.attach(student, self._embedding().detach().clone())
        if blocks is not None and isinstance(self.network, BlockPass):
            self.network.check_matches(blocks)
            energies = torch.tensor([blocks.energies[layer] for layer in self.network.student.layers])
            for loss in self.pass_losses:
                loss.attach(energies)
        self.register_buffer("skipped", torch.zeros((), dtype=torch.int64))
        self.register_buffer("skipped_in_a_row", torch.zeros((), dtype=torch.int64))
        # Equal on every rank by construction: DDP need not send them around in every step.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]
        self.stop_signal = 0
        self._suspects: list[str] = []
        self._outcomes = Outcomes()
        self._metrics: dict[str, float | int | Tensor] = {}

    @property
    def student(self) -> Any:
        """What is trained: a causal language model, or its units alone."""
        return self.network.student

    @property
    def skipped_updates(self) -> int:
        """Updates that were skipped because loss or gradient was not finite; waits for the device."""
        return int(self.skipped)

    def configure_model(self) -> None:
        """Shard the student, under the strategy that wants it (Lightning's hook)."""
        mesh = self._device_mesh
        for beside in (self.teacher, self.blocks, self.reader):
            if beside is not None:
                beside.place(self.trainer.strategy.root_device, mesh)
        if mesh is None or isinstance(self.network, FSDPModule):
            return
        # Whole: from here on every rank has a shard.
        embeddings = [self._embedding().detach().clone() for _ in self.parameter_losses]
        self.network.shard(mesh)
        for anchor, embedding in zip(self.parameter_losses, embeddings, strict=True):
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
            **{f"weight/{loss.name}": loss.weight(progress) for loss in self.pass_losses},
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
        weights = {loss.name: loss.weight(progress) for loss in self.pass_losses}
        sums: dict[str, Tensor] = asked_to_stop(self.skipped.device)
        losses: list[Tensor] = []
        if not self.pass_losses:  # nothing reads the text: no token goes through the student
            self._embedding().grad = torch.zeros_like(self._embedding())
            sums["loss"] = torch.zeros((), device=self.skipped.device)
        for index, micro in enumerate(batch.micro_batches if self.pass_losses else []):
            tokens = SupervisedTokens(
                micro.labels,
                micro.record,
                micro.fields,
                batch.supervised_tokens,
                batch.records,
                self._taught(micro),
                batch.tokens,
            )
            self._seed_randomness(batch.step, micro)
            with self._gradient_sync(index == len(batch.micro_batches) - 1):
                result = self.network(micro, self.pass_losses, weights, tokens)
                # Data parallelism averages gradients over ranks; coefficients already divide by the global count.
                self._backward(result.total * self._ranks())
            losses.append(result.total.detach())
            for name, share in self.network.shares(result, self.pass_losses, tokens).items():
                sums[name] = sums[name] + share if name in sums else share
        sums = _sum_over_ranks(sums)
        signal = signal_of(sums)
        return sums, losses, signal

    def _taught(self, micro: MicroBatch) -> TeacherSide:
        """The teacher's side of a micro-batch: what came with it, and what the teacher beside the student says."""
        taught = micro.teacher
        if self.teacher is not None:
            taught = replace(taught, maybe_logits=self.teacher.logits(micro, micro.record_ids))
        if self.blocks is not None:
            taught = replace(taught, maybe_blocks=self.blocks.blocks(micro, micro.record_ids))
        if self.reader is not None and micro.reading is not None:
            taught = replace(taught, maybe_span_logits=self.reader.said(micro.reading))
        return taught

    def _seed_randomness(self, step: int, micro: MicroBatch) -> None:
        """Make dropout a function of seed, step and records.

        So it needs no place in a checkpoint, and is the same after a resume and on any number of ranks.
        """
        key = f"{self.seed}/{step}/{','.join(micro.record_ids)}".encode()
        torch.manual_seed(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()))

    def _logged(self, sums: Mapping[str, Tensor], progress: float) -> dict[str, Tensor]:
        """The step's metrics: what belongs to a loss is what it makes of its own sums."""
        loss_sums = {loss.name: _own(sums, loss.name) for loss in self.pass_losses}
        loss_keys = {f"{name}/{key}" for name, own_sums in loss_sums.items() for key in own_sums}
        metrics = {key: value for key, value in sums.items() if key not in loss_keys}
        for loss in self.pass_losses:
            logged = self.network.logged(loss, loss_sums[loss.name], progress)
            metrics |= {f"{loss.name}/{key}": value for key, value in logged.items()}
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
        device = next(self.network.parameters()).device
        stacked = torch.stack([value.to(device, torch.float64) for value in tensors.values()]).tolist()
        numbers = dict(zip(tensors, stacked, strict=True))
        counts = {name: int(numbers[name]) for name, value in tensors.items() if not value.is_floating_point()}
        return {**self._metrics, **numbers, **counts}

    def loss_summaries(self) -> dict[str, dict[str, Any]]:
        """What losses say of themselves at the end, by name; those that say nothing are left out."""
        summaries = {}
        for loss in (*self.pass_losses, *self.parameter_losses):
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


def _pass_for(
    student: PreTrainedModel, losses: Mapping[str, Loss], precision: str, fit: Fit
) -> StudentPass | BlockPass:
    """What an optimizer step runs.

    Raises:
        DanteError: losses of blocks beside others, or a student without units for them.
    """
    of_blocks = [name for name, loss in losses.items() if isinstance(loss, BlockLoss)]
    if not of_blocks:
        return StudentPass(student, dtype_of(precision), fit.tile_tokens)
    others = [name for name in losses if name not in of_blocks]
    if others:
        raise DanteError(
            f"{', '.join(of_blocks)} match blocks, and {', '.join(others)} need the whole student, which does not run",
            where="losses",
            allowed="losses of one kind in a fit",
            fix=f"~losses.{others[0]}, or a recipe of two fits: +experiment=laguna_dense",
        )
    return BlockPass(UnitsAlone(student), dtype_of(precision))


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
