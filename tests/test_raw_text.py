"""Raw text: rendered without a chat, cut out of what every Python has, and read by a fit in place of answers."""

import sys
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from dante.cache import read_records
from dante.cache.prompts.pocket import Prompt
from dante.cache.prompts.python_texts import PythonTexts
from dante.cache.raw import RawTexts, cut
from dante.cache.records.manifest import load_manifest
from dante.cache.settings import Settings
from dante.data.table import table_key
from dante.errors import DanteError
from dante.run.step import Step
from dante.text.chat import ChatRenderer
from dante.text.raw import RawRenderer, plain
from tests.test_data import renderer as chatml

renderer = chatml  # a fixture


class Given:
    """A source of texts as a test needs it."""

    licence = "ours"

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def load(self) -> list[Prompt]:
        return [Prompt(text, "prose", "en", "given") for text in self.texts]


def built(source: RawTexts, out: Path) -> list[str]:
    step = Step("texts", "cache", Settings.model_construct(), {}, {}, out, "f", 0)
    source.build(step)
    return [f"{record.prompt}\n\n{record.teacher_text}" for record in read_records(out, "train")]


@pytest.fixture
def tokenizer(renderer: ChatRenderer) -> PreTrainedTokenizerBase:
    return renderer.tokenizer


def test_every_token_of_a_raw_text_is_a_target_and_none_is_the_template_s(tokenizer: PreTrainedTokenizerBase) -> None:
    raw, chat = RawRenderer(tokenizer), ChatRenderer(tokenizer)
    found = raw.render("Why?", "Because.")
    assert found == plain(tokenizer, "Why?\n\nBecause.")
    assert found.supervised == [False] + [True] * (len(found.input_ids) - 1)
    assert tokenizer.decode(found.input_ids[1:]) == "Why?\n\nBecause."
    assert found.answer_bytes == len(b"Why?\n\nBecause.")
    assert chat.end_of_turn_id not in found.input_ids[1:]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert tokenizer.decode(raw.render(turns, "d").input_ids[1:]) == "a\n\nb\n\nc\n\nd"
    assert raw.render_many([("Why?", "Because."), ("a", "b")]) == [found, raw.render("a", "b")]


def test_a_table_of_chats_is_not_taken_for_one_of_raw_text(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    built(RawTexts([Given("a\n\nb")], 10, None, 0, 0), tmp_path)
    keys = {table_key(tmp_path, kind(tokenizer), "error") for kind in (ChatRenderer, RawRenderer)}
    assert len(keys) == 2


def test_pieces_are_cut_at_blank_lines_and_lose_nothing_between() -> None:
    text = "one\n\ntwo two\n\nthree\n\nfour\n\nfive"
    assert cut(text, 12) == ["one\n\ntwo two", "three\n\nfour"]  # five finds no neighbour
    assert cut(text, 11) == ["three\n\nfour"]  # neither do one and two two
    assert cut("a\n\nb\n\nmuch too long\n\nc\n\nd", 6) == ["a\n\nb", "c\n\nd"]
    assert cut(text, 1000) == [text]
    assert cut("alone", 10) == []
    assert cut("a\n\n\n\nb\n\n  \n\nc", 100) == ["a\n\nb\n\nc"]


def test_sources_are_mixed_in_equal_parts_and_no_piece_comes_twice(tmp_path: Path) -> None:
    prose, code = Given("p1\n\np2", "p3\n\np4", "p1\n\np2"), Given("c1\n\nc2", "c3\n\nc4")
    texts = built(RawTexts([prose, code], 6, None, 0, 0), tmp_path / "all")
    assert texts == ["p1\n\np2", "c1\n\nc2", "p3\n\np4", "c3\n\nc4"]
    assert built(RawTexts([prose, code], 6, 3, 0, 0), tmp_path / "some") == texts[:3]
    manifest = load_manifest(tmp_path / "all")
    assert manifest["raw"] is True
    assert manifest["teacher"] is None
    with pytest.raises(DanteError, match="no text has two paragraphs"):
        built(RawTexts([Given("alone")], 5, None, 0, 0), tmp_path / "none")


def test_python_s_own_texts_are_there_and_known_by_their_content() -> None:
    prose, code = PythonTexts("prose"), PythonTexts("code")
    topics = {prompt.prompt for prompt in prose.load()}
    assert any("The standard type hierarchy" in str(text) for text in topics)
    modules = {str(prompt.prompt) for prompt in code.load()}
    assert any("class Thread" in text for text in modules)
    assert prose.identity()["sha256"] != code.identity()["sha256"]
    assert prose.identity()["python"] == ".".join(map(str, sys.version_info[:3]))
    with pytest.raises(DanteError, match="unknown kind 'verse'.*prose, code"):
        PythonTexts("verse")
