"""Prompts for a teacher that writes programs: functions, sums and explanations, our own and deterministic.

Functions are composed of what they are given, which part of it they look at and what they do with that part, so that
thousands of different ones can be asked for; a part was written by hand. Nothing here is taken from a benchmark, and a
cache made of them is filtered against HumanEval, MBPP and GSM8K all the same (`launch/coder_cache.sh`), because such
small tasks are everybody's.
"""

from dante.cache.prompts.coder.build import build_prompts

__all__ = ["build_prompts"]
