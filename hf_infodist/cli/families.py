"""Commands that ask all pairs of several models who was made from whom, and who goes well with whom."""

from typing import Annotated

import typer

from hf_infodist.cli.matrix import live, read_names, set_up_worker
from hf_infodist.cli.options import AnyModels, Coding, ManyModels, Matrix, Report, Workers, command
from hf_infodist.errors import UsageError
from hf_infodist.images.request import Sample


@command
def lineage(
    sample: Sample,
    coding: Coding,
    report: Report,
    models: AnyModels = None,
    matrix: Matrix = None,
    workers: Workers = 1,
) -> None:
    """Who was made from whom: a parent for each model, or none, with the evidence and what its card declares.

    Read from a matrix, or from all pairs of the models that are named; only what the store does not have is computed.
    """
    if (matrix is None) == (not models):
        raise UsageError(
            "lineage of what?",
            "the models are either those of a matrix or named, not both and not neither",
            "infodist lineage MODEL MODEL…, or infodist lineage --matrix matrix.json",
        )
    from hf_infodist.analysis.lineage import Lineage
    from hf_infodist.models.declared import read_declared
    from hf_infodist.results.files import read_matrix

    if matrix is not None:
        known = read_matrix(matrix)
    else:
        from hf_infodist.distances.pairwise import pairwise_distances

        with live() as on_status:
            known = pairwise_distances(
                read_names(models or []),
                sample,
                **vars(coding),
                workers=workers,
                on_status=on_status,
                setup=set_up_worker,
            )
    found = Lineage.of(known, read_declared([model.id for model in known.models]))
    report.show(found)


@command
def ensemble(
    models: ManyModels,
    sample: Sample,
    coding: Coding,
    report: Report,
    pick: Annotated[int, typer.Option("--pick", help="how many to choose")] = 2,
    within: Annotated[
        float, typer.Option("--within", min=0, max=1, help="how much less accurate than the best a member may be")
    ] = 0.02,
    workers: Workers = 1,
) -> None:
    """Which models to average: of those that are accurate enough, the most different ones, and what that gains.

    Accuracy and gain are measured if the images have labels. Only distances that the store does not have are computed.
    """
    from hf_infodist.analysis.ensemble import choose_ensemble

    with live() as on_status:
        choice = choose_ensemble(
            read_names(models),
            pick,
            sample,
            within=within,
            **vars(coding),
            workers=workers,
            on_status=on_status,
            setup=set_up_worker,
        )
    report.show(choice)
