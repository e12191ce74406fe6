"""dante: a laboratory for distilling large language models into small dense ones."""

import os

__version__ = "0.1.0"

# oneDNN keeps a compiled kernel with its scratch memory for each of the last 1,024 matrix shapes. Packs have a new
# length at almost every step, so a CPU fit grew to over 6 GiB; with 64 kernels it is as fast and levels off below 5.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

# OpenMP's threads spin 300,000 times while they wait for each other. Beside other busy processes that takes the core
# from the thread that is waited for, and small layers take ten times as long; threads that sleep at once cost 18 % of a
# step on quiet cores. So they look for a moment and then sleep (benchmarks/waiting_threads.py). Read when torch is
# loaded, so it stands here, before anybody can have imported it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
