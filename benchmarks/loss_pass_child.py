"""One way through the vocabulary in a process of its own: `loss_pass_child.py NAME JOB_FILE`, for `loss_pass.py`.

Every way is given the same fp32 hidden states, fp32 LM head (as under fp32 masters) and labels, and must leave the
gradient of the mean cross-entropy in both. Under `precision: bf16` the operands of the products are bf16. With a live
teacher (`teacher_hidden`) the loss is the forward KL from it, by the ways of `loss_pass_kl.py`.

Bare products have results in the precision's dtype, by `torch.mm`; where torch would emulate bf16 products, MKL's with
fp32 results take their place.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import loss_pass_kl
import torch
from loss_pass_kl import Teacher
from measuring import Others, peak_resident_bytes, release_memory, reset_peak, resident_bytes
from torch import Tensor
from torch.nn import functional
from turns import Table

from dante.losses.ce import CE
from dante.losses.one_pass import vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.tokens import SupervisedTokens
from dante.losses.vocabulary import mkl
from dante.losses.vocabulary.head import Head
from dante.run.precision import is_emulated


@dataclass(frozen=True)
class Job:
    """Sizes and conditions of one comparison."""

    tokens: int
    hidden: int
    vocab: int
    device: str
    precision: str
    threads: int
    teacher_hidden: int | None = None

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def write(self, path: Path) -> None:
        """For `read`."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Job":
        """What `write` wrote."""
        return cls(**json.loads(path.read_text()))

    def autocast(self) -> Any:
        return torch.autocast(self.device, torch.bfloat16) if self.precision == "bf16" else nullcontext()


# A forward: the mean cross-entropy at the labels, or the mean KL from the teacher, as a differentiable scalar.
Forward = Callable[[Job, Tensor, Tensor, Any], Tensor]


def ours(job: Job, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """The lab's vocabulary pass with plain CE, as the training step calls it."""
    loss = CE(Constant(1.0), "ce")
    tokens = SupervisedTokens(labels, torch.zeros_like(labels), {}, job.tokens, 1)
    return vocabulary_pass(hidden, Head(weight), [loss], {"ce": 1.0}, tokens, job.dtype, None).total


def naive(job: Job, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Whole logits, fp32 cross-entropy on them: what transformers' models do."""
    with job.autocast():
        logits = functional.linear(hidden, weight)
    return functional.cross_entropy(logits.float(), labels)


def torch_chunked(job: Job, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """torch's own chunked linear cross-entropy, with the chunks and sums that it chooses itself."""
    options = torch.nn.LinearCrossEntropyOptions()
    return functional.linear_cross_entropy(hidden.to(job.dtype), weight.to(job.dtype), labels, options=options)


def trl(job: Job, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """TRL's chunked log-probabilities, with the outputs and chunk size of its SFTTrainer."""
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    with job.autocast():
        found = ChunkedLogProbFunction.apply(
            hidden,
            weight,
            None,
            labels,
            1.0,
            _CHUNKED_LOGPROB_CHUNK_SIZE,
            None,
            1.0,
            ("log_probs", "entropy", "is_top1"),
        )
    return -found[0].mean()


def liger(job: Job, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Liger's fused linear cross-entropy (Triton)."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    return LigerFusedLinearCrossEntropyLoss()(weight.to(job.dtype), hidden.to(job.dtype), labels)


def cut(job: Job, hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Apple's cut cross-entropy (Triton)."""
    from cut_cross_entropy import linear_cross_entropy

    return linear_cross_entropy(hidden.to(job.dtype), weight.to(job.dtype), labels)


WAYS: dict[str, Forward] = {
    "ours": ours,
    "naive": naive,
    "torch": torch_chunked,
    "trl": trl,
    "liger": liger,
    "cut": cut,
    **loss_pass_kl.WAYS,
}
# `gemm` is no way to a loss: the products alone, the gradient of the logits given.
NAMES = ("gemm", *WAYS)


class Course:
    """Repetitions of one way, with what each takes."""

    def __init__(self, name: str, job: Job) -> None:
        self.name, self.job = name, job
        generator = torch.Generator().manual_seed(0)
        shapes = {"hidden": (job.tokens, job.hidden), "weight": (job.vocab, job.hidden)}
        self.hidden, self.weight = (torch.randn(shape, generator=generator) for shape in shapes.values())
        self.weight.mul_(job.hidden**-0.5)
        self.labels = torch.randint(0, job.vocab, (job.tokens,), generator=generator).to(job.device)
        self.hidden = self.hidden.to(job.device).requires_grad_()
        self.weight = self.weight.to(job.device).requires_grad_()
        self.teacher: Teacher | None = None
        if job.teacher_hidden is not None:
            options = {"dtype": job.dtype, "device": job.device}
            self.teacher = Teacher.random(job.tokens, job.teacher_hidden, job.vocab, options, generator)

    def run(self) -> dict[str, Any]:
        """Forward and backward once."""
        return self._products() if self.name == "gemm" else self._loss()

    def _products(self) -> dict[str, Any]:
        job, hidden, weight = self.job, self.hidden.detach().to(self.job.dtype), self.weight.detach().to(self.job.dtype)
        emulated = is_emulated(job.precision, job.device)
        options: dict[str, Any] = {"dtype": torch.float32 if emulated else job.dtype, "device": job.device}
        multiply: Callable[..., Any] = mkl.product if emulated else torch.mm
        gradient = torch.zeros(job.tokens, job.vocab, dtype=job.dtype, device=job.device)
        logits = torch.empty(job.tokens, job.vocab, **options) if emulated else gradient
        into_hidden, into_weight = torch.empty_like(hidden, **options), torch.empty_like(weight, **options)
        others, start_processor = Others(), time.process_time()
        start = self._now()
        if self.teacher is not None:
            multiply(self.teacher.hidden, self.teacher.weight.T, out=logits)
        multiply(hidden, weight.T, out=logits)
        multiply(gradient, weight, out=into_hidden)
        multiply(gradient.T, hidden, out=into_weight)
        return {
            "seconds": self._now() - start,
            "processor_s": time.process_time() - start_processor,
            "others_cores": others.cores(),
        }

    def _loss(self) -> dict[str, Any]:
        given = [self.labels] if self.teacher is None else [self.teacher.hidden, self.teacher.weight]
        retained = Retained(self.hidden, self.weight, *given)
        before, others = self._memory(), Others()
        self._reset_peak()
        start, start_processor = self._now(), time.process_time()
        with torch.autograd.graph.saved_tensors_hooks(retained.pack, retained.unpack):
            loss = WAYS[self.name](self.job, self.hidden, self.weight, self.teacher or self.labels)
        held = self._memory() - before
        loss.backward()
        seconds, processor_s = self._now() - start, time.process_time() - start_processor
        gradients = [self.hidden.grad, self.weight.grad]
        facts = {
            "seconds": seconds,
            "processor_s": processor_s,
            "others_cores": others.cores(),
            "loss_nats": float(loss.detach()),
            "gradient_norms": [float(g.norm()) for g in gradients if g is not None],
            "gradient_probes": [_probe(g) for g in gradients if g is not None],
            "retained_bytes": retained.other_bytes,
            "retained_head_bytes": retained.head_bytes,
            "held_bytes": held,  # between forward and backward, by the operating system's count
            "peak_bytes": self._peak() - before,
            "beyond_bytes": self._peak() - before - sum(g.nbytes for g in gradients if g is not None),
        }
        self.hidden.grad = self.weight.grad = None
        return facts

    def _now(self) -> float:
        if self.job.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _memory(self) -> int:
        return torch.cuda.memory_allocated() if self.job.device == "cuda" else resident_bytes()

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self.job.device == "cuda" else peak_resident_bytes()

    def _reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats() if self.job.device == "cuda" else reset_peak()


def _probe(gradient: Tensor) -> float:
    """uᵀ G v of random u and v, its size the norm of G: gradients of one norm that point elsewhere differ in it."""
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(size, generator=generator).to(gradient.device) for size in gradient.shape)
    return float(left @ (gradient.float() @ right))


class Retained:
    """Bytes that autograd keeps for backward, each storage once, inputs aside; what has the head's shape apart."""

    def __init__(self, hidden: Tensor, weight: Tensor, *given: Tensor) -> None:
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in (hidden, weight, *given)}
        self._head_shape = weight.shape
        self.head_bytes = self.other_bytes = 0

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            # As it lies in memory: a transposed copy of the head is one, logits of as many tokens as widths are not.
            flipped = tensor.ndim == 2 and not tensor.is_contiguous()
            if (tensor.T if flipped else tensor).shape == self._head_shape:
                self.head_bytes += storage.nbytes()
            else:
                self.other_bytes += storage.nbytes()
        return tensor

    @staticmethod
    def unpack(tensor: Tensor) -> Tensor:
        return tensor


def main() -> int:
    table = Table()
    job = Job.read(Path(sys.argv[2]))
    torch.set_num_threads(job.threads)
    course = Course(sys.argv[1], job)
    if sys.argv[1].startswith("trl"):
        import trl.trainer.utils  # noqa: F401  (its import is no part of the first repetition)
    table.say(ready=True)
    while True:
        table.wait()
        facts = course.run()
        release_memory()
        table.say(**facts)


if __name__ == "__main__":
    sys.exit(main())
