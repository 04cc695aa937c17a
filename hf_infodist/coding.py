"""Prequential coding of a teacher's outputs: price each image, then learn from it."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_infodist.mixture import Mixture
from hf_infodist.protocol import halved

SPENT_NATS = 1e-9  # a loss below this is round-off: Adam would turn it into whole steps


def kl_nats(teacher_log_probs: Tensor, student_log_probs: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence KL(q ‖ p) of each row, in nats; round-off below 0 counts as 0.

    Args:
        teacher_log_probs: log q, ``[..., C]``; a class with log q = -inf contributes nothing.
        student_log_probs: log p, ``[..., C]``.
    """
    teacher_probs = teacher_log_probs.exp()
    terms = teacher_probs * (teacher_log_probs - student_log_probs)
    return torch.where(teacher_probs > 0, terms, 0.0).sum(-1).clamp_min(0.0)


class Logits(Protocol):
    """Logits ``[k, C]`` of ``k`` images, read by rows: an array, a memory map, or computed on the fly."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Images and classes."""
        ...

    def __getitem__(self, index: Any, /) -> NDArray[np.floating]:
        """Return the logits of some images, ``[n, C]``."""
        ...


class Targets:
    """What a student may learn: the teacher's output on each image, soft or drawn.

    Args:
        logits: Teacher's logits, ``[k, C]``.
        labels: Labels drawn from the teacher, ``[k]``, if the student is shown only those.
    """

    def __init__(self, logits: Logits, labels: Tensor | None = None):
        self._logits, self._labels = logits, labels
        self.num_images, self.num_classes = logits.shape

    def soft(self, index: slice | NDArray[np.integer]) -> Tensor:
        """Return the teacher's log-probabilities, ``[n, C]`` in float64."""
        logits = torch.from_numpy(np.array(self._logits[index], dtype=np.float64))
        return torch.log_softmax(logits, dim=-1)

    def shown(self, index: slice | NDArray[np.integer]) -> Tensor:
        """Return the log-probabilities the student is shown, ``[n, C]``: `soft`, or 0 at the drawn label."""
        if self._labels is None:
            return self.soft(index)
        one_hot = torch.nn.functional.one_hot(self._labels[index], self.num_classes)
        return one_hot.double().log()


class PricedTargets:
    """The targets of images already paid for; any other image is out of reach."""

    def __init__(self, targets: Targets, end: int):
        self._targets, self.end = targets, end

    def __getitem__(self, index: slice | NDArray[np.integer]) -> Tensor:
        """Return log-probabilities shown for priced images, ``[n, C]`` in float64.

        Raises:
            IndexError: If an image is not priced yet.
        """
        highest = index.stop - 1 if isinstance(index, slice) else int(index.max())
        if highest >= self.end:
            raise IndexError(f"image {highest} is not priced yet; the first {self.end} are")
        return self._targets.shown(index)


def draw_labels(logits: NDArray[np.floating], seed: int) -> Tensor:
    """Draw y_i ~ softmax(logits_i) for each of ``[k, C]`` logits; return ``[k]`` integers."""
    uniform = torch.from_numpy(np.random.default_rng([seed, 1]).random(len(logits)))
    probs = torch.softmax(torch.from_numpy(np.array(logits, dtype=np.float64)), dim=-1)
    cumulative = probs.cumsum(-1)
    drawn = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
    return drawn.squeeze(-1).clamp_(max=logits.shape[1] - 1)


class Learner(Protocol):
    """Predicts images, and learns from those already priced."""

    name: str
    costs_gradients: bool  # of a network: worth stopping once it has fallen behind

    def predict(self, start: int, end: int) -> Tensor:
        """Return log-probabilities for images ``[start, end)``, ``[end - start, C]`` in float64."""
        ...

    def learn(self, start: int, end: int, priced: PricedTargets) -> int:
        """Learn from the new images ``[start, end)`` and any earlier one; return the gradient images spent."""
        ...

    def stop(self) -> None:
        """Free memory; the learner is not used again."""
        ...


@dataclass(frozen=True)
class LearnerRecord:
    """What one learner would have cost alone, and the weight the mixture gave it in the end.

    A learner that was dropped has weight 0, and priced only the first ``images``.
    """

    name: str
    nats: float
    images: int
    weight: float
    gradient_images: int


@dataclass(frozen=True, eq=False)
class Codelength:
    """L'(B|A): what teaching a student its teacher's outputs cost, image by image.

    Attributes:
        image_nats: Price of each image when it was new, ``[k]``, nats.
        static_nats: Price of all images without any learning, nats.
        learners: One record per learner.
        block_ends: Number of images priced after each block.
        epsilon: Nats per image below which the last images count as converged.
        seconds: Wall time spent pricing and learning.
    """

    image_nats: NDArray[np.float64]
    static_nats: float
    learners: tuple[LearnerRecord, ...]
    block_ends: tuple[int, ...]
    epsilon: float
    seconds: float

    @cached_property
    def nats(self) -> float:
        """Total codelength, equation (6)."""
        return math.fsum(self.image_nats)

    @property
    def nats_per_image(self) -> float:
        """Mean price of an image."""
        return self.nats / len(self.image_nats)

    @property
    def final_nats_per_image(self) -> float:
        """Mean price over the last block, or over the last tenth of the images where that is longer."""
        last_block = self.block_ends[-1] - (self.block_ends[-2] if len(self.block_ends) > 1 else 0)
        return float(self.image_nats[-max(last_block, len(self.image_nats) // 10) :].mean())

    @property
    def converged(self) -> bool:
        """Whether the student has become the teacher up to epsilon, equation (4)."""
        return self.final_nats_per_image <= self.epsilon

    @property
    def stderr_nats(self) -> float:
        """Standard error of `nats` over the draw of the images.

        Prices fall as the student learns, so the spread is taken between neighbours, not around a common mean
        (von Neumann's mean square successive difference).
        """
        if len(self.image_nats) < 2:
            return math.nan
        return math.sqrt(len(self.image_nats) * float((np.diff(self.image_nats) ** 2).mean()) / 2)

    @property
    def gradient_images(self) -> int:
        """Images passed through a gradient, all learners together."""
        return sum(learner.gradient_images for learner in self.learners)

    def curve(self, points: int = 200) -> list[tuple[int, float]]:
        """Return (images, cumulative nats) at up to ``points`` block ends, the last one included."""
        cumulative = np.cumsum(self.image_nats)
        ends = self.block_ends[:: -(-len(self.block_ends) // points)]
        ends = ends if ends[-1] == self.block_ends[-1] else (*ends, self.block_ends[-1])
        return [(end, float(cumulative[end - 1])) for end in ends]


def prequential(
    learners: Sequence[Learner],
    targets: Targets,
    blocks: Iterable[tuple[int, int]],
    *,
    mixture: Mixture,
    price: Literal["kl", "labels"] = "kl",
    static_nats: float = math.nan,
    epsilon: float = 0.0,
    survivors: int | None = None,
    trial: int = 128,
    on_block: Callable[[int, float], None] | None = None,
) -> Codelength:
    """Price every image with every learner before any of them learns from it.

    Σ_i KL(q_i ‖ p_i), equation (6); with ``price="labels"``, Σ_i [log q_i(y_i) − log p_i(y_i)], equation (3).

    Args:
        learners: Predictors, ``J`` of them.
        targets: The teacher's outputs on ``k`` images.
        blocks: Half-open ranges that cover the images in order; each is priced, then learnt from.
        mixture: Combines the ``J`` predictions.
        price: What an image costs.
        static_nats: Recorded with the result.
        epsilon: Recorded with the result.
        survivors: After ``trial`` images, and each time they have doubled again, the worse half of the learners that
            cost gradients stops, down to this many; None keeps all. Judged by the last half of the priced images.
        trial: See ``survivors``.
        on_block: Called after each block with the images priced and the nats so far.

    Raises:
        FloatingPointError: If the price of an image is not finite.
    """
    started = time.perf_counter()
    field = _Field(learners, targets.num_images)
    image_nats, block_ends, next_trial = np.zeros(targets.num_images), [], trial
    for start, end in blocks:
        soft, shown = targets.soft(slice(start, end)), targets.shown(slice(start, end))
        log_probs = field.predict(start, end)  # [active, n, C]
        mixed = mixture.code(log_probs, kl_nats(shown, log_probs))
        image_nats[start:end] = _price(soft, shown, mixed, price)
        field.note(start, end, _price(soft, shown, log_probs, price))
        block_ends.append(end)
        if not np.isfinite(image_nats[start:end]).all():
            raise FloatingPointError(f"its predictions of images {start} to {end} are not finite")
        if survivors is not None and end >= next_trial:
            mixture.keep(field.halve(end, survivors))
            next_trial = 2 * end
        if end < targets.num_images:
            field.learn(start, end, PricedTargets(targets, end))
        if on_block:
            on_block(end, math.fsum(image_nats[:end]))
    return Codelength(
        image_nats=image_nats,
        static_nats=static_nats,
        learners=field.records(mixture.log_weights.exp().tolist()),
        block_ends=tuple(block_ends),
        epsilon=epsilon,
        seconds=time.perf_counter() - started,
    )


class _Field:
    """The learners, which of them still run, and what each has cost."""

    def __init__(self, learners: Sequence[Learner], images: int):
        self.learners = learners
        self.active = list(range(len(learners)))
        self.nats = np.zeros((len(learners), images))
        self.images, self.gradient_images = ([0] * len(learners) for _ in range(2))

    def predict(self, start: int, end: int) -> Tensor:
        """Return the predictions of all that run, ``[active, n, C]``; what is not a number counts as no chance."""
        log_probs = torch.stack([self.learners[j].predict(start, end) for j in self.active])
        return torch.nan_to_num(log_probs, nan=-math.inf, neginf=-math.inf)

    def note(self, start: int, end: int, nats: NDArray[np.float64]) -> None:
        """Remember what images ``[start, end)`` cost each that runs, ``[active, n]``."""
        self.nats[self.active, start:end] = nats
        for j in self.active:
            self.images[j] = end

    def halve(self, end: int, survivors: int) -> list[int]:
        """Stop the worse half of those that cost gradients; return the positions of those that go on."""
        recent_nats = self.nats[:, end // 2 : end].sum(1)
        costly = sorted((j for j in self.active if self.learners[j].costs_gradients), key=lambda j: recent_nats[j])
        stopped = costly[halved(len(costly), survivors) :]
        for j in stopped:
            self.learners[j].stop()
        kept = [position for position, j in enumerate(self.active) if j not in stopped]
        self.active = [self.active[position] for position in kept]
        return kept

    def learn(self, start: int, end: int, priced: PricedTargets) -> None:
        """Let all that run learn from a block."""
        for j in self.active:
            self.gradient_images[j] += self.learners[j].learn(start, end, priced)

    def records(self, weights: list[float]) -> tuple[LearnerRecord, ...]:
        """Return one record per learner, given the weights of those that run."""
        weight = dict(zip(self.active, weights, strict=True))
        return tuple(
            LearnerRecord(learner.name, float(self.nats[j].sum()), self.images[j], weight.get(j, 0.0), gradients)
            for j, (learner, gradients) in enumerate(zip(self.learners, self.gradient_images, strict=True))
        )


def _price(soft: Tensor, shown: Tensor, log_probs: Tensor, price: str) -> NDArray[np.float64]:
    """Return nats of each image, ``[..., n]``, for predictions ``[..., n, C]``."""
    if price == "kl":
        return kl_nats(soft, log_probs).numpy()
    surprise = torch.where(shown == 0, soft - log_probs, 0.0)  # only the drawn label has log-probability 0
    return surprise.sum(-1).numpy()
