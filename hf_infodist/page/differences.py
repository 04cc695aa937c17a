"""The images on which two models differ most, with what both say of them."""

import base64
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import log_softmax

from hf_infodist.models.heads import match_labels
from hf_infodist.page.records import Difference, Opinion
from hf_infodist.pair import Pair

_SIDE = 112  # pixels of a thumbnail
_TOP = 2  # classes of each model that are named


def differences(pair: Pair, most: int = 8) -> tuple[Difference, ...]:
    """Return the images on which the two models differ most, the worst first.

    By the total variation ½ Σ_c |p_c - q_c| where the classes have the same names; otherwise by how much more certain
    the one is than the other, the difference of their entropies.

    Args:
        pair: From `prepare_pair`.
        most: How many.
    """
    a, b = (_probabilities(outputs.logits[:]) for outputs in (pair.outputs_a, pair.outputs_b))  # [k, C]
    rows = match_labels(pair.a.labels, pair.b.labels)
    named_alike = rows is not None and min(rows) >= 0 and a.shape == b.shape
    apart = np.abs(a[:, rows] - b).sum(1) / 2 if named_alike else np.abs(_entropy(a) - _entropy(b))
    worst = np.argsort(-apart, kind="stable")[:most].tolist()
    return tuple(
        Difference(i, _picture(pair.images[i]), _opinion(a[i], pair.a.labels), _opinion(b[i], pair.b.labels))
        for i in worst
    )


def _probabilities(logits: NDArray) -> NDArray[np.float64]:
    return np.exp(log_softmax(logits.astype(np.float64), axis=1))


def _entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(1)


def _opinion(probabilities: NDArray[np.float64], labels: tuple[str, ...]) -> Opinion:
    top = np.argsort(-probabilities)[:_TOP]
    return Opinion(tuple(labels[c] for c in top), tuple(float(probabilities[c]) for c in top))


def _picture(image: Image.Image) -> str:
    """Return a small picture; what is tiny is enlarged without smoothing, so that its pixels can be seen."""
    image = image.copy()
    if max(image.size) >= _SIDE:
        image.thumbnail((_SIDE, _SIDE))
    else:
        scale = _SIDE // max(image.size)
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    file = BytesIO()
    image.save(file, "WEBP", quality=70)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
