"""The commands of `python -m dante.cache`, one file each: `add_parser(subparsers)` and `run(args) -> exit code`."""
