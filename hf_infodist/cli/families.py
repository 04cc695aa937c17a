"""Commands that ask all pairs of several models who is kin of whom, and who goes well with whom."""

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
    reference: Annotated[
        list[str] | None, typer.Option("--reference", help="Hold the others against these, or a file of names, too.")
    ] = None,
) -> None:
    """Tell which models are copies or kin of which.

    Each pair of models of one architecture is held against the other pairs: kin are nearer than strangers. It takes
    several models of that architecture without common ancestors, among those that are named or of the reference, of
    whom nothing else is asked. What cards declare is shown beside. It is read from a matrix, or from all pairs of the
    models; of these only what the store does not have is computed.

    Example: infodist lineage models.txt -i digits
    """
    if (matrix is None) == (not models):
        raise UsageError(
            "lineage of what?",
            "the models are either those of a matrix or named, not both and not neither",
            "infodist lineage MODEL MODEL…, or infodist lineage --matrix matrix.json",
        )
    from hf_infodist.results.files import read_matrix

    others = read_names(reference) if reference else []
    names = list(dict.fromkeys([*read_names(models or []), *others])) if models else []
    known = read_matrix(matrix) if matrix else all_pairs(context, names, sample, coding, work)
    from hf_infodist.analysis.lineage import Lineage
    from hf_infodist.models.declared import read_declared
    from hf_infodist.models.families import read_families

    ids = [model.id for model in known.models]
    found = Lineage.of(known, read_declared(ids), families=read_families(ids), reference=others)
    brief = "\n".join(f"{one.model}\t{one.relation}\t{one.of or ''}" for one in found.descents)
    report.show(found, brief, "'infodist compare MODEL MODEL' tells more about a pair")


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
