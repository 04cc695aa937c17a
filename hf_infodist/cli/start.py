"""Before and after a command: several processes."""

import os

import typer

from hf_infodist.errors import UsageError


def start_processes(processes: int, context: typer.Context) -> None:
    """Hand this command line to several workers, unless this is one of them."""
    from hf_infodist.processes import in_worker, start_workers

    if processes < 1:
        raise UsageError(f"{processes} processes cannot work", "there has to be one at least", "use --processes 1")
    if processes > 1 and not in_worker():
        raise typer.Exit(start_workers(processes, context.find_root().obj))


def leave_group() -> None:
    """Part from the other processes, if there are any."""
    if "RANK" in os.environ:
        import torch

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
