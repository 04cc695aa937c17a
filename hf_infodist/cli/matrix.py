"""The command about all pairs of many models, and its live table."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_infodist.cli.options import Coding, ManyModels, Report, Workers, command
from hf_infodist.cli.terminal import duration, interactive, log_to_standard_error, say
from hf_infodist.environment import keep_freed_memory, set_environment
from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.images.request import Sample

if TYPE_CHECKING:
    from hf_infodist.distances.plan import Status

_LISTS = (".txt", ".list", ".lst", ".names", ".csv", ".tsv")  # endings of files of names
_RUNNING_SHOWN = 3


@dataclass(frozen=True)
class Schedule:
    """Who works on a matrix."""

    workers: Workers = 1
    shard: Annotated[str, typer.Option("--shard", help="i/n: only the i-th of n shares of the work")] = "1/1"
    engine: Annotated[str, typer.Option("--engine", help="local or ray")] = "local"
    address: Annotated[str | None, typer.Option("--address", help="of the cluster of Ray")] = None


@command
def matrix(
    models: ManyModels,
    sample: Sample,
    coding: Coding,
    schedule: Schedule,
    report: Report,
    measure: Annotated[
        str, typer.Option("--measure", help="infodist, or a baseline such as 'linear CKA'")
    ] = "infodist",
) -> None:
    """All pairs of several models: each is run once, and only what the store does not have is computed.

    The same command on several machines with one INFODIST_HOME divides the work. Cut off, it goes on when it is typed
    again. A pair that fails is shown with its error, the rest goes on, and the exit code is 4.
    """
    from hf_infodist.distances.pairwise import pairwise_distances

    with live() as on_status:
        result = pairwise_distances(
            read_names(models),
            sample,
            **vars(coding),
            **vars(schedule) | {"shard": _read_shard(schedule.shard)},
            measure=measure,
            on_status=on_status,
            setup=set_up_worker,
        )
    report.show(result)
    if result.errors:
        raise typer.Exit(UnfitError.exit_code)


def set_up_worker() -> None:
    """Prepare a process that another one has started."""
    set_environment()
    keep_freed_memory()
    log_to_standard_error()


def read_names(words: list[str]) -> list[str]:
    """Return names of models; a single word may be a file with one on each line, and what follows ``#`` a remark.

    Raises:
        NotFoundError: If the word is the name of a file of names that is not there.
        UnfitError: If it is no file of text.
    """
    if len(words) != 1 or os.path.isdir(words[0]):
        return words
    file = Path(words[0]).expanduser()
    if not os.path.isfile(file):
        if file.suffix.lower() in _LISTS:
            fix = "check the path, or give the names themselves"
            raise NotFoundError(f"there is no file {words[0]}", "names of models were to be read from it", fix)
        return words
    content = file.read_bytes()
    coding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        lines = content.decode(coding).splitlines()
    except UnicodeError as error:
        what, why = f"{words[0]} is no list of names", f"it is no text of {coding}: {error.reason}"  # type: ignore[attr-defined]
        raise UnfitError(what, why, "give a file of text with a name on each line") from error
    names = [re.split(r"(?:^|\s)#", line)[0].strip() for line in lines]
    return [name for name in names if name]


def _read_shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise UsageError(
            f"{text!r} is no shard", "a shard is i/n: the i-th of n shares", "use --shard 1/2, for example"
        )
    return int(number), int(count)


@contextmanager
def live() -> Iterator[Callable[["Status"], None]]:
    """Show how far a matrix has come: a bar on a terminal, else a line whenever something is new."""
    if not interactive():
        yield _Lines()
        return
    from tqdm import tqdm

    with tqdm(unit="codelength", file=sys.stderr, leave=False) as bar:

        def update(status: "Status") -> None:
            bar.total, bar.n = status.total, status.done + status.failed
            more = len(status.running) - _RUNNING_SHOWN
            names = [*status.running[:_RUNNING_SHOWN], *([f"and {more} more"] if more > 0 else [])]
            bar.set_description(f"{status.passes[0]} of {status.passes[1]} models run", refresh=False)
            bar.set_postfix_str("; ".join(names) + (f"; {status.failed} failed" if status.failed else ""))

        yield update


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
