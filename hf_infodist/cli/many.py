"""Commands about several models."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hf_infodist.cli.options import MODEL, AsJson, Coding, Matrix, OneModel, Processes, Report, command
from hf_infodist.cli.pair import code_complexity, compare_pair
from hf_infodist.cli.start import start_processes
from hf_infodist.cli.terminal import check_folder, say, show
from hf_infodist.errors import UsageError
from hf_infodist.images.request import Sample


@command
def complexity(
    context: typer.Context,
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=MODEL)],
    sample: Sample,
    coding: Coding,
    report: Report,
    processes: Processes = 1,
) -> None:
    """Complexity of models: what it costs to make each from a fresh network of its architecture."""
    start_processes(processes, context)
    from hf_infodist.results.distance import ComplexityTable

    settings = coding.resolve(sample.seed)
    records, codes = [], []
    for model in models:
        pair, code = code_complexity(model, sample, settings)
        codes.append(code)
        records.append(pair.b.record)
    table = ComplexityTable(tuple(records), tuple(codes), pair.images.record, settings)
    report.show(table)


@command
def card(
    model: OneModel,
    among: Annotated[list[str], typer.Option("--among", "-a", help="a checkpoint to compare with; give one or more")],
    sample: Sample,
    coding: Coding,
    into: Annotated[Path | None, typer.Option("--into", help="write README.md and infodist.yaml there")] = None,
    pull_request: Annotated[bool, typer.Option("--pull-request", help="propose both to the model's owners")] = False,
    as_json: AsJson = False,
) -> None:
    """Nearest checkpoints of a model, as a section for its card: only shown, unless asked to put it there."""
    from hf_infodist import cards

    check_folder(into)
    cards.check_comparisons(model, among)
    repo = cards.check_pull_request(model, among, sample.images) if pull_request else ""
    nearest = cards.NearestCheckpoints.of(compare_pair(model, other, sample, coding)[0] for other in among)
    if into:
        cards.write_section(nearest, into)
    if pull_request:
        say(f"opened {cards.open_pull_request(repo, nearest)}")
    text = f"==> {cards.CARD} <==\n{nearest.to_markdown()}\n\n==> {cards.DATA} <==\n{nearest.to_yaml()}"
    show(nearest.to_dict(), text, as_json)


@command
def map_models(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="what infodist matrix -o has written")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder that receives geometry.json and pictures")],
    as_json: AsJson = False,
) -> None:
    """Map, tree and heat map of a matrix: PNG and SVG, and what they show as numbers.

    Several files are joined, if they are of the same images, protocol and measure.
    """
    check_folder(output)
    from hf_infodist.analysis.geometry import Geometry
    from hf_infodist.analysis.plots import draw_all
    from hf_infodist.results.files import merge, read_matrix
    from hf_infodist.results.matrix import INFODIST
    from hf_infodist.results.pictures import footer

    matrix = merge([read_matrix(file) for file in files])
    geometry, names = Geometry.of_matrix(matrix), [model.id for model in matrix.models]
    unit = "nats" if matrix.measure == INFODIST else matrix.measure
    values, told = matrix.shown()
    drawn = Geometry.of_matrix(replace(matrix, nats=values))
    paths = draw_all(drawn, values, names, output, unit=told, footnote=footer(matrix.images, matrix.protocol))
    fields = {"schema": "infodist.geometry/1", "unit": unit, "models": names, **geometry.to_dict()}
    say(f"wrote {', '.join(path.name for path in paths)} and geometry.json in {output}")
    show(fields, f"{matrix}\n\n{geometry}", as_json, output / "geometry.json")


@command
def nearest(
    model: OneModel,
    sample: Sample,
    coding: Coding,
    report: Report,
    others: Annotated[
        list[str] | None, typer.Argument(metavar="OTHER...", help="to compare with, if no --matrix")
    ] = None,
    matrix: Matrix = None,
    n: Annotated[int, typer.Option("-n", min=1, help="how many to show")] = 5,
) -> None:
    """Which models are nearest to one: read from a matrix, or compared with the others that are named."""
    if (matrix is None) == (not others):
        raise UsageError(
            f"nearest to {model!r} among what?",
            "the others are either those of a matrix or named, not both and not neither",
            f"infodist nearest {model} --matrix matrix.json, or infodist nearest {model} OTHER…",
        )
    from hf_infodist.analysis.neighbours import Neighbours
    from hf_infodist.results.files import of_results, read_matrix

    if matrix is not None:
        known = read_matrix(matrix)
    else:
        known = of_results([compare_pair(model, other, sample, coding)[0] for other in others or ()])
    found = Neighbours.of(known, model, n)
    report.show(found)
