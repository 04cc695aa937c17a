"""Two models and the images between them: look up, or else claim, code and keep."""

import functools
import itertools
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from hf_infodist.checkpoints import Checkpoints
from hf_infodist.claims import Claim
from hf_infodist.codelength import Codelength, mean_over_orders
from hf_infodist.estimate import require_memory
from hf_infodist.home import infodist_home
from hf_infodist.images import DEFAULT_IMAGES, Images, load_images
from hf_infodist.models import Classifier, check_name, load_classifier
from hf_infodist.outputs import Outputs, compute_outputs
from hf_infodist.processes import ProcessTeam, spread
from hf_infodist.protocol import CodingProtocol
from hf_infodist.result import ModelRecord
from hf_infodist.store import CodelengthRecord, Store
from hf_infodist.training import codelength_key, make_accelerator, run_key, train_codelength

ProgressCallback = Callable[[str, int, float], None]
DIRECTIONS = ("a_given_b", "b_given_a")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Execution:
    """How a comparison is carried out; nothing of it changes the number.

    Attributes:
        chunk: Images per evaluation pass.
        home: Folder of the store, of outputs and of checkpoints; `infodist_home` if None.
        fresh: Whether to compute what the store has already.
        resume: Whether to leave checkpoints, and to go on from those of an earlier run that was cut off.
        data_parallel: Whether several processes share each batch instead of having a learner each; for students that
            are too large otherwise. Agrees with one process up to round-off, so the store has no part in it.
        exclusive: Whether to raise `ClaimedElsewhere` rather than to compute what another process is computing.
    """

    chunk: int = 64
    home: Path | None = None
    fresh: bool = False
    resume: bool = True
    data_parallel: bool = False
    exclusive: bool = False

    @property
    def reads_store(self) -> bool:
        """Whether what the store has will do."""
        return not (self.fresh or self.data_parallel)

    @property
    def store(self) -> Store:
        """Where codelengths are kept."""
        return Store(self.folder / "codelengths")

    @property
    def folder(self) -> Path:
        """Where everything is kept."""
        return self.home or infodist_home()


class ClaimedElsewhere(Exception):
    """Another process is computing this codelength."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models and the images between them; each model is run when its outputs are first asked for.

    Attributes:
        a: The first model.
        b: The second model.
        images: The images.
        run: Runs a model on the images, or reads what an earlier run has left.
    """

    a: Classifier
    b: Classifier
    images: Images
    run: Callable[[Classifier], Outputs]

    @cached_property
    def outputs_a(self) -> Outputs:
        """What the first makes of the images."""
        return self.run(self.a)

    @cached_property
    def outputs_b(self) -> Outputs:
        """What the second makes of the images."""
        return self.run(self.b)

    @property
    def students(self) -> dict[str, Classifier]:
        """Where learning starts, by direction: the teacher is the other one."""
        return {"a_given_b": self.b, "b_given_a": self.a}

    def lesson(self, direction: str, protocol: CodingProtocol, device: torch.device) -> "Lesson":
        """Return what is taught in the direction ``a_given_b`` or ``b_given_a``."""
        student = self.students[direction]
        teacher = self.b if student is self.a else self.a
        key = codelength_key(student, teacher, self.images, protocol, device)
        return Lesson(direction, student, teacher, key)


@dataclass(frozen=True, eq=False)
class Lesson:
    """A student and its teacher, and the name of what it will cost in the store."""

    direction: str
    student: Classifier
    teacher: Classifier
    key: str


def prepare_pair(
    a: str | nn.Module | Classifier,
    b: str | nn.Module | Classifier,
    images: Any = DEFAULT_IMAGES,
    *,
    k: int | None = None,
    seed: int = 0,
    accelerator: Accelerator | None = None,
    execution: Execution | None = None,
    progress: bool = False,
    **source: Any,
) -> Pair:
    """Load two models and the images; each model will be run once, when its outputs are needed.

    Args:
        a: Name of a model, or a loaded one.
        b: Another.
        images: Name of a dataset, or a loaded one.
        k: How many images; at most 10 000 if None.
        seed: Order of the images.
        accelerator: Device; `make_accelerator` if None.
        execution: How it is carried out.
        progress: Whether to show progress bars.
        **source: ``config``, ``split``, ``column`` and ``streaming`` of `load_images`.

    Raises:
        NotFoundError: If a name leads nowhere.
        UnfitError: If models and images do not fit one another.
    """
    for name in (a, b):
        if isinstance(name, str):
            check_name(name)
    sample = load_images(images, k=k, seed=seed, **source)
    accelerator, execution = accelerator or make_accelerator(), execution or Execution()
    run = functools.partial(
        compute_outputs,
        images=sample,
        device=accelerator.device,
        home=execution.home,
        chunk=execution.chunk,
        progress=progress and accelerator.is_main_process,
    )
    return Pair(load_classifier(a), load_classifier(b), sample, run)


def code_pair(
    pair: Pair,
    directions: Sequence[str],
    protocol: CodingProtocol,
    *,
    accelerator: Accelerator,
    execution: Execution | None = None,
    on_block: ProgressCallback | None = None,
) -> list[Codelength]:
    """Code a prepared pair in the given directions, in all orders of the protocol, spread over the processes.

    Args:
        pair: Models, images and outputs.
        directions: Some of ``a_given_b`` and ``b_given_a``.
        protocol: Everything that changes the number.
        accelerator: Device and processes.
        execution: How it is carried out.
        on_block: As in `information_distance`.
    """
    execution = execution or Execution()
    lessons = [pair.lesson(direction, protocol, accelerator.device) for direction in directions]
    todo = {lesson.key: lesson for lesson in reversed(lessons)}  # between a model and itself both are one
    known = _find(todo, accelerator, execution)
    for record in known.values():
        _LOG.info("found in the store: %s", record)
    todo = {key: lesson for key, lesson in todo.items() if key not in known}
    if todo:
        require_memory(len(pair.images), max(pair.a.num_classes, pair.b.num_classes), protocol)
        with _claimed(todo, accelerator, execution) as claims:
            known |= _find(todo, accelerator, execution)  # somebody else may have done it meanwhile
            todo = {key: lesson for key, lesson in todo.items() if key not in known}
            known |= _code(pair, todo, protocol, accelerator, execution, on_block, claims)
            if accelerator.is_main_process:
                _keep({key: known[key] for key in todo}, protocol, execution, claims)
    return [known[lesson.key].codelength for lesson in lessons]


def stored_directions(
    pair: Pair, protocol: CodingProtocol, *, accelerator: Accelerator, execution: Execution | None = None
) -> list[str]:
    """Return which directions of a pair are in the store; no model is run."""
    lessons = [pair.lesson(direction, protocol, accelerator.device) for direction in DIRECTIONS]
    known = _find({lesson.key: lesson for lesson in lessons}, accelerator, execution or Execution())
    return [lesson.direction for lesson in lessons if lesson.key in known]


def _find(lessons: dict[str, Lesson], accelerator: Accelerator, execution: Execution) -> dict[str, CodelengthRecord]:
    """Return what the store has, the same on every process."""
    found = {}
    if accelerator.is_main_process and execution.reads_store:
        records = (execution.store.get(key) for key in lessons)
        found = {record.key: record for record in records if record}
    return broadcast_object_list([found])[0]


@contextmanager
def _claimed(
    lessons: dict[str, Lesson], accelerator: Accelerator, execution: Execution
) -> Iterator[dict[str, Claim | None]]:
    """Claim lessons as far as nobody else has them: those leave checkpoints. Only the main process has the claims."""
    claims: dict[str, Claim | None] = {}
    try:
        if accelerator.is_main_process and execution.resume:
            candidates = {key: Claim(execution.folder / "runs" / key) for key in lessons}
            claims = {key: claim for key, claim in candidates.items() if claim.take()}
        held = broadcast_object_list([list(claims)])[0]
        if execution.resume and len(held) < len(lessons):
            if execution.exclusive:
                raise ClaimedElsewhere
            _LOG.warning("the same comparison is running elsewhere; this one leaves no checkpoints")
        yield {key: claims.get(key) for key in held}
    finally:
        for claim in claims.values():
            if claim:
                claim.release()


def _code(
    pair: Pair,
    lessons: dict[str, Lesson],
    protocol: CodingProtocol,
    accelerator: Accelerator,
    execution: Execution,
    on_block: ProgressCallback | None,
    claims: dict[str, Claim | None],
) -> dict[str, CodelengthRecord]:
    """Code lessons in all orders, spread over the processes."""
    if not lessons:
        return {}
    if accelerator.num_processes > 1:  # each model on one of them; then all read its outputs
        spread((pair.a, pair.b), lambda model, team: pair.run(model) if team.lead else None, accelerator)
    outputs = {pair.a: pair.outputs_a, pair.b: pair.outputs_b}

    def code(task: tuple[str, int], team: ProcessTeam) -> Codelength:
        key, order = task
        lesson, folder = lessons[key], _run_folder(execution, *task)
        return train_codelength(
            lesson.student,
            outputs[lesson.student],
            lesson.teacher,
            outputs[lesson.teacher],
            protocol,
            order=order,
            accelerator=accelerator,
            chunk=execution.chunk,
            on_block=functools.partial(on_block, lesson.direction) if on_block else None,
            team=team,
            data_parallel=execution.data_parallel,
            checkpoints=Checkpoints(folder, folder.name, team, claims[key]) if key in claims else None,
        )

    tasks = [(key, order) for key in lessons for order in range(protocol.orders)]
    codes = iter(spread(tasks, code, accelerator, together=execution.data_parallel))
    images, device = pair.images.to_dict(), accelerator.device.type
    return {
        key: CodelengthRecord(
            key=key,
            teacher=ModelRecord.of(lesson.teacher),
            student=ModelRecord.of(lesson.student),
            images=images,
            protocol=protocol,
            codelength=mean_over_orders(list(itertools.islice(codes, protocol.orders))),
            device=device,
        )
        for key, lesson in lessons.items()
    }


def _keep(
    records: dict[str, CodelengthRecord],
    protocol: CodingProtocol,
    execution: Execution,
    claims: dict[str, Claim | None],
) -> None:
    """Write what was computed to the store, and clear away its checkpoints."""
    for key, record in records.items():
        if not execution.data_parallel:
            _put(execution.store, record)
        for order in range(protocol.orders) if key in claims else ():
            shutil.rmtree(_run_folder(execution, key, order), ignore_errors=True)  # the result is in other hands


def _put(store: Store, record: CodelengthRecord) -> None:
    kept = store.put(record)
    if not kept.same_number(record):
        _LOG.warning(
            "now it is %.6f nats, but the store has %s: kept. To have the new number there, move %s away",
            record.codelength.nats,
            kept,
            store.folder / f"{record.key}.json",
        )


def _run_folder(execution: Execution, key: str, order: int) -> Path:
    return execution.folder / "runs" / run_key(key, order)
