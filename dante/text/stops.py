"""Where a model's text ends: the token its template ends turns with, and the tokens its generation stops at.

A student whose generation waits for another token than the one it was taught never stops; a padding token that is the
end-of-turn token vanishes from every mask that is made from ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoConfig, GenerationConfig

from dante.errors import DanteError
from dante.text.chat import ChatRenderer
from dante.text.system_prompt import inserted
from dante.text.tokenizer import load_tokenizer


@dataclass(frozen=True)
class Model:
    """What a model says about where text ends.

    Attributes:
        name: folder or hub id.
        tokenizer: its fast tokenizer.
        renderer: of its chat template, or None where that cannot be masked exactly.
        stops: ids at which its generation stops (generation config, else model config), or None where neither says.
        variables: of the chat template.
    """

    name: str
    tokenizer: Any
    renderer: ChatRenderer | None
    stops: list[int] | None
    variables: Mapping[str, Any] = field(default_factory=dict)

    def token(self, identity: int | None) -> str:
        """`'<|im_end|>' (2)`, or `none`."""
        return "none" if identity is None else f"{self.tokenizer.convert_ids_to_tokens(identity)!r} ({identity})"

    def facts(self) -> list[tuple[str, str]]:
        """Names and values to print."""
        stops = "not said" if self.stops is None else ", ".join(map(self.token, self.stops)) or "none"
        end = "the template cannot be masked" if self.renderer is None else self.token(self.renderer.end_of_turn_id)
        return [
            ("vocabulary", f"{len(self.tokenizer):,}"),
            ("end of turn in the template", end),
            ("system prompt by the template", self._system_prompt()),
            ("generation stops at", stops),
            ("tokenizer's EOS", self.token(self.tokenizer.eos_token_id)),
            ("tokenizer's padding", self.token(self.tokenizer.pad_token_id)),
        ]

    def _system_prompt(self) -> str:
        text = inserted(self.tokenizer, self.variables) if self.tokenizer.chat_template else None
        return "none" if text is None else repr(text)


def load_model(source: str, renders: bool, template: Mapping[str, Any]) -> Model:
    """Tokenizer, template and stop tokens of a folder, a finished step's folder, or a hub id; no weights.

    Args:
        source: what to load.
        renders: whether it must have a template that can be masked exactly (a student must).
        template: variables of the chat template.
    """
    inside = Path(source) / "model"
    folder = str(inside) if (inside / "config.json").is_file() else source
    tokenizer = load_tokenizer(folder)
    try:
        renderer = ChatRenderer(tokenizer, **template)
    except DanteError:
        if renders:
            raise
        renderer = None
    return Model(source, tokenizer, renderer, _stops(folder), template)


def findings(model: Model, role: str) -> tuple[list[str], list[str]]:
    """Problems and notes about where a model's text ends."""
    problems: list[str] = []
    notes: list[str] = []
    end = None if model.renderer is None else model.renderer.end_of_turn_id
    if end is None:
        notes.append(f"the {role}'s chat template cannot be masked exactly; its end of turn is unknown")
    elif model.stops is None:
        notes.append(f"the {role} has no generation config: nothing says that it stops at {model.token(end)}")
    elif end not in model.stops:
        problems.append(
            f"the {role} stops at {', '.join(map(model.token, model.stops))}, but its template ends turns with "
            f"{model.token(end)}: it would write on after its answer"
        )
    if model.tokenizer.pad_token_id is None:
        notes.append(f"the {role}'s tokenizer has no padding token")
    elif role == "student" and model.tokenizer.pad_token_id == end:
        notes.append(
            f"the student pads with its end-of-turn token {model.token(end)}: whoever masks by padding id never "
            "teaches it to stop (this lab masks by position)"
        )
    return problems, notes


def _stops(folder: str) -> list[int] | None:
    for read in (GenerationConfig.from_pretrained, AutoConfig.from_pretrained):
        try:
            stops = read(folder).eos_token_id
        except (OSError, ValueError):
            continue
        if stops is not None:
            return list(stops) if isinstance(stops, list | tuple) else [stops]
    return None
