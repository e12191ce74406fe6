"""What a `report` step may be told."""

from dante.run.config.schema import Experiment, Report, Strict, Text


class Named(Strict):
    name: Text


class Settings(Strict):
    experiment: Experiment
    run: Named
    report: Report
