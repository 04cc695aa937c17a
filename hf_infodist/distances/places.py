"""Where what is named lies: folders, files and repositories, and whether they are what they were."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_infodist.hub import plain_name
from hf_infodist.images.files import state
from hf_infodist.images.request import Sample

_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Place:
    """A file or folder of this machine, or a reference of a repository of the Hub.

    Attributes:
        path: The file, or the folder with all that is below it.
        repo: The repository; the path is empty then.
        kind: ``model`` or ``dataset``.
        revision: Branch, tag or commit; the main branch if None.
    """

    path: str = ""
    repo: str = ""
    kind: str = "model"
    revision: str | None = None


def model_places(name: str, *, headless: bool = False) -> Iterator[Place]:
    """Yield where a model comes from; of what an installed package builds or holds, nothing.

    Args:
        name: As `load_classifier` takes it.
        headless: Whether a network without classes will do.

    Raises:
        InfodistError: If its name leads nowhere.
    """
    from hf_infodist.models.names import locate
    from hf_infodist.models.weights import downloaded

    source = locate(name, has_transform=True, headless=headless)
    if source.repo:
        yield Place(repo=source.repo, revision=source.asked)
    if source.folder:
        yield Place(str(source.folder.absolute()))
    elif source.url and not source.fresh:
        yield Place(str(downloaded(source)))


def sample_places(sample: Sample) -> Iterator[Place]:
    """Yield where images come from; of those that an installed package holds, nothing."""
    name = plain_name(sample.images)
    path = Path(name).expanduser()
    if os.path.exists(path):
        yield Place(str(path.absolute()))
    elif name != "digits":
        import datasets
        from huggingface_hub import constants

        repo, _, revision = name.partition("@")
        yield Place(repo=repo, kind="dataset", revision=revision or None)
        kept = Path(constants.HF_HUB_CACHE, f"datasets--{repo.replace('/', '--')}", "snapshots")
        prepared = Path(datasets.config.HF_DATASETS_CACHE, repo.replace("/", "___"))
        yield from (Place(str(folder)) for folder in (kept, prepared))


def read_state(places: Sequence[Place]) -> tuple[str, float]:
    """Return a hash that changes with any file and any reference of some places, and when a file last changed.

    Raises:
        OSError: If the commit of a reference cannot be told now.
    """
    files = [file for place in places if place.path for file in sorted(_files(place.path, frozenset()))]
    commits = [_commit(place) for place in places if place.repo]
    times = (max(stat.st_mtime, stat.st_ctime) for stat in map(os.stat, files))
    facts = repr((files, state(files), commits))
    return hashlib.sha256(facts.encode()).hexdigest()[:32], max(times, default=0.0)


def read_content(folder: Path, without: str = "") -> str:
    """Return a hash of what files of a folder hold and how they are named in it, wherever it lies.

    Args:
        folder: With all that is below it.
        without: Folder in it that does not count.
    """
    content = hashlib.sha256()
    for path in sorted(_files(str(folder), frozenset((os.path.realpath(folder / without),) if without else ()))):
        content.update(os.path.relpath(path, folder).encode() + b"\0")
        content.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return content.hexdigest()[:32]


def _files(path: str, above: frozenset[str]) -> Iterator[str]:
    """Yield a file, or all files below a folder, links followed; none if nothing is there."""
    real = os.path.realpath(path)
    if os.path.isfile(path) and not path.endswith((".lock", ".pyc")):
        yield path
    elif os.path.isdir(path) and real not in above:
        with os.scandir(path) as entries:
            for entry in entries:
                yield from _files(entry.path, above | {real})


def _commit(place: Place) -> str:
    """Return the commit that a reference leads to now: asked of the Hub, or in the cache where that is offline."""
    from huggingface_hub import constants

    revision = place.revision or constants.DEFAULT_REVISION
    if _COMMIT.fullmatch(revision):
        return revision
    if not constants.HF_HUB_OFFLINE:
        from huggingface_hub import HfApi

        return str(HfApi().repo_info(place.repo, repo_type=place.kind, revision=revision, timeout=5).sha)
    folder = Path(constants.HF_HUB_CACHE, f"{place.kind}s--{place.repo.replace('/', '--')}")
    try:
        return (folder / "refs" / revision).read_text()
    except FileNotFoundError:
        return ""  # of a dataset that only `datasets` has: the state of its files tells
