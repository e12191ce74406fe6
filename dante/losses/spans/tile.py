"""The spans of one tile: sums over their tokens, and what a span has at each of its tokens.

A span's loss stands in equal parts at its tokens, so that sums over tokens are sums over spans, and its coefficient is
the mean of theirs.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from dante.losses.tokens import TokenSpans
from dante.losses.vocabulary.tile import Tile


class SpanTile:
    """No tile cuts a span.

    Args:
        tile: of a loss that declares spans among its needs.
        spans: of the micro-batch.

    Attributes:
        chosen: numbers of the tile's spans among the micro-batch's.
        sizes: tokens of each, in float64.
    """

    def __init__(self, tile: Tile, spans: TokenSpans) -> None:
        self._tile = tile
        self.chosen = spans.within(tile.rows)
        own_T = spans.span[tile.rows]
        self._inside_T = own_T >= 0
        self._place_T = (own_T - self.chosen.start).clamp_min(0)
        self.sizes = self.summed(torch.ones_like(tile.label_log_probability))

    def __len__(self) -> int:
        return self.chosen.stop - self.chosen.start

    def summed(self, values: Float[Tensor, " tile"]) -> Float64[Tensor, " spans"]:
        """Over each span, in float64; tokens in no span count for none."""
        kept_T = values.double().masked_fill(~self._inside_T, 0.0)
        totals_S = kept_T.new_zeros(len(self))
        return totals_S.index_add_(0, self._place_T, kept_T) if len(self) else totals_S

    def coefficients(self, coefficients: Float[Tensor, " tile"]) -> Float64[Tensor, " spans"]:
        """Of each span."""
        return self.summed(coefficients) / self.sizes

    def at_tokens(self, values: Float[Tensor, " spans"]) -> Float[Tensor, " tile"]:
        """A value per span at each of its tokens; 0 at those in none."""
        if not len(self):
            return self._tile.zero()
        return values[self._place_T].masked_fill(~self._inside_T, 0.0).to(self._tile.log_z)

    def shares(self, values: Float[Tensor, " spans"]) -> Float[Tensor, " tile"]:
        """A span's value in equal parts at its tokens."""
        return self.at_tokens(values / self.sizes)
