"""The command about which checkpoint to start from."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_infodist.cli.matrix import read_names, set_up_worker
from hf_infodist.cli.options import Coding, ManyModels, Report, Work, command
from hf_infodist.cli.progress import Progress
from hf_infodist.cli.terminal import check_file, check_folder, interactive, say, speaks
from hf_infodist.images.request import DEFAULT_K, Sample
from hf_infodist.results.eval_results import hub_dataset, write_eval_results

if TYPE_CHECKING:
    from hf_infodist.results.ranking import Ranking


@dataclass(frozen=True)
class More:
    """What is told and drawn beside a ranking."""

    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also tell what other measures say, such as kNN and LogME.")
    ] = False
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw learning curves there, as PNG and SVG.")] = None
    eval_results: Annotated[
        Path | None, typer.Option("--eval-results", help="Write a file there for each model, in the Hub's format.")
    ] = None

    def __post_init__(self) -> None:
        check_file(self.plot and self.plot.with_suffix(".png"))
        check_folder(self.eval_results)


@command
def transfer(
    models: ManyModels,
    sample: Sample,
    coding: Coding,
    work: Work,
    report: Report,
    more: More,
    label: Annotated[
        str | None, typer.Option("--label", help="Take the classes from this column of the dataset.")
    ] = None,
) -> None:
    """Rank checkpoints to start from, by what labels then cost.

    The labels of a dataset are learnt from each of them, image by image, and each label is priced before it is learnt
    from. Networks without a head will do. A model whose price is in the store already is not run again.

    Example: infodist transfer demo:cnn demo:vit -i digits -k 400
    """
    if more.eval_results:
        hub_dataset(sample.images)
    names = read_names(models)
    known = None if more.baselines else _known(names, sample, label, coding)
    found = known or _rank(names, sample, coding, work, label=label, baselines=more.baselines)
    if more.eval_results and speaks():
        say(f"wrote {', '.join(map(str, write_eval_results(found, more.eval_results)))}")
    if more.plot and speaks():
        from hf_infodist.results.pictures import save

        say(f"wrote {' and '.join(map(str, save(found.plot(), more.plot)))}")
    next = "" if more.plot else "'--plot curves.png' draws the learning curves"
    report.show(found, "\n".join(one.id for one in found.candidates), next)


def _known(names: list[str], sample: Sample, label: str | None, coding: Coding) -> "Ranking | None":
    """Find the ranking in the store, without opening a model or an image."""
    from hf_infodist.distances.answers import Question, find_answer
    from hf_infodist.protocol import LABEL_PROTOCOLS, resolve_protocol

    protocol = resolve_protocol(coding.protocol, sample.seed, coding.orders, LABEL_PROTOCOLS)
    answer = find_answer(Question(tuple(names), sample, protocol, "transfer", label))
    if answer is None:
        return None
    from hf_infodist.results.candidate import Candidate
    from hf_infodist.results.ranking import Ranking

    candidates = [Candidate(answer.models[i], code, 0.0) for (_, i), code in answer.codes.items()]
    return Ranking.of(candidates, answer.images, protocol, answer.labels, answer.classes, label)


def _rank(names: list[str], sample: Sample, coding: Coding, work: Work, **options: Any) -> "Ranking":
    say(f"loading {sample.images}")
    from hf_infodist.distances.transfer import rank_checkpoints

    total = coding.orders * len(names) * (sample.k or DEFAULT_K)
    with Progress(total, work.time_limit) as progress:
        return rank_checkpoints(
            names,
            sample,
            **options,
            **vars(coding),
            workers=work.workers,
            on_block=progress,
            on_model=lambda name: say(f"learning from {name}"),
            setup=set_up_worker,
            progress=interactive() and work.workers == 1,
        )
