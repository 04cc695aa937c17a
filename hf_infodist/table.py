"""Tables as text: as wide as what they hold, or as wide as a terminal."""

import io
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_GAP = 2  # spaces between columns
_FOLDED = 24  # characters that a column of text keeps at least


@dataclass(frozen=True)
class Layout:
    """How tables are laid out.

    Attributes:
        width: Characters of a line; any number if None.
        tabs: Whether cells are whole and parted by tabs, for programs.
    """

    width: int | None = None
    tabs: bool = False


_AS_WIDE_AS_IT_IS = Layout()
_layout: ContextVar[Layout] = ContextVar("layout", default=_AS_WIDE_AS_IT_IS)


@contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """Lay out all tables that are made meanwhile in one way."""
    before = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(before)


def text_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Collection[int] = (0,),
    names: Sequence[str] = (),
    numbered: bool = False,
) -> str:
    """Lay out cells in columns, each aligned as its name is.

    Names of models are shown without the folder that they share. Where a table is wider than its `Layout`, names
    become numbers, which are told below it, if that helps; then a last column of text is folded; then columns go below
    one another.

    Args:
        header: Names of the columns; none for a table without.
        rows: Cells; a row may end early.
        left: Columns that are flush left; all others are flush right.
        names: Full names of the models that occur in cells.
        numbered: Whether row i is about the i-th name, whose number stands before it.
    """
    layout, whole = _layout.get(), [list(row) for row in rows]
    if layout.tabs:
        lines = [*([header] if header else []), *(_numbers(whole) if numbered else whole)]
        return "\n".join("\t".join(" ".join(cell.split()) for cell in line) for line in lines)
    names = list(dict.fromkeys(names))
    short = short_names(names)
    cells = _renamed(whole, dict(zip(names, short, strict=True)))
    cells = _numbers(cells) if numbered else cells
    folder = [f"names are below {shared_folder(names)}"] if short != names else []
    if layout.width is None or _width(header, cells) <= layout.width:
        return "\n".join([_lay(header, cells, left), *folder])
    digits = _renamed(whole, {name: str(i) for i, name in enumerate(names)})
    told = ["", *(f"{i}  {name}" for i, name in enumerate(short))] if names else []
    if _width(header, digits) > layout.width and max(map(len, short), default=0) <= layout.width // 3:
        digits, told = cells, []  # numbers would not save it from being parted
    return "\n".join(["\n\n".join(_within(layout.width, header, digits, left)), *told, *folder])


def short_names(names: Sequence[str]) -> list[str]:
    """Return names without the folder that all paths among them share; names that would be alike stay as they are."""
    folder = shared_folder(names)
    short = [re.sub(rf"^(random:)?{re.escape(folder)}", r"\1", name) if folder else name for name in names]
    return short if len(set(short)) == len(set(names)) else list(names)


def shared_folder(names: Sequence[str]) -> str:
    """Return the folder that all paths among some names lie in, with a slash at its end; nothing if there is none."""
    paths = [name for name in (name.removeprefix("random:") for name in names) if name.startswith(("/", ".", "~"))]
    if not paths:
        return ""
    folders = [f"{os.path.dirname(path.rstrip('/'))}/" for path in paths]
    common = os.path.commonprefix(folders)  # noqa: RUF071 - as they are written, and cut where a folder ends
    return common[: common.rfind("/") + 1]


def _renamed(rows: list[list[str]], new: dict[str, str]) -> list[list[str]]:
    """Put other names into cells, wherever a whole one stands."""
    changed = sorted((name for name in new if new[name] != name), key=len, reverse=True)
    if not changed:
        return rows
    whole = re.compile(rf"(?<![^\s(])({'|'.join(map(re.escape, changed))})(?![^\s),:])")
    return [[whole.sub(lambda match: new[match[1]], cell) for cell in row] for row in rows]


def _numbers(rows: list[list[str]]) -> list[list[str]]:
    return [[f"{i} {row[0]}", *row[1:]] for i, row in enumerate(rows)]


def _within(width: int, header: Sequence[str], rows: list[list[str]], left: Collection[int]) -> Iterator[str]:
    """Yield a table whose lines are no longer than so many characters: its last text folded, or else in parts."""
    widths = [_column(header, rows, column) for column in range(max(map(len, [header, *rows])))]
    last = len(widths) - 1
    rest = sum(widths[:last]) + _GAP * last
    if last in left and last > 0 and width - rest >= min(_FOLDED, widths[last]):
        yield _lay(header, rows, left, width)
        return
    start = 1
    while start <= last:
        end, taken = start, widths[0]
        while end <= last and (end == start or taken + _GAP + widths[end] <= width):
            taken, end = taken + _GAP + widths[end], end + 1
        part = [0, *range(start, end)]
        names = [header[column] for column in part] if header else ()
        cells = [[row[column] for column in part if column < len(row)] for row in rows]
        yield _lay(names, cells, [place for place, column in enumerate(part) if column in left])
        start = end


def _column(header: Sequence[str], rows: list[list[str]], column: int) -> int:
    cells = [row[column] for row in [header, *rows] if column < len(row)]
    return max((len(line) for cell in cells for line in cell.splitlines()), default=0)


def _width(header: Sequence[str], rows: list[list[str]]) -> int:
    columns = max(map(len, [header, *rows]))
    return sum(_column(header, rows, column) + _GAP for column in range(columns)) - _GAP


def _lay(header: Sequence[str], rows: list[list[str]], left: Collection[int], width: int = 1_000_000) -> str:
    """Lay out a table; in a line that is too short the last column is folded."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=bool(header), header_style="")
    columns = max(map(len, [header, *rows]))
    for column in range(columns):
        side, fold = "left" if column in left else "right", width < 1_000_000 and column == columns - 1
        table.add_column(header[column] if header else "", justify=side, no_wrap=not fold)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*row)
    console = Console(
        file=io.StringIO(),
        width=width,
        force_jupyter=False,
        color_system=None,
        markup=False,
        emoji=False,
        highlight=False,
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]
