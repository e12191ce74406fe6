"""Teachers: the smoke model, existing models, offsets, the transformers engine."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from dante.errors import DanteError
from dante.evaluate.score_stage import teacher_missing
from dante.teachers.engines.base import Decoding, Request, to_generation
from dante.teachers.engines.transformers_engine import TransformersEngine
from dante.teachers.hub import HubTeacher
from dante.teachers.pocket import PocketTeacher
from dante.teachers.smoke import SmokeTeacher, smoke_tokenizer
from dante.teachers.teacher import load_teacher
from dante.text.repetition import RepetitionLimit, repeats
from dante.text.tokens.offsets import token_ends
from tests.gguf_files import tiny_qwen, write_gguf

GREEDY = Decoding(
    temperature=0.0, top_p=1.0, top_k=0, max_new_tokens=24, samples=1, logprobs=20, repetition=RepetitionLimit(2, 8, 4)
)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    SmokeTeacher(seed=0).make(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer():
    return smoke_tokenizer()


# --- offsets ---------------------------------------------------------------------------------------------------------

TEXTS = [
    "Hello, world.",
    " leading and trailing ",
    "caffè, perché no? Così è",
    "👩‍👩‍👧 family, 👍🏽 and a flag 🇮🇹!",
    "e\u0301 combining, n\u0303, and a\u0308\u0301",
    "日本語のテキスト and العربية",
    "line\nbreaks\n\n\tand tabs",
    "x" * 300 + "é" * 60,
]


@pytest.mark.parametrize("text", TEXTS)
def test_offsets_cut_the_text_where_the_tokens_end(tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    decoded, ends = token_ends(tokenizer, ids)
    raw = text.encode("utf-8")
    assert decoded == text
    assert len(ends) == len(ids)
    assert ends == sorted(ends)
    assert ends[-1] == len(raw)
    for end in ends:
        raw[:end].decode("utf-8")  # never inside a character
    # Reference: the exact bytes of every token; a token that ends inside a character ends before that character.
    alphabet = {c: b for b, c in byte_alphabet().items()}
    seen = b""
    for token, end in zip(tokenizer.convert_ids_to_tokens(ids), ends, strict=True):
        seen += bytes(alphabet[c] for c in token)
        assert end == len(seen.decode("utf-8", errors="ignore").encode("utf-8"))


def byte_alphabet() -> dict[int, str]:
    """GPT-2's mapping of bytes to printable characters."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}


def test_a_character_cut_off_belongs_to_the_last_token(tokenizer) -> None:
    ids = tokenizer.encode("ok 👍", add_special_tokens=False)[:-1]
    text, ends = token_ends(tokenizer, ids)
    assert ends[-1] == len(text.encode("utf-8"))
    assert ends == sorted(ends)


def test_no_tokens(tokenizer) -> None:
    assert token_ends(tokenizer, []) == ("", [])


# --- generations -----------------------------------------------------------------------------------------------------


def test_the_end_of_turn_entry_is_dropped(tokenizer) -> None:
    ids = [*tokenizer.encode("fine", add_special_tokens=False), tokenizer.eos_token_id]
    count = len(ids)
    certain = [[-0.001, -8.0]] * (count - 1) + [[-0.69, -0.69]]
    generation = to_generation(tokenizer, ids, [-0.001] * count, certain, "stop", {tokenizer.eos_token_id}, 512)
    assert generation.text == "fine"
    assert len(generation.token_logprobs) == len(generation.token_ends) == count - 1
    assert generation.output_entropy < 0.05  # the uncertain end-of-turn position does not count


def test_special_tokens_inside_an_answer_are_text_where_that_is_asked_for(tokenizer) -> None:
    start, eos = tokenizer.convert_tokens_to_ids("<|im_start|>"), tokenizer.eos_token_id
    ids = [
        *tokenizer.encode("é", add_special_tokens=False),
        start,
        *tokenizer.encode("x", add_special_tokens=False),
        eos,
    ]
    top = [[-0.1, -3.0]] * len(ids)
    plain, kept = (
        to_generation(
            tokenizer, ids, [-0.1] * len(ids), top, "stop", {eos}, 512, Decoding(**base, special_tokens=special)
        )
        for base in [{k: v for k, v in vars(GREEDY).items() if k != "special_tokens"}]
        for special in (False, True)
    )
    assert (plain.text, kept.text) == ("éx", "é<|im_start|>x")
    assert kept.token_ends[-1] == len(kept.text.encode())
    assert plain.token_ends[-1] == len(plain.text.encode())
    assert kept.token_ends[-2] == len("é<|im_start|>".encode())


def test_repetition() -> None:
    limit = RepetitionLimit(min_tokens=2, max_tokens=4, count=3)
    assert repeats([9, 1, 2, 3, 1, 2, 3, 1, 2, 3], limit)
    assert not repeats([9, 1, 2, 3, 1, 2, 3, 1, 2], limit)
    assert not repeats([1, 2, 3, 4, 5] * 3, limit)  # the pattern is longer than the longest one
    assert repeats([1, 1, 1, 1, 1, 1], limit)


# --- teachers --------------------------------------------------------------------------------------------------------


def test_smoke_teacher_is_seeded_and_keeps_the_pad_trap(smoke: Path, tmp_path: Path) -> None:
    first, again = (SmokeTeacher(seed=0, train_steps=3).make(tmp_path / name) for name in ("first", "again"))
    other = SmokeTeacher(seed=1, train_steps=3).make(tmp_path / "other")
    assert first.sha256 == again.sha256 != other.sha256
    tokenizer_config = json.loads((smoke / "model" / "tokenizer_config.json").read_text())
    assert tokenizer_config["pad_token"] == tokenizer_config["eos_token"] == "<|im_end|>"


def test_local_folder_as_teacher(smoke: Path, tmp_path: Path) -> None:
    HubTeacher(str(smoke / "model"), None, "Apache-2.0").make(tmp_path)
    teacher = load_teacher(tmp_path)
    assert teacher.local
    assert teacher.chat_template
    assert Path(teacher.location(tmp_path)) == smoke / "model"
    assert teacher.sha256 == load_teacher(smoke).sha256
    with pytest.raises(DanteError, match=r"config\.json"):
        HubTeacher(str(tmp_path / "nothing"), None, "MIT").make(tmp_path)


def test_a_broken_folder_is_refused_before_it_is_asked_anything(
    smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(smoke / "model", tmp_path / "org" / "name"))
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: t for name, t in tensors.items() if name != "model.norm.weight"}, weights, {"format": "pt"})
    with pytest.raises(DanteError, match=r"missing \(model\.norm\.weight\).*teacher\.make\.model"):
        TransformersEngine("float32", 2, "cpu").open(str(folder), None, {}, tmp_path / "log")
    monkeypatch.chdir(tmp_path)
    HubTeacher("org/name", None, "MIT").make(tmp_path / "out")
    assert load_teacher(tmp_path / "out").local, "a folder of this name is what transformers would load"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(DanteError, match=r"cut off.*teacher\.make\.model"):
        HubTeacher("org/name", None, "MIT").make(tmp_path / "out")


def test_a_teacher_that_only_another_engine_reads_is_not_measured(smoke: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(smoke / "model", tmp_path / "packed"))
    HubTeacher(str(folder), None, "MIT").make(tmp_path / "step")
    assert teacher_missing(tmp_path / "step") is None
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    assert "quantised (gptq)" in str(teacher_missing(tmp_path / "step"))


def test_hub_id_downloads_nothing(tmp_path: Path) -> None:
    HubTeacher("org/model", "abc", "MIT").make(tmp_path)
    assert load_teacher(tmp_path).location(tmp_path) == "org/model"


def test_missing_teacher_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DanteError, match="only=teacher"):
        load_teacher(tmp_path)


def test_pocket_teacher_refuses_another_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dante.models import gguf_file
    from dante.teachers import pocket

    write_gguf(tmp_path / pocket.FILE.rpartition("/")[2], tiny_qwen(tied=True))
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: spec)
    with pytest.raises(DanteError, match="SHA-256"):
        PocketTeacher("0" * 64).make(tmp_path / "out")
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None)
    with pytest.raises(DanteError, match="pip install"):
        PocketTeacher("0" * 64).make(tmp_path / "out")


# --- transformers engine ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def requests(smoke: Path) -> list[Request]:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(smoke / "model")
    questions = ["Name a planet.", "What is 15 times 4?", "I cannot sleep.", "A much longer question, " * 5]
    return [
        Request(
            loaded.apply_chat_template([{"role": "user", "content": q}], add_generation_prompt=True, return_dict=False),
            seed,
        )
        for seed, q in enumerate(questions)
    ]


def generate(smoke: Path, requests: list[Request], decoding: Decoding, batch_size: int) -> list:
    engine = TransformersEngine("float32", batch_size, "cpu")
    with engine.open(str(smoke / "model"), None, {}, smoke / "log") as opened:
        answers = dict(opened.generate(requests, decoding))
    return [answers[i] for i in range(len(requests))]


def test_batching_and_padding_change_nothing(smoke: Path, requests: list[Request]) -> None:
    one, four = generate(smoke, requests, GREEDY, 1), generate(smoke, requests, GREEDY, 4)
    assert [g.text for g in one] == [g.text for g in four]
    for a, b in zip(one, four, strict=True):
        assert a.output_entropy == pytest.approx(b.output_entropy, abs=1e-4)
        assert a.token_logprobs == pytest.approx(b.token_logprobs, abs=1e-3)


def test_greedy_agrees_with_transformers_own_generate(smoke: Path, requests: list[Request]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    decoding = Decoding(0.0, 1.0, 0, 24, 1, 512, None)  # K = V: both bounds are the entropy
    answers = generate(smoke, requests, decoding, 2)
    model = AutoModelForCausalLM.from_pretrained(smoke / "model").eval()
    loaded = AutoTokenizer.from_pretrained(smoke / "model")
    compared = 0
    for request, answer in zip(requests, answers, strict=True):
        ids = torch.tensor([request.prompt_ids])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        reply = out[0, ids.shape[1] :]
        kept = reply[reply != loaded.eos_token_id]
        assert loaded.decode(kept) == answer.text
        if not len(kept):
            continue
        compared += 1
        with torch.no_grad():
            logits = model(out).logits[0, ids.shape[1] - 1 : -1][: len(kept)].double()
        logp = logits.log_softmax(-1)
        assert answer.token_logprobs == pytest.approx(logp.gather(1, kept[:, None])[:, 0].tolist(), abs=1e-3)
        entropy = -(logp.exp() * logp).sum(-1).mean().item()
        assert answer.output_entropy == pytest.approx(entropy, abs=1e-4)
        assert answer.output_entropy_upper == pytest.approx(entropy, abs=1e-4)
    assert compared >= 2


def test_sampling_is_seeded_per_request(smoke: Path, requests: list[Request]) -> None:
    sampling = Decoding(1.0, 0.95, 50, 16, 1, 20, None)
    first, again = generate(smoke, requests, sampling, 4), generate(smoke, requests[::-1], sampling, 2)
    assert [g.text for g in first] == [g.text for g in again[::-1]]
    reseeded = [Request(r.prompt_ids, r.seed + 100) for r in requests]
    assert [g.text for g in generate(smoke, reseeded, sampling, 4)] != [g.text for g in first]


def test_unknown_dtype_is_refused() -> None:
    with pytest.raises(DanteError, match="bfloat16"):
        TransformersEngine("int3", 1, None)


@pytest.mark.slow
def test_pocket_teacher_really_converts(tmp_path: Path) -> None:
    conf = OmegaConf.load(Path(__file__).resolve().parents[1] / "conf" / "teacher" / "smollm2_135m.yaml")

    teacher = PocketTeacher(conf.make.sha256).make(tmp_path)
    assert teacher.licence == "Apache-2.0"
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert loaded.eos_token_id == loaded.pad_token_id == 2
    shutil.rmtree(tmp_path / "model")
