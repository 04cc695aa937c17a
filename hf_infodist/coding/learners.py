"""Learners that are there at once or learn in closed form: uniform, static, kernel regression."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hf_infodist.coding.kernels import Factors, Kernel, Regression, flattened
from hf_infodist.coding.label_learners import Permutation
from hf_infodist.outputs.arrays import Rows, StartLogits
from hf_infodist.protocol import LearnerSpec

_LEAST_TARGET = -12.0  # of a regressed log-probability: -16 and none at all cost the same, -8 costs 12 % more


class _Fixed:
    """What the learners that never learn share."""

    costs_gradients = False
    one_by_one = True

    def predict(self, start: int, end: int) -> Tensor:
        """Return log-probabilities, ``[n, C]``."""
        raise NotImplementedError

    def code(self, start: int, end: int, shown: Tensor) -> Tensor:
        """Return the same, whatever is shown."""
        return self.predict(start, end)


class Uniform(_Fixed):
    """Predicts every class alike: at most ln C nats an image."""

    name = "uniform"

    def __init__(self, num_classes: int):
        self.log_prob = -math.log(num_classes)
        self.num_classes = num_classes

    def predict(self, start: int, end: int) -> Tensor:
        """Return -ln C everywhere, ``[n, C]``."""
        return torch.full((end - start, self.num_classes), self.log_prob, dtype=torch.float64)


class Static(_Fixed):
    """Predicts what the student's start predicts, and never learns.

    Args:
        logits: The start's outputs in the teacher's label space, ``[k, C]``.
    """

    name = "static"

    def __init__(self, logits: Rows):
        self.logits = logits

    def predict(self, start: int, end: int) -> Tensor:
        """Return the start's log-probabilities, ``[n, C]``."""
        return log_softmax64(torch.from_numpy(np.array(self.logits[start:end])))


@dataclass(frozen=True, eq=False)
class Start:
    """Where a student starts.

    Attributes:
        outputs: The model's own logits, ``[k, S]``.
        num_classes: C, the teacher's classes.
        rows: The student's class for each of the teacher's (-1: none), or None for a new head that says 0 everywhere.
        named: Whether rows are known by the names of the classes, and not by their numbers alone.
        network: Returns a new copy of the student with the head that given rows make; None for learners without one.
        heads: Names of the layers of that copy that make its logits.
    """

    outputs: Rows
    num_classes: int
    rows: tuple[int, ...] | None
    named: bool = False
    network: Callable[[Sequence[int] | None], nn.Module] | None = None
    heads: tuple[str, ...] = ()

    @property
    def logits(self) -> StartLogits:
        """The student's first logits, ``[k, C]``."""
        return StartLogits(self.outputs, self.rows, self.num_classes)


class Corrections:
    """What a student has to learn of a teacher, the same for all of its kernels; each tile is worked out once.

    Soft targets are log-probabilities less what the student starts from, both centred over classes; drawn labels are
    indicators less the probabilities of the start.

    Args:
        start: The student in the teacher's label space.
        drawn: Whether labels are shown.
    """

    def __init__(self, start: Start, *, drawn: bool):
        self.start, self.drawn = start, drawn
        self._tile: tuple[int, int] | None = None
        self._found: tuple[Tensor, Tensor]

    def of(self, start: int, end: int, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits that the student starts from, and their corrections, ``[n, C]`` each."""
        if self._tile != (start, end):
            first = log_softmax64(torch.from_numpy(np.array(self.start.logits[start:end])))
            targets = shown.exp() - first.exp() if self.drawn else _centred(shown) - _centred(first)
            self._tile, self._found = (start, end), (first, targets)
        return self._found


class TeacherRegression:
    """Regresses what a teacher says on a student's features, for several learners; each tile is worked out once.

    Args:
        factors: Of the student.
        kernel: Which of its covariances.
        corrections: What is regressed.
        permutation: If given, the start is the student's own outputs with its classes in the order believed in.
    """

    def __init__(
        self, factors: Factors, kernel: Kernel, corrections: Corrections, *, permutation: Permutation | None = None
    ):
        self.corrections, self.start, self.permutation = corrections, corrections.start, permutation
        start = self.start
        width = start.num_classes if permutation is None else 2 * start.num_classes
        self.regression = Regression(factors, kernel, width)
        self._tile: tuple[int, int] | None = None
        self._found: tuple[Tensor, Tensor, Tensor, Tensor]

    def code(self, start: int, end: int, shown: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return first logits and their predicted corrections, ``[n, C]`` each, variances and scales, ``[n]``."""
        if self._tile != (start, end):
            find = self._from_start if self.permutation is None else self._from_order
            self._tile, self._found = (start, end), find(start, end, shown)
        return self._found

    def _from_start(self, start: int, end: int, shown: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first, targets = self.corrections.of(start, end, shown)
        return first, *self.regression.code(start, end, targets)

    def _from_order(self, start: int, end: int, shown: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Regress the student's own outputs too: what is left of them is new, in whatever order it comes."""
        assert self.permutation is not None
        own = _centred(log_softmax64(torch.from_numpy(np.array(self.start.outputs[start:end]))))
        means, *rest = self.regression.code(start, end, torch.cat([_centred(shown), own], dim=1))
        corrections, expected = means.split(self.start.num_classes, dim=1)
        new = [(own - expected)[i - start : j - start] @ belief.T for i, j, belief in self.permutation.beliefs]
        return torch.cat(new), corrections, *rest


class KernelLearner:
    """Predicts by kernel ridge regression on features of the student, in closed form.

    Args:
        regression: May be shared with other learners.
        spec: What is made of it.
    """

    costs_gradients = False
    one_by_one = True

    def __init__(self, regression: TeacherRegression, spec: LearnerSpec):
        self.regression, self.spec, self.name = regression, spec, spec.name

    def code(self, start: int, end: int, shown: Tensor) -> Tensor:
        """Predict images one after the other; return log-probabilities, ``[n, C]``."""
        first, corrections, variances, scales = self.regression.code(start, end, shown)
        logits = first + self.spec.gain * corrections
        return torch.log_softmax(flattened(logits, variances, scales) if self.spec.flat else logits, dim=-1)


def _centred(log_probs: Tensor) -> Tensor:
    """Return log-probabilities less their mean over classes; far below all that matters they are all the same."""
    clipped = log_probs.clamp_min(_LEAST_TARGET)
    return clipped - clipped.mean(-1, keepdim=True)


def log_softmax64(logits: Tensor) -> Tensor:
    """Return log-probabilities in float64: in float32 round-off costs nats."""
    return torch.log_softmax(logits.double(), dim=-1)
