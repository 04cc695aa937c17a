"""Commands about several models."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hf_infodist.cli.options import (
    DEFAULT_IMAGES,
    MODEL,
    ColumnOption,
    ConfigOption,
    ImagesOption,
    JsonOption,
    KOption,
    MatrixOption,
    OrdersOption,
    OutputOption,
    ProcessesOption,
    ProtocolOption,
    SeedOption,
    SplitOption,
    StreamingOption,
)
from hf_infodist.cli.pair import code_complexity, compare_pair
from hf_infodist.cli.start import start_processes
from hf_infodist.cli.terminal import say, show
from hf_infodist.errors import UsageError


def complexity(
    context: typer.Context,
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=MODEL)],
    images: ImagesOption = DEFAULT_IMAGES,
    config: ConfigOption = None,
    split: SplitOption = None,
    column: ColumnOption = None,
    k: KOption = None,
    seed: SeedOption = 0,
    protocol: ProtocolOption = "standard",
    orders: OrdersOption = 1,
    streaming: StreamingOption = False,
    processes: ProcessesOption = 1,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Complexity of models: what it costs to make each from a fresh network of its architecture."""
    start_processes(processes, context)
    from hf_infodist.protocol import resolve_protocol
    from hf_infodist.result import ComplexityTable, ModelRecord

    settings = resolve_protocol(protocol, seed, orders)
    source = {"config": config, "split": split, "column": column, "streaming": streaming}
    records, codes = [], []
    for model in models:
        pair, code = code_complexity(model, images, source, k, seed, settings)
        codes.append(code)
        records.append(ModelRecord.of(pair.b))
    table = ComplexityTable(tuple(records), tuple(codes), pair.images.to_dict(), settings)
    show(table.to_dict(), str(table), as_json, output)


def card(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)],
    among: Annotated[list[str], typer.Option("--among", "-a", help="a checkpoint to compare with; give one or more")],
    images: ImagesOption = DEFAULT_IMAGES,
    config: ConfigOption = None,
    split: SplitOption = None,
    column: ColumnOption = None,
    k: KOption = None,
    seed: SeedOption = 0,
    protocol: ProtocolOption = "standard",
    orders: OrdersOption = 1,
    streaming: StreamingOption = False,
    into: Annotated[Path | None, typer.Option("--into", help="write README.md and infodist.yaml there")] = None,
    pull_request: Annotated[bool, typer.Option("--pull-request", help="propose both to the model's owners")] = False,
    as_json: JsonOption = False,
) -> None:
    """Nearest checkpoints of a model, as a section for its card: only shown, unless asked to put it there."""
    from hf_infodist import card as cards

    cards.check_comparisons(model, among)
    repo = cards.check_pull_request(model, among, images) if pull_request else ""
    source = {"config": config, "split": split, "column": column, "streaming": streaming}
    settings: dict[str, Any] = {"k": k, "seed": seed, "protocol": protocol, "orders": orders}
    nearest = cards.NearestCheckpoints.of(compare_pair(model, other, images, source, **settings)[0] for other in among)
    if into:
        cards.write_section(nearest, into)
    if pull_request:
        say(f"opened {cards.open_pull_request(repo, nearest)}")
    text = f"==> {cards.CARD} <==\n{nearest.to_markdown()}\n\n==> {cards.DATA} <==\n{nearest.to_yaml()}"
    show(nearest.to_dict(), text, as_json)


def map_models(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="what infodist matrix -o has written")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder that receives geometry.json and pictures")],
    as_json: JsonOption = False,
) -> None:
    """Map, tree and heat map of a matrix: PNG and SVG, and what they show as numbers.

    Several files are joined, if they are of the same images, protocol and measure.
    """
    from hf_infodist.geometry import Geometry
    from hf_infodist.matrices import merge, read_matrix
    from hf_infodist.pairwise import INFODIST
    from hf_infodist.plots import draw_all

    matrix = merge([read_matrix(file) for file in files])
    geometry, names = Geometry.of_matrix(matrix), [model.id for model in matrix.models]
    unit = "nats" if matrix.measure == INFODIST else matrix.measure
    paths = draw_all(geometry, matrix.nats, names, output, unit=unit)
    fields = {"schema": "infodist.geometry/1", "unit": unit, "models": names, **geometry.to_dict()}
    say(f"wrote {', '.join(path.name for path in paths)} and geometry.json in {output}")
    show(fields, f"{matrix}\n\n{geometry}", as_json, output / "geometry.json")


def nearest(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)],
    others: Annotated[
        list[str] | None, typer.Argument(metavar="OTHER...", help="to compare with, if no --matrix")
    ] = None,
    matrix: MatrixOption = None,
    n: Annotated[int, typer.Option("-n", min=1, help="how many to show")] = 5,
    images: ImagesOption = DEFAULT_IMAGES,
    config: ConfigOption = None,
    split: SplitOption = None,
    column: ColumnOption = None,
    k: KOption = None,
    seed: SeedOption = 0,
    protocol: ProtocolOption = "standard",
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Which models are nearest to one: read from a matrix, or compared with the others that are named."""
    if (matrix is None) == (not others):
        raise UsageError(
            f"nearest to {model!r} among what?",
            "the others are either those of a matrix or named, not both and not neither",
            f"infodist nearest {model} --matrix matrix.json, or infodist nearest {model} OTHER…",
        )
    from hf_infodist.matrices import Neighbours, of_results, read_matrix

    if matrix is not None:
        known = read_matrix(matrix)
    else:
        source = {"config": config, "split": split, "column": column}
        settings: dict[str, Any] = {"k": k, "seed": seed, "protocol": protocol}
        known = of_results([compare_pair(model, other, images, source, **settings)[0] for other in others or ()])
    found = Neighbours.of(known, model, n)
    show(found.to_dict(), str(found), as_json, output)
