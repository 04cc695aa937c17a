"""A record as HTML. Whatever comes from outside passes `safe`."""

import html
import json
import math
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from hf_infodist.page.events import Checked, Failed
from hf_infodist.page.records import Difference, Opinion, Record
from hf_infodist.page.request import Comparison
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
    a, b = map(count, checked.parameters)
    words = f"{a} and {b} weights · {checked.flops / 1e9:,.3g} GFLOP · about {duration(checked.seconds)}"
    if checked.fits:
        return f'<p class="cost">{words} on {safe(checked.device)}</p>'
    instead = f" What fits: {safe(checked.instead)}." if checked.instead else ""
    more = "That is more than a visitor's time; it would be stopped with a partial result."
    return f'<p class="cost wrong">{words} on {safe(checked.device)}. {more}{instead}</p>'


def result(record: Record, *, brief: bool = False) -> str:
    """Return the whole result.

    Args:
        record: What is known.
        brief: Whether to show one sentence and one picture, and to leave the rest to those who ask for it.
    """
    fields = record.result
    per_image = to_bits(fields["distance"]["nats_per_image"])
    measured = Ruler.of(ImagesRecord(**fields["images"]), CodingProtocol.from_dict(fields["protocol"]))
    headline, sentence = _headline(fields), f'<p class="sentence">{safe(record.sentence)}</p>'
    rest = _directions(fields) + _differences(record.differences, fields) + _baselines(record.baselines)
    rest += _copies(record) + _origin(record)
    if brief:
        more = f"<details><summary>All figures of this answer</summary>{headline}{rest}</details>"
        content = f'<p class="quiet">For example:</p>{sentence}{_saved(fields)}{more}'
    else:
        content = headline + sentence + _ruler(measured, per_image) + rest
    return f'<section class="answer" aria-label="Result">{content}</section>'


def same(name: str) -> str:
    """Return the answer about a model and itself."""
    return (
        '<section class="answer" aria-label="Result"><p class="number"><span class="big">0 bits</span></p>'
        f'<p class="sentence">{safe(name)} and {safe(name)} are the same weights: who has the one has the other, '
        "on all images.</p></section>"
    )


def partial(points: Iterable[tuple[str, int, float]], comparison: Comparison, why: str) -> str:
    """Return what a run that was ended has found.

    Args:
        points: Direction, images priced and nats paid, of each direction that was begun.
        comparison: What was asked.
        why: Why it ended.
    """
    names = {"a_given_b": (comparison.a, comparison.b), "b_given_a": (comparison.b, comparison.a)}
    rows = [
        (
            f"{safe(names[way][0])} given {safe(names[way][1])}",
            *(f"{images} of {comparison.k}", number(to_bits(nats))),
        )
        for way, images, nats in points
    ]
    columns = ("direction", "images priced", "bits so far")
    shown = table("what has been paid so far", columns, rows) if rows else ""
    again = "Compare again to go on from where it stood."
    return (
        '<section class="answer partial" aria-label="Partial result">'
        f'<p class="wrong"><strong>Partial result</strong>: {safe(why)}. '
        f"The distance is at least what has been paid so far. {again}</p>{shown}</section>"
    )


def pairs(title: str, rows: Iterable[tuple[Comparison, float]]) -> str:
    """Return the pairs of a matrix as links, for those who cannot click into a picture."""
    items = "".join(
        f'<li><a href="?{safe(pair.query)}">{safe(pair.a)} and {safe(pair.b)}</a>: {bits:.3g} bits per image</li>'
        for pair, bits in rows
    )
    return f"<details><summary>The same as a list: {safe(title)}</summary><ul>{items}</ul></details>" if items else ""


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[str] = ()) -> str:
    """Return a table whose rows become blocks on a narrow page.

    Args:
        caption: What it shows.
        columns: Their titles; the first is that of the titles of rows.
        rows: HTML, one cell a column.
        words: Titles of columns that hold sentences.
    """
    left = {column: ' class="left"' if column in words else "" for column in columns}
    head = "".join(f'<th role="columnheader" scope="col"{left[column]}>{column}</th>' for column in columns)
    body = ""
    for title, *cells in rows:
        named = zip(columns[1:], cells, strict=True)
        body += (
            f'<tr role="row"><th role="rowheader" scope="row">{title}</th>'
            + "".join(f'<td role="cell" data-label="{column}"{left[column]}>{cell}</td>' for column, cell in named)
            + "</tr>"
        )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{caption}">'
        f'<table role="table" aria-label="{caption}"><tr role="row" class="head">{head}</tr>{body}</table></div>'
    )


def count(number: int) -> str:
    """Return a large number as people say it."""
    for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if number >= 0.9995 * size:  # what rounds to it
            return f"{number / size:.3g} {name}"
    return str(number)


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


def _saved(fields: dict[str, Any]) -> str:
    """Return two bars: what the larger direction costs without any model, and for somebody who has the other one."""
    a, b = fields["model_a"]["id"], fields["model_b"]["id"]
    ways = ((a, b, fields["a_given_b"]), (b, a, fields["b_given_a"]))
    teacher, student, way = max(ways, key=lambda one: one[2]["nats"])
    k = fields["images"]["k"]
    alone, given = (to_bits(way[part]) / k for part in ("marginal_nats", "nats"))
    end, title = max(alone, given) or 1.0, f"What it takes to describe {teacher}, in bits per image"
    rows = (("from scratch", alone), (f"by somebody who has {student}", given))
    bars = "".join(
        f'<li><span class="who">{safe(words)}: <b>{bits:.2f}</b></span>'
        f'<span class="track"><i class="bar" style="width:{100 * bits / end:.1f}%"></i></span></li>'
        for words, bits in rows
    )
    text = f"{title}: {', '.join(f'{words} {bits:.2f}' for words, bits in rows)}"
    return (
        f'<figure role="img" aria-label="{safe(text)}"><figcaption>{safe(title)}</figcaption>'
        f'<ul class="bars plain">{bars}</ul></figure>'
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
    rows = [_direction(name, way, way["nats"] == larger) for name, way in directions]
    columns = ("direction", "bits per image", "±", "bits in all", "last images, bits each", "untaught, bits")
    return table("both directions", (*columns, "of scratch, %"), rows)


def _direction(name: str, way: dict[str, Any], larger: bool) -> tuple[str, ...]:
    mark = ' <span class="tag">the distance</span>' if larger else ""
    error = to_bits(way["stderr_nats"] or math.nan) * way["nats_per_image"] / way["nats"] if way["nats"] else math.nan
    return (
        f"{name}{mark}",
        *rounded(to_bits(way["nats_per_image"]), error),
        number(to_bits(way["nats"])),
        number(to_bits(way["final_nats_per_image"])),
        number(to_bits(way["static_nats"])),
        "n/a" if way["normalised"] is None else percent(way["normalised"]).removesuffix("%"),
    )


def _baselines(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    columns = ("measure", "of", "value", "alike is", "meaning")
    body = [
        (
            safe(row["name"]),
            safe(row["space"]),
            "n/a" if row["value"] is None else format(row["value"], ".4g"),
            "↑" if row["larger_is_more_similar"] else "↓",
            safe(row["reason"] or row["meaning"]),
        )
        for row in rows
    ]
    note = "↑ larger is more similar, 1 is the same; ↓ smaller is more similar, 0 is the same"
    shown = table("other measures", columns, body, words=("meaning",))
    return f'<details><summary>What other measures say</summary>{shown}<p class="quiet">{note}</p></details>'


def _differences(found: tuple[Difference, ...], fields: dict[str, Any]) -> str:
    if not found:
        return ""
    a, b = fields["model_a"]["id"], fields["model_b"]["id"]
    cards = "".join(
        f'<li><img src="{safe(d.picture)}" alt="{_alternative(d)}" loading="lazy">'
        f"{_opinion('A', a, d.a)}{_opinion('B', b, d.b)}</li>"
        for d in found
    )
    return f'<h2>Images on which they differ most</h2><ul class="pictures">{cards}</ul>'


def _alternative(difference: Difference) -> str:
    says = [f"{letter} says {opinion.labels[0]}" for letter, opinion in (("A", difference.a), ("B", difference.b))]
    return safe(f"image {difference.position} of the sample: {', '.join(says)}")


def _origin(record: Record) -> str:
    """Say where the numbers are from, if it is not a comparison that was made here in full."""
    if record.origin:
        return f'<p class="quiet">Measured on {safe(record.origin)}; the images did not come with this page.</p>'
    if not record.baselines:
        more = "Compare adds what other measures say, and the images on which the two differ most."
        return f'<p class="quiet">From the results of this machine. {more}</p>'
    return ""


def _opinion(letter: str, name: str, opinion: Opinion) -> str:
    said = ", ".join(
        f"{safe(label)} {p:.0%}" for label, p in zip(opinion.labels, opinion.probabilities, strict=True) if p >= 0.005
    )
    return f'<p title="{safe(name)}"><b>{letter}</b> {said}</p>'


def _copies(record: Record) -> str:
    c = record.comparison
    seed = f" --seed {c.seed}" if c.seed else ""
    options = f"-k {c.k} --protocol {c.protocol}{seed}"
    words = f"{shlex.join([c.a, c.b])} --images {shlex.quote(c.images)} {options}"
    call = f"{c.a!r}, {c.b!r}, {c.images!r}, k={c.k}, protocol={c.protocol!r}, seed={c.seed}"
    texts = {
        "command line": f"infodist compare {words}",
        "Python": f"from hf_infodist import information_distance\n\nprint(information_distance({call}))",
        "JSON": json.dumps(record.result),
        "link": f"?{c.query}",
    }
    if record.origin:  # its names lead nowhere
        texts = {kind: texts[kind] for kind in ("JSON", "link")}
    return copies(texts)


def copies(texts: Mapping[str, str]) -> str:
    """Return buttons that copy texts, by what they are called."""
    buttons = "".join(
        f'<button type="button" class="copy" data-kind="{kind}" data-text="{safe(text)}">{kind}</button>'
        for kind, text in texts.items()
    )
    return f'<p class="copies"><span>Copy as</span> {buttons}<span class="copied" role="status"></span></p>'
