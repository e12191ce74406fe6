"""Real benchmarks of many runs side by side, beside what cards publish, and ranked only where that is fair.

`read` a run's files; `protocol` what two numbers must share to be ranked; `references` published numbers with their
caveats; `ranking` and `table` the cells; `pairs` who beats whom; `compute` what it cost; `board` all of it together;
`page` and `terminal` how it is shown; `command` the command line. All of it only reads what evaluations wrote.
"""
