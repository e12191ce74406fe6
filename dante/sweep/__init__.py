"""Several runs from one command: points, equal tuning, search; every point in a process of its own.

    python train.py -m +experiment=dante_mosaic,sft seed=1,2,3      the product of what is listed
    python train.py +sweep=dante_ablation                           a named one: conf/sweep/
    python train.py -m hydra/sweeper=optuna +experiment=sft 'fit.lr=tag(log,interval(1e-4,4e-3))'

`sweeper.py` is Hydra's sweeper, Hydra's launchers (one after the other, joblib, submitit) start the points, and
`process.py` runs one as an ordinary `python train.py`: points share finished steps through the store, a finished point
is not started again, and one that fails, even one that is killed for memory, is listed at the end.
"""
