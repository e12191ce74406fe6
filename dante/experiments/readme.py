"""An experiment's README.md as sections, the lines that the index repeats, and the files that it names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTIONS = ("Question", "Hypothesis", "Command", "Config", "Results", "Verdict")
# Their first paragraph is one bold sentence, which the index repeats: it stands once and cannot drift.
OPENING = ("Question", "Verdict")
TODO = "TODO"

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"```.*?\n(.*?)```|`([^`\n]+)`", re.DOTALL)
_LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s#]+)[^)]*\)")
_BOLD = re.compile(r"\*\*((?:(?!\*\*).)+)\*\*", re.DOTALL)
_FILE = re.compile(r"[\w./-]+\.(?:py|sh|json|ya?ml|md|png)\b(?![\w.*])")
_CHOICE = re.compile(r"\+(experiment|sweep)=([\w,-]+)")


@dataclass(frozen=True)
class Readme:
    """A README by section.

    Attributes:
        title: the first heading.
        sections: second-level heading → text below it, in order; without fences' `#` lines taken for headings.
        doubled: headings that stand more than once.
    """

    text: str
    title: str
    sections: dict[str, str]
    doubled: list[str] = field(default_factory=list)

    def opening(self, section: str) -> str | None:
        """The section's first paragraph without its asterisks, in one line; None unless all of it is bold."""
        first = self.sections.get(section, "").strip().split("\n\n")[0]
        match = _BOLD.fullmatch(first)
        return " ".join(match.group(1).split()) if match else None

    def figures(self) -> list[str]:
        """Targets of the images that it shows."""
        return [target for mark, target in _LINK.findall(_FENCE.sub("", self.text)) if mark]

    def named_files(self) -> list[str]:
        """Paths that it links to or names in code; web addresses, patterns and `runs/` excepted."""
        links = [target for _, target in _LINK.findall(_FENCE.sub("", self.text)) if "://" not in target]
        code = [name for part in self._code() for name in _FILE.findall(part) if not name.startswith(("/", "runs/"))]
        return list(dict.fromkeys(links + code))

    def named_choices(self) -> list[str]:
        """Files in conf/ that its commands choose by `+experiment=` or `+sweep=`."""
        choices = [match for part in self._code() for match in _CHOICE.findall(part)]
        names = [f"conf/{group}/{name}.yaml" for group, value in choices for name in value.split(",") if name]
        return list(dict.fromkeys(names))

    def _code(self) -> Iterator[str]:
        for fenced, inline in _CODE.findall(self.text):
            yield fenced or inline


def read_readme(path: Path) -> Readme:
    """A README.md from its file."""
    return parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> Readme:
    """A README.md from its text."""
    title, doubled = "", []
    sections: dict[str, str] = {}
    current: str | None = None
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if not fenced and line.startswith("# ") and not title:
            title = line[2:].strip()
        elif not fenced and line.startswith("## "):
            current = line[3:].strip()
            doubled += [current] if current in sections else []
            sections.setdefault(current, "")
        elif current is not None:
            sections[current] += line + "\n"
    return Readme(text, title, sections, doubled)
