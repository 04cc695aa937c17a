"""The app: the page, one function for programs, and how both are served."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from starlette.middleware import Middleware

from hf_infodist.page.compare_tab import visitor
from hf_infodist.page.events import Done, Failed, Stopped
from hf_infodist.page.page import Page
from hf_infodist.page.preview import TITLE, OwnPreview
from hf_infodist.page.request import Limits, Refusal, requested, told
from hf_infodist.page.service import Service

HERE = Path(__file__).parent
_SESSIONS = 100  # whose boxes Gradio keeps, about 0.1 MiB each; the page itself keeps nothing of a visitor
Protocol = Literal["standard", "thorough", "single"]
_DOCUMENTATION = """Return the information distance of two image classifiers, as `infodist compare --json` prints it.

Args:
    a: org/name or org/name@revision of the Hub, demo:cnn or demo:vit.
    b: Another; any architecture, any label space.
    images: Dataset: digits, or one of those that the page offers.
    k: How many images, 16 to 2000.
    protocol: How students are trained.
    seed: Order of the images, and every draw of the protocol.
"""


class Demo(gr.Blocks):
    """The app, with the service that answers."""

    service: Service


def build_demo(home: Path, limits: Limits | None = None) -> Demo:
    """Build the page and the API.

    Args:
        home: Store folder.
        limits: What is given to a visitor.
    """
    service = Service(limits or Limits(), home)
    with Demo(title=TITLE, analytics_enabled=False, fill_width=False) as demo:
        compare, compare_json = _for_programs(service)
        gr.api(compare, api_name="compare", concurrency_limit=None)
        gr.api(compare_json, api_name="compare_json", concurrency_limit=None)
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


def _for_programs(service: Service) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the function of the API, whose answer is an object, and the tool of MCP, whose answers are texts."""

    async def compare(
        a: str,
        b: str,
        images: str = "digits",
        k: int = 400,
        protocol: Protocol = "standard",
        seed: int = 0,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> dict:
        return await _compare(service, request, a, b, images, k, protocol, seed)

    async def compare_json(
        a: str,
        b: str,
        images: str = "digits",
        k: int = 400,
        protocol: Protocol = "standard",
        seed: int = 0,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> str:
        return json.dumps(await _compare(service, request, a, b, images, k, protocol, seed))

    compare.__doc__ = compare_json.__doc__ = _DOCUMENTATION
    compare._mcp_type = "api"  # type: ignore[attr-defined]  # no tool: as text its answer would not be JSON
    return compare, compare_json


async def _compare(service: Service, request: gr.Request, *values: Any) -> dict[str, Any]:
    """Return a result, or raise what a program is told."""
    try:
        comparison = requested(*values, limits=service.limits)
    except Refusal as error:
        raise gr.Error("\n".join(told(error, service.limits)), print_exception=False) from None
    async for event in service.compare(comparison, visitor(request), f"api {id(request)}"):
        match event:
            case Done():
                return event.record["result"]
            case Failed():
                raise gr.Error(f"{event.what}\n{event.why}\n{event.fix}", print_exception=False)
            case Stopped():
                raise gr.Error(f"stopped: {event.why}", print_exception=False)
    raise AssertionError("a comparison ends with an event")
