"""Which checkpoint to start from: what scores say beforehand, against fine-tuning from each.

``infodist study transfer --work FOLDER [--target NAME …] [--labels N …] [--rate RATE …] [--output FOLDER]``

Targets are Fashion-MNIST, MNIST, scikit-learn's digits, and five questions about drawn shapes. Candidates are networks
of one small architecture: two of each of these data sets, without those of the target's own, and two random ones. All
weights of each are fine-tuned on 200 and on 1000 labels of the target, at each rate with each seed. The rate with the
least loss on 200 validation pictures counts; the truth is the loss and the accuracy on 500 others.

Scores of before read the same labels, and no others: ``infodist transfer``, the measures in use, and the number of
parameters, which is the same for all, so that it stands for a choice at random.
"""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hf_infodist.distances.transfer import rank_checkpoints
from hf_infodist.images.sample import Images
from hf_infodist.models.classifier import Classifier
from hf_infodist.processes import one_thread
from hf_infodist.studies.measures.selection import CRITERIA, SIGNS, judge, over_targets
from hf_infodist.studies.networks.data import TASKS
from hf_infodist.studies.networks.finetune import Run, best_rate, reached
from hf_infodist.studies.networks.pairs import default_data
from hf_infodist.studies.networks.starts import STEPS, Rivals, Starts, labelled, target
from hf_infodist.studies.report.options import Data, Folder, Seeds, Work, one_of, typed
from hf_infodist.studies.report.output import new_figure, save, show, write
from hf_infodist.table import text_table

_OURS = "ours, second half"
LABELS, RATES = (200, 1000), (1e-3, 2e-3, 5e-3)
logger = logging.getLogger(__name__)
Values = dict[str, dict[str, float]]  # by name of a score or criterion, then of a candidate


def main(
    context: typer.Context,
    work: Work,
    targets: Annotated[list[str], one_of(TASKS, "--target", what="data sets to learn")] = list(TASKS),
    labels: Annotated[list[int] | None, typer.Option("--labels", help="how many labels; 200 and 1000")] = None,
    rates: Annotated[list[float], typer.Option("--rate", help="peaks of the learning rate")] = list(RATES),
    seeds: Seeds = 2,
    steps: Annotated[int, typer.Option("--steps", help="batches of 50 that each candidate is trained on")] = STEPS,
    lites: Annotated[int, typer.Option("--lites", help="EfficientNet-Lites among the candidates, up to 3")] = 0,
    data: Data = default_data(),
    output: Folder = None,
) -> None:
    """Train and fine-tune what is missing, score what is missing, and show which score chooses best."""
    truth: dict[int, dict[str, Values]] = {}
    scored: dict[int, dict[str, Values]] = {}
    starts = Starts(work, steps, lites, data)
    with one_thread("cpu"):
        for count in labels or LABELS:
            truth[count], scored[count] = {}, {}
            for name in targets:
                candidates = starts.rivals(name)
                truth[count][name] = _truth(candidates, name, count, (rates, seeds), work)
                scored[count][name] = _scores(candidates, name, count, work)
                logger.info("%s with %d labels is done", name, count)
    figures = {count: _judged(truth[count], scored[count]) for count in truth}
    write("transfer", typed(context), {"judged": figures, "truth": truth, "scores": scored}, output)
    _draw(figures, output)
    show(*(_table(count, figures[count]["loss"]) for count in figures))


def _truth(candidates: Rivals, name: str, count: int, tried: tuple[Sequence[float], int], work: Path) -> Values:
    """Return what each candidate reaches, by candidate."""
    rates, seeds = tried
    values: Values = {}
    for one, model in candidates:
        network: Any = model.network.module
        runs = [
            [reached(Run(one, count, rate, seed), network, target(name), work) for seed in range(seeds)]
            for rate in rates
        ]
        values[one.name] = vars(best_rate(runs))
    return values


def _scores(candidates: Rivals, name: str, count: int, work: Path) -> Values:
    """Return every score, by score and candidate, larger is better; those that a folder has are read from there."""
    values: Values = {}
    for one, model in candidates:
        file = work / "scores" / name / f"{one.name}-{count}.json"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_suffix(".part").write_text(json.dumps(_score(model, labelled(name, count))))
            file.with_suffix(".part").replace(file)
        for score, value in json.loads(file.read_text()).items():
            values.setdefault(score, {})[one.name] = value
    return values


def _score(model: Classifier, images: Images) -> dict[str, float]:
    (candidate,) = rank_checkpoints([model], images, baselines=True).candidates
    found = {name: value for name, value in candidate.baselines.items() if value is not None}
    return {"ours, all labels": -candidate.nats, _OURS: -candidate.tail_nats, **found}


# Figures


def _judged(truth: dict[str, Values], scored: dict[str, Values]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return each criterion by truth and score: of each target, their mean, and how far `_OURS` is ahead."""
    signs: dict[str, Callable[[dict[str, float]], float]] = {
        "loss": lambda reached: -reached["loss"],
        "accuracy": lambda reached: reached["accuracy"],
    }
    judged: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, sign in signs.items():
        names = list(next(iter(scored.values())))
        rows = {score: np.array([_one(truth[t], scored[t][score], sign) for t in truth]) for score in names}
        judged[kind] = {
            score: {
                criterion: {"mean": over_targets(column), "targets": column, "behind ours": over_targets(behind)}
                for criterion, column, behind in zip(CRITERIA, row.T, ((rows[_OURS] - row) * SIGNS).T, strict=True)
            }
            for score, row in rows.items()
        }
    return judged


def _one(truth: Values, score: dict[str, float], sign: Callable[[dict[str, float]], float]) -> tuple[float, ...]:
    return judge(np.array([score[name] for name in truth]), np.array([sign(one) for one in truth.values()]))


def _table(count: int, judged: dict[str, dict[str, Any]]) -> str:
    rows = [(score, *(str(one[criterion]["mean"]) for criterion in CRITERIA)) for score, one in judged.items()]
    paired = [
        (score, *(str(one[criterion]["behind ours"]) for criterion in CRITERIA))
        for score, one in judged.items()
        if score != _OURS
    ]
    tables = ((f"loss after {count} labels", rows), (f"how far {_OURS!r} is ahead of", paired))
    return "\n\n".join(text_table((head, *CRITERIA), lines) for head, lines in tables)


def _draw(figures: dict[int, Any], output: Path | None) -> None:
    figure = new_figure(11, 2.6 * len(figures))
    for row, (count, kinds) in enumerate(figures.items()):
        for column, criterion in enumerate(CRITERIA):
            axes = figure.add_subplot(len(figures), len(CRITERIA), row * len(CRITERIA) + column + 1)
            for place, (score, one) in enumerate(reversed(kinds["loss"].items())):
                mean, colour = one[criterion]["mean"], "tab:red" if score.startswith("ours") else "tab:grey"
                axes.plot([mean.low, mean.high], [place, place], color=colour)
                axes.plot(mean.value, place, "o", color=colour)
            names = list(reversed(kinds["loss"])) if column == 0 else [""] * len(kinds["loss"])
            axes.set_yticks(range(len(names)), names)
            unit = ", nats" if criterion.startswith("regret") else ""
            axes.set_xlabel(f"{criterion}{unit}, {count} labels")
    save(figure, output, "transfer")
