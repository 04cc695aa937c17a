"""Commands that put the page and the metric on a Hub."""

from typing import Annotated

import typer

from hf_infodist.cli.options import Output, command
from hf_infodist.cli.terminal import say

publish = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Put the page or the metric on a Hub, as a Space of yours with the package that it needs.",
)

Repo = Annotated[str, typer.Argument(metavar="REPO", help="The Space: owner/name.")]
Push = Annotated[bool, typer.Option("--push", help="Send it; otherwise what would be sent is only shown.")]
Private = Annotated[bool, typer.Option("--private", help="If the Space is made now, make it private.")]

_NEXT = {"space": "the Hub builds it now: {url}", "metric": 'load it with evaluate.load("{repo}")'}


@publish.command("space")
@command
def publish_space(repo: Repo, report: Output, push: Push = False, private: Private = False) -> None:
    """Publish the page of 'infodist show'.

    Example: infodist publish space acme/infodist --push
    """
    _publish("space", repo, push, private, report)


@publish.command("metric")
@command
def publish_metric(repo: Repo, report: Output, push: Push = False, private: Private = False) -> None:
    """Publish the metric that evaluate.load("REPO") finds.

    Example: infodist publish metric acme/infodist-metric --push
    """
    _publish("metric", repo, push, private, report)


def _publish(kind: str, repo: str, push: bool, private: bool, report: Output) -> None:
    from hf_infodist import publish

    if push:
        publication, commit = publish.publish(kind, repo, private=private)
        fields = publication.to_dict() | {"commit": commit}
        report.show_fields(fields, f"{publication}\n\npublished: {commit}", commit)
        say(_NEXT[kind].format(url=publication.url, repo=repo))
    else:
        publication = publish.prepare(kind, repo, private=private)
        report.show_fields(publication.to_dict() | {"commit": None}, str(publication), publication.url)
        say(f"nothing was sent; to send it: infodist publish {kind} {repo}{' --private' * private} --push")
