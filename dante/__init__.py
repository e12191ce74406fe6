"""dante: a laboratory for distilling large language models into small dense ones."""

__version__ = "0.1.0"
