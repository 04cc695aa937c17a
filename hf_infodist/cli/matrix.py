"""The command about all pairs of many models, and its live table."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_infodist.cli.options import (
    DEFAULT_IMAGES,
    MODEL,
    ColumnOption,
    ConfigOption,
    ImagesOption,
    JsonOption,
    KOption,
    OrdersOption,
    OutputOption,
    ProtocolOption,
    SeedOption,
    SplitOption,
    StreamingOption,
    WorkersOption,
)
from hf_infodist.cli.terminal import duration, interactive, log_to_standard_error, say, show
from hf_infodist.environment import keep_freed_memory, set_environment
from hf_infodist.errors import UnfitError, UsageError

if TYPE_CHECKING:
    from rich.console import Group

    from hf_infodist.plan import Status

_RUNNING_SHOWN = 8


def matrix(
    models: Annotated[list[str], typer.Argument(metavar="MODEL... | FILE", help=f"{MODEL}; or a file, a name a line")],
    images: ImagesOption = DEFAULT_IMAGES,
    config: ConfigOption = None,
    split: SplitOption = None,
    column: ColumnOption = None,
    k: KOption = None,
    seed: SeedOption = 0,
    protocol: ProtocolOption = "standard",
    orders: OrdersOption = 1,
    streaming: StreamingOption = False,
    measure: Annotated[
        str, typer.Option("--measure", help="infodist, or a baseline such as 'linear CKA'")
    ] = "infodist",
    workers: WorkersOption = 1,
    shard: Annotated[str, typer.Option("--shard", help="i/n: only the i-th of n shares of the work")] = "1/1",
    engine: Annotated[str, typer.Option("--engine", help="local or ray")] = "local",
    address: Annotated[str | None, typer.Option("--address", help="of the cluster of Ray")] = None,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """All pairs of several models: each is run once, and only what the store does not have is computed.

    The same command on several machines with one INFODIST_HOME divides the work. Cut off, it goes on when it is typed
    again. A pair that fails is shown with its error, the rest goes on, and the exit code is 4.
    """
    from hf_infodist.pairwise import pairwise_distances

    with live() as on_status:
        result = pairwise_distances(
            read_names(models),
            images,
            k=k,
            seed=seed,
            protocol=protocol,
            orders=orders,
            measure=measure,
            workers=workers,
            shard=_read_shard(shard),
            engine=engine,
            address=address,
            on_status=on_status,
            setup=set_up_worker,
            config=config,
            split=split,
            column=column,
            streaming=streaming,
        )
    show(result.to_dict(), str(result), as_json, output)
    if result.errors:
        raise typer.Exit(UnfitError.exit_code)


def set_up_worker() -> None:
    """Prepare a process that another one has started."""
    set_environment()
    keep_freed_memory()
    log_to_standard_error()


def read_names(words: list[str]) -> list[str]:
    """Return names of models; a single word may be a file with one on each line."""
    if len(words) > 1 or not Path(words[0]).is_file():
        return words
    lines = [line.partition("#")[0].strip() for line in Path(words[0]).read_text().splitlines()]
    return [line for line in lines if line]


def _read_shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise UsageError(
            f"{text!r} is no shard", "a shard is i/n: the i-th of n shares", "use --shard 1/2, for example"
        )
    return int(number), int(count)


@contextmanager
def live() -> Iterator[Callable[["Status"], None]]:
    """Show how far a matrix has come: a table on a terminal, else a line whenever something is new."""
    if not interactive():
        yield _Lines()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=sys.stderr), transient=True, auto_refresh=False) as live:
        yield lambda status: live.update(_table(status), refresh=True)


class _Lines:
    """Plain lines, one for each change."""

    def __init__(self) -> None:
        self.last: tuple[int, ...] = ()

    def __call__(self, status: "Status") -> None:
        """Print one line if codelengths have been finished, or models run, since the last one."""
        now = (status.done, status.failed, status.passes[0])
        if now != self.last:
            self.last = now
            say(_line(status))


def _line(status: "Status") -> str:
    left = f", {duration(status.seconds_left)} left" if status.seconds_left and not status.over else ""
    return (
        f"{status.done} of {status.total} done, {len(status.running)} running, {status.failed} failed; "
        f"{status.passes[0]} of {status.passes[1]} models run{left}"
    )


def _table(status: "Status") -> "Group":
    from rich.console import Group
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name in status.running[:_RUNNING_SHOWN]:
        table.add_row("running", name)
    if len(status.running) > _RUNNING_SHOWN:
        table.add_row("", f"and {len(status.running) - _RUNNING_SHOWN} more")
    return Group(_line(status), table)
