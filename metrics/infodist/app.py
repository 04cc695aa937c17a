"""A page that compares two classifiers of the Hub on handwritten digits."""

import math
import re
from pathlib import Path

import gradio as gr

from hf_infodist.errors import InfodistError, UsageError
from hf_infodist.metric import Infodist

CARD = Path(__file__).with_name("README.md")
NAME = re.compile(r"(demo|timm|torchvision):[\w.@-]+|\w[\w.-]*/\w[\w.-]*(@[\w.-]+)?")
METRIC = Infodist()


def compare(a: str, b: str, k: float) -> list[list[str | float]]:
    """Return the two codelengths and the distance, a row each: name, nats, bits, nats per image."""
    try:
        a, b = checked(a), checked(b)
        results = METRIC.compute(predictions=[a], references=[b], images="digits", k=int(k))
    except InfodistError as error:
        raise gr.Error(str(error)) from None
    rows = {
        f"{a} given {b}": results["prediction_given_reference"],
        f"{b} given {a}": results["reference_given_prediction"],
        "distance": results["infodist"],
    }
    return [[row, round(nats, 3), round(nats / math.log(2), 3), round(nats / k, 4)] for row, (nats,) in rows.items()]


def checked(name: str) -> str:
    """Return the name of a published model; a visitor may not name files of the server, or other addresses."""
    name = name.strip()
    if not NAME.fullmatch(name) or Path(name).exists():
        raise UsageError(
            f"{name!r} is not a name that this page takes",
            "it compares published models and the two demo checkpoints",
            "use org/name, org/name@revision, timm:NAME, torchvision:NAME, demo:cnn or demo:vit",
        )
    return name


def card() -> str:
    """Return the metric's card without its front matter."""
    return CARD.read_text(encoding="utf-8").split("---\n", 2)[2]


demo = gr.Interface(
    compare,
    inputs=[
        gr.Textbox("demo:cnn", label="Model A", info="org/name of an image classifier, demo:cnn or demo:vit"),
        gr.Textbox("demo:vit", label="Model B", info="any architecture, any label space"),
        gr.Slider(16, 512, value=128, step=16, label="k", info="images of handwritten digits"),
    ],
    outputs=gr.Dataframe(headers=["codelength", "nats", "bits", "nats per image"], label="Information distance"),
    title="Information distance",
    description="How much information turns one image classifier into another?",
    article=card(),
    concurrency_limit=1,  # the metric keeps its inputs in one file
    flagging_mode="never",
)

if __name__ == "__main__":
    demo.launch()
