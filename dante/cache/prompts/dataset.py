"""Prompts out of a dataset of the Hugging Face hub, or out of one saved to a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dante.cache.prompts.pocket import Prompt
from dante.cache.prompts.rows import check_column, check_count, check_licence, row_of, to_prompts
from dante.cache.records.conversation import messages_in
from dante.cache.records.fields import FieldError
from dante.errors import DanteError


class DatasetPrompts:
    """One column of a dataset. Its other columns are not read: `language` or `prefix` often mean something else there.

    Rows whose column is null or blank are passed over. With a `count`, a hub dataset is streamed and only its beginning
    is fetched; offline, it is read from the local copy of an earlier download.

    Args:
        id: hub id, or a folder (saved with `save_to_disk`, or of data files).
        config: configuration of the dataset, or null.
        split: e.g. `train`.
        field: column of the prompts: text, or chat messages.
        revision: commit, tag or branch; null: the newest.
        licence: under which its prompts may be used.
        count: the first so many different prompts; null: all.
        domain: slice that its prompts belong to.
        language: of its prompts, and so of the answers.
        characters: longer prompts (pages of text) are cut there, at white space; null keeps them whole.
        skip: different prompts that are passed over before the first one is taken: what another cache has.
    """

    def __init__(
        self,
        id: str,
        config: str | None,
        split: str,
        field: str,
        revision: str | None,
        licence: str,
        count: int | None,
        domain: str,
        language: str,
        characters: int | None,
        skip: int = 0,
    ) -> None:
        self.id, self.config, self.split, self.field = id, config, split, field
        self.revision, self.licence, self.count = revision, check_licence(licence), check_count(count)
        self.domain, self.language, self.characters, self.skip = domain, language, characters, skip
        if skip < 0:
            raise DanteError(f"skip={skip}", where="prompts.skip", allowed="0 or more")
        if characters is not None and characters < 1:
            raise DanteError(f"characters={characters}", where="prompts.characters", allowed="at least 1, or null")

    def load(self) -> list[Prompt]:
        found = to_prompts(self._rows(), None if self.count is None else self.skip + self.count, self.id)
        if len(found) <= self.skip:
            raise DanteError(
                f"{self.id} has {len(found):,} different prompts, and {self.skip:,} are to be passed over",
                where="prompts.skip",
                fix=f"less than {len(found)}",
            )
        return found[self.skip :]

    def _rows(self) -> Iterator[tuple[str, Any]]:
        for number, row in enumerate(self._read(), start=1):
            check_column(self.field, row, self.id)
            prompt = row[self.field]
            if prompt is None or (isinstance(prompt, str) and not prompt.strip()):
                continue
            place = f"{self.id}, row {number}"
            slices = {"domain": self.domain, "language": self.language}
            yield place, row_of(slices, self.field, self._cut(prompt, place) if isinstance(prompt, str) else prompt)

    def _cut(self, text: str, place: str) -> Any:
        """Text of at most so many characters; messages that a text holds are never cut."""
        try:
            content = messages_in(text, self.field)
        except FieldError as error:
            raise error.at(place) from None
        if not isinstance(content, str):
            return content
        text = text.strip()
        if self.characters is None or len(text) <= self.characters:
            return text
        cut = text[: self.characters]
        return cut.rstrip() if text[self.characters].isspace() else cut.rsplit(None, 1)[0]

    def _read(self) -> Iterator[dict[str, Any]]:
        # Loading, and every row of a stream, can fail in the ways of a network, a gate, a file format or a cache.
        try:
            yield from self._table()
        except DanteError:
            raise
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise self._refuse(lines[0]) from None

    def _table(self) -> Any:
        import datasets

        folder = Path(self.id).expanduser()
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
            if isinstance(loaded, datasets.Dataset):
                return loaded
            if self.split not in loaded:
                raise DanteError(
                    f"no split {self.split!r}",
                    where=str(folder),
                    allowed=", ".join(map(str, loaded)),
                    fix="set prompts.split",
                )
            return loaded[self.split]
        # Streaming asks the hub even for what lies in the local cache.
        streaming = self.count is not None and not datasets.config.HF_HUB_OFFLINE
        name = str(folder) if folder.is_dir() else self.id
        return datasets.load_dataset(name, self.config, split=self.split, revision=self.revision, streaming=streaming)

    def _refuse(self, reason: str) -> DanteError:
        arguments = [repr(value) for value in (self.id, self.config) if value is not None]
        part = f"{self.split}[:{self.count}]" if self.count else self.split
        pinned = [f"revision={self.revision!r}"] if self.revision else []
        call = f"datasets.load_dataset({', '.join([*arguments, f'split={part!r}', *pinned])}).save_to_disk('FOLDER')"
        return DanteError(
            f"the dataset {self.id!r} cannot be read: {reason}",
            where="prompts",
            fix=f"where there is a network (and access, if it is gated) run {call}, then set "
            "prompts.id=FOLDER; or correct id, config and split",
        )
