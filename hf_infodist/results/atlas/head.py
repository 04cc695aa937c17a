"""Which images an atlas is of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_infodist.errors import NotFoundError, UnfitError
from hf_infodist.results.atlas.entry import MOST_CLASSES, check_names, is_count, printable
from hf_infodist.results.atlas.header import MOST_BYTES, parse
from hf_infodist.results.atlas.packing import MOST_IMAGES
from hf_infodist.results.atlas.parts import leads_out
from hf_infodist.results.records import ImagesRecord

SCHEMA = "infodist.atlas/1"
HEAD = "atlas.json"


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
            ValueError: If it is something else; it may be a stranger's.
        """
        if fields.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {printable(repr(fields.get('schema')), 40)} and not {SCHEMA!r}")
        try:
            images, labels, names = ImagesRecord(**fields["images"]), fields["labels"], fields["label_names"]
            head = cls(images, fields["layers"], tuple(labels), None if names is None else tuple(names))
        except (KeyError, TypeError) as error:
            raise ValueError(f"it has other fields: {error}") from None
        head._check()
        return head

    def _check(self) -> None:
        """Refuse what a stranger's file may say and no sample is."""
        images, names = self.images, self.label_names or ()
        check_names(images.id, images.config, images.split, images.column, images.fingerprint, images.revision, *names)
        if not (images.id and images.fingerprint and type(images.seed) is int and type(self.layers) is int):
            raise ValueError("it does not say which images it is of")
        if not is_count(images.k, MOST_IMAGES) or len(self.labels) not in (0, images.k):
            k = printable(repr(images.k), 20)
            raise ValueError(f"it is of {k} images, of {MOST_IMAGES} at most, with {len(self.labels)} labels")
        classes = len(names) if self.label_names is not None else MOST_CLASSES
        if not all(type(label) is int and -1 <= label < classes for label in self.labels):
            raise ValueError("its labels are no classes")


def read_head(folder: Path, within: Path) -> AtlasHead:
    """Read which images a folder is an atlas of.

    Args:
        folder: Which.
        within: Where links may lead to.

    Raises:
        NotFoundError: If it is no atlas.
        UnfitError: If its head is damaged.
    """
    path = folder / HEAD
    try:
        if path.exists() and (not path.is_file() or leads_out(path, within)):
            raise ValueError("it is no file of this folder")
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        return AtlasHead.from_dict(parse(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        why, fix = f"there is no {HEAD} in it", f"begin one: infodist atlas add MODEL… --atlas {folder} -i DATASET"
        raise NotFoundError(f"{folder} is no atlas", why, fix) from None
    except ValueError as error:
        fix = "fetch it again, or begin another atlas"
        raise UnfitError(f"{path} is damaged", printable(str(error)), fix) from None
