"""What a `calibration` step may be told; the composed config's node `calibration`, too."""

from dante.run.config.schema import Calibration as Settings

__all__ = ["Settings"]
