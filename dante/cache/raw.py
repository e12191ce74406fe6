"""Raw texts as a cache: what a student is trained on that no teacher has written.

A text is cut into pieces at blank lines; of a piece the first paragraph stands as the prompt and the rest as the
answer, with a blank line between them: `fit.rendering: raw` joins them to the text again. Entropies are 0: nobody has
measured them, and the manifest says that the texts are raw.
"""

from collections.abc import Iterator
from typing import Any

from dante.cache.prompts.pocket import Prompt
from dante.cache.prompts.sources import Prompts
from dante.cache.records.record import Record, stable_hash
from dante.cache.records.writer import CacheWriter
from dante.cache.split import Holdout, split_by_prompt
from dante.errors import DanteError
from dante.run.step import Step
from dante.text.raw import BREAK


class RawTexts:
    """A cache of raw texts.

    Args:
        prompts: where the texts come from: any source of prompts.
        characters: of a piece, at most.
        count: pieces that are kept, in the order of the sources; null: all.
        heldout: pieces to hold out.
        validation: likewise.
    """

    def __init__(
        self, prompts: list[Prompts], characters: int, count: int | None, heldout: Holdout, validation: Holdout
    ) -> None:
        self.prompts, self.characters, self.count = prompts, characters, count
        self.heldout, self.validation = heldout, validation

    def identity(self) -> Any:
        """What of the texts lies outside the run, where a source says it."""
        said = [source.identity() for source in self.prompts if hasattr(source, "identity")]
        return {"texts": said} if said else None

    def build(self, step: Step) -> dict[str, Any]:
        """Writes shards and manifest into `step.out`, and returns the manifest."""
        pieces = self._in_turn([list(self._pieces(source.load())) for source in self.prompts])
        if not pieces:
            raise DanteError(
                "no text has two paragraphs", where="texts.source.prompts", allowed="texts with blank lines in them"
            )
        records = split_by_prompt(pieces[: self.count], self.heldout, self.validation, step.seed)
        licences = {"prompts": "; ".join(source.licence for source in self.prompts)}
        return CacheWriter(step.out).add(records).seal(raw=True, licences=licences, teacher=None)

    def _pieces(self, texts: list[Prompt]) -> Iterator[Record]:
        for text in texts:
            content = text.prompt if isinstance(text.prompt, str) else BREAK.join(m["content"] for m in text.prompt)
            for piece in cut(content, self.characters):
                head, _, rest = piece.partition(BREAK)
                yield Record(
                    id=stable_hash("raw", piece),
                    prompt=head,
                    teacher_text=rest,
                    output_entropy=0.0,
                    domain=text.domain,
                    language=text.language,
                    family=text.family,
                )

    def _in_turn(self, sources: list[list[Record]]) -> list[Record]:
        """One of each source after the other, as long as all have some: equal shares of pieces; each text once."""
        mixed = [record for group in zip(*sources, strict=False) for record in group]
        return list({record.id: record for record in mixed}.values())


def cut(text: str, characters: int) -> list[str]:
    """Pieces of at most so many characters, of two paragraphs at least, cut at blank lines.

    A paragraph that is longer, or that finds no neighbour, is left out: no blank line says where to cut it.
    """
    pieces: list[list[str]] = [[]]
    for paragraph in (paragraph.strip("\n") for paragraph in text.split(BREAK)):
        if not paragraph.strip():
            continue
        if len(paragraph) > characters:
            pieces.append([])
        elif len(BREAK.join([*pieces[-1], paragraph])) > characters:
            pieces.append([paragraph])
        else:
            pieces[-1].append(paragraph)
    return [BREAK.join(piece) for piece in pieces if len(piece) >= 2]
