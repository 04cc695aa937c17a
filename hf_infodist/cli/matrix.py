"""The command about all pairs of many models."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_infodist.cli.comparing import ask_before
from hf_infodist.cli.options import AnyModels, Atlas, Coding, Report, Work, command
from hf_infodist.cli.progress import live
from hf_infodist.cli.terminal import log_to_standard_error, say
from hf_infodist.environment import keep_freed_memory, set_environment
from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.images.request import Sample

if TYPE_CHECKING:
    from hf_infodist.results.matrix import PairwiseMatrix

_LISTS = (".txt", ".list", ".lst", ".names", ".csv", ".tsv")  # endings of files of names
_INFODIST = "infodist"


@dataclass(frozen=True)
class Schedule:
    """Which share of a matrix is computed, and where."""

    shard: Annotated[str, typer.Option("--shard", help="Do only the i-th of n shares of the work, as i/n.")] = "1/1"
    engine: Annotated[str, typer.Option("--engine", help="Let this do the work: local or ray.")] = "local"
    address: Annotated[str | None, typer.Option("--address", help="Use the cluster of Ray at this address.")] = None


@command
def matrix(
    context: typer.Context,
    sample: Sample,
    coding: Coding,
    work: Work,
    schedule: Schedule,
    report: Report,
    models: AnyModels = None,
    atlas: Atlas = None,
    measure: Annotated[
        str, typer.Option("--measure", help="Measure this: infodist, or a baseline such as 'linear CKA'.")
    ] = _INFODIST,
) -> None:
    """Compare all pairs of several models.

    The models are named, or those of an atlas. Each is run once, and only what the store does not have is computed.
    The same command on several machines with one INFODIST_HOME divides the work. Cut off, it goes on when it is typed
    again. A pair that fails is shown with its error, the rest goes on, and the exit code is 4.

    Example: infodist matrix demo:cnn demo:vit random:demo:cnn -i digits
    """
    options: Any = vars(schedule) | {"shard": _read_shard(schedule.shard), "measure": measure}
    if atlas is None and not models:
        what, why = "a matrix of what?", "the models are named, or those of an atlas"
        raise UsageError(what, why, "infodist matrix MODEL MODEL…, or infodist matrix --atlas FOLDER")
    if atlas is None:
        result = all_pairs(context, read_names(models or []), sample, coding, work, **options)
    else:
        result = all_pairs_of_atlas(atlas, read_names(models or []), coding, work, **options)
    scale = result.images.k if result.protocol else 1
    rows = [[report.number(nats, scale) if result.protocol else f"{nats:.6g}" for nats in row] for row in result.nats]
    file = report.output or "matrix.json"
    keep = "" if report.output else f"'-o {file}' keeps it; then "
    next = f"{keep}'infodist map {file} --into pictures' draws it, 'infodist lineage --matrix {file}' tells kin"
    report.show(result, "\n".join(map("\t".join, rows)), next)
    if result.errors:
        raise typer.Exit(UnfitError.exit_code)


def all_pairs(
    context: typer.Context, names: list[str], sample: Sample, coding: Coding, work: Work, **options: Any
) -> "PairwiseMatrix":
    """Compare all pairs of models, or find the answer in the store.

    Args:
        context: Of the command.
        names: Of the models.
        sample: The images.
        coding: How students are trained and priced.
        work: Who works on it.
        **options: More of what `pairwise_distances` takes.
    """
    from hf_infodist.distances.answers import Question, find_answer

    kind = "lineage" if options.get("match_classes") else "matrix"
    question = Question(tuple(names), sample, coding.resolve(sample.seed), kind)
    if options.get("measure", _INFODIST) == _INFODIST and (answer := find_answer(question)):
        from hf_infodist.results.files import of_codes

        return of_codes(answer.models, answer.codes, answer.images, question.protocol, answer.twins, answer.matched)
    say(f"loading {len(names)} models and {sample.images}")
    from hf_infodist.distances.pairwise import pairwise_distances

    with live(work.time_limit) as on_status:
        return pairwise_distances(
            names,
            sample,
            **vars(coding),
            **options,
            workers=work.workers,
            on_plan=ask_before(context, work),
            on_status=on_status,
            setup=set_up_worker,
        )


def all_pairs_of_atlas(atlas: str, names: list[str], coding: Coding, work: Work, **options: Any) -> "PairwiseMatrix":
    """Compare all pairs of models of an atlas.

    Args:
        atlas: As the user types it.
        names: Of its models; all of them if there is none.
        coding: How students are priced.
        work: Who works on it.
        **options: More of what `pairwise_distances` takes.
    """
    from hf_infodist.results.atlas.shipped import open_atlas

    there = open_atlas(atlas)
    say(f"comparing {len(names) or len(there.files)} models of {atlas}, {there.head.images}")
    from hf_infodist.analysis.from_atlas import atlas_distances

    protocol = coding.resolve(there.head.images.seed)
    with live(work.time_limit) as on_status:
        return atlas_distances(
            there, names, protocol, **options, workers=work.workers, on_status=on_status, setup=set_up_worker
        )


def set_up_worker() -> None:
    """Prepare a process that another one has started."""
    set_environment()
    keep_freed_memory()
    log_to_standard_error()


def read_names(words: list[str]) -> list[str]:
    """Return names of models; a single word may be a file with one on each line, and what follows ``#`` a remark.

    Raises:
        NotFoundError: If the word is the name of a file of names that is not there.
        UnfitError: If it is no file of text.
    """
    if len(words) != 1 or os.path.isdir(words[0]):
        return words
    file = Path(words[0]).expanduser()
    if not os.path.isfile(file):
        if file.suffix.lower() in _LISTS:
            fix = "check the path, or give the names themselves"
            raise NotFoundError(f"there is no file {words[0]}", "names of models were to be read from it", fix)
        return words
    content = file.read_bytes()
    coding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        lines = content.decode(coding).splitlines()
    except UnicodeError as error:
        what, why = f"{words[0]} is no list of names", f"it is no text of {coding}: {error.reason}"  # type: ignore[attr-defined]
        raise UnfitError(what, why, "give a file of text with a name on each line") from error
    names = [re.split(r"(?:^|\s)#", line)[0].strip() for line in lines]
    return [name for name in names if name]


def _read_shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise UsageError(
            f"{text!r} is no shard", "a shard is i/n: the i-th of n shares", "use --shard 1/2, for example"
        )
    return int(number), int(count)
