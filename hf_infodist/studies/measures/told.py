"""What the figures of other studies say of every measure: of tasks, of architectures, of starts."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from hf_infodist.results.matrix import INFODIST
from hf_infodist.studies.measures.asked import GIVEN, Values
from hf_infodist.studies.measures.matrices import over_repeats
from hf_infodist.studies.measures.selection import judge, over_targets
from hf_infodist.studies.measures.statistics import Interval

Told = dict[str, dict[str, Interval]]  # by question, then by measure; those that do not apply are left out
_LABELS = "200"


def _read(folder: Path, study: str) -> Any:
    """Return the figures of a study; None where the folder has none."""
    file = folder / study / f"{study}.json"
    return json.loads(file.read_text()) if file.exists() else None


def _matrices(figures: Any) -> dict[str, Values]:
    """Return what a map of all pairs says, by measure, as distances ``[n, n]``."""
    nats = np.array(figures["matrix"]["nats"], dtype=float)
    others = {name: np.array(rows, dtype=float) for name, rows in figures["baselines"].items()}
    return {INFODIST: np.fmax(nats, nats.T), GIVEN: nats, **others}


def by_task(folder: Path) -> Told:
    """Return the share of triplets of ``zoo_map`` where the same task is nearer: its mean over repeats.

    Args:
        folder: Of the figures.
    """
    figures = _read(folder, "zoo_map")
    if not figures:
        return {}
    told = over_repeats([one["triplets"] for one in figures["repeats"]])
    return {"same task": told["same task"], "same task, other architecture": told["task before architecture"]}


def by_start(folder: Path) -> Told:
    """Return weighted tau between nearness to a network of a target and what fine-tuning on the target reaches.

    Distances are those of ``datasets_map``, mean over the networks of the target; losses those of ``transfer``, of the
    same starts. The mean over targets, with the interval of a bootstrap of these.
    """
    map_, transfer = _read(folder, "datasets_map"), _read(folder, "transfer")
    if not map_ or not transfer or _LABELS not in transfer["truth"]:
        return {}
    names, told = [model["id"] for model in map_["matrix"]["models"]], {}
    for measure, values in _matrices(map_).items():
        taus = [_tau(values, names, target, losses) for target, losses in transfer["truth"][_LABELS].items()]
        if np.isfinite(taus).all():
            told[measure] = over_targets(np.array(taus))
    return {"which start learns better": told}


def _tau(values: Values, names: list[str], target: str, reached: dict[str, dict[str, float]]) -> float:
    """Return the weighted tau of one target; NaN where the measure does not apply to a start."""
    starts = [name for name in reached if name in names]
    rows = [place for place, name in enumerate(names) if name.rpartition("-")[0] == target]
    scores = -values[np.ix_(rows, [names.index(name) for name in starts])].mean(0)
    losses = np.array([-reached[name]["loss"] for name in starts])
    return judge(scores, losses)[0] if np.isfinite(scores).all() else np.nan
