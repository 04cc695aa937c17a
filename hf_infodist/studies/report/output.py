"""What the studies of training have in common at their ends: options, JSON and pictures."""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hf_infodist.processes import make_accelerator
from hf_infodist.results.records import package_versions


def write(study: str, command: str, figures: dict[str, Any], output: Path | None) -> None:
    """Write figures and where they come from into a folder; rewritten as a study goes on."""
    if output:
        output.mkdir(parents=True, exist_ok=True)
        everything = {**provenance(command), **figures, "versions": package_versions()}
        (output / f"{study}.json").write_text(to_json(everything) + "\n")


def to_json(figures: Any) -> str:
    """Return JSON with five digits a number, null for what is not finite, and innermost lists on one line."""
    text = json.dumps(_plain(figures), indent=1)
    return re.sub(r"[\[{][^][{}]*[\]}]", lambda match: " ".join(match[0].split()), text)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(one) for one in value]
    if isinstance(value, float):  # NumPy's as well
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def show_json(figures: Any, file: Path | None) -> None:
    """Print figures as JSON, and write them to a file."""
    text = json.dumps(figures, indent=1) + "\n"
    if file:
        file.write_text(text)
    sys.stdout.write(text)


def show(*parts: object) -> None:
    """Print parts of an answer with an empty line between them."""
    sys.stdout.write("\n\n".join(map(str, parts)) + "\n")


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of its own, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, output: Path | None, name: str) -> None:
    """Write a figure as PNG into a folder, the same bytes each time."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    if output:
        figure.savefig(output / f"{name}.png", dpi=100, metadata={"Software": None})


def rounded(array: np.ndarray) -> list[list[float | None]]:
    """Return rows of numbers of five digits; None where there is none."""
    return [[float(f"{value:.5g}") if np.isfinite(value) else None for value in row] for row in array]


def provenance(command: str) -> dict[str, Any]:
    """Return where figures come from: command, commit if this is a clone, and machine."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    return {
        "command": command,
        "commit": found.stdout.strip() or None,
        "machine": f"{os.cpu_count()} cores, one thread, {make_accelerator().device.type}",
    }
