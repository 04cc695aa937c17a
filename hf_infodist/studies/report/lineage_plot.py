"""The picture of the study of lineage: how much nearer than strangers networks are to whom they were made from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hf_infodist.results.pictures import COLOURS
from hf_infodist.studies.measures.kin import Answer

_LEAST = 1e-4  # of ratios; copies are at 0


def draw(found: Sequence[Answer], file: Path) -> None:
    """Draw each network by how it was made and how near its nearest is, as a share of what strangers are."""
    hows = list(dict.fromkeys(one.how for one in found))
    figure = Figure(figsize=(8, 0.5 * len(hows) + 1.6), layout="constrained")
    axes = figure.subplots()
    for place, said in enumerate(("copy", "kin", "none")):
        those = [one for one in found if one.found == said and one.ratio is not None]
        rows = [hows.index(one.how) + 0.3 * (np.random.default_rng(i).random() - 0.5) for i, one in enumerate(those)]
        ratios = [max(one.ratio or 0.0, _LEAST) for one in those]
        axes.plot(ratios, rows, "osD"[place], color=COLOURS[place], label=f"named {said}", markeredgecolor="white")
    axes.axvline(1, color="#888888", linewidth=0.8, zorder=0)
    axes.set(xscale="log", xlabel="mean codelength of the nearest, over what two strangers would have")
    axes.set_yticks(range(len(hows)), hows)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    figure.savefig(file, dpi=100, metadata={"Software": None})
