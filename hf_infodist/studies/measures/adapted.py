"""Learners tried beside those of ``thorough``: kernels on what fine-tuning makes of the features, less to train."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hf_infodist.coding import trainer
from hf_infodist.coding.features import Distances
from hf_infodist.coding.finetuned import FineTuned
from hf_infodist.coding.learners import _centred, log_softmax64
from hf_infodist.coding.loop import prequential
from hf_infodist.coding.mixture import Mixture
from hf_infodist.coding.targets import PricedTargets, Targets
from hf_infodist.models.heads import logits_and_features
from hf_infodist.outputs.arrays import Outputs, Rows
from hf_infodist.outputs.layers import choose_layers, reading
from hf_infodist.pair import Pair
from hf_infodist.processes import ProcessTeam, one_thread
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.codelength import Codelength

FEATURES = ("all", "last", "penultimate")
_GAMMA, _NOISE = 0.3, 0.01  # those of the kernels on the student's own features
_LAST_STAGE = 0.4  # of the tensors, in the order of the network


class Adaptation:
    """The features of the fine-tuned learner that goes on, read anew for all images of each block and before.

    Args:
        tuned: Learners of which all but one stop in the end.
        heads: Of the student.
    """

    def __init__(self, tuned: Sequence[FineTuned], heads: tuple[str, ...]):
        self._tuned, self._heads = tuned, heads
        self._end, self._distances = 0, {"": torch.empty(0)}

    def distances(self, end: int) -> dict[str, Tensor] | None:
        """Return D between the first images, ``[end, end]`` for each of `features.FEATURES`; None before any step."""
        left = [learner for learner in self._tuned if hasattr(learner, "network")]
        learner = left[min(1, len(left) - 1)]  # while all go on, the middle rate
        if not learner.steps:
            return None
        if self._end != end:
            self._end, self._distances = end, Distances(self._read(learner, end)).between(slice(0, end), slice(0, end))
        return self._distances

    @torch.no_grad()
    def _read(self, learner: FineTuned, end: int) -> Outputs:
        network = learner.network.eval()
        layers, read = choose_layers(network, self._heads, learner._inputs(slice(0, 2))), []
        for first in range(0, end, learner.chunk):
            pixels = learner._inputs(slice(first, min(first + learner.chunk, end)))
            with reading(network, layers, len(pixels)) as values:
                made = logits_and_features(network, self._heads, pixels)
            read.append([part.cpu().numpy() for part in (*made, values())])
        logits, features, units = (np.concatenate(parts) for parts in zip(*read, strict=True))
        return Outputs(learner.pixels, logits, features, units, layers, "")


class AdaptedKernel:
    """Regresses what the teacher says, less what the student's start says, on adapted features, anew for each block.

    Args:
        adaptation: Whose features.
        features: Which of them.
        first: Logits of the start, ``[k, C]``.
    """

    costs_gradients = one_by_one = False

    def __init__(self, adaptation: Adaptation, features: str, first: Rows):
        self.adaptation, self.features, self.first = adaptation, features, first
        self.name = f"adapted-{features}"
        self._priced: PricedTargets | None = None

    def predict(self, start: int, end: int) -> Tensor:
        """Return log-probabilities, ``[n, C]``; those of the start before anything has been learnt."""
        first = log_softmax64(torch.from_numpy(np.array(self.first[:end])))
        distances = self.adaptation.distances(end) if self._priced else None
        if distances is None or self._priced is None:
            return first[start:]
        covariance = torch.exp(-_GAMMA * distances[self.features].cpu()) + 1.0
        factor = torch.linalg.cholesky(covariance[:start, :start] + _NOISE * torch.eye(start, dtype=torch.float64))
        targets = _centred(self._priced[slice(0, start)]) - _centred(first[:start])
        corrections = covariance[start:, :start] @ torch.cholesky_solve(targets, factor)
        return torch.log_softmax(first[start:] + corrections, dim=-1)

    def learn(self, start: int, end: int, priced: PricedTargets, nats: float) -> int:
        """Take note of what has been priced."""
        self._priced = priced
        return 0

    def stop(self) -> None:
        """Nothing is held."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing is kept: runs of this experiment are not gone on from."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is kept."""


class LastStage(FineTuned):
    """Trains the last of the tensors only, so that a backward pass may end there."""

    def _new_network(self) -> nn.Module:
        network = super()._new_network()
        parameters = list(network.parameters())
        for parameter in parameters[: round((1 - _LAST_STAGE) * len(parameters))]:
            parameter.requires_grad_(False)
        return network


def code_with(
    pair: Pair, protocol: CodingProtocol, accelerator: Accelerator, *, adapted: bool = False, last_stage: bool = False
) -> Codelength:
    """Code B given A as a protocol says, with other learners.

    Args:
        pair: Student and teacher.
        protocol: Trains by gradients.
        accelerator: Device.
        adapted: Whether kernels on adapted features are there too.
        last_stage: Whether only the last stage is trained.
    """
    start = trainer._start(pair.a, pair.outputs_a, pair.b, accelerator.device)
    specs = trainer._applicable(protocol, start)
    alone = ProcessTeam()
    learners = trainer._learners(specs, protocol, pair.outputs_a, start, accelerator, alone, alone, chunk=64)
    if last_stage:
        learners = [_last_stage(learner) if isinstance(learner, FineTuned) else learner for learner in learners]
    priors = [trainer._prior(spec, start) for spec in specs]
    if adapted:
        tuned = [learner for learner in learners if isinstance(learner, FineTuned)]
        adaptation = Adaptation(tuned, pair.a.heads)
        learners += [AdaptedKernel(adaptation, features, start.logits) for features in FEATURES]
        priors += [1.0] * len(FEATURES)
    with one_thread(accelerator.device):
        return prequential(
            learners,
            Targets(pair.outputs_b.logits),
            protocol.blocks(len(pair.images)),
            protocol,
            mixture=Mixture(priors, protocol.switching, protocol.pooling),
        )


def _last_stage(learner: FineTuned) -> LastStage:
    return LastStage(learner.pixels, learner.start, learner.spec, learner.protocol, learner.permutation)
