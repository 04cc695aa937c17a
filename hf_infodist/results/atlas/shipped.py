"""The atlases that come with the package, and what an atlas is opened by."""

from pathlib import Path

from hf_infodist.results.atlas import hub
from hf_infodist.results.atlas.folder import Atlas

SHIPPED = {"demo:digits": Path(__file__).parent / "digits"}
"""By name: ``demo:digits``, networks of the studies on scikit-learn's digits."""


def open_atlas(word: str) -> Atlas:
    """Open an atlas by what a user types.

    Args:
        word: A folder, ``org/name[@revision]`` of a dataset repository, or ``demo:digits``.

    Raises:
        NotFoundError: If there is none, or it cannot be reached.
        UnfitError: If it is damaged.
    """
    return Atlas.open(SHIPPED[word], writable=False) if word in SHIPPED else hub.open_atlas(word)
