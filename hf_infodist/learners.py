"""The learners: who predicts a teacher's outputs, and how each of them trains."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import skip_init

from hf_infodist.coding import SPENT_NATS, Logits, PricedTargets, kl_nats
from hf_infodist.outputs import Pixels
from hf_infodist.protocol import CodingProtocol, LearnerSpec
from hf_infodist.units import parameter_units, with_mean_one


class _Fixed:
    """What the learners that never learn share."""

    costs_gradients = False

    def learn(self, start: int, end: int, priced: PricedTargets) -> int:
        """Learn nothing."""
        return 0

    def stop(self) -> None:
        """Free nothing."""


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

    def __init__(self, logits: Logits):
        self.logits = logits

    def predict(self, start: int, end: int) -> Tensor:
        """Return the start's log-probabilities, ``[n, C]``."""
        return log_softmax64(torch.from_numpy(np.array(self.logits[start:end])))


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


class _Gradient:
    """What the learners trained by Adam share: schedule, steps, averaging, restart."""

    costs_gradients = True

    def __init__(self, network: nn.Module, spec: LearnerSpec, protocol: CodingProtocol, initial: Logits):
        self.name = spec.name
        self.spec, self.protocol = spec, protocol
        self.initial = initial  # [k, C] logits of the start
        self.schedule = Schedule(protocol)
        self.network = network
        self.unexplained_nats = 0.0
        self._newest: Tensor | None = None
        self._start = copy.deepcopy(network.state_dict()) if protocol.restart else None
        self._reset()

    def _reset(self) -> None:
        if self._start is not None:
            self.network.load_state_dict(self._start)
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
        self._newest = log_softmax64(logits)
        return self._newest

    def learn(self, start: int, end: int, priced: PricedTargets) -> int:
        """Take the steps that the protocol has for a block; a student that was right so far takes none."""
        if self._newest is not None:
            self.unexplained_nats += float(kl_nats(priced[start:end], self._newest).sum())
        if self.unexplained_nats < SPENT_NATS:
            return 0
        if self.protocol.restart:
            self._reset()
        images = 0
        for index, factor in self.schedule.steps(start, end):
            self._step(index, priced[index], factor)
            images += len(index)
        return images if self.costs_gradients else 0

    def stop(self) -> None:
        """Free the network, its average and the optimiser's state."""
        del self.network, self.averaged, self.optimizer

    def _step(self, index: NDArray[np.integer], targets: Tensor, factor: float) -> None:
        logits = self._train_logits(index)
        targets = targets.to(logits.device)
        loss = -(targets.exp() * torch.log_softmax(logits.double(), dim=-1)).sum(-1).mean()
        entropy = -torch.xlogy(targets.exp(), targets.exp()).sum(-1).mean()
        if (loss - entropy).item() < SPENT_NATS:
            return
        for group, lr in zip(self.optimizer.param_groups, self._lrs, strict=True):
            group["lr"] = lr * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        if self.averaged is not None:
            self.averaged.update(self.steps)

    @property
    def _predictor(self) -> nn.Module:
        return self.network if self.averaged is None else self.averaged.network

    def _parameter_groups(self) -> list[dict]:
        raise NotImplementedError

    def _predict_logits(self, index: slice) -> Tensor:
        raise NotImplementedError

    def _train_logits(self, index: NDArray[np.integer]) -> Tensor:
        raise NotImplementedError


class Head(_Gradient):
    """Learns a linear correction of the start's logits on frozen penultimate features.

    Features are divided by their root mean square over the images: neither their order nor their scale matters.

    Args:
        features: Penultimate features of the start, ``[k, D]``.
        initial: Logits of the start in the teacher's label space, ``[k, C]``.
        spec: Learning rate.
        protocol: Schedule.
    """

    def __init__(
        self,
        features: NDArray[np.floating],
        initial: Logits,
        spec: LearnerSpec,
        protocol: CodingProtocol,
    ):
        self.features, self.scale = features, _feature_rms(features)
        linear = skip_init(nn.Linear, features.shape[1], initial.shape[1], dtype=torch.float64)  # draws no numbers
        nn.init.zeros_(linear.weight), nn.init.zeros_(linear.bias)
        super().__init__(linear, spec, protocol, initial)

    def _parameter_groups(self) -> list[dict]:
        """One group; a step moves a logit by about the rate, however many features there are."""
        return [{"params": list(self.network.parameters()), "lr": self.spec.lr / self.features.shape[1]}]

    def _logits(self, network: nn.Module, index: slice | NDArray[np.integer]) -> Tensor:
        features = torch.from_numpy(np.array(self.features[index], dtype=np.float64)) / self.scale
        return torch.from_numpy(np.array(self.initial[index], dtype=np.float64)) + network(features)

    def _train_logits(self, index: NDArray[np.integer]) -> Tensor:
        return self._logits(self.network, index)

    @torch.no_grad()
    def _predict_logits(self, index: slice) -> Tensor:
        return self._logits(self._predictor, index)


class FineTuned(_Gradient):
    """Trains every weight of the student by Adam; dropout is off, and there is no weight decay.

    Args:
        network: The student, on its device; trained in place.
        pixels: The images as the student sees them.
        initial: Logits of the start, ``[k, C]``.
        spec: Learning rate and treatment of BatchNorm.
        protocol: Schedule.
        autocast: Context of the forward passes (mixed precision).
        chunk: Images per evaluation pass; does not change the number.
    """

    def __init__(
        self,
        network: nn.Module,
        pixels: Pixels,
        initial: Logits,
        spec: LearnerSpec,
        protocol: CodingProtocol,
        *,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
        chunk: int = 64,
    ):
        self.pixels, self.autocast, self.chunk = pixels, autocast, chunk
        parameter = next(network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        network.eval().requires_grad_(True)
        self.units = parameter_units(network, self._images(slice(0, min(32, len(pixels)))))
        if spec.step == "mean":
            self.units = with_mean_one(self.units, network)
        self.norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        super().__init__(network, spec, protocol, initial)

    def _images(self, index: slice | NDArray[np.integer]) -> Tensor:
        return self.pixels.batch(index, self.device, self.dtype)

    def _parameter_groups(self) -> list[dict]:
        """One group per tensor: Adam in units of the tensor's own scale."""
        return [
            {"params": [p], "lr": self.spec.lr * self.units[name], "eps": 1e-8 / self.units[name]}
            for name, p in self.network.named_parameters()
        ]

    def _train_logits(self, index: NDArray[np.integer]) -> Tensor:
        for norm in self.norms:  # one image has no batch statistics
            norm.train(self.spec.batchnorm == "adapting" and len(index) > 1)
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


def log_softmax64(logits: Tensor) -> Tensor:
    """Return log-probabilities in float64: in float32 round-off costs nats."""
    return torch.log_softmax(logits.double(), dim=-1)


def _feature_rms(features: NDArray[np.floating], chunk: int = 4096) -> Tensor:
    """Return the root mean square of each feature, ``[D]``; 1 where a feature is always zero."""
    squares = sum(
        np.square(features[first : first + chunk], dtype=np.float64).sum(0) for first in range(0, len(features), chunk)
    )
    rms = torch.from_numpy(np.sqrt(squares / len(features)))
    return torch.where(rms > 0, rms, 1.0)
