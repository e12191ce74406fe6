"""The optimizer step: what packing, micro-batching, checkpointing and restarts must not change."""

import copy
import math
import shutil

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM

from dante.data.batch import MicroBatch, StepBatch
from dante.errors import DanteError
from dante.fit.module import DistillModule
from dante.losses.ce import CE
from dante.losses.cwce import CWCE
from dante.losses.schedule import Constant, HoldThenRamp, Linear
from dante.losses.tea import TEA
from dante.models.mkl_linear import avoid_emulation
from tests import fit_settings, reference

VOCAB = 53
STEPS = 6
FIT = {
    "steps": STEPS,
    "lr": 1e-2,
    "min_lr_ratio": 0.0,
    "warmup": 0.2,
    "betas": (0.9, 0.95),
    "eps": 1e-8,
    "weight_decay": 0.1,
    "clip": 1.0,
    "gradient_checkpointing": "none",
    "compile": False,
    "attention_dropout": None,
    "tile_tokens": 8,
    "nonfinite_patience": 2,
}
SOUND = {"clip": "per_loss", "decay": "matrices"}
CARD = {"clip": "global", "decay": "all"}
# (tokens of the prompt, tokens of the answer, teacher's entropy)
RECORDS = [(5, 4, 0.1), (3, 9, 0.8), (7, 1, 2.2), (4, 6, 0.4), (2, 5, 1.4)]


def student(dtype=torch.float64, tied=True):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).to(dtype)


def cwce(normalise="tokens"):
    return CWCE(HoldThenRamp(0.7, 1.0, 0.1), normalise, floor=0.30, slope=1.5, midpoint=1.5)


def tea(reduction="relative", calibrate=True, weight=None):
    schedule = weight or Linear(1.0, 0.1)
    return TEA(schedule, reduction, calibrate, gradient_ratio=0.1, drift_rms=1e-4, calibration=0.2)


def module(
    model=None,
    losses=None,
    fidelity=SOUND,
    precision="fp32",
    seed=0,
    gradient_sync="last",
    teacher=None,
    blocks=None,
    reader=None,
    **fit,
):
    losses = losses or {"cwce": cwce()}
    settings = fit_settings.fit(**{**FIT, **fit})
    kept = fit_settings.fidelity(**fidelity)
    beside = {"teacher": teacher, "blocks": blocks, "reader": reader}
    return DistillModule(model or student(), losses, settings, kept, precision, seed, gradient_sync, **beside)


def token_ids(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, VOCAB, (prompt + answer,), generator=generator) for prompt, answer, _ in RECORDS]


def row(records, ids):
    """One packed row of the given records; nothing but their answers is supervised."""
    input_ids, position_ids, positions, labels, record = [], [], [], [], []
    start = 0
    for index, which in enumerate(records):
        prompt, answer, _ = RECORDS[which]
        input_ids.append(ids[which])
        position_ids.append(torch.arange(prompt + answer))
        positions.append(torch.arange(start + prompt - 1, start + prompt + answer - 1))
        labels.append(ids[which][prompt:])
        record.append(torch.full((answer,), index))
        start += prompt + answer
    fields = {
        "output_entropy": torch.tensor([RECORDS[which][2] for which in records]),
        "supervised_tokens": torch.tensor([RECORDS[which][1] for which in records]),
    }
    parts = (torch.cat(part) for part in (positions, labels, record))
    names = [f"record-{which}" for which in records]
    return MicroBatch(torch.cat(input_ids)[None], torch.cat(position_ids)[None], *parts, fields, names)


def empty_row():
    nothing = torch.zeros(0, dtype=torch.int64)
    fields = {"output_entropy": torch.zeros(0), "supervised_tokens": nothing}
    zero = torch.zeros(1, 1, dtype=torch.int64)
    return MicroBatch(zero, zero, nothing, nothing, nothing, fields, [])


def step_batch(layout, step=0, seed=None, empty=False):
    ids = token_ids(step if seed is None else seed)
    rows = [row(records, ids) for records in layout] + ([empty_row()] if empty else [])
    supervised = sum(RECORDS[which][1] for records in layout for which in records)
    tokens = sum(row.input_ids.numel() for row in rows)
    return StepBatch(rows, tokens, supervised, sum(len(records) for records in layout), step)


def token_gradient(trained, batch):
    """Gradient and metrics of a step's token losses, without an update."""
    trained.zero_grad()
    metrics, _, _ = trained._token_gradients(batch, batch.step / STEPS)
    return [p.grad.clone() for p in trained.student.parameters()], metrics


def bare_trainer(callbacks=(), **options):
    """A trainer for one pass on a CPU that prints and writes nothing of its own, as the fit's is set up."""
    return Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
        **options,
    )


def run_steps(trained, batches, callbacks=(), **trainer_options):
    trainer = bare_trainer(callbacks)
    loader = DataLoader(batches, batch_size=None)
    trainer.fit(trained, loader, **trainer_options)
    return trainer


class Collect(Callback):
    def __init__(self):
        self.rows = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.rows.append(pl_module.collect_metrics())


ONE_ROW = [[0, 1, 2, 3, 4]]
SEPARATE = [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("normalise", ["tokens", "records"])
def test_gradient_equals_a_dense_reference_on_separate_sequences(normalise):
    trained = module(losses={"cwce": cwce(normalise)})
    ours, metrics = token_gradient(trained, step_batch(ONE_ROW))
    model, ids = student(), token_ids(0)
    logits, labels, record = [], [], []
    for which, (prompt, answer, _) in enumerate(RECORDS):
        logits.append(model(input_ids=ids[which][None]).logits[0, prompt - 1 : -1])
        labels.append(ids[which][prompt:])
        record.append(torch.full((answer,), which))
    logits, labels, record = (torch.cat(part) for part in (logits, labels, record))
    dense = reference.cwce_tokens if normalise == "tokens" else reference.cwce_records
    value = dense(logits, labels, record, [entropy for _, _, entropy in RECORDS])
    theirs = torch.autograd.grad(0.7 * value, list(model.parameters()))
    for mine, true in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, true, rtol=1e-5, atol=1e-8)
    assert metrics["loss/cwce"].item() == pytest.approx(value.item(), rel=1e-6)
    assert metrics["loss"].item() == pytest.approx(0.7 * value.item(), rel=1e-6)
    assert metrics["ce_nats"].item() == pytest.approx(reference.ce(logits, labels).item(), rel=1e-6)


@pytest.mark.parametrize("normalise", ["tokens", "records"])
@pytest.mark.parametrize("layout", [SEPARATE, [[4, 2], [0], [3, 1]], [[1, 0, 2, 4, 3]]])
def test_packing_and_micro_batching_change_nothing(layout, normalise):
    trained = module(losses={"cwce": cwce(normalise)})
    packed, packed_metrics = token_gradient(trained, step_batch(ONE_ROW))
    other, other_metrics = token_gradient(trained, step_batch(layout, empty=True))
    for a, b in zip(packed, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
    for name, value in packed_metrics.items():
        torch.testing.assert_close(value, other_metrics[name], msg=name)


def test_tokens_outside_the_mask_do_not_matter():
    trained, batch = module(), step_batch(ONE_ROW)
    before, _ = token_gradient(trained, batch)
    micro = batch.micro_batches[0]
    # The last token of every record is a label only; nothing supervised follows it, so its input is free to change.
    ends = torch.cumsum(torch.tensor([p + a for p, a, _ in RECORDS]), 0) - 1
    micro.input_ids[0, ends] = (micro.input_ids[0, ends] + 7) % VOCAB
    after, _ = token_gradient(trained, batch)
    embedding = 0  # the changed tokens' embedding rows take part in no loss either
    for a, b in zip(before[embedding:], after[embedding:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", ["selective", "full"])
def test_gradient_checkpointing_changes_nothing(mode):
    plain, _ = token_gradient(module(), step_batch(ONE_ROW))
    trained = module(gradient_checkpointing=mode)
    assert trained.student.is_gradient_checkpointing
    checkpointed, _ = token_gradient(trained, step_batch(ONE_ROW))
    for a, b in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(a, b)


def test_bf16_compute_keeps_fp32_masters_and_gradients():
    exact, _ = token_gradient(module(student(torch.float32)), step_batch(ONE_ROW))
    trained = module(student(torch.float32), precision="bf16")
    rounded, _ = token_gradient(trained, step_batch(ONE_ROW))
    assert all(p.dtype == torch.float32 for p in trained.student.parameters())
    distance = math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(exact, rounded, strict=True)))
    assert 0 < distance < 0.03 * math.sqrt(sum(float(a.square().sum()) for a in exact))


def test_pure_bf16_weights_train():
    trained = module(student(torch.bfloat16), fidelity=CARD, precision="bf16")
    collect = Collect()
    run_steps(trained, [step_batch(ONE_ROW, k, seed=0) for k in range(STEPS)], [collect])
    assert all(p.dtype == torch.bfloat16 for p in trained.student.parameters())
    assert collect.rows[-1]["ce_nats"] < collect.rows[0]["ce_nats"]


def moved_embedding(trained):
    with torch.no_grad():
        trained.student.get_input_embeddings().weight.add_(0.01)


@pytest.mark.parametrize("layout", [ONE_ROW, SEPARATE])
def test_the_anchor_is_applied_once_per_step_not_per_micro_batch(layout):
    trained = module(losses={"cwce": cwce(), "tea": tea("frobenius_sum", False, Constant(0.5))}, clip=1e9)
    moved_embedding(trained)
    before, metrics = token_gradient(trained, step_batch(layout))
    without = module(clip=1e9)
    moved_embedding(without)
    for mine, tokens_alone in zip(before, token_gradient(without, step_batch(layout))[0], strict=True):
        torch.testing.assert_close(mine, tokens_alone)
    trained._parameter_gradients(0.0, metrics)
    embedding = trained.student.get_input_embeddings().weight
    anchor = embedding.grad - before[0]
    torch.testing.assert_close(anchor, torch.full_like(anchor, 2 * 0.5 * 0.01), rtol=1e-5, atol=0)
    assert metrics["loss/tea"].item() == pytest.approx(1e-4 * embedding.numel(), rel=1e-5)


def norm_of(gradients):
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients))


def test_losses_are_clipped_apart_or_together():
    limit = 0.05
    for fidelity in (SOUND, CARD):
        trained = module(
            losses={"cwce": cwce(), "tea": tea("frobenius_sum", False, Constant(1.0))}, fidelity=fidelity, clip=limit
        )
        moved_embedding(trained)
        tokens, metrics = token_gradient(trained, step_batch(ONE_ROW))
        divisor, norm = trained._parameter_gradients(0.0, metrics)
        reported = norm.item()
        after = [p.grad / divisor for p in trained.student.parameters()]
        anchor = [torch.full_like(g, 0.02) if i == 0 else torch.zeros_like(g) for i, g in enumerate(tokens)]
        if fidelity is SOUND:
            expected = [
                t * limit / norm_of(tokens) + a * limit / norm_of(anchor) for t, a in zip(tokens, anchor, strict=True)
            ]
            assert reported == pytest.approx(norm_of(tokens), rel=1e-5)
        else:
            together = [t + a for t, a in zip(tokens, anchor, strict=True)]
            expected = [g * limit / norm_of(together) for g in together]
            assert reported == pytest.approx(norm_of(together), rel=1e-5)
            assert norm_of(after) == pytest.approx(limit, rel=1e-5)
        for a, b in zip(after, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-9)


def test_a_run_learns_and_reports():
    trained = module(losses={"cwce": cwce(), "tea": tea()})
    collect = Collect()
    run_steps(trained, [step_batch([[0, 1], [2, 3, 4]], k, seed=0) for k in range(STEPS)], [collect])
    first, last = collect.rows[0], collect.rows[-1]
    assert last["ce_nats"] < first["ce_nats"]
    assert [r["step"] for r in collect.rows] == list(range(1, STEPS + 1))
    # One warm-up step, at the full rate already; then the cosine, whose first step is at its top.
    rates = [1.0, *(0.5 + 0.5 * math.cos(math.pi * k / 5) for k in range(5))]
    assert [r["lr"] for r in collect.rows] == pytest.approx([1e-2 * rate for rate in rates])
    assert last["weight/cwce"] == pytest.approx(HoldThenRamp(0.7, 1.0, 0.1)(5 / 6))
    assert last["supervised_tokens"] == 25
    assert last["tea/drift_frobenius"] > 0
    for r in collect.rows:
        parts = r["weight/cwce"] * r["loss/cwce"] + r["weight/tea"] * r["loss/tea"]
        assert r["loss"] == pytest.approx(parts, rel=1e-6)
        assert all(isinstance(value, int | float) for value in r.values())
    assert trained.collect_metrics() == last


def poisoned(batch):
    """The same batch with a record whose entropy is not a number."""
    batch.micro_batches[-1].fields["output_entropy"][0] = float("nan")
    return batch


def test_nonfinite_steps_are_skipped_and_counted_and_a_finite_one_restores_patience():
    trained = module(nonfinite_patience=2)
    batches = [step_batch([[0, 1], [2, 3, 4]], k) for k in range(5)]
    clean = copy.deepcopy(trained)
    run_steps(clean, [batches[0], batches[2], batches[4]])
    run_steps(trained, [batches[0], poisoned(batches[1]), batches[2], poisoned(batches[3]), batches[4]])
    assert trained.skipped_updates == 2
    for a, b in zip(trained.student.parameters(), clean.student.parameters(), strict=True):
        assert torch.equal(a, b)


def test_nonfinite_steps_in_a_row_stop_the_run_and_name_the_records():
    trained = module()
    batches = [poisoned(step_batch([[0, 1], [2, 3, 4]], k)) for k in range(4)]
    with pytest.raises(DanteError) as caught:
        run_steps(trained, batches)
    message = str(caught.value)
    assert "2 optimizer steps in a row" in message
    assert "record-2, record-3, record-4" in message
    assert "record-0" not in message
    assert "up to step 2" in message


def test_resumed_equals_uninterrupted_bit_for_bit(products, tmp_path):
    def fresh():
        own = student(torch.float32)
        avoid_emulation(own)
        return module(own, {"cwce": cwce(), "tea": tea()}, precision="bf16", warmup=0.6)

    class Stop(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch.step == 2:  # in the middle of warm-up and of calibration
                trainer.save_checkpoint(tmp_path / "state.ckpt")
                trainer.should_stop = True

    batches = [step_batch([[0, 1], [2, 3, 4]], k) for k in range(STEPS)]
    batches[1] = poisoned(batches[1])
    whole, whole_rows = fresh(), Collect()
    run_steps(whole, batches, [whole_rows])
    run_steps(fresh(), batches, [Stop()])
    state = torch.load(tmp_path / "state.ckpt", weights_only=True)
    assert not any("reference" in name for name in state["state_dict"])
    resumed, resumed_rows = fresh(), Collect()
    run_steps(resumed, batches[3:], [resumed_rows], ckpt_path=tmp_path / "state.ckpt", weights_only=True)
    assert resumed.skipped_updates == whole.skipped_updates == 1
    assert resumed_rows.rows == whole_rows.rows[3:]
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_embedding_does_not_decay_in_sound_and_does_in_card():
    """A loss with zero weight leaves decay as the only force on the weights."""
    for fidelity, decays in ((SOUND, False), (CARD, True)):
        trained = module(losses={"ce": CE(Constant(0.0))}, fidelity=fidelity)
        before = trained.student.get_input_embeddings().weight.detach().clone()
        run_steps(trained, [step_batch(ONE_ROW)])
        after = trained.student.get_input_embeddings().weight.detach()
        factor = 1 - 1e-2 * 0.1 if decays else 1.0
        torch.testing.assert_close(after, before * factor, rtol=1e-9, atol=0)


def test_untied_head_gets_its_own_gradient():
    trained = module(student(tied=False))
    gradients, _ = token_gradient(trained, step_batch(ONE_ROW))
    names = [name for name, _ in trained.student.named_parameters()]
    assert norm_of([gradients[names.index("lm_head.weight")]]) > 0


def test_a_recipe_without_a_loss_is_refused():
    with pytest.raises(DanteError, match="there is no loss"):
        DistillModule(student(), {}, fit_settings.fit(**FIT), fit_settings.fidelity(**SOUND), "fp32", 0, "last")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_blocks_give_the_same_gradient():
    plain, _ = token_gradient(module(student(torch.float32)), step_batch(ONE_ROW))
    compiled, _ = token_gradient(module(student(torch.float32), compile=True), step_batch(ONE_ROW))
    for a, b in zip(plain, compiled, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_fit_without_a_loss_on_the_text_moves_what_its_losses_name_and_nothing_else():
    """The anchor alone, away from its reference: it pulls the embedding back, and no token goes through the student."""
    model = student()
    anchor = tea(reduction="row_mean", calibrate=False, weight=Constant(1.0))
    trained = module(model, {"tea": anchor}, weight_decay=0.0)
    reference = model.get_input_embeddings().weight.detach().clone()
    with torch.no_grad():
        model.get_input_embeddings().weight += 0.1
    before = {name: value.clone() for name, value in model.named_parameters()}
    collect = Collect()
    run_steps(trained, [step_batch([[0, 1]], step) for step in range(STEPS)], [collect])
    after = dict(model.named_parameters())
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"model.embed_tokens.weight"}
    assert (after["model.embed_tokens.weight"] - reference).norm() < (
        before["model.embed_tokens.weight"] - reference
    ).norm()
    losses = [row["loss"] for row in collect.rows]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 0
