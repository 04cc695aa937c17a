"""What averaging the probabilities of some models gains, on labelled images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_infodist.errors import UnfitError
from hf_infodist.images.sample import Images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.heads import match_labels
from hf_infodist.outputs.arrays import Rows

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over images and its standard error."""

    value: float
    stderr: float

    @classmethod
    def of(cls, values: Array) -> "Interval":
        """Average ``[k]`` values."""
        spread = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return cls(float(np.mean(values)), spread)

    def __str__(self) -> str:
        """Return both."""
        return f"{self.value:.4f} ± {self.stderr:.4f}"


@dataclass(frozen=True)
class Gain:
    """What averaging the probabilities of some models gains; differences are paired by image.

    Attributes:
        accuracy: Of the average.
        log_loss: Of the average, nats an image.
        accuracy_over_mean: How much more than its members have on average.
        accuracy_over_best: How much more than the member of the highest.
        log_loss_below_mean: How much less than its members have on average.
        log_loss_below_best: How much less than the member of the lowest.
    """

    accuracy: Interval
    log_loss: Interval
    accuracy_over_mean: Interval
    accuracy_over_best: Interval
    log_loss_below_mean: Interval
    log_loss_below_best: Interval

    def lines(self, whose: str) -> list[str]:
        """Say it in two lines."""
        return [
            f"{whose}: accuracy {self.accuracy}, {_more(self.accuracy_over_mean)} over the mean of its members, "
            f"{_more(self.accuracy_over_best)} over the best",
            f"{'':{len(whose)}}  log loss {self.log_loss}, {self.log_loss_below_mean} below the mean of its members, "
            f"{self.log_loss_below_best} below the best (± standard error over images)",
        ]


def _more(gain: Interval) -> str:
    return f"{gain.value:+.4f} ± {gain.stderr:.4f}"


def class_probabilities(logits: Rows, model: Classifier, images: Images) -> Array:
    """Return what a model says of the classes of a dataset, ``[k, C]``: the softmax over its outputs for these.

    Where names of classes are unknown, output i is class i.

    Args:
        logits: Of the images, ``[k, outputs]``.
        model: Whose.
        images: With labels.

    Raises:
        UnfitError: If the model does not have all classes of the dataset.
    """
    from scipy.special import softmax

    classes = images.label_names or tuple(f"LABEL_{i}" for i in range(1 + max(images.labels or (0,))))
    rows = match_labels(model.labels, classes)
    if rows is None or min(rows) < 0:
        raise UnfitError(
            f"{model.id} does not have the classes of {images.id}",
            f"its {model.num_classes} are {_first(model.labels)}; the {len(classes)} of the images {_first(classes)}",
            "leave it out, or choose images whose classes all models have",
        )
    return softmax(np.asarray(logits[:], np.float64)[:, list(rows)], axis=1)


def hits_and_losses(probabilities: Array, labels: NDArray[np.integer]) -> tuple[Array, Array]:
    """Return whether models are right, 0 or 1, and their surprise at the label, nats, both ``[n, k]``.

    Args:
        probabilities: ``[n, k, C]``.
        labels: ``[k]``.
    """
    told = np.take_along_axis(probabilities, labels[None, :, None], 2)[:, :, 0]
    return (probabilities.argmax(2) == labels).astype(np.float64), -np.log(np.maximum(told, np.finfo(float).tiny))


def measure_gain(probabilities: Array, labels: NDArray[np.integer]) -> Gain:
    """Measure what averaging some models gains. Arguments as in `hits_and_losses`."""
    hits, losses = hits_and_losses(probabilities, labels)
    (hit,), (loss,) = hits_and_losses(probabilities.mean(0, keepdims=True), labels)
    return Gain(
        accuracy=Interval.of(hit),
        log_loss=Interval.of(loss),
        accuracy_over_mean=Interval.of(hit - hits.mean(0)),
        accuracy_over_best=Interval.of(hit - hits[hits.mean(1).argmax()]),
        log_loss_below_mean=Interval.of(losses.mean(0) - loss),
        log_loss_below_best=Interval.of(losses[losses.mean(1).argmin()] - loss),
    )


def _first(names: Sequence[str]) -> str:
    return f"{', '.join(names[:3])}, …" if len(names) > 3 else ", ".join(names)
