"""`python -m dante.cache COMMAND …`: the tools of a teacher cache.

`python -m dante.cache [DIRECTORY]` alone verifies a cache (the pocket cache by default) and prints what it looks like.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from dante.cache.records.index import IndexedCache
from dante.cache.records.manifest import verify
from dante.cache.records.statistics import summary_lines
from dante.cache.shipped import POCKET
from dante.errors import DanteError

# A command's module is imported only when it is named: some load a tokenizer library, others draw figures.
COMMANDS = {
    "verify": ("dante.cache.tools.verify", "check every byte and every line, name all problems"),
    "stats": ("dante.cache.tools.stats", "distributions of entropy, w(H), length, domain, finish reason"),
    "show": ("dante.cache.tools.show", "records with every token coloured by its surprisal"),
    "merge": ("dante.cache.tools.merge", "several caches into one, if they have one provenance"),
    "import": ("dante.cache.tools.import_", "anyone's JSONL into a verified cache"),
    "audit": ("dante.data.audit_command", "a student and a cache before GPU time is spent"),
    "sparse": ("dante.cache.sparse.command", "sparse teacher logits beside the shards"),
}
# Earlier names, which still work.
ALIASES = {"logits": "sparse"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 1 when it finds the cache or its own arguments wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = ALIASES.get(words[0], words[0]) if words else None
    name = name if name in COMMANDS else None
    parser = argparse.ArgumentParser(
        prog="python -m dante.cache",
        description=__doc__,
        epilog="commands:\n" + "\n".join(f"  {name:<8} {text}" for name, (_, text) in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    try:
        if name is not None:
            module = _module(name)
            module.add_parser(parser.add_subparsers(dest="command", required=True))
            given, rest = parser.parse_known_args([name, *words[1:]])
            if hasattr(given, "overrides"):  # this command takes KEY=VALUE behind its options, and checks them itself
                given.overrides += rest
            elif rest:
                parser.error(f"unrecognized arguments: {' '.join(rest)}")
            return int(module.run(given))
        parser.add_argument("directory", nargs="?", type=Path, default=POCKET, help="default: the pocket cache")
        return _overview(parser.parse_args(words).directory)
    except DanteError as error:
        print(error, file=sys.stderr)
        return 1


def _module(name: str) -> ModuleType:
    try:
        return import_module(COMMANDS[name][0])
    except ModuleNotFoundError as error:
        own_module = str(error.name).startswith("dante")
        fix = "this version does not have it" if own_module else f"pip install {error.name}"
        raise DanteError(f"the command {name!r} needs the module {error.name}", fix=fix) from error


def _overview(directory: Path) -> int:
    manifest = verify(directory)
    print(f"teacher          {(manifest.get('teacher') or {}).get('name', 'unknown')}")
    print("\n".join(summary_lines(IndexedCache(directory, keep=False).columns)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
