"""The boxes that say what is compared on: images, their number, and under "more" the protocol and the seed."""

from collections.abc import Collection
from typing import Any

import gradio as gr

from hf_infodist.page.request import DATASETS, OFFERED, Limits
from hf_infodist.protocol import PROTOCOLS

EVENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
AT_ONCE: dict[str, Any] = EVENT | {"queue": False}
_REMARKS = {
    "standard": "standard (default)",
    "thorough": "thorough (fine-tunes too: slow)",
    "single": "single (reference)",
}


class Boxes:
    """Four boxes.

    Args:
        limits: What may be asked for.
        prefix: Of the names of their elements.
        protocols: That are offered; by default those of comparisons.
    """

    def __init__(self, limits: Limits, prefix: str = "", protocols: Collection[str] = ()):
        choices = list(DATASETS)
        with gr.Row():
            self.images = gr.Dropdown(
                choices,
                value="digits",
                label="Images" if limits.public else "Images: name, folder or file",
                allow_custom_value=True,  # what is not taken is refused in its place, in words
                elem_id=f"{prefix}images",
                min_width=160,
            )
            self.k = gr.Number(400, label="How many (k)", precision=0, elem_id=f"{prefix}k", min_width=100)
        with gr.Accordion("More: protocol and seed", open=False, elem_id=f"{prefix}more"), gr.Row():
            offered = protocols or (OFFERED if limits.public else PROTOCOLS)
            self.protocol = gr.Dropdown(
                [(_REMARKS.get(name, name), name) for name in offered],
                value="standard",
                label="Protocol",
                allow_custom_value=True,
                elem_id=f"{prefix}protocol",
                min_width=200,
            )
            self.seed = gr.Number(0, label="Seed", precision=0, elem_id=f"{prefix}seed", min_width=80)

    @property
    def all(self) -> list[Any]:
        """The boxes, in the order of a `Comparison`."""
        return [self.images, self.k, self.protocol, self.seed]


def buttons(go: str, prefix: str = "") -> tuple[gr.Button, gr.Button]:
    """Return a button that begins, and one that ends what was begun."""
    begin = gr.Button(go, variant="primary", elem_id=f"{prefix}go", min_width=120)
    return begin, gr.Button("Stop", variant="stop", visible=False, elem_id=f"{prefix}halt", min_width=140)


def lines(text: Any) -> list[str]:
    """Return the names that were typed, one on each line."""
    return [name for name in map(str.strip, str(text or "").splitlines()[:1000]) if name]
