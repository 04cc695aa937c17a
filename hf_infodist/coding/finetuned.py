"""Learners that fine-tune a copy of the student by gradient descent."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_infodist.coding.adam import Average, UnitAdam
from hf_infodist.coding.label_learners import Permutation
from hf_infodist.coding.learners import Start, log_softmax64
from hf_infodist.coding.loop import SPENT_NATS
from hf_infodist.coding.recompute import Statistics, choose_parts, recomputing
from hf_infodist.coding.targets import PricedTargets, RevealedTargets
from hf_infodist.coding.units import parameter_units, with_mean_one
from hf_infodist.models.heads import logits_and_features
from hf_infodist.outputs.arrays import Index, Picked, Pixels, ResidentPixels, sent
from hf_infodist.outputs.layers import Layer, choose_layers, reading
from hf_infodist.processes import ProcessTeam
from hf_infodist.protocol import CodingProtocol, LearnerSpec
from hf_infodist.results.codelength import HEAD_IMAGES

_WHOLE = slice(None)
Made = TypeVar("Made")
_MOST_READ = 1e30  # of a feature, where training diverges: its square is a number still


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


class Trained:
    """What the learners trained by Adam share: schedule, steps, averaging, and where they start.

    Where the classes turn out to come in another order, they start anew with a head in that order: after any of the
    blocks that begin within the first 256 images, if the permutation has explained the block better than they have.
    """

    costs_gradients = True
    one_by_one = False
    share = ProcessTeam()  # computes the gradients of a batch
    device = torch.device("cpu")

    def __init__(self, start: Start, spec: LearnerSpec, protocol: CodingProtocol, permutation: Permutation | None):
        self.name = spec.name
        self.spec, self.protocol, self.permutation = spec, protocol, permutation
        self.schedule = Schedule(protocol)
        self.unexplained_nats = 0.0
        self._start_at(start)

    def _start_at(self, start: Start) -> None:
        self.start, self.initial = start, start.logits
        self.network = self._new_network()
        self.optimizer = self._new_optimizer()
        self.averaged = Average(self.network) if self.protocol.averaging else None

    @property
    def steps(self) -> int:
        """How many have been made; to know it waits for the device."""
        return int(self.optimizer.steps)

    def predict(self, start: int, end: int) -> Tensor:
        """Return log-probabilities, ``[n, C]``; those of the start itself until the first step is made."""
        if self.steps:
            logits = self._predict_logits(slice(start, end))
        else:
            logits = torch.from_numpy(np.array(self.initial[start:end]))
        return log_softmax64(logits.cpu())

    def learn(self, start: int, end: int, priced: PricedTargets, nats: float) -> int:
        """Take the steps that the protocol has for a block; a student that was right so far takes none."""
        self.unexplained_nats += nats
        if self.unexplained_nats < SPENT_NATS:
            return 0
        if self.protocol.restart:
            self._start_at(self.start)
        self._reorder_classes(start, end, nats)
        steps, shown = list(self.schedule.steps(start, end)), self._shown(priced)
        for index, (_, factor) in zip(self._indices([index for index, _ in steps]), steps, strict=True):
            self.optimizer.set_factor(factor)
            self._step(index, shown)
        return sum(len(index) for index, _ in steps) if self.costs_gradients else 0

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
            "unexplained_nats": self.unexplained_nats,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged and self.averaged.module.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        rows = state["rows"] and tuple(state["rows"])
        if rows != self.start.rows:
            self._start_at(replace(self.start, rows=rows))
        self.unexplained_nats = state["unexplained_nats"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged:
            self.averaged.module.load_state_dict(state["averaged"])
        self.schedule.load_state_dict(state["schedule"])

    def stop(self) -> None:
        """Free the network, its average and the optimiser's state."""
        del self.network, self.averaged, self.optimizer

    def _step(self, index: Picked, shown: PricedTargets | RevealedTargets) -> None:
        part = self._part(len(index))
        own: Any = index[part]
        self._update(self._inputs(own), sent(shown[own], self.device), len(index), shared=part != _WHOLE)

    def _update(self, inputs: Any, targets: Tensor, batch: int, *, shared: bool = False) -> None:
        """Make one step; nothing in it waits for the device, which finds out itself whether there is one to be made.

        Args:
            inputs: From `_inputs`, those of this process.
            targets: Log-probabilities shown of them.
            batch: Images of all processes.
            shared: Whether there are others.
        """
        self.optimizer.clear()
        divergence = self._gradients(inputs, targets, batch)
        if shared:
            self.share.add([divergence])
            self.share.add([p.grad for p in self.network.parameters() if p.grad is not None])
        skip = (divergence < SPENT_NATS).float()
        self.optimizer.step(skip)
        if self.averaged is not None:
            self.averaged.update(self.optimizer.steps, skip)

    def _gradients(self, inputs: Any, targets: Tensor, batch: int) -> Tensor:
        """Compute gradients of the loss on some images of a batch; return their share of its mean divergence."""
        probs = targets.exp()
        loss = -(probs * torch.log_softmax(self._train_logits(inputs).double(), dim=-1)).sum() / batch
        loss.backward()
        return loss.detach() + torch.xlogy(probs, probs).sum() / batch

    def _part(self, batch: int) -> slice:
        """Return the part of a batch whose gradients this process computes."""
        return _WHOLE

    @property
    def _predictor(self) -> nn.Module:
        return self.network if self.averaged is None else self.averaged.module

    def _new_network(self) -> nn.Module:
        raise NotImplementedError

    def _new_optimizer(self) -> UnitAdam:
        raise NotImplementedError

    def _predict_logits(self, index: slice) -> Tensor:
        raise NotImplementedError

    def _indices(self, indices: Sequence[NDArray[np.integer]]) -> Sequence[Picked]:
        """Return indices of several batches as `_inputs` takes them."""
        return indices

    def _shown(self, priced: PricedTargets) -> PricedTargets | RevealedTargets:
        """Return what may be learnt, by the same indices."""
        return priced

    def _inputs(self, index: Index) -> Any:
        raise NotImplementedError

    def _train_logits(self, inputs: Any) -> Tensor:
        raise NotImplementedError


class FineTuned(Trained):
    """Trains every weight of the student by Adam; dropout is off, and there is no weight decay.

    Where memory runs out in a step, it is made again with activations computed twice, and so are all later ones; where
    it does while images are predicted or read, half as many are at one time.

    Args:
        pixels: The images as the student sees them, where they are.
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
        self.recomputed: tuple[str, ...] = ()
        self._revealed: RevealedTargets | None = None
        super().__init__(start, spec, protocol, permutation)

    def _new_network(self) -> nn.Module:
        assert self.start.network is not None
        network = self.start.network(self.start.rows).eval().requires_grad_(True)
        parameter = next(network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        self.statistics = Statistics(self.norms if self._adapts else [])
        self.units = parameter_units(network, self._inputs(slice(0, min(32, len(self.pixels)))))
        if self.spec.step == "mean":
            self.units = with_mean_one(self.units, network)
        return network

    def _new_optimizer(self) -> UnitAdam:
        named = dict(self.network.named_parameters())
        return UnitAdam(list(named.values()), [self.units[name] for name in named], self.spec.lr)

    def layers(self) -> tuple[Layer, ...]:
        """Return which layers are read of the network as it is."""
        return choose_layers(self._predictor.eval(), self.start.heads, self._inputs(slice(0, 2)))

    def read(self, rows: slice, layers: Sequence[Layer]) -> tuple[NDArray, ...]:
        """Return what the network as it is makes of images: logits, features and layers, ``[n, ...]``, all finite."""
        network = self._predictor.eval()

        def made(images: Tensor) -> list[NDArray]:
            with reading(network, layers, len(images)) as values:
                outputs = logits_and_features(network, self.start.heads, images)
            parts = (torch.nan_to_num(part.to(self.dtype)) for part in (*outputs, values()))
            return [part.clamp(-_MOST_READ, _MOST_READ).cpu().numpy() for part in parts]

        return tuple(np.concatenate(parts) for parts in zip(*self._in_chunks(rows, made), strict=True))

    def _inputs(self, index: Index) -> Tensor:
        return self.pixels.batch(index, self.device, self.dtype)

    def stop(self) -> None:
        """Free the network, its average, the optimiser's state and what was shown."""
        super().stop()
        self._revealed = None

    def _indices(self, indices: Sequence[NDArray[np.integer]]) -> Sequence[Picked]:
        return self.pixels.indices(indices)

    def _shown(self, priced: PricedTargets) -> PricedTargets | RevealedTargets:
        if not isinstance(self.pixels, ResidentPixels):
            return priced
        self._revealed = self._revealed or RevealedTargets(len(self.pixels), self.start.num_classes, self.device)
        self._revealed.reveal(priced)
        return self._revealed

    @property
    def _adapts(self) -> bool:
        return self.spec.batchnorm == "adapting" and bool(self.norms)

    def _part(self, batch: int) -> slice:
        """Share a batch evenly, unless it is needed whole for its statistics, or too small."""
        if self.share.size == 1 or self._adapts or batch < self.share.size:
            return _WHOLE
        return slice(self.share.index, None, self.share.size)

    def _train_logits(self, images: Tensor) -> Tensor:
        adapting = self._adapts and len(images) > 1  # one image has no batch statistics
        if self.norms and self.norms[0].training != adapting:
            for norm in self.norms:
                norm.train(adapting)
        with self.autocast():
            return self.network(images)

    def _gradients(self, inputs: Tensor, targets: Tensor, batch: int) -> Tensor:
        if self.recomputed:
            return self._recomputed_gradients(inputs, targets, batch)
        self.statistics.note()
        try:
            return super()._gradients(inputs, targets, batch)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            lacking = error.with_traceback(None)  # which holds what was computed so far
        self.statistics.put_back()
        self.optimizer.clear()
        clear_device_cache(garbage_collection=True)
        self.recomputed = self._choose_recomputed(inputs[:1])
        try:
            return self._recomputed_gradients(inputs, targets, batch)
        except RuntimeError as error:  # a network may refuse to be run in parts
            raise lacking from error

    def _recomputed_gradients(self, inputs: Tensor, targets: Tensor, batch: int) -> Tensor:
        with recomputing(self.network, self.recomputed):
            return super()._gradients(inputs, targets, batch)

    def _choose_recomputed(self, images: Tensor) -> tuple[str, ...]:
        for norm in self.norms:
            norm.eval()
        with self.autocast():
            return choose_parts(self.network, images)

    def _predict_logits(self, index: slice) -> Tensor:
        return torch.cat(self._in_chunks(index, self._predictor.eval()))  # batch statistics are for training only

    def _in_chunks(self, rows: slice, made: Callable[[Tensor], Made]) -> list[Made]:
        """Return what is made of images, a few at a time: half as many from where on memory runs out."""
        while True:
            try:
                with torch.no_grad(), self.autocast():
                    firsts = range(rows.start, rows.stop, self.chunk)
                    return [made(self._inputs(slice(i, min(i + self.chunk, rows.stop)))) for i in firsts]
            except RuntimeError as error:
                if self.chunk == 1 or not should_reduce_batch_size(error):
                    raise
            self.chunk //= 2
            clear_device_cache(garbage_collection=True)
