"""The page: its tabs, how it greets a visitor, and what a link or a click in a picture opens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import gradio as gr

from hf_infodist.page.atlas_tab import AtlasTab
from hf_infodist.page.boxes import AT_ONCE, EVENT
from hf_infodist.page.compare_tab import CompareTab, Shown
from hf_infodist.page.matrix_tab import MatrixTab
from hf_infodist.page.nearest_tab import NearestTab
from hf_infodist.page.records import greeting
from hf_infodist.page.request import DATASETS, KNOWN, Limits, named_in_link, request_in_click
from hf_infodist.page.search import Search
from hf_infodist.page.service import Service
from hf_infodist.page.start_tab import StartTab

HERE = Path(__file__).parent


class Page:
    """The components and what they do.

    Args:
        service: Answers questions.
        app: What the page is built in.
    """

    def __init__(self, service: Service, app: gr.Blocks):
        self.service = service
        self.search = Search(self._names, service.limits)
        gr.Markdown("# Information distance\nHow much information turns one image classifier into another?")
        self.picked, self.link, self.width = (
            gr.Textbox(visible="hidden", elem_id=name) for name in ("picked", "link", "width")
        )
        with gr.Tabs() as self.tabs:
            with gr.Tab("Compare", id="compare"):
                self.compare = CompareTab(service, self.link, self.width)
            NearestTab(service)
            StartTab(service)
            AtlasTab(service, self.width)
            MatrixTab(service, self.width)
            with gr.Tab("About", id="about"):
                gr.Markdown(_about(service.limits))
        gr.HTML(
            html_template='<ul id="names" role="listbox" aria-label="models" hidden></ul>',
            js_on_load=(HERE / "page.js").read_text(encoding="utf-8"),
            server_functions=[self._search(), self._members()],
            elem_id="names-holder",
        )
        self._wire(app)

    def _wire(self, app: gr.Blocks) -> None:
        asked, answer = self.compare.asked_for, self.compare.answer
        address = "(query) => {history.replaceState(null, '', query ? '?' + query : location.pathname)}"
        self.link.change(None, self.link, None, js=address)
        self.picked.change(self.pick, self.picked, [*asked, self.tabs], **AT_ONCE).then(
            self.compare.show_known, [self.width, *asked], answer, **EVENT
        )
        wide = "() => [String(innerWidth)]"
        greeted = app.load(self.open, self.width, [self.width, *asked], js=wide, **AT_ONCE).then(
            self.greet, [self.width, *asked], answer, **EVENT
        )
        self.compare.wire(greeted)

    def _names(self) -> list[str]:
        """Return the models that were compared here and may be compared again."""
        return [name for found in self.service.groups() for name in found.models if name not in KNOWN]

    def _search(self) -> Callable[[str], Awaitable[list[Any]]]:
        async def find_names(text: str) -> list[Any]:
            return list(await self.search.find(text))

        return find_names

    def _members(self) -> Callable[[Any], Awaitable[list[Any]]]:
        async def find_members(asked: Any) -> list[Any]:
            text, atlas = asked if isinstance(asked, list) and len(asked) == 2 else ("", "")
            known = await asyncio.to_thread(self.service.atlases.suggest, text, atlas)
            if known or self.service.limits.public:
                return [known, True]
            return list(await self.search.find(text))

        return find_members

    async def pick(self, text: str) -> list[Any]:
        """Take the pair that was clicked in a picture."""
        pair = request_in_click(text)
        if pair is None:
            return [gr.skip()] * 7
        return [*pair.to_dict().values(), gr.Tabs(selected="compare")]

    async def open(self, request: gr.Request, width: str) -> list[Any]:
        """Fill the boxes from the link."""
        query = dict(request.query_params)
        if not query.keys() & {"a", "b"}:
            return [width, *greeting().comparison.to_dict().values()]
        names = [str(query.get(name, ""))[:1000] for name in ("a", "b")]
        asked = named_in_link(query)
        return [width, *names, *(list(asked.to_dict().values())[2:] if asked else [gr.skip()] * 4)]

    async def greet(self, request: gr.Request, width: str, *values: Any) -> AsyncIterator[Shown]:
        """Answer the link at once where the answer is known; without a link show an answer to begin with."""
        if {"a", "b"} & dict(request.query_params).keys():
            async for shown in self.compare.show_known(request, width, *values):
                yield shown
        else:
            yield self.compare.done(greeting(), width, brief=True)


def _about(limits: Limits) -> str:
    text = (HERE / "about.md").read_text(encoding="utf-8")
    if not limits.public:
        return text.replace("LIMITS", _OWN)
    lines = (
        f"- up to {limits.images:,} images, models of up to {limits.parameters / 1e6:.0f} million weights",
        f"- {limits.seconds / 60:.0f} minutes a run; at the end of them the page shows what there is so far",
        f"- one queue of {limits.waiting}, {limits.per_visitor} places for each visitor",
        f"- images of {', '.join(DATASETS)}",
    )
    return text.replace("LIMITS", "\n".join(lines) + "\n\n" + _PUBLIC)


_OWN = """This page runs on your own machine, and takes every name of the command line: repositories, `timm:NAME`,
`torchvision:NAME`, folders and files. Code in a repository is never run.
"""
_PUBLIC = """Names lead to repositories of the Hub or to embedded models; files, addresses and other libraries are not
taken. Weights are read from safetensors only, and code in a repository is never run. On your own machine there
are none of these limits:

```
infodist compare timm/resnet18.a1_in1k microsoft/resnet-18 --images zh-plus/tiny-imagenet -k 2000
```
"""
