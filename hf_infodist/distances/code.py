"""Directed codelengths: look up, or else claim, code and keep."""

import functools
import itertools
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from hf_infodist.coding.checkpoints import Checkpoints
from hf_infodist.coding.keys import codelength_key, device_of, run_key
from hf_infodist.coding.trainer import train_codelength
from hf_infodist.distances.cost import require_memory
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.heads import match_labels
from hf_infodist.pair import DIRECTIONS, Execution, Pair
from hf_infodist.processes import ProcessTeam, spread
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.claims import Claim
from hf_infodist.results.codelength import Codelength, mean_over_orders
from hf_infodist.results.store import CodelengthRecord, Store

logger = logging.getLogger(__name__)

ProgressCallback = Callable[[str, int, float], None]


class ClaimedElsewhere(Exception):
    """Another process is computing this codelength."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A student and its teacher, and the name of what it will cost in the store."""

    name: str
    student: Classifier
    teacher: Classifier
    key: str


def directed(pair: Pair, name: str, protocol: CodingProtocol, accelerator: Accelerator) -> Direction:
    """Return who learns from whom in the direction ``a_given_b`` or ``b_given_a`` of a pair."""
    student, teacher = pair.roles(name)
    device = device_of(accelerator, protocol)
    return Direction(name, student, teacher, codelength_key(student, teacher, pair.images, protocol, device))


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
    wanted = [directed(pair, name, protocol, accelerator) for name in directions]
    todo = {direction.key: direction for direction in reversed(wanted)}  # between a model and itself both are one
    known = _find(todo, accelerator, execution)
    for record in known.values():
        logger.info("found in the store: %s", record)
    todo = {key: direction for key, direction in todo.items() if key not in known}
    if todo:
        require_memory(len(pair.images), max(pair.a.num_classes, pair.b.num_classes), protocol)
        with _claimed(todo, accelerator, execution) as claims:
            known |= _find(todo, accelerator, execution)  # somebody else may have done it meanwhile
            todo = {key: direction for key, direction in todo.items() if key not in known}
            known |= _code(pair, todo, protocol, accelerator, execution, on_block, claims)
            if accelerator.is_main_process:
                _keep({key: known[key] for key in todo}, protocol, execution, claims)
    return [known[direction.key].codelength for direction in wanted]


def stored_directions(
    pair: Pair, protocol: CodingProtocol, *, accelerator: Accelerator, execution: Execution | None = None
) -> list[str]:
    """Return which directions of a pair are in the store; no model is run."""
    directions = [directed(pair, direction, protocol, accelerator) for direction in DIRECTIONS]
    known = _find({direction.key: direction for direction in directions}, accelerator, execution or Execution())
    return [direction.name for direction in directions if direction.key in known]


def _find(
    directions: dict[str, Direction], accelerator: Accelerator, execution: Execution
) -> dict[str, CodelengthRecord]:
    """Return what the store has, the same on every process."""
    found = {}
    if accelerator.is_main_process and execution.reads_store:
        records = (Store(execution.place.codelengths).get(key) for key in directions)
        found = {record.key: record for record in records if record}
    return broadcast_object_list([found])[0]


@contextmanager
def _claimed(
    directions: dict[str, Direction], accelerator: Accelerator, execution: Execution
) -> Iterator[dict[str, Claim | None]]:
    """Claim what nobody else has claimed: only that leaves checkpoints. The main process alone has the claims."""
    claims: dict[str, Claim | None] = {}
    try:
        if accelerator.is_main_process and execution.resume:
            candidates = {key: Claim(execution.place.run_of(key)) for key in directions}
            claims = {key: claim for key, claim in candidates.items() if claim.take()}
        held = broadcast_object_list([list(claims)])[0]
        if execution.resume and len(held) < len(directions):
            if execution.exclusive:
                raise ClaimedElsewhere
            logger.warning("the same comparison is running elsewhere; this one leaves no checkpoints")
        yield {key: claims.get(key) for key in held}
    finally:
        for claim in claims.values():
            if claim:
                claim.release()


def _code(
    pair: Pair,
    directions: dict[str, Direction],
    protocol: CodingProtocol,
    accelerator: Accelerator,
    execution: Execution,
    on_block: ProgressCallback | None,
    claims: dict[str, Claim | None],
) -> dict[str, CodelengthRecord]:
    """Code directions in all orders, spread over the processes."""
    if not directions:
        return {}
    if accelerator.num_processes > 1:  # each model on one of them; then all read its outputs
        spread((pair.a, pair.b), lambda model, team: pair.run(model) if team.lead else None, accelerator)

    def code(task: tuple[str, int], team: ProcessTeam) -> Codelength:
        key, order = task
        direction, folder = directions[key], _run_folder(execution, *task)
        return train_codelength(
            pair,
            direction.name,
            protocol,
            order=order,
            accelerator=accelerator,
            execution=execution,
            on_block=functools.partial(on_block, direction.name) if on_block else None,
            team=team,
            checkpoints=Checkpoints(folder, folder.name, team, claims[key]) if key in claims else None,
        )

    tasks = [(key, order) for key in directions for order in range(protocol.orders)]
    codes = iter(spread(tasks, code, accelerator, together=execution.data_parallel))
    images, device = pair.images.record, device_of(accelerator, protocol)
    return {
        key: CodelengthRecord(
            key=key,
            teacher=direction.teacher.record,
            student=direction.student.record,
            images=images,
            protocol=protocol,
            codelength=mean_over_orders(list(itertools.islice(codes, protocol.orders))),
            device=device,
            classes=_given_names(direction),
        )
        for key, direction in directions.items()
    }


def _given_names(direction: Direction) -> dict[str, list[str]]:
    """Return the names that classes were given, by ``teacher`` and ``student``, if they make another number of it."""
    student, teacher = direction.student, direction.teacher
    own = student.own_labels or student.labels, teacher.own_labels or teacher.labels
    if match_labels(*own) == match_labels(student.labels, teacher.labels):
        return {}
    return {
        role: list(model.labels) for role, model in (("student", student), ("teacher", teacher)) if model.own_labels
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
            _put(Store(execution.place.codelengths), record)
        for order in range(protocol.orders) if key in claims else ():
            shutil.rmtree(_run_folder(execution, key, order), ignore_errors=True)  # the result is in other hands


def _put(store: Store, record: CodelengthRecord) -> None:
    kept = store.put(record)
    if not kept.same_number(record):
        logger.warning(
            "now it is %.6f nats, but the store has %s: kept. To have the new number there, move %s away",
            record.codelength.nats,
            kept,
            store.folder / f"{record.key}.json",
        )


def _run_folder(execution: Execution, key: str, order: int) -> Path:
    return execution.place.run_of(run_key(key, order))
