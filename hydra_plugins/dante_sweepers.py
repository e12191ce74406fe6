"""Hydra takes sweepers from a package of this name alone; what they do is in `dante/sweep`."""

from dante.sweep import sweeper


class GridSweep(sweeper.GridSweep):
    """The product of factors, listed values and seeds, with or without equal tuning."""
