"""An experiment is a folder of one fixed form: question, hypothesis, command, config, results, verdict.

    experiments/<name>/
      README.md      the sections of `readme.SECTIONS`, in that order; free ones (Design, Limits) between or after them
      results.json   `schema.Results`: values per seed and differences with intervals
      config.yaml    `schema.Configuration`: what the arms share, and what each arm changes
      *.png          figures that the README shows

`python -m dante.experiments new | index | check` makes a folder, writes what is generated, and says what is wrong.
Nothing here runs a model: it reads files.
"""
