"""What a local folder, file or archive holds: every image in it counts, whatever it and its folders are called."""

import hashlib
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib import import_module
from mimetypes import MimeTypes
from pathlib import Path, PurePosixPath
from typing import Any

from hf_infodist.errors import UnfitError, UsageError

SPLITS = ("train", "validation", "test")
TABLES = (".parquet", ".arrow")
ARCHIVES = (".zip", ".tar")
_COMPRESSED = (".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_SHARD = re.compile(rf"({'|'.join(SPLITS)})(-\d+-of-\d+)?\.\w+")  # as the Hub names the files of a split
_NO_PHOTOGRAPHS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # to read them Pillow needs other programs
_KINDS = MimeTypes()  # as Python has them, whatever a system adds
_PLUGINS = {".heic": "pillow-heif", ".heif": "pillow-heif", ".jxl": "pillow-jxl-plugin"}


@dataclass(frozen=True)
class Place:
    """Where an image file lies.

    Attributes:
        name: Path below the folder that was named, as if archives were folders.
        path: File, or archive that holds it.
        member: Of a zip: its name in there.
        offset: Of a tar: where its bytes begin.
        size: And how many they are.
        archive: Name of the archive below the folder that was named.
    """

    name: str
    path: str
    member: str | None = None
    offset: int | None = None
    size: int = 0
    archive: str = ""

    def read(self) -> bytes:
        """Return the bytes of the file."""
        if self.member is not None:
            return _archive(self.path, os.getpid(), state([self.path])).read(self.member)
        with open(self.path, "rb") as file:
            file.seek(self.offset or 0)
            return file.read(-1 if self.offset is None else self.size)


class ImageFiles:
    """Rows of encoded images, each read when it is asked for; in a row they are called as ``column`` says."""

    def __init__(self, places: Sequence[Place], column: str):
        self.places, self.column = tuple(places), column

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> dict[str, bytes]:
        return {self.column: self.places[row].read()}


@dataclass(frozen=True, eq=False)
class Contents:
    """What a folder or an archive holds.

    Attributes:
        images: Image files by split.
        tables: Parquet or Arrow files by split.
        metadata: Files that say which image is which row.
        others: Endings of everything else.
    """

    images: Mapping[str, list[Place]] = field(default_factory=dict)
    tables: Mapping[str, list[str]] = field(default_factory=dict)
    metadata: Sequence[Place] = ()
    others: tuple[str, ...] = ()


def list_contents(name: str, path: Path) -> Contents:
    """Find every image and every table of a folder, of the archives in it, or of one archive.

    Links are followed; what begins with a dot is not looked at. Splits are folders at the top, where these are no
    others than ``train``, ``validation`` and ``test``, or tables that are all named as the Hub names those of a split.

    Raises:
        UnfitError: If image files lie there that nothing installed can read.
        UsageError: If both images and tables are there, so that either may be meant.
    """
    places = sorted(_walk(path) if path.is_dir() else _members(path.name, path), key=_order)
    images, tables, metadata, others = [], [], [], set()
    for place in places:
        ending = PurePosixPath(place.name).suffix.lower()
        if PurePosixPath(place.name).name in _METADATA:
            metadata.append(place)
        elif ending in TABLES and place.member is None and place.offset is None:
            tables.append(place)
        elif _is_image(place):
            images.append(place)
        else:
            others.add(ending)
    _check_readable(name, images)
    if images and tables:
        what, why = f"{name} holds both images and {PurePosixPath(tables[0].name).suffix} files", "either may be meant"
        raise UsageError(what, why, f"give a folder of images alone, or {tables[0].path}")
    shards = [_SHARD.fullmatch(PurePosixPath(place.name).name) for place in tables]
    splits = [match[1] for match in shards if match] if all(shards) else None
    return Contents(
        _by_split(images, None),
        {split: [place.path for place in found] for split, found in _by_split(tables, splits).items()},
        metadata,
        tuple(sorted(others)),
    )


def _order(place: Place) -> str:
    """Return what places are sorted by: names; a tar, whose files are samples in an order, by its own alone."""
    return place.name if place.offset is None else place.archive


def _is_image(place: Place) -> bool:
    """Tell whether a file is an image: by its ending, or by its first bytes where the ending says nothing."""
    ending = PurePosixPath(place.name).suffix.lower()
    if ending in _readable() or _image_elsewhere(ending):
        return True
    alone = place.member is None and place.offset is None
    return alone and not _KINDS.guess_type(place.name)[0] and ending not in _COMPRESSED and _opens(place.path)


def _image_elsewhere(ending: str) -> bool:
    """Tell whether an ending is that of images which Pillow does not open here."""
    kind = _KINDS.guess_type(f"name{ending}")[0] or ""
    unknown = ending in _PLUGINS or (kind.startswith("image/") and not kind.startswith("image/svg"))
    return unknown and ending not in _readable()


def _opens(path: str) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.format not in _NO_PHOTOGRAPHS
    except Exception:  # decoders fail in many ways
        return False


@cache
def _readable() -> frozenset[str]:
    """Return the endings that Pillow opens, with the plugins that are installed."""
    from PIL import Image

    for module, register in (("pillow_heif", "register_heif_opener"), ("pillow_jxl", None)):
        try:
            plugin = import_module(module)
        except ImportError:
            continue
        if register:
            getattr(plugin, register)()
    kinds = Image.registered_extensions().items()
    return frozenset(ending for ending, kind in kinds if kind in Image.OPEN and kind not in _NO_PHOTOGRAPHS)


def _check_readable(name: str, images: Sequence[Place]) -> None:
    endings = [PurePosixPath(place.name).suffix.lower() for place in images]
    unknown = sorted({ending for ending in endings if _image_elsewhere(ending)})
    if unknown:
        count = sum(ending in unknown for ending in endings)
        why = f"Pillow reads no {' and no '.join(unknown)} here, and the others alone are another sample"
        plugin = next((_PLUGINS[ending] for ending in unknown if ending in _PLUGINS), None)
        fix = f"pip install {plugin}, or convert these files" if plugin else "convert these files, or move them away"
        raise UnfitError(f"{count} of {len(images)} images of {name} cannot be read", why, fix)


def patterns() -> list[str]:
    """Return patterns, as of file names, of images, of zips of images and of metadata."""
    endings = (*sorted(_readable()), *_PLUGINS, ".zip")
    in_any_case = ("".join(f"[{c}{c.upper()}]" for c in ending.removeprefix(".")) for ending in endings)
    return [*(f"*.{ending}" for ending in in_any_case), *_METADATA, *(f"*/{name}" for name in _METADATA)]


def only_images(names: Sequence[str]) -> bool:
    """Tell by the names of files whether these are images, and no table of any kind beside them."""
    tables = (*TABLES, ".tar", ".csv", ".json", ".jsonl", ".lance")
    told = [name for name in names if PurePosixPath(name).name not in _METADATA]
    wanted = (*_readable(), *_PLUGINS, ".zip")
    return any(PurePosixPath(name).suffix.lower() in wanted for name in told) and not any(
        PurePosixPath(name).suffix.lower() in tables for name in told
    )


def _walk(root: Path) -> Iterator[Place]:
    """Yield every file below a folder, links followed, archives opened; nothing that is hidden."""

    def enter(folder: Path, name: str, above: frozenset[str]) -> Iterator[Place]:
        real = os.path.realpath(folder)
        if real in above:
            return  # a link to a folder that it lies in
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            below = f"{name}/{entry.name}".removeprefix("/")
            if _hidden(entry.name):
                continue
            if entry.is_dir():
                yield from enter(Path(entry.path), below, above | {real})
            elif entry.name.lower().endswith(ARCHIVES) and entry.is_file():
                yield from _members(below, Path(entry.path))
            else:
                yield Place(below, entry.path)

    return enter(root, "", frozenset())


def _members(name: str, path: Path) -> Iterator[Place]:
    """Yield the files of an archive, as if it were unpacked where it lies; of another file, itself."""
    folder = name.rpartition("/")[0]
    try:
        for inner, place in _listed(path):
            if not any(map(_hidden, PurePosixPath(inner).parts)):
                yield replace(Place(f"{folder}/{inner}".removeprefix("/"), str(path), *place), archive=name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise UnfitError(f"{path} cannot be read", str(error) or "it is cut short", "pack it again") from error


def _listed(path: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    ending = path.suffix.lower()
    if ending == ".zip":
        with zipfile.ZipFile(path) as packed:
            for info in packed.infolist():
                if not info.is_dir():
                    yield info.filename, (info.filename,)
    elif ending == ".tar":
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isfile():
                    yield member.name.removeprefix("./"), (None, member.offset_data, member.size)
    else:
        yield path.name, ()


@lru_cache(maxsize=16)
def _archive(path: str, process: int, state: str) -> zipfile.ZipFile:
    """Return an open zip file; another process opens its own, and what has changed is opened again."""
    return zipfile.ZipFile(path)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _by_split(places: Sequence[Place], splits: Sequence[str] | None) -> dict[str, list[Place]]:
    """Sort files into splits; all are in ``train`` where nothing names another."""
    tops = [place.name.partition("/")[0] if "/" in place.name else "" for place in places]
    if set(tops) <= set(SPLITS):
        splits = tops
    found: dict[str, list[Place]] = {}
    for place, split in zip(places, splits or ["train"] * len(places), strict=True):
        found.setdefault(split, []).append(place)
    return {split: found[split] for split in SPLITS if split in found}


# Labels


def class_folders(contents: Contents) -> tuple[str, ...] | None:
    """Return the names of classes: of the folders that hold images, if there are several, all equally deep."""
    below = [_within(place, split) for split, places in contents.images.items() for place in places]
    names = {name.parent.name for name in below}
    depths = {len(name.parts) for name in below}
    return tuple(sorted(names)) if len(names) > 1 and len(depths) == 1 else None


def class_of(place: Place, names: Sequence[str]) -> int:
    """Return the number of the class that an image's folder names."""
    return names.index(PurePosixPath(place.name).parent.name)


def _within(place: Place, split: str) -> PurePosixPath:
    """Return a name below the folder of its split."""
    return PurePosixPath(place.name.removeprefix(f"{split}/"))


def state(paths: Sequence[str]) -> str:
    """Return a hash that changes with any of some files, even where its size and the time that it tells do not."""
    stats = [(os.path.realpath(path), os.stat(path)) for path in paths]
    facts = [(path, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in stats]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
