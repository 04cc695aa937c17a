"""An atlas as a folder: which images, a file for each model, and a table of them."""

import json
import logging
import os
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hf_infodist.errors import UnfitError, UsageError, telling_of_system
from hf_infodist.home import sync, write_durably
from hf_infodist.results.atlas.entry import printable
from hf_infodist.results.atlas.files import SUFFIX, AtlasFile, open_file
from hf_infodist.results.atlas.head import HEAD, AtlasHead, read_head
from hf_infodist.results.atlas.keys import outputs_key
from hf_infodist.results.atlas.parts import flush, leads_out, part_of, remove_forgotten
from hf_infodist.results.names import find_name

INDEX, MODELS = "index.parquet", "models"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Atlas:
    """A folder of files, one for each model; any number of processes may add to it.

    A file is written whole, reaches the disk, and only then gets its name; what cannot be read is set aside with a
    word. The files alone count; the table ``index.parquet`` is made from them, for people and for the Hub's viewer.

    Attributes:
        folder: Where.
        head: Of which images.
        writable: Whether damaged files may be set aside, and the table be written.
        within: Where links may lead to; nowhere else than to the folder if None.
    """

    folder: Path
    head: AtlasHead
    writable: bool = field(default=True, compare=False)
    within: Path | None = field(default=None, compare=False)

    @classmethod
    def open(cls, folder: Path, *, writable: bool = True, within: Path | None = None) -> "Atlas":
        """Read what a folder is of.

        Raises:
            NotFoundError: If it is no atlas.
            UnfitError: If its head is damaged.
        """
        head = read_head(folder, within or folder)
        if leads_out(folder / MODELS, within or folder):
            why, fix = "its models are the files of another folder", "fetch it again, or begin another atlas"
            raise UnfitError(f"{folder} is damaged", why, fix)
        return cls(folder, head, writable, within)

    @classmethod
    def begin(cls, folder: Path, head: AtlasHead) -> "Atlas":
        """Make an atlas, or open the one that is there.

        Raises:
            UnfitError: If that is of other images.
        """
        with telling_of_system():
            (folder / MODELS).mkdir(parents=True, exist_ok=True)
            for place in (folder, folder / MODELS):
                remove_forgotten(place)
            if not (folder / HEAD).exists():
                with part_of(folder) as new:
                    write_durably(new, json.dumps(head.to_dict(), sort_keys=True).encode())
                    _name(new, folder / HEAD)
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
    def sound(self) -> tuple[AtlasFile, ...]:
        """All models whose logits are numbers, by name; others are set aside with a word. It reads all logits."""
        return tuple(file for file in self.files if self._is_sound(file))

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
            with telling_of_system(), part_of(self.folder) as new:
                to_table(files).to_parquet(new, index=False)
                new.replace(self.folder / INDEX)

    def _listed(self) -> list[str]:
        return sorted(path.name for path in self.models.glob(f"*{SUFFIX}"))

    def _read(self, path: Path) -> AtlasFile | None:
        try:
            if path.is_symlink() and (leads_out(path, self.within or self.folder) or not path.exists()):
                raise ValueError("it is a link to elsewhere")
            file = open_file(path)
            if file.k != self.head.images.k:
                raise ValueError(f"it is of {file.k} images instead of {self.head.images.k}")
            model, head = file.entry.model, self.head
            if file.entry.outputs != outputs_key(
                head.images.fingerprint, model.preprocessing, model.weights, head.layers
            ):
                raise ValueError("it is of other images than its atlas, or not what it says")
            return file
        except FileNotFoundError:
            return None  # somebody has set it aside this moment
        except OSError as error:  # it may be readable again
            logger.warning("%s cannot be read (%s): left out", printable(str(path)), error.strerror)
            return None
        except ValueError as error:
            self.set_aside(path, str(error))
            return None

    def _is_sound(self, file: AtlasFile) -> bool:
        try:
            return len(file.logits) > 0
        except UnfitError as error:
            self.set_aside(file.path, error.why)
            return False

    def set_aside(self, path: Path, why: str) -> None:
        """Take a file out of the atlas, and say so; of an atlas that is not ours it is only left out."""
        fate = "left out"
        if self.writable:
            with suppress(OSError):
                aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.unreadable")
                path.rename(aside)
                fate = f"kept as {aside.name}, and left out"
        logger.warning("%s cannot be read (%s): %s", printable(str(path)), printable(why), printable(fate))

    def merge(self, other: "Atlas", only: Collection[str] | None = None) -> "Joined":
        """Take over the models of another atlas; those that are there stay as they are.

        Args:
            other: Of the same images.
            only: Which of its models, by outputs; all of them if None.

        Raises:
            UnfitError: If it is of other images.
        """
        self.require_same_images(other.head, str(other.folder))
        listed = [name.removesuffix(SUFFIX) for name in other._listed()]
        found: dict[str, list[str]] = {"new": [], "same": []}
        for outputs in listed if only is None else [name for name in listed if name in only]:
            file = other.file(outputs)
            if file is None or not other._is_sound(file):
                found.setdefault("unreadable", []).append(printable(outputs + SUFFIX))
            elif self.file(outputs):
                found["same"].append(file.entry.id)
            else:
                self._take_over(file.path)
                found["new"].append(file.entry.id)
        self.write_index()
        return Joined(**{name: tuple(sorted(names)) for name, names in found.items()})

    def _take_over(self, path: Path) -> None:
        import shutil

        with telling_of_system(), part_of(self.models) as new:
            shutil.copyfile(path, new)
            flush(new)
            new.replace(self.models / path.name)
            sync(self.models)


@dataclass(frozen=True)
class Joined:
    """What came of joining atlases, by names of models.

    Attributes:
        new: Taken over.
        same: There already.
        unreadable: Files that could not be read, and were left out.
    """

    new: tuple[str, ...]
    same: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


def _name(new: Path, final: Path) -> None:
    """Give a file its name, unless somebody was faster."""
    try:
        os.link(new, final)
    except FileExistsError:
        pass
    except PermissionError:  # the file system has no hard links
        new.rename(final)
