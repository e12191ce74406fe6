"""Which neurons of a dense MLP become the shared expert, and which go together into a routed one.

Shared are those that say most on average; the others are clustered by when they speak: balanced k-means over their
activity on calibration tokens, every cluster of one size.

Shape suffixes: T tokens, N neurons, E experts.
"""

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dante.models.moe.glu import Glu

_ITERATIONS = 10
# More tokens move no neuron, and take most of the time.
_TOKENS = 4096


def activity(unit: Glu, hidden_TN: Float[Tensor, "tokens neurons"]) -> Float[Tensor, "tokens neurons"]:
    """How much each neuron says of each token: |h| times the norm of its column of the last product."""
    return hidden_TN.abs() * unit.down.norm(dim=0)


def most_active(activity_TN: Float[Tensor, "tokens neurons"], count: int) -> tuple[Tensor, Tensor]:
    """Numbers of the neurons with the largest mean square activity, and of the others; each ascending."""
    order = torch.argsort(activity_TN.double().square().mean(0), descending=True, stable=True)
    return order[:count].sort().values, order[count:].sort().values


def balanced_clusters(activity_TN: Float[Tensor, "tokens neurons"], clusters: int, seed: int) -> list[Tensor]:
    """Neurons that speak on the same tokens together: k-means with clusters of equal size [I].

    Activities are taken as they are, so that loud neurons go together, too: experts differ in how much they say and
    in how often they are asked, as those of trained mixtures do. Every step assigns all neurons at once, so that the
    sum of squared distances is the least that equal sizes allow.

    Args:
        activity_TN: of the neurons.
        clusters: how many; they divide the neurons.
        seed: of the first centres.

    Returns:
        columns of `activity_TN` of each cluster, ascending.
    """
    points_NT = activity_TN[:_TOKENS].float().T.contiguous()
    neurons, size = len(points_NT), len(points_NT) // clusters
    generator = torch.Generator().manual_seed(seed)
    centres_ET = points_NT[_spread(points_NT, clusters, generator)]
    members = torch.zeros(neurons, dtype=torch.int64)
    for _ in range(_ITERATIONS):
        distance_NE = torch.cdist(points_NT, centres_ET).square()
        # A cluster is `size` places, each with its distance.
        _, places = linear_sum_assignment(distance_NE.repeat_interleave(size, dim=1).numpy())
        before, members = members, torch.from_numpy(places) // size
        if torch.equal(before, members):
            break
        centres_ET = torch.stack([points_NT[members == number].mean(0) for number in range(clusters)])
    return [torch.nonzero(members == number).flatten() for number in range(clusters)]


def _spread(points_NT: Tensor, count: int, generator: torch.Generator) -> list[int]:
    """First centres far from each other: k-means++."""
    chosen = [int(torch.randint(len(points_NT), (1,), generator=generator))]
    nearest_N = torch.cdist(points_NT, points_NT[chosen]).square().flatten()
    while len(chosen) < count:
        chosen.append(int(torch.multinomial(nearest_N.double().clamp_min(1e-12), 1, generator=generator)))
        nearest_N = torch.minimum(nearest_N, torch.cdist(points_NT, points_NT[chosen[-1:]]).square().flatten())
    return chosen
