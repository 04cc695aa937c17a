"""The app: the page, functions for programs, and how both are served."""

from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from hf_infodist.page.page import Page
from hf_infodist.page.preview import TITLE, OwnPreview
from hf_infodist.page.programs import add_programs
from hf_infodist.page.request import Limits
from hf_infodist.page.service import Service

HERE = Path(__file__).parent
_SESSIONS = 100  # whose boxes Gradio keeps, about 0.1 MiB each; the page itself keeps nothing of a visitor


class Demo(gr.Blocks):
    """The app, with the service that answers."""

    service: Service


def build_demo(home: Path, limits: Limits | None = None, atlas: str = "") -> Demo:
    """Build the page and the API.

    Args:
        home: Store folder.
        limits: What is given to a visitor.
        atlas: Folder of an atlas that is offered too.
    """
    service = Service(limits or Limits(), home, atlas)
    with Demo(title=TITLE, analytics_enabled=False, fill_width=False) as demo:
        add_programs(service)
        Page(service, demo)
    demo.queue(max_size=400, api_open=True)
    demo.service = service
    return demo


def serve(demo: Demo, **options: Any) -> Any:
    """Start the processes that compute, and serve the page until it is interrupted.

    Args:
        demo: From `build_demo`.
        **options: Of `gr.Blocks.launch`.
    """
    demo.service.start()
    try:
        return demo.launch(
            theme=_theme(),
            css_paths=HERE / "page.css",
            app_kwargs={"middleware": [Middleware(OwnPreview)]},
            ssr_mode=False,
            mcp_server=True,
            share=False,
            enable_monitoring=False,
            run_history=False,
            state_session_capacity=_SESSIONS,
            **options,
        )
    finally:
        demo.service.close()


def _theme() -> gr.themes.Base:
    """Return Gradio's theme with fonts that every machine has, and colours that can be read."""
    theme = gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    blue = {f"button_primary_background_fill{dark}": "*primary_600" for dark in ("", "_dark")}
    hover = {f"button_primary_background_fill_hover{dark}": "*primary_700" for dark in ("", "_dark")}
    readable = {"body_text_color_subdued": "*neutral_600", "body_text_color_subdued_dark": "*neutral_300"}
    readable |= {"input_placeholder_color": "*neutral_500", "input_placeholder_color_dark": "*neutral_400"}
    return theme.set(**blue, **hover, **readable)
