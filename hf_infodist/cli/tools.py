"""Commands about this installation."""

import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_infodist.cli.options import Output, command
from hf_infodist.cli.terminal import print_text, say
from hf_infodist.environment import installed
from hf_infodist.errors import NotFoundError, UsageError
from hf_infodist.table import text_table


def tell_version(wanted: bool) -> None:
    """Print the version of this package, if it is wanted, and exit."""
    if wanted:
        print(f"infodist {installed('hf-infodist')}")
        raise typer.Exit


@command
def env(report: Output) -> None:
    """Tell versions, device and folders of this installation.

    This is what to paste into a bug report.

    Example: infodist env
    """
    import platform

    import torch

    from hf_infodist.home import infodist_home
    from hf_infodist.results.records import package_versions

    versions = package_versions()
    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "store": str(infodist_home()),
        "offline": os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"),
    }
    lines = [(name, str(value)) for name, value in (versions | facts).items()]
    fields = {"versions": versions} | facts
    report.show_fields(fields, lambda: text_table((), lines, left=(0, 1)), versions["hf-infodist"])


def show_page(
    home: Annotated[
        Path | None, typer.Option("--store", help="Show the results of this folder. [default: the user's]")
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Listen at this address; 0.0.0.0 is reached from other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Listen at this port.")] = 7860,
    most: Annotated[int, typer.Option("-k", help="Let a comparison have so many images at most.")] = 2000,
    time_limit: Annotated[float, typer.Option("--time-limit", help="Let a run take so many minutes at most.")] = 60.0,
    atlas: Annotated[
        str | None, typer.Option("--atlas", help="Offer this atlas too: a folder. [default: demo:digits alone]")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Compare models in a browser.

    It is the page of the Space, on the models and results of this machine: it takes all names of the command line.

    Example: infodist show --port 7861
    """
    from hf_infodist.home import infodist_home
    from hf_infodist.results.atlas.shipped import open_atlas

    _check_free(host, port)
    if atlas is not None:
        open_atlas(atlas)
    try:
        from hf_infodist.page import app
    except ModuleNotFoundError as error:
        why = f"the package {error.name} is not installed"
        raise NotFoundError("the page cannot be shown", why, "pip install 'hf-infodist[show]'") from error
    from hf_infodist.page.request import Limits

    limits = Limits(public=False, images=most, seconds=60 * time_limit, others=200)
    demo = app.build_demo(home or infodist_home(), limits, atlas or "")
    say(f"the page is on http://{host}:{port}; Ctrl-C ends it")
    app.serve(demo, server_name=host, server_port=port, quiet=True, inbrowser=browser and _has_browser())


def _has_browser() -> bool:
    """Tell whether a browser with a window can be opened: without a screen one of text would take the terminal."""
    screens = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in screens)


def _check_free(host: str, port: int) -> None:
    """Raise a `UsageError` unless a server can listen there."""
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        what, why = f"the page cannot listen on {host}:{port}", error.strerror or str(error)
        raise UsageError(what, why, "choose another --port, such as 7861, or another --host") from error


def study(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="NAME OPTIONS", help="Which, and its options: see NAME --help.")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List them, one line each.")] = False,
) -> None:
    """Repeat a measurement of hf_infodist.studies.

    Without a name, they are listed.

    Example: infodist study cost
    """
    from hf_infodist.studies import run_study, summaries

    if words and not list_all:
        run_study(words[0], words[1:])
    else:
        print_text(lambda: text_table((), summaries().items(), left=(0, 1)))
