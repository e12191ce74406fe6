"""The pocket cache's prompts: our own, deterministic, made of task templates and topics.

A family is one kind of task; its templates are different wordings of it, and every topic of the family meets only a
few of them (`rounds`), so that no wording is asked more than a dozen times and no two prompts differ by a swapped word
more than they must. Nothing here is taken from a benchmark or from another data set.
"""

from dante.cache.prompts.pocket.build import Prompt, build_prompts

__all__ = ["Prompt", "build_prompts"]
