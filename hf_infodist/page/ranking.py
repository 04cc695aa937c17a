"""One model against many: who is nearest, as far as the answers have come."""

from collections.abc import Mapping, Sequence

import numpy as np

from hf_infodist.analysis.neighbours import Neighbours
from hf_infodist.page.events import Failed
from hf_infodist.page.matrices import known_groups
from hf_infodist.page.records import Record
from hf_infodist.page.request import Comparison
from hf_infodist.page.views import message, safe
from hf_infodist.results.codelength import to_bits


def ranking(model: str, records: Sequence[Record], failed: Mapping[str, Failed], left: int) -> str:
    """Return the models as bars, nearest first; a whisker is one standard error to either side.

    Args:
        model: Which one is compared.
        records: Its comparisons with the others.
        failed: Why others could not be compared, by name.
        left: How many are still to come.
    """
    groups = known_groups(records)
    matrix = groups[0].matrix if groups else None
    rows = ""
    if matrix:
        k, names = matrix.images.k, [record.id for record in matrix.models]
        larger = np.where(matrix.nats >= matrix.nats.T, matrix.stderr_nats, matrix.stderr_nats.T)
        errors = dict(zip(names, to_bits(larger[names.index(model)]) / k, strict=True))
        near = [(one.id, to_bits(one.distance) / k) for one in Neighbours.of(matrix, model).neighbours]
        end = max((bits + np.nan_to_num(errors[name]) for name, bits in near), default=0.0) or 1.0
        settings = groups[0].settings
        rows = "".join(_row(Comparison(model, name, *settings), bits, errors[name], end, k) for name, bits in near)
    rows += "".join(f'<li><span class="who">{safe(name)}</span>{message(why)}</li>' for name, why in failed.items())
    note = groups[0].measured_on if groups else ""
    more = f" {left} still to come." if left else ""
    return (
        f'<section class="answer" aria-label="Nearest to {safe(model)}"><h2>Nearest to {safe(model)}</h2>'
        f'<ol class="bars">{rows}</ol>'
        f'<p class="quiet">{safe(note)}; ± is one standard error over the images.{more}</p></section>'
    )


def _row(pair: Comparison, bits: float, error: float, end: float, k: int) -> str:
    known = np.isfinite(error)
    width, low, high = (100 * min(max(value / end, 0), 1) for value in (bits, bits - error, bits + error))
    whisker = f'<i class="whisker" style="left:{low:.1f}%;width:{high - low:.1f}%"></i>' if known else ""
    plus = f" ± {error:.3f}" if known else ""
    return (
        f'<li><a class="who" href="?{safe(pair.query)}">{safe(pair.b)}</a>'
        f'<span class="track" aria-hidden="true"><i class="bar" style="width:{width:.1f}%"></i>{whisker}</span>'
        f'<span class="amount">{bits:.3f}{plus} bits an image <span class="quiet">({bits * k:.1f} bits)</span></span>'
        "</li>"
    )
