"""The atlases that come with the package, and what an atlas is opened by."""

from pathlib import Path

from hf_infodist.errors import NotFoundError
from hf_infodist.results.atlas.folder import Atlas

SHIPPED = {"demo:digits": Path(__file__).parent / "digits"}
"""By name: ``demo:digits``, networks of the studies on scikit-learn's digits."""


def open_atlas(word: str) -> Atlas:
    """Open an atlas by what a user types.

    Args:
        word: A folder, or ``demo:digits``.

    Raises:
        NotFoundError: If there is none.
        UnfitError: If it is damaged.
    """
    if word in SHIPPED:
        return Atlas.open(SHIPPED[word], writable=False)
    folder = Path(word).expanduser()
    if not folder.is_dir():
        fix = f"infodist atlas add MODEL… --atlas {word} -i DATASET begins one; {next(iter(SHIPPED))} is always there"
        raise NotFoundError(f"there is no atlas {word!r}", "it is no folder", fix)
    return Atlas.open(folder)
