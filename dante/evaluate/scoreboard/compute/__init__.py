"""Capability against training compute: hours of a run, points and what is left off, the figure."""
