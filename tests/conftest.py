"""Shape and dtype annotations are executed: every function of the lab is checked by beartype while the tests run."""

import os

from jaxtyping import install_import_hook

# Models of the tests are tiny: a second thread only waits, and waits long when the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("WANDB_MODE", "offline")

install_import_hook("dante", "beartype.beartype")
