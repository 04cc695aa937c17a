"""Several processes: which of them does what, and how the command line starts them."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from hf_infodist.errors import UsageError

FIRST_ERROR = "INFODIST_FIRST_ERROR"  # names a file; the worker that creates it is the one that reports its error
SENT_NUMBERS = 2**24  # of gradients at one time: 64 MiB
Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ProcessTeam:
    """The processes that work on one task together.

    Attributes:
        size: How many they are.
        index: Which of them this is; number 0 leads.
        group: Their process group; None if there is only one.
    """

    size: int = 1
    index: int = 0
    group: torch.distributed.ProcessGroup | None = None

    @property
    def lead(self) -> bool:
        """Whether this process leads."""
        return self.index == 0

    def merge(self, own: dict) -> dict:
        """Return the union of the dictionaries that all bring, the same on each of them."""
        if self.size == 1:
            return own
        everyones: list[dict] = [{} for _ in range(self.size)]
        torch.distributed.all_gather_object(everyones, own, group=self.group)
        return {key: value for theirs in everyones for key, value in theirs.items()}

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all processes; what is sent at one time is a copy of a few of them."""
        for some in _pieces(tensors) if self.size > 1 else ():
            flat = torch.cat([tensor.reshape(-1) for tensor in some])
            torch.distributed.all_reduce(flat, group=self.group)
            for tensor, total in zip(some, flat.split([tensor.numel() for tensor in some]), strict=True):
                tensor.copy_(total.view_as(tensor))


def _pieces(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    piece: list[Tensor] = []
    numbers = 0
    for tensor in tensors:
        if piece and numbers + tensor.numel() > SENT_NUMBERS:
            yield piece
            piece, numbers = [], 0
        piece.append(tensor)
        numbers += tensor.numel()
    if piece:
        yield piece


def spread(
    tasks: Sequence[Task],
    work: Callable[[Task, ProcessTeam], Result],
    accelerator: Accelerator,
    *,
    together: bool = False,
) -> list[Result]:
    """Do all tasks, spread over the processes, and return their results in order, on every process.

    With more processes than tasks, teams share a task; with fewer, each does several in turn.

    Args:
        tasks: What there is to do, the same on every process.
        work: Does one task, alone or in a team.
        accelerator: Owns the processes.
        together: Whether all processes are one team, which does one task after the other.
    """
    processes, rank = accelerator.num_processes, accelerator.process_index
    if processes == 1:
        return [work(task, ProcessTeam()) for task in tasks]
    teams = 1 if together else min(processes, len(tasks))
    members = [range(number, processes, teams) for number in range(teams)]
    groups = [torch.distributed.new_group(list(ranks)) for ranks in members]  # every process has to make all of them
    own = rank % teams
    team = ProcessTeam(len(members[own]), members[own].index(rank), groups[own])
    done = [(i, work(tasks[i], team)) for i in range(own, len(tasks), teams)]
    everyones = dict(gather_object(done if team.lead else []))
    return [everyones[i] for i in range(len(tasks))]


@contextmanager
def one_thread(device: torch.device | str) -> Iterator[None]:
    """Compute on one thread of a CPU: sums split over threads round differently, and training magnifies that.

    So the number does not depend on how many cores there are; use processes to employ them.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if torch.device(device).type == "cpu" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_worker() -> bool:
    """Tell whether this process was started by `start_workers`."""
    return FIRST_ERROR in os.environ


def reports_error() -> bool:
    """Tell whether an error is this process's to report: of several workers, the first one's."""
    if not in_worker():
        return True
    try:
        os.close(os.open(os.environ[FIRST_ERROR], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def start_workers(processes: int, arguments: Sequence[str]) -> int:
    """Run this command line in several processes of this machine and return its exit code.

    Args:
        processes: How many.
        arguments: Of the command line; those that start processes are without effect in a worker.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # workers report their errors themselves
    with tempfile.TemporaryDirectory(prefix="infodist-") as folder:
        os.environ[FIRST_ERROR] = str(Path(folder, "reported"))
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="infodist",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            max_restarts=0,
            monitor_interval=0.1,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "hf_infodist.cli", *arguments)
        except ChildFailedError as error:
            return error.get_first_failure()[1].exitcode
        except SignalException as error:
            raise KeyboardInterrupt from error
        finally:
            logging.disable(logging.NOTSET)
            del os.environ[FIRST_ERROR]
    return 0


def make_accelerator() -> Accelerator:
    """Return Accelerate's view of this machine: bf16 autocast on CUDA, full precision elsewhere.

    Raises:
        UsageError: If there are more processes than GPUs.
    """
    gpus = torch.cuda.device_count()
    use_bf16 = gpus > 0 and torch.cuda.is_bf16_supported()
    accelerator = Accelerator(cpu=gpus == 0, mixed_precision="bf16" if use_bf16 else "no")
    if 0 < gpus < accelerator.num_processes:
        raise UsageError(
            f"{accelerator.num_processes} workers are too many",
            f"there are {gpus} GPUs, and each worker needs one of its own",
            f"use --workers {gpus}",
        )
    return accelerator
