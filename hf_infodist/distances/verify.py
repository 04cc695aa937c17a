"""Stored results computed again, from the models and images on."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator

from hf_infodist.coding.keys import device_of
from hf_infodist.distances.code import code_pair
from hf_infodist.errors import InfodistError
from hf_infodist.images.request import Sample
from hf_infodist.models.load import Renamed, load_classifier
from hf_infodist.pair import Execution, Pair, prepare_pair
from hf_infodist.processes import make_accelerator
from hf_infodist.results.records import package_versions
from hf_infodist.results.store import CodelengthRecord


@dataclass(frozen=True)
class Verdict:
    """Whether a number came out again (`CodelengthRecord.same_number`), and if not, why."""

    same: bool
    why: str = ""


def verify(records: Iterable[CodelengthRecord]) -> Iterator[tuple[CodelengthRecord, Verdict]]:
    """Compute records again in a store of their own, and compare what each image cost.

    Args:
        records: From a store; those of names that lead nowhere now get a verdict that says so.
    """
    with tempfile.TemporaryDirectory(prefix="infodist-") as home:
        for record in records:
            try:
                yield record, _verdict(record, Path(home))
            except InfodistError as error:
                yield record, Verdict(False, f": {error.what}, {error.why}")


def _verdict(record: CodelengthRecord, home: Path) -> Verdict:
    if not record.current:
        return Verdict(False, ": of another version of the coding, which is not computed any more")
    accelerator = make_accelerator()
    if (device := device_of(accelerator, record.protocol)) != record.device:
        return Verdict(False, f": computed on {record.device}, and this machine has {device}")
    execution = Execution(home=home, resume=False)
    pair = _load(record, accelerator, execution)
    changed = _changes(record, pair)
    if changed:
        return Verdict(False, f": {', '.join(changed)} changed since")
    (code,) = code_pair(pair, ["b_given_a"], record.protocol, accelerator=accelerator, execution=execution)
    if replace(record, codelength=code).same_number(record):
        return Verdict(True)
    now = package_versions()
    versions = [
        f"{name} {old} is now {now.get(name)}" for name, old in record.versions.items() if old != now.get(name)
    ]
    return Verdict(False, f": now {code.nats:.6f} nats; {', '.join(versions) or 'all versions are as they were'}")


def _load(record: CodelengthRecord, accelerator: Accelerator, execution: Execution) -> Pair:
    was = record.images
    sample = Sample(was.pinned, was.config, was.split, was.column, was.k, was.seed)
    names = {"student": record.student.pinned, "teacher": record.teacher.pinned}
    renamed = {role: load_classifier(Renamed(names[role], tuple(given))) for role, given in record.classes.items()}
    student, teacher = (names | renamed).values()
    return prepare_pair(student, teacher, sample, accelerator=accelerator, execution=execution)


def _changes(record: CodelengthRecord, pair: Pair) -> list[str]:
    changes = [] if pair.images.fingerprint == record.images.fingerprint else ["the images have"]
    for was, classifier in ((record.student, pair.a), (record.teacher, pair.b)):
        is_now = classifier.record
        if (was.weights, was.preprocessing) != (is_now.weights, is_now.preprocessing):
            changes.append(f"{was.id} has")
    return changes
