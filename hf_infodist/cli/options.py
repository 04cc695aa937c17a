"""Arguments and options of commands, each written once."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hf_infodist import commands
from hf_infodist.cli.formats import Format, chosen_format
from hf_infodist.cli.terminal import check_file, hint, say, show, speak_as, speaks
from hf_infodist.cli.trackers import check_trackers
from hf_infodist.errors import UsageError
from hf_infodist.results.export import TABLES, write
from hf_infodist.results.words import Unit

if TYPE_CHECKING:
    from hf_infodist.protocol import CodingProtocol

MODEL = "org/name[@revision], timm:NAME, torchvision:NAME[@WEIGHTS], a folder, random:NAME, demo:cnn or demo:vit"
_NAMES = "MODEL... | FILE"
_MANY = f"Models: each is {MODEL}. Or one file with a name on each line."

ModelA = Annotated[str, typer.Argument(metavar="A", help=f"A model: {MODEL}.")]
ModelB = Annotated[str, typer.Argument(metavar="B", help="Another model, of any architecture and label space.")]
OneModel = Annotated[str, typer.Argument(metavar="MODEL", help=f"A model: {MODEL}.")]
ManyModels = Annotated[list[str], typer.Argument(metavar=_NAMES, help=_MANY)]
AnyModels = Annotated[list[str] | None, typer.Argument(metavar=_NAMES, help=_MANY)]
Matrix = Annotated[
    Path | None, typer.Option("--matrix", help="Read the distances from a file of 'infodist matrix -o'.")
]
Atlas = Annotated[
    str | None,
    typer.Option("--atlas", help="Ask this atlas, without any weights: a folder, org/name, or demo:digits."),
]
K = Annotated[int | None, typer.Option("-k", help="Use so many images. [default: all, at most 2000]")]
TimeLimit = Annotated[float | None, typer.Option("--time-limit", help="Give up after so many minutes (exit code 5).")]

_OPTIONS = {  # of fields of records
    "images": Annotated[
        str, typer.Option("--images", "-i", help="Use these images: a dataset id, a folder, a file, or 'digits'.")
    ],
    "config": Annotated[str | None, typer.Option("--config", help="Use this configuration of the dataset.")],
    "split": Annotated[str | None, typer.Option("--split", help="Use this split of the dataset.")],
    "column": Annotated[str | None, typer.Option("--column", help="Take the images from this column of the dataset.")],
    "k": K,
    "seed": Annotated[
        int, typer.Option("--seed", help="Draw images, their order and all else that is drawn with this seed.")
    ],
    "streaming": Annotated[bool, typer.Option("--streaming", help="Read the dataset only as far as it is needed.")],
    "protocol": Annotated[
        str,
        typer.Option(
            "--protocol", "-p", help="Code by this protocol: standard, thorough, single, paper, blockwise or sampled."
        ),
    ],
    "orders": Annotated[int, typer.Option("--orders", help="Code the images in so many orders, and take the mean.")],
    "workers": Annotated[int, typer.Option("--workers", help="Use so many processes of this machine.")],
    "time_limit": TimeLimit,
    "yes": Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a run of more than ten minutes.")],
    "fresh": Annotated[bool, typer.Option("--fresh", help="Compute again what the store has already.")],
    "data_parallel": Annotated[
        bool, typer.Option("--data-parallel", help="Let workers share each batch instead of having a learner each.")
    ],
    "log_with": Annotated[
        list[str] | None,
        typer.Option(
            "--log-with", help="Log curves live: tensorboard, trackio or wandb. It may be given several times."
        ),
    ],
    "format": Annotated[
        Format,
        typer.Option("--format", help="Print for people, for agents (tables parted by tabs), JSON, or the least."),
    ],
    "as_json": Annotated[bool, typer.Option("--json", help="Print one JSON object, as --format json does.")],
    "quiet": Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the number or the names alone, as --format quiet does.")
    ],
    "output": Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write the JSON to this file, or the table to a .csv or .parquet."),
    ],
    "unit": Annotated[Unit, typer.Option("--unit", help="Print information in this unit.")],
}


@dataclass(frozen=True)
class Coding:
    """How a command codes.

    Attributes:
        protocol: Name of a preset.
        orders: In how many orders of the images.
    """

    protocol: str = "standard"
    orders: int = 1

    def resolve(self, seed: int) -> "CodingProtocol":
        """Return the protocol.

        Raises:
            UsageError: If there is none of that name, or no order to code in.
        """
        from hf_infodist.protocol import resolve_protocol

        return resolve_protocol(self.protocol, seed, self.orders)


@dataclass(frozen=True)
class Work:
    """Who works, and for how long.

    Attributes:
        workers: Processes of this machine.
        time_limit: Minutes after which it is given up.
        yes: Whether to begin a long run without asking.
    """

    workers: int = 1
    time_limit: float | None = None
    yes: bool = False


@dataclass(frozen=True)
class Run(Work):
    """How comparisons of two models are carried out.

    Attributes:
        fresh: Whether to compute what the store has already.
        data_parallel: Whether workers share each batch instead of having a learner each.
        log_with: Trackers that curves are logged to.
    """

    fresh: bool = False
    data_parallel: bool = False
    log_with: list[str] | None = None

    def __post_init__(self) -> None:
        check_trackers(self.log_with or ())


@dataclass(frozen=True)
class Output:
    """Where a command puts what it has found.

    Attributes:
        format: In which form it is printed.
        as_json: Whether that is JSON.
        quiet: Whether it is the number or the names alone.
        output: A file that receives the JSON as well; the table, if its name ends in .csv or .parquet.
    """

    tabular: ClassVar[bool] = False  # whether there is a table

    format: Format = "auto"
    as_json: bool = False
    quiet: bool = False
    output: Path | None = None

    def __post_init__(self) -> None:
        speak_as(chosen_format(self.format, self.as_json, self.quiet))
        check_file(self.output)
        if self._is_table and not self.tabular:
            what, why = f"{self.output} cannot be written", "what this command finds is no table"
            raise UsageError(what, why, f"use -o {self.output.with_suffix('.json')}")  # type: ignore[union-attr]

    @property
    def _is_table(self) -> bool:
        return self.output is not None and self.output.suffix in TABLES

    def show_fields(
        self,
        fields: dict[str, Any],
        text: str | Callable[[], str],
        brief: str,
        next: str = "",
        *,
        found: Any = None,
    ) -> None:
        """Print a result, write it to the file, and say what to type next.

        Args:
            fields: Its JSON types.
            text: For people, or what makes it.
            brief: The number or the names alone.
            next: A hint; nothing is said if it is empty.
            found: What has a table, of commands that are `tabular`.
        """
        show(fields, text if callable(text) else lambda: str(text), brief, None if self._is_table else self.output)
        if self.output and self._is_table and speaks():
            write(found, self.output)
            say(f"wrote {self.output}")
        if next:
            hint(next)


@dataclass(frozen=True)
class Report(Output):
    """The same of what has numbers.

    Attributes:
        unit: In which information is told.
    """

    tabular: ClassVar[bool] = True

    unit: Unit = Unit.BITS

    def show(self, found: Any, brief: str, next: str = "") -> None:
        """Print what has ``to_dict`` and a text in a unit, as `show_fields` does."""
        self.show_fields(found.to_dict(), lambda: self.text(found), brief, next, found=found)

    def text(self, found: Any) -> str:
        """Return the text of a result in the unit."""
        return str(found.text(self.unit))

    def number(self, nats: float, k: int, digits: int = 6) -> str:
        """Return nats over ``k`` images per image, in the unit, without a word."""
        return f"{self.unit.of(nats) / k:.{digits}g}"


class Interrupted(BaseException):
    """Somebody has pressed Ctrl-C; Typer ends without a word at a `KeyboardInterrupt`."""


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function, with the options of its records."""
    made = commands.command(function, shared=_OPTIONS)

    @functools.wraps(made)
    def call(**values: Any) -> None:
        try:
            made(**values)
        except KeyboardInterrupt:
            raise Interrupted from None

    return call
