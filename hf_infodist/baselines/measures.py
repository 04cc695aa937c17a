"""The measures with what each of them promises."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from hf_infodist.baselines import output, parameter, representation

Space = Literal["parameter", "representation", "output"]
Change = Literal["permutation", "rescaling", "rotation", "shift", "linear map", "temperature"]


@dataclass(frozen=True)
class Measure:
    """A measure and its declared properties.

    Attributes:
        name: Unique within its space.
        space: What it looks at.
        larger_is_more_similar: If so it is 1 between a model and itself, else 0.
        meaning: One line.
        compute: Value of A and B, given what `space` names of both; raises `Inapplicable`.
        invariant_to: Changes of one model that leave the value as it is. Two leave the function alone: ``permutation``
            of hidden units, ``rescaling`` of a layer by c and of the next by 1/c. Of the features: ``rotation``,
            ``shift`` by a vector, invertible ``linear map``. Of the outputs: ``temperature``.
        symmetric: Whether A and B may be exchanged.
    """

    name: str
    space: Space
    larger_is_more_similar: bool
    meaning: str
    compute: Callable[[Any, Any], float]
    invariant_to: frozenset[Change] = frozenset()
    symmetric: bool = True


_FUNCTION: frozenset[Change] = frozenset({"permutation", "rescaling"})
_DIRECTIONS: frozenset[Change] = _FUNCTION | {"rotation"}
_SHAPE: frozenset[Change] = _DIRECTIONS | {"shift"}

_PARAMETER = (
    Measure("L2", "parameter", False, "length of the difference, all weights as one vector", parameter.l2),
    Measure("cosine", "parameter", True, "angle between them, all weights as one vector", parameter.cosine),
    Measure("EMD", "parameter", False, "cost of moving each layer's neurons onto the other's", parameter.emd),
)

_REPRESENTATION = (
    Measure("L2", "representation", False, "mean distance between the features of an image", representation.l2),
    Measure(
        "cosine",
        "representation",
        True,
        "mean cosine between the features of an image",
        representation.cosine,
        frozenset({"rescaling"}),
    ),
    Measure(
        "EMD",
        "representation",
        False,
        "cost of moving A's units onto B's, by their activations",
        representation.emd,
        frozenset({"permutation"}),
    ),
    Measure(
        "linear CKA",
        "representation",
        True,
        "agreement on which images are alike; near 1 where images are few",
        representation.linear_cka,
        _SHAPE,
    ),
    Measure(
        "debiased CKA",
        "representation",
        True,
        "the same without that bias: about 0 for unrelated features",
        representation.debiased_cka,
        _SHAPE,
    ),
    Measure(
        "Procrustes",
        "representation",
        False,
        "what the best rotation of the features leaves, from 0 to 2",
        representation.procrustes,
        _SHAPE,
    ),
    Measure(
        "RSA",
        "representation",
        True,
        "correlation of the dissimilarities between images",
        representation.rsa,
        _FUNCTION,
    ),
    Measure(
        "k-NN Jaccard",
        "representation",
        True,
        "overlap of the 10 nearest images of each image",
        representation.knn_jaccard,
        _DIRECTIONS,
    ),
    Measure(
        "second-order cosine",
        "representation",
        True,
        "agreement on how near those images are",
        representation.second_order_cosine,
        _DIRECTIONS,
    ),
)

_OUTPUT = (
    Measure(
        "KL(A‖B)",
        "output",
        False,
        "nats an image to tell A's outputs to somebody who has B",
        output.kl_divergence,
        _FUNCTION,
        symmetric=False,
    ),
    Measure(
        "KL(B‖A)",
        "output",
        False,
        "nats an image to tell B's outputs to somebody who has A",
        lambda a, b: output.kl_divergence(b, a),
        _FUNCTION,
        symmetric=False,
    ),
    Measure(
        "Jensen-Shannon",
        "output",
        False,
        "nats an image between either and their mean, at most ln 2",
        output.jensen_shannon,
        _FUNCTION,
    ),
    Measure(
        "disagreement",
        "output",
        False,
        "share of images on which the most probable class differs",
        output.disagreement,
        _FUNCTION | {"temperature"},
    ),
)

MEASURES: tuple[Measure, ...] = (*_PARAMETER, *_REPRESENTATION, *_OUTPUT)
