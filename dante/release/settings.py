"""What a `release` step may be told."""

from typing import Literal

from dante.run.config.schema import Experiment, Strict, Text


class Settings(Strict):
    dtype: Literal["bfloat16", "float16", "float32"]
    name: Text
    experiment: Experiment
    form: Literal["unpadded", "padded"] = "unpadded"  # of a dense student: `dante.students.dense_form`
