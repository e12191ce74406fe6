"""`python -m dante.cache.prompts.pocket --count N --seed S` prints the prompts as JSON lines."""

import argparse
import json
from dataclasses import asdict

from dante.cache.prompts.pocket.build import build_prompts

parser = argparse.ArgumentParser(prog="python -m dante.cache.prompts.pocket", description=__doc__)
parser.add_argument("--count", type=int, default=None, help="how many (all by default)")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()
for prompt in build_prompts(arguments.count, arguments.seed):
    print(json.dumps(asdict(prompt), ensure_ascii=False))
