"""An atlas as a folder: which images, a file for each model, and a table of them."""

import json
import logging
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hf_infodist.errors import NotFoundError, UnfitError, UsageError, telling_of_system
from hf_infodist.home import write_durably
from hf_infodist.results.atlas.files import SUFFIX, AtlasFile, open_file
from hf_infodist.results.names import find_name
from hf_infodist.results.records import ImagesRecord

SCHEMA = "infodist.atlas/1"
HEAD, INDEX, MODELS = "atlas.json", "index.parquet", "models"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AtlasHead:
    """Which images an atlas is of.

    Attributes:
        images: The sample. The pictures themselves may be private: outputs are enough for those who have them too.
        layers: Version of what is read of the layers of a model.
        labels: Class of each image, ``[k]``; -1 where there is none; empty where images have no classes.
        label_names: A name for each class.
    """

    images: ImagesRecord
    layers: int
    labels: tuple[int, ...] = ()
    label_names: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.atlas/1``."""
        names = None if self.label_names is None else list(self.label_names)
        fields = {"images": vars(self.images).copy(), "layers": self.layers, "labels": list(self.labels)}
        return {"schema": SCHEMA, **fields, "label_names": names}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "AtlasHead":
        """Rebuild a head from `to_dict`.

        Raises:
            ValueError: If it is something else.
        """
        if fields.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {fields.get('schema')!r} and not {SCHEMA!r}")
        try:
            images, labels, names = ImagesRecord(**fields["images"]), fields["labels"], fields["label_names"]
            head = cls(images, fields["layers"], tuple(labels), None if names is None else tuple(names))
        except (KeyError, TypeError) as error:
            raise ValueError(f"it has other fields: {error}") from None
        if not isinstance(images.k, int) or images.k < 1 or len(head.labels) not in (0, images.k):
            raise ValueError(f"it is of {images.k!r} images, with {len(head.labels)} labels")
        return head


@dataclass(frozen=True)
class Atlas:
    """A folder of files, one for each model; any number of processes may add to it.

    A file is written whole, reaches the disk, and only then gets its name; what cannot be read is set aside with a
    word. The files alone count; the table ``index.parquet`` is made from them, for people and for the Hub's viewer.

    Attributes:
        folder: Where.
        head: Of which images.
        writable: Whether damaged files may be set aside, and the table be written.
    """

    folder: Path
    head: AtlasHead
    writable: bool = field(default=True, compare=False)

    @classmethod
    def open(cls, folder: Path, *, writable: bool = True) -> "Atlas":
        """Read what a folder is of.

        Raises:
            NotFoundError: If it is no atlas.
            UnfitError: If its head is damaged.
        """
        path = folder / HEAD
        try:
            return cls(folder, AtlasHead.from_dict(json.loads(path.read_text())), writable)
        except FileNotFoundError:
            why, fix = f"there is no {HEAD} in it", f"begin one: infodist atlas add MODEL… --atlas {folder} -i DATASET"
            raise NotFoundError(f"{folder} is no atlas", why, fix) from None
        except (ValueError, AttributeError) as error:
            raise UnfitError(f"{path} is damaged", str(error), "fetch it again, or begin another atlas") from None

    @classmethod
    def begin(cls, folder: Path, head: AtlasHead) -> "Atlas":
        """Make an atlas, or open the one that is there.

        Raises:
            UnfitError: If that is of other images.
        """
        with telling_of_system():
            (folder / MODELS).mkdir(parents=True, exist_ok=True)
            if not (folder / HEAD).exists():
                new = folder / f".{uuid.uuid4().hex}.part"
                write_durably(new, json.dumps(head.to_dict(), sort_keys=True).encode())
                new.replace(folder / HEAD)
        atlas = cls.open(folder)
        atlas.require_same_images(head, str(head.images))
        return atlas

    def require_same_images(self, head: AtlasHead, whose: str) -> None:
        """Refuse what is of other images than this atlas, or of other layers.

        Raises:
            UnfitError: If it is.
        """
        ours, theirs = self.head.images, head.images
        if ours.fingerprint != theirs.fingerprint:
            raise UnfitError(
                f"{whose} is an atlas of other images",
                f"it has {theirs} ({theirs.fingerprint[:12]}), and {self.folder} has {ours} ({ours.fingerprint[:12]})",
                "use an atlas for each sample of images: outputs of others cannot be compared",
            )
        if self.head.layers != head.layers:
            why = f"layers are read by version {head.layers} there, and by {self.head.layers} here"
            raise UnfitError(f"{whose} does not go with {self.folder}", why, "make the older of the two again")

    @property
    def models(self) -> Path:
        """Folder of the files."""
        return self.folder / MODELS

    @cached_property
    def files(self) -> tuple[AtlasFile, ...]:
        """All models that can be read, by name; what cannot is set aside with a word."""
        found = [file for path in sorted(self.models.glob(f"*{SUFFIX}")) if (file := self._read(path))]
        return tuple(sorted(found, key=lambda file: (file.entry.id, file.entry.outputs)))

    @property
    def names(self) -> list[str]:
        """Names of the models."""
        return [file.entry.id for file in self.files]

    def file(self, outputs: str) -> AtlasFile | None:
        """Return the model of certain outputs; None if it is not there, or cannot be read."""
        path = self.models / f"{outputs}{SUFFIX}"
        return self._read(path) if path.exists() else None

    def find(self, name: str) -> AtlasFile:
        """Return the model of a name, or of the end of one.

        Raises:
            NotFoundError: If the atlas does not have it.
            UsageError: If several may be meant.
        """
        name = find_name(name, self.names, f"infodist atlas add {{}} --atlas {self.folder}")
        found = [file for file in self.files if file.entry.id == name]
        if len(found) > 1:
            why = f"{len(found)} models of the atlas are called so: {', '.join(one.path.stem for one in found)}"
            raise UsageError(f"{name!r} does not say which model is meant", why, "remove all but one of these files")
        return found[0]

    def write_index(self) -> None:
        """Make the table of all models anew, until it has all that others have added meanwhile."""
        from hf_infodist.results.atlas.index import to_table

        there: Sequence[str] = ("",)
        while there != (now := self._listed()):
            there = now
            files = Atlas(self.folder, self.head).files
            new = self.folder / f".{uuid.uuid4().hex}.part"
            with telling_of_system():
                try:
                    to_table(files).to_parquet(new, index=False)
                    new.replace(self.folder / INDEX)
                finally:
                    new.unlink(missing_ok=True)

    def _listed(self) -> list[str]:
        return sorted(path.name for path in self.models.glob(f"*{SUFFIX}"))

    def _read(self, path: Path) -> AtlasFile | None:
        try:
            file = open_file(path)
            if file.k != self.head.images.k:
                raise ValueError(f"it is of {file.k} images instead of {self.head.images.k}")
            return file
        except FileNotFoundError:
            return None  # somebody has set it aside this moment
        except ValueError as error:
            self.set_aside(path, str(error))
            return None

    def set_aside(self, path: Path, why: str) -> None:
        """Take a file out of the atlas, and say so; of an atlas that is not ours it is only left out."""
        fate = "left out"
        if self.writable:
            with suppress(OSError):
                aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.unreadable")
                path.rename(aside)
                fate = f"kept as {aside.name}, and left out"
        logger.warning("%s cannot be read (%s): %s", path, why, fate)

    def merge(self, other: "Atlas") -> "Joined":
        """Take over the models of another atlas; those that are there stay as they are.

        Raises:
            UnfitError: If it is of other images.
        """
        import shutil

        self.require_same_images(other.head, str(other.folder))
        new: list[str] = []
        same: list[str] = []
        for file in other.files:
            target = self.models / file.path.name
            (same if target.exists() else new).append(file.entry.id)
            if not target.exists():
                part = self.models / f".{uuid.uuid4().hex}.part"
                with telling_of_system():
                    try:
                        shutil.copyfile(file.path, part)
                        part.replace(target)
                    finally:
                        part.unlink(missing_ok=True)
        self.write_index()
        return Joined(tuple(new), tuple(same))


@dataclass(frozen=True)
class Joined:
    """What came of joining atlases, by names of models.

    Attributes:
        new: Taken over.
        same: There already.
    """

    new: tuple[str, ...]
    same: tuple[str, ...]
