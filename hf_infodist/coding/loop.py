"""Prequential coding of a teacher's outputs: price each image, then learn from it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_infodist.coding.interfaces import AnyLearner, Follower, Learner, OnlineLearner, RemoteLearner
from hf_infodist.coding.mixture import Mixture
from hf_infodist.coding.nats import kl_nats
from hf_infodist.coding.targets import PricedTargets, Targets
from hf_infodist.processes import ProcessTeam
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.codelength import Codelength, LearnerRecord

TILE_NUMBERS = 2**23  # numbers in the predictions of all learners that are mixed at one time: 64 MiB, several times
MOST_TILE = 1024  # images
SPENT_NATS = 1e-9  # a loss below this is round-off: Adam would turn it into whole steps


class Keeper(Protocol):
    """Where a run leaves checkpoints, and finds them again."""

    def load(self, run: "Coding") -> None:
        """Put a run where the last checkpoint left it, if there is one."""
        ...

    def save(self, run: "Coding") -> None:
        """Write a checkpoint if it is time for one, or if the run is over."""
        ...


def prequential(
    learners: Sequence[AnyLearner],
    targets: Targets,
    blocks: Iterable[tuple[int, int]],
    protocol: CodingProtocol,
    *,
    mixture: Mixture,
    on_block: Callable[[int, float], None] | None = None,
    team: ProcessTeam | None = None,
    keeper: Keeper | None = None,
    block_by_block: bool = False,
) -> Codelength:
    """Price every image with every learner before any of them learns from it.

    Σ_i KL(q_i ‖ p_i), equation (6); with ``price="labels"``, Σ_i [log q_i(y_i) − log p_i(y_i)], equation (3).

    Args:
        learners: Predictors, ``J`` of them.
        targets: The teacher's outputs on ``k`` images.
        blocks: Half-open ranges that cover the images in order; each is priced, then learnt from.
        protocol: Says what an image costs, and when which of the learners that cost gradients stop: they are judged
            by the last half of the priced images.
        mixture: Combines the ``J`` predictions.
        on_block: Called after each block with the images priced and the nats so far.
        team: The processes among which the learners are spread; this one alone if None.
        keeper: Checkpoints; none are kept if None.
        block_by_block: Whether each block is coded alone, so that ``on_block`` may end the run as soon as can be.

    Raises:
        FloatingPointError: If the price of an image is not finite.
    """
    run = Coding(learners, targets, mixture, protocol, team or ProcessTeam(), block_by_block=block_by_block)
    if keeper:
        keeper.load(run)
    left = [end for _, end in blocks if end > run.end]  # the others were priced before the checkpoint
    for ends in run.rounds(run.end, left):
        run.code(ends)
        if keeper:
            keeper.save(run)
        if on_block:
            for end in ends:
                on_block(end, math.fsum(run.image_nats[:end]))
    return Codelength(
        image_nats=run.image_nats,
        static_nats=math.nan,
        marginal_nats=math.nan,
        learners=run.records(),
        block_ends=tuple(run.block_ends),
        epsilon=protocol.epsilon,
        seconds=run.seconds,
        image_hits=run.image_hits if targets.drawn else None,
    )


class Coding:
    """How far a run has come: what each image and each learner has cost, which learners go on, and the mixture."""

    def __init__(
        self,
        learners: Sequence[AnyLearner],
        targets: Targets,
        mixture: Mixture,
        protocol: CodingProtocol,
        team: ProcessTeam,
        tile_numbers: int = TILE_NUMBERS,
        block_by_block: bool = False,
    ):
        self.learners, self.targets, self.mixture, self.team = learners, targets, mixture, team
        self.price, self.reduction, self.next_trial = protocol.price, protocol.reduction, protocol.trial
        self.active = list(range(len(learners)))
        self.image_nats, self.image_hits = np.zeros((2, targets.num_images))
        self.learner_nats = np.zeros((len(learners) + 1, targets.num_images))  # the last row is the pool's
        self.images, self.gradient_images = [0] * len(learners), [0] * len(learners)
        self.block_ends: list[int] = []
        self.seconds = 0.0
        self._tile = max(1, min(MOST_TILE, tile_numbers // (len(learners) * targets.num_classes)))
        by_blocks = any(isinstance(learner, RemoteLearner) or not learner.one_by_one for learner in learners)
        self._most_at_once = 0 if by_blocks or block_by_block else self._tile

    @property
    def end(self) -> int:
        """Number of images priced."""
        return self.block_ends[-1] if self.block_ends else 0

    @property
    def here(self) -> "dict[int, Learner | OnlineLearner]":
        """The learners of this process that go on."""
        learners = ((j, self.learners[j]) for j in self.active)
        return {j: learner for j, learner in learners if not isinstance(learner, (RemoteLearner, Follower))}

    @property
    def followers(self) -> dict[int, Follower]:
        """Those that predict from what another one has become; none where that is on another process."""
        learners = ((j, self.learners[j]) for j in self.active)
        found = {j: learner for j, learner in learners if isinstance(learner, Follower)}
        return found if found and not isinstance(self._followed, RemoteLearner) else {}

    @property
    def trained(self) -> "dict[int, Learner]":
        """Those of them that learn after each block."""
        return {j: learner for j, learner in self.here.items() if not learner.one_by_one}  # type: ignore[misc]

    def rounds(self, start: int, ends: Iterable[int]) -> Iterator[list[int]]:
        """Yield ends of the blocks coded at once: as many as fit a tile, where nothing happens between blocks."""
        together: list[int] = []
        for end in ends:
            if together and end - start > self._most_at_once:
                yield together
                start, together = together[-1], []
            together.append(end)
        if together:
            yield together

    def code(self, ends: list[int]) -> None:
        """Price the images of the next blocks with all learners, then let them learn."""
        started, start, end = time.perf_counter(), self.end, ends[-1]
        shown_nats = np.zeros(len(self.learners) + 1)
        with self._following(start, end):
            for first, last in self._tiles(start, end):
                shown_nats += self._code_tile(first, last)
        for j in self.active:
            self.images[j] = end
        self.block_ends.extend(ends)
        if self.reduction and end >= self.next_trial:
            self._reduce(end, self.reduction)
        if end < self.targets.num_images:
            priced = PricedTargets(self.targets, end)
            for j, learner in self.trained.items():
                self.gradient_images[j] += learner.learn(start, end, priced, float(shown_nats[j]))
        self.seconds += time.perf_counter() - started

    def replay(self) -> None:
        """Let the learners that learn image by image code again what a checkpoint says was priced."""
        start = 0
        for *_, end in self.rounds(0, self.block_ends):
            for first, last in self._tiles(start, end):
                shown = self.targets.shown(slice(first, last))
                for learner in self.here.values():
                    if learner.one_by_one:
                        learner.code(first, last, shown)  # type: ignore[union-attr]
            start = end

    def _tiles(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of images whose predictions are in memory at one time; they do not change the number."""
        return ((first, min(first + self._tile, end)) for first in range(start, end, self._tile))

    def _code_tile(self, start: int, end: int) -> NDArray[np.float64]:
        """Price images; return what each learner's predictions cost under what is shown, ``[J + 1]``."""
        soft = self.targets.soft(slice(start, end))
        shown = self.targets.shown(slice(start, end)) if self.targets.drawn else soft
        mixed, log_probs, losses = self.mixture.code(self._predict(start, end, shown), shown)
        self.image_nats[start:end] = _price(soft, shown, mixed, self.price)
        self.image_hits[start:end] = (mixed.argmax(-1) == shown.argmax(-1)).numpy()
        if not (finite := np.isfinite(self.image_nats[start:end])).all():
            raise FloatingPointError(f"the price of image {start + int(finite.argmin())} is not finite")
        rows = self.active if self.mixture.pool is None else [*self.active, -1]
        self.learner_nats[rows, start:end] = losses if shown is soft else _price(soft, shown, log_probs, self.price)
        paid = np.zeros(len(self.learners) + 1)
        paid[rows] = losses.sum(1)
        return paid

    def _predict(self, start: int, end: int, shown: Tensor) -> Tensor:
        """Return the predictions of all that go on, ``[active, n, C]``; what is not a number counts as no chance."""
        own = {
            j: learner.code(start, end, shown) if learner.one_by_one else learner.predict(start, end)  # type: ignore[union-attr]
            for j, learner in (self.here | self.followers).items()
        }
        everyones = self.team.merge(own)
        log_probs = torch.stack([everyones[j] for j in self.active])
        return torch.nan_to_num_(log_probs, nan=-math.inf, neginf=-math.inf)

    def _reduce(self, end: int, reduction: int) -> None:
        """Stop all but the best of the learners that cost gradients."""
        costly = self._costly(end)
        stopped = costly[-(-len(costly) // reduction) :]
        for j in stopped:
            if j in self.trained:
                self.trained[j].stop()
        self.mixture.keep([position for position, j in enumerate(self.active) if j not in stopped])
        self.active = [j for j in self.active if j not in stopped]
        self.next_trial = 2 * end

    def _costly(self, end: int) -> list[int]:
        """Return those that cost gradients and go on, by what they have cost over the last half of the images."""
        recent_nats = self.learner_nats[:, end // 2 : end].sum(1)
        return sorted((j for j in self.active if self.learners[j].costs_gradients), key=lambda j: recent_nats[j])

    @property
    def _followed(self) -> AnyLearner:
        """The best of these, the same on every process."""
        return self.learners[self._costly(self.end)[0]]

    @contextmanager
    def _following(self, start: int, end: int) -> Iterator[None]:
        """Let followers read what they follow before a block, and forget it afterwards."""
        followers, priced = self.followers.values(), PricedTargets(self.targets, start)
        for follower in followers:
            follower.follow(self._followed, start, end, priced)
        yield
        for follower in followers:
            follower.let_go()

    def records(self) -> tuple[LearnerRecord, ...]:
        """Return one record per learner, and one of their pool."""
        names = [*(learner.name for learner in self.learners), "pool"]
        weights = self.mixture.log_weights.exp().tolist()
        weight = dict(zip([*self.active, len(self.learners)], weights, strict=False))  # the pool has the last
        gradients = [*self._gradient_images(), 0]
        return tuple(
            LearnerRecord(name, float(self.learner_nats[j].sum()), images, weight.get(j, 0.0), gradients[j])
            for j, (name, images) in enumerate(zip(names, [*self.images, self.end], strict=True))
            if j < len(self.learners) or self.mixture.pool
        )

    def _gradient_images(self) -> list[int]:
        own = {
            j: count for j, count in enumerate(self.gradient_images) if not isinstance(self.learners[j], RemoteLearner)
        }
        everyones = self.team.merge(own)
        return [everyones[j] for j in range(len(self.learners))]

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes but the learners themselves, for a checkpoint."""
        return {
            "image_nats": torch.from_numpy(self.image_nats),
            "image_hits": torch.from_numpy(self.image_hits),
            "learner_nats": torch.from_numpy(self.learner_nats),
            "mixture": self.mixture.state_dict(),
            "counts": {name: getattr(self, name) for name in _COUNTS} | {"gradient_images": self._gradient_images()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; learners that had stopped free their memory."""
        self.image_nats, self.learner_nats = state["image_nats"].numpy(), state["learner_nats"].numpy()
        self.image_hits = state["image_hits"].numpy()
        self.mixture.load_state_dict(state["mixture"])
        before = self.trained
        for name in _COUNTS:
            setattr(self, name, state["counts"][name])
        for j in before.keys() - self.trained.keys():
            before[j].stop()


_COUNTS = ("active", "images", "gradient_images", "block_ends", "next_trial", "seconds")


def _price(soft: Tensor, shown: Tensor, log_probs: Tensor, price: str) -> NDArray[np.float64]:
    """Return nats of each image, ``[..., n]``, for predictions ``[..., n, C]``."""
    if price == "kl":
        return kl_nats(soft, log_probs).numpy()
    surprise = torch.where(shown == 0, soft - log_probs, 0.0)  # only the drawn label has log-probability 0
    return surprise.sum(-1).numpy()
