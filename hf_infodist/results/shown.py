"""What every result has for people: a text, a line, and a picture in a notebook."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from hf_infodist.results.words import Unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Shown(ABC):
    """Base of results."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """What it is of, in a few words."""

    @abstractmethod
    def text(self, unit: Unit = Unit.BITS) -> str:
        """Return all that there is to say, in a unit."""

    def plot(self) -> "Figure | None":
        """Draw it; None where there is nothing to draw."""
        return None

    def __str__(self) -> str:
        """Return `text` in bits."""
        return self.text()

    def __repr__(self) -> str:
        """Return one line."""
        return f"<{type(self).__name__}: {self.summary}>"

    def _repr_html_(self) -> str:
        """Return text and picture, for notebooks."""
        from hf_infodist.results.pictures import to_html

        return to_html(self.text(), self.plot())
