"""What a matrix needs: each model's outputs, then the directed codelengths that the store does not have."""

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from hf_infodist.coding.keys import codelength_key_of
from hf_infodist.distances.code import ClaimedElsewhere, code_pair, directed
from hf_infodist.errors import NoSpaceError, UnfitError, refused_by_system
from hf_infodist.images.sample import Images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import Renamed, load_classifier
from hf_infodist.models.member import Member
from hf_infodist.outputs.arrays import Outputs
from hf_infodist.outputs.forward import compute_outputs, outputs_key
from hf_infodist.pair import Execution, Pair
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.claims import Claim, claimed_in
from hf_infodist.results.records import ModelRecord
from hf_infodist.results.store import Store

_LOADED = 2**30  # bytes of weights that a worker keeps in memory
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Entry:
    """What is known of a model without having it in memory.

    Attributes:
        model: Its name, or the loaded model where it has none.
        record: What a result says of it.
        labels: A name per class.
        outputs: Key of its outputs.
    """

    model: str | nn.Module | Classifier | Renamed
    record: ModelRecord
    labels: tuple[str, ...]
    outputs: str

    @classmethod
    def of(cls, model: str | nn.Module | Classifier, classifier: Classifier, images: Images) -> "Entry":
        """Describe a loaded model."""
        return cls(model, classifier.record, classifier.labels, outputs_key(classifier, images))


@dataclass(frozen=True)
class Status:
    """How far a matrix has come.

    Attributes:
        total: Codelengths asked for.
        done: Those in the store.
        failed: Those that could not be computed.
        running: Names of those that somebody is computing.
        passes: Models that have outputs, and models in all.
        seconds_left: Expected time, once there is something to judge by.
    """

    total: int
    done: int
    failed: int
    running: tuple[str, ...]
    passes: tuple[int, int]
    seconds_left: float | None

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.done + self.failed == self.total


@dataclass(eq=False)
class Plan:
    """Directed codelengths between models, by their keys; sent to every worker.

    Attributes:
        entries: The models.
        images: The sample, without its pictures.
        source: Loads the sample with its pictures, where they are needed.
        protocol: How students are trained and priced.
        execution: How it is carried out.
        device: Where.
        where: The same with its precision, from `device_of`.
        directions: Teacher and student, as numbers of entries, of each codelength that is to be computed or looked up.
        loaded: The sample with its pictures, in the process that has loaded it; it is not sent along.
    """

    entries: tuple[Entry, ...]
    images: Images
    source: Callable[[], Images]
    protocol: CodingProtocol
    execution: Execution
    device: torch.device
    where: str
    directions: dict[str, tuple[int, int]] = field(default_factory=dict)
    loaded: Images | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to other processes."""
        return vars(self) | {"loaded": None}

    def key(self, teacher: int, student: int) -> str:
        """Return what a codelength is called in the store; twins have one name."""
        a, b = self.entries[student], self.entries[teacher]
        return codelength_key_of((a.outputs, b.outputs), (a.labels, b.labels), self.protocol, self.where)

    @cached_property
    def twins(self) -> tuple[tuple[int, int], ...]:
        """Pairs (i, j), i < j, with identical weights, preprocessing and labels."""
        same = [(entry.outputs, entry.labels) for entry in self.entries]
        return tuple((i, j) for j in range(len(same)) for i in range(j) if same[i] == same[j])

    def choose(self, shard: tuple[int, int] = (1, 1)) -> None:
        """Choose the directions: every i → j but between twins, or one share of them.

        Args:
            shard: Number of the share, from 1, and how many shares there are.
        """
        count, twins = range(len(self.entries)), set(self.twins)
        pairs = [(i, j) for j in count for i in count if i != j and not {(i, j), (j, i)} & twins]
        unique = {self.key(*pair): pair for pair in reversed(pairs)}  # the first of twins stands for all
        ordered = sorted(unique.items(), key=lambda item: item[1][::-1])  # one student after the other
        self.directions = dict(ordered[shard[0] - 1 :: shard[1]])

    @property
    def store(self) -> Store:
        """Where the codelengths are kept."""
        return Store(self.execution.place.codelengths)

    @property
    def missing(self) -> list[str]:
        """Keys of the directions that the store does not have."""
        there = set(self.store.keys())
        return [key for key in self.directions if key not in there]

    def passes(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the models whose outputs some directions need, as numbers of entries, by keys of outputs."""
        needed = sorted({model for key in keys for model in self.directions[key]}, reverse=True)
        return {self.entries[model].outputs: model for model in needed}

    def has_outputs(self, model: int) -> bool:
        """Tell whether a model has been run."""
        known = isinstance(self.entries[model].model, Member)
        return known or self.execution.place.outputs_of(self.entries[model].outputs).exists()

    def name(self, key: str) -> str:
        """Return which model a key is about, given which, in words."""
        teacher, student = (self.entries[model].record.id for model in self.directions[key])
        return f"{teacher} given {student}"

    @contextmanager
    def student_claimed(self, student: int) -> Iterator[bool]:
        """Claim a student with all of its teachers; gives False if another worker has it."""
        claim = Claim(self.execution.place.student_of(self.entries[student].outputs))
        taken = claim.take()
        try:
            yield taken
        finally:
            if taken:
                claim.release()

    # Failures: notes in the shared folder, so that nobody tries again what another worker could not do

    def note(self, key: str, error: str) -> None:
        """Note that a codelength could not be computed, and why."""
        path = self.execution.place.failure_of(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{uuid.uuid4().hex}")
        new.write_text(error)
        new.replace(path)

    def failures(self) -> dict[str, str]:
        """Return what could not be done since `forget_failures`, and why, in one line each."""
        notes = self.execution.place.failures()
        return {key: notes[key].read_text() for key in self.directions if key in notes}

    def forget_failures(self) -> None:
        """Delete the notes of earlier runs: what failed is tried again."""
        for key in self.directions:
            self.execution.place.failure_of(key).unlink(missing_ok=True)


class Tracker:
    """Reads from the shared folder how far everybody together has come.

    Args:
        plan: The matrix.
    """

    def __init__(self, plan: Plan):
        self.plan, self.started = plan, time.monotonic()
        self.before = len(plan.directions) - len(plan.missing)

    def status(self) -> Status:
        """Return the state of this moment."""
        plan, missing = self.plan, set(self.plan.missing)
        failed = missing & plan.failures().keys()
        claims = claimed_in(plan.execution.place.runs)
        done, left = len(plan.directions) - len(missing), len(missing) - len(failed)
        new = done - self.before
        models = plan.passes(plan.directions).values()
        return Status(
            total=len(plan.directions),
            done=done,
            failed=len(failed),
            running=tuple(plan.name(key) for key in plan.directions if key in claims and key in missing - failed),
            passes=(sum(map(plan.has_outputs, models)), len(models)),
            seconds_left=(time.monotonic() - self.started) / new * left if new else None,
        )


class Worker:
    """Does parts of a plan in this process.

    Args:
        plan: The matrix.
        accelerator: Device; it is one process.
        on_block: Called often, with nothing.
    """

    def __init__(self, plan: Plan, accelerator: Accelerator, on_block: Callable[[], None] = lambda: None):
        self.plan, self.accelerator, self.on_block = plan, accelerator, on_block
        self._models: dict[int, Classifier] = {}
        self._known: dict[str, Outputs] = {}

    def run_model(self, model: int) -> bool:
        """Run a model on the images, unless that has been done; False if another worker is at it."""
        claim = Claim(self.plan.execution.place.outputs_of(self.plan.entries[model].outputs))
        if self.plan.has_outputs(model):
            return True
        if not claim.take():
            return False
        try:
            if not self.plan.has_outputs(model):
                logger.info("running %s on %d images", self.plan.entries[model].record.id, len(self.plan.images))
                self.outputs(model)
        finally:
            claim.release()
        return True

    def outputs(self, model: int) -> Outputs:
        """Return what a model says of the images; it is run if it has not been."""
        return self._outputs(self._load(model))

    def teach(self, key: str) -> bool:
        """Compute a codelength and put it into the store, or leave a note why not; False if another is at it."""
        teacher, student = self.plan.directions[key]
        pair = Pair(self._load(student), self._load(teacher), self.plan.images, self._outputs)
        if directed(pair, "b_given_a", self.plan.protocol, self.accelerator).key != key:
            what = f"{self.plan.name(key)} is not what it was when the matrix was begun"
            raise UnfitError(what, "weights, preprocessing or labels have changed", "type the same command again")
        execution, protocol = self.plan.execution, self.plan.protocol
        options: dict[str, Any] = {"accelerator": self.accelerator, "execution": execution}
        try:
            code_pair(pair, ["b_given_a"], protocol, on_block=lambda *block: self.on_block(), **options)
        except ClaimedElsewhere:
            return False
        return True

    @contextmanager
    def noting(self, keys: Sequence[str]) -> Iterator[None]:
        """Turn an error into notes that these codelengths have failed."""
        try:
            yield
        except NoSpaceError:
            raise  # whoever goes on would only fail as well
        except Exception as error:
            if isinstance(told := refused_by_system(error), NoSpaceError):
                raise told from error
            logger.debug("failed", exc_info=True)
            line = " ".join(str(error).splitlines()[:2]) or type(error).__name__
            for key in keys:
                self.plan.note(key, line)

    def _outputs(self, classifier: Classifier) -> Outputs:
        plan, home, key = self.plan, self.plan.execution.home, outputs_key(classifier, self.plan.images)
        if key not in self._known:  # one object a model: its factors are then worked out once for all teachers
            there = isinstance(classifier, Member) or plan.execution.place.outputs_of(key).exists()
            images = plan.images if there else plan.loaded or plan.source()
            self._known[key] = compute_outputs(
                classifier, images, device=self.accelerator.device, home=home, chunk=plan.execution.chunk
            )
        return self._known[key]

    def _load(self, model: int) -> Classifier:
        """Return a model; those used last stay in memory."""
        if model in self._models:
            self._models[model] = self._models.pop(model)
            return self._models[model]
        self._models[model] = classifier = load_classifier(self.plan.entries[model].model)
        while len(self._models) > 1 and sum(map(_weight_bytes, self._models.values())) > _LOADED:
            del self._models[next(iter(self._models))]
        return classifier


def _weight_bytes(classifier: Classifier) -> int:
    return sum(weights.nbytes for weights in classifier.network.state_dict().values())
