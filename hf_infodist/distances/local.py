"""The local engine: workers that divide a plan by claims, in this process, in several, or on several machines."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess

import torch

from hf_infodist.distances.plan import Plan, Worker
from hf_infodist.processes import make_accelerator

_POLL_SECONDS = 0.2


def work(plan: Plan, on_block: Callable[[], None] = lambda: None, number: int = 0) -> None:
    """Do whatever nobody else is doing, until nothing is left to do.

    Args:
        plan: The matrix.
        on_block: Called often, with nothing; also while others are waited for.
        number: Of this worker; workers start at different places of the plan.
    """
    worker = Worker(plan, make_accelerator(), on_block)
    while True:
        failures, missing = plan.failures(), plan.missing
        left = [key for key in missing if key not in failures]
        if not left:
            return
        if not (_run_some_model(worker, left, number) or _teach_some(worker, left, number)):
            on_block()
            time.sleep(_POLL_SECONDS)  # others are at all that is left


def _run_some_model(worker: Worker, left: list[str], number: int) -> bool:
    """Run one model that has not been run yet; False if there is none that nobody else is running."""
    plan = worker.plan
    models = [model for model in plan.passes(left).values() if not plan.has_outputs(model)]
    for model in _from(models, number):
        taken = True
        with worker.noting([key for key in left if model in plan.directions[key]]):
            taken = worker.run_model(model)
        if taken:
            return True
    return False


def _teach_some(worker: Worker, left: list[str], number: int) -> bool:
    """Compute what one student costs with its teachers; False if there is nothing that nobody else is computing.

    A student that nobody has is taken with all of its teachers, as its factors serve them all. When every student is
    taken, the teachers of one are shared.
    """
    plan = worker.plan
    by_student: dict[int, list[str]] = {}
    for key in left:
        if all(map(plan.has_outputs, plan.directions[key])) and key not in plan.store:
            by_student.setdefault(plan.directions[key][1], []).append(key)
    for student in _from(list(by_student), number):
        with plan.student_claimed(student) as claimed:
            if claimed and [key for key in by_student[student] if _teach(worker, key)]:
                return True
    return any(_teach(worker, key) for student in _from(list(by_student), number) for key in by_student[student])


def _teach(worker: Worker, key: str) -> bool:
    """Compute one codelength; False if somebody else is computing it."""
    taken = True
    with worker.noting([key]):
        taken = worker.teach(key)
    return taken


def _from(items: list, number: int) -> list:
    """Return all items, starting at another one for each worker."""
    start = number * 7919 % len(items) if items else 0
    return items[start:] + items[:start]


def work_together(
    plan: Plan, workers: int, on_block: Callable[[], None], setup: Callable[[], None] | None = None
) -> None:
    """Work here and in other processes of this machine until nothing is left to do; what they leave is done here.

    Args:
        plan: The matrix.
        workers: How many processes, this one included.
        on_block: Called here often, with nothing.
        setup: Called first in each of the others; a function of a module.
    """
    context = multiprocessing.get_context("spawn")
    before = torch.get_num_threads()
    threads = max(1, before // workers)  # of each: together they have the cores that this process had
    others = [context.Process(target=_serve, args=(plan, number, threads, setup)) for number in range(1, workers)]
    torch.set_num_threads(threads)
    try:
        for process in others:
            process.start()
        work(plan, on_block)
    finally:
        torch.set_num_threads(before)
        _end(others)


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        if process.pid is not None:
            process.join()


def _serve(plan: Plan, number: int, threads: int, setup: Callable[[], None] | None) -> None:
    """Work as long as the process that started this one lives."""
    if setup:
        setup()
    torch.set_num_threads(threads)
    if torch.cuda.device_count() > 1:
        torch.cuda.set_device(number % torch.cuda.device_count())
    parent = multiprocessing.parent_process()

    def on_block() -> None:
        if parent is not None and not parent.is_alive():
            sys.exit(1)

    try:
        work(plan, on_block, number)
    except KeyboardInterrupt:
        sys.exit(130)
