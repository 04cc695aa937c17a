"""What every measure says of some networks, weights of common layers too, and how often a copy's origin is nearest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_infodist.baselines import parameter
from hf_infodist.baselines.measures import MEASURES
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.images.sample import Images
from hf_infodist.models.classifier import Classifier
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.matrix import INFODIST

Values = NDArray[np.float64]
GIVEN = "L'(it | other)"
OURS, OUTPUTS, FEATURES, WEIGHTS, COMMON = "ours", "outputs", "features", "weights", "common layers"
FAMILIES = {
    OURS: (INFODIST, GIVEN),
    OUTPUTS: tuple(f"output/{one.name}" for one in MEASURES if one.space == "output"),
    FEATURES: tuple(f"representation/{one.name}" for one in MEASURES if one.space == "representation"),
    WEIGHTS: tuple(f"parameter/{one.name}" for one in MEASURES if one.space == "parameter"),
    COMMON: (f"{COMMON}/L2", f"{COMMON}/cosine"),
}
"""Measures by what they look at; the weights also of those layers alone that are of one name and shape in both."""
CHEAP = {
    OUTPUTS: FAMILIES[OUTPUTS],
    FEATURES: FAMILIES[FEATURES],
    WEIGHTS: (*FAMILIES[WEIGHTS], *FAMILIES[COMMON]),
}
"""The others than ours."""


def all_distances(models: Sequence[Classifier], images: Images, protocol: CodingProtocol) -> dict[str, Values]:
    """Return what every measure says of all pairs, ``[n, n]``, as a distance; NaN where it does not apply.

    `GIVEN` is what the model of the row costs given that of the column. Codelengths that the store has are taken from
    there.
    """
    nats = pairwise_distances(models, images, protocol=protocol).nats
    cheap = [f"{one.space}/{one.name}" for one in MEASURES]
    others = {name: pairwise_distances(models, images, measure=name).nats for name in cheap}
    return {INFODIST: np.fmax(nats, nats.T), GIVEN: nats, **others, **_common(models)}


def _common(models: Sequence[Classifier]) -> dict[str, Values]:
    found = {name: np.zeros((len(models), len(models))) for name in FAMILIES[COMMON]}
    weights = [parameter.read_weights(model.network.module) for model in models]
    for i, j in np.ndindex(len(models), len(models)):
        for name, value in zip(FAMILIES[COMMON], common_layers(weights[i], weights[j]), strict=True):
            found[name][i, j] = value if i != j else 0.0
    return found


def common_layers(a: parameter.Weights, b: parameter.Weights) -> tuple[float, float]:
    """Return L2 and 1 − cosine of those weights that both have under one name and in one shape; NaN without any."""
    names = [name for name in a if name in b and a[name].shape == b[name].shape and a[name].ndim > 1]
    if not names:
        return np.nan, np.nan
    those = [{name: weights[name] for name in names} for weights in (a, b)]
    return parameter.l2(*those), 1 - parameter.cosine(*those)


@dataclass(frozen=True)
class Found:
    """How well a measure finds the origin of copies.

    Attributes:
        share: Of triplets of copy, origin and stranger, those in which the origin is nearer; a tie counts half.
        triplets: How many.
        first: Copies whose origin is nearer than every stranger.
        copies: How many.
        ratio: Distance to the origin over the mean of those to strangers, mean over copies.
    """

    share: float
    triplets: int
    first: int
    copies: int
    ratio: float


def origin_found(rows: Sequence[tuple[float, Sequence[float]]]) -> Found | None:
    """Score a measure; None if it does not apply to any of the triplets.

    Args:
        rows: Of each copy the distance to its origin, and those to strangers.
    """
    known = [(near, list(far)) for near, far in rows if np.isfinite([near, *far]).all()]
    if not known:
        return None
    hits = [float(near < one) + 0.5 * float(near == one) for near, far in known for one in far]
    first = sum(bool(near < min(far)) for near, far in known)
    ratio = float(np.mean([near / np.mean(far) for near, far in known]))
    return Found(float(np.mean(hits)), len(hits), first, len(known), ratio)


def best(scores: Mapping[str, float | None], names: Sequence[str]) -> tuple[str, float] | None:
    """Return which of some measures does best at a question, and how well; None if none of them applies."""
    there = {name: value for name in names if (value := scores.get(name)) is not None and np.isfinite(value)}
    return max(there.items(), key=lambda one: one[1]) if there else None
