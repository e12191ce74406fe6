"""Programs that nobody has read are run here: no network, nothing outside their scratch directory, within limits."""

from dante.sandbox.limits import Limits

__all__ = ["Limits"]
