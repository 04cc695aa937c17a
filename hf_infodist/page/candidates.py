"""What the labels of images cost, learnt from each of several models: as it is passed on, and as HTML."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_infodist.errors import UnfitError
from hf_infodist.page.events import Failed
from hf_infodist.page.ranking import bar, failures
from hf_infodist.page.starts import Start
from hf_infodist.page.views import copies, safe, table
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.candidate import Candidate
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.ranking import Ranking
from hf_infodist.results.records import ImagesRecord, ModelRecord
from hf_infodist.results.words import amount, number, to_bits

Fields = dict[str, Any]


def to_record(found: Ranking) -> Fields:
    """Return a ranking of one model as JSON types, label by label."""
    (one,) = found.candidates
    return {
        "model": vars(one.model),
        "code": one.code.to_dict(),
        "seconds": one.seconds,
        "images": vars(found.images),
        "protocol": found.protocol.to_dict(),
        "classes": list(found.classes),
        "counts": list(found.counts),
        "label": found.label,
    }


def to_ranking(records: Sequence[Fields]) -> Ranking:
    """Return the ranking of all models of which there are records.

    Raises:
        UnfitError: If they are not of the same images.
    """
    if any(one["images"] != records[0]["images"] for one in records):
        what, why = "the images have changed meanwhile", "models are ranked on the same ones"
        raise UnfitError(what, why, "ask again")
    candidates = [
        Candidate(ModelRecord(**one["model"]), Codelength.from_dict(one["code"]), one["seconds"]) for one in records
    ]
    first = records[0]
    images, protocol = ImagesRecord(**first["images"]), CodingProtocol.from_dict(first["protocol"])
    labels = np.repeat(np.arange(len(first["counts"])), first["counts"]).tolist()
    return Ranking.of(candidates, images, protocol, labels, first["classes"], first["label"])


def starts(found: Ranking | None, failed: Mapping[str, Failed], asked: Sequence[Start], left: int) -> str:
    """Return what to do and the models as bars, the best first; a whisker is one standard error to either side.

    Args:
        found: The models that are done, if any is.
        failed: Why others could not be used, by name.
        asked: All questions.
        left: How many are still to come.
    """
    more = f'<p class="quiet">{left} still to come.</p>' if left else ""
    title = f"Where to start from, for {safe(asked[0].images)}"
    shown = _found(found, failed, final=not left) if found else f'<ol class="bars">{failures(failed)}</ol>'
    copied = _copies(found, asked) if found and not left else ""
    return f'<section class="answer" aria-label="{title}"><h2>{title}</h2>{shown}{more}{copied}</section>'


def _found(found: Ranking, failed: Mapping[str, Failed], *, final: bool) -> str:
    fields = found.to_dict()
    models, k = fields["models"], found.images.k
    end = max(one["nats"] + (one["stderr_nats"] or 0.0) for one in models) or 1.0  # nats
    rows = "".join(_row(one, end, k) for one in models)
    seen = sum(count > 0 for count in found.counts)
    note = (
        f"{k} labels of {found.images.id}, {seen} of {len(found.classes)} classes, seed {found.images.seed}, protocol "
        f"{found.protocol.name}; ± is one standard error over the images. Without any image a label costs "
        f"{number(to_bits(found.frequency_nats) / k)} bits."
    )
    return (
        f'<p class="sentence">{"" if final else "So far: "}{safe(found.verdict)}</p>'
        f'<ol class="bars">{rows}{failures(failed)}</ol><p class="quiet">{safe(note)}</p>{_table(models, k)}'
    )


def _row(one: Fields, end: float, k: int) -> str:
    error = one["stderr_nats"] or 0.0
    if one["rank"] == 1:
        tag, behind = '<span class="tag">best</span>', ""
    else:
        tag = '<span class="tag tied">tied with the best</span>' if one["tied_with_best"] else ""
        more = amount(to_bits(one["behind_nats"]) / k, to_bits(one["behind_stderr_nats"] or 0.0) / k)
        behind = f' <span class="quiet">({more} more than the best)</span>'
    each = amount(to_bits(one["nats"]) / k, to_bits(error) / k)
    return (
        f'<li><span class="who">{safe(one["model"])} {tag}</span>{bar(one["nats"], error, end)}'
        f'<span class="amount">{each} bits per label{behind}</span></li>'
    )


def _table(models: Sequence[Fields], k: int) -> str:
    half = k - k // 2
    rows = [
        (
            safe(one["model"]),
            f"{100 * one['accuracy']:.1f}%",
            number(to_bits(one["log_loss"])),
            amount(to_bits(one["tail_nats"]) / half, to_bits(one["tail_stderr_nats"] or 0.0) / half),
            f"{one['seconds']:.1f}",
        )
        for one in models
    ]
    columns = ("model", "accuracy at the end", "log loss at the end, bits", "second half, bits per label", "seconds")
    note = f"At the end: on the last {max(1, k // 4)} labels, each predicted before it was learnt from."
    return table("models", columns, rows) + f'<p class="quiet">{note}</p>'


def _copies(found: Ranking, asked: Sequence[Start]) -> str:
    one, names = asked[0], [start.model for start in asked]
    options = f"--images {shlex.quote(one.images)} -k {one.k} --protocol {one.protocol}"
    options += (f" --seed {one.seed}" if one.seed else "") + (
        f" --label {shlex.quote(one.label)}" if one.label else ""
    )
    label = f", label={one.label!r}" if one.label else ""
    call = f"{names}, {one.images!r}, k={one.k}, protocol={one.protocol!r}, seed={one.seed}{label}"
    texts = {
        "command line": f"infodist transfer {shlex.join(names)} {options}",
        "Python": f"from hf_infodist import rank_checkpoints\n\nprint(rank_checkpoints({call}))",
        "JSON": json.dumps(found.to_dict()),
    }
    return copies(texts)
