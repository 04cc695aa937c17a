"""What checkpoints save on the labels of a dataset of the Hub, in the files that its models keep for evaluations.

The format is that of ``.eval_results/*.yaml`` in a model's repository: https://huggingface.co/docs/hub/eval-results.
"""

import itertools
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hf_infodist.environment import installed
from hf_infodist.errors import UsageError
from hf_infodist.hub import plain_name
from hf_infodist.results.words import amount

if TYPE_CHECKING:
    from hf_infodist.results.ranking import Candidate, Ranking

TASK = "nats_saved_per_label"
"""What the ``eval.yaml`` of a dataset has to call this task, for the Hub to list its results."""

_DATASET = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(@.+)?")


def hub_dataset(images: Any) -> str:
    """Return the id of a dataset of the Hub, ``org/name``, without its revision.

    Raises:
        UsageError: If images are from elsewhere.
    """
    name = plain_name(str(images))
    named = _DATASET.fullmatch(name)
    if named is None or os.path.exists(name):
        what, why = f"{name:.80} is no dataset of the Hub", "its evaluation results name a dataset by its id, org/name"
        raise UsageError(what, why, "give a dataset by --images org/name, or leave out --eval-results")
    return named[1]


def entry(ranking: "Ranking", candidate: "Candidate") -> dict[str, Any]:
    """Return the evaluation result of one model: nats saved per label, of which more are better.

    Args:
        ranking: Of labels of a dataset of the Hub.
        candidate: The model.

    Raises:
        UsageError: If images are from elsewhere.
    """
    dataset = {"id": hub_dataset(ranking.images.id), "task_id": TASK, "revision": ranking.images.revision}
    return {
        "dataset": {name: value for name, value in dataset.items() if value is not None},
        "value": round(ranking.saved_nats(candidate) / ranking.images.k, 6),
        "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "notes": _notes(ranking, candidate),
    }


def write_eval_results(ranking: "Ranking", folder: Path) -> Sequence[Path]:
    """Write a file for each model of a ranking, best first, named after the model; return the files.

    Raises:
        UsageError: If images are from elsewhere than the Hub.
    """
    texts = {}
    for one in ranking.candidates:
        name = re.sub(r"[/\\:]+", "--", one.id).strip("-")
        endings = itertools.chain([""], (f"-{i}" for i in itertools.count(2)))
        file = next(file for end in endings if (file := folder / f"{name}{end}.yaml") not in texts)
        texts[file] = yaml.safe_dump([entry(ranking, one)], sort_keys=False, allow_unicode=True)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    return list(texts)


def _notes(ranking: "Ranking", one: "Candidate") -> str:
    """Return what the number needs to be measured again."""
    images, k = ranking.images, ranking.images.k
    where = {"config": images.config, "split": images.split, "label": ranking.label, "seed": images.seed}
    drawn = ", ".join(f"{name} {value}" for name, value in where.items() if value is not None)
    return (
        f"nats saved per label, larger is better: class frequencies cost {ranking.frequency_nats / k:.4g}, and a "
        f"learner that starts from the model {amount(one.nats / k, one.code.stderr_nats / k)}. {k} labels, {drawn}; "
        f"protocol {ranking.protocol.name}; model at {one.model.revision or 'no known commit'}; "
        f"hf-infodist {installed('hf-infodist')}"
    )
