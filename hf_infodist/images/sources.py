"""Where a dataset name leads: the data is found and opened, and refused with what to type instead."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_infodist.errors import NotFoundError
from hf_infodist.hub import nearest, plain_name
from hf_infodist.images.files import (
    ARCHIVES,
    TABLES,
    only_images,
    patterns,
)
from hf_infodist.images.local import declared, open_contents, open_file, open_folder
from hf_infodist.images.opening import Found, found_list, open_builder, open_object
from hf_infodist.images.refusal import in_our_words
from hf_infodist.images.request import Sample


def open_source(sample: Sample) -> Found:
    """Open what `load_images` takes, with its errors: what cannot be meant is refused before a large download."""
    if not isinstance(sample.images, str | os.PathLike):
        return open_object(sample.images, sample)
    name = plain_name(os.fspath(sample.images))
    path = Path(name).expanduser()
    with _no_progress_bars():
        if name == "digits":
            return _open_digits(sample)
        if name and os.path.exists(path):  # False, too, of a name that no file can have
            return open_folder(name, path, sample) if path.is_dir() else open_file(name, path, sample)
        if (
            name.startswith((".", "/", "~"))
            or name.partition("@")[0].count("/") > 1
            or path.suffix.lower() in (*TABLES, *ARCHIVES)
        ):
            why = "there is neither a folder nor a file at this path"
            fix = "check the path, or give a dataset of the Hub as org/name"
            raise NotFoundError(f"{name} does not exist", why, fix)
        return _open_hub(name, sample)


def _open_digits(sample: Sample) -> Found:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # [1797, 8, 8], from 0..16
    return found_list("digits", sample, list(pixels), digits.target.tolist())


def _open_hub(name: str, sample: Sample) -> Found:
    repository, _, revision = name.partition("@")
    if "/" not in repository:  # `datasets` would take "parquet" or "imagefolder" for the files of this folder
        near = nearest("dataset", repository)
        why = "datasets of the Hub are named org/name, and there is no file or folder of this name"
        fix = f"did you mean {' or '.join(near)}?" if near else "give org/name, a folder, a .parquet file, or 'digits'"
        raise NotFoundError(f"there is no dataset {name!r}", why, fix)
    if folder := _loose_images(name, repository, revision or None):
        return replace(open_contents(name, folder, sample), revision=folder.name)
    return open_builder(name, sample, repository, sample.config, revision=revision or None)


def _loose_images(name: str, repository: str, revision: str | None) -> Path | None:
    """Fetch a repository that is nothing but image files and does not say how they are to be read; None for others.

    Raises:
        NotFoundError: If the Hub breaks off.
    """
    from huggingface_hub import HfApi, errors, snapshot_download

    where: dict[str, Any] = {"repo_type": "dataset", "revision": revision, "allow_patterns": patterns()}
    try:
        info = HfApi().dataset_info(repository, revision=revision)
        files = [file.rfilename for file in info.siblings or ()]
        configs = info.card_data and info.card_data.get("configs")
    except (errors.HfHubHTTPError, errors.HFValidationError):
        return None  # `datasets` is told the same, and its refusal is put into words
    except (errors.OfflineModeIsEnabled, errors.HTTPError, OSError):
        try:
            folder = Path(snapshot_download(repository, **where, local_files_only=True))
        except OSError:
            return None
        files = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
        return folder if only_images(files) and not declared(folder / "README.md") else None
    if configs or not only_images(files):
        return None
    with in_our_words(name):
        return Path(snapshot_download(repository, **where))


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep `datasets` quiet, unless its environment variable already decides."""
    import datasets

    shown = datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is None and not datasets.are_progress_bars_disabled()
    try:
        if shown:
            datasets.disable_progress_bars()
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def spool(name: str, rows: Iterator[dict[str, Any]], column: str, label: str | None, kind: Any = None) -> Any:
    """Write rows of a stream, encoded images and labels, to a file that lives as long as the dataset returned.

    Args:
        name: Of the dataset.
        rows: Of the two columns.
        column: Of images.
        label: Of labels.
        kind: Type of labels, if they are not numbers of classes.
    """
    import datasets
    from datasets.arrow_writer import ArrowWriter

    types = {column: datasets.Value("large_binary"), label: kind or datasets.Value("int64")}
    features = datasets.Features({name: kind for name, kind in types.items() if name is not None})
    folder = tempfile.mkdtemp(prefix="infodist-")
    path = os.path.join(folder, "images.arrow")
    try:
        with in_our_words(name), ArrowWriter(path=path, features=features, writer_batch_size=50) as file:
            for row in rows:
                file.write(row)
            file.finalize()
        data = datasets.Dataset.from_file(path)  # memory-mapped
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(data, _remove, folder, os.getpid())
    return data


def _remove(folder: str, owner: int) -> None:
    """Delete a spool, unless this is a forked worker of the process that wrote it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
