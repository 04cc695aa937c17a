"""The functions of the API, whose answers are objects, and the tools of MCP, whose answers are texts."""

import functools
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import gradio as gr

from hf_infodist.page.candidates import to_ranking
from hf_infodist.page.compare_tab import visitor
from hf_infodist.page.events import Done, Failed, Stopped
from hf_infodist.page.request import Refusal, requested
from hf_infodist.page.service import Service
from hf_infodist.page.starts import AnyQuestion, requested_starts
from hf_infodist.page.telling import told

Protocol = Literal["standard", "thorough", "single"]
LabelProtocol = Literal["standard", "thorough"]
_NOBODY: gr.Request = None  # type: ignore[assignment]  # Gradio puts the request there


def add_programs(service: Service) -> None:
    """Add the functions and tools to a page.

    Args:
        service: Answers questions.
    """

    async def compare(
        a: str,
        b: str,
        images: str = "digits",
        k: int = 400,
        protocol: Protocol = "standard",
        seed: int = 0,
        request: gr.Request = _NOBODY,
    ) -> dict:
        """Return the information distance of two image classifiers, as ``infodist compare --json`` prints it.

        Args:
            a: org/name or org/name@revision of the Hub, demo:cnn or demo:vit.
            b: Another; any architecture, any label space.
            images: Dataset: digits, or one of those that the page offers.
            k: How many images, 16 to 2000.
            protocol: How students are trained.
            seed: Order of the images, and every draw of the protocol.
        """
        return await compared(service, request, a, b, images, k, protocol, seed)

    async def transfer(
        models: list[str],
        images: str = "digits",
        k: int = 400,
        protocol: LabelProtocol = "standard",
        seed: int = 0,
        label: str = "",
        request: gr.Request = _NOBODY,
    ) -> dict:
        """Rank models to start from by what the labels of images cost, as ``infodist transfer --json`` prints it.

        Args:
            models: Two or more of org/name or org/name@revision of the Hub, demo:cnn, demo:vit; without a head too.
            images: Dataset with labels: digits, or one of those that the page offers.
            k: How many images, 16 to 2000.
            protocol: How labels are learnt.
            seed: Order of the images, and every draw of the protocol.
            label: Column of the classes; needed only where there are several.
        """
        return await ranked(service, request, models, images, k, protocol, seed, label)

    async def nearest(model: str, atlas: str = "demo:digits", n: int = 5, request: gr.Request = _NOBODY) -> dict:
        """Return the models of an atlas that are nearest to one, as ``infodist nearest --json`` prints them.

        Args:
            model: Name of a model of the atlas; on a page of one's own also any other, which is run then.
            atlas: An atlas that the page offers; demo:digits has small networks on handwritten digits.
            n: How many, 1 to 50.
        """
        return await placed(service, request, model, atlas, n)

    functions: tuple[Any, ...] = (compare, transfer, nearest)
    for function in functions:
        text = _as_text(function)
        function._mcp_type = "api"  # no tool: as text its answer would not be JSON
        gr.api(function, api_name=function.__name__, concurrency_limit=None)
        gr.api(text, api_name=text.__name__, concurrency_limit=None)


async def compared(service: Service, request: gr.Request, *values: Any) -> dict[str, Any]:
    """Return a comparison, or raise what a program is told."""
    record = await _answer(service, request, lambda: [requested(*values, limits=service.limits)])
    return record[0]["result"]


async def ranked(service: Service, request: gr.Request, *values: Any) -> dict[str, Any]:
    """Return a ranking, or raise what a program is told."""
    records = await _answer(service, request, lambda: requested_starts(*values, limits=service.limits))
    return to_ranking(records).to_dict()


async def placed(service: Service, request: gr.Request, *values: Any) -> dict[str, Any]:
    """Return the nearest in an atlas, or raise what a program is told."""
    return (await _answer(service, request, lambda: [service.atlases.placing(*values)]))[0]


async def _answer(service: Service, request: gr.Request, ask: Callable[[], list[Any]]) -> list[dict[str, Any]]:
    try:
        questions: list[AnyQuestion] = ask()
    except Refusal as error:
        raise gr.Error("\n".join(told(error, service.limits)), print_exception=False) from None
    records = []
    for question in questions:
        async for event in service.ask(question, visitor(request), f"api {id(request)}"):
            match event:
                case Done():
                    records.append(event.record)
                case Failed():
                    raise gr.Error(f"{event.what}\n{event.why}\n{event.fix}", print_exception=False)
                case Stopped():
                    raise gr.Error(f"stopped: {event.why}", print_exception=False)
    return records


def _as_text(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[str]]:
    """Return the same function with JSON as its answer."""

    @functools.wraps(function)
    async def as_text(*args: Any, **options: Any) -> str:
        return json.dumps(await function(*args, **options))

    as_text.__name__ = f"{function.__name__}_json"
    as_text.__signature__ = inspect.signature(function).replace(return_annotation=str)  # type: ignore[attr-defined]
    return as_text
