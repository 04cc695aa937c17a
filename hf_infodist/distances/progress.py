"""How far a computation has come: shown in a notebook, and elsewhere if that is asked for."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hf_infodist.distances.code import ProgressCallback
from hf_infodist.distances.plan import Status


def in_notebook() -> bool:
    """Tell whether this process answers a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


@contextmanager
def watched_blocks(on_block: ProgressCallback | None, images: int, shown: bool) -> Iterator[ProgressCallback | None]:
    """Yield who is told of blocks: ``on_block``, or a bar.

    Args:
        on_block: The caller's own, which takes the place of a bar.
        images: That will be priced, all directions and orders together.
        shown: Whether to show a bar.
    """
    if on_block or not shown:
        yield on_block
        return
    from tqdm.auto import tqdm

    with tqdm(total=images, unit="image", desc="coding") as bar:
        before = 0

        def update(direction: str, images: int, nats: float) -> None:
            nonlocal before
            bar.update(images - before if images > before else images)  # fewer than before: another direction
            before = images

        yield update
        bar.update(bar.total - bar.n)  # what was in the store already


@contextmanager
def watched_pairs(
    on_status: Callable[[Status], None] | None, shown: bool
) -> Iterator[Callable[[Status], None] | None]:
    """Yield who is told how far a matrix has come. Arguments as in `watched_blocks`."""
    if on_status or not shown:
        yield on_status
        return
    from tqdm.auto import tqdm

    with tqdm(unit="codelength", desc="coding") as bar:

        def update(status: Status) -> None:
            bar.total = status.total
            bar.update(status.done + status.failed - bar.n)

        yield update
