"""Tables as text: columns as wide as what they hold."""

import io
from collections.abc import Collection, Iterable, Sequence


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[int] = (0,)) -> str:
    """Lay out cells in columns, each aligned as its name is.

    Args:
        header: Names of the columns; none for a table without.
        rows: Cells; a row may end early.
        left: Columns that are flush left; all others are flush right.
    """
    from rich.console import Console
    from rich.table import Table

    rows = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(header), header_style="")
    for column in range(max(map(len, [header, *rows]))):
        side = "left" if column in left else "right"
        table.add_column(header[column] if header else "", justify=side, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*row)
    console = Console(
        file=io.StringIO(),
        width=1_000_000,
        force_jupyter=False,
        color_system=None,
        markup=False,
        emoji=False,
        highlight=False,
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]
