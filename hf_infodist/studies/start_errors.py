"""Whether paired errors of ``infodist transfer`` cover what they promise.

``infodist study start_errors --work FOLDER [--target NAME …] [--labels 200] [--samples 20] [--output FOLDER]``

The candidates of the study `transfer`, without those of the target's own data set, are ranked on disjoint samples of
the target: by all labels, and by the second half, as `Ranking` does. For every pair of candidates the difference of a
sample is held against the mean over all samples: the share within one and within two of its standard errors, which
should be 68 and 95 %; and the same with labels exchanged between the samples, so that no price depends on what was
learnt before it. For the best of each sample, how often the candidate that is best in the mean is said to be tied
with it, or is it.
"""

import itertools
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from hf_infodist.distances.transfer import rank_checkpoints
from hf_infodist.processes import one_thread
from hf_infodist.results.difference import Difference
from hf_infodist.studies.measures.coverage import coverage, exchanged
from hf_infodist.studies.networks.data import TASKS
from hf_infodist.studies.networks.starts import STEPS, Rivals, Starts, labelled
from hf_infodist.studies.report.options import Folder, Work, one_of, typed
from hf_infodist.studies.report.output import show, write
from hf_infodist.table import text_table

_EXCHANGES = 10  # whose coverage is averaged
Prices = NDArray[np.float64]  # [samples, candidates, labels]


def main(
    context: typer.Context,
    work: Work,
    targets: Annotated[list[str], one_of(TASKS, "--target", what="data sets to learn")] = ["fashion", "mnist"],
    labels: Annotated[int, typer.Option("--labels", help="of each sample")] = 200,
    samples: Annotated[int, typer.Option("--samples", help="disjoint ones of each target")] = 20,
    steps: Annotated[int, typer.Option("--steps", help="batches of 50 that each candidate is trained on")] = STEPS,
    output: Folder = None,
) -> None:
    """Rank the candidates on each sample that the folder does not have, and show how much the errors cover."""
    with one_thread("cpu"):
        prices = {name: _prices(Starts(work, steps).rivals(name), name, labels, samples, work) for name in targets}
    parts = {"all labels": 0, "second half": labels // 2}
    figures = {f"{name}, {part}": covered(one[:, :, i:]) for name, one in prices.items() for part, i in parts.items()}
    write("start_errors", typed(context), figures, output)
    header = (f"{samples} samples of {labels} labels", *next(iter(figures.values())))
    show(text_table(header, [(name, *(f"{value:.3g}" for value in one.values())) for name, one in figures.items()]))


def covered(prices: Prices) -> dict[str, float]:
    """Return how much of what is promised holds.

    Args:
        prices: Nats of each label, ``[samples, candidates, labels]``, two samples and candidates at least.
    """
    candidates = prices.shape[1]
    many = [coverage(_differences(exchanged(prices, seed))) for seed in range(_EXCHANGES)]
    found, totals = _differences(prices), prices.sum(2)
    truly = int(totals.mean(0).argmin())
    held = np.array([[_tied_or_best(one, i) for i in range(candidates)] for one in prices])  # [samples, candidates]
    return {
        "pairs": float(len(found)),
        **coverage(found),
        **{f"exchanged, {name}": float(np.mean([one[name] for one in many])) for name in list(many[0])[:2]},
        "best in the mean is tied or best": float(held[:, truly].mean()),
        "candidates tied or best": float(held.sum(1).mean()),
    }


def _differences(prices: Prices) -> list[list[Difference]]:
    """Return the differences of all pairs of candidates, ``[pairs][samples]``."""
    pairs = itertools.combinations(range(prices.shape[1]), 2)
    return [[Difference.of(one[a], one[b]) for one in prices] for a, b in pairs]


def _tied_or_best(prices: NDArray[np.float64], candidate: int) -> bool:
    """Whether a candidate costs no more than chance explains than the best of a sample, ``[candidates, labels]``."""
    return Difference.of(prices[candidate], prices[prices.sum(1).argmin()]).tied


def _prices(candidates: Rivals, name: str, labels: int, samples: int, work: Path) -> Prices:
    file = work / "samples" / f"{name}-{labels}.json"
    found: list[Any] = json.loads(file.read_text()) if file.exists() else []
    file.parent.mkdir(parents=True, exist_ok=True)
    for sample in range(len(found), samples):
        ranking = rank_checkpoints([model for _, model in candidates], labelled(name, labels, skip=sample * labels))
        prices = {one.id: one.image_nats.tolist() for one in ranking.candidates}
        found.append([prices[one.name] for one, _ in candidates])
        file.with_suffix(".part").write_text(json.dumps(found))
        file.with_suffix(".part").replace(file)
    return np.array(found[:samples])
