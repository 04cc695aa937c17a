"""Kernel regressions on what fine-tuning makes of the student's features, which are read anew for each block.

A fine-tuned network knows more of the teacher than its own head can say after so few images: a closed form on its
features, with all priced targets, says it. Weights and targets are those of the images priced before the block; of the
block's own images only the pixels are seen, and their targets one by one, each after it is priced.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_infodist.coding import kernels
from hf_infodist.coding.finetuned import FineTuned
from hf_infodist.coding.interfaces import Follower
from hf_infodist.coding.kernels import Factors, Kernel
from hf_infodist.coding.learners import Corrections, KernelLearner, Start, Static, TeacherRegression
from hf_infodist.coding.loop import MOST_TILE
from hf_infodist.coding.targets import PricedTargets
from hf_infodist.outputs.arrays import Outputs
from hf_infodist.outputs.layers import Layer
from hf_infodist.protocol import LearnerSpec


@dataclass(frozen=True)
class Adaptation:
    """A fine-tuned learner before a block: where it started, and what is regressed on its features.

    Attributes:
        start: Its own, whose classes may have been reordered meanwhile.
        regressions: By covariance and by whether they begin with nothing; they know the priced images. None as long as
            the learner has made no step, or if none of its layers is finite.
    """

    start: Start
    regressions: dict[tuple[Kernel, bool], TeacherRegression]


class Reader:
    """Reads the features of a fine-tuned learner before each block, once for all kernels on them.

    Args:
        wanted: Covariances, and whether they begin with nothing instead of the student's head.
        device: Where closed forms are worked out.
        drawn: Whether labels are shown.
    """

    def __init__(self, wanted: Sequence[tuple[Kernel, bool]], device: torch.device, *, drawn: bool):
        self.wanted, self.device, self.drawn = tuple(dict.fromkeys(wanted)), device, drawn
        self._block: tuple[int, int] | None = None
        self._read: Adaptation

    def read(self, learner: FineTuned, start: int, end: int, priced: PricedTargets) -> Adaptation:
        """Return what a learner has become before the block ``[start, end)``."""
        if self._block != (start, end):
            self._block, self._read = (start, end), Adaptation(learner.start, self._regressions(learner, end))
            for first in range(0, start, MOST_TILE):
                last = min(first + MOST_TILE, start)
                for regression in self._read.regressions.values():
                    regression.code(first, last, priced[slice(first, last)])
        return self._read

    def let_go(self) -> None:
        """Free memory."""
        if self._block:
            self._block = None
            del self._read

    def _regressions(self, learner: FineTuned, end: int) -> dict[tuple[Kernel, bool], TeacherRegression]:
        covariances = tuple(dict.fromkeys(kernel for kernel, _ in self.wanted))
        layers = learner.layers() if learner.steps else ()
        if not layers:
            return {}
        factors = Factors(outputs_of(learner, layers, end), covariances, self.device)
        corrections = {new: Corrections(_start(learner.start, new), drawn=self.drawn) for _, new in self.wanted}
        return {(kernel, new): TeacherRegression(factors, kernel, corrections[new]) for kernel, new in self.wanted}


class _Pass:
    """What a network makes of the first images: kept of landmarks, and of those beyond that were asked for last.

    Args:
        learner: Whose network does not change meanwhile.
        layers: What is read of it.
        end: How many images.
    """

    def __init__(self, learner: FineTuned, layers: tuple[Layer, ...], end: int):
        self.learner, self.layers, self.images = learner, layers, end
        self.kept = learner.read(slice(0, min(end, kernels.LANDMARKS)), layers)
        self._rows, self._found = slice(0, 0), self.kept

    def part(self, number: int, rows: slice) -> NDArray:
        """Return some rows of logits (0), features (1) or layers (2)."""
        if rows.stop <= len(self.kept[number]):
            return self.kept[number][rows]
        if rows != self._rows:
            self._rows, self._found = rows, self.learner.read(rows, self.layers)
        return self._found[number]


class _Part:
    """Rows of one of the parts of a pass."""

    def __init__(self, whole: _Pass, number: int):
        self._whole, self._number = whole, number
        self.shape = (whole.images, whole.kept[number].shape[1])

    def __getitem__(self, index: slice) -> NDArray:
        return self._whole.part(self._number, index)


def outputs_of(learner: FineTuned, layers: tuple[Layer, ...], end: int) -> Outputs:
    """Return what a network as it is makes of the first ``end`` images, in memory that landmarks bound."""
    whole = _Pass(learner, layers, end)
    logits, features, values = (_Part(whole, number) for number in range(3))
    return Outputs(learner.pixels, logits, features, values, layers, "")


class AdaptedKernel(Follower):
    """Predicts by kernel ridge regression on the features of the learner it follows; at first as its start does.

    Args:
        reader: Shared with all others.
        spec: Which kernel, and what is made of it.
    """

    def __init__(self, reader: Reader, spec: LearnerSpec):
        self.reader, self.spec, self.name = reader, spec, spec.name
        self._now: KernelLearner | Static | None = None

    def follow(self, learner: FineTuned, start: int, end: int, priced: PricedTargets) -> None:
        """Read the learner before the block ``[start, end)``."""
        read, key = self.reader.read(learner, start, end, priced), wanted_by(self.spec)
        regression = read.regressions.get(key)
        self._now = KernelLearner(regression, self.spec) if regression else Static(_start(read.start, key[1]).logits)

    def code(self, start: int, end: int, shown: Tensor) -> Tensor:
        """Predict images one after the other; return log-probabilities, ``[n, C]``."""
        assert self._now is not None
        return self._now.code(start, end, shown)

    def let_go(self) -> None:
        """Free memory."""
        self.reader.let_go()
        self._now = None


def wanted_by(spec: LearnerSpec) -> tuple[Kernel, bool]:
    """Return the covariance that a learner asks for, and whether it begins with nothing."""
    return Kernel(spec.features, spec.gamma, spec.noise), spec.start == "nothing"


def _start(start: Start, new: bool) -> Start:
    return replace(start, rows=None) if new else start
