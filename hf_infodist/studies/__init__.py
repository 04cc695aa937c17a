"""Measurements: one file per claim, its figures beside it."""

import ast
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from hf_infodist.commands import command
from hf_infodist.errors import NotFoundError, UsageError


def summaries() -> dict[str, str]:
    """Return what each study measures in one line, by its name; none of them is imported."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    return {file.stem: (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0] for file in files}


def run_study(name: str, argv: list[str]) -> None:
    """Run a study with its own options.

    Raises:
        UsageError: If no study has that name.
    """
    names = summaries()
    if name not in names:
        raise UsageError(
            f"unknown study {name!r}",
            f"the studies are {', '.join(names)}",
            f"type infodist study {(get_close_matches(name, names, 1, 0.3) or ['--list'])[0]}",
        )
    module = import_module(f"{__name__}.{name}")
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=module.__doc__)(command(module.main))
    run: Callable[..., Any] = typer.main.get_command(app)
    run(argv, prog_name=f"infodist study {name}", obj=argv, standalone_mode=False)


def require(module: str, extra: str) -> ModuleType:
    """Import a package that only some studies need.

    Raises:
        NotFoundError: If it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise NotFoundError(
            f"the package {error.name} is not installed",
            "this study needs it, and nothing else in infodist does",
            f"pip install '.[{extra}]' in a clone of this repository, or pip install {module}",
        ) from error
