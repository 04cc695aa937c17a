"""How much of a bare training loop's speed a fine-tuned learner reaches, and what Adam takes of a step.

``infodist study throughput [MODEL…] [--protocol NAME] [--images N] [--rounds N] [--output FILE]``

Both train the same network with Adam on the same images, by turns, in batches of the protocol. The loop finds them
normalised in memory; the learner normalises them, draws them in its own order, and takes its loss in float64. A ratio
of 1 means that nothing is lost: to a loop with PyTorch's Adam as it comes, and to one with its fused Adam. Seconds are
those of the process, and the best round of each counts, as other work on the machine only makes a round slower. Adam
is timed alone, with a group for each tensor, as it used to be, and as it is; its share is of a learner's whole step.
"""

from typing import Annotated, Any

import torch
import typer

from hf_infodist.models.load import load_classifier
from hf_infodist.processes import make_accelerator, one_thread
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies.measures.speed import Racers, optimizer_seconds
from hf_infodist.studies.report.options import File, one_of
from hf_infodist.studies.report.output import show_json

_IN_PASSES = [name for name, protocol in PROTOCOLS.items() if protocol.passes]
MODELS = ["random:demo:cnn", "random:demo:vit", "random:timm:resnet18", "random:timm:tf_efficientnet_lite0"]


def speed(name: str, protocol: str, images: int, rounds: int) -> dict[str, Any]:
    """Measure one network."""
    classifier, accelerator = load_classifier(name), make_accelerator()
    racers = Racers.of(classifier, images, PROTOCOLS[protocol], accelerator.device, accelerator.autocast)
    learner, bare, fused = racers.rates(rounds)
    before, after = optimizer_seconds(racers.learner)
    step = racers.protocol.batch / learner
    return {
        "size": racers.pixels.shape[-1],
        "tensors": len(racers.learner.optimizer.parameters),
        "learner_images_per_second": learner,
        "bare_images_per_second": bare,
        "fused_images_per_second": fused,
        "ratio": learner / bare,
        "ratio_to_fused": learner / fused,
        "adam_share_with_groups": before / (step - after + before),
        "adam_share": after / step,
    }


def main(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...")] = MODELS,
    protocol: Annotated[str, one_of(_IN_PASSES, "--protocol", "-p", what="how a student is taught")] = "thorough",
    images: Annotated[int, typer.Option("--images", help="images of a round")] = 64,
    rounds: Annotated[int, typer.Option("--rounds", help="how often both are timed")] = 5,
    output: File = None,
) -> None:
    """Measure and print."""
    with one_thread(make_accelerator().device):  # as learners are trained
        threads = torch.get_num_threads()
        figures = {name: speed(name, protocol, images, rounds) for name in models}
    show_json({"threads": threads, "protocol": protocol, "images": images, "models": figures}, output)
