"""Names of tensors that carry what the model was wrapped in when it was saved.

`torch.compile` writes `_orig_mod.model.layers.0…`, DDP and DeepSpeed `module.…`, PEFT `base_model.model.…`, FSDP1 and
activation checkpointing a segment in the middle of a name, a training script the name of its own attribute
(`student.…`). Loaded as they are, such names match nothing and the model stays random.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

# What libraries put in front of, or between, the model's own names.
_SEGMENTS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "module")
_PEFT = "base_model.model."
# A script's own attributes: `network.student.` has two of them.
_DEEPEST = 4


@dataclass(frozen=True)
class Wrapping:
    """How wrapped names become the model's own.

    Attributes:
        key_mapping: regular expressions and what replaces them, in order, for `from_pretrained`.
        words: what is stripped, for people.
    """

    key_mapping: dict[str, str]
    words: str


def find_wrapping(missing: Collection[str], unexpected: Collection[str], *, all_missing: bool) -> Wrapping | None:
    """What the unexpected names carry in front of the missing ones, or None where that explains nothing.

    Segments that libraries write are recognised in any number of names. Any other prefix counts only where no tensor of
    the model was found (`all_missing`) and all its names carry the same one: a draft head's `mtp.norm.weight` is no
    substitute for a missing `norm.weight`.

    Args:
        missing: the model's names that a file lacks.
        unexpected: the file's names that the model lacks.
        all_missing: whether the file has none of the model's parameters.
    """
    segments = [segment for segment in _SEGMENTS if any(segment in name.split(".") for name in unexpected)]
    inner = rf"(^|\.)(?:(?:{'|'.join(segments)})\.)+"
    mapping = {inner: r"\1"} if segments else {}
    bare = [re.sub(inner, r"\1", name) for name in unexpected] if segments else list(unexpected)
    prefix = _PEFT if any(name.startswith(_PEFT) for name in bare) else _common_prefix(missing, bare, all_missing)
    if prefix:
        mapping[f"^{re.escape(prefix)}"] = ""
        bare = [name.removeprefix(prefix) for name in bare]
    explained = Counter(name for name in bare if name in missing)
    if not mapping or not explained or max(explained.values()) > 1:
        return None
    return Wrapping(mapping, " and ".join(f"`{part}`" for part in (*(f"{s}." for s in segments), prefix) if part))


def _common_prefix(missing: Collection[str], names: Collection[str], all_missing: bool) -> str:
    """The one prefix under which names are the missing ones; empty where there is none, or several do as well."""
    if not all_missing:
        return ""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for depth in range(1, min(_DEEPEST, len(parts) - 1) + 1):
            if ".".join(parts[depth:]) in missing:
                counts[".".join(parts[:depth]) + "."] += 1
    (first, most), second = (counts.most_common(2) + [("", 0), ("", 0)])[0], (counts.most_common(2) + [("", 0)] * 2)[1]
    return first if most > second[1] else ""
