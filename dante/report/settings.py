"""What a `report` step may be told."""

from dante.run.schema import Experiment, Report, Strict, Text


class Named(Strict):
    name: Text


class Settings(Strict):
    experiment: Experiment
    run: Named
    report: Report
