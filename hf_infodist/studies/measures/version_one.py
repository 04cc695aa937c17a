"""Version 1 of the default protocol: a mixture of heads and fine-tuned copies, all of which learn by gradients."""

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import skip_init

from hf_infodist.coding.adam import UnitAdam
from hf_infodist.coding.finetuned import FineTuned, Trained
from hf_infodist.coding.interfaces import AnyLearner
from hf_infodist.coding.label_learners import ClassMap, Permutation
from hf_infodist.coding.learners import Start, Static, Uniform
from hf_infodist.coding.loop import prequential
from hf_infodist.coding.mixture import Mixture
from hf_infodist.coding.targets import Targets
from hf_infodist.models.heads import match_labels, named
from hf_infodist.outputs.arrays import Index, Rows
from hf_infodist.pair import Pair
from hf_infodist.processes import one_thread
from hf_infodist.protocol import CodingProtocol, LearnerSpec
from hf_infodist.results.codelength import Codelength

HEAD_RATES = (0.1, 0.3, 1.0, 3.0)
FINE_TUNED = (
    LearnerSpec("finetuned", lr=3e-4),
    LearnerSpec("finetuned", lr=1e-3),
    LearnerSpec("finetuned", lr=3e-3),
    LearnerSpec("finetuned", lr=3e-3, batchnorm="adapting"),
    LearnerSpec("finetuned", lr=1e-2, batchnorm="adapting"),
)
_UNLIKELY = 1e-3  # share of a learner that is of use to few pairs: uniform, and labels where names agree


class Head(Trained):
    """Learns a linear correction of the start's logits on penultimate features, which stay as they are.

    Args:
        features: Penultimate features of the start, ``[k, D]``.
        start: The start in the teacher's label space.
        lr: Learning rate: a step moves a logit by about as much, however many features there are.
        protocol: Schedule.
        permutation: Tells whether classes come in another order.
    """

    costs_gradients = False  # none worth counting

    def __init__(
        self, features: Rows, start: Start, lr: float, protocol: CodingProtocol, permutation: Permutation | None
    ):
        values = torch.from_numpy(np.array(features[:], dtype=np.float64))
        scale = values.square().mean(0).sqrt()
        self.features = values / torch.where(scale > 0, scale, 1.0)
        self.first = torch.from_numpy(np.array(start.logits[:], dtype=np.float64))
        super().__init__(start, LearnerSpec("finetuned", lr=lr), protocol, permutation)
        self.name = f"head-{lr:g}"

    def _new_network(self) -> nn.Module:
        self.first = torch.from_numpy(np.array(self.initial[:], dtype=np.float64))
        linear = skip_init(nn.Linear, self.features.shape[1], self.start.num_classes, dtype=torch.float64)
        nn.init.zeros_(linear.weight), nn.init.zeros_(linear.bias)  # draws no random numbers
        return linear

    def _new_optimizer(self) -> UnitAdam:
        return UnitAdam(list(self.network.parameters()), (1.0, 1.0), self.spec.lr / self.features.shape[1])

    def _inputs(self, index: Index) -> tuple[Tensor, Tensor]:
        return self.first[index], self.features[index]

    def _train_logits(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        first, features = inputs
        return first + self.network(features)

    @torch.no_grad()
    def _predict_logits(self, index: slice) -> Tensor:
        return self.first[index] + self._predictor(self.features[index])


PROTOCOL = CodingProtocol(  # its blocks and schedule; heads learn by the same
    "version-1", FINE_TUNED, first_block=16, growth=1.5, batch=8, passes=6, anneal=True, reduction=3
)


def version_one(pair: Pair, protocol: CodingProtocol, accelerator: Accelerator) -> Codelength:
    """Code B given A.

    Args:
        pair: Student and teacher.
        protocol: `PROTOCOL`, with any seed.
        accelerator: Device.
    """

    def network(rows: Sequence[int] | None) -> nn.Module:
        return pair.a.student(pair.b.num_classes, rows).to(accelerator.device)

    labels, outputs = (pair.a.labels, pair.b.labels), pair.outputs_a
    start = Start(outputs.logits, pair.b.num_classes, match_labels(*labels), named(*labels), network)
    permutation = None
    if outputs.logits.shape[1] == start.num_classes:
        permutation = Permutation(outputs.logits, start.rows or tuple(range(start.num_classes)))
    if_named = 1.0 if start.rows is None else _UNLIKELY
    learners: list[tuple[AnyLearner, float]] = [  # and their priors
        (Uniform(start.num_classes), _UNLIKELY),
        (ClassMap(outputs.logits, start.num_classes), if_named),
        *([(permutation, if_named)] if permutation else []),
        (Static(start.logits), 1.0),
        *((Head(outputs.features, start, lr, protocol, permutation), 1.0) for lr in HEAD_RATES),
        *((FineTuned(outputs.pixels, start, spec, protocol, permutation), 1.0) for spec in protocol.learners),
    ]
    with one_thread(accelerator.device):
        return prequential(
            [learner for learner, _ in learners],
            Targets(pair.outputs_b.logits),
            protocol.blocks(len(pair.images)),
            protocol,
            mixture=Mixture([prior for _, prior in learners], switching=True, pooling=True),
        )
