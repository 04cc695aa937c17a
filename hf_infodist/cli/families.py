"""Commands that ask all pairs of several models who was made from whom, and who goes well with whom."""

from typing import Annotated

import typer

from hf_infodist.cli.comparing import ask_before
from hf_infodist.cli.matrix import all_pairs, read_names, set_up_worker
from hf_infodist.cli.options import AnyModels, Coding, ManyModels, Matrix, Report, Work, command
from hf_infodist.cli.progress import live
from hf_infodist.cli.terminal import say
from hf_infodist.errors import UsageError
from hf_infodist.images.request import Sample


@command
def lineage(
    context: typer.Context,
    sample: Sample,
    coding: Coding,
    work: Work,
    report: Report,
    models: AnyModels = None,
    matrix: Matrix = None,
) -> None:
    """Tell which model was made from which.

    Each model has a parent or none, with the evidence and what its card declares. It is read from a matrix, or from
    all pairs of the models that are named; of these only what the store does not have is computed.

    Example: infodist lineage demo:cnn demo:vit random:demo:cnn -i digits
    """
    if (matrix is None) == (not models):
        raise UsageError(
            "lineage of what?",
            "the models are either those of a matrix or named, not both and not neither",
            "infodist lineage MODEL MODEL…, or infodist lineage --matrix matrix.json",
        )
    from hf_infodist.results.files import read_matrix

    known = read_matrix(matrix) if matrix else all_pairs(context, read_names(models or []), sample, coding, work)
    from hf_infodist.analysis.lineage import Lineage
    from hf_infodist.models.declared import read_declared

    found = Lineage.of(known, read_declared([model.id for model in known.models]))
    brief = "\n".join(f"{one.model}\t{one.parent or ''}" for one in found.descents)
    report.show(found, brief, "'infodist compare PARENT MODEL' tells more about one of them")


@command
def ensemble(
    context: typer.Context,
    models: ManyModels,
    sample: Sample,
    coding: Coding,
    work: Work,
    report: Report,
    pick: Annotated[int, typer.Option("--pick", help="Choose so many.")] = 2,
    within: Annotated[
        float, typer.Option("--within", min=0, max=1, help="Let a member be so much less accurate than the best.")
    ] = 0.02,
) -> None:
    """Choose the models that are best averaged.

    Of those that are accurate enough it takes the most different ones, and tells what averaging them gains. Accuracy
    and gain are measured if the images have labels. Only distances that the store does not have are computed.

    Example: infodist ensemble demo:cnn demo:vit random:demo:cnn -i digits
    """
    names = read_names(models)
    say(f"loading {len(names)} models and {sample.images}")
    from hf_infodist.analysis.ensemble import choose_ensemble

    with live(work.time_limit) as on_status:
        choice = choose_ensemble(
            names,
            pick,
            sample,
            within=within,
            **vars(coding),
            workers=work.workers,
            on_plan=ask_before(context, work),
            on_status=on_status,
            setup=set_up_worker,
        )
    next = f"'infodist compare {' '.join(choice.members[:2])}' tells how the first two differ"
    report.show(choice, "\n".join(choice.members), next)
