"""The models of an atlas that are nearest to one, as HTML. Names may be a stranger's: all pass `safe`."""

import json
import math
import shlex
from collections.abc import Mapping
from typing import Any

from hf_infodist.analysis.neighbours import Neighbour, as_declared
from hf_infodist.models.declared import Declared
from hf_infodist.page.ranking import TIED, bar, farther, is_tied
from hf_infodist.page.views import copies, count, safe, table
from hf_infodist.results.atlas.entry import AtlasEntry
from hf_infodist.results.words import Unit, number, percent, to_bits


def placed(fields: dict[str, Any], atlas: str, entries: Mapping[str, AtlasEntry]) -> str:
    """Return the nearest as bars with what is known of them; a whisker is one standard error to either side.

    Args:
        fields: Of the schema ``infodist.nearest/1``.
        atlas: Its name.
        entries: What the atlas says of its models, by name.
    """
    model, images = fields["model"], fields["images"]
    near, k = [Neighbour(**one) for one in fields["neighbours"]], images["k"]
    end = max(one.nats + (one.stderr_nats or 0.0) for one in near) or 1.0  # nats
    rows = "".join(_row(model, one, end, k) for one in near)
    note = f"{k} images of {images['id']}, seed {images['seed']}, protocol {fields['protocol']['name']}; "
    note += f"± is one standard error over the images. {TIED if any(map(is_tied, near[1:])) else ''}"
    note += _declared(model, fields.get("declared"), [one.model for one in near])
    title = f"Nearest to {safe(model)} in {safe(atlas)}"
    facts = _facts([name for name in (model, *(one.model for one in near)) if name in entries], entries)
    return (
        f'<section class="answer" aria-label="{title}"><h2>{title}</h2><ol class="bars">{rows}</ol>'
        f'<p class="quiet">{safe(note)}</p>{facts}{_copies(model, atlas, len(near), fields)}</section>'
    )


def _declared(model: str, declared: dict[str, Any] | None, names: list[str]) -> str:
    return f" {as_declared(model, Declared(**declared), names)}." if declared else ""


def _row(model: str, near: Neighbour, end: float, k: int) -> str:
    given, back = (number(to_bits(nats) / k) for nats in (near.given_nats, near.back_nats))
    more = farther(near, k)
    aside = " ".join([*([f"({more})"] if more else []), *(["the same function"] if near.copy else [])])
    return (
        f'<li><span class="who">{safe(near.model)}</span>{bar(near.nats, near.stderr_nats or 0.0, end)}'
        f'<span class="amount">{"= " * is_tied(near)}{Unit.BITS.rate(near.nats, near.stderr_nats or math.nan, k)} '
        f'<span class="quiet">{aside}<br>it given {safe(model)}: {given}; '
        f"{safe(model)} given it: {back}</span></span></li>"
    )


def _facts(names: list[str], entries: Mapping[str, AtlasEntry]) -> str:
    """Return what the atlas says of models, the one asked about first."""
    columns = ("model", "architecture", "weights", "accuracy", "licence", "made from", "run on")
    rows = [_fact(entries[name]) for name in names]
    if not rows:
        return ""
    told = table("facts", columns, rows, ("architecture", "made from"))
    return f"<details><summary>What the atlas says of them: architecture, accuracy, licence</summary>{told}</details>"


def _fact(entry: AtlasEntry) -> tuple[str, ...]:
    base = ", ".join(entry.base_models)
    return (
        safe(entry.id),
        safe(entry.architecture),
        count(entry.parameters),
        "unknown" if entry.accuracy is None else percent(entry.accuracy),
        safe(entry.licence or "unknown"),
        safe(f"{base} ({entry.relation})" if base and entry.relation else base or "not said"),
        safe(entry.made),
    )


def _copies(model: str, atlas: str, n: int, fields: dict[str, Any]) -> str:
    call = f"nearest_in_atlas(open_atlas({atlas!r}), {model!r}, {n})"
    python = (
        "from hf_infodist.analysis.from_atlas import nearest_in_atlas\n"
        f"from hf_infodist.results.atlas.shipped import open_atlas\n\nprint({call})"
    )
    command = f"infodist nearest {shlex.quote(model)} --atlas {shlex.quote(atlas)} -n {n}"
    return copies({"command line": command, "Python": python, "JSON": json.dumps(fields)})
