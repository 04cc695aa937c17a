"""Commands about this installation."""

import os
from typing import Annotated, Any

import typer

from hf_infodist.cli.options import JsonOption
from hf_infodist.cli.terminal import show


def env(as_json: JsonOption = False) -> None:
    """Versions, device and folders: what to paste into a bug report."""
    import platform

    import torch

    from hf_infodist.home import infodist_home
    from hf_infodist.result import package_versions

    versions = package_versions()
    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "store": str(infodist_home()),
        "offline": os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"),
    }
    lines = [f"{name:<16}{value}" for name, value in (versions | facts).items()]
    show({"versions": versions} | facts, "\n".join(lines), as_json)


def study(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="NAME OPTIONS", help="which, and its options: see NAME --help")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="list them, one line each")] = False,
) -> None:
    """Repeat a measurement of hf_infodist.studies; without a name, list them."""
    from hf_infodist.studies import run_study, summaries

    if words and not list_all:
        run_study(words[0], words[1:])
    else:
        print("\n".join(f"{name:<14}{line}" for name, line in summaries().items()))
