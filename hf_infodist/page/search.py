"""Names to choose from while somebody types: embedded and known models at once, the Hub's if it can be asked."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable

from hf_infodist.page.request import DEMO, Limits, takes

_SECONDS = 2.5  # that the Hub has for an answer
_PAUSE_SECONDS = 60.0  # before it is asked again after it has not answered
_MOST = 8


class Search:
    """Search as you type.

    Args:
        known: Returns names of models that were compared here before.
        limits: What the page takes; nothing else is suggested.
    """

    def __init__(self, known: Callable[[], Iterable[str]], limits: Limits):
        self._known, self._limits = known, limits
        self._silent_until = 0.0

    async def find(self, text: str) -> tuple[list[str], bool]:
        """Return names that fit what was typed, and whether the Hub has been asked with success.

        Args:
            text: What was typed.
        """
        typed = str(text)[:1000].strip()
        if not self._limits.public and typed.startswith((".", "/", "~")):
            return await asyncio.to_thread(_folders, typed), True
        text = typed[:100].lower()
        known = [name for name in dict.fromkeys([*DEMO, *self._known()]) if text in name.lower()]
        here = [name for name in known if takes(name, self._limits)]
        if len(text) < 2 or text.startswith(("demo:", "random:", "timm:", "torchvision:")):
            return here[:_MOST], True
        if time.monotonic() < self._silent_until:
            return here[:_MOST], False
        try:
            async with asyncio.timeout(_SECONDS):
                on_hub = await asyncio.to_thread(_ask, text)
        except Exception:  # of the network, of the Hub, or of the time: names are a help, not a need
            self._silent_until = time.monotonic() + _PAUSE_SECONDS
            return here[:_MOST], False
        return list(dict.fromkeys([*here, *(name for name in on_hub if takes(name, self._limits))]))[:_MOST], True


def _folders(typed: str) -> list[str]:
    """Return the folders whose paths begin so."""
    parent, start = os.path.split(typed)
    try:
        names = sorted(os.listdir(os.path.expanduser(parent) or "."))
    except OSError:
        return []
    paths = [os.path.join(parent, name) for name in names if name.startswith(start) and not name.startswith(".")]
    return [path for path in paths if os.path.isdir(os.path.expanduser(path))][:_MOST]


def _ask(text: str) -> list[str]:
    from huggingface_hub import HfApi

    models = HfApi().list_models(search=text, filter="image-classification", sort="downloads", limit=_MOST)
    return [model.id for model in models]
