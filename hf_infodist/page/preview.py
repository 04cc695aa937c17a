"""What a shared link shows elsewhere: the project's title, description and picture, in the head of the page.

Gradio's own page names Gradio there, and its ``head=`` comes only by JavaScript, which those who fetch it do not run.
"""

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_infodist.page.records import Record
from hf_infodist.results.words import to_bits

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TITLE = "Information distance"
DESCRIPTION = "How much information turns one image classifier into another? Compare two models of the Hub in bits."
PREVIEW = Path(__file__).parent / "static" / "preview.png"
_PATH = "/preview.png"
_THEIRS = re.compile(r"""<meta\s+(?:property|name)\s*=\s*"(?:og|twitter):[^>]*>\s*|<title>.*?</title>\s*""", re.S)


class OwnPreview:
    """Serves the page with the project's own title, description and picture, and the picture.

    Args:
        app: What serves everything else.
    """

    def __init__(self, app: "ASGIApp"):
        self.app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        from starlette.responses import FileResponse

        if scope["type"] == "http" and scope["path"] == _PATH:
            await FileResponse(PREVIEW, media_type="image/png")(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in ("", "/"):
            await self.app(scope, receive, _Rewritten(scope, send))
        else:
            await self.app(scope, receive, send)


class _Rewritten:
    """Sends a page with another head."""

    def __init__(self, scope: "Scope", send: "Send"):
        self.scope, self.send = scope, send
        self.start: dict[str, Any] = {}
        self.body = b""

    async def __call__(self, message: "Message") -> None:
        if message["type"] == "http.response.start":
            self.start = dict(message)
            return
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = self.body
        headers = [(name, value) for name, value in self.start["headers"] if name.lower() != b"content-length"]
        if any(value.startswith(b"text/html") for name, value in headers if name.lower() == b"content-type"):
            body = with_own_head(body.decode(), self._address()).encode()
        length = (b"content-length", str(len(body)).encode())
        await self.send(self.start | {"headers": [*headers, length]})
        await self.send({"type": "http.response.body", "body": body})

    def _address(self) -> str:
        from gradio.route_utils import get_root_url
        from starlette.requests import Request

        return get_root_url(Request(self.scope), "/", self.scope.get("root_path") or None)


def with_own_head(page: str, address: str) -> str:
    """Return a page with the project's title, description and picture, and nobody else's.

    Args:
        page: HTML.
        address: Where it is served.
    """
    picture = f"{address.rstrip('/')}{_PATH}"
    tags = {
        "og:title": TITLE,
        "og:description": DESCRIPTION,
        "og:type": "website",
        "og:url": address,
        "og:image": picture,
        "og:image:width": "1200",
        "og:image:height": "630",
        "og:image:alt": f"{TITLE}: {DESCRIPTION}",
        "twitter:card": "summary_large_image",
        "twitter:title": TITLE,
        "twitter:description": DESCRIPTION,
        "twitter:image": picture,
        "description": DESCRIPTION,
    }
    kinds = {name: "property" if name.startswith("og:") else "name" for name in tags}
    own = "".join(f'<meta {kinds[name]}="{name}" content="{html.escape(value)}">' for name, value in tags.items())
    return _THEIRS.sub("", page).replace("<head>", f"<head><title>{TITLE}</title>{own}", 1)


def draw_preview(record: Record) -> "Figure":
    """Draw the picture of shared links, 1200 × 630: what is asked, and one answer."""
    from matplotlib.figure import Figure

    way = max((record.result[name] for name in ("a_given_b", "b_given_a")), key=lambda way: way["nats"])
    a, b = record.comparison.a, record.comparison.b
    teacher, student = (a, b) if way is record.result["a_given_b"] else (b, a)
    alone, given = (to_bits(way[part]) / record.comparison.k for part in ("marginal_nats", "nats"))
    figure = Figure(figsize=(12, 6.3), dpi=100, facecolor="white")
    figure.text(0.06, 0.82, TITLE, fontsize=44, weight="bold")
    question = "How much information turns one image classifier into another?"
    figure.text(0.06, 0.7, question, fontsize=22, color="#333333")
    axes = figure.add_axes((0.06, 0.1, 0.88, 0.5), xlim=(0, 1.02 * alone), ylim=(-0.1, 2))
    axes.axis("off")
    rows = ((f"{teacher} from scratch", alone, "#0072B2"), (f"for somebody who has {student}", given, "#D55E00"))
    for place, (words, bits, colour) in zip((1, 0), rows, strict=True):
        axes.barh(place + 0.2, bits, height=0.4, color=colour)
        axes.text(0, place + 0.55, f"{words}: {bits:.2f} bits per image", fontsize=20, color="#333333")
    return figure
