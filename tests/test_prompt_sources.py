"""Sources of prompts: files, datasets, puzzles; what they hold becomes prompts, what they lack is told."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from dante.cache.filters import WrongLanguage
from dante.cache.prompts.pocket import Prompt
from dante.cache.prompts.sources import DatasetPrompts, JsonlPrompts, ParquetPrompts, Prompts, ReasoningGymPrompts
from dante.cache.records.record import Record
from dante.errors import DanteError
from dante.run.parts import build
from tests.test_config import CONF, composed

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


def jsonl(folder: Path, *rows: object) -> JsonlPrompts:
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JsonlPrompts(str(folder / "prompts.jsonl"), "CC0")


def parquet(folder: Path, columns: dict[str, list[Any]], field: str = "prompt", count: int | None = None) -> Prompts:
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "prompts.parquet")
    return ParquetPrompts(str(folder / "prompts.parquet"), field, "CC0", count)


def dataset(folder: Path | str, **changed: Any) -> DatasetPrompts:
    settings: dict[str, Any] = {
        "id": str(folder),
        "config": None,
        "split": "train",
        "field": "text",
        "revision": None,
        "licence": "CC0",
        "count": None,
        "domain": "general",
        "language": "it",
        "characters": None,
    }
    return DatasetPrompts(**(settings | changed))


def test_lines_with_all_fields_with_few_and_with_messages(tmp_path: Path) -> None:
    full = {"prompt": "Ciao?", "domain": "d", "language": "it", "family": "f", "prefix": "Certo: "}
    source = jsonl(tmp_path, full, {"prompt": "Hi?", "prefix": None}, {"prompt": CHAT})
    assert source.load() == [
        Prompt("Ciao?", "d", "it", "f", "Certo: "),
        Prompt("Hi?", "general", "en", "given", ""),
        Prompt(CHAT, "general", "en", "given", ""),
    ]


def test_parquet_has_the_same_fields(tmp_path: Path) -> None:
    columns = {"question": ["A?", "B?", "C?"], "language": ["it", None, "en"], "prefix": ["So ", None, ""]}
    assert parquet(tmp_path, columns, "question").load() == [
        Prompt("A?", "general", "it", "given", "So "),
        Prompt("B?", "general", "en", "given", ""),
        Prompt("C?", "general", "en", "given", ""),
    ]
    chats = parquet(tmp_path, {"messages": [CHAT]}, "messages").load()
    assert chats == [Prompt(CHAT, "general", "en", "given", "")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": " "}, "is empty"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "ends with the role"),
        ({"text": "no prompt"}, "field 'prompt'"),
        (5, "is a int"),
        ({"prompt": None}, "is None"),
        ({"prompt": "Cut \ud83d"}, "surrogate"),
        ({"messages": [{"role": "user", "content": "Cut \ud83d"}]}, "surrogate"),
        ({"prompt": json.dumps([{"role": "user", "content": "Cut \ud83d"}])}, "surrogate"),
        ({"prompt": "[{'role': 'user', 'content': 'x'}"}, "cannot be read as"),
        ({"prompt": [{"role": "tool", "content": "x"}]}, "tool"),
        ({"messages": []}, "messages"),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "conversations"),
        ({"prompt": "a", "domain": ["x"]}, "field 'domain'"),
        ({"prompt": "a", "prefix": 5}, "field 'prefix': is 5"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(DanteError, match=message) as caught:
        jsonl(tmp_path, {"prompt": "fine"}, row).load()
    assert "line 2" in caught.value.where


SHAREGPT = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Why?"}]
ANSWERED = [*CHAT, {"role": "assistant", "content": "So."}]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("prompt", CHAT),
        ("prompt", json.dumps(CHAT)),
        ("prompt", str(CHAT)),
        ("messages", CHAT),
        ("messages", ANSWERED),
        ("messages", json.dumps(ANSWERED)),
        ("conversations", SHAREGPT),
        ("conversations", json.dumps([*SHAREGPT, {"from": "gpt", "value": "So."}])),
    ],
)
def test_conversations_in_every_form_become_the_messages_that_are_asked(
    tmp_path: Path, column: str, value: Any
) -> None:
    expected = [Prompt(CHAT, "general", "en", "given", "")]
    assert jsonl(tmp_path, {column: value}).load() == expected
    assert parquet(tmp_path, {column: [value]}, column).load() == expected
    datasets.Dataset.from_dict({column: [value]}).save_to_disk(tmp_path / "saved")
    found = dataset(tmp_path / "saved", field=column, characters=10).load()
    assert [one.prompt for one in found] == [CHAT]


def test_files_that_hold_no_prompts_are_told(tmp_path: Path) -> None:
    with pytest.raises(DanteError, match="is a folder"):
        JsonlPrompts(str(tmp_path), "CC0").load()
    with pytest.raises(DanteError, match="there are no prompts"):
        jsonl(tmp_path).load()
    with pytest.raises(DanteError, match="prompts.field=messages"):
        parquet(tmp_path, {"messages": [CHAT]}).load()


def test_a_prompt_is_asked_once_in_whatever_form(tmp_path: Path) -> None:
    user = {"role": "user", "content": "Why?"}
    rows = [{"prompt": form} for form in ("Why?", [user], "Why? ", json.dumps([user]))]
    assert [p.prompt for p in jsonl(tmp_path, *rows, {"prompt": "Why not?"}).load()] == ["Why?", "Why not?"]


def test_a_prompt_is_asked_once_and_count_counts_different_ones(tmp_path: Path) -> None:
    rows = [{"prompt": "A"}, {"prompt": "A"}, {"prompt": "A", "prefix": "So"}, {"prompt": "B"}]
    # one user message is the same conversation as its text
    rows.append({"prompt": [{"role": "user", "content": "B"}]})
    assert [(p.prompt, p.prefix) for p in jsonl(tmp_path, *rows).load()] == [("A", ""), ("A", "So"), ("B", "")]
    assert [p.prompt for p in parquet(tmp_path, {"prompt": ["A", "A", "B", "C"]}, count=2).load()] == ["A", "B"]


def test_what_cannot_be_read_is_told_in_one_paragraph(tmp_path: Path) -> None:
    with pytest.raises(DanteError, match="there are no prompts"):
        jsonl(tmp_path).load()
    with pytest.raises(DanteError, match="no column 'q'") as caught:
        parquet(tmp_path, {"prompt": ["a"], "other": ["b"]}, "q").load()
    assert caught.value.allowed == "prompt, other"
    (tmp_path / "bad.parquet").write_bytes(b"not Parquet")
    with pytest.raises(DanteError, match="no readable Parquet"):
        ParquetPrompts(str(tmp_path / "bad.parquet"), "prompt", "CC0", None).load()
    with pytest.raises(DanteError, match="no prompt file"):
        ParquetPrompts(str(tmp_path / "gone.parquet"), "prompt", "CC0", None).load()
    with pytest.raises(DanteError, match="count=0"):
        parquet(tmp_path, {"prompt": ["a"]}, count=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda licence: JsonlPrompts("x", licence),
        lambda licence: ParquetPrompts("x", "prompt", licence, None),
        lambda licence: dataset("x", licence=licence),
        lambda licence: ReasoningGymPrompts(["chain_sum"], 1, 0, licence),
    ],
)
def test_a_source_without_a_licence_is_refused(make: Any) -> None:
    assert make("CC0").licence == "CC0"
    with pytest.raises(DanteError, match="no licence"):
        make(" ")


def rows(folder: Path, columns: dict[str, list[Any]], how: str) -> Path:
    """A local dataset, in one of the ways in which one can lie on a disk."""
    table, place = datasets.Dataset.from_dict(columns), folder / how
    if how == "saved":
        table.save_to_disk(str(place))
    elif how == "saved_splits":
        datasets.DatasetDict({"train": table}).save_to_disk(str(place))
    else:
        place.mkdir()
        table.to_parquet(str(place / "train.parquet"))
    return place


@pytest.mark.parametrize("count", [None, 2])
@pytest.mark.parametrize("how", ["saved", "saved_splits", "files"])
def test_datasets_of_every_kind(tmp_path: Path, how: str, count: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    place = rows(tmp_path, {"text": ["Uno?", " ", None, "Uno?", "Due?", "Tre?"]}, how)
    found = dataset(place, count=count).load()
    assert found == [Prompt(text, "general", "it", "given", "") for text in ("Uno?", "Due?", "Tre?")[:count]]


def test_other_columns_of_a_dataset_mean_something_else(tmp_path: Path) -> None:
    """Code sets have a programming language there, fill-in-the-middle sets a prefix of code."""
    columns = {"text": ["Spiega."], "language": ["Python"], "prefix": ["def f("], "domain": ["github.com"]}
    (prompt,) = dataset(rows(tmp_path, columns, "saved")).load()
    assert prompt == Prompt("Spiega.", "general", "it", "given", "")


def test_italian_answers_to_an_italian_dataset_are_kept() -> None:
    node = composed("+experiment=sft", "cache=generated", "prompts=culturax_it")["cache"]["source"]
    assert node["prompts"]["config"] == node["prompts"]["language"]
    text = "Il gatto è sul tavolo e non è il mio gatto, ma questa è una prova per il filtro."
    record = Record("a", "Continua.", text, 1.0, language=node["prompts"]["language"])
    assert WrongLanguage().split([record]) == ([record], [])


def test_long_pages_are_cut_at_white_space(tmp_path: Path) -> None:
    texts = ["uno due tre", "uno duetre", "  uno due  ", "x" * 20, "uno due"]
    found = dataset(rows(tmp_path, {"text": texts}, "saved"), characters=7).load()
    assert [p.prompt for p in found] == ["uno due", "uno", "x" * 7]


def test_a_dataset_that_is_not_there_says_what_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DanteError, match="cannot be read") as caught:
        dataset("nobody/nothing", config="it", count=3, revision="abc").load()
    call = "datasets.load_dataset('nobody/nothing', 'it', split='train[:3]', revision='abc').save_to_disk('FOLDER')"
    assert call in caught.value.fix


def test_a_dataset_with_other_columns_or_splits_names_them(tmp_path: Path) -> None:
    for how in ("saved", "files"):
        with pytest.raises(DanteError, match="no column 'content'") as caught:
            dataset(rows(tmp_path, {"text": ["a"], "id": ["b"]}, how), field="content", count=1).load()
        assert caught.value.allowed == "text, id"
    with pytest.raises(DanteError, match="no split 'test'") as caught:
        dataset(rows(tmp_path, {"text": ["a"]}, "saved_splits"), split="test").load()
    assert caught.value.allowed == "train"


def test_a_stream_that_breaks_off_is_told(tmp_path: Path) -> None:
    """The file is whole where it is opened and damaged where it is read."""
    place = rows(tmp_path, {"text": [f"{i} " * 500 for i in range(3000)]}, "files")
    file = place / "train.parquet"
    content = bytearray(file.read_bytes())
    content[4:200] = b"\0" * 196
    file.write_bytes(bytes(content))
    with pytest.raises(DanteError, match="cannot be read"):
        dataset(place, count=5).load()


def test_puzzles() -> None:
    pytest.importorskip("reasoning_gym")
    node = {"tasks": ["chain_sum", "basic_arithmetic"], "count": 5, "seed": 0, "licence": "Apache-2.0"}
    found = ReasoningGymPrompts(**node).load()
    assert [p.family for p in found] == ["chain_sum"] * 5 + ["basic_arithmetic"] * 5
    assert found == ReasoningGymPrompts(**node).load()
    assert found != ReasoningGymPrompts(**(node | {"seed": 1})).load()
    with pytest.raises(DanteError, match="no task 'nonsense'") as caught:
        ReasoningGymPrompts(**(node | {"tasks": ["nonsense"]})).load()
    assert "chain_sum" in caught.value.allowed
    easy = ReasoningGymPrompts(**(node | {"tasks": {"chain_sum": {"min_terms": 2, "max_terms": 2}}})).load()
    assert all(len(re.findall(r"[+-] ", str(prompt.prompt))) == 1 for prompt in easy)
    with pytest.raises(DanteError, match="'chain_sum' cannot be told that"):
        ReasoningGymPrompts(**(node | {"tasks": {"chain_sum": {"nonsense": 1}}})).load()


def test_puzzles_without_the_package_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(DanteError, match="puzzles"):
        ReasoningGymPrompts(["chain_sum"], 1, 0, "Apache-2.0").load()


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONF / "prompts").glob("*.yaml")))
def test_every_shipped_source_is_built_and_has_a_licence(name: str) -> None:
    given = ["prompts.path=x"] if "path: ???" in (CONF / "prompts" / f"{name}.yaml").read_text() else []
    cfg = composed("+experiment=sft", "cache=generated", f"prompts={name}", *given)
    source = build(cfg["cache"]["source"]["prompts"])
    assert isinstance(source, Prompts)
    assert source.licence


def test_groups_of_filters_are_added_behind_a_cache_s_own() -> None:
    cfg = composed(
        "+experiment=sft",
        "cache=generated",
        "+cache/filters@cache.source.filters=[thinking,duplicates,decontaminate]",
        "cache.source.filters.too_long.tokenizer=student",
        "+cache.source.filters.decontaminate.sets.gsm8k="
        "{_target_:dante.cache.filters.FileSet,path:gsm8k.jsonl,fields:[question]}",
    )
    node = cfg["cache"]["source"]["filters"]
    assert list(node) == [
        *("truncated", "language", "structure", "too_long", "repeated"),
        *("exact_duplicates", "near_duplicates", "decontaminate"),
    ]
    built = {name: build(one) for name, one in node.items()}
    assert list(built["decontaminate"]._sets) == ["retention", "human_eval", "gsm8k"]
