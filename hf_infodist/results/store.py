"""The store: one file per directed codelength, named by the hash of everything that decides it."""

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hf_infodist.errors import NotFoundError, UsageError, refused_by_system, telling_of_system
from hf_infodist.home import Home, sync, write_durably
from hf_infodist.protocol import CodingProtocol, coding_of_preset
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.records import ImagesRecord, ModelRecord, package_versions
from hf_infodist.results.words import Unit

SCHEMA = "infodist.codelength/1"
ROUND_OFF = 1e-6  # of the price of an image in closed form: relative, and in nats
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CodelengthRecord:
    """A directed codelength with everything needed to trust and repeat it.

    Attributes:
        key: From `keys.codelength_key`.
        teacher: Whose outputs were learnt.
        student: Where learning started.
        images: The sample: id, split, k, seed, fingerprint.
        protocol: How the student was trained and priced.
        codelength: L'(teacher | student).
        device: Type of device it was computed on, and the precision of training if it was not full.
        versions: Of the libraries.
        made: When, UTC.
        coding: Version of the coding that computed it; that of the protocol if 0. Others are not comparable.
        classes: Names that the classes of ``teacher`` and ``student`` were given, where matching them first has made
            another number of it; none where it is that of the models as they are.
    """

    key: str
    teacher: ModelRecord
    student: ModelRecord
    images: ImagesRecord
    protocol: CodingProtocol
    codelength: Codelength
    device: str
    versions: dict[str, str] = field(default_factory=package_versions)
    made: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    coding: int = 0
    classes: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Note the version of a number that is new."""
        object.__setattr__(self, "coding", self.coding or self.protocol.coding)

    def same_number(self, other: "CodelengthRecord") -> bool:
        """Tell whether another record says the same of every image.

        To the bit where students were fine-tuned, which is done on one core; closed forms are worked out on all cores,
        and agree up to round-off.
        """
        ours, theirs = self.codelength.image_nats, other.codelength.image_nats
        if ours.shape != theirs.shape or any(learner.trained for learner in self.protocol.learners):
            return np.array_equal(ours, theirs)
        return np.allclose(ours, theirs, rtol=ROUND_OFF, atol=ROUND_OFF)

    @property
    def current(self) -> bool:
        """Whether this code computes it so, and no preset of its protocol's name is of a newer version."""
        return self.coding == max(self.protocol.coding, coding_of_preset(self.protocol))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.codelength/1``."""
        record = {f.name: getattr(self, f.name) for f in fields(self)}
        record |= {part: vars(getattr(self, part)).copy() for part in ("teacher", "student", "images")}
        record |= {"protocol": self.protocol.to_dict(), "codelength": self.codelength.to_dict()}
        return {"schema": SCHEMA} | record

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "CodelengthRecord":
        """Rebuild a record from `to_dict`, to the bit.

        Raises:
            ValueError: If it is something else.
        """
        record = {"coding": 1} | record  # the first version did not say which it was
        if record.pop("schema", None) != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        record |= {part: ModelRecord(**record[part]) for part in ("teacher", "student")}
        record["images"] = ImagesRecord(**record["images"])
        record["protocol"] = CodingProtocol.from_dict(record["protocol"])
        record["codelength"] = Codelength.from_dict(record["codelength"])
        return cls(**record)

    def __str__(self) -> str:
        """Return one line."""
        orders = f" × {self.protocol.orders}" if self.protocol.orders > 1 else ""
        code = self.codelength
        rate = Unit.BITS.rate(code.nats, code.stderr_nats, len(code.image_nats))
        return (
            f"{self.key[:12]}  {rate:>32}  {self.teacher.id} given {self.student.id}  "
            f"({self.images}, {self.protocol.name}{orders}, {self.device}, {self.made[:10]}"
            f"{', classes matched' if self.classes else ''}"
            f"{'' if self.current else f'; version {self.coding}, not comparable'})"
        )


@dataclass(frozen=True)
class Merged:
    """What came of merging one store into another, by keys.

    Attributes:
        new: Taken over.
        same: There already, with the same number.
        conflicts: There already, with another number, which was kept.
        unreadable: Names of files that could not be read, and were left where they are.
    """

    new: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


class Store:
    """A folder of records, ``KEY.json``; any number of processes may write to it.

    A file is written whole, reaches the disk, and only then gets its name, which no file had before: what is there is
    never written over.

    Args:
        folder: that of `Home.at` if None.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder or Home.at().codelengths

    def __contains__(self, key: object) -> bool:
        return self._path(str(key)).exists()

    def keys(self) -> list[str]:
        """Return the keys of all records, in order."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def records(self) -> Iterator[CodelengthRecord]:
        """Yield all records that can be read."""
        found = (self.get(key) for key in self.keys())
        return (record for record in found if record)

    def get(self, key: str) -> CodelengthRecord | None:
        """Return a record; None if there is none, or none that can be read: such a file is moved aside."""
        path = self._path(key)
        try:
            return read_record(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refused_by_system(error) or error from error
        except ValueError as error:
            self._move_aside(path, str(error))
            return None

    def find(self, start: str) -> CodelengthRecord:
        """Return the record whose key starts so.

        Raises:
            NotFoundError: If there is none that can be read.
            UsageError: If there are several.
        """
        keys = [key for key in self.keys() if key.startswith(start)]
        if len(keys) > 1:
            why = f"{len(keys)} begin with it: {', '.join(key[:16] for key in keys[:3])}, …"
            raise UsageError(f"{start!r} does not say which result is meant", why, "type more of its digits")
        record = self.get(keys[0]) if keys else None
        if record is None:
            why = f"the store {self.folder} has no readable file of that name"
            raise NotFoundError(f"there is no result {start!r}", why, "list what there is: infodist results ls")
        return record

    def put(self, record: CodelengthRecord) -> CodelengthRecord:
        """Write a record, unless there is one of its key; return the one that is there then."""
        with telling_of_system():
            self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            there = self.get(record.key)
            if there:
                return there
            if self._write(record):
                return record

    def merge(self, folder: Path) -> Merged:
        """Take over the records of another folder; what is there already stays as it is.

        Raises:
            NotFoundError: If there is no such folder.
        """
        if not folder.is_dir():
            why = "results are merged from a folder of files KEY.json"
            raise NotFoundError(f"{str(folder)!r} is not a folder", why, "check the path")
        found: dict[str, list[str]] = {part.name: [] for part in fields(Merged)}
        for path in sorted(folder.glob("*.json")):
            try:
                record = read_record(path)
            except ValueError:
                found["unreadable"].append(path.name)
                continue
            kept = self.put(record)
            fate = "new" if kept is record else "same" if kept.same_number(record) else "conflicts"
            found[fate].append(record.key)
        return Merged(**{name: tuple(keys) for name, keys in found.items()})

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _write(self, record: CodelengthRecord) -> bool:
        """Write a record under its name; False if somebody else did before."""
        new, final = self.folder / f".{record.key}-{uuid.uuid4().hex}", self._path(record.key)
        body = record.to_dict()
        try:
            write_durably(new, json.dumps(body | {"sha256": _digest(body)}).encode())
            os.link(new, final)
        except FileExistsError:
            return False
        except PermissionError:  # the file system has no hard links
            new.rename(final)
        finally:
            new.unlink(missing_ok=True)
        sync(self.folder)
        return True

    def _move_aside(self, path: Path, why: str) -> None:
        aside = path.with_name(f"{path.name}.unreadable")
        if aside.exists():
            aside = path.with_name(f"{path.name}-{uuid.uuid4().hex[:8]}.unreadable")
        with suppress(FileNotFoundError):  # another process has moved it
            path.rename(aside)
            logger.warning("%s cannot be read (%s): kept as %s, and computed again", path, why, aside.name)


def read_record(path: Path) -> CodelengthRecord:
    """Read one file of a store.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not what was written, or something else.
    """
    try:
        body = json.loads(path.read_text())
        digest = body.pop("sha256", None)
        record = CodelengthRecord.from_dict(body)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"a record has other fields: {error}") from error
    if digest != _digest(body):
        raise ValueError("its contents are not what was written")
    if path.stem != record.key:
        raise ValueError(f"it belongs to {record.key}")
    return record


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
