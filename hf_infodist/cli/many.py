"""Commands about several models."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_infodist.cli.comparing import code_complexity, compare_pair
from hf_infodist.cli.options import MODEL, Atlas, Coding, Matrix, OneModel, Output, Report, Run, Work, command
from hf_infodist.cli.progress import comparing
from hf_infodist.cli.terminal import check_folder, interactive, say, silent
from hf_infodist.errors import UsageError
from hf_infodist.images.request import Sample

if TYPE_CHECKING:
    from hf_infodist.results.atlas.folder import Atlas as AtlasFolder
    from hf_infodist.results.distance import InformationDistance

_SHIPPED = "demo:digits"  # the atlas that is asked where nothing is said
Nearest = Annotated[int, typer.Option("-n", min=1, help="Show so many.")]


@command
def complexity(
    context: typer.Context,
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=f"Models: each is {MODEL}.")],
    sample: Sample,
    coding: Coding,
    run: Run,
    report: Report,
) -> None:
    """Measure what it costs to make models from fresh networks.

    A fresh network has the architecture of the model and random weights.

    Example: infodist complexity demo:cnn demo:vit -i digits -k 400
    """
    answers = [code_complexity(context, model, sample, coding, run) for model in models]
    from hf_infodist.results.distance import ComplexityTable

    codes = tuple(answer.codes[1, 0] for answer in answers)
    records, images = tuple(answer.models[1] for answer in answers), answers[0].images
    table = ComplexityTable(records, codes, images, coding.resolve(sample.seed))
    brief = "\n".join(report.number(code.nats, images.k) for code in codes)
    report.show(table, brief, "'infodist compare A B --complexities' tells a distance as a share of both")


@command
def card(
    context: typer.Context,
    model: OneModel,
    sample: Sample,
    coding: Coding,
    run: Run,
    report: Output,
    among: Annotated[
        list[str] | None,
        typer.Option("--among", "-a", help="Compare with this checkpoint; it may be given several times."),
    ] = None,
    atlas: Atlas = None,
    n: Nearest = 5,
    into: Annotated[Path | None, typer.Option("--into", help="Write README.md and infodist.yaml there.")] = None,
    pull_request: Annotated[bool, typer.Option("--pull-request", help="Propose both to the model's owners.")] = False,
) -> None:
    """Make a section about nearest checkpoints for a model's card.

    The others are named, or those of an atlas that are nearest. It is only shown, unless asked to put it there.

    Example: infodist card demo:cnn --among demo:vit -i digits -k 400
    """
    from hf_infodist import cards

    check_folder(into)
    if bool(among) == bool(atlas):
        what, why = f"a card of {model!r} among what?", "the others are either named or those of an atlas"
        raise UsageError(what, why, f"infodist card {model} --among OTHER, or infodist card {model} --atlas FOLDER")
    if atlas:
        from hf_infodist.results.atlas.shipped import open_atlas

        there = open_atlas(atlas)
        if pull_request:  # before anything is run; the others are known only then
            cards.check_pull_request(model, [], there.head.images.id)
        results = place(there, atlas, model, sample, coding, run, n)
        among, images = [one.model_b.id for one in results], results[0].images.id
        repo = cards.check_pull_request(model, among, images) if pull_request else ""
    else:
        among = among or []
        cards.check_comparisons(model, among)
        repo = cards.check_pull_request(model, among, sample.images) if pull_request else ""
        results = [compare_pair(context, (model, other), sample, coding, run) for other in among]
    nearest = cards.NearestCheckpoints.of(results)
    if into:
        cards.write_section(nearest, into)
        say(f"wrote {into / cards.CARD} and {into / cards.DATA}")
    if pull_request:
        say(f"opened {cards.open_pull_request(repo, nearest)}")
    text = f"==> {cards.CARD} <==\n{nearest.to_markdown()}\n\n==> {cards.DATA} <==\n{nearest.to_yaml()}"
    next = "" if into else "'--into FOLDER' writes both files, '--pull-request' proposes them to the model's owners"
    report.show_fields(nearest.to_dict(), text, "\n".join(result.model_b.id for result in nearest.results), next)


@command
def map_models(
    into: Annotated[Path, typer.Option("--into", help="Write the pictures, and geometry.json, to this folder.")],
    coding: Coding,
    work: Work,
    report: Report,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="Files that 'infodist matrix -o' has written.")
    ] = None,
    atlas: Atlas = None,
) -> None:
    """Draw map, tree and heat map of a matrix, or of an atlas.

    They are drawn as PNG and SVG, and told as the numbers that they show. Several files are joined, if they are of the
    same images, protocol and measure.

    Example: infodist map matrix.json --into pictures
    """
    check_folder(into)
    if bool(files) == bool(atlas):
        what, why = "a map of what?", "it is drawn of files of distances, or of an atlas"
        raise UsageError(
            what, why, "infodist map matrix.json --into FOLDER, or infodist map --atlas FOLDER --into FOLDER"
        )
    from hf_infodist.analysis.geometry import Geometry
    from hf_infodist.analysis.plots import draw_all
    from hf_infodist.cli.terminal import write_json
    from hf_infodist.results.files import merge, read_matrix
    from hf_infodist.results.matrix import INFODIST
    from hf_infodist.results.pictures import footer
    from hf_infodist.table import short_names

    if atlas:
        from hf_infodist.cli.matrix import all_pairs_of_atlas

        matrix, whose = all_pairs_of_atlas(atlas, [], coding, work), f"--atlas {atlas}"
    else:
        matrix, whose = merge([read_matrix(file) for file in files or []]), f"--matrix {(files or [Path()])[0]}"
    geometry, names = Geometry.of_matrix(matrix), [model.id for model in matrix.models]
    unit = "nats" if matrix.measure == INFODIST else matrix.measure
    values, told = matrix.shown(report.unit)
    drawn = Geometry.of_matrix(replace(matrix, nats=values))
    paths = draw_all(
        drawn, values, short_names(names), into, unit=told, footnote=footer(matrix.images, matrix.protocol)
    )
    fields = {"schema": "infodist.geometry/1", "unit": unit, "models": names, **geometry.to_dict()}
    for path in paths:
        say(f"wrote {path}")
    write_json(fields, into / "geometry.json")
    brief = "\n".join(map(str, paths))
    next = f"'infodist nearest MODEL {whose}' ranks the models by their distance from one"
    report.show_fields(fields, lambda: f"{report.text(matrix)}\n\n{geometry}", brief, next, found=matrix)


@command
def nearest(
    context: typer.Context,
    model: OneModel,
    sample: Sample,
    coding: Coding,
    run: Run,
    report: Report,
    others: Annotated[
        list[str] | None, typer.Argument(metavar="OTHER...", help="Models to compare it with, without --matrix.")
    ] = None,
    matrix: Matrix = None,
    atlas: Atlas = None,
    n: Nearest = 5,
) -> None:
    """Rank the models that are nearest to one.

    The others are named, or those of a matrix, or of an atlas, of which nothing is loaded; if nothing is said, those
    of the atlas demo:digits. It says how much farther each is than the nearest, image by image, and whether that may
    be chance, which of them are the same function, and where among them what the model's card declares lies. Of a
    matrix the end of a name will do, if no other ends so.

    Example: infodist nearest demo:cnn demo:vit random:demo:cnn -i digits
    """
    if sum(map(bool, (others, matrix, atlas))) > 1:
        raise UsageError(
            f"nearest to {model!r} among what?",
            "the others are those of a matrix, of an atlas, or named: of one of these",
            f"infodist nearest {model} --matrix matrix.json, infodist nearest {model} OTHER…, or --atlas FOLDER",
        )
    from hf_infodist.results.files import of_results, read_matrix

    declared = None
    if matrix is not None:
        known = read_matrix(matrix)
    elif not others:
        from hf_infodist.models.declared import declared_in_atlas
        from hf_infodist.results.atlas.shipped import open_atlas

        there = open_atlas(atlas or _SHIPPED)
        known = of_results(place(there, atlas or _SHIPPED, model, sample, coding, run, n))
        model = known.models[0].id
        declared = declared_in_atlas(there, model)
    else:
        known = of_results([compare_pair(context, (model, other), sample, coding, run) for other in others])
        from hf_infodist.models.declared import read_declared

        declared = read_declared([model, *others]).get(model)
    from hf_infodist.analysis.neighbours import Neighbours

    found = Neighbours.of(known, model, n, declared)
    names = [one.model for one in found.neighbours]
    told = f"'infodist compare {found.model} {names[0]}' tells more about the nearest" if names else ""
    if atlas:
        told = f"'infodist lineage {found.model} --atlas {atlas}' tests whether any of them is its kin"
    report.show(found, "\n".join(names), told)


def place(
    there: "AtlasFolder", atlas: str, model: str, sample: Sample, coding: Coding, run: Run, n: int
) -> "list[InformationDistance]":
    """Find the models of an atlas that are nearest to one.

    Args:
        there: The atlas.
        atlas: Its name, as the user types it.
        model: Which.
        sample: Its images, if they are said to lie elsewhere than the atlas says.
        coding: How students are priced.
        run: Whether what is stored is computed again, and for how long.
        n: How many.
    """
    say(f"placing {model} among {len(there.files)} models of {atlas}, {there.head.images}")
    from hf_infodist.analysis.from_atlas import nearest_in_atlas
    from hf_infodist.pair import Execution

    elsewhere = None if sample == Sample() else sample
    protocol = coding.resolve(there.head.images.seed)
    with comparing(run.time_limit) as on_compared, silent("hf_infodist.distances.code"):  # of each that is stored
        return nearest_in_atlas(
            there,
            model,
            n,
            images=elsewhere,
            protocol=protocol,
            execution=Execution(fresh=run.fresh),
            on_compared=on_compared,
            progress=interactive(),
        )
