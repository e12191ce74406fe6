"""Runs beside each other: which differ, by how much, how sure that is, and what they cost.

`runs/`: `find` paths → runs, `read` a run's files, `measured` its numbers and their items, `arms` seeds of one
configuration; `tables` what may be ranked together; `judge` differences and corrections; `cost`, `recipe`, `verdict`
what is said of them; `page` everything that the templates and exports show; `command` puts it together.
"""
