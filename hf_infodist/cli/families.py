"""Commands that ask all pairs of several models who was made from whom, and who goes well with whom."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_infodist.cli.comparing import ask_before
from hf_infodist.cli.matrix import all_pairs, all_pairs_of_atlas, read_names, set_up_worker
from hf_infodist.cli.options import AnyModels, Atlas, Coding, Matrix, Report, Work, command
from hf_infodist.cli.progress import live
from hf_infodist.cli.terminal import say
from hf_infodist.errors import UsageError
from hf_infodist.images.request import Sample

if TYPE_CHECKING:
    from hf_infodist.models.classifier import Classifier
    from hf_infodist.models.declared import Declared


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
) -> None:
    """Tell which model was made from which.

    Each model has a parent or none, with the evidence and what its card declares. It is read from a matrix, or from
    all pairs of the models that are named or in an atlas; of these only what the store does not have is computed.

    Example: infodist lineage demo:cnn demo:vit random:demo:cnn -i digits
    """
    if (matrix is None) == (atlas is None and not models):
        raise UsageError(
            "lineage of what?",
            "the models are those of a matrix, of an atlas, or named",
            "infodist lineage MODEL MODEL…, infodist lineage --matrix matrix.json, or infodist lineage --atlas FOLDER",
        )
    names = read_names(models or [])
    if atlas:
        known = all_pairs_of_atlas(atlas, names, coding, work)
    else:
        from hf_infodist.results.files import read_matrix

        known = read_matrix(matrix) if matrix else all_pairs(context, names, sample, coding, work)
    from hf_infodist.analysis.lineage import Lineage

    found = Lineage.of(known, _declared(atlas, [model.id for model in known.models]))
    brief = "\n".join(f"{one.model}\t{one.parent or ''}" for one in found.descents)
    report.show(found, brief, "'infodist compare PARENT MODEL' tells more about one of them")


def _declared(atlas: str | None, names: list[str]) -> "dict[str, Declared]":
    """Return what cards declare, as the atlas has it, or as they say it now."""
    if atlas:
        from hf_infodist.analysis.from_atlas import declared_in
        from hf_infodist.results.atlas.shipped import open_atlas

        return declared_in(open_atlas(atlas))
    from hf_infodist.models.declared import read_declared

    return read_declared(names)


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
