"""Commands that put the page and the metric on a Hub."""

from typing import Annotated

import typer

from hf_infodist.cli.options import AsJson
from hf_infodist.cli.terminal import say, show

publish = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Put the page or the metric on a Hub, as a Space of yours with the package that it needs.",
)

Repo = Annotated[str, typer.Argument(metavar="REPO", help="the Space: owner/name")]
Push = Annotated[bool, typer.Option("--push", help="send it; otherwise only show what would be sent")]
Private = Annotated[bool, typer.Option("--private", help="if the Space is made now, make it private")]

_NEXT = {"space": "the Hub builds it now: {url}", "metric": 'load it with evaluate.load("{repo}")'}


@publish.command("space")
def publish_space(repo: Repo, push: Push = False, private: Private = False, as_json: AsJson = False) -> None:
    """Publish the page of 'infodist show'.

    For example: infodist publish space acme/infodist --push
    """
    _publish("space", repo, push, private, as_json)


@publish.command("metric")
def publish_metric(repo: Repo, push: Push = False, private: Private = False, as_json: AsJson = False) -> None:
    """Publish the metric that evaluate.load("REPO") finds.

    For example: infodist publish metric acme/infodist-metric --push
    """
    _publish("metric", repo, push, private, as_json)


def _publish(kind: str, repo: str, push: bool, private: bool, as_json: bool) -> None:
    from hf_infodist import publish

    if push:
        publication, commit = publish.publish(kind, repo, private=private)
        show(publication.to_dict() | {"commit": commit}, f"{publication}\n\npublished: {commit}", as_json)
        say(_NEXT[kind].format(url=publication.url, repo=repo))
    else:
        publication = publish.prepare(kind, repo, private=private)
        show(publication.to_dict() | {"commit": None}, str(publication), as_json)
        say(f"nothing was sent; to send it: infodist publish {kind} {repo}{' --private' * private} --push")
