"""Options that several studies have."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_infodist.protocol import PROTOCOLS

_SCALES = ("small", "paper")


def one_of(names: Collection[str], *declarations: str, what: str) -> Any:
    """Return an option whose value, or each of whose values, is one of some names.

    Args:
        names: Which may be typed.
        declarations: How the option is written.
        what: Help.
    """

    def parse(word: str) -> str:
        if word not in names:
            raise typer.BadParameter(f"{word!r} is none of {', '.join(names)}")
        return word

    return typer.Option(*declarations, parser=parse, metavar="NAME", help=f"{what}: {', '.join(names)}")


Work = Annotated[Path, typer.Option("--work", help="folder that keeps what is trained and measured")]
Data = Annotated[Path, typer.Option("--data", help="folder that tests/realdata.py has filled")]
Images = Annotated[int, typer.Option("-k", help="images of every pair")]
OtherImages = Annotated[int | None, typer.Option("-k", help="images of every pair, instead of its own number")]
Protocol = Annotated[str, one_of(PROTOCOLS, "--protocol", "-p", what="how a student is taught")]
OtherProtocol = Annotated[str | None, one_of(PROTOCOLS, "--protocol", "-p", what="instead of its own")]
Scale = Annotated[str, one_of(_SCALES, "--scale", what="that of two cores, or of the paper")]
Seeds = Annotated[int, typer.Option("--seeds", help="how often everything is trained and measured")]
Examples = Annotated[int | None, typer.Option("--train", help="pictures to train on, instead of the scale's")]
Folder = Annotated[Path | None, typer.Option("--output", help="folder that receives the figures and the pictures")]
File = Annotated[Path | None, typer.Option("--output", help="write all figures to this file, as JSON")]


@dataclass(frozen=True)
class Repeated:
    """Options of a study that trains everything several times.

    Attributes:
        work: Folder that keeps the networks.
        scale: Name of a scale.
        train: Pictures to train on.
        k: Images of every pair.
        seeds: How often everything is trained and measured.
        output: Folder that receives figures and pictures.
    """

    work: Work
    scale: Scale = "small"
    train: Examples = None
    k: OtherImages = None
    seeds: Seeds = 3
    output: Folder = None


def typed(context: typer.Context) -> str:
    """Return the command line that runs a study."""
    return " ".join([context.command_path, *context.obj])
