"""Filters of a cache: one file per kind, `_target_: dante.cache.filters.<Name>` in a config."""

from dante.cache.filters.base import Dropped, Filter, apply_all
from dante.cache.filters.decontaminate import Decontaminate
from dante.cache.filters.duplicates import ExactDuplicates, NearDuplicates
from dante.cache.filters.evaluation_sets import BenchmarkSet, FileSet, HumanEvalSet, RetentionSet
from dante.cache.filters.length import TooLong
from dante.cache.filters.plain import Empty, Truncated, WrongLanguage
from dante.cache.filters.repeated import Repeated
from dante.cache.filters.structure import Structure

__all__ = [
    "BenchmarkSet",
    "Decontaminate",
    "Dropped",
    "Empty",
    "ExactDuplicates",
    "FileSet",
    "Filter",
    "HumanEvalSet",
    "NearDuplicates",
    "Repeated",
    "RetentionSet",
    "Structure",
    "TooLong",
    "Truncated",
    "WrongLanguage",
    "apply_all",
]
