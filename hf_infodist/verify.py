"""Stored results computed again, from the models and images on."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_infodist.errors import InfodistError
from hf_infodist.images import load_images
from hf_infodist.models import load_classifier
from hf_infodist.outputs import compute_outputs
from hf_infodist.pair import Execution, Pair, code_pair
from hf_infodist.result import ModelRecord, package_versions
from hf_infodist.store import CodelengthRecord
from hf_infodist.training import make_accelerator


@dataclass(frozen=True)
class Verdict:
    """Whether a number came out again, to the bit, and if not, why."""

    same: bool
    why: str = ""


def verify(records: Iterable[CodelengthRecord]) -> Iterator[tuple[CodelengthRecord, Verdict]]:
    """Compute records again in a store of their own, and compare every bit of what each image cost.

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
    accelerator = make_accelerator()
    if accelerator.device.type != record.device:
        return Verdict(False, f": computed on {record.device}, and this machine has {accelerator.device.type}")
    pair = _load(record, home)
    changed = _changes(record, pair)
    if changed:
        return Verdict(False, f": {', '.join(changed)} changed since")
    execution = Execution(home=home, resume=False)
    (code,) = code_pair(pair, ["b_given_a"], record.protocol, accelerator=accelerator, execution=execution)
    if code.image_nats.tobytes() == record.codelength.image_nats.tobytes():
        return Verdict(True)
    now = package_versions()
    versions = [
        f"{name} {old} is now {now.get(name)}" for name, old in record.versions.items() if old != now.get(name)
    ]
    return Verdict(False, f": now {code.nats:.6f} nats; {', '.join(versions) or 'all versions are as they were'}")


def _load(record: CodelengthRecord, home: Path) -> Pair:
    student, teacher = (load_classifier(_name(model)) for model in (record.student, record.teacher))
    names = ("config", "split", "column", "k", "seed")
    revision = record.images.get("revision")
    id = record.images["id"]
    images = load_images(
        f"{id.partition('@')[0]}@{revision}" if revision else id, **{name: record.images[name] for name in names}
    )

    def run(classifier: Any) -> Any:
        return compute_outputs(classifier, images, device=make_accelerator().device, home=home)

    return Pair(student, teacher, images, run)


def _name(model: ModelRecord) -> str:
    """Return a name at the very commit, where there is one."""
    return f"{model.id.partition('@')[0]}@{model.revision}" if model.revision else model.id


def _changes(record: CodelengthRecord, pair: Pair) -> list[str]:
    changes = [] if pair.images.fingerprint == record.images["fingerprint"] else ["the images have"]
    for was, classifier in ((record.student, pair.a), (record.teacher, pair.b)):
        is_now = ModelRecord.of(classifier)
        if (was.weights, was.preprocessing) != (is_now.weights, is_now.preprocessing):
            changes.append(f"{was.id} has")
    return changes
