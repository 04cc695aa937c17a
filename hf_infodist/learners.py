"""The learners: who predicts a teacher's outputs, in closed form or by training."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_infodist.codelength import HEAD_IMAGES
from hf_infodist.coding import SPENT_NATS, PricedTargets
from hf_infodist.kernels import Factors, Kernel, Regression, flattened
from hf_infodist.label_learners import Permutation
from hf_infodist.outputs import Pixels, Rows, StartLogits
from hf_infodist.processes import ProcessTeam
from hf_infodist.protocol import CodingProtocol, LearnerSpec
from hf_infodist.units import parameter_units, with_mean_one

_WHOLE = slice(None)
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
    """

    outputs: Rows
    num_classes: int
    rows: tuple[int, ...] | None
    named: bool = False
    network: Callable[[Sequence[int] | None], nn.Module] | None = None

    @property
    def logits(self) -> StartLogits:
        """The student's first logits, ``[k, C]``."""
        return StartLogits(self.outputs, self.rows, self.num_classes)


class TeacherRegression:
    """Regresses what a teacher says on a student's features, for several learners; each tile is worked out once.

    Soft targets are regressed as log-probabilities less what the student starts from, both centred over classes; drawn
    labels as indicators less the probabilities of the start.

    Args:
        factors: Of the student.
        kernel: Which of its covariances.
        start: The student in the teacher's label space.
        drawn: Whether labels are shown.
        permutation: If given, the start is the student's own outputs with its classes in the order believed in.
    """

    def __init__(
        self, factors: Factors, kernel: Kernel, start: Start, *, drawn: bool, permutation: Permutation | None = None
    ):
        self.start, self.drawn, self.permutation = start, drawn, permutation
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
        first = log_softmax64(torch.from_numpy(np.array(self.start.logits[start:end])))
        targets = shown.exp() - first.exp() if self.drawn else _centred(shown) - _centred(first)
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


class Schedule:
    """Which priced images make up each gradient step after a block, and at which share of the learning rate."""

    def __init__(self, protocol: CodingProtocol):
        self.protocol = protocol
        self._rng = np.random.default_rng([protocol.seed, 2])

    def steps(self, start: int, end: int) -> Iterator[tuple[NDArray[np.integer], float]]:
        """Yield (indices of a batch, factor on the learning rate) for the block ``[start, end)``."""
        batches = list(self._passes(end) if self.protocol.passes else self._online(start, end))
        warm_up = max(1, len(batches) // 10)
        for i, batch in enumerate(batches):
            factor = min(1, (i + 1) / warm_up) * (1 - i / len(batches)) if self.protocol.anneal else 1.0
            yield batch, factor

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the random generator."""
        return dict(self._rng.bit_generator.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._rng.bit_generator.state = state

    def _passes(self, end: int) -> Iterator[NDArray[np.integer]]:
        for _ in range(self.protocol.passes):
            order = self._rng.permutation(end)
            yield from np.split(order, range(self.protocol.batch, end, self.protocol.batch))

    def _online(self, start: int, end: int) -> Iterator[NDArray[np.integer]]:
        size = self.protocol.batch
        for first in range(start, end, size):
            yield np.arange(first, min(first + size, end))
            for _ in range(self.protocol.replay):
                yield self._rng.choice(end, min(size, end), replace=False, shuffle=False)


class _Average:
    """An exponential moving average of weights and buffers, whose horizon grows to an eighth of the steps made."""

    def __init__(self, network: nn.Module):
        self.network = copy.deepcopy(network)
        averaged, current = (n.state_dict(keep_vars=True).values() for n in (self.network, network))
        self._pairs = [(a, c) for a, c in zip(averaged, current, strict=True) if a.is_floating_point()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Move towards the network as it is after ``steps`` steps."""
        share = 1 if steps == 1 else min(0.1, 8 / steps)
        for averaged, current in self._pairs:
            averaged.lerp_(current, share)


class Trained:
    """What the learners trained by Adam share: schedule, steps, averaging, and where they start.

    Where the classes turn out to come in another order, they start anew with a head in that order: after any of the
    blocks that begin within the first 256 images, if the permutation has explained the block better than they have.
    """

    costs_gradients = True
    one_by_one = False
    share = ProcessTeam()  # computes the gradients of a batch

    def __init__(self, start: Start, spec: LearnerSpec, protocol: CodingProtocol, permutation: Permutation | None):
        self.name = spec.name
        self.spec, self.protocol, self.permutation = spec, protocol, permutation
        self.schedule = Schedule(protocol)
        self.unexplained_nats = 0.0
        self._start_at(start)

    def _start_at(self, start: Start) -> None:
        self.start, self.initial = start, start.logits
        self.network = self._new_network()
        self.steps = 0
        self.optimizer = torch.optim.Adam(self._parameter_groups(), lr=self.spec.lr, fused=True)
        self._lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.averaged = _Average(self.network) if self.protocol.averaging else None

    def predict(self, start: int, end: int) -> Tensor:
        """Return log-probabilities, ``[n, C]``; those of the start itself until the first step is made."""
        if self.steps:
            logits = self._predict_logits(slice(start, end))
        else:
            logits = torch.from_numpy(np.array(self.initial[start:end]))
        return log_softmax64(logits)

    def learn(self, start: int, end: int, priced: PricedTargets, nats: float) -> int:
        """Take the steps that the protocol has for a block; a student that was right so far takes none."""
        self.unexplained_nats += nats
        if self.unexplained_nats < SPENT_NATS:
            return 0
        if self.protocol.restart:
            self._start_at(self.start)
        self._reorder_classes(start, end, nats)
        images = 0
        for index, factor in self.schedule.steps(start, end):
            self._step(index, priced[index], factor)
            images += len(index)
        return images if self.costs_gradients else 0

    def _reorder_classes(self, start: int, end: int, nats: float) -> None:
        if self.permutation is None or start >= HEAD_IMAGES:
            return
        rows = self.permutation.rows()
        if rows != self.start.rows and self.permutation.image_nats[start:end].sum() < nats:
            self._start_at(replace(self.start, rows=rows))

    def state_dict(self) -> dict[str, Any]:
        """Return head start, weights, optimiser, average and schedule."""
        return {
            "rows": self.start.rows and list(self.start.rows),
            "steps": self.steps,
            "unexplained_nats": self.unexplained_nats,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged and self.averaged.network.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        rows = state["rows"] and tuple(state["rows"])
        if rows != self.start.rows:
            self._start_at(replace(self.start, rows=rows))
        self.steps, self.unexplained_nats = state["steps"], state["unexplained_nats"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged:
            self.averaged.network.load_state_dict(state["averaged"])
        self.schedule.load_state_dict(state["schedule"])

    def stop(self) -> None:
        """Free the network, its average and the optimiser's state."""
        del self.network, self.averaged, self.optimizer

    def _step(self, index: NDArray[np.integer], targets: Tensor, factor: float) -> None:
        part = self._part(len(index))
        logits = self._train_logits(index[part])
        targets = targets[part].to(logits.device)
        loss = -(targets.exp() * torch.log_softmax(logits.double(), dim=-1)).sum() / len(index)
        divergence = loss.detach() + torch.xlogy(targets.exp(), targets.exp()).sum() / len(index)
        if part != _WHOLE:
            self.share.add([divergence])
        if divergence.item() < SPENT_NATS:
            return
        for group, lr in zip(self.optimizer.param_groups, self._lrs, strict=True):
            group["lr"] = lr * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if part != _WHOLE:
            self.share.add([p.grad for p in self.network.parameters() if p.grad is not None])
        self.optimizer.step()
        self.steps += 1
        if self.averaged is not None:
            self.averaged.update(self.steps)

    def _part(self, batch: int) -> slice:
        """Return the part of a batch whose gradients this process computes."""
        return _WHOLE

    @property
    def _predictor(self) -> nn.Module:
        return self.network if self.averaged is None else self.averaged.network

    def _new_network(self) -> nn.Module:
        raise NotImplementedError

    def _parameter_groups(self) -> list[dict]:
        raise NotImplementedError

    def _predict_logits(self, index: slice) -> Tensor:
        raise NotImplementedError

    def _train_logits(self, index: NDArray[np.integer]) -> Tensor:
        raise NotImplementedError


class FineTuned(Trained):
    """Trains every weight of the student by Adam; dropout is off, and there is no weight decay.

    Args:
        pixels: The images as the student sees them.
        start: Makes the student, on its device, and says what it predicts at first.
        spec: Learning rate and treatment of BatchNorm.
        protocol: Schedule.
        permutation: Tells whether classes come in another order.
        autocast: Context of the forward passes (mixed precision).
        chunk: Images per evaluation pass; does not change the number.
        share: Processes that compute the gradients of each batch together; all of them hold this learner.
    """

    def __init__(
        self,
        pixels: Pixels,
        start: Start,
        spec: LearnerSpec,
        protocol: CodingProtocol,
        permutation: Permutation | None = None,
        *,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
        chunk: int = 64,
        share: ProcessTeam | None = None,
    ):
        self.pixels, self.autocast, self.chunk = pixels, autocast, chunk
        self.share = share or ProcessTeam()
        super().__init__(start, spec, protocol, permutation)

    def _new_network(self) -> nn.Module:
        assert self.start.network is not None
        network = self.start.network(self.start.rows).eval().requires_grad_(True)
        parameter = next(network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        self.units = parameter_units(network, self._images(slice(0, min(32, len(self.pixels)))))
        if self.spec.step == "mean":
            self.units = with_mean_one(self.units, network)
        return network

    def _images(self, index: slice | NDArray[np.integer]) -> Tensor:
        return self.pixels.batch(index, self.device, self.dtype)

    def _parameter_groups(self) -> list[dict]:
        """One group per tensor: Adam in units of the tensor's own scale."""
        return [
            {"params": [p], "lr": self.spec.lr * self.units[name], "eps": 1e-8 / self.units[name]}
            for name, p in self.network.named_parameters()
        ]

    @property
    def _adapts(self) -> bool:
        return self.spec.batchnorm == "adapting" and bool(self.norms)

    def _part(self, batch: int) -> slice:
        """Share a batch evenly, unless it is needed whole for its statistics, or too small."""
        if self.share.size == 1 or self._adapts or batch < self.share.size:
            return _WHOLE
        return slice(self.share.index, None, self.share.size)

    def _train_logits(self, index: NDArray[np.integer]) -> Tensor:
        for norm in self.norms:  # one image has no batch statistics
            norm.train(self._adapts and len(index) > 1)
        with self.autocast():
            return self.network(self._images(index))

    @torch.no_grad()
    def _predict_logits(self, index: slice) -> Tensor:
        predictor = self._predictor.eval()  # batch statistics are for training only
        with self.autocast():
            chunks = [
                predictor(self._images(slice(first, min(first + self.chunk, index.stop)))).cpu()
                for first in range(index.start, index.stop, self.chunk)
            ]
        return torch.cat(chunks)


def _centred(log_probs: Tensor) -> Tensor:
    """Return log-probabilities less their mean over classes; far below all that matters they are all the same."""
    clipped = log_probs.clamp_min(_LEAST_TARGET)
    return clipped - clipped.mean(-1, keepdim=True)


def log_softmax64(logits: Tensor) -> Tensor:
    """Return log-probabilities in float64: in float32 round-off costs nats."""
    return torch.log_softmax(logits.double(), dim=-1)
