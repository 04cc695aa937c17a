"""Questions about an atlas: which of its models are nearest to one, and all distances of its map."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

NEAREST = 10  # models that the page shows


@dataclass(frozen=True)
class Placing:
    """Which models of an atlas are nearest to one.

    Attributes:
        model: The one.
        atlas: A folder, or a shipped one by name.
        k: How many images the atlas is of.
        n: How many of the nearest.
    """

    model: str
    atlas: str
    k: int
    n: int = NEAREST
    what: ClassVar[str] = "nearest"

    @property
    def models(self) -> dict[str, str]:
        """The model, by box."""
        return {"model": self.model}

    def to_dict(self) -> dict[str, Any]:
        """Return every field."""
        return asdict(self)


@dataclass(frozen=True)
class Mapping:
    """What all models of an atlas cost given one another.

    Attributes:
        atlas: A folder, or a shipped one by name.
        k: How many images the atlas is of.
    """

    atlas: str
    k: int
    what: ClassVar[str] = "map"

    @property
    def models(self) -> dict[str, str]:
        """What the question is about, by box."""
        return {"atlas": self.atlas}

    def to_dict(self) -> dict[str, Any]:
        """Return every field."""
        return asdict(self)
