"""A record as HTML. Whatever comes from outside passes `safe`."""

import html
import json
import math
import shlex
from collections.abc import Iterable
from typing import Any

from hf_infodist.page.events import Checked, Failed
from hf_infodist.page.matrices import Group
from hf_infodist.page.records import Difference, Opinion, Record
from hf_infodist.page.request import DATASETS, Comparison
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.records import ImagesRecord
from hf_infodist.results.ruler import Ruler
from hf_infodist.results.words import amount, number, percent, rounded, to_bits

_TEMPLATE = str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;"})


def safe(value: Any) -> str:
    """Return text that is text in HTML, and in the templates through which Gradio passes HTML."""
    return html.escape(str(value)).translate(_TEMPLATE)


def message(failed: Failed | None) -> str:
    """Return an error in place: what, why, what to do."""
    if failed is None:
        return ""
    return f'<p class="wrong"><strong>{safe(failed.what)}</strong><br>{safe(failed.why)}; {safe(failed.fix)}</p>'


def cost(checked: Checked) -> str:
    """Say what a comparison will cost."""
    a, b = (f"{count / 1e6:.3g} M" for count in checked.parameters)
    words = f"{a} and {b} weights · {checked.flops / 1e9:,.3g} GFLOP · about {duration(checked.seconds)}"
    if checked.fits:
        return f'<p class="cost">{words} on {safe(checked.device)}</p>'
    instead = f" What fits: {safe(checked.instead)}." if checked.instead else ""
    more = "That is more than a visitor's time; it would be stopped with a partial result."
    return f'<p class="cost wrong">{words} on {safe(checked.device)}. {more}{instead}</p>'


def result(record: Record) -> str:
    """Return the whole result."""
    fields = record.result
    per_image = to_bits(fields["distance"]["nats_per_image"])
    measured = Ruler.of(ImagesRecord(**fields["images"]), CodingProtocol.from_dict(fields["protocol"]))
    parts = (
        _headline(fields),
        f'<p class="sentence">{safe(record.sentence)}</p>',
        _ruler(measured, per_image),
        _directions(fields),
        _differences(record.differences, fields),
        _baselines(record.baselines),
        _copies(record),
    )
    return f'<section class="answer" aria-label="Result">{"".join(parts)}</section>'


def partial(points: Iterable[tuple[str, int, float]], comparison: Comparison, why: str) -> str:
    """Return what a run that was ended has found.

    Args:
        points: Direction, images priced and nats paid, of each direction that was begun.
        comparison: What was asked.
        why: Why it ended.
    """
    names = {"a_given_b": (comparison.a, comparison.b), "b_given_a": (comparison.b, comparison.a)}
    rows = "".join(
        f"<tr><th scope=row>{safe(names[way][0])} given {safe(names[way][1])}</th>"
        f"<td>{images} of {comparison.k}</td><td>{nats:.1f}</td><td>{to_bits(nats):.1f}</td></tr>"
        for way, images, nats in points
    )
    columns = ("direction", "images priced", "nats so far", "bits so far")
    head = f"<tr>{''.join(f'<th scope=col>{column}</th>' for column in columns)}</tr>"
    table = f'<div class="wide"><table>{head}{rows}</table></div>' if rows else ""
    again = "Compare again to go on from where it stood."
    return (
        '<section class="answer partial" aria-label="Partial result">'
        f'<p class="wrong"><strong>Partial result</strong>: {safe(why)}. '
        f"The distance is at least what has been paid so far. {again}</p>{table}</section>"
    )


def stored(found: Group, pair: Comparison) -> str:
    """Return what the store says of a pair, where no page has been made of it yet."""
    i, j = found.models.index(pair.a), found.models.index(pair.b)
    bits = to_bits(found.matrix.nats)
    rows = "".join(
        f"<li>{safe(found.models[t])} given {safe(found.models[s])}: {bits[t, s]:.1f} bits</li>"
        for t, s in ((i, j), (j, i))
    )
    more = "Compare to see the rest." if pair.images in DATASETS else ""
    return (
        f'<section class="answer" aria-label="Stored result"><p><span class="big">'
        f"{max(bits[i, j], bits[j, i]):.1f} bits</span> from the store: {safe(found.title)}.</p>"
        f"<ul>{rows}</ul><p>{more}</p></section>"
    )


def pairs(title: str, rows: Iterable[tuple[Comparison, float]]) -> str:
    """Return the pairs of a matrix as links, for those who cannot click into a picture."""
    items = "".join(
        f'<li><a href="?{safe(pair.query)}">{safe(pair.a)} and {safe(pair.b)}</a>: {bits:.3g} bits per image</li>'
        for pair, bits in rows
    )
    return f"<details><summary>The same as a list: {safe(title)}</summary><ul>{items}</ul></details>" if items else ""


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _headline(fields: dict[str, Any]) -> str:
    d = fields["distance"]
    bits, error = d["bits"], to_bits(d["stderr_nats"] or math.nan)
    k = fields["images"]["k"]
    each, plus_minus = rounded(bits / k, error / k)
    return (
        f'<p class="number"><span class="big">{each} bits per image</span> {plus_minus and f"± {plus_minus}"}</p>'
        f'<p class="quiet">{amount(bits, error)} bits over {k} images of {safe(fields["images"]["id"])}, '
        f"protocol {safe(fields['protocol']['name'])}; ± is one standard error over the images</p>"
    )


def _ruler(measured: Ruler, bits: float) -> str:
    marks = "".join(
        f'<span class="mark row{i % 2}" style="left:{100 * measured.position(anchor.bits_per_image):.1f}%">'
        f"<span>{safe(anchor.relation)}<br>{anchor.bits_per_image:.2f}</span></span>"
        for i, anchor in enumerate(measured.anchors)
    )
    here = f'<span class="here" style="left:{100 * measured.position(bits):.1f}%"></span>'
    note = "" if measured.same_settings else " Other images, numbers of images and protocols give other figures."
    label = f"{number(bits)} bits per image, on a scale of measured pairs"
    return (
        f'<figure class="ruler"><div class="scale" role="img" aria-label="{label}">{marks}{here}</div><figcaption>'
        f"bits per image; anchors measured on {safe(measured.measured_on)}.{note}</figcaption></figure>"
    )


def _directions(fields: dict[str, Any]) -> str:
    a, b = safe(fields["model_a"]["id"]), safe(fields["model_b"]["id"])
    directions = [(f"{a} given {b}", fields["a_given_b"]), (f"{b} given {a}", fields["b_given_a"])]
    larger = max(way["nats"] for _, way in directions)
    rows = "".join(_direction(name, way, way["nats"] == larger) for name, way in directions)
    columns = ("bits per image", "±", "bits in all", "last images, bits each", "untaught, bits", "of scratch, %")
    head = "".join(f"<th scope=col>{column}</th>" for column in columns)
    return f'<div class="wide"><table><tr><th scope=col>direction</th>{head}</tr>{rows}</table></div>'


def _direction(name: str, way: dict[str, Any], larger: bool) -> str:
    mark = ' <span class="tag">the distance</span>' if larger else ""
    error = to_bits(way["stderr_nats"] or math.nan) * way["nats_per_image"] / way["nats"] if way["nats"] else math.nan
    cells = (
        *rounded(to_bits(way["nats_per_image"]), error),
        number(to_bits(way["nats"])),
        number(to_bits(way["final_nats_per_image"])),
        number(to_bits(way["static_nats"])),
        "n/a" if way["normalised"] is None else percent(way["normalised"]).removesuffix("%"),
    )
    return f"<tr><th scope=row>{name}{mark}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _baselines(rows: list[dict[str, Any]]) -> str:
    body = "".join(
        f"<tr><th scope=row>{safe(row['name'])}</th><td>{safe(row['space'])}</td>"
        f"<td>{'n/a' if row['value'] is None else format(row['value'], '.4g')}</td>"
        f"<td>{'↑' if row['larger_is_more_similar'] else '↓'}</td>"
        f"<td class=left>{safe(row['reason'] or row['meaning'])}</td></tr>"
        for row in rows
    )
    head = "".join(f"<th scope=col>{c}</th>" for c in ("measure", "of", "value", ""))
    note = "↑ larger is more similar, 1 is the same; ↓ smaller is more similar, 0 is the same"
    table = f'<div class="wide"><table><tr>{head}<th scope=col class=left>meaning</th></tr>{body}</table></div>'
    return f'<details><summary>What other measures say</summary>{table}<p class="quiet">{note}</p></details>'


def _differences(found: tuple[Difference, ...], fields: dict[str, Any]) -> str:
    a, b = fields["model_a"]["id"], fields["model_b"]["id"]
    cards = "".join(
        f'<li><img src="{safe(d.picture)}" alt="image {d.position} of the sample" loading="lazy">'
        f"{_opinion('A', a, d.a)}{_opinion('B', b, d.b)}</li>"
        for d in found
    )
    return f'<h3>Images on which they differ most</h3><ul class="pictures">{cards}</ul>'


def _opinion(letter: str, name: str, opinion: Opinion) -> str:
    said = ", ".join(
        f"{safe(label)} {p:.0%}" for label, p in zip(opinion.labels, opinion.probabilities, strict=True) if p >= 0.005
    )
    return f'<p title="{safe(name)}"><b>{letter}</b> {said}</p>'


def _copies(record: Record) -> str:
    c = record.comparison
    seed = f" --seed {c.seed}" if c.seed else ""
    words = f"{shlex.quote(c.a)} {shlex.quote(c.b)} --images {c.images} -k {c.k} --protocol {c.protocol}{seed}"
    call = f"{c.a!r}, {c.b!r}, {c.images!r}, k={c.k}, protocol={c.protocol!r}, seed={c.seed}"
    texts = {
        "command line": f"infodist compare {words}",
        "Python": f"from hf_infodist import information_distance\n\nprint(information_distance({call}))",
        "JSON": json.dumps(record.result),
        "link": f"?{c.query}",
    }
    buttons = "".join(
        f'<button type="button" class="copy" data-kind="{kind}" data-text="{safe(text)}">{kind}</button>'
        for kind, text in texts.items()
    )
    return f'<p class="copies"><span>Copy as</span> {buttons}<span class="copied" role="status"></span></p>'
