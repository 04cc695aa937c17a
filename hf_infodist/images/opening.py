"""Data sets that `datasets` opens: a split is chosen, and refused before a large download what cannot be meant."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_infodist.errors import NotFoundError, UsageError, whole
from hf_infodist.images.choice import check_enough, choose_column, choose_split, meant_by, no_config
from hf_infodist.images.refusal import in_our_words
from hf_infodist.images.request import Sample


@dataclass(frozen=True)
class Found:
    """A split that was opened."""

    id: str
    config: str | None
    split: str | None
    data: Any  # a `datasets.Dataset`, a `datasets.IterableDataset`, `ImageFiles` or a list of pictures
    column: str | None = None  # of images, where it is known already
    labels: list[int] | None = None  # of a list or of files
    label_names: tuple[str, ...] | None = None  # a name per class
    revision: str | None = None  # commit on the Hub
    mode: str | None = None  # of Pillow, that images are wanted in
    metadata: Sequence[Any] = ()  # tables of pyarrow: what files beside the images say of each, one after the other


def open_builder(name: str, sample: Sample, *args: Any, **kwargs: Any) -> Found:
    """Open what `datasets` builds from what follows, under a name of ours.

    Raises:
        InfodistError: If it cannot be had, or not as it is asked for.
    """
    import datasets

    with in_our_words(name, sample.config):
        builder = datasets.load_dataset_builder(*args, **kwargs)
    _same_revision(name, builder, kwargs.get("revision"))
    sizes = builder.info.splits or {}
    splits = [str(one) for one in sizes or builder.config.data_files or ()]
    split = choose_split(name, splits, sample.split)
    chosen = [None] if split is None else meant_by(split, splits)
    if all(one in sizes for one in chosen):
        check_enough(name, sample.k, sum(sizes[one].num_examples for one in chosen))
    if builder.info.features:
        choose_column(name, builder.info.features, sample.column)
    with in_our_words(name, sample.config):
        data = _join([_read(name, builder, one, sample.streaming) for one in chosen])
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


def _join(parts: Sequence[Any]) -> Any:
    import datasets

    return datasets.concatenate_datasets(list(parts)) if len(parts) > 1 else parts[0]


def open_object(source: Any, sample: Sample, name: str | None = None) -> Found:
    """Take what is loaded already.

    Raises:
        UsageError: If it holds no images.
    """
    import datasets

    if isinstance(source, dict) and source:
        split = choose_split(name or "the dictionary", [str(split) for split in source], sample.split)
        data = _join([source[one] for one in meant_by(split, [str(one) for one in source])])
        return replace(open_object(data, replace(sample, split=None), name), split=split)
    if isinstance(source, datasets.Dataset | datasets.IterableDataset):
        name = name or source.info.dataset_name or "dataset"
        no_config(name, sample.config)
        split = choose_split(name, [str(source.split)] if source.split else [], sample.split)
        return Found(name, source.info.config_name, split, source.with_format(None))
    if isinstance(source, list | tuple | np.ndarray):
        return found_list("list", sample, list(source))
    what, fix = f"images cannot be read from a {type(source).__name__}", "pass one of these, such as 'digits'"
    raise UsageError(what, "images are a name, a datasets.Dataset or a list of PIL images", fix)


def found_list(name: str, sample: Sample, pictures: list[Any], labels: list[int] | None = None) -> Found:
    """Take a list of pictures, or of pairs of a picture and its class; it has neither configurations nor splits."""
    no_config(name, sample.config)
    if pictures and all(isinstance(row, tuple | list) and len(row) == 2 for row in pictures):
        pictures, labels = [row[0] for row in pictures], [whole(row[1], "the class of a picture") for row in pictures]
    pictures = [Path(row) if isinstance(row, str | os.PathLike) else row for row in pictures]
    return Found(name, None, choose_split(name, [], sample.split), pictures, labels=labels)
