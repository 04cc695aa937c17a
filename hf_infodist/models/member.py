"""A classifier of an atlas: all that is known of it without its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from hf_infodist.errors import UnfitError
from hf_infodist.models.classifier import Classifier, Network
from hf_infodist.models.preprocessing import Preprocessing
from hf_infodist.results.atlas.files import AtlasFile
from hf_infodist.results.records import ModelRecord


class Absent(Network):
    """The network of a member, which is not at hand."""

    def __init__(self, name: str):
        super().__init__(nn.Identity())
        self.name = name

    def forward(self, pixels: Tensor) -> Tensor:
        """Refuse to be run.

        Raises:
            UnfitError: Always.
        """
        raise self._refusal()

    def __deepcopy__(self, memo: Any) -> Absent:
        raise self._refusal()

    def _refusal(self) -> UnfitError:
        why = "an atlas has the outputs of a model, and not its weights"
        return UnfitError(
            f"{self.name} cannot be run or trained", why, "use --protocol standard, or name the model itself"
        )


@dataclass(frozen=True, eq=False)
class Member(Classifier):
    """A model of an atlas, which takes part wherever outputs are all that is needed of a classifier.

    Attributes:
        file: Its outputs.
    """

    file: AtlasFile = field(kw_only=True)

    @classmethod
    def of(cls, file: AtlasFile) -> Member:
        """Describe a model by its file."""
        model = file.entry.model
        unknown = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        preprocessing = Preprocessing(Absent(model.id), *unknown, model.preprocessing)
        return cls(
            model.id,
            model.library,
            model.revision,
            Absent(model.id),
            model.num_classes,
            file.entry.labels,
            preprocessing,
            (),
            file=file,
        )

    @property
    def record(self) -> ModelRecord:
        """What a result says of it."""
        return self.file.entry.model
