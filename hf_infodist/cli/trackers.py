"""Trackers of Accelerate that a command may log to."""

from collections.abc import Sequence
from importlib.util import find_spec

from hf_infodist.errors import UsageError

TRACKERS = ("tensorboard", "trackio", "wandb")


def check_trackers(names: Sequence[str]) -> None:
    """Raise a `UsageError` for a tracker that is not known or not installed; none is imported."""
    for name in names:
        if name not in TRACKERS:
            why = f"curves can be logged with {', '.join(TRACKERS[:-1])} or {TRACKERS[-1]}"
            raise UsageError(f"there is no tracker {name!r}", why, f"use --log-with {TRACKERS[0]}")
        if find_spec(name) is None:
            what, why = f"{name} is not installed", f"--log-with {name} needs it"
            raise UsageError(what, why, f"type pip install {name}")
