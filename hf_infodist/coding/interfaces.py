"""What the prequential loop asks of learners."""

from typing import Any, Protocol

from torch import Tensor

from hf_infodist.coding.targets import PricedTargets


class Learner(Protocol):
    """Predicts the images of a block, and learns from those already priced."""

    name: str
    costs_gradients: bool  # of a network: worth stopping once it has fallen behind
    one_by_one: bool  # whether it is an `OnlineLearner`

    def predict(self, start: int, end: int) -> Tensor:
        """Return log-probabilities for images ``[start, end)``, ``[end - start, C]`` in float64."""
        ...

    def learn(self, start: int, end: int, priced: PricedTargets, nats: float) -> int:
        """Learn from the new images ``[start, end)`` and any earlier one; return the gradient images spent.

        Args:
            start: First of the new images.
            end: The number of images priced.
            priced: What may be learnt from.
            nats: What the learner's own predictions of the new images have cost, under what it is shown.
        """
        ...

    def stop(self) -> None:
        """Free memory; the learner is not used again."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes as it learns: tensors and plain Python, for a checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        ...


class OnlineLearner(Protocol):
    """Learns nothing, or so cheaply that it does so from each image before it predicts the next.

    It leaves nothing in a checkpoint: whoever goes on from one lets it code the images again.
    """

    name: str
    costs_gradients: bool
    one_by_one: bool

    def code(self, start: int, end: int, shown: Tensor) -> Tensor:
        """Predict images ``[start, end)`` one after the other; return log-probabilities, ``[n, C]`` in float64.

        Args:
            start: The number of images coded so far.
            end: Of these.
            shown: Log-probabilities revealed of them, ``[n, C]``; row i is read only for images after i.
        """
        ...


class Follower:
    """Predicts from what a learner that is trained has become, which it reads before each block.

    Every process has it, and that one asks it which has the learner that it follows. Between blocks it knows nothing,
    so it leaves nothing in a checkpoint.
    """

    name: str
    costs_gradients = False
    one_by_one = True

    def follow(self, learner: Any, start: int, end: int, priced: PricedTargets) -> None:
        """Read a learner before the block ``[start, end)`` is coded, of which nothing is priced."""
        raise NotImplementedError

    def code(self, start: int, end: int, shown: Tensor) -> Tensor:
        """Predict images of the block, as `OnlineLearner.code` does."""
        raise NotImplementedError

    def let_go(self) -> None:
        """Free the memory that the block has taken."""
        raise NotImplementedError


class RemoteLearner:
    """Stands for a learner that another process of the team has."""

    def __init__(self, name: str, costs_gradients: bool):
        self.name, self.costs_gradients = name, costs_gradients


AnyLearner = Learner | OnlineLearner | Follower | RemoteLearner
