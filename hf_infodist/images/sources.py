"""Where a dataset name leads: the data is found and opened, and refused with what to type instead."""

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.hub import nearest
from hf_infodist.images.choice import check_enough, choose_column, choose_split, no_config
from hf_infodist.images.refusal import in_our_words
from hf_infodist.images.request import Sample


@dataclass(frozen=True)
class Found:
    """A split that was opened."""

    id: str
    config: str | None
    split: str | None
    data: Any  # a `datasets.Dataset`, a `datasets.IterableDataset` or a list of pictures
    labels: list[int] | None = None  # of a list
    label_names: tuple[str, ...] | None = None  # a name per class
    revision: str | None = None  # commit on the Hub


def open_source(sample: Sample) -> Found:
    """Open what `load_images` takes, with its errors: what cannot be meant is refused before a large download."""
    if not isinstance(sample.images, str | os.PathLike):
        return _open_object(sample.images, sample)
    name = os.fspath(sample.images)
    path = Path(name).expanduser()
    with _no_progress_bars():
        if name == "digits":
            return _open_digits(sample)
        if name and path.exists():
            return _open_folder(name, path, sample) if path.is_dir() else _open_file(name, path, sample)
        if name.startswith((".", "/", "~")) or name.count("/") > 1 or path.suffix == ".parquet":
            why = "there is neither a folder nor a file at this path"
            fix = "check the path, or give a dataset of the Hub as org/name"
            raise NotFoundError(f"{name} does not exist", why, fix)
        return _open_hub(name, sample)


def _open_digits(sample: Sample) -> Found:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # [1797, 8, 8], from 0..16
    return _found_list("digits", sample, list(pixels), digits.target.tolist())


def _open_file(name: str, path: Path, sample: Sample) -> Found:
    if path.suffix != ".parquet":
        why = "of single files only .parquet is read, and loading scripts are never run"
        fix = "give a .parquet file, or a folder of images or of parquet files"
        raise UnfitError(f"{name} is not a dataset", why, fix)
    no_config(name, sample.config)
    return replace(_open_builder(name, sample, "parquet", data_files=str(path.resolve())), config=None)


def _open_folder(name: str, path: Path, sample: Sample) -> Found:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        from datasets import load_from_disk

        with in_our_words(name, sample.config):
            data = load_from_disk(str(path))
        return _open_object(data, sample, name)
    return _open_builder(name, sample, str(path.resolve()), sample.config)


def _open_hub(name: str, sample: Sample) -> Found:
    repository, _, revision = name.partition("@")
    if "/" not in repository:  # `datasets` would take "parquet" or "imagefolder" for the files of this folder
        near = nearest("dataset", repository)
        why = "datasets of the Hub are named org/name, and there is no file or folder of this name"
        fix = f"did you mean {' or '.join(near)}?" if near else "give org/name, a folder, a .parquet file, or 'digits'"
        raise NotFoundError(f"there is no dataset {name!r}", why, fix)
    return _open_builder(name, sample, repository, sample.config, revision=revision or None)


def _open_builder(name: str, sample: Sample, *args: Any, **kwargs: Any) -> Found:
    import datasets

    with in_our_words(name, sample.config):
        builder = datasets.load_dataset_builder(*args, **kwargs)
    _same_revision(name, builder, kwargs.get("revision"))
    sizes = builder.info.splits or {}
    split = choose_split(name, [str(s) for s in sizes or builder.config.data_files or ()], sample.split)
    if split in sizes:
        check_enough(name, sample.k, sizes[split].num_examples)
    if builder.info.features:
        choose_column(name, builder.info.features, sample.column)
    with in_our_words(name, sample.config):
        data = _read(name, builder, split, sample.streaming)
    return Found(name, builder.config.name, split, data, revision=_commit(builder))


def _same_revision(name: str, builder: Any, revision: str | None) -> None:
    """Refuse the cached copy of another revision, which `datasets` offers when the Hub cannot be reached."""
    if type(builder).__name__ == "Cache" and revision not in (None, "main", builder.hash[: len(revision or "")]):
        why = f"the Hub cannot be reached, and the cached copy is revision {builder.hash}"
        fix = f"use {name.partition('@')[0]}@{builder.hash[:12]}, or check the network"
        raise NotFoundError(f"{name} cannot be fetched now", why, fix)


def _commit(builder: Any) -> str | None:
    """Return the commit that `datasets` resolved a name of the Hub to, once, and named its cache after."""
    known = builder.repo_id and re.fullmatch("[0-9a-f]{40}", builder.hash or "")  # old caches have other hashes
    return builder.hash if known else None


def _read(name: str, builder: Any, split: str | None, streaming: bool) -> Any:
    if streaming:
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare()
    check_enough(name, None, builder.info.splits[split].num_examples)
    return builder.as_dataset(split=split)


def _open_object(source: Any, sample: Sample, name: str | None = None) -> Found:
    import datasets

    if isinstance(source, dict) and source:
        split = choose_split(name or "the dictionary", [str(split) for split in source], sample.split)
        return replace(_open_object(source[split], replace(sample, split=None), name), split=split)
    if isinstance(source, datasets.Dataset | datasets.IterableDataset):
        name = name or source.info.dataset_name or "dataset"
        no_config(name, sample.config)
        split = choose_split(name, [str(source.split)] if source.split else [], sample.split)
        return Found(name, source.info.config_name, split, source.with_format(None))
    if isinstance(source, list | tuple | np.ndarray):
        return _found_list("list", sample, list(source))
    what, fix = f"images cannot be read from a {type(source).__name__}", "pass one of these, such as 'digits'"
    raise UsageError(what, "images are a name, a datasets.Dataset or a list of PIL images", fix)


def _found_list(name: str, sample: Sample, pictures: list[Any], labels: list[int] | None = None) -> Found:
    no_config(name, sample.config)
    return Found(name, None, choose_split(name, [], sample.split), pictures, labels)


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


def spool(name: str, rows: Iterator[dict[str, Any]], column: str, label: str | None) -> Any:
    """Write rows of a stream, encoded images and labels, to a file that lives as long as the dataset returned."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    types = {column: datasets.Value("large_binary"), label: datasets.Value("int64")}
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
