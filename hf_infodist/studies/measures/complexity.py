"""d_p(f, 0): how far a trained network is from one of the same architecture with fresh weights."""

from dataclasses import dataclass

import numpy as np

from hf_infodist.baselines import baselines
from hf_infodist.distances.code import code_pair
from hf_infodist.pair import prepare_pair
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.codelength import Codelength
from hf_infodist.studies.networks.scale import Build, Data, Scale, Trained, classifier, fresh

_FRESH = 100_000  # seeds of networks 0: far from those of any training


@dataclass(frozen=True, eq=False)
class Complexity:
    """What a trained network costs somebody who has a fresh one.

    Attributes:
        nats: d_p(f, 0) = L'(f | 0), sections 4.2 and 4.4.
        stderr_nats: Of it, over the images.
        normalised: As a share of what somebody pays who knows only how frequent its classes are.
        final_nats: Price of an image at the end.
        baselines: Every other measure of the same two networks, as a distance; NaN where it does not apply.
    """

    nats: float
    stderr_nats: float
    normalised: float
    final_nats: float
    baselines: dict[str, float]


def complexity(one: Trained, build: Build, data: Data, scale: Scale, *, name: str, seed: int) -> Complexity:
    """Measure a trained network.

    Args:
        one: The network.
        build: Its architecture.
        data: Its classes, and the images.
        scale: Which protocol.
        name: Of the network.
        seed: Of the fresh weights, which are never those where its training began.
    """
    zero = classifier(fresh(build, data.classes, _FRESH + seed), f"{name}, fresh", data)
    pair = prepare_pair(zero, classifier(one.network, name, data), data.coded)
    code: Codelength = code_pair(pair, ["b_given_a"], PROTOCOLS[scale.protocol], accelerator=make_accelerator())[0]
    others = {f"{row.space}/{row.name}": row for row in baselines(pair)}
    distances = {
        measure: np.nan if row.value is None else 1 - row.value if row.larger_is_more_similar else row.value
        for measure, row in others.items()
    }
    return Complexity(code.nats, code.stderr_nats, code.normalised, code.final_nats_per_image, distances)
