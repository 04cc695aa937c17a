"""In which form a result is printed: the formats of the ``hf`` command."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from hf_infodist.errors import UsageError

Format = Literal["auto", "human", "agent", "json", "quiet"]
_AGENTS = {"AI_AGENT": "*", "AGENT": "*"}  # what any harness may set; ``hf`` keeps a list of others


def chosen_format(format: Format, as_json: bool, quiet: bool) -> Format:
    """Return the format that the options ask for: ``agent`` or ``human`` where it is left open.

    Raises:
        UsageError: If two of them contradict each other.
    """
    given = {"--format": format != "auto", "--json": as_json, "--quiet": quiet}
    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        why = "a result is printed in one form"
        raise UsageError(f"{' and '.join(names)} exclude each other", why, "give one of them")
    if format != "auto":
        return format
    return "json" if as_json else "quiet" if quiet else "agent" if _runs_for_agent(os.environ) else "human"


def _runs_for_agent(environment: Mapping[str, str]) -> bool:
    """Tell whether a coding agent has started this process, by the variables that ``hf`` knows agents by.

    ``huggingface_hub`` refreshes its list over the network; here only what it has kept is read.
    """
    return any(
        environment.get(name) and pattern in ("*", environment[name])
        for signs in (_AGENTS, *_known_agents())
        for name, pattern in signs.items()
    )


def _known_agents() -> list[dict[str, str]]:
    from huggingface_hub import constants

    try:
        kept = json.loads(Path(constants.AGENT_HARNESSES_PATH).read_text())  # not in every version
        return [dict(harness["envVars"]) for harness in kept["harnesses"].values() if harness.get("envVars")]
    except (AttributeError, OSError, ValueError, KeyError, TypeError):
        return []
