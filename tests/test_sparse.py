"""Sparse logits: codes that lose nothing they should not, sizes, an unbiased estimate, rows that find their record."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dante.cache import CacheWriter, Record, read_records
from dante.cache.__main__ import main
from dante.cache.records.record import stable_hash
from dante.cache.sparse import RandomSampling, Sparse, SparseLogits, TopKTail, bits
from dante.cache.sparse.making import store as store_module
from dante.errors import DanteError
from dante.teachers.engines.transformers_engine import TransformersEngine
from dante.teachers.smoke import SmokeTeacher
from dante.text.chat import ChatRenderer

VOCABULARY = 152_064


def distributions(tokens: int, vocabulary: int, seed: int = 0, heat: float = 2.5) -> np.ndarray:
    """Log-probabilities with a long tail, some of them nearly certain, like a language model's."""
    rng = np.random.default_rng(seed)
    ranks = np.log1p(rng.permuted(np.tile(np.arange(vocabulary), (tokens, 1)), axis=1))
    logits = -ranks * rng.uniform(1.0, heat, (tokens, 1)) + rng.normal(0, 0.5, (tokens, vocabulary))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def largest(logprobs: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.argsort(-logprobs, axis=1)[:, :k]
    return np.take_along_axis(logprobs, ids, axis=1), ids.astype(np.int64)


@given(st.integers(1, 20), st.integers(0, 5), st.integers(0, 7), st.integers(0, 2**31))
def test_fields_round_trip(width: int, rows: int, n: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 1 << width, (rows, n))
    packed = bits.to_bytes(bits.fields_to_bits(values, width))
    assert packed.shape == (rows, (n * width + 7) // 8)
    assert (bits.bits_to_fields(bits.from_bytes(packed, n * width), width) == values).all()


@given(st.integers(1, 3000), st.data())
def test_ids_round_trip_at_the_stated_width(vocabulary: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, min(vocabulary, 60)))
    seed = data.draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    ids = np.sort(np.stack([rng.choice(vocabulary, n, replace=False) for _ in range(4)]), axis=1)
    ids[0], ids[1] = np.arange(n), np.arange(vocabulary - n, vocabulary)  # the extremes
    coded = bits.ids_to_bits(ids, vocabulary)
    assert coded.shape[1] == bits.ids_width(n, vocabulary)
    assert (bits.bits_to_ids(coded, n, vocabulary) == ids).all()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_counts_round_trip(counts: list[int]) -> None:
    rows = np.array([counts, counts[::-1]])
    coded = bits.counts_to_bits(rows, sum(counts))
    assert (bits.bits_to_counts(coded, len(counts)) == rows).all()


def test_sizes_at_a_vocabulary_of_152_thousand() -> None:
    logprobs = distributions(40, VOCABULARY)
    top = TopKTail(50, VOCABULARY)
    payload, numbers = top.encode(top.keep(*largest(logprobs, 50)))
    drawn = RandomSampling(50, VOCABULARY)
    few, counts = drawn.encode(drawn.draw(logprobs, np.random.default_rng(0)))
    # At twelve different tokens, whatever these distributions gave.
    at_twelve = int(drawn.row_bytes(np.array([12], dtype=np.uint8))[0]) + 1
    print(f"topk_tail {len(payload) / 40 + 1:.1f} bytes per token; random_sampling {at_twelve} at 12 unique tokens, "
          f"{len(few) / 40 + 1:.1f} here at {counts.mean():.1f}")  # fmt: skip
    assert len(payload) / len(numbers) + 1 < 127  # a row, and one byte for how many ids it keeps
    assert at_twelve <= 35


@pytest.mark.parametrize("vocabulary", [64, 512, 49_152])
def test_topk_keeps_ids_tail_and_nearly_the_probabilities(vocabulary: int) -> None:
    logprobs = distributions(200, vocabulary)
    k = min(50, vocabulary)
    kind = TopKTail(50, vocabulary)
    kept = kind.keep(*largest(logprobs, k))
    back = kind.decode(*kind.encode(kept))
    assert (back.ids == kept.ids).all()
    assert np.abs(back.probabilities.sum(1) + back.tail - 1).max() < 1e-9
    assert back.tail.min() >= 0
    np.testing.assert_allclose(back.tail, kept.tail, rtol=2e-3, atol=1e-7)
    # How far the kept distribution moved, tail bucket included.
    p = np.concatenate([kept.probabilities, kept.tail[:, None]], axis=1)
    q = np.concatenate([back.probabilities, back.tail[:, None]], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(p > 0, p * np.log(p / q), 0.0).sum(1)
    print(f"V={vocabulary}: mean KL {kl.mean():.1e}, largest {kl.max():.1e} nats")
    assert kl.max() < 1e-3


def test_topk_of_a_whole_vocabulary_has_no_tail_and_equal_probabilities_stay_equal() -> None:
    kind = TopKTail(50, 8)
    even = kind.keep(np.full((3, 8), -np.log(8)), np.tile(np.arange(8), (3, 1)))
    back = kind.decode(*kind.encode(even))
    np.testing.assert_allclose(back.probabilities, 1 / 8, rtol=1e-12)
    assert (back.tail == 0).all()


def test_random_sampling_is_exact_in_what_it_drew() -> None:
    kind = RandomSampling(50, 5000)
    kept = kind.draw(distributions(300, 5000, heat=6.0), np.random.default_rng(1))
    back = kind.decode(*kind.encode(kept))
    assert (back.ids == kept.ids).all()
    np.testing.assert_allclose(back.probabilities, kept.probabilities, atol=1e-12)
    np.testing.assert_allclose(back.probabilities.sum(1), 1.0)
    assert len(np.unique((kept.ids >= 0).sum(1))) > 5  # rows of several lengths were joined again


def test_the_mean_of_draws_is_the_distribution_and_a_cut_one_s_is_not() -> None:
    vocabulary, rounds, n = 40, 4000, 50
    logprobs = distributions(1, vocabulary, heat=1.5)
    p = np.exp(logprobs[0])
    kind = RandomSampling(n, vocabulary)
    rng, total = np.random.default_rng(3), np.zeros(vocabulary)
    for _ in range(rounds):
        kept = kind.draw(logprobs, rng)
        np.add.at(total, kept.ids[0], kept.probabilities[0])
    error_in_sigmas = np.abs(total / rounds - p) / np.sqrt(p * (1 - p) / (rounds * n))
    assert error_in_sigmas.max() < 4.5  # 40 tokens at once: P < 3e-4
    values, ids = largest(logprobs, 10)
    cut = np.zeros(vocabulary)
    cut[ids[0]] = np.exp(values[0]) / np.exp(values[0]).sum()
    assert (np.abs(cut - p) / np.sqrt(p * (1 - p) / (rounds * n))).max() > 20


# Files


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    SmokeTeacher(seed=0).make(folder)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    texts = ["Jupiter.", "caffè 👍 e più", "line\\nbreak", "It is 60.", "é", "A longer answer, of several words."]
    records = [Record(f"id-{i}é" if i % 2 else f"id-{i}", f"Question {i}?", text, 1.0) for i, text in enumerate(texts)]
    CacheWriter(tmp_path / "cache").add(records).seal()
    return tmp_path / "cache"


def make(cache: Path, teacher: Path, kind: str, **more: object) -> int:
    options = [word for name, value in ({"size": 20} | more).items() for word in (f"--{name}", str(value))]
    return main(["sparse", str(cache), "--teacher", str(teacher), "--kind", kind, *options, "engine.device=cpu"])


@pytest.mark.parametrize("kind", ["topk_tail", "random_sampling"])
def test_rows_are_those_of_the_teacher_and_found_by_id(
    kind: str, cache: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(cache, teacher, kind) == 0
    assert "bytes per token" in capsys.readouterr().out
    logits = SparseLogits(cache, kind)
    records = read_records(cache)
    assert len(logits) == len(records)
    with TransformersEngine("float32", 1, "cpu").open(str(teacher / "model"), None, {}, cache / "log") as engine:
        renderer = ChatRenderer(engine.tokenizer)
        for record in reversed(records):
            rendered = renderer.render(record.prompt, record.teacher_text)
            start, count = rendered.supervised.index(True), sum(rendered.supervised)
            exact = np.exp(engine.full_logprobs(rendered.input_ids[: start + count], start).double().numpy())
            rng = np.random.default_rng(int(stable_hash(0, record.id), 16))  # each record's own, in any order
            drawn = RandomSampling(20, 512).draw(np.log(exact), rng)
            found = logits.for_record(record)
            assert len(found.ids) == count  # the end-of-turn token is one of them
            for row in range(count):
                ids = found.ids[row][found.ids[row] >= 0]
                kept = found.probabilities[row][: len(ids)]
                if kind == "topk_tail":
                    assert set(ids) == set(np.argsort(-exact[row])[:20])
                    np.testing.assert_allclose(kept, exact[row][ids], rtol=0.12)
                    assert found.tail[row] == pytest.approx(1 - exact[row][ids].sum(), rel=2e-3, abs=1e-6)
                else:
                    assert (ids == drawn.ids[row][drawn.ids[row] >= 0]).all()
                    np.testing.assert_allclose(kept, drawn.probabilities[row][: len(ids)], atol=1e-12)


def test_more_records_go_into_more_files_and_bytes_are_the_same_again(
    cache: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RECORDS_PER_FILE", 2)
    one, two = tmp_path / "one", tmp_path / "two"
    assert make(cache, teacher, "random_sampling", out=one) == 0
    assert make(cache, teacher, "random_sampling", out=two, count=2) == 0
    assert len(list(two.glob("*.safetensors"))) == 1
    assert make(cache, teacher, "random_sampling", out=two) == 0
    files = sorted(p.name for p in one.glob("*.safetensors"))
    assert len(files) == 3
    assert [(one / name).read_bytes() for name in files] == [(two / name).read_bytes() for name in files]


def test_rows_of_another_text_or_making_are_refused(
    cache: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(cache, teacher, "topk_tail") == 0
    record = read_records(cache)[0]
    logits = SparseLogits(cache, "topk_tail")
    with pytest.raises(DanteError, match="made for another text"):
        logits.for_record(replace(record, teacher_text="Saturn."))
    with pytest.raises(DanteError, match="has no topk_tail logits"):
        logits.for_record(replace(record, id="other"))
    assert make(cache, teacher, "topk_tail", size=10) == 1
    assert "size: 20 → 10" in capsys.readouterr().err
    SmokeTeacher(seed=1, train_steps=1).make(tmp_path / "other")
    assert make(cache, tmp_path / "other", "topk_tail") == 1
    assert "teacher: " in capsys.readouterr().err
    with pytest.raises(DanteError, match="no random_sampling logits"):
        SparseLogits(cache, "random_sampling")
    path = logits.paths[0]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DanteError, match="damaged"):
        SparseLogits(cache, "topk_tail")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9))
def test_any_top_k_survives(seed: int, tokens: int) -> None:
    rng = np.random.default_rng(seed)
    vocabulary = int(rng.integers(2, 400))
    logits = rng.normal(0, rng.uniform(0.01, 12), (tokens, vocabulary))
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    k = int(rng.integers(1, min(vocabulary, 60) + 1))
    kind = TopKTail(k, vocabulary)
    kept = kind.keep(*largest(logprobs, k))
    back = kind.decode(*kind.encode(kept))
    assert isinstance(back, Sparse)
    assert (back.ids == kept.ids).all()
    assert np.isfinite(back.probabilities).all()
    assert np.abs(back.probabilities - kept.probabilities).max() < 0.03
