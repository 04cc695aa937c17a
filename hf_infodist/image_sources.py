"""Where a dataset name leads: the data is found and opened, and refused with what to type instead."""

import itertools
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_infodist.errors import InfodistError, NotFoundError, UnfitError, UsageError
from hf_infodist.refusals import gated, missing, nearest, refusal


@dataclass(frozen=True)
class Wish:
    """What is asked of a dataset; ``None`` leaves the choice open."""

    config: str | None
    split: str | None
    column: str | None
    k: int | None
    streaming: bool


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


# Finding the data.


def open_source(source: Any, wish: Wish) -> Found:
    """Open what `load_images` takes, with its errors: what cannot be meant is refused before a large download."""
    if not isinstance(source, str | os.PathLike):
        return _open_object(source, wish)
    name = os.fspath(source)
    path = Path(name).expanduser()
    with _no_progress_bars():
        if name == "digits":
            return _open_digits(wish)
        if name and path.exists():
            return _open_folder(name, path, wish) if path.is_dir() else _open_file(name, path, wish)
        if name.startswith((".", "/", "~")) or name.count("/") > 1 or path.suffix == ".parquet":
            why = "there is neither a folder nor a file at this path"
            fix = "check the path, or give a dataset of the Hub as org/name"
            raise NotFoundError(f"{name} does not exist", why, fix)
        return _open_hub(name, wish)


def _open_digits(wish: Wish) -> Found:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # [1797, 8, 8], from 0..16
    return _found_list("digits", wish, list(pixels), digits.target.tolist())


def _open_file(name: str, path: Path, wish: Wish) -> Found:
    if path.suffix != ".parquet":
        why = "of single files only .parquet is read, and loading scripts are never run"
        fix = "give a .parquet file, or a folder of images or of parquet files"
        raise UnfitError(f"{name} is not a dataset", why, fix)
    _no_config(name, wish.config)
    return replace(_open_builder(name, wish, "parquet", data_files=str(path.resolve())), config=None)


def _open_folder(name: str, path: Path, wish: Wish) -> Found:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        from datasets import load_from_disk

        with _in_our_words(name, wish.config):
            data = load_from_disk(str(path))
        return _open_object(data, wish, name)
    return _open_builder(name, wish, str(path.resolve()), wish.config)


def _open_hub(name: str, wish: Wish) -> Found:
    repository, _, revision = name.partition("@")
    if "/" not in repository:  # `datasets` would take "parquet" or "imagefolder" for the files of this folder
        near = nearest("dataset", repository)
        why = "datasets of the Hub are named org/name, and there is no file or folder of this name"
        fix = f"did you mean {' or '.join(near)}?" if near else "give org/name, a folder, a .parquet file, or 'digits'"
        raise NotFoundError(f"there is no dataset {name!r}", why, fix)
    return _open_builder(name, wish, repository, wish.config, revision=revision or None)


def _open_builder(name: str, wish: Wish, *args: Any, **kwargs: Any) -> Found:
    import datasets

    with _in_our_words(name, wish.config):
        builder = datasets.load_dataset_builder(*args, **kwargs)
    _same_revision(name, builder, kwargs.get("revision"))
    sizes = builder.info.splits or {}
    split = _choose_split(name, [str(s) for s in sizes or builder.config.data_files or ()], wish.split)
    if split in sizes:
        check_enough(name, wish.k, sizes[split].num_examples)
    if builder.info.features:
        _choose_column(name, builder.info.features, wish.column)
    with _in_our_words(name, wish.config):
        data = _read(name, builder, split, wish.streaming)
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


def _open_object(source: Any, wish: Wish, name: str | None = None) -> Found:
    import datasets

    if isinstance(source, dict) and source:
        split = _choose_split(name or "the dictionary", [str(split) for split in source], wish.split)
        return replace(_open_object(source[split], replace(wish, split=None), name), split=split)
    if isinstance(source, datasets.Dataset | datasets.IterableDataset):
        name = name or source.info.dataset_name or "dataset"
        _no_config(name, wish.config)
        split = _choose_split(name, [str(source.split)] if source.split else [], wish.split)
        return Found(name, source.info.config_name, split, source.with_format(None))
    if isinstance(source, list | tuple | np.ndarray):
        return _found_list("list", wish, list(source))
    what, fix = f"images cannot be read from a {type(source).__name__}", "pass one of these, such as 'digits'"
    raise UsageError(what, "images are a name, a datasets.Dataset or a list of PIL images", fix)


def _found_list(name: str, wish: Wish, pictures: list[Any], labels: list[int] | None = None) -> Found:
    _no_config(name, wish.config)
    return Found(name, None, _choose_split(name, [], wish.split), pictures, labels)


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
        with _in_our_words(name), ArrowWriter(path=path, features=features, writer_batch_size=50) as file:
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


# Choosing.


def check_enough(name: str, k: int | None, n: int) -> None:
    """Refuse a dataset of ``n`` images if that is none at all, or fewer than ``k``."""
    if n == 0:
        raise UnfitError(f"{name} is empty", "a comparison needs images", "choose another dataset or --split")
    if k is not None and k > n:
        why = "each image is priced once, so none can be used twice"
        raise UnfitError(f"{name} has {n} images, fewer than k = {k}", why, f"use -k {n} or less")


def choose_columns(found: Found, wish: str | None) -> tuple[str, str | None]:
    """Return the column of images, and that of class labels if any; a stream may have to show its first row."""
    import datasets

    features = found.data.features
    if not features:
        with _in_our_words(found.id):
            first = list(itertools.islice(found.data, 1))
        check_enough(found.id, None, len(first))
        features = datasets.Dataset.from_list(first).features
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    label = "label" if "label" in labels else next(iter(labels), None)
    return _choose_column(found.id, features, wish), label


def _choose_column(name: str, features: Any, wish: str | None) -> str:
    found, listed = _image_columns(features), ", ".join(features)
    if wish is not None and wish not in features:
        raise NotFoundError(f"there is no column {wish!r} in {name}", f"it has {listed}", "give one by --column")
    if not found or wish not in (None, *found):
        what = f"{name} has no column of images" if wish is None else f"column {wish!r} of {name} holds no images"
        raise UnfitError(what, f"its columns are {listed}", "choose a dataset of images, or another --column")
    usual = [column for column in (wish, "image", "img") if column in found]
    if len(found) > 1 and not usual:
        why = f"they are {', '.join(found)}"
        raise UsageError(f"{name} has several columns of images", why, f"add --column {found[0]}, or another")
    return (usual or found)[0]


def _image_columns(features: Any) -> list[str]:
    """Return columns typed as images, or else those that hold encoded files without saying so."""
    import datasets

    def holds_files(feature: Any) -> bool:
        return "bytes" in feature if isinstance(feature, dict) else getattr(feature, "dtype", "").endswith("binary")

    typed = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    return typed or [name for name, feature in features.items() if holds_files(feature)]


def _choose_split(name: str, splits: Sequence[str], wish: str | None) -> str | None:
    listed = ", ".join(splits)
    if wish is not None and wish not in splits:
        why = f"it has the splits {listed}" if splits else f"{name} has no named splits"
        fix = f"use --split {splits[0]}" if splits else "leave out --split"
        raise NotFoundError(f"there is no split {wish!r} of {name}", why, fix)
    if wish is None and len(splits) > 1 and "train" not in splits:
        raise UsageError(f"{name} has several splits", f"they are {listed}", f"add --split {splits[0]}, or another")
    return wish or ("train" if "train" in splits else next(iter(splits), None))


def _no_config(name: str, config: str | None) -> None:
    if config is not None:
        why = f"{name} has no configurations"
        raise NotFoundError(f"there is no configuration {config!r} of {name}", why, "leave out --config")


# Refusing.


@contextmanager
def _in_our_words(name: str, config: str | None = None) -> Iterator[None]:
    """Tell failures of `datasets` in three lines."""
    try:
        yield
    except (MemoryError, InfodistError):
        raise
    except Exception as error:
        raise _refusal(name, config, error) from error


def _refusal(name: str, config: str | None, error: Exception) -> InfodistError:
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HFValidationError

    why = first_line(error)
    if "scripts are no longer supported" in why:
        fix = "choose a dataset stored as images or parquet, or convert this one"
        return UnfitError(f"{name} needs a loading script", "code of a dataset is never run", fix)
    repository, _, revision = name.partition("@")
    if refused := refusal("dataset", repository, revision or None, error):
        return refused
    if isinstance(error, DatasetNotFoundError | HFValidationError):
        return (gated if "is a gated dataset" in why else missing)("dataset", repository)
    if "onfig" in why and (listed := re.search(r"\[(.+)\]", str(error))):
        return _which_config(name, config, re.findall(r"'([^']+)'", listed[1]))
    if isinstance(error, FileNotFoundError):
        return UnfitError(f"{name} holds no readable data", why, "give a folder of images or parquet files")
    return UnfitError(f"{name} cannot be read", why, "repair it, or choose another dataset")


def _which_config(name: str, config: str | None, configs: Sequence[str]) -> InfodistError:
    why, fix = f"it has {', '.join(configs)}", f"add --config {configs[0]}, or another"
    if config is None:
        return UsageError(f"{name} has several configurations", why, fix)
    return NotFoundError(f"there is no configuration {config!r} of {name}", why, fix)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or of what it wraps where it says nothing itself."""
    from datasets.exceptions import DatasetGenerationError

    error = error.__cause__ or error if isinstance(error, DatasetGenerationError) else error
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
