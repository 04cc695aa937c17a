"""Atlases to and from a dataset repository of the Hub.

What is there is a stranger's: of a repository only the head, the table and models named by their outputs are taken.
"""

import io
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.hub import plain_name, refusing
from hf_infodist.results.atlas.entry import printable
from hf_infodist.results.atlas.files import SUFFIX
from hf_infodist.results.atlas.folder import INDEX, MODELS, Atlas, Joined
from hf_infodist.results.atlas.head import HEAD
from hf_infodist.results.atlas.hub_card import card_of
from hf_infodist.results.atlas.index import Row, read_rows, to_row
from hf_infodist.results.names import find_name

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")
_MODEL = re.compile(rf"{MODELS}/([0-9a-f]{{32}}){re.escape(SUFFIX)}")
_ANY = f"{MODELS}/{'[0-9a-f]' * 32}{SUFFIX}"  # the same, as patterns of the client have it
_CARD, _TRIES = "README.md", 5
logger = logging.getLogger(__name__)


def open_atlas(word: str) -> Atlas:
    """Open an atlas: a folder, or ``org/name[@revision]`` of a dataset repository, which is fetched once.

    Raises:
        NotFoundError: If there is none, or it cannot be reached.
        UnfitError: If it is damaged.
    """
    folder = os.path.expanduser(word)
    if os.path.exists(folder):
        return Atlas.open(Path(folder))
    if not _REPO.fullmatch(plain_name(word)):
        name = printable(word, 100)
        fix = f"begin one: infodist atlas add MODEL… --atlas {name} -i DATASET; or name a dataset repository: org/name"
        raise NotFoundError(f"there is no atlas {name!r}", "it is no folder, and no repository can be called so", fix)
    atlas = _fetch(plain_name(word), [HEAD, INDEX, _ANY])
    lacking = {row.file for row in _rows(atlas)} - {path.name for path in atlas.models.glob(f"*{SUFFIX}")}
    if lacking:
        logger.warning("%s: %d models of its table are not at hand", word, len(lacking))
    return atlas


def pull(repo: str, folder: Path, models: Sequence[str] = ()) -> Joined:
    """Take over models of a repository that a folder does not have; nothing in it is written over.

    Args:
        repo: ``org/name[@revision]`` of a dataset.
        folder: Of an atlas; it is begun if there is none.
        models: Names of those that are wanted, or ends of names; all of them if none is named.

    Raises:
        NotFoundError: If the repository or a model does not exist, or cannot be reached or read.
        UnfitError: If it is of other images than the folder.
    """
    repo = plain_name(repo)
    bare = _fetch(repo, [HEAD, INDEX])
    if (folder / HEAD).exists():
        Atlas.open(folder).require_same_images(bare.head, repo)
    chosen = _chosen(_rows(bare), models)
    atlas = Atlas.begin(folder, bare.head)
    there = {path.name for path in atlas.models.glob(f"*{SUFFIX}")}
    same = sorted(row.model for row in chosen if row.file in there)
    wanted = [row.file for row in chosen if row.file not in there]
    if models and not wanted:
        return Joined((), tuple(same))
    patterns = [f"{MODELS}/{name}" for name in wanted] if models else [_ANY]
    commit = f"{repo.partition('@')[0]}@{bare.folder.name}"
    theirs = _fetch(commit, [HEAD, *patterns], [f"{MODELS}/{name}" for name in sorted(there)])
    only = {name.removesuffix(SUFFIX) for name in wanted}
    if not models:
        only |= {path.stem for path in theirs.models.glob(f"*{SUFFIX}") if path.name not in there}
    joined = atlas.merge(theirs, only)
    return Joined(joined.new, tuple(same), joined.unreadable)


def push(atlas: Atlas, repo: str, *, private: bool = False) -> Joined:
    """Add models to a repository in one commit, with a fresh table; models that it has already stay as they are.

    Args:
        atlas: Where from.
        repo: ``org/name`` of a dataset; it is made if there is none.
        private: Whether only its owner may read it, if it is made now.

    Raises:
        UsageError: If nobody is signed in.
        NotFoundError: If it cannot be reached or written.
        UnfitError: If its atlas is of other images.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        raise UsageError(f"the atlas cannot be pushed to {repo}", "nobody is signed in", "run: hf auth login")
    api, repo = HfApi(), plain_name(repo)
    with refusing("dataset", repo):
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
    for tries_left in reversed(range(_TRIES)):
        with refusing("dataset", repo):
            info = api.dataset_info(repo)
        paths = {file.rfilename for file in info.siblings or ()}
        joined, files = _additions(atlas, f"{repo}@{info.sha}", paths)
        if not files:
            return joined
        with refusing("dataset", repo):
            try:
                message = f"Add {len(joined.new)} models"
                api.create_commit(repo, files, repo_type="dataset", commit_message=message, parent_commit=info.sha)
                return joined
            except HfHubHTTPError as error:  # somebody else has added something meanwhile
                if getattr(error.response, "status_code", None) not in (409, 412) or not tries_left:
                    raise
    raise AssertionError("the last try returns or raises")


def _additions(atlas: Atlas, commit: str, paths: set[str]) -> "tuple[Joined, list[CommitOperationAdd]]":
    """Return what a commit with certain files lacks of an atlas."""
    from huggingface_hub import CommitOperationAdd

    rows: list[dict[str, Any]] = []
    if HEAD in paths:
        theirs = _fetch(commit, [HEAD, INDEX])
        atlas.require_same_images(theirs.head, commit.partition("@")[0])
        rows = _rows_of_others(atlas, theirs, commit, paths)
    files = atlas.sound
    new = [file for file in files if f"{MODELS}/{file.path.name}" not in paths]
    joined = Joined(tuple(file.entry.id for file in new), tuple(file.entry.id for file in files if file not in new))
    content: dict[str, Any] = {f"{MODELS}/{file.path.name}": file.path for file in new}
    if HEAD not in paths:
        content[HEAD] = atlas.folder / HEAD
    if _CARD not in paths:
        content[_CARD] = card_of(atlas.head, commit.partition("@")[0]).encode()
    if new or INDEX not in paths:
        content[INDEX] = _table([*rows, *map(to_row, files)])
    return joined, [CommitOperationAdd(path, where) for path, where in sorted(content.items())]


def _rows_of_others(atlas: Atlas, theirs: Atlas, commit: str, paths: set[str]) -> list[dict[str, Any]]:
    """Return what the table of a repository says of its models that an atlas does not have."""
    here = {file.path.name for file in atlas.sound}
    others = {f"{found[1]}{SUFFIX}" for path in paths if (found := _MODEL.fullmatch(path))} - here
    rows = {row.file: row.fields for row in _rows(theirs) if row.file in others}
    if lacking := sorted(others - rows.keys()):  # files that somebody has put there by hand
        fetched = _fetch(commit, [HEAD, *(f"{MODELS}/{name}" for name in lacking)])
        rows |= {name: to_row(file) for name in lacking if (file := fetched.file(name.removesuffix(SUFFIX)))}
    return list(rows.values())


def _table(rows: list[dict[str, Any]]) -> bytes:
    import pandas

    buffer = io.BytesIO()
    pandas.DataFrame(sorted(rows, key=lambda row: (row["model"], row["file"]))).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _rows(atlas: Atlas) -> list[Row]:
    """Return the rows of a table that name files of models; none if there is no table that can be read."""
    try:
        rows = read_rows(atlas.folder / INDEX)
    except FileNotFoundError:
        return []
    except ValueError as error:
        logger.warning("%s cannot be read (%s): left out", atlas.folder / INDEX, error)
        return []
    return [row for row in rows if _MODEL.fullmatch(f"{MODELS}/{row.file}")]


def _chosen(rows: list[Row], models: Sequence[str]) -> list[Row]:
    """Return the rows of models that are named; all of them if none is."""
    if not models:
        return rows
    names = sorted({row.model for row in rows})
    if not names:
        fix = "leave out the names, to take over all of them"
        raise UnfitError("no model can be chosen by its name", f"the repository has no readable {INDEX}", fix)
    meant = {find_name(model, names) for model in models}
    return [row for row in rows if row.model in meant]


def _fetch(name: str, patterns: Sequence[str], ignored: Sequence[str] = ()) -> Atlas:
    """Fetch files of a repository into the Hub's cache, unless they are there; return the atlas of that folder."""
    from huggingface_hub import snapshot_download

    repo, _, revision = name.partition("@")
    only: dict[str, Any] = {"allow_patterns": list(patterns), "ignore_patterns": list(ignored)}
    with refusing("dataset", repo, revision or None):
        folder = Path(snapshot_download(repo, repo_type="dataset", revision=revision or None, **only))
    if not (folder / HEAD).exists():
        what, fix = f"dataset {repo!r} is no atlas", f"begin one: infodist atlas push {repo} --atlas FOLDER"
        raise NotFoundError(what, f"there is no {HEAD} in it", fix)
    return Atlas.open(folder, writable=False, within=folder.parents[1])  # the cache links to its files
