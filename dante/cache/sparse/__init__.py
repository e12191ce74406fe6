"""Sparse teacher logits in files beside a cache."""

from dante.cache.sparse.kinds import KINDS, RandomSampling, Sparse, TopKTail
from dante.cache.sparse.sidecar import SparseLogits

__all__ = ["KINDS", "RandomSampling", "Sparse", "SparseLogits", "TopKTail"]
