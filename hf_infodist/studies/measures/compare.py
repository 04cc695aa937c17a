"""What every measure says of a pair of networks, the information distance first."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from hf_infodist.baselines import measures
from hf_infodist.baselines.table import measure_pair
from hf_infodist.distances.code import code_pair
from hf_infodist.distances.distance import distance_of_pair
from hf_infodist.images.sample import Images
from hf_infodist.models.classifier import Classifier
from hf_infodist.pair import Execution, Pair, prepare_pair
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import CodingProtocol

INFODIST = "d_p"
SIMILARITIES = frozenset(f"{one.space}/{one.name}" for one in measures.MEASURES if one.larger_is_more_similar)
SPACES = {
    space: tuple(f"{one.space}/{one.name}" for one in measures.MEASURES if one.space == space)
    for space in ("parameter", "representation", "output")
}
"""Measures by what they look at; `KL` of `output` is the static KL: what each way costs without any learning."""
MEASURES = (INFODIST, *(name for names in SPACES.values() for name in names))


@dataclass(frozen=True)
class Comparison:
    """What every measure says of a pair.

    Attributes:
        values: By measure; None where it does not apply. ``d_p`` in nats.
        a_given_b: L'(A | B), nats.
        b_given_a: L'(B | A), nats.
        stderr_nats: Standard error of ``d_p`` over the draw of the images.
        final_nats_per_image: What the last images cost, of the larger direction.
    """

    values: dict[str, float | None]
    a_given_b: float
    b_given_a: float
    stderr_nats: float
    final_nats_per_image: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, numbers of six digits."""
        fields = asdict(self)
        values = {name: rounded(value) for name, value in fields.pop("values").items()}
        return {"values": values, **{name: rounded(value) for name, value in fields.items()}}


def compare(a: Classifier, b: Classifier, images: Images, protocol: CodingProtocol) -> Comparison:
    """Measure a pair in every way. Codelengths that the store has are taken from there.

    Measures of outputs take the i-th class of one for the i-th class of the other, whatever these are called: without
    that they do not apply to networks of different classes.

    Args:
        a: A network.
        b: Another.
        images: On which.
        protocol: How a student is taught.
    """
    pair = prepare_pair(a, b, images)
    distance = distance_of_pair(pair, protocol, execution=Execution(resume=False))
    by_place = Pair(_unnamed(a), _unnamed(b), images, pair.run)
    values = {f"{one.space}/{one.name}": measure_pair(one, by_place).value for one in measures.MEASURES}
    larger = max(distance.a_given_b, distance.b_given_a, key=lambda code: code.nats)
    return Comparison(
        {INFODIST: distance.nats, **values},
        distance.a_given_b.nats,
        distance.b_given_a.nats,
        distance.stderr_nats,
        larger.final_nats_per_image,
    )


def compare_all(
    models: Sequence[Classifier], goal: Classifier, images: Images, protocol: CodingProtocol
) -> list[Comparison]:
    """Measure several networks against one, as `compare` does, at half the cost.

    That one is taught all the others first, in a row: so its factors are worked out once.

    Args:
        models: Networks.
        goal: What each is compared with.
        images: On which.
        protocol: How a student is taught.
    """
    run = cache(prepare_pair(goal, goal, images).run)
    for model in models:
        pair, execution = Pair(model, goal, images, run), Execution(resume=False)
        code_pair(pair, ["a_given_b"], protocol, accelerator=make_accelerator(), execution=execution)
    return [compare(model, goal, images, protocol) for model in models]


def largest_change_of_logits(a: Classifier, b: Classifier, images: Images) -> float:
    """Return the largest difference between the logits of two networks on some images."""
    pair = prepare_pair(a, b, images)
    return float(np.abs(np.asarray(pair.outputs_a.logits) - np.asarray(pair.outputs_b.logits)).max())


def rounded(value: float | None) -> float | None:
    """Return a number of six digits; None where there is none."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def _unnamed(classifier: Classifier) -> Classifier:
    return replace(classifier, labels=tuple(f"LABEL_{place}" for place in range(classifier.num_classes)))
