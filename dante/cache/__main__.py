"""`python -m dante.cache [DIRECTORY]` verifies a cache (the pocket cache by default) and prints what it looks like."""

import argparse
import sys
from pathlib import Path

from dante.cache.manifest import verify
from dante.cache.reader import read_records
from dante.cache.shipped import POCKET
from dante.cache.statistics import summary_lines
from dante.errors import DanteError


def main() -> int:
    """Prints the statistics; 1 when the cache is damaged."""
    parser = argparse.ArgumentParser(prog="python -m dante.cache", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=POCKET)
    directory: Path = parser.parse_args().directory
    try:
        manifest = verify(directory)
        records = read_records(directory)
    except DanteError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"teacher          {(manifest.get('teacher') or {}).get('name', 'unknown')}")
    print("\n".join(summary_lines(records)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
