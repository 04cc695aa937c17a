"""Outputs that an atlas has of a model: its logits, and distances between images instead of features."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_infodist.errors import UsageError
from hf_infodist.outputs.arrays import Outputs, Rows
from hf_infodist.results.atlas.files import AtlasFile
from hf_infodist.results.atlas.packing import unpack_square


class Logits:
    """The logits of a file, ``[k, C]``, which is open only while rows are read: of a thousand models none stays so.

    Args:
        file: Of an atlas.
    """

    def __init__(self, file: AtlasFile):
        self._file = file
        self.shape = file.logits.shape

    def __getitem__(self, index: Any) -> NDArray[np.floating]:
        return np.array(self._file.logits[index])


@dataclass(frozen=True, eq=False)
class KnownOutputs(Outputs):
    """What closed-form learners need of a student, and what a teacher says, without pixels and features.

    Attributes:
        quarters: Number of layers in each quarter of the depth.
        file: Where the distances are.
    """

    quarters: tuple[int, int, int, int]
    file: AtlasFile

    @classmethod
    def of(cls, file: AtlasFile, key: str) -> "KnownOutputs":
        """Read the outputs of a model; distances are read when a student needs them."""
        nothing: Rows = np.zeros((file.k, 0), np.float32)
        return cls(None, Logits(file), nothing, nothing, (), key, file.entry.quarters, file)  # type: ignore[arg-type]

    def distances(self, name: str) -> NDArray[np.float64]:
        """Return D between all images, ``[k, k]``, of one of `packing.SQUARES`."""
        return unpack_square(self.file.square(name), self.file.k)

    def reordered(self, order: NDArray[np.integer]) -> "Outputs":
        """Refuse another order.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            "an atlas is of one order of its images",
            "its distances between images are read as they come",
            "leave out --orders, or name the models instead of the atlas",
        )
