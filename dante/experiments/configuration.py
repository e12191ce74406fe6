"""Many runs' configurations as one file: what they share, what an arm changes, what a seed changes beside itself."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from dante.experiments.schema import Configuration

# What names a run or a start of it, what only shows it, and `steps`, which repeats the other nodes by interpolation.
_LEFT_OUT = {"seed", "run", "steps", "only", "on_existing", "dry_run", "logger", "report"}
# What an experiment says of itself in words; its name stays.
_WORDS = {"experiment.title", "experiment.hypothesis", "experiment.source"}
_ABSENT = object()


def configuration(
    configs: Mapping[str, Mapping[int, Mapping[str, Any]]], origin: Literal["recorded", "composed"]
) -> Configuration:
    """Sorts every leaf of the runs' configurations into shared, the arm's, or the seed's.

    Args:
        configs: arm → seed → resolved configuration.
        origin: whether the runs recorded them, or they were composed later.
    """
    flat = {arm: {seed: _kept(cfg) for seed, cfg in seeds.items()} for arm, seeds in configs.items()}
    all_leaves = [leaf for seeds in flat.values() for leaf in seeds.values()]
    keys = list(dict.fromkeys(key for leaf in all_leaves for key in leaf))
    shared = {key: all_leaves[0].get(key) for key in keys if _equal([leaf.get(key, _ABSENT) for leaf in all_leaves])}
    arms: dict[str, dict[str, Any]] = {}
    by_seed: dict[str, dict[int, dict[str, Any]]] = {}
    for arm, seeds in flat.items():
        differing_keys = [key for key in keys if key not in shared]
        steady = [key for key in differing_keys if _equal([leaf.get(key, _ABSENT) for leaf in seeds.values()])]
        first = next(iter(seeds.values()))
        arms[arm] = {key: first[key] for key in steady if key in first}
        for seed, leaf in seeds.items():
            varying = {key: leaf[key] for key in differing_keys if key not in steady and key in leaf}
            if varying:
                by_seed.setdefault(arm, {})[seed] = varying
    return Configuration(origin=origin, shared=nested(shared), arms=arms, seeds=by_seed)


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every leaf; lists and empty mappings are leaves."""
    if isinstance(node, Mapping) and node:
        for key, child in node.items():
            yield from leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, list(node) if isinstance(node, tuple) else node


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `leaves`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def _kept(cfg: Mapping[str, Any]) -> dict[str, Any]:
    all_leaves = leaves({key: node for key, node in cfg.items() if key not in _LEFT_OUT})
    return {key: value for key, value in all_leaves if key not in _WORDS}


def _equal(values: list[Any]) -> bool:
    return all(value == values[0] and type(value) is type(values[0]) for value in values)
