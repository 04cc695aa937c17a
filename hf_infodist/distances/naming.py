"""Which class is which where models name them otherwise: told by what they say of the same images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_infodist.coding.label_learners import LEAST_LOG_PROB, MOST_PERMUTED
from hf_infodist.models.heads import match_labels, named

Labels = tuple[str, ...]
Rows = NDArray[np.floating]


@dataclass(frozen=True)
class Match:
    """What the classes of a model are called by others.

    Attributes:
        labels: A name for each of its classes.
        like: Number of the model with which they were matched.
    """

    labels: Labels
    like: int


@dataclass(frozen=True, eq=False)
class _Said:
    """Log-probabilities of a model, ``[k, C]``, and how far its images are from their mean in all, in nats."""

    log_probs: Rows
    spread: float

    @classmethod
    def of(cls, logits: Rows) -> "_Said":
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        log_probs = np.maximum(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), LEAST_LOG_PROB)
        mean = np.maximum(np.log(np.exp(log_probs).mean(axis=0)), LEAST_LOG_PROB)
        return cls(log_probs, float((np.exp(log_probs) * (log_probs - mean)).sum()))

    @property
    def probs(self) -> Rows:
        return np.exp(self.log_probs)


def find_matches(labels: Sequence[Labels], logits: Callable[[int], Rows | None]) -> dict[int, Match]:
    """Find what classes are called by others, for models that share their number of classes and no names.

    Models with as many classes whose names agree have one label space. That of most models, the first of several,
    keeps its names, and each other one takes them: classes of two models are matched one to one so that the sum of
    KL(p ‖ q) + KL(q ‖ p) over the images is least (Hungarian method), and of all pairs of a model of either space
    the one that agrees best decides. Nobody is matched who agrees no better than each model does with its own mean.
    Classes that are numbered, and not named, keep their numbers.

    Args:
        labels: Names of the classes of each model.
        logits: Of a model, by its number, ``[k, C]``, the same images for all; None if they cannot be had.

    Returns:
        The models whose classes were given other names, by number.
    """
    found: dict[int, Match] = {}
    for count in sorted({len(each) for each in labels}):
        spaces = _spaces([i for i, each in enumerate(labels) if len(each) == count and named(each, each)], labels)
        most, *rest = sorted(spaces, key=len, reverse=True) or [[]]  # the first of several
        for space in rest if count <= MOST_PERMUTED else ():
            found |= _taken_over(space, most, labels, logits)
    return found


def _spaces(models: Sequence[int], labels: Sequence[Labels]) -> list[list[int]]:
    """Return groups of models whose names agree with those of the first of the group."""
    spaces: list[list[int]] = []
    for i in models:
        own = next((space for space in spaces if match_labels(labels[i], labels[space[0]])), None)
        if own:
            own.append(i)
        else:
            spaces.append([i])
    return spaces


def _taken_over(
    space: Sequence[int], others: Sequence[int], labels: Sequence[Labels], logits: Callable[[int], Rows | None]
) -> dict[int, Match]:
    """Return the models of a space under the names of another one; none if they cannot be matched."""
    own = {i: _Said.of(rows) for i in space if (rows := logits(i)) is not None}
    best, columns, chosen, like = np.inf, list[int](), space[0], others[0]
    for j in others:  # one at a time: what a thousand models say does not fit
        if (rows := logits(j)) is None:
            continue
        said = _Said.of(rows)
        for i, one in own.items():
            apart, matched = _matched(one, said)
            if apart < min(best, one.spread + said.spread):
                best, columns, chosen, like = apart, matched, i, j
    if not columns:
        return {}
    names = [labels[like][column] for column in columns]  # of the classes of the chosen one
    found = {}
    for each in space:
        places = match_labels(labels[each], labels[chosen])
        assert places is not None
        renamed = dict(zip(places, names, strict=True))
        found[each] = Match(tuple(renamed[row] for row in range(len(names))), like)
    return found


def _matched(one: _Said, other: _Said) -> tuple[float, list[int]]:
    """Return how far two models are apart once classes are matched, in nats, and the other's class for each."""
    from scipy.optimize import linear_sum_assignment

    agreement = one.probs.T @ other.log_probs + one.log_probs.T @ other.probs  # [one's, other's]
    rows, columns = linear_sum_assignment(agreement, maximize=True)
    own = float((one.probs * one.log_probs).sum() + (other.probs * other.log_probs).sum())
    return own - float(agreement[rows, columns].sum()), columns.tolist()
