"""Answers that the store holds, found by what was asked and by the state of every file behind it.

Nothing is opened and no large library imported: a note says which codelengths answered a question when models and
images were last read. It holds only as long as the question, the code, the versions of libraries, the commits of
repositories and the files are the same; whatever differs, the question is answered the long way, and noted again.
"""

import glob
import hashlib
import json
import logging
import os
import platform
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

from hf_infodist.distances.places import Place, model_places, read_content, read_state, sample_places
from hf_infodist.environment import installed
from hf_infodist.home import Home
from hf_infodist.hub import plain_name
from hf_infodist.images.request import Sample
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.records import ImagesRecord, ModelRecord
from hf_infodist.results.store import Store

SETTLED_SECONDS = 2.0
"""Age from which on a file's times tell whether it has changed: two changes within a tick of a clock look like one."""

_PACKAGES = (  # of which any may decide what a name means, or what is seen in an image
    *("hf-infodist", "torch", "timm", "torchvision", "transformers", "datasets", "accelerate", "huggingface-hub"),
    *("numpy", "pillow", "pillow-heif", "pillow-jxl-plugin", "safetensors", "scikit-learn", "pyarrow"),
)
_VARIABLES = (  # prefixes; libraries set others of CUDA's themselves
    *("ACCELERATE_", "CUDA_VISIBLE_", "HF_", "HIP_VISIBLE_", "INFODIST_MOST_", "NVIDIA_VISIBLE_", "ROCR_VISIBLE_"),
    *("TORCH_HOME", "XDG_CACHE_HOME"),
)
_TOLD = 2  # records that are named one by one
_DEVICES = ("/dev/nvidia*", "/dev/kfd", "/dev/dxg")

logger = logging.getLogger(__name__)

Direction = tuple[int, int]  # teacher and student, as numbers of names


@dataclass(frozen=True)
class Question:
    """What is asked of the store.

    Attributes:
        names: Of models.
        sample: The images, by name.
        protocol: How students are trained and priced.
        kind: Of answer: ``pair``, ``complexity`` of the second model given the first, ``matrix``, ``lineage``, which
            is a matrix of models whose classes have been matched, or ``transfer``.
        label: Column of the classes, of kind ``transfer``, if it is named.
    """

    names: tuple[Any, ...]
    sample: Sample
    protocol: CodingProtocol
    kind: str = "pair"
    label: str | None = None

    @property
    def by_name(self) -> bool:
        """Whether models and images are named, not loaded."""
        return all(isinstance(name, str) for name in (*self.names, self.sample.images))

    @cached_property
    def key(self) -> str:
        """Hash of the question and of all that gives it its meaning, but for the files behind its names.

        It is worked out once, before libraries are imported, which change the environment.
        """
        facts = {
            "question": [self.kind, self.label, self.protocol.coding, self.protocol.to_dict()],
            "names": [_meaning(name) for name in self.names],
            "sample": vars(self.sample) | {"images": _meaning(self.sample.images)},
            "code": read_content(Path(__file__).parents[1], without="published"),  # that comes with a wheel
            "python": [sys.version, platform.node()],
            "versions": {name: _version(name) for name in _PACKAGES},
            "environment": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_VARIABLES)},
            "devices": [path for pattern in _DEVICES for path in sorted(glob.glob(pattern))],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class Answer:
    """Codelengths of the store that answer a question.

    Attributes:
        models: In the order of their names; behind them, of kind ``transfer``, who knows the labels.
        images: The sample.
        device: Type of device they were computed on, and the precision of training if it was not full.
        codes: By teacher and student.
        twins: Pairs of models that are one network.
        labels: Class of each image, of kind ``transfer``.
        classes: Their names.
        matched: Models whose classes have been matched, and with whom, of kind ``lineage``.
    """

    models: tuple[ModelRecord, ...]
    images: ImagesRecord
    device: str
    codes: Mapping[Direction, Codelength]
    twins: tuple[Direction, ...] = ()
    labels: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    matched: tuple[Direction, ...] = ()


def find_answer(question: Question, home: Path | None = None) -> Answer | None:
    """Return the answer to a question that was asked before; None if anything has changed since, or may have."""
    place = Home.at(home)
    try:
        note = json.loads(place.answer_to(question.key).read_text())
        if read_state([Place(**fields) for fields in note["places"]])[0] != note["state"]:
            return None
    except Exception:  # whatever a client of the Hub raises: the long way says it better
        return None
    store = Store(place.codelengths)
    records = {key: store.get(key) for *_, key in note["keys"]}
    codes = {}
    for teacher, student, key in note["keys"]:
        record = records[key]
        if record is None:
            return None
        codes[teacher, student] = record.codelength
    if len(records) > _TOLD:
        logger.info("%d codelengths: all found in the store", len(records))
    for record in records.values() if len(records) <= _TOLD else ():
        logger.info("found in the store: %s", record)
    models = tuple(ModelRecord(**model) for model in note["models"])
    twins, matched = (tuple(map(tuple, note[pairs])) for pairs in ("twins", "matched"))
    known = twins, tuple(note["labels"]), tuple(note["classes"]), matched
    return Answer(models, ImagesRecord(**note["images"]), note["device"], codes, *known)


class Watch:
    """Holds the files behind a question in view while it is answered, and notes the answer if none has changed.

    Args:
        question: What is asked; nothing of it has been read yet.
        home: Of the store; that of `Home.at` if None.

    Raises:
        InfodistError: If a name leads nowhere.
    """

    def __init__(self, question: Question, home: Path | None = None):
        self.question, self.home, self.key = question, Home.at(home), question.key if question.by_name else ""
        self.places = tuple(self._places()) if question.by_name else ()
        self.began = self._look()

    def keep(self, answer: Answer, keys: Mapping[Direction, str]) -> None:
        """Note an answer, unless a file has changed since the watch began, or so shortly before that none can tell.

        Args:
            answer: To the question.
            keys: Of its codelengths in the store.
        """
        if self.began is None or self._look() != self.began:
            return
        note = {
            "places": [asdict(place) for place in self.places],
            "state": self.began,
            "models": [vars(model) for model in answer.models],
            "images": vars(answer.images),
            "device": answer.device,
            "keys": [[*direction, key] for direction, key in keys.items()],
            "twins": list(answer.twins),
            "labels": list(answer.labels),
            "classes": list(answer.classes),
            "matched": list(answer.matched),
        }
        path = self.home.answer_to(self.key)
        new = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        with suppress(OSError):  # the store may be read-only, or full: the answer is there all the same
            path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(note))
            new.replace(path)

    def _places(self) -> Iterator[Place]:
        for name in dict.fromkeys(self.question.names):
            yield from model_places(name, headless=self.question.kind == "transfer")
        yield from sample_places(self.question.sample)

    def _look(self) -> str | None:
        """Return the state of the files; None if it is not to be relied on."""
        if not self.question.by_name:
            return None
        try:
            state, changed = read_state(self.places)
        except Exception:  # of a client of the Hub, or of the system
            return None
        return None if time.time() - changed < SETTLED_SECONDS else state


def _meaning(name: str) -> list[str]:
    """Return a name as it is given, as it is read, and the file or folder of this machine that it leads to."""
    plain = plain_name(name)
    path = os.path.expanduser(plain.removeprefix("random:"))
    return [name, plain, os.path.realpath(path) if os.path.exists(path) else ""]


def _version(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        return ""
