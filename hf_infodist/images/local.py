"""Folders and files of this machine: every image counts, or every table."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from yaml import YAMLError

from hf_infodist.errors import UnfitError, UsageError
from hf_infodist.images.choice import choose_column, choose_split, meant_by, no_config
from hf_infodist.images.files import (
    ARCHIVES,
    TABLES,
    Contents,
    ImageFiles,
    class_folders,
    class_of,
    list_contents,
    state,
)
from hf_infodist.images.metadata import described
from hf_infodist.images.opening import Found, open_builder, open_object
from hf_infodist.images.refusal import in_our_words
from hf_infodist.images.request import Sample


def open_file(name: str, path: Path, sample: Sample) -> Found:
    """Open a file of rows, or an archive of images.

    Raises:
        UnfitError: If it is neither.
    """
    if path.suffix.lower() not in (*TABLES, *ARCHIVES):
        why = f"of single files {', '.join((*TABLES, *ARCHIVES))} are read, and loading scripts are never run"
        fix = "give one of these, or a folder of images or of parquet files"
        raise UnfitError(f"{name} is not a dataset", why, fix)
    return replace(open_contents(name, path, sample), config=None)


def open_folder(name: str, path: Path, sample: Sample) -> Found:
    """Open a folder: what was saved or declared in there, or else every image, or every table."""
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        from datasets import load_from_disk

        with in_our_words(name, sample.config):
            data = load_from_disk(str(path))
        return open_object(data, sample, name)
    if declared(path / "README.md"):
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        cache = _cache([str(file) for file in files])
        with in_our_words(name):
            for file in files:
                _link(Path(cache) / "files" / file.relative_to(path), file)
        return open_builder(name, sample, f"{cache}/files", sample.config, cache_dir=cache)
    return open_contents(name, path, sample)


def declared(card: Path) -> bool:
    """Tell whether a card says itself which files are the configurations and splits of a dataset."""
    from huggingface_hub.repocard import metadata_load

    try:
        return bool((metadata_load(card) or {}).get("configs"))
    except (OSError, ValueError, YAMLError):
        return False


def open_contents(name: str, path: Path, sample: Sample) -> Found:
    """Open every image that lies somewhere, or every table.

    Raises:
        UnfitError: If there are none, or some that cannot be read.
        UsageError: If it is open which are meant.
    """
    from datasets import ClassLabel, Image

    no_config(name, sample.config)
    contents = list_contents(name, path)
    if contents.tables:
        return _open_tables(name, contents, sample)
    if not contents.images:
        raise _no_images(name, path, contents)
    split = str(choose_split(name, list(contents.images), sample.split))
    chosen = meant_by(split, list(contents.images))
    if contents.metadata:
        parts = [described(name, contents, one, sample.column) for one in chosen]
        files = ImageFiles([place for places, _ in parts for place in places], sample.column or "image")
        metadata = [table for _, tables in parts for table in tables]
        return Found(name, "default", split, files, files.column, metadata=metadata)
    names = class_folders(contents)
    features = {"image": Image()} | ({} if names is None else {"label": ClassLabel(names=list(names))})
    column = choose_column(name, features, sample.column)
    places = [place for one in chosen for place in contents.images[one]]
    labels = None if names is None else [class_of(place, names) for place in places]
    return Found(name, "default", split, ImageFiles(places, column), column, labels, names)


def _no_images(name: str, path: Path, contents: Contents) -> UnfitError:
    if ".py" in contents.others:
        fix = "give a folder of images or of parquet files, or convert this one"
        return UnfitError(f"{name} needs a loading script", "code of a dataset is never run", fix)
    endings = ", ".join(ending or "no ending" for ending in contents.others)
    why = f"the files in there have {endings}" if endings else "there is nothing in there but what is hidden"
    fix = "give images in a folder, a .zip or a .tar, or tables in .parquet files; unpack what is packed otherwise"
    return UnfitError(f"{name} holds no images", why, fix)


def _open_tables(name: str, contents: Contents, sample: Sample) -> Found:
    """Open Parquet or Arrow files in a cache of their present state."""
    paths = [path for files in contents.tables.values() for path in files]
    endings = {Path(path).suffix.lower() for path in paths}
    if len(endings) > 1:
        what, why = f"{name} holds {' and '.join(sorted(endings))} files", "either may be meant"
        raise UsageError(what, why, f"give one of them, such as {paths[0]}")
    cache = _cache(paths)
    with in_our_words(name):
        named = {path: Path(cache) / f"{number:05}{Path(path).suffix.lower()}" for number, path in enumerate(paths)}
        link = {path: _link(place, Path(path)) for path, place in named.items()}
    links = {split: [link[path] for path in files] for split, files in contents.tables.items()}
    kind = endings.pop().removeprefix(".")
    return replace(open_builder(name, sample, kind, data_files=links, cache_dir=cache), config="default")


def _cache(paths: Sequence[str]) -> str:
    """Return a folder of the cache of `datasets`, which itself would know a file by its path and time."""
    import datasets

    return os.path.join(datasets.config.HF_DATASETS_CACHE, f"infodist-{state(paths)}")


def _link(link: Path, file: Path) -> str:
    """Make a link to a file, in a folder whose name no pattern can be read into."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        new = link.with_name(f".{link.name}.{os.getpid()}")
        new.symlink_to(os.path.realpath(file))
        new.rename(link)
    return str(link)
