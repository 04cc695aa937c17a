"""One model against many: who is nearest, as far as the answers have come."""

import math
from collections.abc import Mapping, Sequence

from hf_infodist.analysis.neighbours import Neighbour, Neighbours
from hf_infodist.page.events import Failed
from hf_infodist.page.matrices import known_groups
from hf_infodist.page.records import Record
from hf_infodist.page.request import Comparison
from hf_infodist.page.views import message, safe
from hf_infodist.results.words import Unit, amount, number, to_bits

TIED = "= is tied with the nearest: paired image by image, the difference may be chance."


def ranking(model: str, records: Sequence[Record], failed: Mapping[str, Failed], left: int) -> str:
    """Return the models as bars, nearest first; a whisker is one standard error to either side.

    Args:
        model: Which one is compared.
        records: Its comparisons with the others.
        failed: Why others could not be compared, by name.
        left: How many are still to come.
    """
    groups = known_groups(records)
    rows, tied = "", False
    if groups:
        settings, k = groups[0].settings, groups[0].matrix.images.k
        near = Neighbours.of(groups[0].matrix, model).neighbours
        end = max(one.nats + (one.stderr_nats or 0.0) for one in near) or 1.0  # nats
        rows = "".join(_row(Comparison(model, one.model, *settings), one, end, k) for one in near)
        tied = any(map(is_tied, near[1:]))
    rows += failures(failed)
    note = groups[0].measured_on if groups else ""
    more = f"{TIED} " if tied else ""
    more += f"{left} still to come." if left else ""
    return (
        f'<section class="answer" aria-label="Nearest to {safe(model)}"><h2>Nearest to {safe(model)}</h2>'
        f'<ol class="bars">{rows}</ol>'
        f'<p class="quiet">{safe(note)}; ± is one standard error over the images. {more}</p></section>'
    )


def _row(pair: Comparison, near: Neighbour, end: float, k: int) -> str:
    total = f"{number(to_bits(near.nats))} bits"
    return (
        f'<li><a class="who" href="?{safe(pair.query)}">{safe(pair.b)}</a>'
        f"{bar(near.nats, near.stderr_nats or 0.0, end)}"
        f'<span class="amount">{"= " * is_tied(near)}{Unit.BITS.rate(near.nats, near.stderr_nats or math.nan, k)} '
        f'<span class="quiet">({"; ".join(filter(None, (total, farther(near))))})</span></span></li>'
    )


def is_tied(near: Neighbour) -> bool:
    """Tell whether a model other than the nearest may be as near as it is."""
    return bool(near.tied_with_nearest and near.farther_stderr_nats)


def farther(near: Neighbour, k: int = 0) -> str:
    """Say how much farther a model is than the nearest, in bits; per image of ``k``, if it is given."""
    if near.farther_nats is None or not near.farther_stderr_nats:
        return ""
    nats, error = (to_bits(value) / (k or 1) for value in (near.farther_nats, near.farther_stderr_nats))
    return f"{amount(nats, error)} farther than the nearest"


def failures(failed: Mapping[str, Failed]) -> str:
    """Return a row for each model that has failed, by name."""
    return "".join(f'<li><span class="who">{safe(name)}</span>{message(why)}</li>' for name, why in failed.items())


def bar(nats: float, error: float, end: float) -> str:
    """Return a bar with a whisker.

    Args:
        nats: Its length.
        error: Length of the whisker to either side; none if 0.
        end: Length of the longest one with its whisker.
    """
    width, low, high = (100 * min(max(edge / end, 0), 1) for edge in (nats, nats - error, nats + error))
    whisker = f'<i class="whisker" style="left:{low:.1f}%;width:{high - low:.1f}%"></i>' if error else ""
    return f'<span class="track" aria-hidden="true"><i class="bar" style="width:{width:.1f}%"></i>{whisker}</span>'
