"""What a difference between runs is worth: pure functions on arrays; nothing here reads a file.

`crossed` the interval and p-value that judge, over seeds and items; `correction` many comparisons at once; `power` the
smallest difference that a design finds. The bootstrap over seeds and items is `dante.statistics.bootstrap`. How often
each of them errs on real runs is measured in experiments/statistics_calibration.
"""
