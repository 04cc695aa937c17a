"""Arguments and options of commands, each written once."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_infodist import commands
from hf_infodist.cli.terminal import check_file, show

if TYPE_CHECKING:
    from hf_infodist.protocol import CodingProtocol

MODEL = "org/name[@revision], timm:NAME, torchvision:NAME[@WEIGHTS], a folder, random:NAME, demo:cnn or demo:vit"
_NAMES = "MODEL... | FILE"

ModelA = Annotated[str, typer.Argument(metavar="A", help=MODEL)]
ModelB = Annotated[str, typer.Argument(metavar="B", help="as A; any architecture, any label space")]
OneModel = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)]
ManyModels = Annotated[list[str], typer.Argument(metavar=_NAMES, help=f"{MODEL}; or a file, a name a line")]
AnyModels = Annotated[list[str] | None, typer.Argument(metavar=_NAMES, help=f"{MODEL}; or a file, a name a line")]
Matrix = Annotated[Path | None, typer.Option("--matrix", help="what infodist matrix -o has written")]
K = Annotated[int | None, typer.Option("-k", help="number of images [default: all, at most 2000]")]
AsJson = Annotated[bool, typer.Option("--json", help="print exactly one JSON object on standard output")]
Workers = Annotated[int, typer.Option("--workers", help="number of processes of this machine to use")]
Processes = Annotated[int, typer.Option("--processes", help="number of processes of this machine to use")]

_OPTIONS = {  # of fields of records
    "images": Annotated[str, typer.Option("--images", "-i", help="dataset id, folder, parquet file, or 'digits'")],
    "config": Annotated[str | None, typer.Option("--config", help="configuration of the dataset")],
    "split": Annotated[str | None, typer.Option("--split", help="split of the dataset")],
    "column": Annotated[str | None, typer.Option("--column", help="image column of the dataset")],
    "k": K,
    "seed": Annotated[int, typer.Option("--seed", help="order of the images, and every draw of the protocol")],
    "streaming": Annotated[bool, typer.Option("--streaming", help="read the dataset as a stream")],
    "protocol": Annotated[
        str, typer.Option("--protocol", "-p", help="standard, thorough, single, paper, blockwise or sampled")
    ],
    "orders": Annotated[int, typer.Option("--orders", help="code the images in so many orders, and take the mean")],
    "as_json": AsJson,
    "output": Annotated[Path | None, typer.Option("--output", "-o", help="also write the JSON to this file")],
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
class Report:
    """Where a command puts what it has found.

    Attributes:
        as_json: Whether JSON is printed instead of text.
        output: A file that receives the JSON as well.
    """

    as_json: bool = False
    output: Path | None = None

    def __post_init__(self) -> None:
        check_file(self.output)

    def show(self, found: Any) -> None:
        """Print what has ``to_dict`` and a text, and write it to the file."""
        self.show_fields(found.to_dict(), str(found))

    def show_fields(self, values: dict[str, Any], text: str) -> None:
        """Print a result, and write it to the file."""
        show(values, text, self.as_json, self.output)


command = partial(commands.command, shared=_OPTIONS)
