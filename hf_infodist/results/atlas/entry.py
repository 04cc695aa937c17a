"""What an atlas says of one of its models."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from hf_infodist.results.records import ModelRecord, package_versions

MOST_CLASSES = 10**5
"""Of a model: as many as fit into memory with the images of an atlas."""

_LONGEST = 500  # characters of a name


def printable(text: str, longest: int = _LONGEST) -> str:
    """Return a text as a line that no terminal acts upon: without control characters, and not too long."""
    return "".join(one if one.isprintable() else " " for one in text[:longest])


def check_names(*texts: object) -> None:
    """Refuse what is no name; None stands for one that is missing.

    Raises:
        ValueError: If one of them is no line of text.
    """
    for text in texts:
        if text is not None and not (isinstance(text, str) and len(text) <= _LONGEST and text.isprintable()):
            raise ValueError("it has a name that is no line of text")


def is_count(value: object, most: int) -> bool:
    """Tell whether something is a whole number from 1 on."""
    return type(value) is int and 0 < value <= most


@dataclass(frozen=True)
class AtlasEntry:
    """A model that somebody has run on the images of an atlas.

    Attributes:
        model: Which: name, library, revision, hash of its weights, preprocessing.
        outputs: Key of its outputs: the hash of images, preprocessing, weights and the layers read.
        labels: A name for each class.
        architecture: As its library calls it.
        parameters: How many weights it has.
        accuracy: On the labels of the images; None without labels, or where the classes are others.
        licence: As its card has it.
        base_models: What its card says it was made from.
        relation: How, in words: fine-tune, adapter, merge, quantized version.
        quarters: Number of layers in each quarter of its depth, by which their distances are averaged.
        made: Day on which it was run, UTC.
        versions: Of the libraries that ran it.
    """

    model: ModelRecord
    outputs: str
    labels: tuple[str, ...]
    architecture: str
    parameters: int
    quarters: tuple[int, int, int, int]
    accuracy: float | None = None
    licence: str | None = None
    base_models: tuple[str, ...] = ()
    relation: str = ""
    made: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    versions: dict[str, str] = field(default_factory=package_versions)

    @property
    def id(self) -> str:
        """Name of the model."""
        return self.model.id

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "AtlasEntry":
        """Rebuild an entry from `to_dict`.

        Raises:
            ValueError: If it is something else; it may be a stranger's.
        """
        try:
            entry = cls(
                **fields
                | {name: tuple(fields[name]) for name in ("labels", "base_models", "quarters")}
                | {"model": ModelRecord(**fields["model"])}
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is no entry of an atlas: {error}") from None
        entry.check()
        return entry

    def check(self) -> None:
        """Refuse what a stranger's file may say and no model is.

        Raises:
            ValueError: If it does.
        """
        model = self.model
        check_names(model.id, model.library, model.revision, model.weights, self.outputs, self.architecture)
        check_names(self.licence, self.relation, self.made, *self.base_models, *self.labels)
        if not model.id or not isinstance(model.preprocessing, dict):
            raise ValueError("it does not say which model it is of")
        if not (is_count(model.num_classes, MOST_CLASSES) and model.num_classes == len(self.labels)):
            raise ValueError(f"it names {len(self.labels)} of {printable(repr(model.num_classes), 20)} classes")
        if len(self.quarters) != 4 or not all(type(n) is int and 0 <= n < 10**6 for n in self.quarters):
            raise ValueError("it does not say how many layers were read")
        if type(self.parameters) is not int or not 0 <= self.parameters < 10**15:
            raise ValueError("it does not say how many weights the model has")
        if self.accuracy is not None and not (isinstance(self.accuracy, float) and 0 <= self.accuracy <= 1):
            raise ValueError(f"its accuracy is {printable(repr(self.accuracy), 20)}")
        if not isinstance(self.versions, dict):
            raise ValueError("it does not say which versions of libraries have run the model")
        check_names(*self.versions, *self.versions.values())
