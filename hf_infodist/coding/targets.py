"""What a student may see of the teacher, and when: nothing before it is priced."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_infodist.outputs.arrays import Rows


class Targets:
    """What a student may learn: the teacher's output on each image, soft or drawn.

    Args:
        logits: Teacher's logits, ``[k, C]``.
        labels: Labels drawn from the teacher, ``[k]``, if the student is shown only those.
    """

    def __init__(self, logits: Rows, labels: Tensor | None = None):
        self._logits, self._labels = logits, labels
        self.num_images, self.num_classes = logits.shape

    @property
    def drawn(self) -> bool:
        """Whether the student is shown labels, and not the teacher's outputs."""
        return self._labels is not None

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


class RevealedTargets:
    """Priced targets on a device; the rows of all others are not numbers.

    Args:
        num_images: k.
        num_classes: C.
        device: Where.
    """

    def __init__(self, num_images: int, num_classes: int, device: torch.device | str):
        self._rows = torch.full((num_images, num_classes), torch.nan, dtype=torch.float64, device=device)
        self._end = 0

    def reveal(self, priced: PricedTargets) -> None:
        """Take over what has been priced meanwhile."""
        while self._end < priced.end:
            rows = slice(self._end, min(self._end + 1024, priced.end))
            self._rows[rows] = priced[rows].to(self._rows.device)
            self._end = rows.stop

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return log-probabilities shown, ``[n, C]``, for indices on the device."""
        return self._rows[index]


def draw_labels(logits: Rows, seed: int) -> Tensor:
    """Draw y_i ~ softmax(logits_i) for each of ``[k, C]`` logits; return ``[k]`` integers."""
    uniform = torch.from_numpy(np.random.default_rng([seed, 1]).random(logits.shape[0]))
    probs = torch.softmax(torch.from_numpy(np.array(logits[:], dtype=np.float64)), dim=-1)
    cumulative = probs.cumsum(-1)
    drawn = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
    return drawn.squeeze(-1).clamp_(max=logits.shape[1] - 1)
