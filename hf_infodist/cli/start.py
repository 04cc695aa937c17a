"""Before and after a command: several processes."""

import os

import typer

from hf_infodist.errors import UsageError


def alone() -> bool:
    """Tell whether this process is not one of several that were started together."""
    return "RANK" not in os.environ


def start_processes(workers: int, context: typer.Context) -> None:
    """Hand this command line to several workers, unless this is one of them."""
    if workers < 1:
        raise UsageError(f"{workers} workers cannot work", "there has to be one at least", "use --workers 1")
    if workers > 1:
        from hf_infodist.processes import in_worker, start_workers

        if not in_worker():
            raise typer.Exit(start_workers(workers, words_of(context)))


def words_of(context: typer.Context) -> list[str]:
    """Return the words of the command line."""
    return list(context.find_root().obj)


def leave_group() -> None:
    """Part from the other processes, if there are any."""
    if not alone():
        import torch

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
