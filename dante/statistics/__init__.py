"""What a difference between runs is worth: pure functions on arrays; nothing here reads a file.

`crossed` the interval and p-value that judge, over seeds and items; `correction` many comparisons at once; `power` the
smallest difference that a design finds; `exact` two models that are right or wrong on the same items. The bootstrap
over seeds and items is `dante.statistics.bootstrap`. How often crossed and bootstrap err on real runs is measured in
experiments/statistics_calibration.
"""
