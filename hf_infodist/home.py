"""Where everything is kept between runs."""

import os
from pathlib import Path


def infodist_home() -> Path:
    """Return the folder of everything kept between runs: ``INFODIST_HOME``, or ``infodist`` in the Hub's home."""
    from huggingface_hub.constants import HF_HOME

    return Path(os.environ.get("INFODIST_HOME") or Path(HF_HOME) / "infodist").expanduser()
