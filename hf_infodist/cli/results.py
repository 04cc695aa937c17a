"""Commands about results that are kept: the store, and its exchange with others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_infodist.cli.options import AsJson
from hf_infodist.cli.terminal import print_lines, say, show
from hf_infodist.errors import UnfitError

if TYPE_CHECKING:
    from hf_infodist.results.store import Merged

results = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Codelengths that have been computed: list, show, repeat and exchange them.",
)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="name of a result, or how it begins")]
RepoArgument = Annotated[str, typer.Argument(metavar="REPO", help="dataset repository of the Hub: org/name")]


@results.command("ls")
def list_results() -> None:
    """List all results, one line each."""
    from hf_infodist.results.store import Store

    records = list(Store().records())
    print_lines([str(record) for record in records])
    if old := sum(not record.current for record in records):
        say(f"{old} of {len(records)} are of an earlier version: no comparison uses them, all are computed again")


@results.command("show")
def show_result(key: KeyArgument, as_json: AsJson = False) -> None:
    """Show a result with everything needed to trust and repeat it."""
    import json

    from hf_infodist.results.store import Store

    record = Store().find(key)
    fields = record.to_dict()
    text = json.dumps(fields | {"codelength": record.codelength.nats}, indent=2)
    show(fields, f"{record}\n{text}", as_json)


@results.command("verify")
def verify_results(
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY...", help="which; all of them if none")] = None,
) -> None:
    """Compute results again, from the models and images on, and compare; exit code 4 if any differs."""
    from hf_infodist.distances.verify import verify
    from hf_infodist.results.store import Store

    store = Store()
    records = [store.find(key) for key in keys] if keys else list(store.records())
    bad = 0
    for record, verdict in verify(records):
        bad += not verdict.same
        print_lines([f"{'same     ' if verdict.same else 'DIFFERENT'}  {record}{verdict.why}"])
    if bad:
        raise typer.Exit(UnfitError.exit_code)


@results.command("merge")
def merge_results(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="another store, or its folder codelengths")],
) -> None:
    """Take over the results of another folder; what is there already is never written over."""
    from hf_infodist.home import Home
    from hf_infodist.results.store import Store

    inner = Home(folder).codelengths
    _tell(Store().merge(inner if inner.is_dir() else folder), "taken over")


@results.command("pull")
def pull_results(repo: RepoArgument) -> None:
    """Take over the results of a dataset repository of the Hub."""
    from hf_infodist.results.hub import pull
    from hf_infodist.results.store import Store

    _tell(pull(Store(), repo), "taken over")


@results.command("push")
def push_results(
    repo: RepoArgument,
    private: Annotated[bool, typer.Option("--private", help="if the repository is made now, make it private")] = False,
) -> None:
    """Add results to a dataset repository of the Hub, which is made if need be; nothing there is written over."""
    from hf_infodist.results.hub import push
    from hf_infodist.results.store import Store

    _tell(push(Store(), repo, private=private), "added")


def _tell(merged: "Merged", verb: str) -> None:
    """Say what came of an exchange; conflicts have their exit code."""
    say(f"{len(merged.new)} {verb}, {len(merged.same)} there already")
    for key in merged.conflicts:
        say(f"conflict: {key} is there with another number, and was left as it is")
    for name in merged.unreadable:
        say(f"unreadable: {name} was left where it is")
    if merged.conflicts or merged.unreadable:
        raise typer.Exit(UnfitError.exit_code)
