"""Commands about results that are kept: the store, and its exchange with others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_infodist.cli.options import Output, Report, command
from hf_infodist.cli.terminal import print_text, say
from hf_infodist.errors import UnfitError
from hf_infodist.table import short_names, text_table

if TYPE_CHECKING:
    import pandas

    from hf_infodist.results.store import CodelengthRecord, Merged

_NEXT = "'infodist results show KEY' shows one of them; the first digits of its key will do"

results = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, show, repeat and exchange stored results.",
)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The name of a result, or how it begins.")]
RepoArgument = Annotated[str, typer.Argument(metavar="REPO", help="A dataset repository of the Hub: org/name.")]


@results.command("ls")
@command
def list_results(report: Report) -> None:
    """List all results, one line each, the newest last.

    Example: infodist results ls
    """
    from hf_infodist.results.store import SCHEMA, Store

    records = sorted(Store().records(), key=lambda record: record.made)
    brief = [{"key": one.key, "current": one.current} | _facts(one) for one in records]
    fields = {"schema": "infodist.results/1", "of": SCHEMA, "results": brief}
    report.show_fields(
        fields, lambda: _table(records, report), "\n".join(one.key for one in records), _NEXT, found=_Rows(brief)
    )
    if old := sum(not record.current for record in records):
        say(f"{old} of {len(records)} are of an earlier version: no comparison uses them, all are computed again")


@results.command("show")
@command
def show_result(key: KeyArgument, report: Report) -> None:
    """Show a result with all that is needed to repeat it.

    Example: infodist results show 5f
    """
    import json

    from hf_infodist.results.store import Store

    record = Store().find(key)
    fields = record.to_dict()
    text = json.dumps(fields | {"codelength": record.codelength.nats}, indent=2)
    brief = report.number(record.codelength.nats, record.images.k)
    report.show_fields(fields, f"{record}\n{text}", brief, found=record.codelength)


@results.command("verify")
@command
def verify_results(
    report: Output,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY...", help="Which; all of them if none.")] = None,
) -> None:
    """Compute results again and compare.

    They are computed from the models and images on; the exit code is 4 if any differs.

    Example: infodist results verify 5f
    """
    from hf_infodist.distances.verify import verify
    from hf_infodist.results.store import Store

    store, rows = Store(), []
    records = [store.find(key) for key in keys] if keys else list(store.records())
    for record, verdict in verify(records):
        rows.append({"key": record.key, "same": verdict.same, "why": verdict.why.strip()})
        line = f"{'same     ' if verdict.same else 'DIFFERENT'}  {record}{verdict.why}"
        print_text(line.__str__)
    bad = [row["key"] for row in rows if not row["same"]]
    text = f"{len(rows) - len(bad)} of {len(rows)} are the same"
    report.show_fields({"schema": "infodist.verified/1", "results": rows}, text, "\n".join(map(str, bad)))
    if bad:
        raise typer.Exit(UnfitError.exit_code)


@results.command("merge")
@command
def merge_results(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Another store, or its folder codelengths.")],
    report: Output,
) -> None:
    """Take over the results of another folder.

    What is there already is never written over.

    Example: infodist results merge /mnt/theirs
    """
    from hf_infodist.home import Home
    from hf_infodist.results.store import Store

    inner = Home(folder).codelengths
    _tell(Store().merge(inner if inner.is_dir() else folder), "taken over", report)


@results.command("pull")
@command
def pull_results(repo: RepoArgument, report: Output) -> None:
    """Take over the results of a dataset repository.

    What is there already is never written over.

    Example: infodist results pull acme/distances
    """
    from hf_infodist.results.hub import pull
    from hf_infodist.results.store import Store

    _tell(pull(Store(), repo), "taken over", report)


@results.command("push")
@command
def push_results(
    repo: RepoArgument,
    report: Output,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private, if it is made now.")
    ] = False,
) -> None:
    """Add results to a dataset repository.

    It is made if need be, and nothing there is written over.

    Example: infodist results push acme/distances --private
    """
    from hf_infodist.results.hub import push
    from hf_infodist.results.store import Store

    _tell(push(Store(), repo, private=private), "added", report)


@dataclass(frozen=True)
class _Rows:
    """Facts of results as a table of pandas."""

    rows: list[dict[str, Any]]

    def to_pandas(self) -> "pandas.DataFrame":
        import pandas

        return pandas.json_normalize(self.rows, sep="_")


def _table(records: "Sequence[CodelengthRecord]", report: Report) -> str:
    """Return one line for each record."""
    header = ("key", "made", f"{report.unit}/image", "model", "given", "images", "protocol")
    samples = [one.images.id for one in records]
    short = dict(zip(samples, short_names(samples), strict=True))
    rows = [
        (
            one.key[:8],
            one.made[:10] if one.current else f"version {one.coding}",
            report.number(one.codelength.nats, one.images.k, 4),
            one.teacher.id,
            one.student.id,
            f"{one.images.k} of {short[one.images.id]}" + (f", seed {one.images.seed}" if one.images.seed else ""),
            one.protocol.name + (f" × {one.protocol.orders}" if one.protocol.orders > 1 else ""),
        )
        for one in records
    ]
    names = [model.id for one in records for model in (one.teacher, one.student)]
    return text_table(header, rows, left=(0, 1, 3, 4, 5, 6), names=names)


def _facts(one: "CodelengthRecord") -> dict[str, Any]:
    """Return what a list says of a record, as JSON types."""
    facts = {name: getattr(one, name) for name in ("made", "device", "coding")}
    facts |= {"teacher": one.teacher.id, "student": one.student.id, "images": vars(one.images)}
    facts |= {"protocol": one.protocol.name, "orders": one.protocol.orders}
    return facts | {"nats": one.codelength.nats, "stderr_nats": _finite(one.codelength.stderr_nats)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _tell(merged: "Merged", verb: str, report: Output) -> None:
    """Say what came of an exchange; conflicts have their exit code."""
    for key in merged.conflicts:
        say(f"conflict: {key} is there with another number, and was left as it is")
    for name in merged.unreadable:
        say(f"unreadable: {name} was left where it is")
    fields = {"schema": "infodist.merged/1"} | {name: list(keys) for name, keys in vars(merged).items()}
    text = f"{len(merged.new)} {verb}, {len(merged.same)} there already"
    report.show_fields(fields, text, "\n".join(merged.new))
    if merged.conflicts or merged.unreadable:
        raise typer.Exit(UnfitError.exit_code)
