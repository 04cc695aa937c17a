"""The app: the page, one function for programs, and how both are served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from hf_infodist.show.asked import Limits, Refusal, asked
from hf_infodist.show.desk import Desk
from hf_infodist.show.events import Done, Failed, Stopped
from hf_infodist.show.page import Page, visitor

HERE = Path(__file__).parent


def build_demo(home: Path, limits: Limits | None = None) -> gr.Blocks:
    """Build the page and the API.

    Args:
        home: Store folder.
        limits: What is given to a visitor.
    """
    desk = Desk(limits or Limits(), home)
    with gr.Blocks(title="Information distance", analytics_enabled=False, fill_width=False) as demo:
        Page(desk)
        gr.api(_for_programs(desk), api_name="compare", concurrency_limit=None)
    demo.queue(max_size=400, api_open=True)
    demo.desk = desk
    return demo


def serve(demo: gr.Blocks, **options: Any) -> Any:
    """Start the processes that compute, and serve the page until it is interrupted.

    Args:
        demo: From `build_demo`.
        **options: Of `gr.Blocks.launch`.
    """
    demo.desk.start()
    font = ["system-ui", "sans-serif"]
    try:
        return demo.launch(
            theme=gr.themes.Default(font=font, font_mono=["ui-monospace", "monospace"]),
            css_paths=HERE / "page.css",
            ssr_mode=False,
            mcp_server=True,
            share=False,
            enable_monitoring=False,
            run_history=False,
            **options,
        )
    finally:
        demo.desk.close()


def _for_programs(desk: Desk) -> Callable[..., Any]:
    async def compare(
        a: str,
        b: str,
        images: str = "digits",
        k: int = 400,
        protocol: Literal["quick", "probe", "standard", "single"] = "quick",
        seed: int = 0,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> dict:
        """Return the information distance between two image classifiers, as `infodist compare --json` prints it.

        Args:
            a: org/name or org/name@revision of the Hub, demo:cnn or demo:vit.
            b: Another; any architecture, any label space.
            images: Dataset: digits, or one of those that the page offers.
            k: How many images, 16 to 2000.
            protocol: How students are trained.
            seed: Order of the images, and every draw of the protocol.
        """
        try:
            comparison = asked(a, b, images, k, protocol, seed, limits=desk.limits)
        except Refusal as error:
            raise gr.Error(str(error), print_exception=False) from None
        who = visitor(request)
        async for event in desk.compare(comparison, who, f"api {id(request)}"):
            match event:
                case Done():
                    return event.record["result"]
                case Failed():
                    raise gr.Error(f"{event.what}\n{event.why}\n{event.fix}", print_exception=False)
                case Stopped():
                    raise gr.Error(f"stopped: {event.why}", print_exception=False)
        raise AssertionError("a comparison ends with an event")

    return compare
