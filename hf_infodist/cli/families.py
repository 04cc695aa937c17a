"""Commands that ask all pairs of several models who is kin of whom, and who goes well with whom."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_infodist.cli.comparing import ask_before
from hf_infodist.cli.matrix import all_pairs, read_names, set_up_worker
from hf_infodist.cli.options import AnyModels, Atlas, Coding, Matrix, Report, Work, command
from hf_infodist.cli.progress import live
from hf_infodist.cli.terminal import say
from hf_infodist.errors import UsageError
from hf_infodist.images.request import Sample

if TYPE_CHECKING:
    from hf_infodist.analysis.lineage import Lineage
    from hf_infodist.models.classifier import Classifier


@command
def lineage(
    context: typer.Context,
    sample: Sample,
    coding: Coding,
    work: Work,
    report: Report,
    models: AnyModels = None,
    matrix: Matrix = None,
    atlas: Atlas = None,
    reference: Annotated[
        list[str] | None, typer.Option("--reference", help="Hold the others against these, or a file of names, too.")
    ] = None,
) -> None:
    """Tell which models are copies or kin of which.

    Each pair of models of one architecture is held against the other pairs: kin are nearer than strangers. It takes
    several models of that architecture without common ancestors, among those that are named or of the reference, of
    whom nothing else is asked. Classes that share no name with those of others are matched with them first, by what is
    said of the images. What cards declare is shown beside. It is read from a matrix, which is taken as it is, or from
    all pairs of the models; of these only what the store does not have is computed. With an atlas, models that are
    named are held against its models of the same architecture, and of those that it does not have only they are run.

    Example: infodist lineage models.txt -i digits
    """
    if (matrix is None) == (atlas is None and not models):
        raise UsageError(
            "lineage of what?",
            "the models are those of a matrix, of an atlas, or named",
            "infodist lineage MODEL MODEL…, infodist lineage --matrix matrix.json, or infodist lineage --atlas FOLDER",
        )
    others = read_names(reference) if reference else []
    names = read_names(models or [])
    if atlas:
        found = _lineage_in_atlas(atlas, names, others, sample, coding, work)
    else:
        from hf_infodist.results.files import read_matrix

        everybody = list(dict.fromkeys([*names, *others]))
        if matrix:
            known = read_matrix(matrix)
        else:
            known = all_pairs(context, everybody, sample, coding, work, match_classes=True)
        from hf_infodist.analysis.lineage import Lineage
        from hf_infodist.models.declared import read_declared
        from hf_infodist.models.families import read_families

        ids = [model.id for model in known.models]
        found = Lineage.of(known, read_declared(ids), families=read_families(ids), reference=others)
    brief = "\n".join(f"{one.model}\t{one.relation}\t{one.of or ''}" for one in found.descents)
    report.show(found, brief, "'infodist compare MODEL MODEL' tells more about a pair")


def _lineage_in_atlas(
    atlas: str, names: list[str], others: list[str], sample: Sample, coding: Coding, work: Work
) -> "Lineage":
    """Hold models against those of an atlas."""
    from hf_infodist.results.atlas.shipped import open_atlas

    there = open_atlas(atlas)
    say(f"holding {len(names) or len(there.files)} models against those of {atlas}, {there.head.images}")
    from hf_infodist.analysis.kin_in_atlas import lineage_in_atlas

    with live(work.time_limit) as on_status:
        return lineage_in_atlas(
            there,
            names,
            coding.resolve(there.head.images.seed),
            reference=others,
            images=None if sample == Sample() else sample,
            workers=work.workers,
            on_status=on_status,
            setup=set_up_worker,
        )


@command
def ensemble(
    context: typer.Context,
    sample: Sample,
    coding: Coding,
    work: Work,
    report: Report,
    models: AnyModels = None,
    atlas: Atlas = None,
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
    names = read_names(models or [])
    if not names and atlas is None:
        what, why = "an ensemble of what?", "the models are named, or those of an atlas"
        raise UsageError(what, why, "infodist ensemble MODEL MODEL…, or infodist ensemble --atlas FOLDER")
    asked, images, options = _asked(atlas, names, sample, coding)
    from hf_infodist.analysis.ensemble import choose_ensemble

    with live(work.time_limit) as on_status:
        choice = choose_ensemble(
            asked,
            pick,
            images,
            within=within,
            **options,
            workers=work.workers,
            on_plan=ask_before(context, work),
            on_status=on_status,
            setup=set_up_worker,
        )
    next = f"'infodist compare {' '.join(choice.members[:2])}' tells how the first two differ"
    report.show(choice, "\n".join(choice.members), next)


def _asked(
    atlas: str | None, names: list[str], sample: Sample, coding: Coding
) -> "tuple[Sequence[str | Classifier], Any, dict[str, Any]]":
    """Return models, images and how they are coded: as they are named, or as an atlas has them."""
    if atlas is None:
        say(f"loading {len(names)} models and {sample.images}")
        return names, sample, vars(coding)
    from hf_infodist.results.atlas.shipped import open_atlas

    there = open_atlas(atlas)
    say(f"asking {atlas}, {there.head.images}")
    from hf_infodist.analysis.from_atlas import images_of, members_of, protocol_of

    protocol = protocol_of(there, coding.resolve(there.head.images.seed))
    return members_of(there, names), images_of(there), {"protocol": protocol}
